"""Batch norm of the base model, and the rule's normalisations to unit second moment, with VJPs.

All work on `[..., rows, columns]`; statistics run over the rows unless said otherwise.
"""
import numpy as np

from ops.primitive import EPS, NO_TAPE, block, kernel
from ops.threads import in_parts, product


@kernel()
def batch_norm_kernel(u, b, xhat, z, inv):
    """xhat = (u - mean) / sqrt(var + eps) over the rows of each group, z = xhat + b."""
    groups, rows, n = u.shape
    for group in range(groups):
        mean, var = np.zeros(n), np.zeros(n)
        for r in range(rows):
            for j in range(n):
                mean[j] += u[group, r, j]
        mean /= rows
        for r in range(rows):
            for j in range(n):
                var[j] += (u[group, r, j] - mean[j]) ** 2
        for j in range(n):
            inv[group, j] = 1 / np.sqrt(var[j] / rows + EPS)
        for r in range(rows):
            for j in range(n):
                v = u.dtype.type(u[group, r, j] - mean[j]) * inv[group, j]
                xhat[group, r, j] = v
                z[group, r, j] = v + b[j]


@kernel()
def batch_norm_vjp_kernel(g, xhat, inv, out, gb):
    """out = inv (g - mean(g) - xhat mean(g xhat)) per group; gb += sum of g over everything."""
    groups, rows, n = g.shape
    for group in range(groups):
        s, sx = np.zeros(n), np.zeros(n)
        for r in range(rows):
            for j in range(n):
                s[j] += g[group, r, j]
                sx[j] += g[group, r, j] * xhat[group, r, j]
        for j in range(n):
            gb[j] += s[j]
            s[j] /= rows
            sx[j] /= rows
        for r in range(rows):
            for j in range(n):
                centred = g[group, r, j] - g.dtype.type(s[j]) - xhat[group, r, j] * g.dtype.type(sx[j])
                out[group, r, j] = inv[group, j] * centred


def as_groups(a):
    """View [..., rows, columns] as a contiguous [groups, rows, columns]."""
    return np.ascontiguousarray(a).reshape((-1,) + a.shape[-2:])


def _batch_norm_forward(u, b):
    """(z, xhat, inv) of `u` [..., K, N]; xhat as [groups, K, N]."""
    if b.shape != u.shape[-1:]:
        raise ValueError(f"batch norm: offset {b.shape} does not fit input {u.shape}")
    groups = as_groups(u)
    xhat, z = np.empty_like(groups), np.empty_like(groups)
    inv = np.empty((groups.shape[0], groups.shape[2]), groups.dtype)
    batch_norm_kernel(groups, np.ascontiguousarray(b), xhat, z, inv)
    return z.reshape(u.shape), xhat, inv


def _batch_norm_backward(g, xhat, inv):
    """Gradients with respect to u and b."""
    out, gb = np.empty_like(xhat), np.zeros(xhat.shape[2])
    batch_norm_vjp_kernel(as_groups(g), xhat, inv, out, gb)
    return out.reshape(g.shape), gb.astype(xhat.dtype)


def _batch_norm_vjp(g, tape, wanted):
    gu, gb = _batch_norm_backward(g, tape["xhat"], tape["inv"])
    return {0: gu, 1: gb}


@block(vjp=_batch_norm_vjp)
def batch_norm(u, b, *, tape=NO_TAPE):
    """BatchNorm over the rows, plus the offset: u [..., K, N], b [N] -> [..., K, N] (App.13, D1).

    Leading axes are separate batches with statistics of their own.
    """
    z, xhat, inv = _batch_norm_forward(u, b)
    tape.update(xhat=xhat, inv=inv)
    return z


def _dense_vjp(g, tape, wanted):
    x, W = tape["x"], tape["W"]
    gu, gb = _batch_norm_backward(g, tape["xhat"], tape["inv"])
    rows = gu.reshape(-1, W.shape[1])
    grads = {1: product(x.reshape(-1, W.shape[0]).T, rows), 2: gb}
    if 0 in wanted:
        grads[0] = product(rows, W.T).reshape(x.shape)
    return grads


@block(vjp=_dense_vjp)
def dense(x, W, b, *, tape=NO_TAPE):
    """z = BatchNorm(x W) + b: x [..., K, I], W [I, J], b [J] -> [..., K, J] (App.13, D1).

    Leading axes are separate batches with statistics of their own.
    """
    if x.shape[-1] != W.shape[0] or x.dtype != W.dtype:
        raise ValueError(f"dense: x {x.shape} of {x.dtype} does not fit W {W.shape} of {W.dtype}")
    rows = product(x.reshape(-1, W.shape[0]), W)
    z, xhat, inv = _batch_norm_forward(rows.reshape(x.shape[:-1] + (W.shape[1],)), b)
    tape.update(x=x, W=W, xhat=xhat, inv=inv)
    return z


