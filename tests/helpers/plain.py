"""The whole rule again, in the plainest NumPy that autograd can differentiate.

No numba, no hand-derived VJP, no blocking: each line is one equation of the paper, slow and
obvious.  The tests hold the fast primitives of `ops/` and `unsup_meta.py` against it.
"""
import autograd.numpy as np

EPS = 1e-6


def batch_norm(u, axes):
    mean = np.mean(u, axis=axes, keepdims=True)
    var = np.mean((u - mean) ** 2, axis=axes, keepdims=True)
    return (u - mean) / np.sqrt(var + EPS)


def relu(u):
    return np.maximum(u, 0.0)


def sigmoid(u):
    return 0.5 * (np.tanh(0.5 * u) + 1.0)


def conv(x, w, axis):
    """Cross-correlation of x [B, N, C] along `axis` with w [K, C, S], zero padded to the same length."""
    taps, left = w.shape[0], (w.shape[0] - 1) // 2
    pad = [(0, 0)] * 3
    pad[axis] = (left, taps - 1 - left)
    xp, length = np.pad(x, pad, mode="constant"), x.shape[axis]
    out = 0.0
    for k in range(taps):
        window = xp[k:k + length] if axis == 0 else xp[:, k:k + length]
        out = out + np.einsum("bnc,cs->bns", window, w[k])
    return out


def conv_bn_relu(x, w, beta, axis):
    return relu(batch_norm(conv(x, w, axis), (0, 1)) + beta)


def base_model(phi, x, act=relu):
    xs, zs = [x], [np.zeros(x.shape)]
    for W, b, _ in phi:
        zs.append(batch_norm(np.dot(xs[-1], W), 0) + b)
        xs.append(act(zs[-1]))
    return xs, zs


def top_d(xL, t):
    m = conv_bn_relu(xL[..., None], t["top_d/conv1/w"], t["top_d/conv1/beta"], 0)
    for name in ("unit1", "unit2"):  # the batch is the channel axis here
        mt = conv(np.transpose(m, (2, 1, 0)), t[f"top_d/{name}/w"], 1)
        m = np.transpose(relu(batch_norm(mt, (0, 1)) + t[f"top_d/{name}/beta"]), (2, 1, 0))
    for name in ("conv2", "conv3"):
        m = conv_bn_relu(m, t[f"top_d/{name}/w"], t[f"top_d/{name}/beta"], 0)
    return conv(m, t["top_d/out/w"], 0) + t["top_d/out/b"]


def stats(w, axis):
    mean = np.mean(w, axis)
    var = np.mean((w - np.expand_dims(mean, axis)) ** 2, axis)
    return [np.mean(np.abs(w), axis), np.sqrt(np.mean(w ** 2, axis) + EPS), mean, np.sqrt(var + EPS)]


def weight_stats(W_below, W_above, n):
    zero = [np.zeros(n)] * 4
    s0 = stats(W_below, 0) if W_below is not None else zero
    s1 = stats(W_above, 1) if W_above is not None else zero
    s = np.stack(s0 + s1, axis=1)
    return s / np.sqrt(np.mean(s ** 2) + EPS)


def compute_h(d, x, z, W_below, W_above, b, t):
    B, N = x.shape
    angle = np.linspace(0, 4 * np.pi, N)
    tile = lambda v: np.tile(v[None], (B,) + (1,) * np.ndim(v))
    m0 = np.stack([x, z, tile(np.sin(angle)), tile(np.cos(angle))], axis=2)
    m2 = batch_norm(np.concatenate([m0, d], axis=2), (0, 1)) + t["compute_h/in/beta"]
    m = np.concatenate([tile(weight_stats(W_below, W_above, N)), m2, tile(b[:, None])], axis=2)
    for name, axis in (("conv1", 0), ("unit1", 1), ("conv2", 0), ("unit2", 1)):
        m = conv_bn_relu(m, t[f"compute_h/{name}/w"], t[f"compute_h/{name}/beta"], axis)
    return m


def hidden_states(phi, x, t):
    xs, zs = base_model(phi, x)
    L = len(phi)
    ds, hs = [None] * (L + 1), [None] * (L + 1)
    ds[L] = top_d(xs[L], t)
    for l in range(L, -1, -1):
        W_below = phi[l - 1][0] if l > 0 else None
        W_above = phi[l][0] if l < L else None
        b = phi[l - 1][1] if l > 0 else np.zeros(x.shape[1])
        hs[l] = compute_h(ds[l], xs[l], zs[l], W_below, W_above, b, t)
        if l > 0:
            delta = ds[l] * sigmoid(zs[l])[..., None] + np.dot(hs[l], t["error/w"]) + t["error/b"]
            dhat = np.einsum("bjc,mj->bmc", delta, phi[l - 1][2])
            ds[l - 1] = dhat / np.sqrt(np.mean(dhat ** 2, axis=2, keepdims=True) + EPS)
    return xs, zs, ds, hs


