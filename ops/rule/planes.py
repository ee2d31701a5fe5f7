"""The ten planes of a weight update (App.41-55), their merging (App.57-58) and the guard of App.59, with VJPs.

`Wn` is `[2, I, J]`: W and V side by side, columns normalised.  Readouts and the Hebbian plane are
shared by both.  The planes are one primitive, so that what they share is computed once, and so that
nothing but the sum is kept when no gradient is wanted.
"""
import numpy as np

from ops.rule.initial import N_PLANES
from ops.rule.norm import dot, inverse_rms_columns, scaled_columns_vjp
from ops.rule.primitive import EPS, NO_TAPE, block, kernel
from ops.rule.threads import products

BLOCK_FLOATS = 1 << 22  # of one plane when no gradient is wanted: columns are independent of each other


def _gate(Wn):
    """exp(-Wn^2) by numpy, which computes several at once; in a numba loop it is one call after another."""
    return np.exp(-Wn * Wn)


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


def _times(a, b, out):
    """The products a @ b, one of them [2, ., .], into out [2, ., .], as jobs of `products`."""
    return [(a if a.ndim == 2 else a[which], b if b.ndim == 2 else b[which], out[which]) for which in range(2)]


def _fill_planes(Wn, sq_all, Wn_all, feed, hebb, below, above, planes, sq):
    """All ten planes [10, 2, I, J] of the columns of Wn; `Wn_all`, `sq_all`: of every column of the layer."""
    fill_local_planes(Wn, _gate(Wn), feed, hebb, planes, sq)
    products(*_times(below[0], Wn, planes[6]),                              # 7  (App.49)
             *_times(below[1], sq, planes[7]),                              # 8  (App.51)
             *_times(Wn_all, above[0], planes[8]),                          # 9  (App.53)
             *_times(sq_all, above[1], planes[9]))                          # 10 (App.55)
    sign = np.sign(Wn)
    planes[7] *= sign                                                       # (D7)
    planes[9] *= sign


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


def _below_each_other(a):
    """[2 I, J] of [2, I, J]: the products of W's and V's rows then add up."""
    return a.reshape(-1, a.shape[2])


def _merged_planes_vjp(g, tape, wanted):
    Wn, feed, below, above, merge, planes, inv, sq = (
        tape[k] for k in ("Wn", "feed", "below", "above", "merge", "planes", "inv", "sq"))
    g, gp, g_merge = np.ascontiguousarray(g), np.empty_like(planes), np.empty_like(merge)
    for i in range(N_PLANES):
        dot = scaled_columns_vjp(g, planes[i], inv[i], merge[i] / merge.dtype.type(N_PLANES), gp[i])
        g_merge[i] = dot / N_PLANES
    sign = np.sign(Wn)
    gp[7] *= sign
    gp[9] *= sign
    g_Wn, g_sq, more = np.empty_like(Wn), np.empty_like(Wn), np.empty((2,) + Wn.shape, Wn.dtype)
    g_below, of_V, g_above = np.empty_like(below), np.empty_like(below), np.empty_like(above)
    products(*_times(below[0], gp[6], g_Wn), *_times(gp[8], above[0], more[0]),  # below and above are symmetric
             *_times(below[1], gp[7], g_sq), *_times(gp[9], above[1], more[1]),
             (gp[6, 0], Wn[0].T, g_below[0]), (gp[6, 1], Wn[1].T, of_V[0]),
             (gp[7, 0], sq[0].T, g_below[1]), (gp[7, 1], sq[1].T, of_V[1]),
             (_below_each_other(Wn).T, _below_each_other(gp[8]), g_above[0]),
             (_below_each_other(sq).T, _below_each_other(gp[9]), g_above[1]))
    g_Wn += more[0]
    g_sq += more[1]
    g_below += of_V
    g_feed, g_hebb = np.empty_like(feed), np.empty_like(feed[0])
    local_planes_vjp(gp, Wn, _gate(Wn), feed, sq, g_sq, g_Wn, g_feed, g_hebb)
    return {0: g_Wn, 1: g_feed, 2: g_hebb, 3: g_below, 4: g_above, 5: g_merge}


def _merge_columns(Wn, sq_all, columns, feed, hebb, below, above, merge, out):
    """The merged update of some columns; returns what a backward pass needs."""
    part = np.ascontiguousarray(Wn[:, :, columns])
    planes, sq = np.empty((N_PLANES,) + part.shape, Wn.dtype), np.empty_like(part)
    inv = np.empty((N_PLANES, 2, part.shape[2]), Wn.dtype)
    sq_all = sq if sq_all is None else sq_all
    _fill_planes(part, sq_all, Wn, np.ascontiguousarray(feed[:, :, columns]), np.ascontiguousarray(hebb[:, columns]),
                 below, np.ascontiguousarray(above[:, :, columns]), planes, sq)
    flat = (N_PLANES * 2,) + part.shape[1:]
    inverse_rms_columns(planes.reshape(flat), Wn.dtype.type(1), inv.reshape(flat[0], -1))
    add_merged(planes, inv, merge, out)
    return planes, inv, sq


