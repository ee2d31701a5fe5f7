"""Every primitive of `ops/` against its plain NumPy form, its VJP against autograd's and finite differences."""
import autograd.numpy as anp
import numpy as np
import pytest

import plain
from checks import check_vjp, differentiable, relative_error, run_vjp
from ops import activations, compute_h_input, conv, norm, planes, primitive, products, readouts, ridge

EPS = 1e-6
SEEDS = (0, 1)


# --- Plain forms that tests/plain.py does not have as functions of their own ---------------------


def T(a):
    return anp.swapaxes(a, -1, -2)


def plain_compute_h_input(x, z, d, stats, b, beta):
    B, N = x.shape
    angle = np.linspace(0, 4 * np.pi, N)
    tile = lambda v: anp.tile(v[None], (B,) + (1,) * anp.ndim(v))
    m0 = anp.stack([x, z, tile(np.sin(angle)), tile(np.cos(angle))], axis=2)
    m2 = plain.batch_norm(anp.concatenate([m0, d], axis=2), (0, 1)) + beta
    return anp.concatenate([tile(stats), m2, tile(b[:, None])], axis=2)


def plain_merge(merge, *ten):
    out = 0.0
    for i, p in enumerate(ten):
        out = out + merge[i] * p / anp.sqrt(1 + anp.mean(p ** 2, axis=-2, keepdims=True)) / 10
    return out


def plain_keep_magnitude(merged, W):
    Wu = W / anp.sqrt(anp.sum(W ** 2, axis=(1, 2), keepdims=True) + EPS)
    return merged + Wu * plain.relu(-anp.sum(merged * Wu, axis=(1, 2), keepdims=True))


def plain_readout(lower, upper, a, b):
    return anp.einsum("ik,jk->ij", lower[a], upper[b]) / lower.shape[2]


def plain_lateral(r, a, b):
    N = r.shape[1]
    S = plain_readout(r, r, a, b) / np.sqrt(N)
    return anp.where(np.eye(N) > 0, 0.0, (S + S.T) / np.sqrt(2))


def plain_ridge(A, y, ridge):
    return anp.linalg.solve(anp.matmul(T(A), A) + ridge * np.eye(A.shape[-1]), anp.matmul(T(A), y))


def plain_loss(p, y, cosine):
    if cosine:
        p = p / anp.sqrt(anp.sum(p ** 2, axis=-1, keepdims=True) + EPS)
    return anp.mean(anp.sum((p - y) ** 2, axis=-1))


# --- The cases: name -> (primitive, plain form, maker of arguments) ------------------------------


def normal(*shapes, scale=1.0):
    """A maker of standard normal arrays of the given shapes; what is not a shape is passed on."""
    return lambda rng: [scale * rng.standard_normal(s) if isinstance(s, tuple) else s for s in shapes]


def ten_planes(rng, I=4, J=3):
    """Ten planes of which W and V share two, as in the rule, and their merge weights."""
    return [rng.standard_normal(10)] + [rng.standard_normal((I, J) if i in (2, 5) else (2, I, J)) for i in range(10)]


def pushed(signs):
    """Updates that shrink W (sign -1: projected) or do not (+1), for W and for V."""
    def make(rng):
        W = rng.standard_normal((2, 4, 3))
        return [W * np.reshape(signs, (2, 1, 1)) + 0.3 * rng.standard_normal((2, 4, 3)), W]
    return make


def drifting(mean):
    return lambda rng: [mean + rng.standard_normal(6) - 0.0]


CONV_SHAPES = {  # x, w, offset of the convolution's output channels, scale
    "odd": ((4, 5, 3), (3, 3, 2), 1), "one unit": ((3, 1, 2), (3, 2, 3), 1), "one channel": ((3, 4, 1), (3, 1, 1), 1),
    "two in a batch": ((2, 4, 2), (3, 2, 4), 1), "two by one": ((2, 1, 2), (3, 2, 2), 1e-3),
    "K 5 on 1": ((1, 5, 2), (5, 2, 2), 1), "K 5 on 2": ((2, 5, 2), (5, 2, 2), 1), "K 5 on 3": ((3, 3, 1), (5, 1, 2), 1),
    "K 1": ((3, 4, 2), (1, 2, 3), 1), "K 2": ((3, 4, 2), (2, 2, 3), 1), "K 4": ((5, 3, 2), (4, 2, 2), 1),
}


def conv_cases():
    for axis, along in ((conv.BATCH, "batch"), (conv.UNIT, "unit")):
        for name, (x, w, scale) in CONV_SHAPES.items():
            if (axis == conv.UNIT) and x[0] == 1:
                x = (x[1], 1, x[2])
            yield f"conv {along}, {name}", (conv.conv, plain.conv, normal(x, w, axis, scale=scale))
            yield f"conv_bn_relu {along}, {name}", (conv.conv_bn_relu, plain.conv_bn_relu, normal(x, w, w[2:], axis, scale=scale))


def input_cases():
    for B, N, D, scale in ((4, 5, 3, 1), (3, 1, 2, 1), (2, 4, 1, 1), (2, 1, 2, 1e-3)):
        shapes = ((B, N), (B, N), (B, N, D), (N, 8), (N,), (4 + D,))
        yield f"compute_h_input {B} {N} {D}", (compute_h_input.compute_h_input, plain_compute_h_input, normal(*shapes, scale=scale))
    plain_error = lambda d, z, h, E, e: d * plain.sigmoid(z)[..., None] + anp.dot(h, E) + e
    for B, N, D, H in ((3, 4, 2, 5), (2, 1, 1, 1)):
        yield f"error_signal {B} {N} {D} {H}", (compute_h_input.error_signal, plain_error,
                                                normal((B, N, D), (B, N), (B, N, H), (H, D), (D,)))
    for name, below, above in (("both", (4, 3), (3, 5)), ("no below", None, (3, 2)), ("no above", (2, 3), None),
                               ("one row", (1, 3), (3, 1)), ("one unit", (4, 1), (1, 2))):
        units = below[1] if below else above[0]
        yield f"weight_stats, {name}", (compute_h_input.weight_stats, plain.weight_stats, normal(below, above, units))


