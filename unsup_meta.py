"""Meta-Learning Update Rules for Unsupervised Representation Learning (Metz et al., ICLR 2019).

The paper's equations, `(App.n)` being the number in its appendix, in the order in which they are built up:
base model (8-16), meta-objective (17-26), TopD (65-79) and ComputeH (80-104), the backward error propagation
that calls them (27-34), weight updates (35-64), the update (1-7), unroll and meta-gradient (Alg. 1).
D1, D2, ... are the decisions listed in the README where the paper is silent or unreadable.

Axes: B batch, N units of a layer, C channels.  A hidden tensor is `[C, B, N]` here, where the paper has
`[B, N, C]`: all that is done to a channel is then done to one run of B N numbers.  `hidden_states` alone
hands them out in the paper's order; indices in comments are in the paper's.  Layers run l = 1..L, l = 0 is
the input.  Arrays are float32 or float64, as given.  Each function called from `ops` is an autograd primitive
with a VJP of its own, so everything here can be differentiated.
"""
from collections import namedtuple

import autograd.numpy as np
import numpy as onp
from autograd.tracer import getval

from ops.rule.activations import activation_named
from ops.rule.compute_h_input import compute_h_input, error_signal, weight_stats
from ops.rule.conv import BATCH, UNIT, conv, conv_bn_relu
from ops.rule.initial import initial_theta, theta_shapes, truncated_normal  # noqa: F401
from ops.rule.norm import dense, limit_length, normalise_channels, normalise_columns, standardise
from ops.rule.planes import keep_magnitude, merged_planes
from ops.rule.primitive import EPS, recomputed, value_and_gradients
from ops.rule.products import half, matmul, move_towards, pair, transport
from ops.rule.readouts import bias_readout, project, readouts, stack_matrices, stop_drift
from ops.rule.ridge import normalise_targets, regression_loss, solve_ridge, with_ones
from ops.rule.theta_file import check_labelled, check_theta, load_theta, save_theta  # noqa: F401  (part of the interface)

# --- Base model (App.8-16) ----------------------------------------------------------------------

Layer = namedtuple("Layer", "W b V")
Layer.__doc__ = "One layer of phi: W, V [N^(l-1), N^l] and b [N^l] (App.8-11); V serves the rule alone."


def init_theta(rng, batch_size=128, hdims=64, delta=32, top=64, rank=4, dtype=onp.float32):
    """A fresh theta {name: array} for batches of `batch_size`, H, delta, T and R channels (D10)."""
    return initial_theta(rng, batch_size, hdims, delta, top, rank, dtype)


def init_phi(rng, sizes, dtype=onp.float32):
    """A fresh base model, sizes = [N^0, ..., N^L] (D2): a list of L `Layer`s."""
    draw = lambda *shape, sd: truncated_normal(rng, shape, sd, dtype)
    return [Layer(draw(m, n, sd=0.01), draw(n, sd=0.1), draw(m, n, sd=0.01))
            for m, n in zip(sizes[:-1], sizes[1:])]


def base_model(phi, x, activation="relu"):
    """f(x; phi) (App.12-16): x [..., K, N^0] -> x^0..x^L and z^0..z^L, lists of [..., K, N^l].

    z^0 is zeros.  Batch norm takes the statistics of this batch (D1); leading axes are separate batches.
    """
    act = activation_named(activation)
    xs, zs = [x], [onp.zeros(x.shape, x.dtype)]
    for W, b, _ in phi:
        zs.append(dense(xs[-1], W, b))               # z^l = BatchNorm(x^(l-1) W^l) + b^l       (App.13)
        xs.append(act(zs[-1]))                       # x^l = ReLU(z^l)                          (App.14)
    return xs, zs


def features(phi, x, reference_batch, activation="relu"):
    """x^L [n, N^L] of images x [n, N^0], each layer's batch-norm statistics being those of `reference_batch` (D11)."""
    act = activation_named(activation)
    ref = reference_batch
    for W, b, _ in phi:
        u, v = onp.matmul(ref, W), onp.matmul(x, W)
        mean = u.mean(axis=0)
        inv = (1 / onp.sqrt(u.var(axis=0) + EPS)).astype(u.dtype)
        ref, x = act((u - mean) * inv + b), act((v - mean) * inv + b)
    return x


