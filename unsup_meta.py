"""Meta-Learning Update Rules for Unsupervised Representation Learning (Metz et al., ICLR 2019), appendix G.

To be read beside the paper: its order, its axes and indices, `(App.n)` the number of the equation that a line is.
Hidden tensors are [B, N, C]: B batch, N units of a layer, C channels; layers are l = 1..L, l = 0 is the input.
`python unsup_meta.py` tells one update of a tiny network, line by line, with the numbers.

Each body is the definition, in plain NumPy (autograd's).  A line `@fast(kernel)` above it names what runs
instead of it, much faster; UNSUP_META_PLAIN=1 runs the definitions.  Arrays are float32 or float64, as given.

What the paper leaves open, cannot be read, or contradicts is decided thus ("release": the authors' code):
D1   Every batch norm uses the batch at hand, population variance, eps 1e-6 (as in App.25, 33, 87, 89, Wn and Wu).  The
     rule's have an offset beta per channel and no scale, the base model's offset is b: convolutions before have no bias.
D2   W and V start truncated normal (cut at 2 sd) with sd 0.01, b with sd 0.1 (release).
D3   Position codes run over 0 to 4 pi, both ends included (release; App.81-82 are not legible).
D4   The 8 weight statistics of a layer are divided together by their root mean square (release).
D5   W and each plane are normalised per column, i.e. per receptive field (release; the index is not legible), x^(l-1)
     and x^l of plane 6 are standardised per unit.  Which of App.41-47 is which of planes 1 to 6 is not legible either.
D6   Readouts are means over batch and rank (release; App.40's factor is not legible).
D7   Planes 8 and 10 carry the sign of W (release; the paper prints none).
D8   App.59, printed "merge - Wu relu(merge . Wu)": merge + Wu relu(-merge . Wu).  The text wants updates that do not
     shrink W; the printed sign, with App.5's plus, would do the opposite.
D9   App.62, printed "base - relu(-mean base)": base - relu(mean base), so that biases cannot drift into the linear regime,
     as the text wants.  App.63's 1/2 is the release's.
D10  theta starts truncated normal with sd 1 / sqrt(fan in), offsets zero, merge 0.1 (release's layer defaults).
D11  Features that are evaluated (`features`) take their statistics from one fixed unlabelled batch of training inputs.
"""
import sys
from collections import namedtuple

import autograd.numpy as np

from ops.rule import checks, compute_h as hidden, dense, error, ridge, theta_file, updates
from ops.rule.activations import activation_named, relu, sigmoid
from ops.rule.conv import BATCH, UNIT
from ops.rule.fast import fast
from ops.rule.primitive import EPS, gradient, remat

READOUTS = ("zero", "rbf", "first", "lin_lower", "sqr_lower", "lin_upper", "sqr_upper")

Layer = namedtuple("Layer", "W b V")
Layer.__doc__ = "One layer of phi: W, V [N^(l-1), N^l] and b [N^l] (App.8-11); V serves the rule alone."


# --- What is learned: theta, and what it changes: phi ---------------------------------------------
def theta_shapes(batch_size, hdims, delta, top, rank):
    """{name: shape} of every meta-parameter: kernels [K, C_in, C_out], matrices [in, out]."""
    B, H, D, T, R = batch_size, hdims, delta, top, rank
    kernels = {"top_d/conv1": (5, 1, T), "top_d/unit1": (3, B, B), "top_d/unit2": (3, B, B),          # App.67, 70, 72
               "top_d/conv2": (3, T, T), "top_d/conv3": (3, T, T),                                    # App.74, 76
               "compute_h/conv1": (3, 13 + D, H), "compute_h/unit1": (3, H, H),                       # App.96, 98
               "compute_h/conv2": (3, H, H), "compute_h/unit2": (3, H, H)}                            # App.100, 102
    shapes = {}
    for name, shape in kernels.items():
        shapes[f"{name}/w"], shapes[f"{name}/beta"] = shape, shape[2:]
    shapes.update({"top_d/out/w": (3, T, D), "top_d/out/b": (D,), "compute_h/in/beta": (4 + D,),      # App.78, 93
                   "error/w": (H, D), "error/b": (D,), "merge": (10,), "bias": (H,)})                 # App.31, 58, 61
    for name in READOUTS:
        shapes[f"readout/{name}/pa"] = shapes[f"readout/{name}/pb"] = (H, R)                          # App.37
    return shapes