@block(vjp=_merged_planes_vjp)
def merged_planes(Wn, feed, hebb, below, above, merge, *, tape=NO_TAPE):
    """1/10 sum_i theta_merge,i plane_i / sqrt(1 + mean over rows of plane_i^2) (App.41-58, D5) -> [2, I, J].

    Wn [2, I, J]; feed [3, I, J], hebb [I, J]; below [2, I, I], above [2, J, J]; merge [10].
    Without a tape the planes exist for a block of columns at a time only.
    """
    _, rows, columns = Wn.shape
    if merge.shape != (N_PLANES,):
        raise ValueError(f"merged_planes: merge has shape {merge.shape}, want ({N_PLANES},)")
    feed, hebb, out = np.ascontiguousarray(feed), np.ascontiguousarray(hebb), np.empty_like(Wn)
    width = max(1, BLOCK_FLOATS // (2 * rows))
    if tape is not NO_TAPE or columns <= width:
        planes, inv, sq = _merge_columns(Wn, None, slice(None), feed, hebb, below, above, merge, out)
        tape.update(Wn=Wn, feed=feed, below=below, above=above, merge=merge, planes=planes, inv=inv, sq=sq)
        return out
    sq_all = np.sqrt(1 + Wn * Wn) - 1
    for first in range(0, columns, width):
        part = slice(first, min(first + width, columns))
        piece = np.empty((2, rows, part.stop - first), Wn.dtype)
        _merge_columns(Wn, sq_all, part, feed, hebb, below, above, merge, piece)
        out[:, :, part] = piece
    return out


@kernel()
def keep_magnitude_kernel(merged, W, out, inv, push):
    """out = merged + Wu push, Wu = W inv: W and V by themselves, each one run of numbers; fills inv and push."""
    for which in range(2):
        update, weights, target = merged[which], W[which], out[which]
        scale = W.dtype.type(1 / np.sqrt(dot(weights, weights) + EPS))
        against = W.dtype.type(-dot(update, weights) * scale)
        inv[which] = scale
        push[which] = W.dtype.type(0) if against < 0 else against
        amount = scale * push[which]
        for i in range(len(weights)):
            target[i] = update[i] + weights[i] * amount


@kernel()
def keep_magnitude_vjp_kernel(g, merged, W, inv, push, g_merged, g_W):
    """Gradients of `keep_magnitude_kernel` with respect to merged and W."""
    for which in range(2):
        of_out, update, weights, scale = g[which], merged[which], W[which], inv[which]
        g_dot = W.dtype.type(dot(of_out, weights) * scale)        # with Wu
        merged_dot = W.dtype.type(dot(update, weights) * scale)
        of_dot = W.dtype.type(0) if push[which] <= 0 else -g_dot  # gradient to <merged, Wu>
        along = push[which] * g_dot + of_dot * merged_dot         # of the gradient to Wu, its part along Wu
        for i in range(len(weights)):
            unit = weights[i] * scale
            g_merged[which, i] = of_out[i] + of_dot * unit
            g_W[which, i] = (push[which] * of_out[i] + of_dot * update[i] - unit * along) * scale


def _keep_magnitude_vjp(g, tape, wanted):
    merged, W, inv, push = (tape[k] for k in ("merged", "W", "inv", "push"))
    g_merged, g_W = np.empty_like(merged), np.empty_like(W)
    keep_magnitude_vjp_kernel(np.ascontiguousarray(g).reshape(W.shape), merged, W, inv, push, g_merged, g_W)
    return {0: g_merged.reshape(g.shape), 1: g_W.reshape(g.shape)}


@block(vjp=_keep_magnitude_vjp)
def keep_magnitude(merged, W, *, tape=NO_TAPE):
    """merged + Wu relu(-<merged, Wu>), Wu = W / sqrt(sum W^2 + 1e-6) (App.59, D8), each [2, I, J].

    What would shrink W is projected out.
    """
    flat, weights = (np.ascontiguousarray(a).reshape(2, -1) for a in (merged, W))
    out, inv, push = np.empty_like(flat), np.empty(2, W.dtype), np.empty(2, W.dtype)
    keep_magnitude_kernel(flat, weights, out, inv, push)
    tape.update(merged=flat, W=weights, inv=inv, push=push)
    return out.reshape(W.shape)
