"""A rule set by hand in place of a learned one: what meta-training adds to it is what the two scores differ by."""
from typing import NamedTuple

import numpy as np

import unsup_meta as um
from ops.rule.hebbian import hebbian_start
from ops.scoring.methods.base_model import Learned

SMALLEST = {"batch_size": 32, "hdims": 2, "delta": 1, "top": 1, "rank": 1}


class Hebbian(NamedTuple):
    """The base model after updates by Hebb's rule, its units driven apart, at the laptop's inner learning rate."""
    lr: float = 3e-2
    norm_eps: float = 1e-3
    seeded = True
    updates = 200

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[points, seeds, draws, readouts]."""
        rule = Learned(hebbian_theta(), self.lr, self.norm_eps, "the Hebbian rule")
        return rule.curve(dataset, sizes, settings, steps, seeds)


def hebbian_theta(**sizes):
    """`hebbian_start` in the smallest theta that holds it, all else being 0."""
    shapes = um.theta_shapes(**SMALLEST | sizes)
    return hebbian_start({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
