"""Labelled data to score a rule on: embedded, read from public files, or a user's own `.npz`.

`embedded/mnist_14x14.npz`: MNIST, Y. LeCun, C. Cortes, C. J. C. Burges,
http://yann.lecun.com/exdb/mnist, CC BY-SA 3.0.  `embedded/fashion_mnist_14x14.npz`: Fashion-MNIST,
Zalando Research, https://github.com/zalandoresearch/fashion-mnist, MIT licence.  Both changed by
`make_embedded.py`: 6,000 training and 2,000 test images drawn at random, 14x14 by averaging.
"""
import os

import numpy as np

from ops.errors import InputError
from ops.data import files_on_disk
from ops.data.files_on_disk import read_npz
from ops.data.image_sets import (DIGITS, FASHION_CLASSES, IDX_SETS, load_cifar10, load_idx_set,
                         load_imagenet16_heldout, load_mnist3, load_omniglot)
from ops.data.labelled import Dataset, checked_labels, split_rows, unit
from ops.data.moons import load_moons
from ops.data.reviews import load_imdb

EMBEDDED_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "embedded")
DATASETS = {"mnist14": ("mnist_14x14.npz", DIGITS),
            "fashion14": ("fashion_mnist_14x14.npz", FASHION_CLASSES)}
MORE_DATASETS = dict.fromkeys(IDX_SETS, load_idx_set) | {  # name -> loader(name, folder)
    "cifar10": load_cifar10, "imagenet16-heldout": load_imagenet16_heldout, "imdb": load_imdb,
    "omniglot": load_omniglot, "moons": load_moons, "mnist3": load_mnist3}


def load_dataset(name_or_path, data_dir=None):
    """A name in DATASETS (embedded) or MORE_DATASETS, or the path of a user's `.npz` -> Dataset.

    The sets of MORE_DATASETS but "moons" are read from `files_on_disk.data_dir(data_dir)`; as
    float32 they take up to 240 MB, see their loaders.

    A user's file holds `x`, [n, features] or images [n, h, w] or [n, h, w, c] (uint8, scaled by
    1/255, or floats, kept as they are), and `y`, [n] integer labels of any values.  A third of each
    class, rounded down, becomes the test split, always the same one.
    Raises InputError for an unknown name and for everything `read_npz` and the checks of x and y
    find wrong; each names the file and the mend.
    """
    if name_or_path in DATASETS:
        return _load_embedded(name_or_path)
    if name_or_path in MORE_DATASETS:
        return MORE_DATASETS[name_or_path](name_or_path, files_on_disk.data_dir(data_dir))
    if is_user_file(name_or_path):
        return _load_user(name_or_path)
    raise InputError(f"data set '{name_or_path}' is unknown; give one of "
                     f"{', '.join([*DATASETS, *MORE_DATASETS])}, or the path of an .npz with x "
                     "and y")


def is_user_file(name):
    """Whether a name that is no data set's means a file of the user's: it ends in .npz or .NPZ, or is there."""
    return name.lower().endswith(".npz") or os.path.exists(name)


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
    return Dataset(name, unit(x_train), y_train.astype(np.intp),
                   unit(x_test), y_test.astype(np.intp), classes)


def _load_user(path):
    x, y = read_npz(path, ("x", "y"))
    check_x(path, x)
    x = vectors(path, x)
    values, labels = checked_labels(path, "y", y, len(x))
    train, test = split_rows(labels, len(values))
    return Dataset(os.path.basename(path), x[train], labels[train], x[test], labels[test],
                   tuple(str(v) for v in values))


def check_x(path, x):
    """InputError unless x of a user's file has a shape and a type as `load_dataset` wants; no value is read."""
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise InputError(f"'{path}': x is {list(x.shape)}; give [n, features], [n, h, w] or "
                         "[n, h, w, c], none of them 0")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise InputError(f"'{path}': x is {x.dtype}; give uint8 images or floats")


def vectors(path, x):
    """x that `check_x` let pass -> [n, features] float32; InputError for a value that is not finite in it."""
    x = x.reshape(len(x), -1)
    if x.dtype == np.uint8:
        return unit(x)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 is reported below
        x = x.astype(np.float32, copy=False)
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        raise InputError(f"'{path}': x holds {len(bad)} values that are NaN, infinite or too large "
                         f"for float32, the first in example {bad[0, 0]}, feature {bad[0, 1]}; "
                         "remove or replace them")
    return x
