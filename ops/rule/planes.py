"""DeltaW and DeltaV of a layer (App.41-60) from the projections of its hidden states, as one primitive.

W and V lie side by side, [2, I, J]: readouts and the Hebbian plane are shared by both, and what they share
is computed once.  Without a tape the planes exist for a block of columns at a time only, a block on each thread.
"""
import math
from types import SimpleNamespace

import numpy as np

from ops.rule.conv import PIECE
from ops.rule.primitive import EPS, NO_TAPE, block, kernel
from ops.rule.lateral import halfway, lateral, lateral_vjp, times, turned
from ops.rule.readouts import FEED
from ops.rule.threads import in_parts, matmul, products

N_PLANES = 10
BLOCK_FLOATS = 1 << 21  # of one plane when no gradient is wanted: columns are independent of each other


# --- Kernels --------------------------------------------------------------------------------------


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


@kernel()
def fill_local_planes(Wn, gate, feed, hebb, planes, sq):
    """Planes 1 to 6, which are elementwise, and sq = sqrt(1 + Wn^2) - 1; gate = exp(-Wn^2)."""
    _, rows, columns = Wn.shape
    for which in range(2):
        for i in range(rows):
            for j in range(columns):
                w = Wn[which, i, j]
                square = w * w
                planes[0, which, i, j] = w                                  # (App.41)
                planes[1, which, i, j] = w * abs(w)                         # (App.42)
                planes[2, which, i, j] = feed[0, i, j]                      # (App.43)
                planes[3, which, i, j] = gate[which, i, j] * feed[1, i, j]  # (App.44)
                planes[4, which, i, j] = w * feed[2, i, j]                  # (App.45)
                planes[5, which, i, j] = hebb[i, j]                         # (App.46-47)
                sq[which, i, j] = np.sqrt(1 + square) - 1


@kernel()
def add_merged(planes, inv, merge, out):
    """out = 1/10 sum_i merge_i planes_i inv_i (App.57-58); inv [10, 2, J]."""
    n, both, rows, columns = planes.shape
    tenth = planes.dtype.type(1) / planes.dtype.type(n)
    for which in range(both):
        for r in range(rows):
            for j in range(columns):
                out[which, r, j] = 0
            for i in range(n):
                scale = merge[i] * tenth
                for j in range(columns):
                    out[which, r, j] += scale * (planes[i, which, r, j] * inv[i, which, j])


@kernel()
def local_planes_vjp(g, Wn, gate, feed, sq, g_sq, g_Wn, g_feed, g_hebb):
    """Gradients through planes 1 to 6, gate included, and sq; g [10, 2, I, J] are the planes' own, g_Wn is added to."""
    _, rows, columns = Wn.shape
    two = Wn.dtype.type(2)
    for i in range(rows):
        for j in range(columns):
            f0 = f1 = f2 = hebb = Wn.dtype.type(0)
            for which in range(2):
                w = Wn[which, i, j]
                through_gate = g[3, which, i, j] * gate[which, i, j]
                g_Wn[which, i, j] += (
                    g[0, which, i, j] + two * abs(w) * g[1, which, i, j] - two * w * through_gate * feed[1, i, j]
                    + g[4, which, i, j] * feed[2, i, j] + g_sq[which, i, j] * w / (1 + sq[which, i, j]))
                f0 += g[2, which, i, j]
                f1 += through_gate
                f2 += g[4, which, i, j] * w
                hebb += g[5, which, i, j]
            g_feed[0, i, j], g_feed[1, i, j], g_feed[2, i, j], g_hebb[i, j] = f0, f1, f2, hebb


# --- The ten planes, merged (App.41-58) -----------------------------------------------------------


def _gate(Wn):
    """exp(-Wn^2) by numpy, which computes several at once; in a numba loop it is one call after another."""
    return np.exp(-Wn * Wn)


def _one_after_another(*jobs):
    """`products` of a thread for itself."""
    for job in jobs:
        matmul(*job)


