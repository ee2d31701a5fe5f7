"""`Dataset`: labelled vectors in two splits, and the checks and steps that its loaders share."""
from typing import NamedTuple

import numpy as np

from ops.errors import InputError

SPLIT_SEED = 0  # data that come without a test split are always split the same way


class Dataset(NamedTuple):
    """Labelled vectors in two splits.

    name             str
    x_train, x_test  [n, N0] float32, in [0, 1] for images
    y_train, y_test  [n] int, 0..C-1
    classes          tuple of C strings: what the labels stand for
    """
    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple


def unit(x):
    """uint8 of any shape -> float32 in [0, 1], four times the memory."""
    x = x.astype(np.float32)
    x /= np.float32(255)
    return x


def split_rows(labels, classes):
    """Row numbers of the training and the test split, rising: of each class, a third is test.

    labels [n] int 0..classes-1.  The third is rounded down and always the same (SPLIT_SEED).
    """
    rng = np.random.default_rng(SPLIT_SEED)
    test = np.zeros(len(labels), bool)
    for c in range(classes):
        rows = rng.permutation(np.flatnonzero(labels == c))
        test[rows[:len(rows) // 3]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def require_every_class(path, y_train, y_test, classes):
    """InputError naming `path` unless each of the classes has an example in both splits.

    y_train, y_test [n] int 0..C-1; classes: C strings.
    """
    train, test = (np.bincount(y, minlength=len(classes)) for y in (y_train, y_test))
    empty = np.flatnonzero((train == 0) | (test == 0))
    if len(empty):
        c = empty[0]
        raise InputError(f"'{path}': class '{classes[c]}' has {train[c]} training and {test[c]} "
                         "test examples; give some of each, or leave the class out")


def checked_labels(path, key, y, n):
    """Labels of an `.npz` -> its distinct values [C], rising, and labels [n] int 0..C-1.

    Raises InputError naming `path` and `key`: no integers, not [n], fewer than two values.
    """
    if y.dtype.kind not in "iu":
        raise InputError(f"'{path}': {key} is {y.dtype}; give integer labels")
    if y.shape != (n,):
        raise InputError(f"'{path}': {key} is {list(y.shape)} but there are {n} examples; "
                         f"give {key} as [{n}]")
    values, labels = np.unique(y, return_inverse=True)
    if len(values) < 2:
        found = f"only the label {values[0]}" if len(values) else "no label"
        raise InputError(f"'{path}': {key} holds {found}; give 2 or more classes")
    return values, labels.astype(np.intp)
