"""Chains of ConvBatch and ConvUnit, each with batch norm and ReLU (App.67-77, App.96-103), forward and VJP.

Hidden tensors [B, N, C] lie in memory as [C, B, N]: C runs of B N numbers, one a channel, of which the paper's
order is a view.  What is done to a channel (its batch norm, its offset, the ReLU) then is a loop over one
contiguous run however few channels there are, and tap k of a convolution is every run `shift_k` further on:
`(k - left) N` numbers for ConvBatch, `k - left` within the same batch entry for ConvUnit.  One tile of columns
at a time, the taps are gathered one below the other `[K C, columns]` into a buffer that stays in the
second-level cache, so that the whole convolution is one matrix product with a deep inner dimension.

The VJP gathers the taps of the output's gradient, `[K S, columns]`, with the shifts reversed: from that one
buffer come both products, the input's gradient and the kernel's.  Of a chain only the normalised outputs are
kept; what the next one saw, relu(xhat + beta), is made again a tile at a time where its VJP needs it.
"""
import numpy as np

from ops.rule.memory import scratch
from ops.rule.primitive import EPS, kernel
from ops.rule.threads import in_parts, matmul

BATCH, UNIT = 0, 1  # the axis convolved along
TILE_FLOATS = 96 * 1024  # of gathered taps: 384 KiB of float32, well inside a second-level cache
PIECE = 4096  # of a run: summed in the array's own precision, then added in float64


def channels_first(h):
    """[B, N, C] -> its runs [C, B N]: no copy of what one of our kernels made."""
    return np.ascontiguousarray(h.transpose(2, 0, 1)).reshape(h.shape[2], -1)


def channels_last(runs, shape):
    """Runs [C, B N] -> a view [B, N, C], shape = (B, N)."""
    return runs.reshape((-1,) + tuple(shape)).transpose(1, 2, 0)


@kernel()
def gather_taps(runs, first, taps, left, stride, length, sign, out):
    """out[k C + c, i] = runs[c, first + i + sign (k - left) stride], or zero beyond the sequence.

    `runs` [C, R] are runs of sequences of `length` numbers each; a tap never crosses into the next one.
    """
    channels, size = runs.shape
    count = out.shape[1]
    for k in range(taps):
        shift = sign * (k - left) * stride
        low = min(max(0, -shift - first), count)               # columns low..high read within the run
        high = max(min(count, size - shift - first), low)
        for c in range(channels):
            row = out[k * channels + c]
            source, target = runs[c, first + low + shift:first + high + shift], row[low:high]
            for i in range(len(target)):                       # a loop over two contiguous runs is vectorised
                target[i] = source[i]
            row[:low] = 0
            row[high:] = 0
        if length < size:
            for s in range(min(abs(shift), length)):           # the ends of sequences that this tap looks beyond
                end = length - 1 - s if shift > 0 else s
                for i in range((end - first) % length, count, length):
                    for c in range(channels):
                        out[k * channels + c, i] = 0


@kernel()
def normalise(u, beta, floor, out, inv):
    """u <- xhat = (u - mean) inv in place, out = max(xhat + beta, floor), for each channel; fills inv = 1 / deviation."""
    channels, size = u.shape
    for c in range(channels):
        run, rectified, offset, total, squares = u[c], out[c], beta[c], 0.0, 0.0
        for start in range(0, size, PIECE):
            s, piece = u.dtype.type(0), run[start:start + PIECE]
            for i in range(len(piece)):
                s += piece[i]
            total += s
        mean = u.dtype.type(total / size)
        for start in range(0, size, PIECE):
            s, piece = u.dtype.type(0), run[start:start + PIECE]
            for i in range(len(piece)):
                s += (piece[i] - mean) * (piece[i] - mean)
            squares += s
        scale = u.dtype.type(1 / np.sqrt(squares / size + EPS))
        inv[c] = scale
        for i in range(size):
            xhat = (run[i] - mean) * scale
            run[i] = xhat
            v = xhat + offset
            rectified[i] = floor if v < floor else v


@kernel()
def normalise_vjp(g, xhat, beta, floor, inv, out, g_beta):
    """Gradient of `normalise`, gm being g with the entries zeroed that were at the floor.

    out = inv (gm - mean(gm) - xhat mean(gm xhat)) for each channel; fills g_beta = sum(gm).
    """
    channels, size = g.shape
    zero = g.dtype.type(0)
    for c in range(channels):
        of_out, normed, target, offset = g[c], xhat[c], out[c], beta[c]
        total, total_xhat = 0.0, 0.0
        for start in range(0, size, PIECE):
            s, sx, g_piece, piece = zero, zero, of_out[start:start + PIECE], normed[start:start + PIECE]
            for i in range(len(piece)):
                gm = g_piece[i] if piece[i] + offset > floor else zero
                s += gm
                sx += gm * piece[i]
            total += s
            total_xhat += sx
        mean, mean_xhat, scale = g.dtype.type(total / size), g.dtype.type(total_xhat / size), inv[c]
        for i in range(size):
            gm = of_out[i] if normed[i] + offset > floor else zero
            target[i] = scale * (gm - mean - normed[i] * mean_xhat)
        g_beta[c] = total


@kernel()
def rectify(xhat, beta, first, out):
    """out = relu(xhat + beta), some columns from `first` on: what the next convolution saw."""
    channels, count = out.shape
    zero = xhat.dtype.type(0)
    for c in range(channels):
        source, target, offset = xhat[c, first:first + count], out[c], beta[c]
        for i in range(count):
            v = source[i] + offset
            target[i] = zero if v < zero else v