def _merge_columns(t, columns, out, planes, upper_halves=None, multiply=products):
    """The merged update of some columns into `out`; returns what a backward pass needs.

    planes: room for them; upper_halves: `halfway` of the whole layer for planes 9 and 10, needed unless `columns` are all.
    """
    part, lower, upper = np.ascontiguousarray(t.Wn[..., columns]), t.lower, t.upper
    feed, hebb, sq = (np.empty(shape, part.dtype) for shape in ((len(FEED), *part.shape[1:]), part.shape[1:], part.shape))
    inv = np.empty((N_PLANES, 2, part.shape[2]), part.dtype)
    multiply(*((t.low[i].T, t.up[i][:, columns], feed[i]) for i in FEED),                       # (App.40)
             (t.x_lower.T, t.x[:, columns] / part.dtype.type(len(t.x)), hebb))                  # (App.46-47)
    feed /= part.dtype.type(t.low.shape[1])                                                     # (D6)
    fill_local_planes(part, _gate(part), feed, hebb, planes, sq)
    lower_halves = halfway(lower, (part, sq), multiply)
    if upper_halves is None:
        upper_halves = halfway(upper, (turned(part), turned(sq)), multiply)
    multiply(*(job for k in (0, 1) for job in (
        *times(lower.F[k].T, lower_halves[k], planes[6 + k]),                                   # (App.49, 51)
        *times(upper.F[k][:, columns].T, upper_halves[k], turned(planes[8 + k])))))             # (App.53, 55)
    for k, M in enumerate((part, sq)):
        if lower.d is not None:
            planes[6 + k] -= lower.d[k][:, None] * M
        if upper.d is not None:
            planes[8 + k] -= upper.d[k][columns] * M
    sign = np.sign(part)
    planes[7] *= sign                                                       # (D7)
    planes[9] *= sign
    inverse_rms_columns(planes.reshape((-1,) + part.shape[1:]), part.dtype.type(1), inv.reshape(2 * N_PLANES, -1))
    add_merged(planes, inv, t.merge, out)
    return {"planes": planes, "inv": inv, "sq": sq, "feed": feed, "lower_halves": lower_halves, "upper_halves": upper_halves}


