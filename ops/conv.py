"""ConvBatch and ConvUnit with batch norm and ReLU (App.65-79, App.96-103), forward and VJP.

A tensor `[B, N, C]` is kept as its rows `[B N, C]`.  Tap k of a convolution then reads the row
`shift_k` further on: `(k - left) N` rows for ConvBatch, `k - left` rows within the same batch
entry for ConvUnit.  One tile of rows at a time, the taps are gathered side by side `[rows, K C]`
into a buffer that stays in the second-level cache, so that the whole convolution is one matrix
product with a deep inner dimension; batch-norm moments are taken while the tile is still hot.

The VJP gathers the taps of the output's gradient, `[rows, K S]`, with the shifts reversed: from
that one buffer come both products, the input's gradient and the kernel's.

Of a chain of convolutions only the normalised outputs are kept; what the next one saw, relu(xhat +
beta), is made again a tile at a time where its VJP needs it.
"""
import numpy as np

from ops.primitive import EPS, NO_TAPE, block, kernel, scratch
from ops.threads import in_parts

BATCH, UNIT = 0, 1  # the axis convolved along
TILE_FLOATS = 96 * 1024  # of gathered taps: 384 KiB of float32, well inside a second-level cache


@kernel()
def gather_taps(rows, first, count, taps, left, stride, length, sign, out):
    """out[i, k C:(k+1) C] = rows[first + i + sign (k - left) stride], or zeros beyond the sequence.

    `rows` [R, C] is a run of sequences of `length` rows each; a tap never crosses into the next.
    """
    channels = rows.shape[1]
    for i in range(count):
        position = (first + i) % length
        for k in range(taps):
            shift = sign * (k - left) * stride
            column = k * channels
            if 0 <= position + shift < length:
                source = first + i + shift
                for c in range(channels):
                    out[i, column + c] = rows[source, c]
            else:
                for c in range(channels):
                    out[i, column + c] = 0


@kernel()
def tile_moments(rows, pivot, total, total_sq):
    """Add a tile's sums of `rows - pivot` and of its square, per channel.

    The pivot (the first row) keeps the one-pass variance from cancelling; a tile is summed in the
    array's own precision, the tiles in float64.
    """
    n, channels = rows.shape
    s, ss = np.zeros_like(pivot), np.zeros_like(pivot)
    for i in range(n):
        for c in range(channels):
            d = rows[i, c] - pivot[c]
            s[c] += d
            ss[c] += d * d
    for c in range(channels):
        total[c] += s[c]
        total_sq[c] += ss[c]


@kernel()
def normalise_rectify(rows, coefficients, out):
    """rows <- (rows - mean) inv, out = relu(rows + beta), where coefficients = [mean, inv, beta].

    In place, and the three vectors in one array: with fewer pointers to compare, LLVM can prove at run
    time that they do not overlap and vectorises the loop.
    """
    n, channels = rows.shape
    zero = rows.dtype.type(0)
    for i in range(n):
        for c in range(channels):
            v = (rows[i, c] - coefficients[0, c]) * coefficients[1, c]
            rows[i, c] = v
            v += coefficients[2, c]
            out[i, c] = zero if v < zero else v


@kernel()
def rectified_sums(g, xhat, beta, total, total_xhat):
    """Per channel, the sums of gm and of gm xhat, where gm is g with the rectified entries zeroed."""
    n, channels = g.shape
    zero = g.dtype.type(0)
    block_rows = 512  # summed in the array's precision, then added in float64
    for start in range(0, n, block_rows):
        s, sx = np.zeros_like(beta), np.zeros_like(beta)
        for i in range(start, min(start + block_rows, n)):
            for c in range(channels):
                gm = g[i, c] if xhat[i, c] + beta[c] > zero else zero
                s[c] += gm
                sx[c] += gm * xhat[i, c]
        for c in range(channels):
            total[c] += s[c]
            total_xhat[c] += sx[c]


@kernel()
def batch_norm_relu_vjp(g, xhat, coefficients, out):
    """Gradient through ReLU, offset and batch norm: out = inv (gm - mean(gm) - xhat mean(gm xhat)).

    coefficients = [inv, beta, mean(gm), mean(gm xhat)], one array for the reason above.
    """
    n, channels = g.shape
    zero = g.dtype.type(0)
    for i in range(n):
        for c in range(channels):
            gm = g[i, c] if xhat[i, c] + coefficients[1, c] > zero else zero
            out[i, c] = coefficients[0, c] * (gm - coefficients[2, c] - xhat[i, c] * coefficients[3, c])


