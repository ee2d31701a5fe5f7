"""A rule set by hand in place of a learned one: Hebb's, units of a layer driven apart (P. Foldiak 1990).

It is a theta of the same form, so what meta-training adds to it is what the two scores differ by: plane 6 (App.46-47),
correlation of what a weight joins, less plane 9 (App.52-53), what the other units of the layer already respond to.
"""
from typing import NamedTuple

import numpy as np

import unsup_meta as um
from ops.scoring.methods.base_model import Learned

BATCH, APART = 32, 0.5  # B; weight of plane 9 against plane 6, the best of 0.3, 0.5, 1, 2 on held-out letters
ABOVE = 6.0  # standard deviations that stay clear of a ReLU


class Hebbian(NamedTuple):
    """The base model after updates by `hebbian_theta`, at the laptop's inner learning rate."""
    lr: float = 3e-2
    norm_eps: float = 1e-3
    seeded = True
    updates = 200

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[points, seeds, draws, readouts]."""
        rule = Learned(hebbian_theta(), self.lr, self.norm_eps, "the Hebbian rule")
        return rule.curve(dataset, sizes, settings, steps, seeds)


def hebbian_theta(batch_size=BATCH, apart=APART, dtype=np.float32):
    """theta with DeltaW = plane 6 - apart x plane 9, each scaled as App.57 has it, b left alone; H = 2, delta = T = R = 1.

    Along ComputeH one channel carries x and one -x, both normalised, which each convolution passes on and each offset
    keeps above 0, where ReLU changes nothing.  h = [6 + x, 6 - x], the lateral readout takes half the difference, and S is
    the mean product of units [N, N].
    """
    theta = {name: np.zeros(shape, dtype) for name, shape in um.theta_shapes(batch_size, 2, 1, 1, 1).items()}
    x_channel, middle = 8, (lambda w: (w.shape[0] - 1) // 2)  # after the 8 statistics of weights (App.94-95)
    for name in ("conv1", "unit1", "conv2", "unit2"):
        w = theta[f"compute_h/{name}/w"]  # [K, C, S]
        if name == "conv1":
            w[middle(w), x_channel] = [1, -1]
        else:
            w[middle(w), 0, 0] = w[middle(w), 1, 1] = 1
        theta[f"compute_h/{name}/beta"][:] = ABOVE
    for side in ("pa", "pb"):
        theta[f"readout/lin_upper/{side}"][:, 0] = [0.5, -0.5]
    theta["merge"][5], theta["merge"][8] = 1, -apart
    return theta
