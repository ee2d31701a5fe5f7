"""A user's own `.npz` of examples `x` and labels `y`, as a data set to score on and as a pool to meta-train on."""
import os

import numpy as np

from ops.data.labelled import checked_labels, split_dataset, split_rows
from ops.data.places import read_npz
from ops.data.pool import Pool, check_pool
from ops.errors import InputError


def is_user_file(name):
    """Whether a name that is no data set's means a file of the user's: it ends in .npz or .NPZ, or is there."""
    return name.lower().endswith(".npz") or os.path.exists(name)


def load_user(path):
    """The Dataset of a user's file, see `read_user`; images [n, h, w, c] keep their channels last.

    A third of each class, rounded down, is the test split, always the same one.  InputError as `read_user`, and for a
    class of fewer than 3 examples.
    """
    x, labels, classes = read_user(path)
    return split_dataset(os.path.basename(path), path, x.reshape(len(x), -1), labels, classes)


def user_pool(path, name=None):
    """The training split of a user's file -> Pool `name`, else the file's name.

    These are the rows of `load_user(path).x_train`, so scoring on the same file meets images that were
    never trained on.  uint8 stays uint8.  Square images [n, h, h] and [n, h, h, c] can be shifted and rotated,
    the latter becoming channel first; anything else is plain vectors.  That `load_user` leaves the
    channels last changes no task, since a task permutes its inputs.  InputError as `read_user`.
    """
    x, labels, classes = read_user(path)
    rows, _ = split_rows(labels, len(classes))
    square = x.ndim > 2 and x.shape[1] == x.shape[2]
    side, channels = (x.shape[1], x.shape[3] if x.ndim == 4 else 1) if square else (None, 1)
    if square and x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)
    rows = rows[np.argsort(labels[rows], kind="stable")]
    images, counts = np.ascontiguousarray(x[rows]).reshape(len(rows), -1), np.bincount(labels[rows])
    return check_pool(Pool(name or os.path.basename(path), images, counts, classes, side, channels))


def read_user(path):
    """(x, labels [n] int 0..C-1, names of the C classes) of a file.

    x, [n, features] or images [n, h, w] or [n, h, w, c], keeps its shape: uint8, meaning value / 255, as it is;
    other integers and floats are numbers, kept as float32.  y, [n], holds integers of any values or strings, the names
    of the classes.
    Raises InputError, naming file and mend, as `read_npz`, for other shapes and types, for values that are not
    finite in float32 and fewer than two classes.
    """
    x, y = read_npz(path, ("x", "y"))
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise InputError(f"'{path}': x is {list(x.shape)}; give [n, features], [n, h, w] or "
                         "[n, h, w, c], none of them 0")
    if x.dtype.kind not in "iuf":
        raise InputError(f"'{path}': x is {x.dtype}; give uint8 images, integers or floats")
    if x.dtype != np.uint8:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 is reported below
            x = x.astype(np.float32, copy=False)
        bad = np.argwhere(~np.isfinite(x.reshape(len(x), -1)))
        if len(bad):
            raise InputError(f"'{path}': x holds {len(bad)} values that are NaN, infinite or too large "
                             f"for float32, the first in example {bad[0, 0]}, feature {bad[0, 1]}; "
                             "remove or replace them")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "backslashreplace")
    values, labels = checked_labels(path, "y", y, len(x), kinds="iuU")
    return x, labels, tuple(name if name.isprintable() else ascii(name) for name in map(str, values))