# --- Meta-objective (App.17-26) -----------------------------------------------------------------


def _embeddings(phi, xa, xb):
    """[x^L; 1] of both labelled batches (App.18-19, 22), in one pass where they are of one size."""
    if xa.shape != xb.shape:
        return tuple(with_ones(base_model(phi, x)[0][-1]) for x in (xa, xb))
    both = with_ones(base_model(phi, onp.stack([xa, xb]))[0][-1])
    return half(both, 0), half(both, 1)


def predictions(phi, xa, ya, xb, ridge=0.1):
    """p = [x'^L; 1] C: what a ridge readout of x^L, fitted on (xa, ya), predicts for xb (App.17-24), [..., K, targets]."""
    A, A_test = _embeddings(phi, xa, xb)
    return matmul(A_test, solve_ridge(A, normalise_targets(ya), ridge))


def accuracy(p, y, classes=None):
    """The share of rows of y [..., K, targets] whose class, among its first `classes` columns, p predicts."""
    return float(onp.mean(p[..., :classes].argmax(-1) == y[..., :classes].argmax(-1)))


def meta_objective(phi, xa, ya, xb, yb, ridge=0.1, cosine=True, report=None):
    """How badly a ridge readout of x^L, fitted on (xa, ya), predicts (xb, yb): a scalar (App.17-26).

    xa, xb [..., K, N^0]; ya, yb [..., K, targets], one-hot classes first, not yet centred.  Leading axes
    are pairs of batches, averaged.  cosine=False is the workshop paper's squared error.  With `report`,
    a dict, `report["accuracy"]` becomes the share of xb whose largest prediction is its class.
    """
    A, A_test = _embeddings(phi, xa, xb)             # A = [x^L; 1]                             (App.22)
    y, y_test = (normalise_targets(y) for y in (ya, yb))  # centred, then scaled                 (App.20-21)
    C = solve_ridge(A, y, ridge)                     # C = (A'A + ridge I)^-1 A' y              (App.23)
    p = matmul(A_test, C)                            # p = [x'^L; 1] C                           (App.24)
    if report is not None:
        classes = report.get("classes", yb.shape[-1])
        report["accuracy"] = float(onp.mean(getval(p)[..., :classes].argmax(-1) == yb[..., :classes].argmax(-1)))
    return regression_loss(p, y_test, cosine)        # p / ||p||, then mean ||p - y||^2         (App.25, 26)


# --- TopD (App.65-79) ---------------------------------------------------------------------------


def top_d(xL, theta):
    """d^L = TopD(x^L; theta): xL [B, N^L] -> [delta, B, N^L]."""
    weights = lambda *names: (theta[f"top_d/{name}/{part}"] for name in names for part in ("w", "beta"))
    m = np.reshape(xL, (1,) + xL.shape)              # m0                                        (App.66)
    m = conv_bn_relu(m, (BATCH,), *weights("conv1"))  # m2, K = 5                                (App.67-68)
    m = np.transpose(m, (1, 0, 2))                   # [B, T, N]: the batch becomes the channels
    m = conv_bn_relu(m, (UNIT, UNIT), *weights("unit1", "unit2"))  # m6, S = B                   (App.70-73)
    m = np.transpose(m, (1, 0, 2))                   # back to [T, B, N]
    m = conv_bn_relu(m, (BATCH, BATCH), *weights("conv2", "conv3"))  # m10                       (App.74-77)
    return conv(m, theta["top_d/out/w"], theta["top_d/out/b"], BATCH)  # m11                     (App.78-79)


# --- ComputeH (App.80-104) ----------------------------------------------------------------------


def compute_h(d, x, z, W_below, W_above, b, theta):
    """h^l = ComputeH(d^l, x^l, z^l, W^l, W^(l+1), b^l; theta) -> [H, B, N^l].

    d [delta, B, N]; x, z [B, N]; b [N]; W_below = W^l or None, W_above = W^(l+1) or None: the statistics
    of a matrix that does not exist are zeros.
    """
    s = weight_stats(W_below, W_above, x.shape[1])   # s0, s1, [N, 8]                            (App.85-92, D4)
    m = compute_h_input(x, z, d, s, b, theta["compute_h/in/beta"])  # m3, [13 + delta, B, N] (App.81-84, 93-95)
    names = ("conv1", "unit1", "conv2", "unit2")
    weights = (theta[f"compute_h/{name}/{part}"] for name in names for part in ("w", "beta"))
    return conv_bn_relu(m, (BATCH, UNIT, BATCH, UNIT), *weights)  # m11                          (App.96-104)