def init_theta(rng, batch_size=128, hdims=64, delta=32, top=64, rank=4, dtype=np.float32):
    """A fresh theta {name: array} for batches of `batch_size` = B, with H, delta, T and R channels (D10)."""
    theta = {}
    for name, shape in theta_shapes(batch_size, hdims, delta, top, rank).items():
        if name == "merge" or name.endswith(("/beta", "/b")):
            theta[name] = np.full(shape, 0.1 if name == "merge" else 0.0, dtype)
        else:
            fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else shape[0]
            theta[name] = truncated_normal(rng, shape, 1 / np.sqrt(fan_in), dtype)
    return theta


def init_phi(rng, sizes, dtype=np.float32):
    """A fresh base model, sizes = [N^0, ..., N^L] (D2): a list of L `Layer`s."""
    draw = lambda *shape, sd: truncated_normal(rng, shape, sd, dtype)
    return [Layer(draw(m, n, sd=0.01), draw(n, sd=0.1), draw(m, n, sd=0.01)) for m, n in zip(sizes[:-1], sizes[1:])]


def truncated_normal(rng, shape, sd, dtype):
    """Normal draws with standard deviation `sd` before those beyond 2 sd are drawn again."""
    draws = rng.standard_normal(shape)
    while (outside := np.abs(draws) > 2).any():
        draws[outside] = rng.standard_normal(int(outside.sum()))
    return (sd * draws).astype(dtype)


def load_theta(path):
    """{name: array} of a theta `.npz`.  ValueError for a missing, corrupt or incomplete file, wrong shapes, NaN."""
    return theta_file.load_theta(path, theta_shapes)


def save_theta(path, theta, **config):
    """Write theta and the scalars config/NAME to `path`, atomically.  ValueError unless theta is whole and finite."""
    theta_file.save_theta(path, theta, theta_shapes, **config)


# --- G.1 Inner loop (App.1-7) ---------------------------------------------------------------------
def unsupervised_update(phi, x, theta, lr=3e-4, norm_eps=1.0, activation="relu"):
    """phi_(t+1) = UnsupervisedUpdate(x, phi_t; theta) (App.1): a list of `Layer` after the batch x [B, N^0].

    lr is lambda_phi_lr, norm_eps the 1 of App.60.  Raises ValueError where theta, phi and x do not fit.
    """
    phi = [Layer(*layer) for layer in phi]
    xs, zs, ds, hs = hidden_states(phi, x, theta, activation)               # (App.2-3, 27-34)
    deltas = compute_delta_weight(phi, xs, hs, theta, norm_eps)             # (App.4)
    return [Layer(*(moving_average(p, delta, lr) for p, delta in zip(*pair))) for pair in zip(phi, deltas)]


@fast(updates.moving_average)
def moving_average(p, delta, lr):
    """W, b or V after an update, any shape (App.5-7)."""
    return p * (1 - lr) + delta * lr                                        # (App.5-7)


# --- G.2 Base model (App.8-16) --------------------------------------------------------------------
def base_model(phi, x, activation="relu"):
    """f(x; phi): x [..., B, N^0] -> x^0..x^L and z^0..z^L, lists of [..., B, N^l]; z^0, not defined, is zeros."""
    act = activation_named(activation)
    xs, zs = [x], [np.zeros(x.shape, x.dtype)]
    for W, b, _ in phi:
        z = base_layer(xs[-1], W, b)                                        # (App.13)
        x = act(z)                                                          # (App.14)
        xs, zs = xs + [x], zs + [z]
    return xs, zs


@fast(dense.base_layer)
def base_layer(x, W, b):
    """z^l of x^(l-1) [..., B, N^(l-1)] -> [..., B, N^l]; leading axes are batches with statistics of their own (D1)."""
    return batch_norm(np.matmul(x, W), -2) + b                              # (App.13)


def batch_norm(u, axes, of=None):
    """(u - mean) / sqrt(variance + eps) over `axes`; the statistics of `of` where given (D1)."""
    of = u if of is None else of
    mean = np.mean(of, axis=axes, keepdims=True)
    variance = np.mean((of - mean) ** 2, axis=axes, keepdims=True)
    return (u - mean) / np.sqrt(variance + EPS)


