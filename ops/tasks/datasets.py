"""Labelled data to score a rule on: two small embedded sets, or a user's own `.npz`.

`embedded/mnist_14x14.npz`: MNIST, Y. LeCun, C. Cortes, C. J. C. Burges,
http://yann.lecun.com/exdb/mnist, CC BY-SA 3.0.  `embedded/fashion_mnist_14x14.npz`: Fashion-MNIST,
Zalando Research, https://github.com/zalandoresearch/fashion-mnist, MIT licence.  Both changed by
`make_embedded.py`: 6,000 training and 2,000 test images drawn at random, 14x14 by averaging.
"""
import os
from typing import NamedTuple

import numpy as np

from ..errors import InputError

EMBEDDED_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "embedded")
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                   "Sneaker", "Bag", "Ankle boot")
DATASETS = {"mnist14": ("mnist_14x14.npz", tuple("0123456789")),
            "fashion14": ("fashion_mnist_14x14.npz", FASHION_CLASSES)}
SPLIT_SEED = 0  # a user's data is always split the same way


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


def load_dataset(name_or_path):
    """"mnist14", "fashion14" or the path of a user's `.npz` -> Dataset.

    A user's file holds `x`, [n, features] or images [n, h, w] or [n, h, w, c] (uint8, scaled by
    1/255, or floats, kept as they are), and `y`, [n] integer labels of any values.  A third of each
    class, rounded down, becomes the test split, always the same one.
    Raises InputError for an unknown name and for everything `read_npz` and the checks of x and y
    find wrong; each names the file and the mend.
    """
    if name_or_path in DATASETS:
        return _load_embedded(name_or_path)
    if name_or_path.endswith(".npz") or os.path.exists(name_or_path):
        return _load_user(name_or_path)
    raise InputError(f"data set '{name_or_path}' is unknown; give one of {', '.join(DATASETS)} or "
                     "the path of an .npz with x and y")


def read_npz(path, keys):
    """The named arrays of an `.npz`, as a tuple.

    Raises InputError, naming file and reason: missing, corrupt or truncated, no `.npz`, a key that
    is not there, an array of Python objects (never unpickled).
    """
    if not os.path.isfile(path):
        raise InputError(f"'{path}' does not exist or is no file; mend the path")
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            found = sorted(archive.files) if isinstance(archive, np.lib.npyio.NpzFile) else None
            missing = [key for key in keys if found and key not in found]
            arrays = () if missing or not found else tuple(archive[key] for key in keys)
            if not all(isinstance(array, np.ndarray) for array in arrays):
                raise ValueError("its members are no arrays")
    except Exception as error:  # a damaged zip or header raises nearly anything, MemoryError too
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason:  # NumPy's advice, which is not to be followed
            reason = "it holds Python objects, or is no .npz"
        raise InputError(f"'{path}' cannot be read ({reason}); write it again with "
                         "numpy.savez") from None
    if not found:
        raise InputError(f"'{path}' is no .npz with arrays; write it with numpy.savez")
    if missing:
        raise InputError(f"'{path}' holds {', '.join(found)} but no '{missing[0]}'; "
                         f"write it with {', '.join(keys)}")
    return arrays


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


def _load_embedded(name):
    file_name, classes = DATASETS[name]
    x_train, y_train, x_test, y_test = read_npz(
        os.path.join(EMBEDDED_FOLDER, file_name), ("x_train", "y_train", "x_test", "y_test"))
    return Dataset(name, _unit(x_train), y_train.astype(np.intp),
                   _unit(x_test), y_test.astype(np.intp), classes)


def _load_user(path):
    x, y = read_npz(path, ("x", "y"))
    x = _checked_x(path, x)
    values, labels = _checked_y(path, y, len(x))
    train, test = _split(labels, len(values))
    return Dataset(os.path.basename(path), x[train], labels[train], x[test], labels[test],
                   tuple(str(v) for v in values))


def _unit(x):
    """uint8 -> float32 in [0, 1]."""
    return x.astype(np.float32) / np.float32(255)


def _checked_x(path, x):
    """x of a user's file -> [n, features] float32, or InputError."""
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise InputError(f"'{path}': x is {list(x.shape)}; give [n, features], [n, h, w] or "
                         "[n, h, w, c], none of them 0")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise InputError(f"'{path}': x is {x.dtype}; give uint8 images or floats")
    x = x.reshape(len(x), -1)
    if x.dtype == np.uint8:
        return _unit(x)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 is reported below
        x = x.astype(np.float32)
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        raise InputError(f"'{path}': x holds {len(bad)} values that are NaN, infinite or too large "
                         f"for float32, the first in example {bad[0, 0]}, feature {bad[0, 1]}; "
                         "remove or replace them")
    return x


def _checked_y(path, y, n):
    """y of a user's file -> its distinct values [C] and labels [n] in 0..C-1, or InputError."""
    if y.dtype.kind not in "iu":
        raise InputError(f"'{path}': y is {y.dtype}; give integer labels")
    if y.shape != (n,):
        raise InputError(f"'{path}': y is {list(y.shape)} but x has {n} examples; give y as [{n}]")
    values, labels = np.unique(y, return_inverse=True)
    if len(values) < 2:
        raise InputError(f"'{path}': y holds only the label {values[0]}; give 2 or more classes")
    return values, labels.astype(np.intp)


def _split(labels, classes):
    """Row numbers of the training and the test split, rising: of each class, a third is test."""
    rng = np.random.default_rng(SPLIT_SEED)
    test = np.zeros(len(labels), bool)
    for c in range(classes):
        rows = rng.permutation(np.flatnonzero(labels == c))
        test[rows[:len(rows) // 3]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)
