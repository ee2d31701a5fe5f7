"""Few-shot accuracy of fixed features (D11): the meta-objective's readout, scored on a whole test split."""
import numpy as np

from ops.errors import InputError
from ops.ridge import normalise_targets, solve_ridge, with_ones
from ops.tasks import few_shot_draw


def few_shot_accuracy(features_train, y_train, features_test, y_test, shots, draws, rng, ridge=0.1):
    """Share of the test split classified right by a readout of `shots` points per class (App.20-24, D11).

    features_train [n, F], features_test [m, F] float; y_train [n], y_test [m] int 0..C-1.
    Each of the `draws` readouts is fitted on its own `shots` labelled points per class of the
    training split, drawn from `rng`: the same rng state draws the same points whatever the features.
    Returns accuracies [draws] float64.
    Raises InputError if a class has fewer than `shots` training points, draws is below 1, or the
    features are not finite or too large to solve for.
    """
    if draws < 1:
        raise InputError(f"draws is {draws}; ask for 1 or more")
    if not (np.isfinite(features_train).all() and np.isfinite(features_test).all()):
        raise InputError("features hold NaN or infinity; scale the data to about 1, or use another theta")
    rows = np.stack([few_shot_draw(rng, y_train, shots) for _ in range(draws)])  # [draws, K]
    classes = int(y_train.max()) + 1
    y = normalise_targets(np.eye(classes)[y_train[rows]])  # [draws, K, C]                       (App.20-21)
    C = _readouts(with_ones(features_train[rows]), y, ridge)  # [draws, F + 1, C]                 (App.22-23)
    p = np.matmul(with_ones(features_test), C)  # [draws, m, C]                                  (App.24)
    return (p.argmax(axis=-1) == y_test).mean(axis=-1)


def _readouts(A, y, ridge):
    """solve_ridge(A, y, ridge) [draws, F + 1, C], by way of the smaller of A'A and AA'.

    (A'A + r I)^-1 A' y = A' (AA' + r I)^-1 y, so inputs of thousands of features cost no more than K points.
    """
    y = y.astype(A.dtype)
    try:
        if A.shape[2] <= A.shape[1]:
            return solve_ridge(A, y, ridge)
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