def low_rank_readout(ha, hb, t, name):
    pa, pb = t[f"readout/{name}/pa"], t[f"readout/{name}/pb"]
    return np.einsum("bir,bjr->ij", np.dot(ha, pa), np.dot(hb, pb)) / (ha.shape[0] * pa.shape[1])


def off(h, t, name):
    N = h.shape[1]
    S = low_rank_readout(h, h, t, name) / np.sqrt(N)
    return (S + S.T) / np.sqrt(2.0) * (1.0 - np.eye(N))


def planes(W, x_low, h_low, h, t):
    Wn = W / np.sqrt(np.mean(W ** 2, axis=0) + EPS)
    sgn = np.sign(Wn)
    sq = np.sqrt(1 + Wn ** 2) - 1
    B = x_low[0].shape[0]
    return [
        Wn,
        Wn ** 2 * sgn,
        low_rank_readout(h_low, h, t, "zero"),
        np.exp(-Wn ** 2) * low_rank_readout(h_low, h, t, "rbf"),
        Wn * low_rank_readout(h_low, h, t, "first"),
        np.dot(x_low[0].T, x_low[1]) / B,
        np.dot(off(h_low, t, "lin_lower"), Wn),
        np.dot(off(h_low, t, "sqr_lower"), sq) * sgn,
        np.dot(Wn, off(h, t, "lin_upper")),
        np.dot(sq, off(h, t, "sqr_upper")) * sgn,
    ]


def delta_w(W, x_low, x_up, h_low, h, t, norm_eps=1.0):
    standard = lambda u: batch_norm(u, 0)
    merge = 0.0
    for i, plane in enumerate(planes(W, (standard(x_low), standard(x_up)), h_low, h, t)):
        merge = merge + t["merge"][i] * plane / np.sqrt(1 + np.mean(plane ** 2, axis=0)) / 10
    Wu = W / np.sqrt(np.sum(W ** 2) + EPS)
    orth = merge + Wu * relu(-np.sum(merge * Wu))
    return orth / np.sqrt(norm_eps + np.mean(orth ** 2))


def delta_b(h, t):
    db = np.mean(np.dot(h, t["bias"]), axis=0)
    db = db - relu(np.mean(db))
    return db / np.sqrt(0.5 + np.mean(db ** 2))


def deltas(phi, x, t, norm_eps=1.0):
    xs, zs, ds, hs = hidden_states(phi, x, t)
    out = []
    for l, (W, b, V) in enumerate(phi, 1):
        args = (xs[l - 1], xs[l], hs[l - 1], hs[l], t, norm_eps)
        out.append((delta_w(W, *args), delta_b(hs[l], t), delta_w(V, *args)))
    return out


def unsupervised_update(phi, x, t, lr, norm_eps=1.0):
    step = deltas(phi, x, t, norm_eps)
    return [tuple(p * (1 - lr) + lr * dp for p, dp in zip(layer, d)) for layer, d in zip(phi, step)]


def meta_objective(phi, xa, ya, xb, yb, ridge=0.1, cosine=True):
    def target(y):
        y = y - np.mean(y)
        return y / np.sqrt(np.mean(np.sum(y ** 2, axis=1)))

    with_one = lambda u: np.concatenate([u, np.ones((u.shape[0], 1))], axis=1)
    A, A2 = with_one(base_model(phi, xa)[0][-1]), with_one(base_model(phi, xb)[0][-1])
    C = np.linalg.solve(np.dot(A.T, A) + ridge * np.eye(A.shape[1]), np.dot(A.T, target(ya)))
    p = np.dot(A2, C)
    if cosine:
        p = p / np.sqrt(np.sum(p ** 2, axis=1, keepdims=True) + EPS)
    return np.mean(np.sum((p - target(yb)) ** 2, axis=1))


def unrolled_objective(t, phi, x, labelled, lr, norm_eps=1.0, ridge=0.1, cosine=True):
    """J of `unsup_meta.meta_gradient`: mean over the U new states and M pairs."""
    xa, ya, xb, yb = labelled
    J, U, M = 0.0, x.shape[0], xa.shape[1]
    for u in range(U):
        phi = unsupervised_update(phi, x[u], t, lr, norm_eps)
        for m in range(M):
            J = J + meta_objective(phi, xa[u, m], ya[u, m], xb[u, m], yb[u, m], ridge, cosine) / (U * M)
    return J
