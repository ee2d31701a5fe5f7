"""ConvBatch and ConvUnit with batch norm and ReLU (App.65-79, App.96-103), forward and VJP.

A tensor `[C, B, N]` is C runs of B N numbers, one a channel.  What is done to a channel (its batch norm, its
offset, the ReLU) then is a loop over one contiguous run however few channels there are, and tap k of a
convolution is every run `shift_k` further on: `(k - left) N` numbers for ConvBatch, `k - left` within the
same batch entry for ConvUnit.  One tile of columns at a time, the taps are gathered one below the other
`[K C, columns]` into a buffer that stays in the second-level cache, so that the whole convolution is one
matrix product with a deep inner dimension.

The VJP gathers the taps of the output's gradient, `[K S, columns]`, with the shifts reversed: from that one
buffer come both products, the input's gradient and the kernel's.

Of a chain of convolutions only the normalised outputs are kept; what the next one saw, relu(xhat + beta),
is made again a tile at a time where its VJP needs it.
"""
import numpy as np

from ops.rule.memory import scratch
from ops.rule.norm import PIECE, as_runs, moments
from ops.rule.primitive import NO_TAPE, block, kernel
from ops.rule.threads import in_parts

BATCH, UNIT = 0, 1  # the axis convolved along
TILE_FLOATS = 96 * 1024  # of gathered taps: 384 KiB of float32, well inside a second-level cache


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
def normalise_rectify(u, beta, out, inv):
    """u <- xhat = (u - mean) inv in place, out = relu(xhat + beta), for each channel; fills inv = 1 / deviation."""
    channels, size = u.shape
    zero = u.dtype.type(0)
    for c in range(channels):
        run, rectified, offset = u[c], out[c], beta[c]
        mean, scale = moments(run)
        inv[c] = scale
        for i in range(size):
            xhat = (run[i] - mean) * scale
            run[i] = xhat
            v = xhat + offset
            rectified[i] = zero if v < zero else v