def features(phi, x, reference_batch, activation="relu"):
    """x^L [n, N^L] of x [n, N^0]; every batch norm has the statistics of `reference_batch` [m, N^0] (D11)."""
    act, ref = activation_named(activation), reference_batch
    for W, b, _ in phi:
        u, v = np.dot(ref, W), np.dot(x, W)
        ref, x = act(batch_norm(u, 0) + b), act(batch_norm(v, 0, of=u) + b)
    return x


# --- G.3 MetaObjective (App.17-26) ----------------------------------------------------------------
def meta_objective(phi, xa, ya, xb, yb, ridge=0.1, cosine=True):
    """How badly a ridge readout of x^L, fitted on (xa, ya), predicts (xb, yb): a scalar (App.17).

    xa, xb [..., K, N^0]; ya, yb [..., K, targets], one-hot classes first.  Leading axes are pairs of batches,
    averaged.  0 is perfect, 2 chance; cosine=False, the workshop paper's form (chance 1), does not scale rows of p.
    """
    p = predictions(phi, xa, ya, xb, ridge)                                 # (App.18-24)
    return prediction_error(p, normalise_targets(yb), cosine)               # (App.25-26)


def predictions(phi, xa, ya, xb, ridge=0.1):
    """p [..., K, targets]: what a ridge readout of x^L, fitted on (xa, ya), says of xb; see `meta_objective`."""
    A, A_test = (with_ones(xL) for xL in embeddings(phi, xa, xb))           # (App.18-19, 22)
    C = solve_ridge(A, normalise_targets(ya), ridge)                        # (App.23)
    return np.matmul(A_test, C)                                             # (App.24)


@fast(dense.embeddings)
def embeddings(phi, xa, xb):
    """x^L [..., K, N^L] of both labelled batches; no gradient with respect to the batches."""
    return base_model(phi, xa)[0][-1], base_model(phi, xb)[0][-1]           # (App.18-19)


def normalise_targets(y):
    """Targets centred, then rows scaled to a mean square norm of 1: y [..., K, targets], leading axes batches.

    Raises ValueError where all targets of a batch are equal.
    """
    y = y - np.mean(y, axis=(-2, -1), keepdims=True)                        # (App.20)
    checks.check_targets(y)
    return y / np.sqrt(np.mean(np.sum(y ** 2, axis=-1, keepdims=True), axis=-2, keepdims=True))  # (App.21)


def with_ones(x):
    """[x; 1] (App.22): x [..., K, F] -> [..., K, F + 1]."""
    return np.concatenate([x, np.ones(x.shape[:-1] + (1,), x.dtype)], axis=-1)


@fast(ridge.solve_ridge)
def solve_ridge(A, y, ridge):
    """C of A [..., K, F], y [..., K, targets] -> [..., F, targets].

    The kernel solves in float64, and gives NaN where the matrix is singular and this raises LinAlgError.
    """
    At = np.swapaxes(A, -1, -2)
    return np.linalg.solve(np.matmul(At, A) + ridge * np.eye(A.shape[-1], dtype=A.dtype), np.matmul(At, y))  # (App.23)


@fast(ridge.prediction_error)
def prediction_error(p, y, cosine=True):
    """Mean over rows of ||p - y||^2, rows of p [..., K, targets] scaled to norm 1 if `cosine`."""
    if cosine:
        p = p / np.sqrt(np.sum(p ** 2, axis=-1, keepdims=True) + EPS)       # (App.25)
    return np.mean(np.sum((p - y) ** 2, axis=-1))                           # (App.26)


def accuracy(p, y, classes=None):
    """The share of rows whose class, among the first `classes` columns of y [..., K, targets], p predicts."""
    return float(np.mean(p[..., :classes].argmax(-1) == y[..., :classes].argmax(-1)))