@kernel()
def rectify(xhat, beta, out):
    """out = relu(xhat + beta): what the next convolution saw."""
    n, channels = xhat.shape
    zero = xhat.dtype.type(0)
    for i in range(n):
        for c in range(channels):
            v = xhat[i, c] + beta[c]
            out[i, c] = zero if v < zero else v


def _layout(shape, axis):
    """(row stride of one step along `axis`, rows in a sequence that taps may not leave)."""
    B, N, _ = shape
    return (N, B * N) if axis == BATCH else (1, N)


def _tiles(first, end, width):
    """(first row, number of rows) of tiles whose gathered taps stay in cache."""
    step = max(64, TILE_FLOATS // width)
    return [(r, min(step, end - r)) for r in range(first, end, step)]


def _convolve(rows, w, layout, out, with_moments):
    """Cross-correlation of rows [B N, C] into `out` [B N, S]; (mean, variance) of its channels if asked for."""
    taps, channels, S = w.shape
    stride, length = layout
    side_by_side = np.ascontiguousarray(w).reshape(taps * channels, S)

    def part(first, end):
        total, total_sq = np.zeros(S), np.zeros(S)
        for start, count in _tiles(first, end, taps * channels):
            cols, tile = scratch("taps", (count, taps * channels), rows.dtype), out[start:start + count]
            gather_taps(rows, start, count, taps, (taps - 1) // 2, stride, length, 1, cols)
            np.matmul(cols, side_by_side, out=tile)
            if with_moments:
                tile_moments(tile, out[first], total, total_sq)
        shift = total / (end - first)
        return end - first, out[first] + shift, total_sq / (end - first) - shift * shift

    return _pooled(in_parts(part, len(rows), rows.size * taps * S))


def _pooled(parts):
    """(mean, variance) of several parts taken together, each (count, mean, variance)."""
    if len(parts) == 1:
        return parts[0][1:]
    n = sum(count for count, _, _ in parts)
    mean = sum(count * m for count, m, _ in parts) / n
    return mean, sum(count * (v + (m - mean) ** 2) for count, m, v in parts) / n


def _convolve_vjp(gu, tile_of_x, w, layout, want_x):
    """Gradients of `_convolve` with respect to its rows and w, given that of its output, gu [B N, S].

    tile_of_x(start, count) gives rows of its input.
    """
    taps, channels, S = w.shape
    stride, length = layout
    back = np.ascontiguousarray(w.transpose(0, 2, 1)).reshape(taps * S, channels)
    gx = np.empty((len(gu), channels), gu.dtype) if want_x else None

    def part(first, end):
        gw = np.zeros((channels, taps * S), gu.dtype)
        for start, count in _tiles(first, end, taps * S):
            cols = scratch("taps", (count, taps * S), gu.dtype)
            gather_taps(gu, start, count, taps, (taps - 1) // 2, stride, length, -1, cols)
            if want_x:
                np.matmul(cols, back, out=gx[start:start + count])
            gw += np.matmul(tile_of_x(start, count).T, cols)
        return gw

    gw = sum(in_parts(part, len(gu), 2 * gu.size * taps * channels))
    return gx, gw.reshape(channels, taps, S).transpose(1, 0, 2)


def _check(x, w, name, beta=None):
    if w.ndim != 3 or x.ndim != 3 or x.shape[2] != w.shape[1]:
        raise ValueError(f"{name}: input {x.shape} does not fit kernel {w.shape}; want [B, N, C] and [K, C, S]")
    if beta is not None and beta.shape != (w.shape[2],):
        raise ValueError(f"{name}: beta has shape {beta.shape}, want ({w.shape[2]},) for kernel {w.shape}")


def _as_rows(x):
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


def _conv_vjp(g, tape, wanted):
    x, w = tape["x"], tape["w"]
    rows = _as_rows(x)
    gx, gw = _convolve_vjp(_as_rows(g), lambda i, n: rows[i:i + n], w, _layout(x.shape, tape["axis"]), 0 in wanted)
    return {0: gx if gx is None else gx.reshape(x.shape), 1: gw}


@block(vjp=_conv_vjp)
def conv(x, w, axis, *, tape=NO_TAPE):
    """Convolution alone: x [B, N, C], w [K, C, S] -> [B, N, S] along `axis` (BATCH or UNIT).

    Cross-correlation, stride 1, zero padding to the same length (K - 1) // 2 before.
    Raises ValueError where the channels differ.
    """
    _check(x, w, "conv")
    tape.update(x=x, w=w, axis=axis)
    out = np.empty((x.shape[0] * x.shape[1], w.shape[2]), x.dtype)
    _convolve(_as_rows(x), w, _layout(x.shape, axis), out, False)
    return out.reshape(x.shape[:2] + (w.shape[2],))


def _normalise(rows, moments, beta, out):
    """rows <- xhat in place, out = relu(xhat + beta); returns 1 / deviation."""
    mean, variance = moments
    inv = 1 / np.sqrt(np.maximum(variance, 0) + EPS)
    coefficients = np.array([mean, inv, beta], rows.dtype)
    in_parts(lambda i, k: normalise_rectify(rows[i:k], coefficients, out[i:k]), len(rows), 8 * rows.size)
    return coefficients[1]


def _normalise_vjp(g, xhat, beta, inv):
    """Gradient of `_normalise` with respect to its rows (in a buffer used again) and to beta."""
    def part(first, end):
        total, total_xhat = np.zeros(xhat.shape[1]), np.zeros(xhat.shape[1])
        rectified_sums(g[first:end], xhat[first:end], beta, total, total_xhat)
        return total, total_xhat

    total, total_xhat = map(sum, zip(*in_parts(part, len(g), 8 * g.size)))
    coefficients = np.array([inv, beta, total / len(g), total_xhat / len(g)], xhat.dtype)
    gu = scratch("gu", xhat.shape, xhat.dtype)
    in_parts(lambda i, k: batch_norm_relu_vjp(g[i:k], xhat[i:k], coefficients, gu[i:k]), len(g), 8 * g.size)
    return gu, total.astype(xhat.dtype)


def _conv_bn_relu_vjp(g, tape, wanted):
    shape, axes, weights, kept = (tape[k] for k in ("shape", "axes", "weights", "kept"))
    rows, grads, first = _as_rows(g), {}, _as_rows(tape["x"])
    for i in reversed(range(len(axes))):
        (xhat, inv), w, beta = kept[i], weights[2 * i], weights[2 * i + 1]
        gu, grads[3 + 2 * i] = _normalise_vjp(rows, xhat, beta, inv)

        def tile_of_x(start, count):
            if i == 0:
                return first[start:start + count]
            tile = scratch("rectified", (count, w.shape[1]), xhat.dtype)
            rectify(kept[i - 1][0][start:start + count], weights[2 * i - 1], tile)
            return tile

        rows, grads[2 + 2 * i] = _convolve_vjp(gu, tile_of_x, w, _layout(shape, axes[i]), i > 0 or 0 in wanted)
    grads[0] = rows if rows is None else rows.reshape(shape)
    return grads


@block(vjp=_conv_bn_relu_vjp)
def conv_bn_relu(x, axes, *weights, tape=NO_TAPE):
    """A chain of relu(BatchNorm(Conv(x, w), [0, 1]) + beta): x [B, N, C] -> [B, N, S].

    axes: one of BATCH (ConvBatch) and UNIT (ConvUnit) for each; weights w [K, C, S], beta [S] of each in
    turn (App.67-68, App.70-73, App.96-103).  Batch norm takes its statistics over batch and unit axes
    together, population variance, eps 1e-6 (D1).  Raises ValueError where the channels differ.
    """
    rows, shape, kept = _as_rows(x), x.shape, []
    for i, axis in enumerate(axes):
        w, beta = weights[2 * i], weights[2 * i + 1]
        _check(rows.reshape(shape[:2] + (-1,)), w, "conv_bn_relu", beta)
        size = (len(rows), w.shape[2])
        xhat = scratch("xhat", size, rows.dtype) if tape is NO_TAPE else np.empty(size, rows.dtype)
        moments = _convolve(rows, w, _layout(shape, axis), xhat, True)
        last = i == len(axes) - 1  # what only the next convolution reads goes into a buffer used again
        out = np.empty_like(xhat) if last else scratch(f"out{i % 2}", xhat.shape, xhat.dtype)
        kept.append((xhat, _normalise(xhat, moments, beta, out)))
        rows = out
    tape.update(x=x, shape=shape, axes=axes, weights=weights, kept=kept)
    return rows.reshape(shape[:2] + (-1,))