def standardise(x):
    """x [B, N] standardised per unit over the batch, differentiable (xs of App.46)."""
    return batch_norm(x, np.zeros(x.shape[-1], x.dtype))


@kernel()
def inverse_rms_columns(a, eps, inv):
    """inv[g, j] = 1 / sqrt(eps + mean over rows of a[g, :, j]^2)."""
    groups, rows, n = a.shape
    for group in range(groups):
        total = np.zeros(n, a.dtype)
        for r in range(rows):
            for j in range(n):
                total[j] += a[group, r, j] * a[group, r, j]
        for j in range(n):
            inv[group, j] = 1 / np.sqrt(eps + total[j] / rows)


@kernel()
def scaled_columns_vjp(g, a, inv, scale, out):
    """Gradient of `scale a inv`, inv as above: out = scale inv (g - an mean(g an)), an = a inv.

    Returns sum(g an), the gradient with respect to `scale`.  g and a are [G, I, J].
    """
    groups, rows, n = a.shape
    dot = 0.0
    for group in range(groups):
        total = np.zeros(n, a.dtype)
        for r in range(rows):
            for j in range(n):
                total[j] += g[group, r, j] * a[group, r, j]
        for j in range(n):
            total[j] *= inv[group, j]
            dot += total[j]
            total[j] *= inv[group, j] / a.dtype.type(rows)
        for r in range(rows):
            for j in range(n):
                out[group, r, j] = scale * inv[group, j] * (g[group, r, j] - a[group, r, j] * total[j])
    return dot


def _normalise_columns_vjp(g, tape, wanted):
    out = np.empty_like(tape["a"])
    scaled_columns_vjp(as_groups(g), tape["a"], tape["inv"], g.dtype.type(1), out)
    return {0: out.reshape(g.shape)}


@block(vjp=_normalise_columns_vjp)
def normalise_columns(W, *, tape=NO_TAPE):
    """W / sqrt(mean over rows of W^2 + 1e-6), per column, i.e. per receptive field (D5)."""
    a = as_groups(W)
    inv = np.empty((a.shape[0], a.shape[2]), a.dtype)
    inverse_rms_columns(a, a.dtype.type(EPS), inv)
    tape.update(a=a, inv=inv)
    return (a * inv[:, None]).reshape(W.shape)


@kernel()
def normalise_channels_kernel(a, out, inv):
    """out[r] = a[r] / sqrt(mean over channels of a[r]^2 + eps)."""
    rows, channels = a.shape
    zero = a.dtype.type(0)
    for r in range(rows):
        total = zero
        for c in range(channels):
            total += a[r, c] * a[r, c]
        inv[r] = 1 / np.sqrt(total / channels + EPS)
        for c in range(channels):
            out[r, c] = a[r, c] * inv[r]


@kernel()
def normalise_channels_vjp_kernel(g, d, inv, out):
    """out[r] = inv[r] (g[r] - d[r] mean(g[r] d[r]))."""
    rows, channels = g.shape
    for r in range(rows):
        total = g.dtype.type(0)
        for c in range(channels):
            total += g[r, c] * d[r, c]
        total /= g.dtype.type(channels)
        for c in range(channels):
            out[r, c] = inv[r] * (g[r, c] - d[r, c] * total)


def _normalise_channels_vjp(g, tape, wanted):
    rows = np.ascontiguousarray(g).reshape(tape["d"].shape)
    out = np.empty_like(rows)
    d, inv = tape["d"], tape["inv"]
    in_parts(lambda i, k: normalise_channels_vjp_kernel(rows[i:k], d[i:k], inv[i:k], out[i:k]), len(rows), 8 * rows.size)
    return {0: out.reshape(g.shape)}


@block(vjp=_normalise_channels_vjp)
def normalise_channels(dhat, *, tape=NO_TAPE):
    """dhat [B, N, C] / sqrt(mean_c dhat^2 + 1e-6) (App.33)."""
    rows = np.ascontiguousarray(dhat).reshape(-1, dhat.shape[-1])
    d, inv = np.empty_like(rows), np.empty(rows.shape[0], rows.dtype)
    in_parts(lambda i, k: normalise_channels_kernel(rows[i:k], d[i:k], inv[i:k]), len(rows), 8 * rows.size)
    tape.update(d=d, inv=inv)
    return d.reshape(dhat.shape)


def _limit_length_vjp(g, tape, wanted):
    c, D, axes = tape["c"], tape["D"], tape["axes"]
    return {0: c * (g - D * np.mean(g * D, axis=axes, keepdims=True))}


@block(vjp=_limit_length_vjp)
def limit_length(a, e, axes, *, tape=NO_TAPE):
    """a / sqrt(e + mean of a^2 over `axes`): an update's length is bounded (App.60, App.63)."""
    c = (1 / np.sqrt(e + np.mean(a * a, axis=axes, keepdims=True))).astype(a.dtype)
    D = a * c
    tape.update(c=c, D=D, axes=axes)
    return D
