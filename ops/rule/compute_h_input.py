"""What ComputeH sees before its convolutions (App.81-95), and the error signal it adds (App.31)."""
import functools

import numpy as np

from ops.rule.activations import sigmoid
from ops.rule.norm import PIECE, as_runs, moments
from ops.rule.primitive import EPS, NO_TAPE, block, kernel
from ops.rule.threads import in_parts, product


@kernel()
def column_stats(w, stats):
    """stats[j] = [mean |w|, root mean square, mean, deviation] of column j (App.86-90)."""
    rows, columns = w.shape
    size, square, mean = np.zeros(columns, w.dtype), np.zeros(columns, w.dtype), np.zeros(columns, w.dtype)
    for i in range(rows):
        for j in range(columns):
            size[j] += abs(w[i, j])
            square[j] += w[i, j] * w[i, j]
            mean[j] += w[i, j]
    variance = np.zeros(columns, w.dtype)
    mean /= w.dtype.type(rows)
    for i in range(rows):
        for j in range(columns):
            variance[j] += (w[i, j] - mean[j]) ** 2
    for j in range(columns):
        stats[j, 0] = size[j] / rows
        stats[j, 1] = np.sqrt(square[j] / rows + EPS)
        stats[j, 2] = mean[j]
        stats[j, 3] = np.sqrt(variance[j] / rows + EPS)


@kernel()
def row_stats(w, stats):
    """The same of row j."""
    rows, columns = w.shape
    zero = w.dtype.type(0)
    for j in range(rows):
        run = w[j]
        size, square, mean, variance = zero, zero, zero, zero
        for i in range(columns):
            size += abs(run[i])
            square += run[i] * run[i]
            mean += run[i]
        mean /= w.dtype.type(columns)
        for i in range(columns):
            variance += (run[i] - mean) * (run[i] - mean)
        stats[j, 0] = size / columns
        stats[j, 1] = np.sqrt(square / columns + EPS)
        stats[j, 2] = mean
        stats[j, 3] = np.sqrt(variance / columns + EPS)


@kernel()
def stats_slopes(g, stats, n, slopes):
    """slopes[:, j] = [a, b, c]: with them the gradient to an entry w of n that `stats[j]` is of is a sign(w) + b w + c."""
    for j in range(len(g)):
        of_centred = g[j, 3] / (stats[j, 3] * n)
        slopes[0, j] = g[j, 0] / n
        slopes[1, j] = g[j, 1] / (stats[j, 1] * n) + of_centred
        slopes[2, j] = g[j, 2] / n - stats[j, 2] * of_centred  # deviations sum to zero: no more of the mean


@kernel()
def column_stats_vjp(w, slopes, out):
    """out = a sign(w) + b w + c, slopes = [a, b, c] one entry a column."""
    rows, columns = w.shape
    for i in range(rows):
        for j in range(columns):
            v = w[i, j]
            a = slopes[0, j]
            sign = a if v > 0 else (-a if v < 0 else v * a)
            out[i, j] = sign + v * slopes[1, j] + slopes[2, j]


@kernel()
def row_stats_vjp(w, slopes, out):
    """The same, one entry a row."""
    rows, columns = w.shape
    for j in range(rows):
        a, b, c = slopes[0, j], slopes[1, j], slopes[2, j]
        run, target = w[j], out[j]
        for i in range(columns):
            v = run[i]
            sign = a if v > 0 else (-a if v < 0 else v * a)
            target[i] = sign + v * b + c


def _slopes(g, stats, n):
    slopes = np.empty((3, len(g)), g.dtype)
    stats_slopes(g, stats, n, slopes)
    return slopes


def _weight_stats_vjp(g, tape, wanted):
    s, norm, below, above = (tape[k] for k in ("s", "norm", "below", "above"))
    g = (g - s * ((g * s).sum() / (norm ** 2 * s.size))) / norm
    grads = {}
    if 0 in wanted:
        column_stats_vjp(below, _slopes(g[:, :4], s[:, :4], len(below)), grads.setdefault(0, np.empty_like(below)))
    if 1 in wanted:
        row_stats_vjp(above, _slopes(g[:, 4:], s[:, 4:], above.shape[1]), grads.setdefault(1, np.empty_like(above)))
    return grads


