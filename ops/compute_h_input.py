"""What ComputeH sees before its convolutions (App.81-95), and the error signal it adds (App.31)."""
import numpy as np

from ops.activations import sigmoid
from ops.primitive import EPS, NO_TAPE, block, kernel
from ops.threads import in_parts, product


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
def column_stats_vjp(w, of_sign, of_w, constant, g):
    """g = sign(w) of_sign + w of_w + constant, the vectors one entry a column."""
    rows, columns = w.shape
    for i in range(rows):
        for j in range(columns):
            v = w[i, j]
            sign = of_sign[j] if v > 0 else (-of_sign[j] if v < 0 else v * of_sign[j])
            g[i, j] = sign + v * of_w[j] + constant[j]


def _stats(w):
    """`column_stats` of w [n, m] -> [m, 4]."""
    stats = np.empty((w.shape[1], 4), w.dtype)
    column_stats(np.ascontiguousarray(w), stats)
    return stats


def _stats_vjp(g, w, stats):
    """Gradient of `_stats` with respect to w, given g [m, 4]."""
    of_abs, of_rms, of_mean, of_sd = g.T / g.dtype.type(w.shape[0])
    _, rms, mean, sd = stats.T
    of_centred, out = of_sd / sd, np.empty(w.shape, w.dtype)
    # the deviation's share of the mean's gradient cancels: deviations sum to zero
    column_stats_vjp(np.ascontiguousarray(w), of_abs, of_rms / rms + of_centred, of_mean - mean * of_centred, out)
    return out


def _weight_stats_vjp(g, tape, wanted):
    s, norm = tape["s"], tape["norm"]
    g = (g - s / norm ** 2 * (g * s).mean()) / norm
    grads = {}
    if 0 in wanted:
        grads[0] = _stats_vjp(g[:, :4], tape["below"], s[:, :4])
    if 1 in wanted:
        grads[1] = _stats_vjp(g[:, 4:], tape["above"].T, s[:, 4:]).T
    return grads


@block(vjp=_weight_stats_vjp)
def weight_stats(W_below, W_above, units, *, tape=NO_TAPE):
    """Stats(W^l, axis 0) and Stats(W^(l+1), axis 1) -> [N, 8] (App.85-92), divided together by their
    root mean square (D4).  A matrix that does not exist (None) counts as zero statistics.
    """
    dtype = (W_below if W_below is not None else W_above).dtype
    s = np.zeros((units, 8), dtype)
    if W_below is not None:
        s[:, :4] = _stats(W_below)
    if W_above is not None:
        s[:, 4:] = _stats(W_above.T)
    norm = np.sqrt((s * s).mean() + dtype.type(EPS))
    tape.update(below=W_below, above=W_above, s=s, norm=norm)
    return s / norm


def position_code(units, dtype):
    """sin and cos of `units` points evenly spaced from 0 to 4 pi, both ends included: [N, 2] (App.81-82, D3)."""
    angle = np.linspace(0, 4 * np.pi, units)
    return np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(dtype)


@kernel()
def input_moments(x, z, position, d, mean, inv):
    """Mean and 1 / deviation over batch and units of each channel of [x, z, p0, p1, d]."""
    B, N, D = d.shape
    total, total_sq = np.zeros(4 + D), np.zeros(4 + D)
    for sweep in range(2):
        for b in range(B):
            s = np.zeros(4 + D, d.dtype)
            for n in range(N):
                first = (x[b, n], z[b, n], position[n, 0], position[n, 1])
                if sweep == 0:
                    for c in range(4):
                        s[c] += first[c]
                    for c in range(D):
                        s[4 + c] += d[b, n, c]
                else:
                    for c in range(4):
                        s[c] += (first[c] - mean[c]) ** 2
                    for c in range(D):
                        v = d[b, n, c] - mean[4 + c]
                        s[4 + c] += v * v
            if sweep == 0:
                total += s
            else:
                total_sq += s
        if sweep == 0:
            mean[:] = total / (B * N)
    inv[:] = 1 / np.sqrt(total_sq / (B * N) + EPS)


@kernel()
def fill_input(x, z, position, d, stats, b, beta, mean, inv, out):
    """out[b, n] = [s0, s1, BatchNorm([x, z, p0, p1, d]) + beta, b]: concatenated without temporaries."""
    B, N, D = d.shape
    for i in range(B):
        for n in range(N):
            for c in range(8):
                out[i, n, c] = stats[n, c]
            out[i, n, 8] = (x[i, n] - mean[0]) * inv[0] + beta[0]
            out[i, n, 9] = (z[i, n] - mean[1]) * inv[1] + beta[1]
            out[i, n, 10] = (position[n, 0] - mean[2]) * inv[2] + beta[2]
            out[i, n, 11] = (position[n, 1] - mean[3]) * inv[3] + beta[3]
            for c in range(D):
                out[i, n, 12 + c] = (d[i, n, c] - mean[4 + c]) * inv[4 + c] + beta[4 + c]
            out[i, n, 12 + D] = b[n]


@kernel()
def input_sums(g, m3, beta, total, total_xhat, g_stats, g_b):
    """Sums of g and g xhat per normalised channel; g of the tiled statistics and bias, summed over the batch."""
    B, N, channels = g.shape
    normalised = channels - 9
    for i in range(B):
        s, sx = np.zeros_like(beta), np.zeros_like(beta)
        for n in range(N):
            for c in range(8):
                g_stats[n, c] += g[i, n, c]
            g_b[n] += g[i, n, channels - 1]
            for c in range(normalised):
                s[c] += g[i, n, 8 + c]
                sx[c] += g[i, n, 8 + c] * (m3[i, n, 8 + c] - beta[c])
        total += s
        total_xhat += sx


