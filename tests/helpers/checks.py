"""What the tests of the rule share: our own finite-difference check, and makers of random problems."""

import numpy as np
from autograd.core import make_vjp


import unsup_meta as um
from ops.rule.primitive import block

STEP = 1e-8  # of a finite difference; larger ones carry some ReLU across its kink (1e-6 already does)


def relative_error(a, b):
    """Largest absolute difference over the largest absolute entry of b; NaN or another shape counts as infinite."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        return np.inf
    if b.size == 0:
        return 0.0
    error, scale = np.abs(a - b).max(), np.abs(b).max()
    return np.inf if np.isnan(error) else float(error / scale if scale > 0 else error)


def float_arrays(args):
    """Positions of the arguments that are float arrays."""
    return [i for i, a in enumerate(args) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]


def run_vjp(fun, args, g, wanted=None):
    """(fun(*args), [gradient of <g, fun> with respect to args[i] for i in wanted]); wanted: every float array."""
    wanted = float_arrays(args) if wanted is None else list(wanted)

    def of_wanted(values):
        full = list(args)
        for k, i in enumerate(wanted):
            full[i] = values[k]
        return fun(*full)

    vjp, value = make_vjp(of_wanted, [args[i] for i in wanted])
    return value, vjp(g)


def partly_aligned_direction(gradient, rng):
    """A direction with entries of at most 1, one third random and two thirds along `gradient`.

    The aligned part keeps the derivative from cancelling to nothing, the random part sees errors
    that are at right angles to the claimed gradient.
    """
    random, norm = rng.standard_normal(gradient.shape), np.linalg.norm(gradient)
    direction = 0.5 * random / np.linalg.norm(random) + (gradient / norm if norm > 0 else 0)
    return direction / np.abs(direction).max()


def quotient(fun, point, direction, step, g=1.0):
    """Central difference of <g, fun> at `point` along `direction`; outputs are subtracted before they are summed."""
    forward, back = fun(point + step * direction), fun(point - step * direction)
    return float(np.sum(g * (forward - back)) / (2 * step))


def check_vjp(fun, args, wanted, rng, step=STEP, tol=1e-5, directions=3):
    """Assert that autograd's VJP of `fun` agrees with central differences; returns the worst relative error.

    For each argument in `wanted` (positions; None for every float array), along `directions` random
    directions, in float64.  With outputs near 1 their rounding, 1e-16, leaves an error of 1e-16 / step
    = 1e-8 in each quotient, 1e-8 to 1e-7 after the rounding inside the primitive, and 5e-6 at worst
    (20 seeds of every primitive) where a gradient nearly cancels; `tol` is a thousandth of the
    smallest error looked for (1%).  The error is
    relative to |derivative|, at least half the gradient's length if the gradient is right.  `rng` must
    not be the one that drew `args`: with g = args[0], say, a normalisation has no gradient at all.
    """
    args = list(args)
    wanted = float_arrays(args) if wanted is None else list(wanted)
    assert all(args[i].dtype == np.float64 for i in wanted)
    value = fun(*args)
    g = rng.standard_normal(np.shape(value))
    _, grads = run_vjp(fun, args, np.asarray(g), wanted)
    worst = 0.0
    for i, gradient in zip(wanted, grads):
        assert np.shape(gradient) == args[i].shape, f"argument {i}: gradient of shape {np.shape(gradient)}"
        of_one = lambda a, i=i: fun(*args[:i], a, *args[i + 1:])
        for _ in range(directions):
            direction = partly_aligned_direction(gradient, rng)
            claimed = float(np.sum(gradient * direction))
            found = quotient(of_one, args[i], direction, step, g)
            error = abs(found - claimed) / max(abs(claimed), 1e-3)
            assert error < tol, f"argument {i}: VJP gives {claimed:.8g}, finite differences {found:.8g}"
            worst = max(worst, error)
    return worst


def with_scaled_gradients(op, scale_of):
    """A copy of `op` whose gradient of argument i is off by the factor scale_of(i)."""
    def vjp(g, tape, wanted):
        positions = sorted(wanted)
        grads = run_vjp(op, tape["args"], g, positions)[1]
        return {i: grad * scale_of(i) for i, grad in zip(positions, grads)}

    @block(vjp=vjp)
    def copy(*args, tape):
        tape.update(args=args)
        return op(*args)

    return copy


def channels_first(tensors):
    """Tensors [B, N, C], as `hidden_states` returns them, in the order [C, B, N] of all that computes with them."""
    return [np.transpose(a, (2, 0, 1)) for a in tensors]


def random_theta(rng, batch_size, hdims=5, delta=3, top=4, rank=2, dtype=np.float64):
    """A theta with offsets and merge weights away from their start, so that no gradient is zero by symmetry."""
    theta = um.init_theta(rng, batch_size, hdims, delta, top, rank, np.float64)
    for name, a in theta.items():
        if name.endswith(("/beta", "/b")):
            a += 0.2 * rng.standard_normal(a.shape)
    theta["merge"] += 0.5 * rng.standard_normal(10)
    return {name: a.astype(dtype) for name, a in theta.items()}


def random_phi(rng, sizes, dtype=np.float64):
    """A base model with weights of order 1 / sqrt(fan in) and biases of order 0.3."""
    draw = lambda *shape, sd: (sd * rng.standard_normal(shape)).astype(dtype)
    return [um.Layer(draw(m, n, sd=m ** -0.5), draw(n, sd=0.3), draw(m, n, sd=m ** -0.5))
            for m, n in zip(sizes[:-1], sizes[1:])]


def random_labelled(rng, U, M, K, inputs, classes, dtype=np.float64):
    """(xa, ya, xb, yb), each [U, M, K, .]: noisy points around one random centre per class, one-hot targets."""
    centres = rng.standard_normal((classes, inputs))

    def batch():
        labels = np.argsort(rng.random((U, M, K)), axis=-1) % classes
        x = centres[labels] + rng.standard_normal((U, M, K, inputs))
        return x.astype(dtype), np.eye(classes)[labels].astype(dtype)

    return batch() + batch()


def random_problem(seed, sizes, batch_size, U=3, M=2, K=8, classes=3, dtype=np.float64, **theta_dims):
    """(theta, phi, x, labelled) to be given to `meta_gradient`."""
    rng = np.random.default_rng(seed)
    theta = random_theta(rng, batch_size, dtype=dtype, **theta_dims)
    phi = random_phi(rng, sizes, dtype)
    x = rng.standard_normal((U, batch_size, sizes[0])).astype(dtype)
    return theta, phi, x, random_labelled(rng, U, M, K, sizes[0], classes, dtype)


def as_dtype(problem, dtype):
    """The same (theta, phi, x, labelled) in another precision."""
    theta, phi, x, labelled = problem
    return ({name: a.astype(dtype) for name, a in theta.items()},
            [um.Layer(*(a.astype(dtype) for a in layer)) for layer in phi],
            x.astype(dtype), tuple(a.astype(dtype) for a in labelled))
