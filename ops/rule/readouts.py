"""Projections of the hidden states (App.38-39), which low-rank readouts are made of, with VJPs.

All projections `h P` that a layer needs are one product, kept as `[n, R B, N]`: the sum over batch
and rank of App.40 is then the inner dimension of a matrix product, and nothing of size B N^2 exists.
"""
import numpy as np

from ops.rule.conv import channels_first, channels_last
from ops.rule.primitive import NO_TAPE, block
from ops.rule.threads import in_parts, matmul, product

# A layer's projections as the lower and as the upper layer of a weight matrix, and where each readout's factors lie.
LOWER = ("zero/pa", "rbf/pa", "first/pa", "lin_lower/pa", "lin_lower/pb", "sqr_lower/pa", "sqr_lower/pb")
UPPER = ("zero/pb", "rbf/pb", "first/pb", "lin_upper/pa", "lin_upper/pb", "sqr_upper/pa", "sqr_upper/pb")
FEED = range(3)


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
