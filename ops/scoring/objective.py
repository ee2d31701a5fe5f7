"""The meta-objective J (App.17-26) of a base model, or of inputs as they are, on a labelled data set."""
import numpy as np

import unsup_meta as um
from ops.data import few_shot_draw
from ops.scoring.few_shot import RIDGE

PAIRS = 50  # of labelled batches, as the training log's validation has it


def labelled_pairs(dataset, rng, pairs=PAIRS, shots=10, ways=10):
    """(xa, ya, xb, yb), [pairs, shots * classes, .] each: a of the training split, b of the test split; y one-hot.

    Each pair has its own `ways` classes, in their own order, where there are more.  InputError as `few_shot_draw`.
    """
    classes, batches = len(dataset.classes), ([], [])
    y = np.repeat(np.eye(min(ways, classes), dtype=dataset.x_train.dtype), shots, axis=0)
    for _ in range(pairs):
        number = np.full(classes, -1)
        number[rng.choice(classes, len(y) // shots, replace=False)] = np.arange(len(y) // shots)
        for into, labels in zip(batches, (dataset.y_train, dataset.y_test)):
            among = np.flatnonzero(number[labels] >= 0)
            into.append(among[few_shot_draw(rng, number[labels[among]], shots)])
    xa, xb = (x[np.array(rows)] for x, rows in zip((dataset.x_train, dataset.x_test), batches))
    return xa, np.broadcast_to(y, (pairs, *y.shape)), xb, np.broadcast_to(y, (pairs, *y.shape))


def objectives(phi, xa, ya, xb, yb):
    """J of each pair of batches [pairs]; phi None: of the inputs as they are."""
    if phi is not None:
        return np.array([um.meta_objective(phi, *pair, RIDGE) for pair in zip(xa, ya, xb, yb)])
    found = []
    for a, t, b, s in zip(xa, ya, xb, yb):
        A = um.with_ones(a)
        gram = A @ A.T + RIDGE * np.eye(len(A), dtype=A.dtype)  # (A'A + r I)^-1 A' y = A' (AA' + r I)^-1 y, and K < N0
        p = um.with_ones(b) @ (A.T @ np.linalg.solve(gram, um.normalise_targets(t)))
        found.append(um.prediction_error(p, um.normalise_targets(s)))
    return np.array(found)
