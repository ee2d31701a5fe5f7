"""TopD (App.65-79) and ComputeH (App.80-104), each one primitive: chains of convolutions and what goes into them."""
import functools
from types import SimpleNamespace

import numpy as np

from ops.rule.conv import (BATCH, UNIT, batch_norm_runs, batch_norm_runs_vjp, chain, chain_vjp, channels_first,
                           channels_last, convolve, convolve_vjp)
from ops.rule.memory import scratch
from ops.rule.primitive import EPS, NO_TAPE, block, kernel

TOP_D = [f"top_d/{name}/{part}" for name in ("conv1", "unit1", "unit2", "conv2", "conv3") for part in ("w", "beta")]
TOP_D += ["top_d/out/w", "top_d/out/b"]
COMPUTE_H = ["compute_h/in/beta"]
COMPUTE_H += [f"compute_h/{name}/{part}" for name in ("conv1", "unit1", "conv2", "unit2") for part in ("w", "beta")]
AXES = (BATCH, UNIT, BATCH, UNIT)  # of ComputeH's convolutions
STATS = 8  # channels of weight statistics in m3; then come x, z, two of position, d, and last the bias


# --- TopD -----------------------------------------------------------------------------------------

_AXES = ((BATCH,), (UNIT, UNIT), (BATCH, BATCH))  # of its three chains; in the second the batch is the channels
_OF = (slice(0, 2), slice(2, 6), slice(6, 10))  # their weights


def top_d(xL, theta):
    """What `unsup_meta.top_d` defines."""
    return _top_d(xL, *(theta[name] for name in TOP_D))


def _turned(runs, shape):
    """Runs [C, B N] of [C, B, N] -> [B, C N]: channels and batch change places."""
    return np.ascontiguousarray(runs.reshape((-1,) + shape).transpose(1, 0, 2)).reshape(shape[0], -1)


def _top_d_vjp(g, tape, wanted):
    first, weights, shapes, kept, m10 = (tape[k] for k in ("first", "weights", "shapes", "kept", "m10"))
    g = channels_first(g)
    tile = lambda start, count: m10[:, start:start + count]
    back, g_out = convolve_vjp(g, tile, weights[10], shapes[0], BATCH, True)
    grads = {11: g_out, 12: g.sum(axis=1)}
    for i in (2, 1, 0):
        back, of_weights = chain_vjp(back, first[i], shapes[i], _AXES[i], weights[_OF[i]], kept[i], i > 0 or 0 in wanted)
        grads.update(enumerate(of_weights, start=1 + _OF[i].start))
        if i > 0:
            back = _turned(back, shapes[i])
    return grads | {0: None if back is None else back.reshape(shapes[0])}


@block(vjp=_top_d_vjp, large=("first", "kept", "m10"))
def _top_d(xL, *weights, tape=NO_TAPE):
    (B, N), T, keep = xL.shape, weights[0].shape[2], tape is not NO_TAPE
    weights = [np.ascontiguousarray(a) for a in weights]
    if len(xL) != weights[2].shape[1]:
        raise ValueError(f"theta is tied to batches of {weights[2].shape[1]} (top_d/unit1), but x^L has shape {xL.shape}")
    shapes, runs, first, kept = ((B, N), (T, N), (B, N)), np.ascontiguousarray(xL).reshape(1, -1), [], []
    for i, (axes, of) in enumerate(zip(_AXES, _OF)):
        first.append(runs if i == 0 else _turned(runs, shapes[i - 1]))
        runs, saved = chain(first[i], shapes[i], axes, weights[of], keep)
        kept.append(saved)
    out = np.empty((weights[10].shape[2], runs.shape[1]), runs.dtype)
    convolve(runs, weights[10], shapes[0], BATCH, out)
    out += weights[11][:, None]
    tape.update(first=first, weights=weights, shapes=shapes, kept=kept, m10=runs)
    return channels_last(out, (B, N))


# --- ComputeH -------------------------------------------------------------------------------------


def compute_h(d, x, z, W, W_above, b, theta):
    """What `unsup_meta.compute_h` defines."""
    return _compute_h(d, x, z, W, W_above, b, *(theta[name] for name in COMPUTE_H))


@functools.lru_cache(maxsize=64)
def position_code(units, dtype):
    """sin and cos of `units` points evenly spaced from 0 to 4 pi, both ends included: [2, N] (App.81-82, D3)."""
    angle = np.linspace(0, 4 * np.pi, units)
    return np.stack([np.sin(angle), np.cos(angle)]).astype(dtype)


@kernel()
def column_stats(w, stats):
    """stats[:, j] = [mean |w|, root mean square, mean, deviation] of column j (App.86-90)."""
    rows, columns = w.shape
    size, square, mean, variance = stats
    stats[:] = 0
    for i in range(rows):
        for j in range(columns):
            size[j] += abs(w[i, j])
            square[j] += w[i, j] * w[i, j]
            mean[j] += w[i, j]
    stats /= w.dtype.type(rows)
    for i in range(rows):
        for j in range(columns):
            variance[j] += (w[i, j] - mean[j]) * (w[i, j] - mean[j])
    for j in range(columns):
        square[j] = np.sqrt(square[j] + EPS)
        variance[j] = np.sqrt(variance[j] / rows + EPS)


