"""Features of a data set, scored: the few-shot readout that all methods share (D11)."""
import numpy as np

from ops.scoring.few_shot import RIDGE, few_shot_accuracy, few_shot_objective, tuned_ridge
from ops.scoring.settings import DRAWS, REFERENCE, SEEN, TUNING


def scored(train, test, dataset, settings):
    """Accuracies [draws, readouts] of features train [n, F], test [m, F] of the data set's examples; last J, if asked for.

    Raises InputError as `few_shot_accuracy` and `tuned_ridge`.
    """
    of = lambda ridge: few_shot_accuracy(train, dataset.y_train, test, dataset.y_test, settings.shots, settings.draws,
                                         settings.stream(DRAWS), ridge, settings.ways)
    found = [of(RIDGE)]
    if settings.tuned_ridge:
        found.append(of(tuned_ridge(train, dataset.y_train, settings.shots, settings.stream(TUNING), settings.ways)))
    if settings.objective:
        found.append(few_shot_objective(train, dataset.y_train, test, dataset.y_test, settings.shots, settings.draws,
                                        settings.stream(DRAWS), RIDGE, settings.ways))
    return np.stack(found, axis=-1)


def reference_batch(x_train, settings):
    """Those seen of x_train whose batch-norm statistics all methods keep (D11): settings.batch_reference, or all."""
    return _some(seen(x_train, settings), settings.batch_reference, settings.stream(REFERENCE))


def seen(x_train, settings):
    """Those of x_train that features are learned from: settings.unlabelled of them, or all."""
    return x_train if settings.unlabelled is None else _some(x_train, settings.unlabelled, settings.stream(SEEN))


def _some(x, count, rng):
    return x[rng.choice(len(x), min(count, len(x)), replace=False)]
