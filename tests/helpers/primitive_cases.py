"""The primitives of `ops/` as cases: CASES = {name: (primitive, plain form, maker of arguments)}."""
import autograd.numpy as anp
import numpy as np

import plain
from plain_forms import plain_compute_h_input, plain_keep_magnitude, plain_loss, plain_merged_planes, plain_readouts, plain_ridge
from ops.rule import activations, compute_h_input, conv, norm, planes, products, readouts, ridge

EPS = 1e-6


def normal(*shapes, scale=1.0):
    """A maker of standard normal arrays of the given shapes; what is not a shape is passed on."""
    return lambda rng: [scale * rng.standard_normal(s) if isinstance(s, tuple) else s for s in shapes]


def layer_planes(I, J):
    """A maker of merged_planes' arguments for a layer [I, J]; the lateral readouts are symmetric, as in the rule."""
    def make(rng):
        symmetric = lambda n: (lambda S: S + S.transpose(0, 2, 1))(rng.standard_normal((2, n, n)))
        Wn, feed, hebb, merge = (rng.standard_normal(s) for s in ((2, I, J), (3, I, J), (I, J), (10,)))
        return [Wn, feed, hebb, symmetric(I), symmetric(J), merge]
    return make


def pushed(signs):
    """Updates that shrink W (sign -1: projected) or do not (+1), for W and for V."""
    def make(rng):
        W = rng.standard_normal((2, 4, 3))
        return [W * np.reshape(signs, (2, 1, 1)) + 0.3 * rng.standard_normal((2, 4, 3)), W]
    return make


def drifting(mean):
    """Bias readouts whose mean is about `mean`."""
    return lambda rng: [mean + 0.5 * rng.standard_normal(6)]


def channels_first(form, *tensors):
    """A plain form of tensors [B, N, C], the paper's order, as one of [C, B, N], the order of `ops`; at `tensors`."""
    def turned(*args):
        out = form(*(anp.transpose(a, (1, 2, 0)) if i in tensors else a for i, a in enumerate(args)))
        return anp.transpose(out, (2, 0, 1)) if anp.ndim(out) == 3 else out
    return turned


def conv_bn_relu(x, w, beta, axis):
    """A chain of one."""
    return conv.conv_bn_relu(x, (axis,), w, beta)


def plain_conv(x, w, b, axis):
    return plain.conv(x, w, axis) + b


def plain_chain(x, axes, *weights):
    for axis, w, beta in zip(axes, weights[::2], weights[1::2]):
        x = plain.conv_bn_relu(x, w, beta, axis)
    return x


def chain(form, axes):
    return lambda x, *weights: form(x, axes, *weights)


CONV_SHAPES = {  # x [C, B, N], w [K, C, S], scale: two equal numbers' batch norm is nearly a step, unless they are small
    "odd": ((3, 4, 5), (3, 3, 2), 1), "one unit": ((2, 3, 1), (3, 2, 3), 1), "one channel": ((1, 3, 4), (3, 1, 1), 1),
    "two in a batch": ((2, 2, 4), (3, 2, 4), 1), "two by one": ((2, 2, 1), (3, 2, 2), 1e-3),
    "K 5 on 1": ((2, 1, 5), (5, 2, 2), 1), "K 5 on 2": ((2, 2, 5), (5, 2, 2), 1), "K 5 on 3": ((1, 3, 3), (5, 1, 2), 1),
    "K 1": ((2, 3, 4), (1, 2, 3), 1), "K 2": ((2, 3, 4), (2, 2, 3), 1), "K 4": ((2, 5, 3), (4, 2, 2), 1),
}