WIDE = 2 << 20  # floats, 8 MB: blocks with larger intermediates keep none of them in a recomputed unroll


def _compute_h_again(d, x, z, W_below, W_above, b, theta):
    """`compute_h` as one node of the tape that computes it again in the backward pass: a third of the memory."""
    names = [name for name in theta if name.startswith("compute_h/")]
    given = [x, z, W_below, W_above, b]
    at = [i for i, a in enumerate(given) if a is not None]

    def again(d, *arrays):
        some, inner = dict(zip(at, arrays)), dict(zip(names, arrays[len(at):]))
        return (compute_h(d, *(some.get(i) for i in range(len(given))), inner),)

    return recomputed(again)(d, *(given[i] for i in at), *(theta[name] for name in names))[0]


# --- Backward error propagation (App.27-34) -----------------------------------------------------


def next_delta(d, z, h, V, theta):
    """d^(l-1) [delta, B, N^(l-1)] from layer l's d, z, h and V^l."""
    delta = error_signal(d, z, h, theta["error/w"], theta["error/b"])  # delta^l = d sigmoid(z) + h E + e (App.31)
    dhat = transport(V, delta)                       # sum_j delta^l_bjc V^l_mj                  (App.32)
    return normalise_channels(dhat)                  # dhat / sqrt(mean_c dhat^2)                (App.33)


def hidden_states(phi, x, theta, activation="relu"):
    """Forward pass, then d and h from the top down (App.27-34): xs, zs, ds, hs, lists over l = 0..L.

    x [B, N^0]; xs, zs [B, N^l]; in the paper's order ds [B, N^l, delta], hs [B, N^l, H].
    Raises ValueError where theta, phi and x do not fit.
    """
    phi = [Layer(*layer) for layer in phi]
    check_theta(theta, phi, x)
    xs, zs, ds, hs = _hidden_states(phi, x, theta, activation)
    channels_last = lambda tensors: [np.transpose(a, (1, 2, 0)) for a in tensors]
    return xs, zs, channels_last(ds), channels_last(hs)


def _hidden_states(phi, x, theta, activation, frugal=False):
    """frugal: where a gradient is taken, compute the h of wide layers again in the backward pass."""
    L = len(phi)
    xs, zs = base_model(phi, x, activation)          #                                           (App.28)
    ds, hs = [None] * (L + 1), [None] * (L + 1)
    ds[L] = top_d(xs[L], theta)                      #                                           (App.29)
    for l in range(L, -1, -1):
        W_below = phi[l - 1].W if l > 0 else None    # phi[l - 1] is layer l of the paper
        W_above = phi[l].W if l < L else None
        b = phi[l - 1].b if l > 0 else onp.zeros(x.shape[1], x.dtype)
        wide = frugal and xs[l].size * theta["compute_h/unit2/beta"].size >= WIDE
        of = _compute_h_again if wide else compute_h
        hs[l] = of(ds[l], xs[l], zs[l], W_below, W_above, b, theta)  #                           (App.34)
        if l > 0:
            ds[l - 1] = next_delta(ds[l], zs[l], hs[l], phi[l - 1].V, theta)
    return xs, zs, ds, hs


# --- Weight updates (App.35-64) -----------------------------------------------------------------

# h^l is read out twice: as the upper layer of W^l and as the lower layer of W^(l+1) (App.35-55).
_LOWER = ("zero/pa", "rbf/pa", "first/pa", "lin_lower/pa", "lin_lower/pb", "sqr_lower/pa", "sqr_lower/pb")
_UPPER = ("zero/pb", "rbf/pb", "first/pb", "lin_upper/pa", "lin_upper/pb", "sqr_upper/pa", "sqr_upper/pb")


def readout_matrices(theta):
    """The projections P_a, P_b of all readouts (App.37), stacked [7, H, R] for the lower and the upper layer."""
    return tuple(stack_matrices(*(theta[f"readout/{name}"] for name in names)) for names in (_LOWER, _UPPER))


