"""The error signal on its way down a layer (App.31-33) as a primitive."""
import numpy as np

from ops.rule.activations import sigmoid
from ops.rule.conv import channels_first, channels_last
from ops.rule.primitive import EPS, NO_TAPE, block, kernel
from ops.rule.threads import in_parts, matmul, product


def next_d(d, z, h, V, theta):
    """What `unsup_meta.next_d` defines."""
    return _next_d(d, z, h, V, theta["error/w"], theta["error/b"])


@kernel()
def add_gated(d, gate, e, first, end, out):
    """out += d gate + e of columns first..end, in one pass; d, out [C, n], gate [n], e [C]."""
    scale = gate[first:end]
    for c in range(len(d)):
        signal, target, offset = d[c, first:end], out[c, first:end], e[c]
        for i in range(len(scale)):
            target[i] += signal[i] * scale[i] + offset


@kernel()
def gate_vjp(g, d, gate, first, end, gd, gz):
    """Gradients of `d gate` with respect to d and, through the sigmoid, to z, of columns first..end."""
    scale, total = gate[first:end], gz[first:end]
    total[:] = 0
    for c in range(len(g)):
        of_out, signal, target = g[c, first:end], d[c, first:end], gd[c, first:end]
        for i in range(len(scale)):
            target[i] = of_out[i] * scale[i]
            total[i] += of_out[i] * signal[i]
    for i in range(len(scale)):
        total[i] *= scale[i] * (1 - scale[i])


@kernel()
def normalise_channels(a, first, end, out, inv):
    """out[:, i] = a[:, i] inv[i], inv[i] = 1 / sqrt(mean over channels of a[:, i]^2 + eps), of columns first..end."""
    channels = len(a)
    scale = inv[first:end]
    scale[:] = 0
    for c in range(channels):
        run = a[c, first:end]
        for i in range(len(scale)):
            scale[i] += run[i] * run[i]
    for i in range(len(scale)):
        scale[i] = 1 / np.sqrt(scale[i] / channels + EPS)
    for c in range(channels):
        run, target = a[c, first:end], out[c, first:end]
        for i in range(len(scale)):
            target[i] = run[i] * scale[i]


@kernel()
def normalise_channels_vjp(g, d, inv, first, end, out):
    """out[:, i] = inv[i] (g[:, i] - d[:, i] mean(g[:, i] d[:, i])) of columns first..end."""
    channels = len(g)
    scale, total = inv[first:end], np.zeros(end - first, g.dtype)
    for c in range(channels):
        of_out, normed = g[c, first:end], d[c, first:end]
        for i in range(len(scale)):
            total[i] += of_out[i] * normed[i]
    total /= g.dtype.type(channels)
    for c in range(channels):
        of_out, normed, target = g[c, first:end], d[c, first:end], out[c, first:end]
        for i in range(len(scale)):
            target[i] = scale[i] * (of_out[i] - normed[i] * total[i])


def _next_d_vjp(g, tape, wanted):
    d, gate, h, V, E, delta, below, inv, shape = (
        tape[k] for k in ("d", "gate", "h", "V", "E", "delta", "below", "inv", "shape"))
    g, of_d_hat = channels_first(g), np.empty_like(below)
    in_parts(lambda i, k: normalise_channels_vjp(g, below, inv, i, k, of_d_hat), g.shape[1], 8 * g.size)
    rows = of_d_hat.reshape(-1, V.shape[0])
    of_V = product(rows.T, delta.reshape(-1, V.shape[1])) if 3 in wanted else None
    of_delta = product(rows, V).reshape(delta.shape)
    gd, gz, gh = np.empty_like(d), np.empty_like(gate), np.empty_like(h)

    def part(i, k):
        gate_vjp(of_delta, d, gate, i, k, gd, gz)
        matmul(E, of_delta[:, i:k], gh[:, i:k])
        return matmul(h[:, i:k], of_delta[:, i:k].T)

    of_E = sum(in_parts(part, len(gate), 2 * h.size * E.shape[1]))
    return {0: channels_last(gd, shape), 1: gz.reshape(shape), 2: channels_last(gh, shape), 3: of_V, 4: of_E,
            5: of_delta.sum(axis=1)}


@block(vjp=_next_d_vjp, large=("gate", "delta", "inv"))
def _next_d(d, z, h, V, E, e, *, tape=NO_TAPE):
    if not (d.shape[:2] == z.shape == h.shape[:2] and V.shape[1] == z.shape[1] and e.shape == E.shape[1:]
            and E.shape == (h.shape[2], d.shape[2])):
        raise ValueError(f"next_d: d {d.shape}, z {z.shape}, h {h.shape}, V {V.shape}, E {E.shape}, e {e.shape} do not fit")
    d, h, shape = channels_first(d), channels_first(h), z.shape
    gate = sigmoid(np.ascontiguousarray(z).reshape(-1))
    delta = product(E.T, h)
    in_parts(lambda i, k: add_gated(d, gate, e, i, k, delta), len(gate), 8 * d.size)   # (App.31)
    d_hat = product(delta.reshape(-1, V.shape[1]), V.T).reshape(len(d), -1)            # (App.32)
    below, inv = np.empty_like(d_hat), np.empty(d_hat.shape[1], d_hat.dtype)
    in_parts(lambda i, k: normalise_channels(d_hat, i, k, below, inv), len(inv), 8 * d_hat.size)  # (App.33)
    tape.update(d=d, gate=gate, h=h, V=V, E=E, delta=delta, below=below, inv=inv, shape=shape)
    return channels_last(below, (shape[0], V.shape[0]))
