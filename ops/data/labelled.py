"""`Dataset`: labelled vectors in two splits, and the checks and steps that its readers share."""
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


def dataset(name, path, x_train, y_train, x_test, y_test, classes):
    """Dataset; InputError naming `path` unless each of the classes has an example in both splits."""
    train, test = (np.bincount(y, minlength=len(classes)) for y in (y_train, y_test))
    empty = np.flatnonzero((train == 0) | (test == 0))
    if len(empty):
        c = empty[0]
        raise InputError(f"'{path}': class '{classes[c]}' has {train[c]} training and {test[c]} "
                         "test examples; give some of each, or leave the class out")
    return Dataset(name, x_train, y_train, x_test, y_test, classes)


def split_dataset(name, path, x, labels, classes):
    """x [n, N0] without a test split, labels [n] int 0..C-1 -> Dataset, x scaled to [0, 1] if it is uint8.

    InputError naming `path` for a class of fewer than 3 examples, whose third would be none.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 3:
        c = counts.argmin()
        raise InputError(f"'{path}': class '{classes[c]}' has {counts[c]} examples, too few to keep a third of them "
                         "for testing; give 3 or more, or leave the class out")
    train, test = split_rows(labels, len(classes))
    x_train, x_test = (unit(part) if part.dtype == np.uint8 else part for part in (x[train], x[test]))
    return Dataset(name, x_train, labels[train], x_test, labels[test], classes)


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


def unit(x):
    """uint8 of any shape -> float32 in [0, 1], four times the memory."""
    x = x.astype(np.float32)
    x /= np.float32(255)
    return x


def sum_of_2x2(images):
    """[..., 2h, 2w] uint8 -> [..., h, w] uint16: the sum of each 2x2 block."""
    total = images[..., 0::2, 0::2].astype(np.uint16)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        total += images[..., row::2, column::2]
    return total


def mean_of_2x2(images):
    """[..., 2h, 2w] uint8 -> [..., h, w] float32 in [0, 1]: the mean of each 2x2 block, over 255."""
    return sum_of_2x2(images).astype(np.float32) / np.float32(4 * 255)


def rounded_mean_of_2x2(images):
    """[..., 2h, 2w] uint8 -> [..., h, w] uint8: the mean of each 2x2 block, halves up."""
    return ((sum_of_2x2(images) + 2) // 4).astype(np.uint8)


def checked_labels(path, key, y, n, kinds="iu"):
    """Labels of an `.npz` -> its distinct values [C], rising, and labels [n] int 0..C-1.

    kinds  NumPy's letters of the types that are taken: integers, with "U" strings too
    Raises InputError naming `path` and `key`: of another type, not [n], fewer than two values.
    """
    if y.dtype.kind not in kinds:
        raise InputError(f"'{path}': {key} is {y.dtype}; give integer labels{' or class names' * ('U' in kinds)}")
    if y.shape != (n,):
        raise InputError(f"'{path}': {key} is {list(y.shape)} but there are {n} examples; "
                         f"give {key} as [{n}]")
    values, labels = np.unique(y, return_inverse=True)
    if len(values) < 2:
        found = f"only the label {' '.join(str(values[0]).split())}" if len(values) else "no label"
        raise InputError(f"'{path}': {key} holds {found}; give 2 or more classes")
    return values, labels.astype(np.intp)


# ---- few labelled examples of many

def require_shots(dataset, shots, held_out=1):
    """InputError unless each class has `shots` training and `held_out` test examples.

    It names the data set, the first class that falls short, its counts and what is needed.
    """
    if shots < 1:
        raise InputError(f"shots is {shots}; ask for 1 or more")
    n = len(dataset.classes)
    train, test = (np.bincount(y, minlength=n) for y in (dataset.y_train, dataset.y_test))
    short = np.flatnonzero((train < shots) | (test < held_out))
    if len(short):
        c = short[0]
        raise InputError(
            f"data '{dataset.name}': class '{dataset.classes[c]}' has {train[c]} training and "
            f"{test[c]} test examples, but {shots} shots need {shots} and {held_out}: lower the "
            "shots or give more examples of it")


def few_shot_draw(rng, labels, shots):
    """Indices [C*shots] of a random draw, exactly `shots` different ones per class, by class.

    labels [n] int 0..C-1.  InputError names a class with fewer than `shots`.
    """
    counts = np.bincount(labels, minlength=1)
    if counts.min() < shots or shots < 1:
        c = counts.argmin()
        raise InputError(f"class {c} has {counts[c]} examples, but {shots} shots were asked for; "
                         f"ask for 1 to {counts[c]}")
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.cumsum(counts) - counts
    return by_class[(starts[:, None] + np.arange(shots)).reshape(-1)]