def hebbian(xs_low, xs):
    """xs^(l-1)' xs^l / B: xs_low [B, I], xs [B, J] -> [I, J] (App.46-47)."""
    return matmul(np.transpose(xs_low), xs / xs.dtype.type(xs.shape[0]))


def delta_weights(WV, xs_low, xs, low, up, merge, norm_eps):
    """DeltaW^l and DeltaV^l [2, I, J]: ten planes merged, kept from shrinking W, bounded (App.41-60).

    WV [2, I, J]: W^l and V^l; xs_low [B, I], xs [B, J]: x^(l-1), x^l standardised; low [7, R B, I],
    up [7, R B, J]: h^(l-1), h^l projected (App.38-39).  With sq = sqrt(1 + Wn^2) - 1 the planes are

        1  Wn                     (App.41)      6  xs^(l-1)' xs^l / B               (App.46-47)
        2  Wn^2 sign(Wn)          (App.42)      7  below_lin Wn                     (App.49)
        3  feed_zero              (App.43)      8  (below_sqr sq) sign(Wn)          (App.51, D7)
        4  exp(-Wn^2) feed_rbf    (App.44)      9  Wn above_lin                     (App.53)
        5  Wn feed_first          (App.45)     10  (sq above_sqr) sign(Wn)          (App.55, D7)
    """
    Wn = normalise_columns(WV)                       # unit second moment per receptive field    (D5)
    lower_upper = readouts(low, up)                  # LowRR and its off-diagonal forms          (App.40, 48-54)
    feed, below, above = (lower_upper[i] for i in range(3))
    merged = merged_planes(Wn, feed, hebbian(xs_low, xs), below, above, merge)  # DeltaW_merge   (App.57-58)
    orth = keep_magnitude(merged, WV)                # merge + Wu relu(-<merge, Wu>)             (App.59, D8)
    return limit_length(orth, norm_eps, True)        # orth / sqrt(e + mean orth^2)              (App.60)


def delta_bias(h, theta):
    """Delta b^l [N] from h^l [H, B, N] (App.61-63, D9)."""
    b0 = bias_readout(h, theta["bias"])              # mean over the batch of h w                (App.61)
    b1 = stop_drift(b0)                              # b0 - relu(mean b0)                        (App.62)
    return limit_length(b1, 0.5, False)              # b1 / sqrt(0.5 + mean b1^2)                (App.63)


def compute_delta_weight(phi, xs, hs, theta, norm_eps=1.0, frugal=False):
    """[(DeltaWV [2, I, J], Delta b [J], WV)] for l = 1..L (App.64) from xs and hs, [H, B, N^l] each.

    frugal as in `_hidden_states`.
    """
    P_low, P_up = readout_matrices(theta)
    xs = [standardise(x) for x in xs]
    lower = [project(h, P_low) if l == 0 else project(h, P_up, P_low) for l, h in enumerate(hs[:-1])]
    rs = lower + [project(hs[-1], P_up)]             # of h^l: its readouts as upper, then as lower layer
    deltas = []
    for l, (W, b, V) in enumerate(phi, start=1):
        WV = pair(W, V)
        update = lambda *arrays: (delta_weights(*arrays, norm_eps),)
        again = frugal and 10 * WV.size >= WIDE      # ten planes of it
        delta_WV, = (recomputed(update) if again else update)(
            WV, xs[l - 1], xs[l], rs[l - 1][-1], rs[l][0], theta["merge"])
        deltas.append((delta_WV, delta_bias(hs[l], theta), WV))
    return deltas


def unsupervised_update(phi, x, theta, lr=3e-4, norm_eps=1.0, activation="relu"):
    """UnsupervisedUpdate(x, phi; theta) (App.1-7): the base model after one step on the batch x [B, N^0].

    lr is lambda_phi_lr, norm_eps the e of App.60.  Raises ValueError where theta, phi and x do not fit.
    """
    phi = [Layer(*layer) for layer in phi]
    check_theta(theta, phi, x)
    return _update(phi, x, theta, lr, norm_eps, activation)


