"""Low-rank readouts of the hidden states (App.35-40, App.48-54), with VJPs.

All projections `h P` that a layer needs are one product, kept as `[n, R B, N]`: the sum over batch
and rank of App.40 is then the inner dimension of a matrix product, and nothing of size B N^2 exists.
"""
import numpy as np

from ops.rule.conv import channels_first, channels_last
from ops.rule.primitive import NO_TAPE, block, kernel
from ops.rule.threads import in_parts, matmul, product, products

# A layer's projections as the lower and as the upper layer of a weight matrix, and where each readout's factors lie.
LOWER = ("zero/pa", "rbf/pa", "first/pa", "lin_lower/pa", "lin_lower/pb", "sqr_lower/pa", "sqr_lower/pb")
UPPER = ("zero/pb", "rbf/pb", "first/pb", "lin_upper/pa", "lin_upper/pb", "sqr_upper/pa", "sqr_upper/pb")
FEED, LIN, SQR = range(3), 3, 5


def _stack_vjp(g, tape, wanted):
    return {i: g[i] for i in wanted}


@block(vjp=_stack_vjp)
def stack(*matrices, tape=NO_TAPE):
    """[n, H, R] of n projections [H, R]."""
    return np.stack(matrices)


def _below_each_other(stacks):
    """[m, H] of m columns: the transposed projections of all readouts, one below the other."""
    return np.concatenate([P.transpose(0, 2, 1).reshape(-1, P.shape[1]) for P in stacks])


def _project_vjp(g, tape, wanted):
    runs, stacks, shape = tape["runs"], tape["stacks"], tape["shape"]
    Pt, rows = _below_each_other(stacks), np.concatenate([part.reshape(-1, runs.shape[1]) for part in g])
    gh = np.empty_like(runs)

    def part(first, end):
        matmul(Pt.T, rows[:, first:end], gh[:, first:end])
        return matmul(rows[:, first:end], runs[:, first:end].T)

    gP = sum(in_parts(part, runs.shape[1], 2 * runs.size * len(Pt)))
    grads, first = {0: channels_last(gh, shape)}, 0
    for i, (n, H, R) in enumerate((P.shape for P in stacks), start=1):
        grads[i] = gP[first:first + n * R].reshape(n, R, H).transpose(0, 2, 1)
        first += n * R
    return grads


@block(vjp=_project_vjp, large=())
def project(h, *stacks, tape=NO_TAPE):
    """r_bip = sum_k h_bik P_kp (App.38-39): h [B, N, H], each of `stacks` [n, H, R] -> a tuple of [n, R B, N].

    All are one product, P' h: it comes out in the order (matrix, p, b, i), which without a copy is, for
    each matrix, the transposed factor [R B, N] of App.40.
    """
    B, N, _ = h.shape
    runs = channels_first(h)
    tape.update(runs=runs, stacks=stacks, shape=(B, N))
    r = product(_below_each_other(stacks), runs)
    ends = np.cumsum([P.shape[0] * P.shape[2] for P in stacks])
    return tuple(part.reshape(P.shape[0], P.shape[2] * B, N) for part, P in zip(np.split(r, ends[:-1]), stacks))


@kernel()
def symmetrise(S, scale):
    """S <- scale (S + S') with a zero diagonal, in place, for each S [N, N] of a stack: also its own transpose."""
    stack, n, _ = S.shape
    side = 32  # of the squares that are exchanged, small enough for the first-level cache
    for which in range(stack):
        for top in range(0, n, side):
            for left in range(top, n, side):
                for i in range(top, min(top + side, n)):
                    for j in range(max(left, i + 1), min(left + side, n)):
                        v = scale * (S[which, i, j] + S[which, j, i])
                        S[which, i, j] = v
                        S[which, j, i] = v
        for i in range(n):
            S[which, i, i] = 0


def _scale(r):
    return r.dtype.type(1 / (r.shape[1] * (2 * r.shape[2]) ** 0.5))  # 1 / (B R sqrt(2 N))


def readouts(low, up):
    """All readouts of a layer from the projections low [7, R B, I] of h^(l-1) and up [7, R B, J] of h^l.

    Returns feed [3, I, J], the LowRR (App.40, D6) of zero, rbf and first, and what `unsup_meta.lateral` defines
    for lin and sqr: lower [2, I, I] and upper [2, J, J].
    """
    I, J = low.shape[2], up.shape[2]
    feed, lower, upper = (np.empty(shape, low.dtype) for shape in ((len(FEED), I, J), (2, I, I), (2, J, J)))
    products(*((low[i].T, up[i], feed[i]) for i in FEED),
             *((r[a].T, r[a + 1], S) for r, both in ((low, lower), (up, upper)) for a, S in zip((LIN, SQR), both)))
    feed /= low.dtype.type(low.shape[1])
    symmetrise(lower, _scale(low))
    symmetrise(upper, _scale(up))
    return feed, lower, upper


def readouts_vjp(g_feed, g_lower, g_upper, low, up):
    """Gradients of `readouts` with respect to low and up; those of lower and upper are overwritten."""
    g_low, g_up = np.empty_like(low), np.empty_like(up)
    g_feed = g_feed / low.dtype.type(low.shape[1])
    jobs = [(up[i], g_feed[i].T, g_low[i]) for i in FEED] + [(low[i], g_feed[i], g_up[i]) for i in FEED]
    for r, g_r, g_lateral in ((low, g_low, g_lower), (up, g_up, g_upper)):
        symmetrise(g_lateral, _scale(r))
        for a, of_a in zip((LIN, SQR), g_lateral):
            jobs += [(r[a + 1], of_a, g_r[a]), (r[a], of_a, g_r[a + 1])]
    products(*jobs)
    return g_low, g_up


def hebbian(x_lower, x):
    """x_lower' x / B of standardised x_lower [B, I], x [B, J] -> [I, J] (App.46-47)."""
    return matmul(x_lower.T, x / x.dtype.type(len(x)))
