"""Few-shot accuracy of fixed features (D11): the meta-objective's readout, scored on a whole test split."""
import numpy as np

from ops.errors import InputError
from ops.data import few_shot_draw
from unsup_meta import normalise_targets, prediction_error, solve_ridge, with_ones

RIDGE = 0.1  # the paper's
RIDGES = 10.0 ** np.arange(-2, 4.5, 0.5)  # that a tuned one is chosen from
TUNING_DRAWS, TUNING_POINTS = 20, 2000  # draws of labelled points; training points to test on, about


def few_shot_accuracy(features_train, y_train, features_test, y_test, shots, draws, rng, ridge=RIDGE, ways=None):
    """Share of the test split classified right by a readout of `shots` points per class (App.20-24, D11).

    features_train [n, F], features_test [m, F] float; y_train [n], y_test [m] int 0..C-1.
    Each of the `draws` readouts is fitted on its own `shots` labelled points per class of the
    training split, drawn from `rng`: the same rng state draws the same points whatever the features.
    With fewer `ways` than classes each draw first draws that many different classes; its readout
    tells them apart and is scored on their test points.  None, or as many or more: all classes.
    Returns accuracies [draws] float64.
    Raises InputError if a class drawn has fewer than `shots` training points, ways is below 2, draws
    is below 1, a draw has no test point, or the features are not finite or too large to solve for.
    """
    if draws < 1:
        raise InputError(f"draws is {draws}; ask for 1 or more")
    check_ways(ways)
    if not (np.isfinite(features_train).all() and np.isfinite(features_test).all()):
        raise InputError("features hold NaN or infinity; scale the data to about 1, or use another theta")
    A_test = with_ones(features_test)
    return np.array([_share_right(A_test, target[y_test], C)
                     for target, C in _fitted(features_train, y_train, shots, draws, rng, ridge, ways)])


def few_shot_objective(features_train, y_train, features_test, y_test, shots, draws, rng, ridge=RIDGE, ways=None):
    """The meta-objective in its squared form (App.26; 1 is chance) of readouts as those of `few_shot_accuracy`: [draws] float64."""
    A_test, found = with_ones(features_test), []
    for target, C in _fitted(features_train, y_train, shots, draws, rng, ridge, ways):
        asked = target[y_test] >= 0
        y = normalise_targets(np.eye(C.shape[1])[target[y_test[asked]]])
        found.append(prediction_error(A_test[asked] @ C, y.astype(C.dtype), False))
    return np.array(found, np.float64)


def few_shot_confusion(features_train, y_train, features_test, y_test, shots, draws, rng, ridge=RIDGE):
    """Of each class's test points the share that readouts as those of `few_shot_accuracy`, of all classes, take for each.

    Returns [C, C], rows true classes, a mean over draws; the mean of its diagonal is accuracy where classes are equally large.
    """
    A_test, found = with_ones(features_test), []
    for _, C in _fitted(features_train, y_train, shots, draws, rng, ridge, None):
        told = np.eye(C.shape[1])[(A_test @ C).argmax(axis=-1)]  # [m, C]                        (App.24)
        found.append([told[y_test == c].mean(axis=0) for c in range(C.shape[1])])
    return np.mean(found, axis=0)


def _fitted(features_train, y_train, shots, draws, rng, ridge, ways):
    """[(each class's number in a readout [classes], -1 if left out; the readout [F + 1, ways])] of draws of labelled points."""
    drawn = [labelled_points(rng, y_train, shots, ways) for _ in range(draws)]
    rows = np.stack([rows for rows, _ in drawn])  # [draws, K]
    one_hot = np.stack([np.eye(target.max() + 1)[target[y_train[r]]] for r, target in drawn])
    y = normalise_targets(one_hot)  # [draws, K, ways]                                           (App.20-21)
    C = _readouts(with_ones(features_train[rows]), y, ridge)  # [draws, F + 1, ways]              (App.22-23)
    return [(target, c) for (_, target), c in zip(drawn, C)]


def tuned_ridge(features, y, shots, rng, ways=None):
    """The one of RIDGES whose readouts do best on the training split alone: features [n, F], y [n] int 0..C-1 -> float.

    Each of TUNING_DRAWS readouts is fitted on labelled points as those of `few_shot_accuracy`, or one a class fewer where
    that is all a class has, and tested on others of its classes, some TUNING_POINTS.  The least of equal ones.
    Raises InputError if a class has a single example.
    """
    smallest = np.bincount(y).min()
    if smallest < 2:
        raise InputError("a tuned ridge wants 2 training examples of each class; give more, or leave --tuned-ridge out")
    right = np.zeros(len(RIDGES))
    for _ in range(TUNING_DRAWS):
        rows, target = labelled_points(rng, y, min(shots, smallest - 1), ways)
        others = np.setdiff1d(np.flatnonzero(target[y] >= 0), rows)
        others = rng.permutation(others)[:TUNING_POINTS]
        A, A_test = (with_ones(features[i].astype(np.float64)) for i in (rows, others))
        one_hot = np.eye(target.max() + 1)[target[y[rows]]]
        p = _predictions(A, normalise_targets(one_hot), A_test)
        right += (p.argmax(axis=-1) == target[y[others]]).mean(axis=-1)
    return float(RIDGES[right.argmax()])