def conv_cases():
    for axis, along in ((conv.BATCH, "batch"), (conv.UNIT, "unit")):
        for name, (x, w, scale) in CONV_SHAPES.items():
            if axis == conv.UNIT and x[1] == 1:
                x = (x[0], x[2], 1)
            make = normal(x, w, w[2:], axis, scale=scale)
            yield f"conv {along}, {name}", (conv.conv, channels_first(plain_conv, 0), make)
            yield f"conv_bn_relu {along}, {name}", (conv_bn_relu, channels_first(plain.conv_bn_relu, 0), make)
    for name, axes in (("two", (conv.BATCH, conv.UNIT)), ("four", (conv.UNIT, conv.BATCH, conv.BATCH, conv.UNIT))):
        make = normal((3, 5, 4), *[(3, 3, 3), (3,)] * len(axes))
        plain_form = channels_first(chain(plain_chain, axes), 0)
        yield f"conv_bn_relu, chain of {name}", (chain(conv.conv_bn_relu, axes), plain_form, make)


def input_cases():
    for B, N, D, scale in ((4, 5, 3, 1), (3, 1, 2, 1), (2, 4, 1, 1), (2, 1, 2, 1e-3)):
        shapes = ((B, N), (B, N), (D, B, N), (N, 8), (N,), (4 + D,))
        plain_form = channels_first(plain_compute_h_input, 2)
        yield f"compute_h_input {B} {N} {D}", (compute_h_input.compute_h_input, plain_form, normal(*shapes, scale=scale))
    plain_error = lambda d, z, h, E, e: d * plain.sigmoid(z)[..., None] + anp.dot(h, E) + e
    for B, N, D, H in ((3, 4, 2, 5), (2, 1, 1, 1)):
        yield f"error_signal {B} {N} {D} {H}", (compute_h_input.error_signal, channels_first(plain_error, 0, 2),
                                                normal((D, B, N), (B, N), (H, B, N), (H, D), (D,)))
    for name, below, above in (("both", (4, 3), (3, 5)), ("no below", None, (3, 2)), ("no above", (2, 3), None),
                               ("one row", (1, 3), (3, 1)), ("one unit", (4, 1), (1, 2))):
        units = below[1] if below else above[0]
        yield f"weight_stats, {name}", (compute_h_input.weight_stats, plain.weight_stats, normal(below, above, units))


def norm_cases():
    plain_batch_norm = lambda u, b: plain.batch_norm(u, -2) + b
    for shape, scale in (((5, 3), 1), ((3, 1), 1), ((2, 3, 6, 4), 1), ((2, 4), 1e-3)):
        yield f"batch_norm {shape}", (norm.batch_norm, plain_batch_norm, normal(shape, shape[-1:], scale=scale))
    plain_dense = lambda x, W, b: plain.batch_norm(anp.matmul(x, W), -2) + b
    for x, W in (((2, 3, 6, 4), (4, 5)), ((5, 2), (2, 2)), ((6, 3), (3, 1))):
        yield f"dense {x} {W}", (norm.dense, plain_dense, normal(x, W, W[1:]))
    yield "standardise", (norm.standardise, lambda x: plain.batch_norm(x, 0), normal((5, 3)))
    unit_columns = lambda W: W / anp.sqrt(anp.mean(W ** 2, axis=-2, keepdims=True) + EPS)
    unit_channels = lambda d: d / anp.sqrt(anp.mean(d ** 2, axis=0, keepdims=True) + EPS)
    for shape, scale in (((2, 4, 3), 1), ((2, 1, 3), 1e-3), ((2, 5, 1), 1)):
        yield f"normalise_columns {shape}", (norm.normalise_columns, unit_columns, normal(shape, scale=scale))
        yield f"normalise_channels {shape}", (norm.normalise_channels, unit_channels, normal(shape, scale=scale))
    limited = lambda a, e, groups: a / anp.sqrt(e + anp.mean(a ** 2, axis=(1, 2) if groups else None, keepdims=True))
    for shape, e, groups in (((2, 4, 3), 1.0, True), ((2, 1, 3), 1e-3, True), ((5,), 0.5, False)):
        make = lambda rng, shape=shape, e=e, groups=groups: [rng.standard_normal(shape), e, groups]
        yield f"limit_length {shape}", (norm.limit_length, limited, make)