# --- G.4 Backward error propagation (App.27-34) ---------------------------------------------------
def hidden_states(phi, x, theta, activation="relu"):
    """xs, zs [B, N^l], ds [B, N^l, delta] and hs [B, N^l, H], lists over l = 0..L, of a batch x [B, N^0].

    Raises ValueError where theta, phi and x do not fit.
    """
    phi = [Layer(*layer) for layer in phi]
    checks.check_fit(theta, phi, x, theta_shapes)
    L = len(phi)
    xs, zs = base_model(phi, x, activation)                                 # (App.28)
    ds, hs = [None] * (L + 1), [None] * (L + 1)
    ds[L] = top_d(xs[L], theta)                                             # (App.29)
    for l in range(L, -1, -1):
        W, b, V = phi[l - 1] if l > 0 else (None, np.zeros(x.shape[1], x.dtype), None)  # phi[l - 1] is layer l
        W_above = phi[l].W if l < L else None
        hs[l] = compute_h(ds[l], xs[l], zs[l], W, W_above, b, theta)        # (App.34)
        if l > 0:
            ds[l - 1] = next_d(ds[l], zs[l], hs[l], V, theta)               # (App.31-33)
    return xs, zs, ds, hs


@fast(error.next_d)
def next_d(d, z, h, V, theta):
    """d^(l-1) [B, N^(l-1), delta] of layer l's d, z, h and V."""
    delta = d * sigmoid(z)[:, :, None] + np.dot(h, theta["error/w"]) + theta["error/b"]  # (App.31)
    d_hat = np.einsum("bjd,mj->bmd", delta, V)                              # (App.32)
    return d_hat / np.sqrt(np.mean(d_hat ** 2, axis=2, keepdims=True) + EPS)  # (App.33)


# --- G.5 Weight updates (App.35-55) ---------------------------------------------------------------
def low_rank_readout(ha, hb, theta, name):
    """LowRR(ha, hb; Theta) (App.35-37): ha [B, Na, H], hb [B, Nb, H] -> [Na, Nb], Theta = {Pa, Pb} [H, R] of readout `name`."""
    ra = np.dot(ha, theta[f"readout/{name}/pa"])                            # (App.38)
    rb = np.dot(hb, theta[f"readout/{name}/pb"])                            # (App.39)
    B, _, R = ra.shape
    return np.einsum("bip,bjp->ij", ra, rb) / (B * R)                       # (App.40, D6)


def lateral(h, theta, name):
    """(S + S') / sqrt 2 without its diagonal, S the readout of h [B, N, H] with itself: [N, N]."""
    N = h.shape[1]
    S = low_rank_readout(h, h, theta, name) / N ** 0.5                      # (App.48, 50, 52, 54)
    return np.where(np.eye(N) > 0, 0.0, (S + S.T) / 2 ** 0.5)               # (in App.49, 51, 53, 55)


def planes(W, x_lower, x, h_lower, h, theta):
    """The ten planes of an update of W [I, J], I = N^(l-1), J = N^l, each [I, J].

    x_lower [B, I], x [B, J]: x^(l-1), x^l standardised per unit; h_lower [B, I, H], h [B, J, H]: h^(l-1), h^l.
    """
    Wn = W / np.sqrt(np.mean(W ** 2, axis=0) + EPS)                         # (D5)
    sq = np.sqrt(1 + Wn ** 2) - 1                                           # (in App.51, 55)
    plane1 = Wn                                                             # (App.41)
    plane2 = Wn ** 2 * np.sign(Wn)                                          # (App.42)
    plane3 = low_rank_readout(h_lower, h, theta, "zero")                    # (App.43)
    plane4 = np.exp(-Wn ** 2) * low_rank_readout(h_lower, h, theta, "rbf")  # (App.44)
    plane5 = Wn * low_rank_readout(h_lower, h, theta, "first")              # (App.45)
    plane6 = np.dot(x_lower.T, x) / len(x)                                  # (App.46-47)
    plane7 = np.dot(lateral(h_lower, theta, "lin_lower"), Wn)               # (App.48-49)
    plane8 = np.dot(lateral(h_lower, theta, "sqr_lower"), sq) * np.sign(Wn)  # (App.50-51, D7)
    plane9 = np.dot(Wn, lateral(h, theta, "lin_upper"))                     # (App.52-53)
    plane10 = np.dot(sq, lateral(h, theta, "sqr_upper")) * np.sign(Wn)      # (App.54-55, D7)
    return [plane1, plane2, plane3, plane4, plane5, plane6, plane7, plane8, plane9, plane10]


