"""Image sets to meta-train on, as `Pool`s: CIFAR-10 and ImageNet at 16x16, and a user's own `.npz`.

Colour is channel first in every pool: feature (c * side + row) * side + column.  The order of the
features is the pool's own affair and theta never sees it, since a task permutes its inputs.
"""
import functools
import glob
import os

import numpy as np

from ..errors import InputError
from .area import halve
from .cifar import CLASSES as CIFAR_CLASSES
from .cifar import read_cifar
from .datasets import checked_x, load_dataset
from .files_on_disk import missing, read_npz
from .image_sets import IMAGENET, IMAGENET_CLASSES, read_imagenet16
from .labelled import checked_labels, split_rows
from .pool import Pool, check_pool

HELDOUT_CLASSES, HELDOUT_SEED = 40, 0  # of ImageNet, where no file says which
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


def heldout_labels(folder=None):
    """The labels of the ImageNet classes that are never meta-trained on: [C], 1 to 1000, rising.

    None, if `folder` holds `imagenet16/heldout_classes.npz`: it is of other classes than the training files
    and counts them on its own.  Else always the same 40, drawn with HELDOUT_SEED.
    """
    if folder and os.path.exists(_heldout_path(folder)):
        return np.zeros(0, np.intp)
    drawn = np.random.default_rng(HELDOUT_SEED).permutation(IMAGENET_CLASSES)[:HELDOUT_CLASSES]
    return np.sort(drawn) + 1


def imagenet16_pool(folder):
    """All of `imagenet16/train_data_batch_*.npz` but the held-out classes -> Pool, 768 inputs; whole 0.95 GB.

    The labels count the same classes in every training file.  Left out are `heldout_labels` and each class of
    which an image is also in `heldout_classes.npz`.  Classes are named by their labels.  Files are read twice,
    so that no more than one is in memory beside the pool.  Raises InputError as `read_imagenet16`, for missing
    files, and if fewer than two classes are left.
    """
    base = os.path.join(folder, IMAGENET.place)
    paths = sorted(glob.glob(os.path.join(glob.escape(base), "train_data_batch_*.npz")))
    if not paths:
        raise missing(os.path.join(base, "train_data_batch_*.npz"), IMAGENET, "train_data_batch_*.npz")
    heldout = np.union1d(heldout_labels(folder), _classes_seen_in_heldout(folder, paths))
    counts = sum(np.bincount(_imagenet_batch(path, heldout)[1], minlength=IMAGENET_CLASSES + 1) for path in paths)
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
    return _checked(Pool("imagenet16", images, counts[labels], tuple(map(str, labels)), 16, 3))


def _heldout_path(folder):
    return os.path.join(folder, IMAGENET.place, "heldout_classes.npz")


def _classes_seen_in_heldout(folder, paths):
    """Labels of training classes of which some image is, byte for byte, in the file of held-out classes."""
    if not os.path.exists(_heldout_path(folder)):
        return np.zeros(0, np.intp)
    heldout, found = {image.tobytes() for image in read_imagenet16(_heldout_path(folder))[0]}, set()
    for path in paths:
        data, labels = _imagenet_batch(path, ())
        found.update(int(y) for image, y in zip(data, labels) if image.tobytes() in heldout)
    return np.array(sorted(found), np.intp)


def user_pool(path):
    """The training split of a user's `.npz` (x, y as for `load_dataset`) -> Pool.

    These are the rows of `load_dataset(path).x_train`, so scoring on the same file meets images that were
    never trained on.  uint8 stays uint8.  Square images [n, h, h] and [n, h, h, c] can be shifted and rotated,
    the latter becoming channel first; anything else is plain vectors.  That `load_dataset` leaves the
    channels last changes no task, see above.
    Raises InputError as `load_dataset`.
    """
    x, y = read_npz(path, ("x", "y"))
    vectors = checked_x(path, x)
    values, labels = checked_labels(path, "y", y, len(x))
    rows, _ = split_rows(labels, len(values))
    kept = (x if x.dtype == np.uint8 else vectors.reshape(x.shape))[rows]
    square = kept.ndim > 2 and kept.shape[1] == kept.shape[2]
    side, channels = (kept.shape[1], kept.shape[3] if kept.ndim == 4 else 1) if square else (None, 1)
    if square and kept.ndim == 4:
        kept = kept.transpose(0, 3, 1, 2)
    return _grouped(os.path.basename(path), kept.reshape(len(kept), -1), labels[rows], tuple(map(str, values)),
                    side, channels)


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
