"""Two moons: two interleaved half circles in the plane, made on the spot (Fig. 6)."""
import numpy as np

from ops.data.labelled import Dataset

COUNTS = (2000, 1000)  # training, test
NOISE = 0.1            # standard deviation, in radii


def load_moons(name="moons", folder=None):
    """Dataset of 2 features and 2 classes, always the same; `folder` is not used: nothing is read.

    The upper half of the unit circle around (0, 0) and the lower half of the one around (1, 0.5),
    angles uniform, normal noise of sd NOISE on both coordinates; then (x + 1.5) / 4 and
    (y + 1.75) / 4, which keeps angles and puts all in [0, 1].
    """
    parts = []
    for n, rng in zip(COUNTS, np.random.default_rng(0).spawn(2)):
        labels = rng.permutation(np.arange(n) % 2)
        angle, sign = rng.uniform(0, np.pi, n), 1 - 2 * labels
        points = np.stack([labels + sign * np.cos(angle),
                           0.5 * labels + sign * np.sin(angle)], axis=1)
        points += rng.normal(0, NOISE, points.shape)
        parts += [np.clip((points + (1.5, 1.75)) / 4, 0, 1).astype(np.float32), labels]
    return Dataset(name, *parts, ("upper", "lower"))