@block(vjp=_weight_stats_vjp)
def weight_stats(W_below, W_above, units, *, tape=NO_TAPE):
    """Stats(W^l, axis 0) and Stats(W^(l+1), axis 1) -> [N, 8] (App.85-92), divided together by their
    root mean square (D4).  A matrix that does not exist (None) counts as zero statistics.
    """
    below, above = (None if W is None else np.ascontiguousarray(W) for W in (W_below, W_above))
    dtype = (below if below is not None else above).dtype
    s = np.zeros((units, 8), dtype)
    if below is not None:
        column_stats(below, s[:, :4])
    if above is not None:
        row_stats(above, s[:, 4:])
    norm = np.sqrt((s * s).sum() / dtype.type(s.size) + dtype.type(EPS))
    tape.update(below=below, above=above, s=s, norm=norm)
    return s / norm


@functools.lru_cache(maxsize=64)
def position_code(units, dtype):
    """sin and cos of `units` points evenly spaced from 0 to 4 pi, both ends included: [2, N] (App.81-82, D3)."""
    angle = np.linspace(0, 4 * np.pi, units)
    return np.stack([np.sin(angle), np.cos(angle)]).astype(dtype)


@kernel()
def normalise_offset(runs, beta, inv):
    """runs <- (run - mean) inv + beta in place, for each channel; fills inv = 1 / deviation."""
    for c in range(len(runs)):
        run, offset = runs[c], beta[c]
        mean, scale = moments(run)
        inv[c] = scale
        for i in range(len(run)):
            run[i] = (run[i] - mean) * scale + offset


@kernel()
def normalise_offset_vjp(g, m, beta, inv, out, g_beta):
    """Gradient of `normalise_offset`, m what it made: out = inv (g - mean(g) - xhat mean(g xhat)), g_beta = sum(g)."""
    channels, size = g.shape
    for c in range(channels):
        of_out, normed, target, offset = g[c], m[c], out[c], beta[c]
        total, total_xhat = 0.0, 0.0
        for start in range(0, size, PIECE):
            s, sx = g.dtype.type(0), g.dtype.type(0)
            g_piece, piece = of_out[start:start + PIECE], normed[start:start + PIECE]
            for i in range(len(piece)):
                s += g_piece[i]
                sx += g_piece[i] * (piece[i] - offset)
            total += s
            total_xhat += sx
        mean, mean_xhat, scale = g.dtype.type(total / size), g.dtype.type(total_xhat / size), inv[c]
        for i in range(size):
            target[i] = scale * (of_out[i] - mean - (normed[i] - offset) * mean_xhat)
        g_beta[c] = total


STATS = 8  # channels of weight statistics; then come x, z, two of position, d, and last the bias


def _compute_h_input_vjp(g, tape, wanted):
    m3, beta, inv, (B, N) = tape["m3"], tape["beta"], tape["inv"], g.shape[1:]
    g = np.ascontiguousarray(g)
    normed = slice(STATS, STATS + len(beta))
    of_normed, m = g[normed].reshape(len(beta), -1), m3[normed].reshape(len(beta), -1)
    out, g_beta = np.empty_like(m), np.empty_like(beta)
    in_parts(lambda i, k: normalise_offset_vjp(of_normed[i:k], m[i:k], beta[i:k], inv[i:k], out[i:k], g_beta[i:k]),
             len(m), 8 * m.size)
    out = out.reshape(-1, B, N)
    return {0: out[0], 1: out[1], 2: out[4:], 3: g[:STATS].sum(axis=1).T, 4: g[-1].sum(axis=0), 5: g_beta}