def plane_cases():
    for I, J in ((4, 3), (1, 1), (1, 4), (5, 1)):
        yield f"merged_planes {I} {J}", (planes.merged_planes, plain_merged_planes, layer_planes(I, J))
    for signs in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        yield f"keep_magnitude {signs}", (planes.keep_magnitude, plain_keep_magnitude, pushed(signs))


def product_cases():
    for a, b in (((4, 3), (3, 2)), ((2, 4, 3), (3, 2)), ((4, 3), (2, 3, 5)), ((2, 1, 3), (2, 3, 1))):
        yield f"matmul {a} {b}", (products.matmul, anp.matmul, normal(a, b))
    transported = lambda V, d: anp.einsum("cbj,mj->cbm", d, V)
    yield "transport", (products.transport, transported, normal((4, 3), (5, 2, 3)))
    yield "transport of one", (products.transport, transported, normal((1, 1), (1, 2, 1)))
    yield "pair", (products.pair, lambda W, V: anp.stack([W, V]), normal((4, 3), (4, 3)))
    for which in (0, 1):
        yield f"half {which}", (products.half, lambda WV, which: WV[which], normal((2, 4, 3), which))
    yield "move_towards", (products.move_towards, lambda p, q, lr: p * (1 - lr) + q * lr, normal((4, 3), (4, 3), 0.3))


def readout_cases():
    def plain_project(h, P):  # [n, R B, N]
        r = anp.einsum("kbi,nkr->nrbi", h, P)
        return anp.reshape(r, (P.shape[0], -1, h.shape[2]))

    project = lambda h, P: readouts.project(h, P)[0]
    both = lambda of: lambda h, P, Q: anp.concatenate([part.reshape(-1, h.shape[2]) for part in of(h, P, Q)])
    yield "project", (project, plain_project, normal((5, 3, 4), (7, 5, 2)))
    yield "project of one", (project, plain_project, normal((1, 2, 1), (7, 1, 1)))
    yield "project, two", (both(readouts.project), both(lambda h, P, Q: (plain_project(h, P), plain_project(h, Q))),
                           normal((5, 3, 4), (7, 5, 2), (2, 5, 3)))
    for part, name in enumerate(("feed", "below", "above")):
        take = lambda form, part=part: lambda low, up: form(low, up)[part]
        for I, J in ((4, 5), (1, 3), (2, 1)):
            yield f"readouts, {name} {I} {J}", (take(readouts.readouts), take(plain_readouts), normal((7, 6, I), (7, 6, J)))
    yield "stack_matrices", (readouts.stack_matrices, lambda *P: anp.stack(P), normal(*[(5, 2)] * 7))
    yield "bias_readout", (readouts.bias_readout, lambda h, w: anp.mean(anp.tensordot(w, h, 1), axis=0), normal((5, 3, 4), (5,)))
    for mean in (-2.0, 2.0):
        yield f"stop_drift {mean}", (readouts.stop_drift, lambda db: db - plain.relu(anp.mean(db)), drifting(mean))


def ridge_cases():
    with_one = lambda x: anp.concatenate([x, np.ones(x.shape[:-1] + (1,))], axis=-1)
    yield "with_ones", (ridge.with_ones, with_one, normal((2, 4, 3)))
    for lead in ((), (2,), (2, 3)):
        yield f"solve_ridge {lead}", (ridge.solve_ridge, plain_ridge, normal(lead + (6, 4), lead + (6, 3), 0.1))
    yield "solve_ridge, fewer points", (ridge.solve_ridge, plain_ridge, normal((2, 5), (2, 1), 0.1))
    for cosine in (True, False):
        make = lambda rng, cosine=cosine: [rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4, 3)), cosine]
        yield f"regression_loss {cosine}", (ridge.regression_loss, plain_loss, make)
    yield "relu", (activations.relu, plain.relu, normal((3, 4)))


GROUPS = (conv_cases, input_cases, norm_cases, plane_cases, product_cases, readout_cases, ridge_cases)
CASES = {name: case for group in GROUPS for name, case in group()}
