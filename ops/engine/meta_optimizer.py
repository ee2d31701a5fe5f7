"""One step of the meta-optimiser (H.2): the averaged gradient clipped, Adam, theta's average, and what to log of it.

theta is one flat vector here: a few calls on it take a tenth of the time that its forty arrays would, and
while the main process computes, a core is missing to the workers.
"""
import numpy as np

from ops.engine.shared_memory import views

BLOCKS = ("top_d", "compute_h", "error", "readout", "merge", "bias")  # first parts of theta's names
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # Kingma & Ba's (2014), which the paper does not change


def length(vector):
    """The norm of a vector, summed in float64."""
    return float(np.sqrt(np.sum(np.square(vector, dtype=np.float64))))


def clipped(gradient, limit):
    """(the gradient scaled to a norm of at most `limit`, the norm before) (H.2)."""
    norm = length(gradient)
    scale = min(1.0, limit / norm) if norm > 0 else 1.0
    return gradient * gradient.dtype.type(scale), norm


def piecewise_rate(step, boundaries, rates):
    """rates[i] until meta-step boundaries[i], the last of them for ever (H.2: 3e-4, 1e-4, 2e-5)."""
    return rates[int(np.searchsorted(boundaries, step, side="right"))]


class MetaOptimizer:
    """theta, the theta before its last step, theta's average, Adam's state: flat vectors [P], never changed in place.

    theta {name: array}, to start from, in whose order the vectors are; boundaries, rates: the learning-rate
    schedule (`piecewise_rate`); clip: largest norm of a gradient; decay: of theta's exponential moving average, which
    is (1 + t) / (10 + t) at most after t steps, so that the start is soon forgotten.
    """

    def __init__(self, theta, boundaries, rates, clip, decay):
        self.shapes = {name: a.shape for name, a in theta.items()}
        self.theta = self.previous = self.averaged = np.concatenate([a.ravel() for a in theta.values()])
        self.m = self.v = np.zeros_like(self.theta)
        self.steps, self.schedule, self.clip, self.decay = 0, (boundaries, rates), clip, decay
        self._starts = np.cumsum([0] + [a.size for a in theta.values()][:-1])
        self._member = np.array([[name.split("/")[0] == b for name in theta] for b in BLOCKS], float)

    def skip(self):
        """A meta-step without a gradient: theta stays as it is."""
        self.previous = self.theta

    def step(self, gradient, step):
        """Adam on the averaged `gradient` [P] of meta-step `step`; returns the quantities to log."""
        rate = piecewise_rate(step, *self.schedule)
        g, norm = clipped(gradient, self.clip)
        self.steps += 1
        self.m = BETA1 * self.m + (1 - BETA1) * g
        self.v = BETA2 * self.v + (1 - BETA2) * g * g
        bias1, bias2 = 1 - BETA1 ** self.steps, 1 - BETA2 ** self.steps
        change = rate * (self.m / bias1) / (np.sqrt(self.v / bias2) + EPS)
        self.previous, self.theta = self.theta, (self.theta - change).astype(self.theta.dtype)
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.averaged = kept * self.averaged + (1 - kept) * self.theta
        moved, before = self._by_block(self.theta - self.previous), self._by_block(self.previous)
        return {"grad_norm": norm, "clipped": norm > self.clip, "meta_lr": rate,
                "update_ratio": _together(moved) / _together(before), "block_grad_norm": self._by_block(gradient),
                "block_update_ratio": {b: moved[b] / before[b] if before[b] else 0.0 for b in BLOCKS},
                "merge": [round(float(m), 5) for m in views(self.theta, self.shapes)["merge"]]}

    def _by_block(self, vector):
        """{block: norm} of a vector."""
        sums = np.add.reduceat(np.square(vector, dtype=np.float64), self._starts)
        return dict(zip(BLOCKS, np.sqrt(self._member @ sums).tolist()))

    def arrays(self):
        """{name: array} for a checkpoint: the averaged theta under the names that `um.load_theta` reads."""
        averaged = {f"theta/{name}": a for name, a in views(self.averaged, self.shapes).items()}
        return averaged | {"running": self.theta, "previous": self.previous, "adam/m": self.m, "adam/v": self.v}

    def restore(self, arrays, steps):
        """Go on from the `arrays` of another after so many steps."""
        self.averaged = np.concatenate([arrays[f"theta/{name}"].ravel() for name in self.shapes])
        self.theta, self.previous, self.steps = arrays["running"], arrays["previous"], steps
        self.m, self.v = arrays["adam/m"], arrays["adam/v"]


def _together(norms):
    return float(np.sqrt(sum(norm * norm for norm in norms.values())))
