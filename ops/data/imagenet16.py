"""ImageNet at 16x16 (Chrabaszcz et al. 2017): classes to meta-train on as a pool, held-out classes as a data set.

Files are `imagenet16/*.npz` with `data` [n, 768] uint8, channel first, and `labels`, 1 to 1000.  Which classes are
held out is said by `heldout_labels` and, where a user's `heldout_classes.npz` numbers its classes by itself, by its
images.
"""
import glob
import os

import numpy as np

from ops.data.labelled import checked_labels, split_dataset
from ops.data.places import Source, missing, read_npz
from ops.data.pool import Pool, check_pool
from ops.errors import InputError

IMAGENET = Source(
    "ImageNet downsampled to 16x16 in its .npz form (Imagenet16_train_npz.zip or "
    "Imagenet16_val_npz.zip; research, non-commercial)", "imagenet16",
    "https://image-net.org/download-images")
CLASSES = 1000
HELDOUT_CLASSES, HELDOUT_SEED = 40, 0  # where no file of the user's says which
HELDOUT_FILE, TRAINING_FILES = "heldout_classes.npz", "train_data_batch_*.npz"


# ---- held-out classes

def heldout_labels(folder=None):
    """Labels, in the numbering of the training files, held out of meta-training: [.], rising.

    Always the same 40 of 1..1000: the first 40 of np.random.default_rng(0).permutation(1000), plus
    1, sorted (9, 26, 37, 82, 145 ... 971).  Whoever makes a `heldout_classes.npz` should make it of
    these.  None, if `folder` holds an `imagenet16/heldout_classes.npz` in which there is another
    label: its numbering is then taken for its own, and only `imagenet16_pool` can tell, by the
    images, which training classes are in it.  Raises InputError as `read_imagenet16` of that file.
    """
    drawn = np.random.default_rng(HELDOUT_SEED).permutation(CLASSES)[:HELDOUT_CLASSES]
    drawn = np.sort(drawn) + 1
    path = os.path.join(folder, IMAGENET.place, HELDOUT_FILE) if folder else ""
    if os.path.exists(path) and not np.isin(read_imagenet16(path)[1], drawn).all():
        return drawn[:0]
    return drawn


def load_heldout(name, folder):
    """The ImageNet classes never meta-trained on -> Dataset: 768 inputs, channel first.

    All of `imagenet16/heldout_classes.npz`, if that is there.  Else the rows of `heldout_labels` of
    `val_data.npz` (2,000 images if whole, 6 MB), else of the training files (52,000, 160 MB), where
    meta-training leaves them out.  Of each class a third, rounded down, is the test split, always
    the same; classes are named by their labels.
    Raises InputError as `read_imagenet16`, if there is none of these files, for fewer than two of
    the classes, and for a class of fewer than 3 images.
    """
    base = os.path.join(folder, IMAGENET.place)
    own, validation = os.path.join(base, HELDOUT_FILE), os.path.join(base, "val_data.npz")
    if os.path.exists(own):
        data, y = read_imagenet16(own)
        paths = [own]
    else:
        paths = [validation] if os.path.exists(validation) else training_files(folder)
        if not paths:
            raise missing(validation, IMAGENET, f"val_data.npz or all {TRAINING_FILES}")
        parts = [read_imagenet16(path, among=heldout_labels()) for path in paths]
        data, y = (np.concatenate(part) for part in zip(*parts))
    place = paths[0] if len(paths) == 1 else base
    values, labels = np.unique(y, return_inverse=True)
    if len(values) < 2:
        drawn = heldout_labels()
        raise InputError(f"'{place}' has {len(values)} of the {len(drawn)} held-out labels {drawn[0]}, "
                         f"{drawn[1]} ... {drawn[-1]}; get val_data.npz or all training files from "
                         f"{IMAGENET.origin}")
    return split_dataset(name, place, data, labels.astype(np.intp), tuple(map(str, values)))


def _labels_of_shared_images(folder, paths):
    """Labels of training classes of which some image is, byte for byte, in the user's file of held-out classes."""
    own = os.path.join(folder, IMAGENET.place, HELDOUT_FILE)
    if not os.path.exists(own):
        return np.zeros(0, np.intp)
    heldout, found = {image.tobytes() for image in read_imagenet16(own)[0]}, set()
    for path in paths:
        found.update(int(y) for image, y in zip(*read_imagenet16(path)) if image.tobytes() in heldout)
    return np.array(sorted(found), np.intp)


# ---- classes to meta-train on

def imagenet16_pool(folder):
    """All of `imagenet16/train_data_batch_*.npz` but the held-out classes -> Pool, 768 inputs; whole 0.95 GB.

    The labels count the same classes in every training file.  Left out are `heldout_labels` and each class of
    which an image is also in `heldout_classes.npz`; the pool's `left_out` tells which of those are in the files.
    Classes are named by their labels.  Files are read twice, so that no more than one is in memory beside the
    pool.  Raises InputError as `read_imagenet16`, for missing files, and if fewer than two classes are left.
    """
    base, paths = os.path.join(folder, IMAGENET.place), training_files(folder)
    if not paths:
        raise missing(os.path.join(base, TRAINING_FILES), IMAGENET, TRAINING_FILES)
    heldout = np.union1d(heldout_labels(folder), _labels_of_shared_images(folder, paths))
    counts = sum(np.bincount(read_imagenet16(path)[1], minlength=CLASSES + 1) for path in paths)
    left_out = tuple(int(label) for label in heldout if counts[label])
    counts[heldout] = 0
    labels = np.flatnonzero(counts)
    if len(labels) < 2:
        raise InputError(f"'{base}': {len(labels)} classes are left without the {len(heldout)} held-out ones; add "
                         "training files of other classes")
    images, free = np.empty((counts.sum(), 768), np.uint8), np.cumsum(counts) - counts  # each class's next row
    for path in paths:
        data, y = read_imagenet16(path, among=labels)
        order = np.argsort(y, kind="stable")
        y = y[order]
        images[free[y] + np.arange(len(y)) - np.searchsorted(y, y)] = data[order]
        free += np.bincount(y, minlength=len(free))
    names = tuple(map(str, labels))
    return check_pool(Pool("imagenet16", images, counts[labels], names, 16, 3, left_out=left_out))


# ---- files

def training_files(folder):
    """Sorted paths of `imagenet16/train_data_batch_*.npz` under the data folder; none is no error."""
    return sorted(glob.glob(os.path.join(glob.escape(os.path.join(folder, IMAGENET.place)), TRAINING_FILES)))


def read_imagenet16(path, among=None):
    """data [n, 768] uint8 channel first and labels [n] int, 1 to 1000; with `among` only the rows of those labels.

    Raises InputError as `read_npz`, for other shapes or types, for fewer than two labels and one out of range.
    """
    data, y = read_npz(path, ("data", "labels"))
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 768 or not len(data):
        raise InputError(f"'{path}': data is {data.dtype} {list(data.shape)}, not uint8 [n, 768]; "
                         "give the 16x16 version")
    values, _ = checked_labels(path, "labels", y, len(data))
    for value in (values[0], values[-1]):
        if not 1 <= value <= CLASSES:
            raise InputError(f"'{path}': label {value} is not 1..{CLASSES}; fetch it "
                             "again or number the classes from 1")
    y = y.astype(np.intp)
    if among is None:
        return data, y
    keep = np.isin(y, among)
    return data[keep], y[keep]
