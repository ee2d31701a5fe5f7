"""Omniglot at 28x28: a class a character (Lake et al. 2015)."""
import numpy as np

from ops.data.labelled import checked_labels, split_dataset
from ops.data.places import Source, place_of, read_npz
from ops.errors import InputError

OMNIGLOT = Source("Omniglot at 28x28 (x [n, 28, 28] uint8, y, alphabet)", "omniglot_28.npz",
                  "https://github.com/brendenlake/omniglot, whose drawings numpy.savez saves so")


def load_omniglot(name, folder):
    """`omniglot_28.npz` -> Dataset: a class a character, 784 inputs, ink as in the file.

    Of each character's 20 drawings 6 are the test split, always the same.  Classes are named
    "alphabet-character" by their numbers.  Raises InputError as `read_npz`, for other shapes or
    types, for a character in two alphabets and for one with fewer than 3 drawings.
    """
    path = place_of(folder, OMNIGLOT)
    x, y, alphabet = read_npz(path, ("x", "y", "alphabet"))
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1:] != (28, 28) or not len(x):
        raise InputError(f"'{path}': x is {x.dtype} {list(x.shape)}, not uint8 [n, 28, 28]; write "
                         "it so")
    values, labels = checked_labels(path, "y", y, len(x))
    if alphabet.dtype.kind not in "iu" or alphabet.shape != y.shape:
        raise InputError(f"'{path}': alphabet is {alphabet.dtype} {list(alphabet.shape)}, not "
                         f"integers [{len(x)}]; write it so")
    first = np.unique(labels, return_index=True)[1]
    wrong = np.flatnonzero(alphabet != alphabet[first][labels])
    if len(wrong):
        raise InputError(f"'{path}': character {y[wrong[0]]} is in the alphabets "
                         f"{alphabet[first][labels[wrong[0]]]} and {alphabet[wrong[0]]}; number "
                         "each alphabet's characters on their own")
    classes = tuple(f"{alphabet[row]}-{value}" for row, value in zip(first, values))
    return split_dataset(name, path, x.reshape(len(x), -1), labels, classes)
