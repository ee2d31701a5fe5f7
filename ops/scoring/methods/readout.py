"""Features of a data set, scored: the few-shot readout that all methods share (D11)."""
import numpy as np

from ops.scoring.few_shot import RIDGE, few_shot_accuracy, tuned_ridge
from ops.scoring.settings import DRAWS, REFERENCE, TUNING


def scored(train, test, dataset, settings):
    """Accuracies [draws, readouts] of features train [n, F], test [m, F] of the data set's examples.

    Raises InputError as `few_shot_accuracy` and `tuned_ridge`.
    """
    of = lambda ridge: few_shot_accuracy(train, dataset.y_train, test, dataset.y_test, settings.shots, settings.draws,
                                         settings.stream(DRAWS), ridge, settings.ways)
    found = [of(RIDGE)]
    if settings.tuned_ridge:
        found.append(of(tuned_ridge(train, dataset.y_train, settings.shots, settings.stream(TUNING), settings.ways)))
    return np.stack(found, axis=-1)


def reference_batch(x_train, settings):
    """Those of x_train whose batch-norm statistics all methods keep (D11): settings.batch_reference of them, or all."""
    n_reference = min(settings.batch_reference, len(x_train))
    return x_train[settings.stream(REFERENCE).choice(len(x_train), n_reference, replace=False)]
