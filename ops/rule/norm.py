"""Batch norm of the base model, and the rule's normalisations to unit second moment, with VJPs.

Most work on `[..., rows, columns]`, with statistics over the rows; `moments`, `dot` and `limit_length` on runs of
numbers, `normalise_channels` on hidden tensors `[C, B, N]`.
"""
import numpy as np

from ops.rule.primitive import EPS, NO_TAPE, block, kernel
from ops.rule.threads import in_parts, product


PIECE = 4096  # of a run: summed in the array's own precision, then added in float64


@kernel()
def dot(a, b):
    """Sum of the products of two contiguous runs, float64."""
    total = 0.0
    for start in range(0, len(a), PIECE):
        s, piece, other = a.dtype.type(0), a[start:start + PIECE], b[start:start + PIECE]
        for i in range(len(piece)):
            s += piece[i] * other[i]
        total += s
    return total


@kernel()
def moments(run):
    """(mean, 1 / deviation) of a contiguous run of numbers, the second of its variance plus eps (D1)."""
    size, total, total_sq = len(run), 0.0, 0.0
    for start in range(0, size, PIECE):
        s, piece = run.dtype.type(0), run[start:start + PIECE]
        for i in range(len(piece)):
            s += piece[i]
        total += s
    mean = run.dtype.type(total / size)
    for start in range(0, size, PIECE):
        s, piece = run.dtype.type(0), run[start:start + PIECE]
        for i in range(len(piece)):
            s += (piece[i] - mean) * (piece[i] - mean)
        total_sq += s
    return mean, run.dtype.type(1 / np.sqrt(total_sq / size + EPS))


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


def as_runs(x):
    """View [C, B, N] as a contiguous [C, B N], each channel one run."""
    return np.ascontiguousarray(x).reshape(len(x), -1)


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
def normalise_channels_kernel(a, first, end, out, inv):
    """out[:, i] = a[:, i] inv[i], inv[i] = 1 / sqrt(mean over channels of a[:, i]^2 + eps), of columns first..end."""
    channels = len(a)
    scale = inv[first:end]
    scale[:] = 0
    for c in range(channels):
        run = a[c, first:end]
        for i in range(len(scale)):
            scale[i] += run[i] * run[i]
    for i in range(len(scale)):
        scale[i] = 1 / np.sqrt(scale[i] / channels + EPS)
    for c in range(channels):
        run, target = a[c, first:end], out[c, first:end]
        for i in range(len(scale)):
            target[i] = run[i] * scale[i]


@kernel()
def normalise_channels_vjp_kernel(g, d, inv, first, end, out):
    """out[:, i] = inv[i] (g[:, i] - d[:, i] mean(g[:, i] d[:, i])) of columns first..end."""
    channels = len(g)
    scale, total = inv[first:end], np.zeros(end - first, g.dtype)
    for c in range(channels):
        of_out, normed = g[c, first:end], d[c, first:end]
        for i in range(len(scale)):
            total[i] += of_out[i] * normed[i]
    total /= g.dtype.type(channels)
    for c in range(channels):
        of_out, normed, target = g[c, first:end], d[c, first:end], out[c, first:end]
        for i in range(len(scale)):
            target[i] = scale[i] * (of_out[i] - normed[i] * total[i])


def _normalise_channels_vjp(g, tape, wanted):
    d, inv = tape["d"], tape["inv"]
    runs, out = as_runs(g), np.empty_like(d)
    in_parts(lambda i, k: normalise_channels_vjp_kernel(runs, d, inv, i, k, out), d.shape[1], 8 * d.size)
    return {0: out.reshape(g.shape)}


@block(vjp=_normalise_channels_vjp)
def normalise_channels(dhat, *, tape=NO_TAPE):
    """dhat [C, B, N] / sqrt(mean_c dhat^2 + 1e-6) (App.33)."""
    runs = as_runs(dhat)
    d, inv = np.empty_like(runs), np.empty(runs.shape[1], runs.dtype)
    in_parts(lambda i, k: normalise_channels_kernel(runs, i, k, d, inv), runs.shape[1], 8 * runs.size)
    tape.update(d=d, inv=inv)
    return d.reshape(dhat.shape)


@kernel()
def limit_length_kernel(a, e, out, scale):
    """out[g] = a[g] scale[g], scale[g] = 1 / sqrt(e + mean of a[g]^2); a [G, n]."""
    for group in range(len(a)):
        run, target = a[group], out[group]
        c = a.dtype.type(1 / np.sqrt(e + dot(run, run) / len(run)))
        scale[group] = c
        for i in range(len(run)):
            target[i] = run[i] * c


@kernel()
def limit_length_vjp_kernel(g, D, scale, out):
    """out[k] = scale[k] (g[k] - D[k] mean(g[k] D[k]))."""
    for group in range(len(g)):
        of_out, limited, target = g[group], D[group], out[group]
        mean, c = g.dtype.type(dot(of_out, limited) / len(of_out)), scale[group]
        for i in range(len(of_out)):
            target[i] = c * (of_out[i] - limited[i] * mean)


def _limit_length_vjp(g, tape, wanted):
    D, out = tape["D"], np.empty_like(tape["D"])
    limit_length_vjp_kernel(np.ascontiguousarray(g).reshape(D.shape), D, tape["scale"], out)
    return {0: out.reshape(g.shape)}


@block(vjp=_limit_length_vjp)
def limit_length(a, e, groups, *, tape=NO_TAPE):
    """a / sqrt(e + mean of a^2): an update's length is bounded (App.60, App.63); of a's first axis with `groups`
    each entry by itself, otherwise all of it together.
    """
    runs = np.ascontiguousarray(a).reshape(len(a) if groups else 1, -1)
    D, scale = np.empty_like(runs), np.empty(len(runs), a.dtype)
    limit_length_kernel(runs, float(e), D, scale)
    tape.update(D=D, scale=scale)
    return D.reshape(a.shape)