@kernel()
def normalise_rectify_vjp(g, xhat, beta, inv, out, g_beta):
    """Gradient through ReLU, offset and batch norm, gm being g with the rectified entries zeroed.

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
                gm = g_piece[i] if piece[i] + offset > zero else zero
                s += gm
                sx += gm * piece[i]
            total += s
            total_xhat += sx
        mean, mean_xhat, scale = g.dtype.type(total / size), g.dtype.type(total_xhat / size), inv[c]
        for i in range(size):
            gm = of_out[i] if normed[i] + offset > zero else zero
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
    """(numbers from one to the next along `axis`, numbers in a sequence that taps may not leave)."""
    _, B, N = shape
    return (N, B * N) if axis == BATCH else (1, N)


def _tiles(first, end, height):
    """(first column, number of columns) of tiles whose gathered taps stay in cache."""
    step = max(64, TILE_FLOATS // height)
    return [(i, min(step, end - i)) for i in range(first, end, step)]


def _convolve(runs, w, layout, out):
    """Cross-correlation of runs [C, B N] with w [K, C, S] into `out` [S, B N]."""
    taps, channels, S = w.shape
    below_each_other = w.reshape(taps * channels, S).T

    def part(first, end):
        for start, count in _tiles(first, end, taps * channels):
            rows = scratch("taps", (taps * channels, count), runs.dtype)
            gather_taps(runs, start, taps, (taps - 1) // 2, *layout, 1, rows)
            np.matmul(below_each_other, rows, out=out[:, start:start + count])

    in_parts(part, runs.shape[1], runs.size * taps * S)


def _convolve_vjp(gu, tile_of_x, w, layout, want_x):
    """Gradients of `_convolve` with respect to its runs and w, given that of its output, gu [S, B N].

    tile_of_x(start, count) gives columns of its input.
    """
    taps, channels, S = w.shape
    back = w.transpose(1, 0, 2).reshape(channels, taps * S)
    gx = np.empty((channels, gu.shape[1]), gu.dtype) if want_x else None

    def part(first, end):
        gw = np.zeros((channels, taps * S), gu.dtype)
        for start, count in _tiles(first, end, taps * S):
            rows = scratch("taps", (taps * S, count), gu.dtype)
            gather_taps(gu, start, taps, (taps - 1) // 2, *layout, -1, rows)
            if want_x:
                np.matmul(back, rows, out=gx[:, start:start + count])
            gw += np.matmul(tile_of_x(start, count), rows.T)
        return gw

    gw = sum(in_parts(part, gu.shape[1], 2 * gu.size * taps * channels))
    return gx, gw.reshape(channels, taps, S).transpose(1, 0, 2)


def _check(x, w, offset, name):
    if w.ndim != 3 or x.ndim != 3 or x.shape[0] != w.shape[1]:
        raise ValueError(f"{name}: input {x.shape} does not fit kernel {w.shape}; want [C, B, N] and [K, C, S]")
    if offset.shape != (w.shape[2],):
        raise ValueError(f"{name}: offset has shape {offset.shape}, want ({w.shape[2]},) for kernel {w.shape}")


def _conv_vjp(g, tape, wanted):
    x, w = tape["x"], tape["w"]
    runs, of_out = as_runs(x), as_runs(g)
    gx, gw = _convolve_vjp(of_out, lambda i, n: runs[:, i:i + n], w, _layout(x.shape, tape["axis"]), 0 in wanted)
    return {0: gx if gx is None else gx.reshape(x.shape), 1: gw, 2: of_out.sum(axis=1)}


@block(vjp=_conv_vjp)
def conv(x, w, b, axis, *, tape=NO_TAPE):
    """Conv(x, w) + b: x [C, B, N], w [K, C, S], b [S] -> [S, B, N] along `axis` (BATCH or UNIT).

    Cross-correlation, stride 1, zero padding to the same length (K - 1) // 2 before.
    Raises ValueError where the channels differ.
    """
    _check(x, w, b, "conv")
    tape.update(x=x, w=w, axis=axis)
    out = np.empty((w.shape[2], x.shape[1] * x.shape[2]), x.dtype)
    _convolve(as_runs(x), w, _layout(x.shape, axis), out)
    out += b[:, None]
    return out.reshape((-1,) + x.shape[1:])


def _normalise(u, beta, out):
    """u <- xhat in place, out = relu(xhat + beta); returns 1 / deviation."""
    inv = np.empty(len(u), u.dtype)
    in_parts(lambda i, k: normalise_rectify(u[i:k], beta[i:k], out[i:k], inv[i:k]), len(u), 8 * u.size)
    return inv


def _normalise_vjp(g, xhat, beta, inv):
    """Gradient of `_normalise` with respect to its u (in a buffer used again) and to beta."""
    gu, g_beta = scratch("gu", xhat.shape, xhat.dtype), np.empty(len(xhat), xhat.dtype)
    in_parts(lambda i, k: normalise_rectify_vjp(g[i:k], xhat[i:k], beta[i:k], inv[i:k], gu[i:k], g_beta[i:k]),
             len(xhat), 8 * xhat.size)
    return gu, g_beta


def _conv_bn_relu_vjp(g, tape, wanted):
    shape, axes, weights, kept = (tape[k] for k in ("shape", "axes", "weights", "kept"))
    runs, grads, first = as_runs(g), {}, as_runs(tape["x"])
    for i in reversed(range(len(axes))):
        (xhat, inv), w, beta = kept[i], weights[2 * i], weights[2 * i + 1]
        gu, grads[3 + 2 * i] = _normalise_vjp(runs, xhat, beta, inv)

        def tile_of_x(start, count):
            if i == 0:
                return first[:, start:start + count]
            tile = scratch("rectified", (w.shape[1], count), xhat.dtype)
            rectify(kept[i - 1][0], weights[2 * i - 1], start, tile)
            return tile

        runs, grads[2 + 2 * i] = _convolve_vjp(gu, tile_of_x, w, _layout(shape, axes[i]), i > 0 or 0 in wanted)
    grads[0] = runs if runs is None else runs.reshape(shape)
    return grads


@block(vjp=_conv_bn_relu_vjp)
def conv_bn_relu(x, axes, *weights, tape=NO_TAPE):
    """A chain of relu(BatchNorm(Conv(x, w), [0, 1]) + beta): x [C, B, N] -> [S, B, N].

    axes: one of BATCH (ConvBatch) and UNIT (ConvUnit) for each; weights w [K, C, S], beta [S] of each in
    turn (App.67-68, App.70-73, App.96-103).  Batch norm takes its statistics over batch and unit axes
    together, population variance, eps 1e-6 (D1).  Raises ValueError where the channels differ.
    """
    runs, shape, kept, weights = as_runs(x), x.shape, [], [np.ascontiguousarray(a) for a in weights]
    for i, axis in enumerate(axes):
        w, beta = weights[2 * i], weights[2 * i + 1]
        _check(runs.reshape((-1,) + shape[1:]), w, beta, "conv_bn_relu")
        size = (w.shape[2], runs.shape[1])
        xhat = scratch("xhat", size, runs.dtype) if tape is NO_TAPE else np.empty(size, runs.dtype)
        _convolve(runs, w, _layout(shape, axis), xhat)
        last = i == len(axes) - 1  # what only the next convolution reads goes into a buffer used again
        out = np.empty_like(xhat) if last else scratch(f"out{i % 2}", xhat.shape, xhat.dtype)
        kept.append((xhat, _normalise(xhat, beta, out)))
        runs = out
    tape.update(x=x, shape=shape, axes=axes, weights=weights, kept=kept)
    return runs.reshape((-1,) + shape[1:])
