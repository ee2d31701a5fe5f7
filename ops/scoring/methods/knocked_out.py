"""A learned rule with one of its parts taken out and nothing learned anew: what it loses is what the part was for."""
from typing import NamedTuple

import numpy as np

import unsup_meta as um
from ops.scoring.methods.base_model import Learned

STATISTICS, CODES = slice(0, 8), slice(10, 12)  # of the channels that ComputeH convolves (App.94-95): after them x, z


class KnockedOut(NamedTuple):
    """As `Learned`, without `part`, a name of PARTS."""
    theta: dict
    lr: float
    norm_eps: float
    source: str = "theta"
    part: str = "nothing"
    seeded = True
    curve, apply = Learned.curve, Learned.apply

    def update(self, phi, x, activation):
        """The base model after an update by what is left of the rule."""
        return PARTS[self.part](self, phi, x, activation)


def _planes(keep):
    """The rule with planes `keep`, 1 to 10, alone: the others' merge weights are 0."""
    def update(rule, phi, x, activation):
        merge = np.where(np.isin(np.arange(1, 11), list(keep)), rule.theta["merge"], 0).astype(x.dtype)
        return _updated(rule, phi, x, activation, {"merge": merge})
    return update


def _deaf_to(channels):
    """The rule whose ComputeH does not see some channels: their weights in its first convolution are 0 (App.96)."""
    def update(rule, phi, x, activation):
        w = rule.theta["compute_h/conv1/w"].copy()
        w[:, channels] = 0
        return _updated(rule, phi, x, activation, {"compute_h/conv1/w": w})
    return update


def _no_top(rule, phi, x, activation):
    """d^L = 0 (App.78)."""
    return _updated(rule, phi, x, activation, {name: np.zeros_like(rule.theta[name]) for name in ("top_d/out/w", "top_d/out/b")})


def _elsewhere(axis):
    """Each h^l moved on along the batch (axis 0) by l, or along its units (1) by half: it is of another image, or unit."""
    def update(rule, phi, x, activation):
        xs, _, _, hs = um.hidden_states(phi, x, rule.theta, activation)
        hs = [np.roll(h, l if axis == 0 else h.shape[1] // 2, axis) for l, h in enumerate(hs)]
        return _moved(rule, phi, um.compute_delta_weight(phi, xs, hs, rule.theta, rule.norm_eps))
    return update


def _own_weights_back(rule, phi, x, activation):
    """Errors pass through W, not V (App.32)."""
    return _updated(rule, [layer._replace(V=layer.W) for layer in phi], x, activation, {})


def _changed(weights=um.delta_weight, biases=um.delta_bias):
    """The rule with another App.56-60 or App.61-63 in each layer of App.64."""
    def update(rule, phi, x, activation):
        xs, _, _, hs = um.hidden_states(phi, x, rule.theta, activation)
        standard = [um.batch_norm(a, 0) for a in xs]
        deltas = []
        for l, (W, _, V) in enumerate(phi, start=1):
            of = (standard[l - 1], standard[l], hs[l - 1], hs[l], rule.theta, rule.norm_eps)
            deltas.append(um.Layer(weights(W, *of), biases(hs[l], rule.theta), weights(V, *of)))
        return _moved(rule, phi, deltas)
    return update


def _free_to_shrink(W, x_lower, x, h_lower, h, theta, norm_eps):
    """DeltaW without App.59."""
    normed = [p / np.sqrt(1 + np.mean(p ** 2, axis=0)) for p in um.planes(W, x_lower, x, h_lower, h, theta)]
    merge = sum(theta["merge"][i] * p for i, p in enumerate(normed)) / 10
    return merge / np.sqrt(norm_eps + np.mean(merge ** 2))


def _free_to_drift(h, theta):
    """Delta b without App.62."""
    base = np.mean(np.dot(h, theta["bias"]), axis=0)
    return base / np.sqrt(0.5 + np.mean(base ** 2))


def _updated(rule, phi, x, activation, changed):
    return um.unsupervised_update(phi, x, rule.theta | changed, rule.lr, rule.norm_eps, activation)


def _moved(rule, phi, deltas):
    return [um.Layer(*(um.moving_average(p, delta, rule.lr) for p, delta in zip(*pair))) for pair in zip(phi, deltas)]


PLANES = range(1, 11)
PARTS = {"nothing": _planes(PLANES)} | {f"plane {k}": _planes(set(PLANES) - {k}) for k in PLANES} | {
    "planes 7 to 10": _planes(range(1, 7)), "all but plane 6": _planes([6]),
    "which image h is of": _elsewhere(0), "which unit h is of": _elsewhere(1), "position codes": _deaf_to(CODES),
    "weight statistics": _deaf_to(STATISTICS), "d^L": _no_top, "V (W instead)": _own_weights_back,
    "App.59": _changed(weights=_free_to_shrink), "App.62": _changed(biases=_free_to_drift)}
