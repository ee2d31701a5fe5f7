"""k-means: how near each of 32 centres is (the "triangle" features of Coates, Ng and Lee, AISTATS 2011)."""
from typing import NamedTuple

import numpy as np

from ops.scoring.methods.components import COMPONENTS
from ops.scoring.methods.readout import scored, seen
from ops.scoring.settings import BASELINE


class KMeans(NamedTuple):
    """As many centres as the base model has outputs, after so many of Lloyd's iterations on the training inputs."""
    seeded = True
    updates = 30

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[points, seeds, draws, readouts]; each seed has a start of its own."""
        values, x = [[] for _ in steps], seen(dataset.x_train, settings)
        for k in seeds:
            centres = first_centres(x, COMPONENTS, settings.stream(BASELINE, k))
            for row, before, step in zip(values, (0, *steps), steps):
                for _ in range(before, step):
                    centres = lloyd(x, centres)
                train, test = (nearness(of, centres) for of in (dataset.x_train, dataset.x_test))
                row.append(scored(train, test, dataset, settings))
        return np.array(values)


def first_centres(x, count, rng):
    """k-means++ (Arthur and Vassilvitskii 2007): rows of x [n, N0], the next by its squared distance: [<= count, N0]."""
    chosen = [rng.integers(len(x))]
    nearest = squared_distances(x, x[chosen])[:, 0]
    while len(chosen) < min(count, len(x)) and nearest.sum() > 0:
        chosen.append(rng.choice(len(x), p=nearest / nearest.sum()))
        nearest = np.minimum(nearest, squared_distances(x, x[chosen[-1:]])[:, 0])
    return x[chosen]


def lloyd(x, centres):
    """Each centre [k, N0] becomes the mean of the rows of x [n, N0] that are nearest to it; one without any stays."""
    members = np.eye(len(centres), dtype=x.dtype)[squared_distances(x, centres).argmin(axis=1)]  # [n, k]
    count = members.sum(axis=0)[:, None]
    return np.where(count > 0, members.T @ x / np.maximum(count, 1), centres)


def nearness(x, centres):
    """max(0, mean distance - distance) to each centre: x [n, N0], centres [k, N0] -> [n, k]."""
    distance = np.sqrt(squared_distances(x, centres))
    return np.maximum(0, distance.mean(axis=1, keepdims=True) - distance)


def squared_distances(x, centres):
    """[n, k] of x [n, N0], centres [k, N0], exactly 0 for a row that is a centre up to rounding."""
    middle = centres.mean(axis=0)  # far from which squares would lose their digits
    x, centres = x - middle, centres - middle
    return np.maximum(0, (x**2).sum(axis=1)[:, None] - 2 * x @ centres.T + (centres**2).sum(axis=1))