def _update(phi, x, theta, lr, norm_eps, activation="relu", frugal=False):
    xs, _, _, hs = _hidden_states(phi, x, theta, activation, frugal)  #                         (App.2-3)
    deltas = compute_delta_weight(phi, xs, hs, theta, norm_eps, frugal)  #                       (App.4)
    new = []
    for (delta_WV, delta_b, WV), layer in zip(deltas, phi):
        WV = move_towards(WV, delta_WV, lr)          # W (1 - lr) + DeltaW lr, V alike           (App.5-6)
        b = move_towards(layer.b, delta_b, lr)       #                                           (App.7)
        new.append(Layer(half(WV, 0), b, half(WV, 1)))
    return new


# --- Unroll and meta-gradient (Alg. 1) ----------------------------------------------------------


KEEP_ALL_UP_TO = 6  # inner steps: longer unrolls keep phi alone and compute each step again in the backward pass


def _inner_step(theta, phi, x, labelled, lr, norm_eps, ridge, cosine, report, frugal=False):
    """phi_(t+1) and the MetaObjective of this new state, averaged over its M pairs of batches."""
    phi = _update(phi, x, theta, lr, norm_eps, frugal=frugal)
    return meta_objective(phi, *labelled, ridge, cosine, report), phi


def _recomputed_step(names, x, labelled, *settings):
    """`_inner_step` as one node of the tape: (arrays of theta, arrays of phi) -> (J, arrays of phi)."""
    def step(*arrays):
        theta, flat = dict(zip(names, arrays)), arrays[len(names):]
        phi = [Layer(*flat[i:i + 3]) for i in range(0, len(flat), 3)]
        J, phi = _inner_step(theta, phi, x, labelled, *settings, frugal=True)
        return (J, *(a for layer in phi for a in layer))

    return recomputed(step)


def unroll(theta, phi, x, labelled, lr=3e-4, norm_eps=1.0, ridge=0.1, cosine=True, report=None, recompute=False):
    """J = mean over the U new states and M pairs of batches of the MetaObjective, and phi_U (Alg. 1).

    x [U, B, N^0]; labelled = (xa, ya, xb, yb), each [U, M, K, .].
    """
    J, accuracy, U = 0.0, 0.0, len(x)
    for u in range(U):
        seen = None if report is None else dict(report)  # of this step; a second run of it must not touch `report`
        settings = (lr, norm_eps, ridge, cosine, seen)
        batches = tuple(a[u] for a in labelled)
        if recompute:
            step = _recomputed_step(list(theta), x[u], batches, *settings)
            new = step(*theta.values(), *(a for layer in phi for a in layer))
            J_u, phi = new[0], [Layer(*(new[i + k] for k in range(3))) for i in range(1, 1 + 3 * len(phi), 3)]
        else:
            J_u, phi = _inner_step(theta, phi, x[u], batches, *settings)
        J = J + J_u
        accuracy += seen["accuracy"] if seen else 0.0
    if report is not None:
        report["accuracy"] = accuracy / U
    return J / U, phi


def meta_gradient(theta, phi, x, labelled, lr=3e-4, norm_eps=1.0, ridge=0.1, cosine=True, report=None, recompute=None):
    """J, dJ/dtheta through the whole unroll, and phi_U to go on from (truncated there).

    theta {name: array}; phi a list of `Layer`; x [U, B, N^0]; labelled = (xa, ya, xb, yb), each
    [U, M, K, .], K points of one batch, y one-hot (and augmentation targets), not yet centred.
    `recompute`: keep only phi and the batches of each inner step and compute the rest again in the backward
    pass, so that memory grows with U by phi alone; by default from U = KEEP_ALL_UP_TO + 1 on.
    Returns (float, {name: array} with theta's names, list of `Layer`).
    Raises ValueError where shapes, dtypes or theta's batch size do not fit.
    """
    names, end, phi = list(theta), {}, [Layer(*layer) for layer in phi]
    check_labelled(labelled, x)
    check_theta(theta, phi, x[0])
    recompute = len(x) > KEEP_ALL_UP_TO if recompute is None else recompute

    def objective(values):
        settings = (lr, norm_eps, ridge, cosine, report, recompute)
        J, end["phi"] = unroll(dict(zip(names, values)), phi, x, labelled, *settings)
        return J

    J, grads = value_and_gradients(objective, [theta[name] for name in names])
    return float(J), dict(zip(names, grads)), [Layer(*map(getval, layer)) for layer in end["phi"]]
