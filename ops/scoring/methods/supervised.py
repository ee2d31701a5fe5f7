"""The base model and a linear head trained on the labelled points alone (H.3.2)."""
from typing import NamedTuple

import numpy as np

import unsup_meta as um
from ops.scoring.few_shot import few_shot_objective, labelled_points
from ops.scoring.methods.network import batch_rows, cross_entropy_of, evaluated, init_layers, outputs, trained
from ops.scoring.settings import BASELINE, DRAWS

BATCH = 32


class Supervised(NamedTuple):
    """A fresh network for each draw of labelled points; its head is the readout, so that all readouts are the same.

    lr: Adam's.  Test-time batch-norm statistics are those of all labelled points.
    """
    lr: float = 3e-3
    seeded = True
    updates = 10_000

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[points, seeds, draws, readouts]; each draw of a seed has a stream of its own.

        Raises InputError for a class of too few points and as `trained`.
        """
        rng = settings.stream(DRAWS)
        drawn = [labelled_points(rng, dataset.y_train, settings.shots, settings.ways) for _ in range(settings.draws)]
        values = np.array([[self._values(dataset, sizes, settings, steps, *points, settings.stream(BASELINE, k, draw))
                            for draw, points in enumerate(drawn)] for k in seeds])  # [seeds, draws, points, 1 or 2]
        return np.moveaxis(np.concatenate([values[..., :1]] * (1 + settings.tuned_ridge) + [values[..., 1:]], axis=3), 2, 0)

    def _values(self, dataset, sizes, settings, steps, rows, target, rng):
        """[points, 1] accuracies of one draw; [points, 2] with J of a ridge readout of the outputs below the head, if asked for."""
        x, y, asked = dataset.x_train[rows], target[dataset.y_train[rows]], target[dataset.y_test] >= 0
        x_test, y_test = dataset.x_test[asked], target[dataset.y_test[asked]]
        layers = init_layers(rng, [*sizes, target.max() + 1], x.dtype)

        def draw():
            batch = batch_rows(rng, len(x), BATCH)
            return x[batch], y[batch]

        found = []
        for layers in trained(cross_entropy, layers, draw, lambda t: self.lr, steps, "supervised"):
            found.append([(evaluated(layers, x_test, x).argmax(axis=1) == y_test).mean()])
            if settings.objective:
                below = [(*layer, None) for layer in layers[:-1]]
                train, test = (um.features(below, of, x) for of in (x, x_test))
                found[-1] += few_shot_objective(train, y, test, y_test, settings.shots, 1, settings.stream(DRAWS)).tolist()
        return found


def cross_entropy(layers, x, y):
    """Mean over x [B, N0] of -log softmax(outputs)[y] in nats; y [B] int."""
    return cross_entropy_of(outputs(layers, x), y)
