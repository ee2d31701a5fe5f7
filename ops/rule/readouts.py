"""Low-rank readouts of the hidden states (App.35-40) and the bias readout (App.61), with VJPs.

All projections `h P` that a layer needs are one product, kept as `[n, R B, N]`: the sum over batch
and rank of App.40 is then the inner dimension of a matrix product, and nothing of size B N^2 exists.
"""
import numpy as np

from ops.rule.primitive import NO_TAPE, block, kernel
from ops.rule.threads import in_parts, product, products


def _stack_vjp(g, tape, wanted):
    return {i: g[i] for i in wanted}


@block(vjp=_stack_vjp)
def stack_matrices(*matrices, tape=NO_TAPE):
    """[n, H, R] of n projections [H, R]."""
    return np.stack(matrices)


def _below_each_other(matrices):
    """[m, H] of m columns: the transposed projections of all readouts, one below the other."""
    return np.concatenate([P.transpose(0, 2, 1).reshape(-1, P.shape[1]) for P in matrices])


def _project_vjp(g, tape, wanted):
    h, matrices = tape["h"], tape["matrices"]
    runs, Pt = h.reshape(len(h), -1), _below_each_other(matrices)
    rows = np.concatenate([part.reshape(-1, runs.shape[1]) for part in g])
    gh = np.empty_like(runs) if 0 in wanted else None

    def part(first, end):
        if gh is not None:
            np.matmul(Pt.T, rows[:, first:end], out=gh[:, first:end])
        return np.matmul(rows[:, first:end], runs[:, first:end].T)

    gP = sum(in_parts(part, runs.shape[1], 2 * runs.size * len(Pt)))
    grads, first = {0: gh if gh is None else gh.reshape(h.shape)}, 0
    for i, (n, H, R) in enumerate((P.shape for P in matrices), start=1):
        grads[i] = gP[first:first + n * R].reshape(n, R, H).transpose(0, 2, 1)
        first += n * R
    return grads


@block(vjp=_project_vjp)
def project(h, *matrices, tape=NO_TAPE):
    """r_rbi = sum_k h_kbi P_kr (App.38-39): h [H, B, N], each of `matrices` [n, H, R] -> a tuple of [n, R B, N].

    All are one product, P' h: it comes out in the order (matrix, r, b, i), which without a copy is, for
    each matrix, the transposed factor [R B, N] of App.40.
    """
    H, B, N = h.shape
    if any(P.shape[1] != H for P in matrices):
        raise ValueError(f"project: h {h.shape} does not fit projections {[P.shape for P in matrices]}; want [H, B, N]")
    h = np.ascontiguousarray(h)
    tape.update(h=h, matrices=matrices)
    r = product(_below_each_other(matrices), h.reshape(H, B * N))
    ends = np.cumsum([P.shape[0] * P.shape[2] for P in matrices])
    return tuple(part.reshape(P.shape[0], P.shape[2] * B, N) for part, P in zip(np.split(r, ends[:-1]), matrices))


# Where each readout's factors lie in the projections of the lower and of the upper layer.
FEED, LIN, SQR = range(3), 3, 5


def _readouts_vjp(g, tape, wanted):
    low, up = tape["low"], tape["up"]
    g_low, g_up = np.empty_like(low), np.empty_like(up)
    g_feed = g[0] / low.dtype.type(low.shape[1])
    jobs = [(up[i], g_feed[i].T, g_low[i]) for i in FEED] + [(low[i], g_feed[i], g_up[i]) for i in FEED]
    for r, g_r, g_off in ((low, g_low, g[1]), (up, g_up, g[2])):
        gs = g_off.copy()
        symmetrise(gs, _lateral_scale(r))
        for a, of_a in zip((LIN, SQR), gs):
            jobs += [(r[a + 1], of_a, g_r[a]), (r[a], of_a, g_r[a + 1])]
    products(*jobs)
    return {0: g_low, 1: g_up}


@kernel()
def symmetrise(S, scale):
    """S <- scale (S + S') with a zero diagonal, in place: off of App.48-54, and its own gradient."""
    _, n, _ = S.shape
    side = 32  # of the squares that are exchanged, small enough for the first-level cache
    for which in range(2):
        for top in range(0, n, side):
            for left in range(top, n, side):
                for i in range(top, min(top + side, n)):
                    for j in range(max(left, i + 1), min(left + side, n)):
                        v = scale * (S[which, i, j] + S[which, j, i])
                        S[which, i, j] = v
                        S[which, j, i] = v
        for i in range(n):
            S[which, i, i] = 0


def _lateral_scale(r):
    return r.dtype.type(1 / (r.shape[1] * np.sqrt(2 * r.shape[2])))


@block(vjp=_readouts_vjp)
def readouts(low, up, *, tape=NO_TAPE):
    """All readouts of a layer from the projections low [7, R B, I] of h^(l-1) and up [7, R B, J] of h^l.

    Returns feed [3, I, J], the LowRR (App.40, D6: mean over batch and rank) of zero, rbf and first;
    below [2, I, I] and above [2, J, J], the lateral ones for lin and sqr (App.48-54):
    off(h) = (S + S') / sqrt 2 with zero diagonal, S = LowRR(h, h) / sqrt N.
    """
    tape.update(low=low, up=up)
    I, J = low.shape[2], up.shape[2]
    feed, below, above = (np.empty(shape, low.dtype) for shape in ((len(FEED), I, J), (2, I, I), (2, J, J)))
    products(*((low[i].T, up[i], feed[i]) for i in FEED),
             *((r[a].T, r[a + 1], off) for r, offs in ((low, below), (up, above)) for a, off in zip((LIN, SQR), offs)))
    feed /= low.dtype.type(low.shape[1])
    symmetrise(below, _lateral_scale(low))
    symmetrise(above, _lateral_scale(up))
    return feed, below, above


def _bias_readout_vjp(g, tape, wanted):
    w, B = tape["w"], tape["B"]
    grads = {1: np.matmul(tape["mean_h"], g)}
    if 0 in wanted:
        per_entry = np.multiply.outer(w / g.dtype.type(B), g)
        grads[0] = np.broadcast_to(per_entry[:, None], (len(w), B, len(g)))
    return grads


@block(vjp=_bias_readout_vjp)
def bias_readout(h, w, *, tape=NO_TAPE):
    """db_j = 1/B sum_b sum_k theta_k h_kbj: h [H, B, N], w [H] -> [N] (App.61)."""
    mean_h = h.mean(axis=1)
    tape.update(mean_h=mean_h, w=w, B=h.shape[1])
    return np.matmul(w, mean_h)


def _stop_drift_vjp(g, tape, wanted):
    return {0: g - g.mean() if tape["drifts"] else g}


@block(vjp=_stop_drift_vjp)
def stop_drift(db, *, tape=NO_TAPE):
    """db - relu(mean db): biases may not drift upwards together (App.62, D9)."""
    mean = db.mean()
    tape.update(drifts=mean > 0)
    return db - max(mean, db.dtype.type(0))