def norm_cases():
    plain_batch_norm = lambda u, b: plain.batch_norm(u, -2) + b
    for shape, scale in (((5, 3), 1), ((3, 1), 1), ((2, 3, 6, 4), 1), ((2, 4), 1e-3)):
        yield f"batch_norm {shape}", (norm.batch_norm, plain_batch_norm, normal(shape, shape[-1:], scale=scale))
    yield "standardise", (norm.standardise, lambda x: plain.batch_norm(x, 0), normal((5, 3)))
    unit_columns = lambda W: W / anp.sqrt(anp.mean(W ** 2, axis=-2, keepdims=True) + EPS)
    unit_channels = lambda d: d / anp.sqrt(anp.mean(d ** 2, axis=-1, keepdims=True) + EPS)
    for shape, scale in (((2, 4, 3), 1), ((2, 1, 3), 1e-3), ((2, 5, 1), 1)):
        yield f"normalise_columns {shape}", (norm.normalise_columns, unit_columns, normal(shape, scale=scale))
        yield f"normalise_channels {shape}", (norm.normalise_channels, unit_channels, normal(shape[::-1], scale=scale))
    limited = lambda a, e, axes: a / anp.sqrt(e + anp.mean(a ** 2, axis=axes, keepdims=True))
    yield "limit_length of weights", (norm.limit_length, limited, normal((2, 4, 3), 1.0, (1, 2)))
    yield "limit_length, small e", (norm.limit_length, limited, normal((2, 1, 3), 1e-3, (1, 2)))
    yield "limit_length of biases", (norm.limit_length, limited, normal((5,), 0.5, None))


# `normal` takes tuples for shapes: axes are put back by these makers
def with_axes(shape, e, axes):
    return lambda rng: [rng.standard_normal(shape), e, axes]


def plane_cases():
    for shape in ((2, 4, 3), (2, 1, 1)):
        shared = shape[1:]
        yield f"signed_square {shape}", (planes.signed_square, lambda W: W ** 2 * anp.sign(W), normal(shape))
        yield f"gated_gaussian {shape}", (planes.gated_gaussian, lambda W, r: anp.exp(-W ** 2) * r, normal(shape, shared))
        yield f"gated_linear {shape}", (planes.gated_linear, lambda W, r: W * r, normal(shape, shared))
        yield f"soft_square {shape}", (planes.soft_square, lambda W: anp.sqrt(1 + W ** 2) - 1, normal(shape))
        yield f"times_sign {shape}", (planes.times_sign, lambda a, W: a * anp.sign(W), normal(shape, shape))
    yield "merge_planes", (planes.merge_planes, plain_merge, ten_planes)
    yield "merge_planes, one by one", (planes.merge_planes, plain_merge, lambda rng: ten_planes(rng, 1, 1))
    for signs in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        yield f"keep_magnitude {signs}", (planes.keep_magnitude, plain_keep_magnitude, pushed(signs))


def product_cases():
    for a, b in (((4, 3), (3, 2)), ((2, 4, 3), (3, 2)), ((4, 3), (2, 3, 5)), ((2, 1, 3), (2, 3, 1))):
        yield f"matmul {a} {b}", (products.matmul, anp.matmul, normal(a, b))
    transported = lambda V, d: anp.einsum("bjc,mj->bmc", d, V)
    yield "transport", (products.transport, transported, normal((4, 3), (2, 3, 5)))
    yield "transport of one", (products.transport, transported, normal((1, 1), (2, 1, 1)))
    yield "pair", (products.pair, lambda W, V: anp.stack([W, V]), normal((4, 3), (4, 3)))
    for which in (0, 1):
        yield f"half {which}", (products.half, lambda WV, which: WV[which], normal((2, 4, 3), which))
    yield "move_towards", (products.move_towards, lambda p, q, lr: p * (1 - lr) + q * lr, normal((4, 3), (4, 3), 0.3))


def readout_cases():
    def plain_project(h, P):  # [n, N, B R]
        r = anp.einsum("bik,nkr->nibr", h, P)
        return anp.reshape(r, r.shape[:2] + (-1,))

    yield "project", (readouts.project, plain_project, normal((3, 4, 5), (7, 5, 2)))
    yield "project of one", (readouts.project, plain_project, normal((2, 1, 1), (7, 1, 1)))
    yield "low_rank_readout", (readouts.low_rank_readout, plain_readout, normal((3, 4, 6), (2, 5, 6), 2, 1))
    yield "lateral", (readouts.lateral, plain_lateral, normal((4, 5, 6), 1, 2))
    yield "lateral with itself", (readouts.lateral, plain_lateral, normal((4, 5, 6), 1, 1))
    yield "lateral of one", (readouts.lateral, plain_lateral, normal((3, 1, 2), 0, 1))
    yield "bias_readout", (readouts.bias_readout, lambda h, w: anp.mean(anp.dot(h, w), axis=0), normal((3, 4, 5), (5,)))
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
