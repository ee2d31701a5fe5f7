"""A rule set by hand in place of a learned one: what meta-training adds to it is what the two scores differ by."""
from typing import NamedTuple

import numpy as np

import unsup_meta as um
from ops.rule.hebbian import CHANNELS, STARTS
from ops.scoring.methods.base_model import Learned

SMALLEST = {"batch_size": 32, "delta": 1, "top": 1, "rank": 1}


class Hebbian(NamedTuple):
    """The base model after updates by Hebb's rule, its units driven apart, at the laptop's inner learning rate."""
    lr: float = 3e-2
    norm_eps: float = 1e-3
    seeded = True
    updates = 200
    start = "hebbian"

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[points, seeds, draws, readouts]."""
        rule = Learned(theta_by_hand(self.start), self.lr, self.norm_eps, f"the {self.start} rule")
        return rule.curve(dataset, sizes, settings, steps, seeds)


class RectifiedHebbian(Hebbian):
    """The same by the rectified rule, which meta-training starts from."""
    start = "rectified"


def theta_by_hand(start, **sizes):
    """One of STARTS in the smallest theta that holds it, all else being 0."""
    shapes = um.theta_shapes(**SMALLEST | {"hdims": CHANNELS[start]} | sizes)
    return STARTS[start]({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
