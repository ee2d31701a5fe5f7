"""What the tests of the rule share: our own finite-difference check, and makers of random problems."""
import contextlib

import autograd.numpy as anp
import numpy as np
from autograd.tracer import getval

import unsup_meta as um
from ops.rule.fast import definitions_in_use, use_definitions
from ops.rule.primitive import block, flatten, gradient

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


@contextlib.contextmanager
def definitions(on=True):
    """Within, the definitions of unsup_meta.py run (or the kernels)."""
    before = definitions_in_use()
    use_definitions(on)
    try:
        yield
    finally:
        use_definitions(before)


def values(fun, args):
    """The arrays of fun(*args), whatever tree it returns."""
    return [np.asarray(a) for a in flatten(fun(*args))[0]]


def run_vjp(fun, args, gs, wanted):
    """(arrays of fun(*args), [gradient of sum <g, array> with respect to leaf i of args, for i in wanted])."""
    leaves, rebuild = flatten(list(args))

    def objective(some):
        full = list(leaves)
        for i, value in zip(wanted, some):
            full[i] = value
        outs = flatten(fun(*rebuild(full)))[0]
        return sum(anp.sum(out * g) for out, g in zip(outs, gs)), [getval(out) for out in outs]

    _, grads, outs = gradient(objective, [leaves[i] for i in wanted])
    return outs, grads


def partly_aligned_direction(gradient, rng):
    """A direction with entries of at most 1, one third random and two thirds along `gradient`.

    The aligned part keeps the derivative from cancelling to nothing, the random part sees errors
    that are at right angles to the claimed gradient.
    """
    random, norm = rng.standard_normal(gradient.shape), np.linalg.norm(gradient)
    direction = 0.5 * random / np.linalg.norm(random) + (gradient / norm if norm > 0 else 0)
    return direction / np.abs(direction).max()


def check_vjp(fun, args, wanted, rng, step=STEP, tol=1e-5, directions=2):
    """Assert that the VJP of `fun` agrees with central differences in float64; returns the worst relative error.

    For each leaf of args in `wanted`, along random directions.  Outputs near 1 are rounded by 1e-16, which leaves
    an error of 1e-8 to 1e-7 in each quotient and more where a gradient nearly cancels; `tol` is a thousandth of
    the smallest error looked for (1%).  The error is relative to |derivative|, at least half the gradient's
    length if the gradient is right.  `rng` must not be the one that drew `args`.
    """
    leaves, rebuild = flatten(list(args))
    gs = [rng.standard_normal(a.shape) for a in values(fun, args)]
    worst, grads = 0.0, run_vjp(fun, args, gs, wanted)[1]
    for i, claimed_gradient in zip(wanted, grads):
        for _ in range(directions):
            direction = partly_aligned_direction(claimed_gradient, rng)
            ahead, behind = (values(fun, rebuild(leaves[:i] + [leaves[i] + sign * step * direction] + leaves[i + 1:]))
                             for sign in (1, -1))
            found = sum(float(np.sum(g * (a - b))) for g, a, b in zip(gs, ahead, behind)) / (2 * step)
            claimed = float(np.sum(claimed_gradient * direction))
            error = abs(found - claimed) / max(abs(claimed), 1e-2)
            assert error < tol, f"leaf {i}: VJP gives {claimed:.8g}, finite differences {found:.8g}"
            worst = max(worst, error)
    return worst


def _off_vjp(g, tape, wanted):
    return {0: g * tape["factor"]}


@block(vjp=_off_vjp)
def off(a, factor, *, tape):
    """a, with a gradient that is off by `factor`."""
    tape.update(factor=factor)
    return a


def with_scaled_gradients(fun, factor_of):
    """A copy of `fun` whose gradient of leaf i of its arguments is off by factor_of(i)."""
    def copy(*args):
        leaves, rebuild = flatten(list(args))
        return fun(*rebuild([a if a is None else off(a, factor_of(i)) for i, a in enumerate(leaves)]))
    return copy


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


def as_dtype(tree, dtype):
    """The same tree with its float arrays in another precision."""
    leaves, rebuild = flatten(tree)
    return rebuild([a.astype(dtype) if isinstance(a, np.ndarray) else a for a in leaves])
