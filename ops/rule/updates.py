"""ComputeDeltaWeight (App.35-64) and the update itself (App.5-7): what layers share is computed once."""
import numpy as np

from ops.rule.dense import standardise
from ops.rule.planes import delta_weights
from ops.rule.primitive import NO_TAPE, block
from ops.rule.readouts import LOWER, UPPER, project, stack
from ops.rule.threads import in_parts

BLOCK_FLOATS = 1 << 18  # averaged at a time


def compute_delta_weight(phi, xs, hs, theta, norm_eps=1.0):
    """What `unsup_meta.compute_delta_weight` defines."""
    P_lower, P_upper = (stack(*(theta[f"readout/{name}"] for name in names)) for names in (LOWER, UPPER))
    xs = [standardise(x) for x in xs]
    # h^l is read out twice: as the upper layer of W^l and as the lower layer of W^(l+1)
    inner = [project(h, P_upper, P_lower) for h in hs[1:-1]]
    up = [upper for upper, _ in inner] + [*project(hs[-1], P_upper)]
    low = [*project(hs[0], P_lower)] + [lower for _, lower in inner]
    deltas = []
    for l, layer in enumerate(phi):
        dW, dV = delta_weights(layer.W, layer.V, xs[l], xs[l + 1], low[l], up[l], theta["merge"], norm_eps)
        deltas.append(layer._replace(W=dW, b=delta_bias(hs[l + 1], theta["bias"]), V=dV))
    return deltas


def _delta_bias_vjp(g, tape, wanted):
    mean_h, w, delta, inv, drifts, B = (tape[k] for k in ("mean_h", "w", "delta", "inv", "drifts", "B"))
    g = inv * (g - delta * (g * delta).mean())
    g = g - g.mean() if drifts else g
    per_entry = np.multiply.outer(w / g.dtype.type(B), g)                  # [H, N], the same for every b
    of_h = np.broadcast_to(per_entry[:, None], (len(w), B, len(g))).transpose(1, 2, 0)
    return {0: of_h, 1: mean_h @ g}


@block(vjp=_delta_bias_vjp)
def delta_bias(h, w, *, tape=NO_TAPE):
    """What `unsup_meta.delta_bias` defines, w = theta's "bias" [H]."""
    mean_h = h.transpose(2, 0, 1).mean(axis=1)                             # [H, N]
    base = w @ mean_h                                                      # (App.61)
    mean = base.mean()
    constrained = base - np.maximum(mean, 0)                               # (App.62)
    inv = 1 / np.sqrt(h.dtype.type(0.5) + (constrained * constrained).mean())
    delta = constrained * inv                                              # (App.63)
    tape.update(mean_h=mean_h, w=w, delta=delta, inv=inv, drifts=mean > 0, B=len(h))
    return delta


def _moving_average_vjp(g, tape, wanted):
    lr = tape["lr"]
    return {0: g * (1 - lr), 1: g * lr}


@block(vjp=_moving_average_vjp)
def moving_average(p, delta, lr, *, tape=NO_TAPE):
    """What `unsup_meta.moving_average` defines."""
    stay, move, out = p.dtype.type(1 - lr), p.dtype.type(lr), np.empty_like(p)

    def part(first, end):
        step = max(1, len(p) * BLOCK_FLOATS // p.size)
        for start in range(first, end, step):  # a wide layer leaves no room for a product of its size
            rows = slice(start, min(start + step, end))
            np.multiply(p[rows], stay, out=out[rows])
            out[rows] += delta[rows] * move

    in_parts(part, len(p), 3 * p.size)
    tape.update(lr=move)
    return out
