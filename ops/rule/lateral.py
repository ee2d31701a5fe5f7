"""Products with the lateral matrices of planes 7 to 10 (App.48-55): off(h) = (S + S') / sqrt 2 without its diagonal.

S = A'B / (B R sqrt N) has at most the rank B R of its factors A, B [R B, N].  Where that is fewer multiplications, off(h) is
not formed: off(h) M = F'(Q M) - d M with F = [A; B], Q = [B; A] scaled, d the diagonal of F'Q, for M = [W, V] and more.
M off(h) is the transpose of off(h) M', and is computed as that, with views.
"""
from typing import NamedTuple

import numpy as np

from ops.rule.primitive import kernel
from ops.rule.threads import products

LIN = 3  # of a layer's seven projections the first of lin's two; sqr's two follow


class Lateral(NamedTuple):
    """off(h) of lin and sqr: F' Q - diag d, F and Q [2, 2 R B, N], d [2, N]; or formed: F [2, N, N], None and None."""
    F: np.ndarray
    Q: np.ndarray | None
    d: np.ndarray | None


def worth_forming(rank, units, columns):
    """Does off(h) [units, units], formed once, times W and V [units, columns] take fewer multiplications than its factors?"""
    return units * (rank + 2 * columns) <= 8 * rank * columns


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


def lateral(r, columns):
    """The `Lateral` of a layer's projections r [7, R B, N], to be multiplied with matrices [N, columns]."""
    _, rank, N = r.shape
    if worth_forming(rank, N, columns):
        S = np.empty((2, N, N), r.dtype)
        products(*((r[LIN + 2 * k].T, r[LIN + 2 * k + 1], S[k]) for k in (0, 1)))
        symmetrise(S, _scale(r))
        return Lateral(S, None, None)
    F, Q = r[LIN:].reshape(2, -1, N), (_scale(r) * _exchanged(r[LIN:])).reshape(2, -1, N)
    return Lateral(F, Q, (F * Q).sum(axis=1))


def _exchanged(r):
    """[4, R B, N] with A and B of both readouts exchanged."""
    return r.reshape(2, 2, *r.shape[1:])[:, ::-1].reshape(r.shape)


def turned(a):
    """The transposes of matrices [..., m, n]: views."""
    return np.swapaxes(a, -1, -2)


def times(a, b, out):
    """The products a @ b, one of them [2, ., .], into out [2, ., .], as jobs of `products`."""
    return [(a if a.ndim == 2 else a[which], b if b.ndim == 2 else b[which], out[which]) for which in range(2)]


def halfway(lateral, Ms, multiply=products):
    """Q M of lin's and sqr's M [2, N, columns], or M itself where off(h) is formed."""
    if lateral.Q is None:
        return Ms
    halves = np.empty((2, 2, lateral.Q.shape[1], Ms[0].shape[2]), Ms[0].dtype)
    multiply(*(job for job in zip(lateral.Q, Ms, halves) for job in times(*job)))
    return halves


def lateral_vjp(lateral, r, g, Ms, halves, g_r):
    """Gradients with respect to lin's and sqr's M [2, N, columns], given those of off(h) M; fills g_r, of `lateral`'s r."""
    F, Q, d = lateral
    g_F, of_V, g_halves = np.empty(F.shape, F.dtype), np.empty(F.shape, F.dtype), [np.empty_like(a) for a in halves]
    products(*(job for k in (0, 1) for job in (*times(F[k], g[k], g_halves[k]), (halves[k][0], g[k][0].T, g_F[k]),
                                               (halves[k][1], g[k][1].T, of_V[k]))))
    g_F += of_V
    if Q is None:
        symmetrise(g_F, _scale(r))
        products(*(job for k, a in ((0, LIN), (1, LIN + 2))
                   for job in ((r[a + 1], g_F[k], g_r[a]), (r[a], g_F[k], g_r[a + 1]))))
        return g_halves
    g_Q, g_Ms = np.empty_like(Q), [np.empty_like(M) for M in Ms]
    products(*(job for k in (0, 1) for job in (*times(Q[k].T, g_halves[k], g_Ms[k]), (g_halves[k][0], Ms[k][0].T, g_Q[k]),
                                               (g_halves[k][1], Ms[k][1].T, of_V[k]))))
    g_Q += of_V
    for k in (0, 1):
        g_Ms[k] -= d[k][:, None] * g[k]
        g_d = -(g[k] * Ms[k]).sum(axis=(0, 2))
        g_F[k] += g_d * Q[k]
        g_Q[k] += g_d * F[k]
    g_r[LIN:] = g_F.reshape(4, -1, F.shape[2]) + _scale(r) * _exchanged(g_Q.reshape(4, -1, F.shape[2]))
    return g_Ms