# --- G.6 Application of the weight terms (App.57-64) ----------------------------------------------
def delta_weight(W, x_lower, x, h_lower, h, theta, norm_eps):
    """DeltaW^l [I, J], arguments as of `planes`; norm_eps is the 1 of App.60."""
    ten = planes(W, x_lower, x, h_lower, h, theta)
    normed = [p / np.sqrt(1 + np.mean(p ** 2, axis=0)) for p in ten]        # (App.57, D5)
    merge = sum(theta["merge"][i] * p for i, p in enumerate(normed)) / 10   # (App.58)
    Wu = W / np.sqrt(np.sum(W ** 2) + EPS)                                  # (in App.59)
    orth = merge + Wu * relu(-np.sum(merge * Wu))                           # (App.59, D8)
    return orth / np.sqrt(norm_eps + np.mean(orth ** 2))                    # (App.60)


def delta_bias(h, theta):
    """Delta b^l [N^l] of h^l [B, N^l, H]."""
    base = np.mean(np.dot(h, theta["bias"]), axis=0)                        # (App.61)
    constrained = base - relu(np.mean(base))                                # (App.62, D9)
    return constrained / np.sqrt(0.5 + np.mean(constrained ** 2))           # (App.63)


@fast(updates.compute_delta_weight)
def compute_delta_weight(phi, xs, hs, theta, norm_eps=1.0):
    """ComputeDeltaWeight (App.64): a list of `Layer(DeltaW, Delta b, DeltaV)`, l = 1..L, of xs and hs, l = 0..L."""
    deltas = []
    standard = [batch_norm(x, 0) for x in xs]                               # (in App.46-47, D5)
    for l, (W, b, V) in enumerate(phi, start=1):
        of = (standard[l - 1], standard[l], hs[l - 1], hs[l], theta, norm_eps)
        deltas.append(Layer(delta_weight(W, *of), delta_bias(hs[l], theta), delta_weight(V, *of)))
    return deltas