def _layout(shape, axis):
    """(numbers from one to the next along `axis`, numbers in a sequence that taps may not leave), shape = (B, N)."""
    B, N = shape
    return (N, B * N) if axis == BATCH else (1, N)


def _tiles(first, end, height):
    """(first column, number of columns) of tiles whose gathered taps stay in cache."""
    step = max(64, TILE_FLOATS // height)
    return [(i, min(step, end - i)) for i in range(first, end, step)]


def convolve(runs, w, shape, axis, out):
    """Cross-correlation of runs [C, B N] with w [K, C, S] along `axis`, into `out` [S, B N]; shape = (B, N)."""
    taps, channels, S = w.shape
    if len(runs) != channels:
        raise ValueError(f"convolution: input of {len(runs)} channels does not fit kernel {w.shape}, [K, C, S]")
    below_each_other, layout = w.reshape(taps * channels, S).T, _layout(shape, axis)

    def part(first, end):
        for start, count in _tiles(first, end, taps * channels):
            rows = scratch("taps", (taps * channels, count), runs.dtype)
            gather_taps(runs, start, taps, (taps - 1) // 2, *layout, 1, rows)
            matmul(below_each_other, rows, out[:, start:start + count])

    in_parts(part, runs.shape[1], runs.size * taps * S)


def convolve_vjp(g, tile_of_x, w, shape, axis, want_x):
    """Gradients of `convolve` with respect to its runs (None unless want_x) and w, given its output's, g [S, B N].

    tile_of_x(start, count) gives columns of its input.
    """
    taps, channels, S = w.shape
    back, layout = w.transpose(1, 0, 2).reshape(channels, taps * S), _layout(shape, axis)
    gx = np.empty((channels, g.shape[1]), g.dtype) if want_x else None

    def part(first, end):
        gw = np.zeros((channels, taps * S), g.dtype)
        for start, count in _tiles(first, end, taps * S):
            rows = scratch("taps", (taps * S, count), g.dtype)
            gather_taps(g, start, taps, (taps - 1) // 2, *layout, -1, rows)
            if want_x:
                matmul(back, rows, gx[:, start:start + count])
            gw += matmul(tile_of_x(start, count), rows.T)
        return gw

    gw = sum(in_parts(part, g.shape[1], 2 * g.size * taps * channels))
    return gx, gw.reshape(channels, taps, S).transpose(1, 0, 2)


def batch_norm_runs(u, beta, floor, out):
    """u <- xhat in place, out = max(xhat + beta, floor) (D1); returns 1 / deviation, [C]."""
    inv, floor = np.empty(len(u), u.dtype), u.dtype.type(floor)
    in_parts(lambda i, k: normalise(u[i:k], beta[i:k], floor, out[i:k], inv[i:k]), len(u), 8 * u.size)
    return inv


def batch_norm_runs_vjp(g, xhat, beta, floor, inv):
    """Gradients of `batch_norm_runs` with respect to its u, in a buffer used again, and to beta."""
    gu, g_beta, floor = scratch("gu", xhat.shape, xhat.dtype), np.empty(len(xhat), xhat.dtype), g.dtype.type(floor)
    in_parts(lambda i, k: normalise_vjp(g[i:k], xhat[i:k], beta[i:k], floor, inv[i:k], gu[i:k], g_beta[i:k]),
             len(xhat), 8 * xhat.size)
    return gu, g_beta


def chain(runs, shape, axes, weights, keep):
    """(out, kept): relu(BatchNorm(Conv(., w)) + beta) once for each of `axes`, from runs [C, B N] on.

    weights = (w, beta, w, beta, ...), w [K, C, S], beta [S], contiguous; shape = (B, N).  kept, if `keep`, is what
    `chain_vjp` needs: (xhat, inv, xhat, inv, ...).
    """
    kept = []
    for i, (axis, w, beta) in enumerate(zip(axes, weights[::2], weights[1::2])):
        size = (w.shape[2], runs.shape[1])
        if beta.shape != size[:1]:
            raise ValueError(f"convolution: offset {beta.shape} does not fit kernel {w.shape}, [K, C, S]")
        xhat = np.empty(size, runs.dtype) if keep else scratch("xhat", size, runs.dtype)
        convolve(runs, w, shape, axis, xhat)
        last = i == len(axes) - 1  # what only the next convolution reads goes into a buffer used again
        runs = np.empty_like(xhat) if last else scratch(f"out{i % 2}", size, xhat.dtype)
        kept += [xhat, batch_norm_runs(xhat, beta, 0, runs)]
    return runs, kept


def chain_vjp(g, first, shape, axes, weights, kept, want_first):
    """(gradient of `chain` with respect to its runs `first`, None unless wanted; [of w, of beta, of w, ...])."""
    grads = [None] * len(weights)
    for i in reversed(range(len(axes))):
        w, beta, xhat, inv = weights[2 * i], weights[2 * i + 1], kept[2 * i], kept[2 * i + 1]
        gu, grads[2 * i + 1] = batch_norm_runs_vjp(g, xhat, beta, 0, inv)

        def tile_of_x(start, count):
            if i == 0:
                return first[:, start:start + count]
            tile = scratch("rectified", (w.shape[1], count), xhat.dtype)
            rectify(kept[2 * i - 2], weights[2 * i - 1], start, tile)
            return tile

        g, grads[2 * i] = convolve_vjp(gu, tile_of_x, w, shape, axes[i], i > 0 or want_first)
    return g, grads
