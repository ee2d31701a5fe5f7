"""One step of the meta-optimiser (H.2): clip the averaged gradient, Adam, and what to log about it."""
import numpy as np

from ops.adam import Adam, clip_by_global_norm, global_norm, piecewise_rate
from ops.flat import flatten, unflatten

BLOCKS = ("top_d", "compute_h", "error", "readout", "merge", "bias")  # first parts of theta's names


def by_block(arrays):
    """{block: global norm} of {name: array}."""
    return {block: global_norm({n: a for n, a in arrays.items() if n.split("/")[0] == block}) for block in BLOCKS}


class MetaOptimizer:
    """theta {name: array} and its Adam state.

    boundaries, rates: the learning-rate schedule (`piecewise_rate`); clip: largest global gradient norm.
    """

    def __init__(self, theta, boundaries, rates, clip):
        self.theta, self.adam = theta, Adam()
        self.schedule, self.clip = (boundaries, rates), clip

    def vector(self, out=None):
        """theta as one flat vector, in the order of its names."""
        return flatten(self.theta.values(), out)

    def step(self, gradient, step):
        """Adam on the flat, averaged `gradient` of meta-step `step`; returns the quantities to log."""
        shapes = [a.shape for a in self.theta.values()]
        grad = dict(zip(self.theta, unflatten(gradient, shapes, copy=False)))
        rate = piecewise_rate(step, *self.schedule)
        clipped, norm = clip_by_global_norm(grad, self.clip)
        before, self.theta = self.theta, self.adam.update(self.theta, clipped, rate)
        moved = {n: self.theta[n] - before[n] for n in before}
        return {"grad_norm": norm, "clipped": norm > self.clip, "meta_lr": rate,
                "update_ratio": global_norm(moved) / global_norm(before), "block_grad_norm": by_block(grad),
                "block_update_ratio": _ratios(by_block(moved), by_block(before)),
                "merge": [round(float(m), 5) for m in self.theta["merge"]]}


def _ratios(above, below):
    return {block: above[block] / below[block] if below[block] else 0.0 for block in above}


def sum_rows(rows):
    """The sum of gradient vectors in the order given: the same bits whatever order they were computed in."""
    total = np.array(rows[0])
    for row in rows[1:]:
        total += row
    return total
