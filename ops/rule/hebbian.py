"""A rule set by hand: Hebb's, the units of a layer driven apart (P. Foldiak 1990), as values of theta.

DeltaW is plane 6 (App.46-47), the correlation of what a weight joins, less plane 9 (App.52-53), what the other units of
the layer respond to already.  Meta-training starts from it: the states that it leads to are such that gradients through
many updates are of use, which those of a random theta are not.
"""
import numpy as np

APART = 0.5  # weight of plane 9 against plane 6: the best of 0.3, 0.4 ... 0.7, 1, 2 on the validation suite
ABOVE = 6.0  # standard deviations that stay clear of a ReLU
X_CHANNEL = 8  # of what ComputeH convolves, after the statistics of weights (App.94-95)
SPARE = 0.1  # ranks of the lateral readout that are not needed, times this: they do no harm and can learn


def hebbian_start(theta, apart=APART):
    """A copy of theta {name: array}, two channels of h, one rank of a readout and the merge weights set; H 2 or more.

    Along ComputeH channel 0 carries x and channel 1 -x, both normalised, which each convolution passes on and each offset
    keeps above 0, where ReLU changes nothing.  So h[..., :2] = [6 + x, 6 - x], the readout of plane 9 takes half the
    difference, and S is the mean product of units.  What else theta holds is left, but neither looks at the two channels
    nor counts in DeltaW, its merge weights being 0.
    """
    theta = {name: array.copy() for name, array in theta.items()}
    for name in ("conv1", "unit1", "conv2", "unit2"):
        w = theta[f"compute_h/{name}/w"]  # [K, C, S]
        middle = (w.shape[0] - 1) // 2
        w[:, :, :2] = 0
        w[middle, X_CHANNEL if name == "conv1" else [0, 1], :2] = [1, -1] if name == "conv1" else np.eye(2)
        theta[f"compute_h/{name}/beta"][:2] = ABOVE
    for name, array in theta.items():
        if name.startswith("readout/") or name in ("bias", "error/w"):
            array[:2] = 0
    for side in ("pa", "pb"):
        readout = theta[f"readout/lin_upper/{side}"]  # [H, R]
        readout *= SPARE
        readout[:, 0] = 0
        readout[:2, 0] = np.array([0.5, -0.5]) * readout.shape[1] ** 0.5  # (App.40)
    theta["merge"][:] = 0
    theta["merge"][5], theta["merge"][8] = 1, -apart
    return theta
