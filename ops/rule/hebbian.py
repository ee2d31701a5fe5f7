"""Rules set by hand, as values of theta: Hebb's, the units of a layer driven apart (P. Foldiak 1990), also rectified.

DeltaW is the correlation of what a weight joins, less what the other units of the layer respond to already (plane 9,
App.52-53).  Meta-training starts from the second: the states that it leads to are such that gradients through many
updates are of use, which those of a random theta are not.
"""
import numpy as np

APART = 0.5  # weight of plane 9 against the other: the best of 0.3, 0.4 ... 0.7, 1, 2 on the validation suite
THRESHOLD = 0.25  # standard deviations above the mean from which a unit learns: the best there of -0.5 to 1
ABOVE = 6.0  # standard deviations that stay clear of a ReLU
X_CHANNEL = 8  # of what ComputeH convolves, after the statistics of weights (App.94-95)
SPARE = 0.1  # ranks of a readout that are not needed, times this: they do no harm and can learn
CONVOLUTIONS = ("conv1", "unit1", "conv2", "unit2")  # of ComputeH, one after the other


def hebbian_start(theta, apart=APART):
    """A copy of theta {name: array} that is Hebb's rule: DeltaW is plane 6 (App.46-47) less plane 9; H 2 or more.

    h[..., :2] = [6 + x, 6 - x], the readout of plane 9 takes half the difference, and S is the mean product of units.
    What else theta holds is left, but neither looks at those channels nor counts in DeltaW, its merge weights being 0.
    """
    theta = _deaf(theta, 2)
    _carry(theta, "conv1", X_CHANNEL, [0, 1])
    _read(theta, "lin_upper", [0, 1], [0, 1])
    theta["merge"][5], theta["merge"][8] = 1, -apart
    return theta


def rectified_start(theta, threshold=THRESHOLD, apart=APART):
    """As `hebbian_start`, but a unit learns from how far it is above a threshold: plane 3 (App.43) less 9; H 4 or more.

    h[..., 2:4] = [6 + r, 6 - r], r = relu(x - threshold) normalised, and plane 3 is the mean product of x below and r
    above.  Both are normalised over all units at once, so each counts by its variance, which plane 6 divides out.
    """
    theta = _deaf(theta, 4)
    _carry(theta, "conv1", X_CHANNEL, [0, 1])
    w = theta["compute_h/conv1/w"]
    w[:, :, 2:4] = 0
    w[_middle(w), X_CHANNEL, 2] = 1
    theta["compute_h/conv1/beta"][2] = -threshold
    _carry(theta, "unit1", 2, [2, 3])
    _read(theta, "zero", [0, 1], [2, 3])
    _read(theta, "lin_upper", [0, 1], [0, 1])
    theta["merge"][2], theta["merge"][8] = 1, -apart
    return theta


STARTS = {"hebbian": hebbian_start, "rectified": rectified_start}  # --theta-start
CHANNELS = {"hebbian": 2, "rectified": 4}  # of h that they need


def _deaf(theta, channels):
    """A copy that has no plane, and of which nothing looks at the first so many channels of h."""
    theta = {name: array.copy() for name, array in theta.items()}
    for name, array in theta.items():
        if name.startswith("readout/") or name in ("bias", "error/w"):
            array[:channels] = 0
    theta["merge"][:] = 0
    return theta


def _carry(theta, first, source, pair):
    """h[..., pair] = [6 + a, 6 - a]: a is channel `source` of what the convolution `first` takes in, normalised.

    Each convolution after it passes the pair on, and each offset keeps them above 0, where ReLU changes nothing.
    """
    for name in CONVOLUTIONS[CONVOLUTIONS.index(first):]:
        w = theta[f"compute_h/{name}/w"]  # [K, C, S]
        w[:, :, pair] = 0
        w[_middle(w), source if name == first else pair, pair] = [1, -1] if name == first else 1
        theta[f"compute_h/{name}/beta"][pair] = ABOVE


def _middle(w):
    return (w.shape[0] - 1) // 2


def _read(theta, name, below, above):
    """The readout `name` is the mean product of half the differences of two pairs of channels (App.40)."""
    for side, pair in (("pa", below), ("pb", above)):
        readout = theta[f"readout/{name}/{side}"]  # [H, R]
        readout *= SPARE
        readout[:, 0] = 0
        readout[pair, 0] = np.array([0.5, -0.5]) * readout.shape[1] ** 0.5
