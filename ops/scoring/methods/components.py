"""Principal components, as many as the base model has outputs."""
from typing import NamedTuple

import numpy as np

from ops.scoring.methods.readout import scored

COMPONENTS = 32


class Components(NamedTuple):
    """The 32 leading principal components; with fewer features or training points, as many as there are."""
    seeded = False

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[1, 1, draws, readouts]."""
        train, test = project_on_components(dataset.x_train, dataset.x_test, COMPONENTS)
        return scored(train, test, dataset, settings)[None, None]


def project_on_components(x_train, x_test, count):
    """Plain projections, not whitened, on the `count` leading eigenvectors of the training split's covariance.

    x_train [n, N0], x_test [m, N0] -> [n, k], [m, k] float32, k = min(count, N0, n).  No label is used.
    """
    mean = x_train.mean(axis=0, dtype=np.float64)
    centred = x_train - mean
    _, vectors = np.linalg.eigh(centred.T @ centred / len(x_train))  # eigenvalues rising
    leading = vectors[:, ::-1][:, :min(count, len(x_train))]
    return (centred @ leading).astype(np.float32), ((x_test - mean) @ leading).astype(np.float32)