def accuracy_within(features, y, shots, draws, rng, ridge=RIDGE, ways=None):
    """As `few_shot_accuracy` within one split, features [n, F], y [n]: each readout is scored on all points of its classes
    that are not among its labelled ones.  Raises InputError as that."""
    found = []
    for _ in range(draws):
        rows, target = labelled_points(rng, y, shots, ways)
        others = np.setdiff1d(np.flatnonzero(target[y] >= 0), rows)
        found.append(few_shot_accuracy(features[rows], target[y[rows]], features[others], target[y[others]], shots, 1, rng,
                                       ridge))
    return np.concatenate(found)


def _predictions(A, y, A_test):
    """A_test (A'A + r I)^-1 A' y for each of RIDGES, [RIDGES, m, ways], by one decomposition of A [K, F]."""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    shrunk = (s / (s**2 + RIDGES[:, None]))[..., None] * (U.T @ y)
    return (A_test @ Vt.T) @ shrunk


def check_ways(ways):
    """InputError unless ways is None (all classes) or 2 or more."""
    if ways is not None and ways < 2:
        raise InputError(f"ways is {ways}; ask for 2 or more classes, or leave it out")


def labelled_points(rng, y_train, shots, ways):
    """One draw: rows [K] of the labelled points, and each class's number in the readout [classes], -1 if left out.

    y_train [n] int 0..C-1.  Raises InputError for a class of too few points.
    """
    classes = int(y_train.max()) + 1
    if ways is None or ways >= classes:
        return few_shot_draw(rng, y_train, shots), np.arange(classes)
    target = np.full(classes, -1)
    target[rng.choice(classes, ways, replace=False)] = np.arange(ways)
    among = np.flatnonzero(target[y_train] >= 0)
    return among[few_shot_draw(rng, target[y_train[among]], shots)], target


def _share_right(A_test, target, C):
    """Share of the test points that the readout C [F + 1, ways] gets right; target [m], -1: not of its classes."""
    asked = target >= 0
    if not asked.all():
        A_test, target = A_test[asked], target[asked]
    if not len(target):
        raise InputError("a draw's classes have no test example; give more test examples")
    return ((A_test @ C).argmax(axis=-1) == target).mean()  # p = A' C                             (App.24)


def _readouts(A, y, ridge):
    """solve_ridge(A, y, ridge) [draws, F + 1, C], by way of the smaller of A'A and AA'.

    (A'A + r I)^-1 A' y = A' (AA' + r I)^-1 y, so inputs of thousands of features cost no more than K points.
    """
    y = y.astype(A.dtype)
    try:
        if A.shape[2] <= A.shape[1]:
            C = solve_ridge(A, y, ridge)  # NaN where a matrix is singular
            if not np.isfinite(C).all():
                raise np.linalg.LinAlgError("no readout")
            return C
        A64 = A.astype(np.float64)
        gram = np.matmul(A64, A64.swapaxes(1, 2)) + ridge * np.eye(A.shape[1])
        return np.matmul(A64.swapaxes(1, 2), np.linalg.solve(gram, y)).astype(A.dtype)
    except np.linalg.LinAlgError as error:
        raise InputError("features are too large for the readout's ridge; scale the data to about 1") from error


def mean_and_sem(values):
    """Mean, its standard error, and the number of values, of accuracies [seeds, draws].

    Every seed of phi (row) is scored on the same draws of labelled points (columns), so seeds and
    draws are crossed: with the mean squares of a two-way table, MS_s of rows, MS_d of columns and
    MS_e of what neither explains,
        sem^2 = (MS_s + MS_d - MS_e) / (seeds draws),
    which is var(seed means)/seeds + var(draw means)/draws less the part counted twice.  Neither
    many draws of one phi nor many phis on one draw make it small.  One row (raw inputs, principal
    components: no seed) or one column gives the usual var/n; a single value gives nan.  The test
    split is taken as given: its own sampling error is not in here.
    """
    values = np.asarray(values, np.float64)
    seeds, draws = values.shape
    mean = values.mean()
    rows = values.mean(axis=1, keepdims=True) - mean
    columns = values.mean(axis=0, keepdims=True) - mean
    if seeds == 1 or draws == 1:
        return float(mean), _sem_of(values.reshape(-1)), values.size
    ms_rows = draws * np.sum(rows**2) / (seeds - 1)
    ms_columns = seeds * np.sum(columns**2) / (draws - 1)
    ms_rest = np.sum((values - mean - rows - columns) ** 2) / ((seeds - 1) * (draws - 1))
    twice = min(ms_rest, ms_rows, ms_columns)  # never more than was counted
    return float(mean), float(np.sqrt((ms_rows + ms_columns - twice) / values.size)), values.size


def _sem_of(values):
    return float(np.sqrt(values.var(ddof=1) / values.size)) if values.size > 1 else float("nan")
