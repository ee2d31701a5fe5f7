"""A layer of the base model (App.13-14), and the standardised x of the Hebbian plane, as primitives."""
import numpy as np

from ops.rule.primitive import EPS, NO_TAPE, block, kernel
from ops.rule.threads import product


@kernel()
def batch_norm_kernel(u, b, xhat, z, inv):
    """xhat = (u - mean) / sqrt(var + eps) over the rows of each group, z = xhat + b; u [G, K, N]."""
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


def _groups(a):
    """View [..., rows, columns] as a contiguous [groups, rows, columns]."""
    return np.ascontiguousarray(a).reshape((-1,) + a.shape[-2:])


def _batch_norm(u, b):
    """(z, xhat, inv) of `u` [..., K, N]; xhat as [groups, K, N]."""
    groups = _groups(u)
    xhat, z = np.empty_like(groups), np.empty_like(groups)
    inv = np.empty((groups.shape[0], groups.shape[2]), groups.dtype)
    batch_norm_kernel(groups, np.ascontiguousarray(b), xhat, z, inv)
    return z.reshape(u.shape), xhat, inv


def _batch_norm_vjp(g, xhat, inv):
    """Gradients with respect to u and b."""
    out, gb = np.empty_like(xhat), np.zeros(xhat.shape[2])
    batch_norm_vjp_kernel(_groups(g), xhat, inv, out, gb)
    return out.reshape(g.shape), gb.astype(xhat.dtype)


def _base_layer_vjp(g, tape, wanted):
    x, W = tape["x"], tape["W"]
    gu, gb = _batch_norm_vjp(g, tape["xhat"], tape["inv"])
    rows = gu.reshape(-1, W.shape[1])
    grads = {1: product(x.reshape(-1, W.shape[0]).T, rows), 2: gb}
    if 0 in wanted:
        grads[0] = product(rows, W.T).reshape(x.shape)
    return grads


@block(vjp=_base_layer_vjp)
def base_layer(x, W, b, *, tape=NO_TAPE):
    """What `unsup_meta.base_layer` defines.  ValueError where x, W and b do not fit."""
    if x.shape[-1] != W.shape[0] or b.shape != W.shape[1:] or x.dtype != W.dtype:
        raise ValueError(f"base layer: x {x.shape} of {x.dtype} does not fit W {W.shape} of {W.dtype}, b {b.shape}")
    rows = product(x.reshape(-1, W.shape[0]), W)
    z, xhat, inv = _batch_norm(rows.reshape(x.shape[:-1] + W.shape[1:]), b)
    tape.update(x=x, W=W, xhat=xhat, inv=inv)
    return z


def _embed_vjp(g, tape, wanted):
    xs, normed, parts = tape["xs"], tape["normed"], tape["parts"]
    g, grads = np.stack(g), {}
    for l in reversed(range(len(normed))):
        gu, grads[2 * l + 2] = _batch_norm_vjp(g * (xs[l + 1] > 0), *normed[l])
        W, rows = parts[2 * l], gu.reshape(-1, gu.shape[-1])
        grads[2 * l + 1] = product(xs[l].reshape(-1, len(W)).T, rows)
        if l > 0:
            g = product(rows, W.T).reshape(xs[l].shape)
    return grads


@block(vjp=_embed_vjp, large=("made", "normed"))
def _embed(x, *parts, tape=NO_TAPE):
    """x^L [..., N^L] of x [G, ..., N^0] as a tuple of G arrays; parts = (W, b, W, b, ...); no gradient for x."""
    xs, normed = [x], []
    for W, b in zip(parts[::2], parts[1::2]):
        z, *saved = _batch_norm(product(xs[-1].reshape(-1, len(W)), W).reshape(x.shape[:-1] + b.shape), b)
        xs.append(np.maximum(z, 0, out=z))
        normed.append(saved)
    tape.update(xs=xs, made=xs[1:], normed=normed, parts=parts)
    return tuple(xs[-1])


def embeddings(phi, xa, xb):
    """What `unsup_meta.embeddings` defines, batches of one size together.  ValueError where they do not fit phi."""
    parts = [part for W, b, _ in phi for part in (W, b)]
    for x in (xa, xb):
        if x.shape[-1] != len(phi[0][0]) or x.dtype != phi[0][0].dtype:
            raise ValueError(f"x {x.shape} of {x.dtype} does not fit W^1 {phi[0][0].shape} of {phi[0][0].dtype}")
    if xa.shape == xb.shape:
        return _embed(np.stack([xa, xb]), *parts)
    return *_embed(xa[None], *parts), *_embed(xb[None], *parts)


def _standardise_vjp(g, tape, wanted):
    return {0: _batch_norm_vjp(g, tape["xhat"], tape["inv"])[0]}


@block(vjp=_standardise_vjp)
def standardise(x, *, tape=NO_TAPE):
    """x [B, N] standardised per unit over the batch (App.46)."""
    z, xhat, inv = _batch_norm(x, np.zeros(x.shape[-1], x.dtype))
    tape.update(xhat=xhat, inv=inv)
    return z
