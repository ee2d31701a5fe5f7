"""Low-rank readouts of the hidden states (App.35-40) and the bias readout (App.61), with VJPs.

All projections `h P` that a layer needs are one product, kept as `[n, N, B R]`: the sum over batch
and rank of App.40 is then the inner dimension of a matrix product, and nothing of size B N^2 exists.
"""
import numpy as np

from ops.primitive import NO_TAPE, block


def _stack_vjp(g, tape, wanted):
    return {i: g[i] for i in wanted}


@block(vjp=_stack_vjp)
def stack_matrices(*matrices, tape=NO_TAPE):
    """[n, H, R] of n projections [H, R]."""
    return np.stack(matrices)


def _project_vjp(g, tape, wanted):
    h, P = tape["h"], tape["P"]
    n, H, R = P.shape
    B, N, _ = h.shape
    rows = np.ascontiguousarray(g.reshape(n, N, B, R).transpose(2, 1, 0, 3)).reshape(B * N, n * R)
    grads = {}
    if 0 in wanted:
        grads[0] = np.matmul(rows, P.transpose(0, 2, 1).reshape(n * R, H)).reshape(h.shape)
    if 1 in wanted:
        grads[1] = np.matmul(h.reshape(B * N, H).T, rows).reshape(H, n, R).transpose(1, 0, 2)
    return grads


@block(vjp=_project_vjp)
def project(h, P, *, tape=NO_TAPE):
    """r_bir = sum_k h_bik P_kr for n matrices at once: h [B, N, H], P [n, H, R] -> [n, N, B R] (App.38-39)."""
    B, N, H = h.shape
    n, _, R = P.shape
    h = np.ascontiguousarray(h)
    tape.update(h=h, P=P)
    rows = np.matmul(h.reshape(B * N, H), P.transpose(1, 0, 2).reshape(H, n * R))
    return np.ascontiguousarray(rows.reshape(B, N, n, R).transpose(2, 1, 0, 3)).reshape(n, N, B * R)


def _low_rank_readout_vjp(g, tape, wanted):
    lower, upper, a, b = (tape[k] for k in ("lower", "upper", "a", "b"))
    gs = g / g.dtype.type(lower.shape[2])
    g_lower, g_upper = np.zeros_like(lower), np.zeros_like(upper)
    np.matmul(gs, upper[b], out=g_lower[a])
    np.matmul(gs.T, lower[a], out=g_upper[b])
    return {0: g_lower, 1: g_upper}


@block(vjp=_low_rank_readout_vjp)
def low_rank_readout(lower, upper, a, b, *, tape=NO_TAPE):
    """LowRR_ij = 1/(B R) sum_b sum_r ra_bir rb_bjr (App.40, D6) of projections `lower[a]`, `upper[b]`.

    lower [n, I, B R], upper [m, J, B R] -> [I, J].
    """
    tape.update(lower=lower, upper=upper, a=a, b=b)
    return np.matmul(lower[a], upper[b].T) / lower.dtype.type(lower.shape[2])


def _lateral_vjp(g, tape, wanted):
    r, a, b, scale = (tape[k] for k in ("r", "a", "b", "scale"))
    gs = (g + g.T) * scale
    np.fill_diagonal(gs, 0)
    out = np.zeros_like(r)
    np.matmul(gs, r[b], out=out[a])
    out[b] += np.matmul(gs, r[a])
    return {0: out}


@block(vjp=_lateral_vjp)
def lateral(r, a, b, *, tape=NO_TAPE):
    """off(h) = (S + S') / sqrt 2 with zero diagonal, S = LowRR(h, h) / sqrt N (App.48-54).

    r [n, N, B R] holds the projections of h; `a` and `b` say which two to use -> [N, N].
    """
    N, BR = r.shape[1:]
    scale = r.dtype.type(1 / (BR * np.sqrt(N) * np.sqrt(2)))
    S = np.matmul(r[a], r[b].T)
    off = (S + S.T) * scale
    np.fill_diagonal(off, 0)
    tape.update(r=r, a=a, b=b, scale=scale)
    return off


def _bias_readout_vjp(g, tape, wanted):
    w, B = tape["w"], tape["B"]
    grads = {1: np.matmul(tape["mean_h"].T, g)}
    if 0 in wanted:
        grads[0] = np.broadcast_to(np.multiply.outer(g, w / g.dtype.type(B)), (B, g.shape[0], w.shape[0]))
    return grads


@block(vjp=_bias_readout_vjp)
def bias_readout(h, w, *, tape=NO_TAPE):
    """db_j = 1/B sum_b sum_k theta_k h_bjk: h [B, N, H], w [H] -> [N] (App.61)."""
    mean_h = h.mean(axis=0)
    tape.update(mean_h=mean_h, w=w, B=h.shape[0])
    return np.matmul(mean_h, w)


def _stop_drift_vjp(g, tape, wanted):
    return {0: g - g.mean() if tape["drifts"] else g}


@block(vjp=_stop_drift_vjp)
def stop_drift(db, *, tape=NO_TAPE):
    """db - relu(mean db): biases may not drift upwards together (App.62, D9)."""
    mean = db.mean()
    tape.update(drifts=mean > 0)
    return db - max(mean, db.dtype.type(0))
