"""One step of the meta-optimiser (H.2): clip the averaged gradient, Adam, and what to log about it.

theta is one flat vector here: a few calls on it take a tenth of the time that its forty arrays would, and
while the main process computes, a core is missing to the workers.
"""
import numpy as np

from ops.engine.adam import Adam, clip_by_global_norm, piecewise_rate
from ops.engine.flat import flatten, unflatten

BLOCKS = ("top_d", "compute_h", "error", "readout", "merge", "bias")  # first parts of theta's names


class MetaOptimizer:
    """theta, the theta before its last step, and the Adam state.

    theta {name: array}; boundaries, rates: the learning-rate schedule (`piecewise_rate`); clip: largest
    global gradient norm.  `vector` and `previous` are flat, in the order of theta's names.
    """

    def __init__(self, theta, boundaries, rates, clip):
        self.shapes = {name: a.shape for name, a in theta.items()}
        self.vector = flatten(theta.values())
        self.previous, self.adam = self.vector, Adam()
        self.schedule, self.clip = (boundaries, rates), clip
        sizes = [a.size for a in theta.values()]
        self._starts = np.cumsum([0] + sizes[:-1])
        blocks = [name.split("/")[0] for name in theta]
        self._member = np.array([[block == b for b in blocks] for block in BLOCKS], float)

    @property
    def theta(self):
        """{name: array}, views of the vector."""
        return dict(zip(self.shapes, unflatten(self.vector, self.shapes.values(), copy=False)))

    def by_block(self, vector):
        """{block: global norm} of a flat vector."""
        sums = np.add.reduceat(np.square(vector, dtype=np.float64), self._starts)
        return dict(zip(BLOCKS, np.sqrt(self._member @ sums).tolist()))

    def skip(self):
        """A meta-step without a gradient: theta stays as it is."""
        self.previous = self.vector

    def step(self, gradient, step):
        """Adam on the flat, averaged `gradient` of meta-step `step`; returns the quantities to log."""
        rate = piecewise_rate(step, *self.schedule)
        clipped, norm = clip_by_global_norm({"theta": gradient}, self.clip)
        self.previous = self.vector
        self.vector = self.adam.update({"theta": self.vector}, clipped, rate)["theta"]
        moved, before = self.by_block(self.vector - self.previous), self.by_block(self.previous)
        return {"grad_norm": norm, "clipped": norm > self.clip, "meta_lr": rate,
                "update_ratio": _length(moved) / _length(before), "block_grad_norm": self.by_block(gradient),
                "block_update_ratio": {b: moved[b] / before[b] if before[b] else 0.0 for b in BLOCKS},
                "merge": [round(float(m), 5) for m in self.theta["merge"]]}


def _length(norms):
    return float(np.sqrt(sum(norm * norm for norm in norms.values())))


def sum_rows(rows):
    """The sum of gradient vectors in the order given: the same bits whatever order they were computed in."""
    total = np.array(rows[0])
    for row in rows[1:]:
        total += row
    return total
