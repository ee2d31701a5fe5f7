"""Principal components, as many as the base model has outputs."""
from typing import NamedTuple

import numpy as np

from ops.scoring.methods.readout import scored, seen

COMPONENTS = 32


class Components(NamedTuple):
    """The 32 leading principal components; with fewer features or training points, as many as there are."""
    seeded = False

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[1, 1, draws, readouts]."""
        train, test = project_on_components(seen(dataset.x_train, settings), COMPONENTS, dataset.x_train, dataset.x_test)
        return scored(train, test, dataset, settings)[None, None]


def project_on_components(x, count, *others):
    """Plain projections, not whitened, on the `count` leading eigenvectors of the covariance of x [n, N0].

    others [m, N0] each -> [m, k] float32 each, k = min(count, N0, n).  No label is used.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    centred = x - mean
    _, vectors = np.linalg.eigh(centred.T @ centred / len(x))  # eigenvalues rising
    leading = vectors[:, ::-1][:, :min(count, len(x))]
    return [((other - mean) @ leading).astype(np.float32) for other in others]