@block(vjp=_compute_h_input_vjp)
def compute_h_input(x, z, d, stats, b, beta, *, tape=NO_TAPE):
    """m3 = [s0, s1, BatchNorm([x, z, p0, p1, d], [0, 1]) + beta, b] (App.83-95), tiled to [13 + D, B, N].

    x, z [B, N]; d [D, B, N]; stats [N, 8]; b [N]; beta [4 + D].
    """
    D, B, N = d.shape
    if x.shape != (B, N) or z.shape != (B, N) or stats.shape != (N, 8) or b.shape != (N,) or beta.shape != (4 + D,):
        raise ValueError(f"compute_h_input: x {x.shape}, z {z.shape}, d {d.shape}, stats {stats.shape}, b {b.shape}, "
                         f"beta {beta.shape} do not fit")
    m3, beta, inv = np.empty((13 + D, B, N), d.dtype), np.ascontiguousarray(beta), np.empty_like(beta)
    m3[:STATS] = stats.T[:, None]
    m3[8], m3[9], m3[10:12], m3[12:-1], m3[-1] = x, z, position_code(N, d.dtype)[:, None], d, b
    runs = m3[STATS:-1].reshape(4 + D, B * N)
    in_parts(lambda i, k: normalise_offset(runs[i:k], beta[i:k], inv[i:k]), len(runs), 8 * runs.size)
    tape.update(m3=m3, beta=beta, inv=inv)
    return m3


@kernel()
def add_gated(d, gate, e, first, end, out):
    """out += d gate + e of columns first..end, in one pass; d, out [C, n], gate [n], e [C]."""
    scale = gate[first:end]
    for c in range(len(d)):
        signal, target, offset = d[c, first:end], out[c, first:end], e[c]
        for i in range(len(scale)):
            target[i] += signal[i] * scale[i] + offset


@kernel()
def gate_vjp(g, d, gate, first, end, gd, gz):
    """Gradients of `d gate` with respect to d and, through the sigmoid, to z, of columns first..end."""
    scale, total = gate[first:end], gz[first:end]
    total[:] = 0
    for c in range(len(g)):
        of_out, signal, target = g[c, first:end], d[c, first:end], gd[c, first:end]
        for i in range(len(scale)):
            target[i] = of_out[i] * scale[i]
            total[i] += of_out[i] * signal[i]
    for i in range(len(scale)):
        total[i] *= scale[i] * (1 - scale[i])


def _error_signal_vjp(g, tape, wanted):
    d, gate, h, E = (tape[k] for k in ("d", "gate", "h", "E"))
    runs = as_runs(g)
    gd, gz, gh = np.empty_like(d), np.empty_like(gate), np.empty_like(h)

    def part(i, k):
        gate_vjp(runs, d, gate, i, k, gd, gz)
        np.matmul(E, runs[:, i:k], out=gh[:, i:k])
        return np.matmul(h[:, i:k], runs[:, i:k].T)

    gE = sum(in_parts(part, runs.shape[1], 2 * h.size * E.shape[1]))
    return {0: gd.reshape(g.shape), 1: gz.reshape(g.shape[1:]), 2: gh.reshape((-1,) + g.shape[1:]), 3: gE,
            4: runs.sum(axis=1)}


@block(vjp=_error_signal_vjp)
def error_signal(d, z, h, E, e, *, tape=NO_TAPE):
    """delta = d sigmoid(z) + h E + e (App.31): d [D, B, N], z [B, N], h [H, B, N], E [H, D], e [D] -> [D, B, N]."""
    if E.shape != (len(h), len(d)) or e.shape != (len(d),):
        raise ValueError(f"error_signal: E {E.shape}, e {e.shape} do not fit h {h.shape}, d {d.shape}")
    runs, h, e = as_runs(d), as_runs(h), np.ascontiguousarray(e)
    gate = sigmoid(np.ascontiguousarray(z)).reshape(-1)
    out = product(E.T, h)
    in_parts(lambda i, k: add_gated(runs, gate, e, i, k, out), runs.shape[1], 8 * runs.size)
    tape.update(d=runs, gate=gate, h=h, E=E)
    return out.reshape(d.shape)
