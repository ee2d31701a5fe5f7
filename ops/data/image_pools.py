"""Image sets to meta-train on, as `Pool`s: CIFAR-10 and ImageNet at 16x16, and a user's own `.npz`.

Colour is channel first in every pool: feature (c * side + row) * side + column.  The order of the
features is the pool's own affair and theta never sees it, since a task permutes its inputs.
"""
import functools
import os

import numpy as np

from ops.errors import InputError
from ops.data.area import halve
from ops.data.cifar import CLASSES as CIFAR_CLASSES
from ops.data.cifar import read_cifar
from ops.data.datasets import check_x, load_dataset, vectors
from ops.data.files_on_disk import missing, read_npz
from ops.data.image_sets import (HELDOUT_FILE, IMAGENET, IMAGENET_CLASSES, heldout_labels, read_imagenet16,
                         training_files)
from ops.data.labelled import checked_labels, split_rows
from ops.data.pool import Pool, check_pool

HELD_OUT = "held out "  # how the name of the group begins that tells which labels a pool lacks; it has no class
PARTS = 30  # CIFAR-10's images are made smaller in so many parts, to spare memory


def cifar10_pool(folder):
    """The training images of CIFAR-10 -> Pool of 16x16 images, 768 inputs, 38 MB if whole.

    Each channel is averaged over 2x2 blocks and rounded to the nearest grey level, halves up.  `folder` is
    the folder of data sets.  Raises InputError as `read_cifar` and for a class without images.
    """
    images, labels = read_cifar(folder, "train")
    small = np.empty((len(images), 3, 16, 16), np.uint8)
    for part, into in zip(np.array_split(images, PARTS), np.array_split(small, PARTS)):
        into[:] = halve(part.reshape(-1, 32, 32)).reshape(into.shape)
    return _grouped("cifar10", small.reshape(len(small), -1), labels, CIFAR_CLASSES, 16, 3)


@functools.lru_cache(maxsize=None)
def embedded_pool(name):
    """The training split of an embedded data set, "mnist14" or "fashion14" -> Pool of 14x14 images."""
    data = load_dataset(name)
    return _grouped(name, data.x_train, data.y_train, data.classes, 14, 1)


def imagenet16_pool(folder):
    """All of `imagenet16/train_data_batch_*.npz` but the held-out classes -> Pool, 768 inputs; whole 0.95 GB.

    The labels count the same classes in every training file.  Left out are `heldout_labels` and each class of
    which an image is also in `heldout_classes.npz`; `labels_left_out` tells which of those that are in the files.
    Classes are named by their labels.  Files are read twice, so that no more than one is in memory beside the
    pool.  Raises InputError as `read_imagenet16`, for missing files, and if fewer than two classes are left.
    """
    base, paths = os.path.join(folder, IMAGENET.place), training_files(folder)
    if not paths:
        raise missing(os.path.join(base, "train_data_batch_*.npz"), IMAGENET, "train_data_batch_*.npz")
    heldout = np.union1d(heldout_labels(folder), _labels_of_shared_images(folder, paths))
    counts = sum(np.bincount(_imagenet_batch(path, ())[1], minlength=IMAGENET_CLASSES + 1) for path in paths)
    left_out = HELD_OUT + " ".join(str(label) for label in heldout if counts[label])
    counts[heldout] = 0
    labels = np.flatnonzero(counts)
    if len(labels) < 2:
        raise InputError(f"'{base}': {len(labels)} classes are left without the {len(heldout)} held-out ones; add "
                         "training files of other classes")
    images, free = np.empty((counts.sum(), 768), np.uint8), np.cumsum(counts) - counts  # each class's next row
    for path in paths:
        data, y = _imagenet_batch(path, heldout)
        order = np.argsort(y, kind="stable")
        y = y[order]
        images[free[y] + np.arange(len(y)) - np.searchsorted(y, y)] = data[order]
        free += np.bincount(y, minlength=len(free))
    return _checked(Pool("imagenet16", images, counts[labels], tuple(map(str, labels)), 16, 3, {left_out: ()}))


def labels_left_out(pool):
    """The labels, rising, that `imagenet16_pool` left out of this Pool since they are held out."""
    return [int(label) for group in pool.groups if group.startswith(HELD_OUT) for label in group.split()[2:]]


def _labels_of_shared_images(folder, paths):
    """Labels of training classes of which some image is, byte for byte, in the user's file of held-out classes."""
    own = os.path.join(folder, IMAGENET.place, HELDOUT_FILE)
    if not os.path.exists(own):
        return np.zeros(0, np.intp)
    heldout, found = {image.tobytes() for image in read_imagenet16(own)[0]}, set()
    for path in paths:
        data, labels = _imagenet_batch(path, ())
        found.update(int(y) for image, y in zip(data, labels) if image.tobytes() in heldout)
    return np.array(sorted(found), np.intp)


def user_pool(path, name=None):
    """The training split of a user's `.npz` (x, y as for `load_dataset`) -> Pool `name`, else the file's name.

    These are the rows of `load_dataset(path).x_train`, so scoring on the same file meets images that were
    never trained on.  uint8 stays uint8.  Square images [n, h, h] and [n, h, h, c] can be shifted and rotated,
    the latter becoming channel first; anything else is plain vectors.  That `load_dataset` leaves the
    channels last changes no task, see above.
    Raises InputError as `load_dataset`.
    """
    x, y = read_npz(path, ("x", "y"))
    check_x(path, x)
    if x.dtype != np.uint8:
        x = vectors(path, x).reshape(x.shape)
    values, labels = checked_labels(path, "y", y, len(x))
    rows, _ = split_rows(labels, len(values))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    square = x.ndim > 2 and x.shape[1] == x.shape[2]
    side, channels = (x.shape[1], x.shape[3] if x.ndim == 4 else 1) if square else (None, 1)
    if square and x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)
    images = np.ascontiguousarray(x[rows]).reshape(len(rows), -1)
    counts = np.bincount(labels[rows], minlength=len(values))
    name = name or os.path.basename(path)
    return _checked(Pool(name, images, counts, tuple(map(str, values)), side, channels))


def _imagenet_batch(path, heldout):
    """data [n, 768] uint8 and labels [n] int, 1 to 1000, of a file without its held-out classes."""
    data, values, labels = read_imagenet16(path)
    y = values[labels].astype(np.intp)
    keep = ~np.isin(y, heldout)
    return data[keep], y[keep]


def _grouped(name, images, labels, class_names, side, channels):
    """Images [n, N0] in any order, labels [n] int 0..C-1 -> a checked Pool, classes in order."""
    counts = np.bincount(labels, minlength=len(class_names))
    return _checked(Pool(name, images[np.argsort(labels, kind="stable")], counts, class_names, side, channels))


def _checked(pool):
    check_pool(pool)
    return pool