def _merged(t, keep):
    """(1/10 sum_i merge_i plane_i / sqrt(1 + mean over rows of plane_i^2), [2, I, J]; what `_merged_vjp` needs).

    The second if `keep`; otherwise it may be empty.
    """
    _, rows, columns = shape = t.Wn.shape
    width = max(1, BLOCK_FLOATS // (2 * rows))
    if keep or columns <= width:
        out = np.empty_like(t.Wn)
        return out, _merge_columns(t, slice(None), out, np.empty((N_PLANES,) + shape, out.dtype))
    upper_halves = halfway(t.upper, (turned(t.Wn), turned(_square_roots(t.Wn))))
    out = np.empty_like(t.Wn)

    def part(first, end):
        room = np.empty(N_PLANES * 2 * rows * width, out.dtype)
        for start in range(first, end, width):
            block = slice(start, min(start + width, end))
            shape = (2, rows, block.stop - start)
            piece, planes = np.empty(shape, out.dtype), room[:N_PLANES * math.prod(shape)].reshape(N_PLANES, *shape)
            _merge_columns(t, block, piece, planes, upper_halves, _one_after_another)
            out[:, :, block] = piece

    in_parts(part, columns, rows * columns * len(t.low[0]))
    return out, {}


def _square_roots(Wn):
    """sqrt(1 + Wn^2) - 1 (in App.51, 55), W and V each by itself."""
    sq = np.empty_like(Wn)

    def part(first, end):
        a = np.multiply(Wn[first:end], Wn[first:end], out=sq[first:end])
        a += 1
        np.sqrt(a, out=a)
        a -= 1

    in_parts(part, 2, 8 * Wn.size)
    return sq


def _merged_vjp(g, t, g_low, g_up):
    """Gradients of `_merged` with respect to Wn, hebb and merge; fills those with respect to low and up."""
    gp, g_merge = np.empty_like(t.planes), np.empty_like(t.merge)
    for i in range(N_PLANES):
        dot = scaled_columns_vjp(g, t.planes[i], t.inv[i], t.merge[i] / t.merge.dtype.type(N_PLANES), gp[i])
        g_merge[i] = dot / N_PLANES
    sign = np.sign(t.Wn)
    gp[7] *= sign
    gp[9] *= sign
    Ms = (t.Wn, t.sq)
    g_Wn, g_sq = lateral_vjp(t.lower, t.low, gp[6:8], Ms, t.lower_halves, g_low)
    more = lateral_vjp(t.upper, t.up, turned(gp[8:10]), [turned(M) for M in Ms], t.upper_halves, g_up)
    g_Wn += turned(more[0])
    g_sq += turned(more[1])
    g_feed, g_hebb = np.empty_like(t.feed), np.empty_like(t.feed[0])
    local_planes_vjp(gp, t.Wn, _gate(t.Wn), t.feed, t.sq, g_sq, g_Wn, g_feed, g_hebb)
    g_feed /= t.low.dtype.type(t.low.shape[1])
    products(*((t.up[i], g_feed[i].T, g_low[i]) for i in FEED), *((t.low[i], g_feed[i], g_up[i]) for i in FEED))
    return g_Wn, g_hebb, g_merge


# --- What becomes of their sum (App.59-60): W or V, as runs of I J numbers -----------------------


@kernel()
def dot(a, b):
    """Sum of the products of two contiguous runs, in pieces so that long ones keep their digits."""
    total = 0.0
    for start in range(0, len(a), PIECE):
        s, piece, other = a.dtype.type(0), a[start:start + PIECE], b[start:start + PIECE]
        for i in range(len(piece)):
            s += piece[i] * other[i]
        total += s
    return total


@kernel()
def finish(merged, W, e, delta, inv_push_scale):
    """delta = scale orth, scale = 1 / sqrt(e + mean orth^2), orth = merged + Wu push, push = relu(-<merged, Wu>) (D8).

    Wu = W inv, inv = 1 / sqrt(sum W^2 + 1e-6); fills inv_push_scale [3].  delta may be merged itself.
    """
    inv = W.dtype.type(1 / np.sqrt(dot(W, W) + EPS))
    push = max(W.dtype.type(-dot(merged, W) * inv), W.dtype.type(0))
    amount = inv * push
    for i in range(len(W)):
        delta[i] = merged[i] + W[i] * amount
    scale = W.dtype.type(1 / np.sqrt(e + dot(delta, delta) / len(delta)))
    for i in range(len(W)):
        delta[i] *= scale
    inv_push_scale[0], inv_push_scale[1], inv_push_scale[2] = inv, push, scale


@kernel()
def finish_vjp(g, delta, merged, W, inv_push_scale, g_merged, g_W):
    """Gradients of `finish` with respect to merged and W."""
    inv, push, scale = inv_push_scale
    mean = W.dtype.type(dot(g, delta) / len(delta))
    for i in range(len(W)):
        g_merged[i] = scale * (g[i] - delta[i] * mean)                       # of orth, for now
    g_dot = W.dtype.type(dot(g_merged, W) * inv)                             # with Wu
    of_dot = W.dtype.type(0) if push <= 0 else -g_dot                        # gradient to <merged, Wu>
    along = push * g_dot + of_dot * W.dtype.type(dot(merged, W) * inv)       # of the gradient to Wu, along Wu
    for i in range(len(W)):
        Wu, of_orth = W[i] * inv, g_merged[i]
        g_merged[i] = of_orth + of_dot * Wu
        g_W[i] = (push * of_orth + of_dot * merged[i] - Wu * along) * inv


# --- All of it ------------------------------------------------------------------------------------


def _normalised(weights):
    """(W and V with columns of mean square 1, [2, I, J]; the factors [2, J]) (D5)."""
    W = weights[0]
    Wn, inv = np.empty((2,) + W.shape, W.dtype), np.empty((2, W.shape[1]), W.dtype)

    def part(first, end):
        for which in range(first, end):
            inverse_rms_columns(weights[which][None], W.dtype.type(EPS), inv[which:which + 1])
            np.multiply(weights[which], inv[which], out=Wn[which])

    in_parts(part, 2, 8 * Wn.size)
    return Wn, inv


def _delta_weights_vjp(g, tape, wanted):
    t, B, shape = SimpleNamespace(**tape), len(tape["x"]), tape["Wn"].shape
    g_merged, of_weights, g_weights = (np.empty(shape, g[0].dtype) for _ in range(3))
    for which, W in enumerate(t.weights):
        finish_vjp(np.ravel(g[which]), t.delta[which].reshape(-1), t.merged[which].reshape(-1), W.reshape(-1), t.finish[which],
                   g_merged[which].reshape(-1), of_weights[which].reshape(-1))
    g_low, g_up = np.empty_like(t.low), np.empty_like(t.up)
    g_Wn, g_hebb, g_merge = _merged_vjp(g_merged, t, g_low, g_up)
    for which, W in enumerate(t.weights):
        scaled_columns_vjp(g_Wn[which][None], W[None], t.inv_W[which][None], W.dtype.type(1), g_weights[which][None])
    g_weights += of_weights
    g_hebb /= t.x.dtype.type(B)
    g_x_lower, g_x = np.empty_like(t.x_lower), np.empty_like(t.x)
    products((t.x, g_hebb.T, g_x_lower), (t.x_lower, g_hebb, g_x))
    return {0: g_weights[0], 1: g_weights[1], 2: g_x_lower, 3: g_x, 4: g_low, 5: g_up, 6: g_merge}


@block(vjp=_delta_weights_vjp, large=("Wn", "merged", "feed", "lower", "upper", "planes", "inv", "sq"))
def delta_weights(W, V, x_lower, x, low, up, merge, e, *, tape=NO_TAPE):
    """(DeltaW^l, DeltaV^l), each [I, J], as `unsup_meta.delta_weight` defines them.

    x_lower [B, I], x [B, J]: x^(l-1), x^l standardised; low [7, R B, I], up [7, R B, J]: h^(l-1), h^l projected;
    merge [10]; e the constant of App.60.
    """
    if not (low.shape[1:] + up.shape[1:] == (len(low[0]), W.shape[0], len(low[0]), W.shape[1]) and W.shape == V.shape
            and x_lower.shape + x.shape == (len(x), W.shape[0], len(x), W.shape[1]) and merge.shape == (N_PLANES,)):
        raise ValueError(f"delta_weights: W {W.shape}, V {V.shape}, x {x_lower.shape} and {x.shape}, readouts {low.shape} "
                         f"and {up.shape}, merge {merge.shape} do not fit")
    weights = [np.ascontiguousarray(a) for a in (W, V)]
    Wn, inv_W = _normalised(weights)
    t = SimpleNamespace(Wn=Wn, x_lower=x_lower, x=x, low=low, up=up, merge=np.ascontiguousarray(merge),
                        lower=lateral(low, W.shape[1]), upper=lateral(up, W.shape[0]))          # (App.48-55)
    merged, kept = _merged(t, tape is not NO_TAPE)                          # (App.41-58)
    delta = merged if tape is NO_TAPE else np.empty_like(merged)
    inv_push_scale = np.empty((2, 3), W.dtype)
    in_parts(lambda first, end: [finish(merged[k].reshape(-1), weights[k].reshape(-1), float(e), delta[k].reshape(-1),
                                        inv_push_scale[k]) for k in range(first, end)], 2, 8 * delta.size)  # (App.59-60)
    tape.update(**vars(t), **kept, weights=weights, inv_W=inv_W, delta=delta, merged=merged, finish=inv_push_scale)
    return tuple(delta)
