"""Plain NumPy forms of primitives that tests/plain.py does not have as functions of their own."""
import autograd.numpy as anp
import numpy as np

import plain

EPS = 1e-6


def T(a):
    return anp.swapaxes(a, -1, -2)


def plain_compute_h_input(x, z, d, stats, b, beta):
    B, N = x.shape
    angle = np.linspace(0, 4 * np.pi, N)
    tile = lambda v: anp.tile(v[None], (B,) + (1,) * anp.ndim(v))
    m0 = anp.stack([x, z, tile(np.sin(angle)), tile(np.cos(angle))], axis=2)
    m2 = plain.batch_norm(anp.concatenate([m0, d], axis=2), (0, 1)) + beta
    return anp.concatenate([tile(stats), m2, tile(b[:, None])], axis=2)


def plain_merged_planes(Wn, feed, hebb, below, above, merge):
    sq, sign = anp.sqrt(1 + Wn ** 2) - 1, anp.sign(Wn)
    ten = [Wn, Wn ** 2 * sign, feed[0], anp.exp(-Wn ** 2) * feed[1], Wn * feed[2], hebb, anp.matmul(below[0], Wn),
           anp.matmul(below[1], sq) * sign, anp.matmul(Wn, above[0]), anp.matmul(sq, above[1]) * sign]
    out = anp.zeros(Wn.shape)
    for i, p in enumerate(ten):
        out = out + merge[i] * p / anp.sqrt(1 + anp.mean(p ** 2, axis=-2, keepdims=True)) / 10
    return out


def plain_keep_magnitude(merged, W):
    Wu = W / anp.sqrt(anp.sum(W ** 2, axis=(1, 2), keepdims=True) + EPS)
    return merged + Wu * plain.relu(-anp.sum(merged * Wu, axis=(1, 2), keepdims=True))


def plain_readouts(low, up):
    readout = lambda a, b: anp.einsum("ki,kj->ij", a, b) / low.shape[1]

    def lateral(r):
        N = r.shape[2]
        S = [readout(r[a], r[a + 1]) / np.sqrt(N) for a in (3, 5)]
        return anp.stack([anp.where(np.eye(N) > 0, 0.0, (s + s.T) / np.sqrt(2)) for s in S])

    return anp.stack([readout(low[i], up[i]) for i in range(3)]), lateral(low), lateral(up)


def plain_ridge(A, y, ridge):
    return anp.linalg.solve(anp.matmul(T(A), A) + ridge * np.eye(A.shape[-1]), anp.matmul(T(A), y))


def plain_loss(p, y, cosine):
    if cosine:
        p = p / anp.sqrt(anp.sum(p ** 2, axis=-1, keepdims=True) + EPS)
    return anp.mean(anp.sum((p - y) ** 2, axis=-1))
