"""ConvBatch and ConvUnit with batch norm and ReLU (App.65-79, App.96-103), forward and VJP.

A tensor `[B, N, C]` is kept as its rows `[B N, C]`.  Tap k of a convolution then reads the row
`shift_k` further on: `(k - left) N` rows for ConvBatch, `k - left` rows within the same batch
entry for ConvUnit.  One tile of rows at a time, the taps are gathered side by side `[rows, K C]`
into a buffer that stays in the second-level cache, so that the whole convolution is one matrix
product with a deep inner dimension; batch-norm moments are taken while the tile is still hot.

The VJP gathers the taps of the output's gradient, `[rows, K S]`, with the shifts reversed: from
that one buffer come both products, the input's gradient and the kernel's.
"""
import numpy as np

from ops.primitive import NO_TAPE, block, kernel, scratch

EPS = 1e-6  # inside the root of every batch norm (D1)
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
def tile_moments(rows, first, count, pivot, total, total_sq):
    """Add a tile's sums of `rows - pivot` and of its square, per channel.

    The pivot (the first row) keeps the one-pass variance from cancelling; a tile is summed in the
    array's own precision, the tiles in float64.
    """
    channels = rows.shape[1]
    s, ss = np.zeros_like(pivot), np.zeros_like(pivot)
    for i in range(first, first + count):
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


def _layout(shape, axis):
    """(row stride of one step along `axis`, rows in a sequence that taps may not leave)."""
    B, N, _ = shape
    return (N, B * N) if axis == BATCH else (1, N)


def _tiles(n_rows, width):
    """(first row, number of rows) of tiles whose gathered taps stay in cache."""
    step = max(64, TILE_FLOATS // width)
    return [(r, min(step, n_rows - r)) for r in range(0, n_rows, step)]


def _convolve(x, w, axis, after_tile=None):
    """Cross-correlation as rows [B N, S]; `after_tile(rows, first, count)` sees each finished tile."""
    taps, channels, S = w.shape
    stride, length = _layout(x.shape, axis)
    rows = np.ascontiguousarray(x).reshape(-1, channels)
    side_by_side = np.ascontiguousarray(w).reshape(taps * channels, S)
    out = np.empty((rows.shape[0], S), rows.dtype)
    for first, count in _tiles(rows.shape[0], taps * channels):
        cols = scratch("taps", (count, taps * channels), rows.dtype)
        gather_taps(rows, first, count, taps, (taps - 1) // 2, stride, length, 1, cols)
        np.matmul(cols, side_by_side, out=out[first:first + count])
        if after_tile is not None:
            after_tile(out, first, count)
    return out


def _convolve_vjp(gu, x, w, axis, want_x, want_w):
    """Gradients of `_convolve` with respect to x and w, given that of its rows, gu [B N, S]."""
    taps, channels, S = w.shape
    stride, length = _layout(x.shape, axis)
    rows = np.ascontiguousarray(x).reshape(-1, channels)
    back = np.ascontiguousarray(w.transpose(0, 2, 1)).reshape(taps * S, channels)
    gx = np.empty_like(rows) if want_x else None
    gw = np.zeros((channels, taps * S), rows.dtype)
    for first, count in _tiles(rows.shape[0], taps * S):
        cols = scratch("taps", (count, taps * S), rows.dtype)
        gather_taps(gu, first, count, taps, (taps - 1) // 2, stride, length, -1, cols)
        if want_x:
            np.matmul(cols, back, out=gx[first:first + count])
        if want_w:
            gw += np.matmul(rows[first:first + count].T, cols)
    gw = gw.reshape(channels, taps, S).transpose(1, 0, 2)
    return (gx.reshape(x.shape) if want_x else None), gw


def _check(x, w, name, beta=None):
    if w.ndim != 3 or x.ndim != 3 or x.shape[2] != w.shape[1]:
        raise ValueError(f"{name}: input {x.shape} does not fit kernel {w.shape}; want [B, N, C] and [K, C, S]")
    if beta is not None and beta.shape != (w.shape[2],):
        raise ValueError(f"{name}: beta has shape {beta.shape}, want ({w.shape[2]},) for kernel {w.shape}")


def _conv_vjp(g, tape, wanted):
    rows = np.ascontiguousarray(g).reshape(-1, g.shape[-1])
    gx, gw = _convolve_vjp(rows, tape["x"], tape["w"], tape["axis"], 0 in wanted, 1 in wanted)
    return {0: gx, 1: gw}


@block(vjp=_conv_vjp)
def conv(x, w, axis, *, tape=NO_TAPE):
    """Convolution alone: x [B, N, C], w [K, C, S] -> [B, N, S] along `axis` (BATCH or UNIT).

    Cross-correlation, stride 1, zero padding to the same length (K - 1) // 2 before.
    Raises ValueError where the channels differ.
    """
    _check(x, w, "conv")
    tape.update(x=x, w=w, axis=axis)
    return _convolve(x, w, axis).reshape(x.shape[:2] + (w.shape[2],))


def _conv_bn_relu_vjp(g, tape, wanted):
    xhat, beta, inv = tape["xhat"], tape["beta"], tape["inv"]
    rows = np.ascontiguousarray(g).reshape(xhat.shape)
    total, total_xhat = np.zeros(xhat.shape[1]), np.zeros(xhat.shape[1])
    rectified_sums(rows, xhat, beta, total, total_xhat)
    coefficients = np.stack([inv, beta, total / len(rows), total_xhat / len(rows)]).astype(xhat.dtype)
    gu = scratch("gu", xhat.shape, xhat.dtype)
    batch_norm_relu_vjp(rows, xhat, coefficients, gu)
    gx, gw = _convolve_vjp(gu, tape["x"], tape["w"], tape["axis"], 0 in wanted, 1 in wanted)
    return {0: gx, 1: gw, 2: total.astype(xhat.dtype)}


@block(vjp=_conv_bn_relu_vjp)
def conv_bn_relu(x, w, beta, axis, *, tape=NO_TAPE):
    """relu(BatchNorm(Conv(x, w), [0, 1]) + beta): x [B, N, C], w [K, C, S], beta [S] -> [B, N, S].

    ConvBatch for axis BATCH, ConvUnit for axis UNIT (App.67-68, App.70-73, App.96-103).  Batch norm
    takes its statistics over batch and unit axes together, population variance, eps 1e-6 (D1).
    Raises ValueError where the channels differ.
    """
    _check(x, w, "conv_bn_relu", beta)
    S = w.shape[2]
    total, total_sq = np.zeros(S), np.zeros(S)
    rows = _convolve(x, w, axis, lambda u, first, count: tile_moments(u, first, count, u[0], total, total_sq))
    shift = total / len(rows)
    inv = 1 / np.sqrt(np.maximum(total_sq / len(rows) - shift ** 2, 0) + EPS)
    coefficients = np.stack([rows[0] + shift, inv, beta]).astype(rows.dtype)
    out = np.empty_like(rows)
    normalise_rectify(rows, coefficients, out)
    tape.update(x=x, w=w, beta=coefficients[2], axis=axis, xhat=rows, inv=coefficients[1])
    return out.reshape(x.shape[:2] + (S,))