@kernel()
def column_stats_vjp(w, stats, g, out):
    """Gradient of `column_stats`: out = a sign(w) + b w + c, one a, b and c a column."""
    rows, columns = w.shape
    n = w.dtype.type(rows)
    slopes = np.empty((3, columns), w.dtype)
    for j in range(columns):
        of_centred = g[3, j] / (stats[3, j] * n)
        slopes[0, j] = g[0, j] / n
        slopes[1, j] = g[1, j] / (stats[1, j] * n) + of_centred
        slopes[2, j] = g[2, j] / n - stats[2, j] * of_centred  # deviations sum to zero: no more of the mean
    for i in range(rows):
        for j in range(columns):
            v, a = w[i, j], slopes[0, j]
            sign = a if v > 0 else (-a if v < 0 else v * a)
            out[i, j] = sign + v * slopes[1, j] + slopes[2, j]


def _weight_stats(below, above, units, dtype):
    """(statistics [8, N] of the columns of W^l and of W^(l+1)', zeros for None; their root mean square) (D4)."""
    s = np.zeros((STATS, units), dtype)
    for W, part in ((below, s[:4]), (above, s[4:])):
        if W is not None:
            column_stats(W, part)
    return s, np.sqrt((s * s).sum() / dtype.type(s.size) + dtype.type(EPS))


def _weight_stats_vjp(g, s, rms, below, above, wanted):
    """Gradients of s / rms with respect to W^l and W^(l+1)', g [8, N], None where not wanted."""
    g, grads = (g - s * ((g * s).sum() / (rms * rms * s.size))) / rms, [None, None]
    for i, (W, part) in enumerate(((below, slice(0, 4)), (above, slice(4, 8)))):
        if W is not None and wanted[i]:
            grads[i] = np.empty_like(W)
            column_stats_vjp(W, s[part], g[part], grads[i])
    return grads


def _convolved(d, x, z, b, s, beta, m3):
    """Fill m3 [13 + D, B N], what ComputeH convolves (App.81-84, 93-95); s [8, N].

    Returns xhat, inv of its batch norm, the first in a buffer used again.
    """
    (B, N), D = x.shape, d.shape[2]
    m1, tiled = scratch("m1", (4 + D, B, N), x.dtype), m3.reshape(-1, B, N)
    m1[0], m1[1], m1[2:4], m1[4:] = x, z, position_code(N, x.dtype)[:, None], d.transpose(2, 0, 1)  # (App.81-84)
    tiled[:STATS], tiled[-1] = s[:, None], b                               # (App.94-95)
    xhat = m1.reshape(4 + D, B * N)
    return xhat, batch_norm_runs(xhat, beta, -np.inf, m3[STATS:-1])        # (App.93)


def _compute_h_vjp(g, tape, wanted):
    t, (B, N) = SimpleNamespace(**tape), tape["x"].shape
    beta, m3 = t.weights[0], scratch("m3", (13 + t.d.shape[2], B * N), g.dtype)
    xhat, inv = _convolved(t.d, t.x, t.z, t.b, t.s / t.rms, beta, m3)      # again: a forward pass keeps the rest alone
    g, of_weights = chain_vjp(channels_first(g), m3, (B, N), AXES, t.weights[1:], t.kept, True)
    of_m1, of_beta = batch_norm_runs_vjp(g[STATS:-1], xhat, beta, -np.inf, inv)
    of_m1, tiled = of_m1.reshape(-1, B, N).copy(), g.reshape(-1, B, N)
    of_below, of_above = _weight_stats_vjp(tiled[:STATS].sum(axis=1), t.s, t.rms, t.below, t.above,
                                           (3 in wanted, 4 in wanted))
    grads = [of_m1[4:].transpose(1, 2, 0), of_m1[0], of_m1[1], of_below, None if of_above is None else of_above.T,
             tiled[-1].sum(axis=0), of_beta, *of_weights]
    return dict(enumerate(grads))


@block(vjp=_compute_h_vjp, large=("kept",))
def _compute_h(d, x, z, W, W_above, b, *weights, tape=NO_TAPE):
    (B, N), weights, D, dtype = x.shape, [np.ascontiguousarray(a) for a in weights], d.shape[2], x.dtype
    turned = None if W_above is None else W_above.T
    below, above = (None if M is None else np.ascontiguousarray(M) for M in (W, turned))
    units = {N} | {M.shape[1] for M in (below, above) if M is not None}
    if d.shape != (B, N, len(weights[0]) - 4) or z.shape != x.shape or b.shape != (N,) or units != {N}:
        raise ValueError(f"compute_h: x {x.shape}, z {z.shape}, d {d.shape}, b {b.shape}, beta {weights[0].shape} and "
                         f"weights of {sorted(units)} units do not fit")
    s, rms = _weight_stats(below, above, N, dtype)                         # (App.85-92)
    m3 = np.empty((13 + D, B * N), dtype)
    _convolved(d, x, z, b, s / rms, weights[0], m3)
    out, kept = chain(m3, (B, N), AXES, weights[1:], tape is not NO_TAPE)   # (App.96-104)
    tape.update(d=d, x=x, z=z, b=b, weights=weights, kept=kept, s=s, rms=rms, below=below, above=above)
    return channels_last(out, (B, N))
