"""Omniglot at 28x28, a class a character (Lake et al. 2015): alphabets to score on, and others to choose a theta on."""
import numpy as np

from ops.data.labelled import checked_labels, rounded_mean_of_2x2, split_dataset
from ops.data.places import Source, place_of, read_npz
from ops.data.pool import grouped
from ops.errors import InputError

OMNIGLOT = Source("Omniglot at 28x28 (x [n, 28, 28] uint8, y, alphabet)", "omniglot_28.npz",
                  "https://github.com/brendenlake/omniglot, whose drawings numpy.savez saves so")


def load_omniglot(name, folder):
    """The first, third, fifth ... alphabet of `omniglot_28.npz` -> Dataset: a class a character, 784 inputs.

    Ink as in the file.  The other alphabets are what theta is chosen on (`scripts_pool`), never scored on.
    Of each character's 20 drawings 6 are the test split, always the same.  Classes are named
    "alphabet-character" by their numbers.  Raises InputError as `read_npz`, for other shapes or
    types, for a character in two alphabets and for one with fewer than 3 drawings.
    """
    path, x, labels, classes = _read(folder, 0)
    return split_dataset(name, path, x, labels, classes)


def scripts_pool(folder):
    """The second, fourth ... alphabet of `omniglot_28.npz` -> Pool "scripts" of 14x14 averages; errors as above."""
    _, x, labels, classes = _read(folder, 1)
    small = rounded_mean_of_2x2(x.reshape(-1, 28, 28)).reshape(len(x), -1)
    return grouped("scripts", small, labels, classes, 14)


def _read(folder, first):
    """(path, x [n, 784], labels [n], names of the classes) of every second alphabet, from the `first` on, in order."""
    path = place_of(folder, OMNIGLOT)
    x, y, alphabet = read_npz(path, ("x", "y", "alphabet"))
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1:] != (28, 28) or not len(x):
        raise InputError(f"'{path}': x is {x.dtype} {list(x.shape)}, not uint8 [n, 28, 28]; write "
                         "it so")
    values, labels = checked_labels(path, "y", y, len(x))
    if alphabet.dtype.kind not in "iu" or alphabet.shape != y.shape:
        raise InputError(f"'{path}': alphabet is {alphabet.dtype} {list(alphabet.shape)}, not "
                         f"integers [{len(x)}]; write it so")
    start = np.unique(labels, return_index=True)[1]
    wrong = np.flatnonzero(alphabet != alphabet[start][labels])
    if len(wrong):
        raise InputError(f"'{path}': character {y[wrong[0]]} is in the alphabets "
                         f"{alphabet[start][labels[wrong[0]]]} and {alphabet[wrong[0]]}; number "
                         "each alphabet's characters on their own")
    kept = np.isin(alphabet[start], np.unique(alphabet)[first::2])  # [C]
    if kept.sum() < 2:
        raise InputError(f"'{path}': {kept.sum()} characters are in every second alphabet from number {first + 1} on; "
                         "give more alphabets")
    rows = kept[labels]
    classes = tuple(f"{alphabet[row]}-{value}" for row, value, keep in zip(start, values, kept) if keep)
    return path, x[rows].reshape(-1, x[0].size), (np.cumsum(kept) - 1)[labels[rows]], classes