@kernel()
def input_vjp(g, m3, beta, inv, mean_g, mean_gx, gx, gz, gd):
    """Gradient through the batch norm of ComputeH's input, for x, z and d."""
    B, N, D = gd.shape
    for i in range(B):
        for n in range(N):
            for c in range(2):
                xhat = m3[i, n, 8 + c] - beta[c]
                v = inv[c] * (g[i, n, 8 + c] - mean_g[c] - xhat * mean_gx[c])
                if c == 0:
                    gx[i, n] = v
                else:
                    gz[i, n] = v
            for c in range(D):
                xhat = m3[i, n, 12 + c] - beta[4 + c]
                gd[i, n, c] = inv[4 + c] * (g[i, n, 12 + c] - mean_g[4 + c] - xhat * mean_gx[4 + c])


def _compute_h_input_vjp(g, tape, wanted):
    m3, beta, inv = tape["m3"], tape["beta"], tape["inv"]
    g = np.ascontiguousarray(g)
    B, N, channels = g.shape
    total, total_xhat = np.zeros(channels - 9), np.zeros(channels - 9)
    g_stats, g_b = np.zeros((N, 8), g.dtype), np.zeros(N, g.dtype)
    input_sums(g, m3, beta, total, total_xhat, g_stats, g_b)
    mean_g, mean_gx = ((t / (B * N)).astype(g.dtype) for t in (total, total_xhat))
    gx, gz = np.empty((B, N), g.dtype), np.empty((B, N), g.dtype)
    gd = np.empty((B, N, channels - 13), g.dtype)
    input_vjp(g, m3, beta, inv, mean_g, mean_gx, gx, gz, gd)
    return {0: gx, 1: gz, 2: gd, 3: g_stats, 4: g_b, 5: total.astype(g.dtype)}


@block(vjp=_compute_h_input_vjp)
def compute_h_input(x, z, d, stats, b, beta, *, tape=NO_TAPE):
    """m3 = [s0, s1, BatchNorm([x, z, p0, p1, d], [0, 1]) + beta, b] (App.83-95), tiled to [B, N, 13 + D].

    x, z [B, N]; d [B, N, D]; stats [N, 8]; b [N]; beta [4 + D].
    """
    B, N, D = d.shape
    if x.shape != (B, N) or z.shape != (B, N) or stats.shape != (N, 8) or b.shape != (N,) or beta.shape != (4 + D,):
        raise ValueError(f"compute_h_input: x {x.shape}, z {z.shape}, d {d.shape}, stats {stats.shape}, b {b.shape}, "
                         f"beta {beta.shape} do not fit")
    position, d = position_code(N, d.dtype), np.ascontiguousarray(d)
    x, z = np.ascontiguousarray(x), np.ascontiguousarray(z)
    mean, inv = np.empty(4 + D, d.dtype), np.empty(4 + D, d.dtype)
    input_moments(x, z, position, d, mean, inv)
    m3 = np.empty((B, N, 13 + D), d.dtype)
    fill_input(x, z, position, d, stats, b, beta, mean, inv, m3)
    tape.update(m3=m3, beta=beta, inv=inv)
    return m3


@kernel()
def add_gated(d, gate, e, out):
    """out += d gate[..., None] + e, in one pass."""
    rows, channels = d.shape
    for r in range(rows):
        for c in range(channels):
            out[r, c] += d[r, c] * gate[r] + e[c]


@kernel()
def gate_vjp(g, d, gate, gd, gz):
    """Gradients of `d gate[..., None]` with respect to d and, through the sigmoid, to z."""
    rows, channels = d.shape
    for r in range(rows):
        total = d.dtype.type(0)
        for c in range(channels):
            gd[r, c] = g[r, c] * gate[r]
            total += g[r, c] * d[r, c]
        gz[r] = total * gate[r] * (1 - gate[r])


def _error_signal_vjp(g, tape, wanted):
    d, gate, h, E = (tape[k] for k in ("d", "gate", "h", "E"))
    rows = np.ascontiguousarray(g).reshape(d.shape)
    gd, gz, gh = np.empty_like(d), np.empty_like(gate), np.empty_like(h)

    def part(i, k):
        gate_vjp(rows[i:k], d[i:k], gate[i:k], gd[i:k], gz[i:k])
        np.matmul(rows[i:k], E.T, out=gh[i:k])
        return np.matmul(h[i:k].T, rows[i:k])

    gE = sum(in_parts(part, len(rows), 2 * h.size * E.shape[1]))
    return {
        0: gd.reshape(g.shape),
        1: gz.reshape(g.shape[:2]),
        2: gh.reshape(g.shape[:2] + (E.shape[0],)),
        3: gE,
        4: np.matmul(np.ones(len(rows), rows.dtype), rows),
    }


@block(vjp=_error_signal_vjp)
def error_signal(d, z, h, E, e, *, tape=NO_TAPE):
    """delta = d sigmoid(z) + h E + e (App.31): d [B, N, D], z [B, N], h [B, N, H], E [H, D], e [D] -> [B, N, D]."""
    if E.shape != (h.shape[2], d.shape[2]) or e.shape != d.shape[2:]:
        raise ValueError(f"error_signal: E {E.shape}, e {e.shape} do not fit h {h.shape}, d {d.shape}")
    rows = np.ascontiguousarray(d).reshape(-1, d.shape[2])
    h = np.ascontiguousarray(h).reshape(len(rows), -1)
    gate = sigmoid(np.ascontiguousarray(z)).reshape(-1)
    out = product(h, E)
    in_parts(lambda i, k: add_gated(rows[i:k], gate[i:k], e, out[i:k]), len(rows), 8 * rows.size)
    tape.update(d=rows, gate=gate, h=h, E=E)
    return out.reshape(d.shape)