# --- G.7 TopD (App.65-79) -------------------------------------------------------------------------
def conv(m, w, axis):
    """ConvBatch (axis 0) or ConvUnit (axis 1): m [B, N, C], w [K, C, S] -> [B, N, S], not flipped, zero padded."""
    K, along = w.shape[0], np.swapaxes(m, 0, axis)
    padded = np.pad(along, [((K - 1) // 2, K // 2), (0, 0), (0, 0)], mode="constant")
    return np.swapaxes(sum(np.dot(padded[k:k + along.shape[0]], w[k]) for k in range(K)), 0, axis)


def conv_bn_relu(m, theta, name, axis):
    """ReLU(BatchNorm(Conv(m), [0, 1])) with the kernel w [K, C, S] and the offset beta [S] of `name` (D1)."""
    return relu(batch_norm(conv(m, theta[f"{name}/w"], axis), (0, 1)) + theta[f"{name}/beta"])


@fast(hidden.top_d)
def top_d(xL, theta):
    """d^L = TopD(x^L) (App.65): xL [B, N^L] -> [B, N^L, delta].  The unit convolutions tie theta to one batch size."""
    m0 = xL[:, :, None]                                                     # (App.66)
    m2 = conv_bn_relu(m0, theta, "top_d/conv1", BATCH)                      # (App.67-68)
    m2 = np.transpose(m2, (2, 1, 0))                                        # [T, N, B]: the batch as channels
    m4 = conv_bn_relu(m2, theta, "top_d/unit1", UNIT)                       # (App.70-71)
    m6 = conv_bn_relu(m4, theta, "top_d/unit2", UNIT)                       # (App.72-73)
    m6 = np.transpose(m6, (2, 1, 0))                                        # [B, N, T] again
    m8 = conv_bn_relu(m6, theta, "top_d/conv2", BATCH)                      # (App.74-75)
    m10 = conv_bn_relu(m8, theta, "top_d/conv3", BATCH)                     # (App.76-77)
    return conv(m10, theta["top_d/out/w"], BATCH) + theta["top_d/out/b"]    # (App.78-79)


# --- G.8 ComputeH (App.80-104) --------------------------------------------------------------------
def stats(W, axis):
    """Stats(W, axis): four statistics of each column (axis 0) or row (axis 1) of W: [4, N]."""
    size = np.mean(np.abs(W), axis)                                         # (App.86)
    length = np.sqrt(np.mean(W ** 2, axis) + EPS)                           # (App.87)
    mean = np.mean(W, axis)                                                 # (App.88)
    deviation = np.sqrt(np.mean((W - np.expand_dims(mean, axis)) ** 2, axis) + EPS)  # (App.89)
    return np.stack([size, length, mean, deviation])                        # (App.90)


@fast(hidden.compute_h)
def compute_h(d, x, z, W, W_above, b, theta):
    """h^l = ComputeH(d^l, x^l, z^l, W^l, W^(l+1), b^l) (App.80): d [B, N, delta]; x, z [B, N]; b [N] -> [B, N, H].

    W is None for l = 0 and W_above for l = L: the statistics of what is not defined are zeros.
    """
    B, N = x.shape
    tile = lambda rows: np.transpose(rows)[None] * np.ones((B, 1, 1), x.dtype)  # [C, N] -> [B, N, C]
    angle = np.linspace(0, 4 * np.pi, N).astype(x.dtype)                    # (D3)
    p = tile(np.stack([np.sin(angle), np.cos(angle)]))                      # (App.81-82, D3)
    m0 = np.concatenate([x[:, :, None], z[:, :, None], p], axis=2)          # (App.83)
    m1 = np.concatenate([m0, d], axis=2)                                    # (App.84)
    s0 = stats(W, 0) if W is not None else np.zeros((4, N), x.dtype)        # (App.85-91)
    s1 = stats(W_above, 1) if W_above is not None else np.zeros((4, N), x.dtype)  # (App.92)
    s = np.concatenate([s0, s1])
    s = s / np.sqrt(np.mean(s ** 2) + EPS)                                  # (D4)
    m2 = batch_norm(m1, (0, 1)) + theta["compute_h/in/beta"]                # (App.93)
    m3 = np.concatenate([tile(s), m2, tile(b[None])], axis=2)               # (App.94-95)
    m5 = conv_bn_relu(m3, theta, "compute_h/conv1", BATCH)                  # (App.96-97)
    m7 = conv_bn_relu(m5, theta, "compute_h/unit1", UNIT)                   # (App.98-99)
    m9 = conv_bn_relu(m7, theta, "compute_h/conv2", BATCH)                  # (App.100-101)
    return conv_bn_relu(m9, theta, "compute_h/unit2", UNIT)                 # (App.102-104)


# --- The gradient that theta is learned by (Alg. 1) -----------------------------------------------
@remat
def inner_step(theta, phi, x, labelled, lr, norm_eps, ridge, cosine):
    """phi_(t+1), and the MetaObjective of this new state averaged over its M pairs of batches."""
    phi = unsupervised_update(phi, x, theta, lr, norm_eps)
    return meta_objective(phi, *labelled, ridge, cosine), phi


def unroll(theta, phi, x, labelled, lr=3e-4, norm_eps=1.0, ridge=0.1, cosine=True):
    """J, the mean MetaObjective over U new states with M pairs of batches each, and phi_U; shapes: `meta_gradient`."""
    J, U = 0.0, len(x)
    for u in range(U):
        J_u, phi = inner_step(theta, phi, x[u], [a[u] for a in labelled], lr, norm_eps, ridge, cosine)
        J = J + J_u / U
    return J, phi


def meta_gradient(theta, phi, x, labelled, lr=3e-4, norm_eps=1.0, ridge=0.1, cosine=True):
    """J, dJ/dtheta through the whole unroll, and phi_U to go on from (truncated there).

    theta {name: array}; phi a list of `Layer`; x [U, B, N^0]; labelled = (xa, ya, xb, yb), each [U, M, K, .],
    K points of one batch, y one-hot (and augmentation targets), not yet centred.
    Returns (float, {name: array} with theta's names, list of `Layer`).
    Raises ValueError where shapes, dtypes or theta's batch size do not fit.
    """
    checks.check_labelled(labelled, x)
    J, grad, phi_U = gradient(lambda theta: unroll(theta, phi, x, labelled, lr, norm_eps, ridge, cosine), theta)
    return float(J), grad, phi_U


if __name__ == "__main__":
    from ops.rule.tell import tell
    tell(sys.modules[__name__])
