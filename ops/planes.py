"""The elementwise parts of the weight-update planes (App.41-55) and their merging (App.57-60), with VJPs.

`Wn` is `[2, I, J]` (W and V side by side, columns normalised); readouts shared by both are `[I, J]`.
"""
import numpy as np

from ops.norm import as_groups, inverse_rms_columns, scaled_columns_vjp
from ops.primitive import NO_TAPE, block, kernel


def _signed_square_vjp(g, tape, wanted):
    return {0: g * np.abs(tape["Wn"]) * 2}


@block(vjp=_signed_square_vjp)
def signed_square(Wn, *, tape=NO_TAPE):
    """Wn^2 sign(Wn) (plane 2)."""
    tape.update(Wn=Wn)
    return Wn * np.abs(Wn)


def _gated_gaussian_vjp(g, tape, wanted):
    Wn, gate, readout = tape["Wn"], tape["gate"], tape["readout"]
    gated = g * gate
    return {0: gated * readout * Wn * -2, 1: gated.sum(axis=0)}


@block(vjp=_gated_gaussian_vjp)
def gated_gaussian(Wn, readout, *, tape=NO_TAPE):
    """exp(-Wn^2) readout (plane 4)."""
    gate = np.exp(-Wn * Wn)
    tape.update(Wn=Wn, gate=gate, readout=readout)
    return gate * readout


def _gated_linear_vjp(g, tape, wanted):
    return {0: g * tape["readout"], 1: (g * tape["Wn"]).sum(axis=0)}


@block(vjp=_gated_linear_vjp)
def gated_linear(Wn, readout, *, tape=NO_TAPE):
    """Wn readout, elementwise (plane 5)."""
    tape.update(Wn=Wn, readout=readout)
    return Wn * readout


def _soft_square_vjp(g, tape, wanted):
    Wn, root = tape["Wn"], tape["root"]
    return {0: g * Wn / root}


@block(vjp=_soft_square_vjp)
def soft_square(Wn, *, tape=NO_TAPE):
    """sqrt(1 + Wn^2) - 1 (planes 8 and 10)."""
    root = np.sqrt(1 + Wn * Wn)
    tape.update(Wn=Wn, root=root)
    return root - 1


def _times_sign_vjp(g, tape, wanted):
    return {0: g * tape["sign"], 1: np.zeros_like(g)}


@block(vjp=_times_sign_vjp)
def times_sign(a, Wn, *, tape=NO_TAPE):
    """a sign(Wn) (D7); the sign's own gradient is zero."""
    sign = np.sign(Wn)
    tape.update(sign=sign)
    return a * sign


@kernel()
def add_scaled_columns(a, inv, scale, out):
    """out += scale a inv, per column; a [1 or 2, I, J] serves both halves of out [2, I, J]."""
    groups, rows, n = out.shape
    for group in range(groups):
        source = min(group, a.shape[0] - 1)
        for r in range(rows):
            for j in range(n):
                out[group, r, j] += scale * (a[source, r, j] * inv[source, j])


def _merge_planes_vjp(g, tape, wanted):
    merge, dtype = tape["merge"], g.dtype
    g_merge, grads = np.zeros_like(merge), {}
    g_both = np.ascontiguousarray(g)
    g_sum = g_both.sum(axis=0, keepdims=True)  # of planes that W and V share
    for i, (a, inv, shape) in enumerate(tape["planes"]):
        out = np.empty_like(a)
        scale = merge[i] / dtype.type(len(merge))
        dot = scaled_columns_vjp(g_sum if len(a) == 1 else g_both, a, inv, scale, out)
        g_merge[i] = dot / len(merge)
        grads[i + 1] = out.reshape(shape)
    grads[0] = g_merge
    return grads


@block(vjp=_merge_planes_vjp)
def merge_planes(merge, *planes, tape=NO_TAPE):
    """1/10 sum_i theta_merge,i plane_i / sqrt(1 + mean over rows of plane_i^2) (App.57-58, D5).

    merge [10]; planes [2, I, J], or [I, J] where W and V share one -> [2, I, J].
    """
    if merge.shape != (len(planes),):
        raise ValueError(f"merge_planes: merge has shape {merge.shape} for {len(planes)} planes")
    out = np.zeros((2,) + planes[0].shape[-2:], merge.dtype)
    kept = []
    for coefficient, plane in zip(merge, planes):
        a = as_groups(plane)
        inv = np.empty((a.shape[0], a.shape[2]), a.dtype)
        inverse_rms_columns(a, a.dtype.type(1), inv)
        add_scaled_columns(a, inv, coefficient / merge.dtype.type(len(merge)), out)
        kept.append((a, inv, plane.shape))
    tape.update(merge=merge, planes=kept)
    return out


def _dot(a, b):
    return np.einsum("gij,gij->g", a, b)[:, None, None]


def _keep_magnitude_vjp(g, tape, wanted):
    merged, Wu, push, norm = (tape[k] for k in ("merged", "Wu", "push", "norm"))
    g_dot = np.where(push > 0, -_dot(g, Wu), 0).astype(g.dtype)
    g_Wu = push * g + g_dot * merged
    return {0: g + g_dot * Wu, 1: (g_Wu - Wu * _dot(g_Wu, Wu)) / norm}


@block(vjp=_keep_magnitude_vjp)
def keep_magnitude(merged, W, *, tape=NO_TAPE):
    """merged + Wu relu(-<merged, Wu>), Wu = W / sqrt(sum W^2 + 1e-6) (App.59, D8), each [2, I, J].

    What would shrink W is projected out.
    """
    norm = np.sqrt(_dot(W, W) + W.dtype.type(1e-6))
    Wu = W / norm
    push = np.maximum(-_dot(merged, Wu), W.dtype.type(0))
    tape.update(merged=merged, Wu=Wu, push=push, norm=norm)
    return merged + Wu * push
