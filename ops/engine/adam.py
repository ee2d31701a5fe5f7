"""Adam (Kingma & Ba 2014) on the meta-parameters, with clipping by the global norm and the paper's schedule."""
from dataclasses import dataclass, field

import numpy as np


def global_norm(grads):
    """sqrt of the sum of squares over every array of {name: array}, in float64."""
    return float(np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in grads.values())))


def clip_by_global_norm(grads, limit):
    """(grads scaled to a global norm of at most `limit`, the norm before) (App. H.2)."""
    norm = global_norm(grads)
    scale = min(1.0, limit / norm) if norm > 0 else 1.0
    return {name: g * g.dtype.type(scale) for name, g in grads.items()}, norm


@dataclass
class Adam:
    """First and second moments of {name: array}, and the number of steps taken.

    beta1, beta2 and eps are Kingma & Ba's defaults, which the paper does not change.
    """

    m: dict = field(default_factory=dict)
    v: dict = field(default_factory=dict)
    steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def update(self, theta, grads, lr):
        """theta after one step at learning rate `lr`; theta and grads are {name: array}."""
        self.steps += 1
        bias1, bias2 = 1 - self.beta1 ** self.steps, 1 - self.beta2 ** self.steps
        new = {}
        for name, g in grads.items():
            m = self.m[name] = self.beta1 * self.m.get(name, np.zeros_like(g)) + (1 - self.beta1) * g
            v = self.v[name] = self.beta2 * self.v.get(name, np.zeros_like(g)) + (1 - self.beta2) * g * g
            step = lr * (m / bias1) / (np.sqrt(v / bias2) + self.eps)
            new[name] = (theta[name] - step).astype(theta[name].dtype)
        return new


def piecewise_rate(step, boundaries, rates):
    """rates[i] until meta-step boundaries[i], the last of them for ever (App. H.2: 3e-4, 1e-4, 2e-5)."""
    return rates[int(np.searchsorted(boundaries, step, side="right"))]
