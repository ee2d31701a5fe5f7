"""Images to score a rule on, from the files in which they are published, as `Dataset`s.

Colour comes channel first, as CIFAR-10's and ImageNet's own files have it: feature
(c * side + row) * side + column, so `x.reshape(n, 3, side, side)` gives the planes back.
float32 takes 4 bytes a pixel: all of MNIST at 28x28 is 220 MB, CIFAR-10 at 16x16 184 MB.
"""
import glob
import os

import numpy as np

from ops.errors import InputError
from ops.data.cifar import CLASSES as CIFAR_CLASSES
from ops.data.cifar import read_cifar
from ops.data.files_on_disk import Source, missing, place_of, read_npz
from ops.data.idx import read_idx_split
from ops.data.labelled import Dataset, checked_labels, require_every_class, split_rows, unit

DIGITS = tuple("0123456789")
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                   "Sneaker", "Bag", "Ankle boot")
MNIST = Source("MNIST", "mnist", "http://yann.lecun.com/exdb/mnist or one of its mirrors")
FASHION = Source("Fashion-MNIST", "fashion-mnist",
                 "https://github.com/zalandoresearch/fashion-mnist")
IMAGENET = Source(
    "ImageNet downsampled to 16x16 in its .npz form (Imagenet16_train_npz.zip or "
    "Imagenet16_val_npz.zip; research, non-commercial)", "imagenet16",
    "https://image-net.org/download-images")
OMNIGLOT = Source("Omniglot at 28x28 (x [n, 28, 28] uint8, y, alphabet)", "omniglot_28.npz",
                  "https://github.com/brendenlake/omniglot, whose drawings numpy.savez saves so")
IDX_SETS = {"mnist28": (MNIST, DIGITS, 28), "fashion28": (FASHION, FASHION_CLASSES, 28),
            "mnist14full": (MNIST, DIGITS, 14), "fashion14full": (FASHION, FASHION_CLASSES, 14)}
STACKS = {"train": 20000, "t10k": 5000}  # of three digits; 235 MB as float32
IMAGENET_CLASSES = 1000
HELDOUT_CLASSES, HELDOUT_SEED = 40, 0  # of ImageNet, where no file of the user's says which
HELDOUT_FILE = "heldout_classes.npz"


def mean_of_2x2(images):
    """[..., 2h, 2w] uint8 -> [..., h, w] float32 in [0, 1]: the mean of each 2x2 block, over 255.

    Not rounded to whole grey levels, as `area.halve` does for the embedded sets.
    """
    total = images[..., 0::2, 0::2].astype(np.uint16)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        total += images[..., row::2, column::2]
    return total.astype(np.float32) / np.float32(4 * 255)


def load_idx_set(name, folder):
    """MNIST or Fashion-MNIST in full -> Dataset `name`, of IDX_SETS: 28x28, or 14x14 averages.

    60,000 training and 10,000 test images of 784 or 196 pixels, 220 or 55 MB.  `folder` is the
    folder of data sets.  Raises InputError as `read_digits` and for a class without examples.
    """
    source, classes, side = IDX_SETS[name]
    splits = {}
    for split in ("train", "t10k"):
        images, labels = read_digits(folder, source, split)
        x = unit(images) if side == 28 else mean_of_2x2(images)
        splits[split] = x.reshape(len(x), side * side), labels
    return _dataset(name, os.path.join(folder, source.place), *splits["train"], *splits["t10k"],
                    classes)


def read_digits(folder, source, split):
    """Images [n, 28, 28] uint8 and labels [n] int 0..9 of split "train" or "t10k".

    Raises InputError as `read_idx_split`, for a missing file, which it says where to get, and for
    images that are not 28x28.
    """
    for part in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        place_of(folder, source, f"{split}-{part}.gz", f"{split}-{part}")
    base = os.path.join(folder, source.place)
    images, labels = read_idx_split(base, split)
    if images.shape[1:] != (28, 28) or not len(images):
        raise InputError(f"'{base}': {split} images are {list(images.shape)}, not [n, 28, 28]; "
                         "fetch them again")
    return images, labels.astype(np.intp)


def load_mnist3(name, folder):
    """Three MNIST digits as colour channels of 28x28 (workshop Fig. 2): 2352 inputs, channel first.

    20,000 training and 5,000 test stacks, 235 MB, or as many as there are digits.  A digit of a
    split is in one stack once as the first channel at most, likewise as second and third; always
    the same stacks.  The label is the digit of the first channel.  InputError as `load_idx_set`.
    """
    parts = []
    for split, rng in zip(STACKS, np.random.default_rng(0).spawn(2)):
        images, labels = read_digits(folder, MNIST, split)
        rows = np.stack([rng.permutation(len(images))[:STACKS[split]] for _ in range(3)], axis=1)
        parts += [unit(images[rows].reshape(len(rows), -1)), labels[rows[:, 0]]]
    return _dataset(name, os.path.join(folder, MNIST.place), *parts, DIGITS)


def load_cifar10(name, folder):
    """CIFAR-10 at 16x16, 2x2 averages of each channel: 768 inputs, channel first; 184 MB if whole.

    Raises InputError as `read_cifar` and for a class without examples.
    """
    parts = []
    for split in ("train", "test"):
        images, labels = read_cifar(folder, split)
        parts += [mean_of_2x2(images.reshape(-1, 3, 32, 32)).reshape(-1, 768), labels]
    return _dataset(name, os.path.join(folder, "cifar-10-batches-*"), *parts, CIFAR_CLASSES)


def load_imagenet16_heldout(name, folder):
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
        data, values, labels = read_imagenet16(own)
        return _split_dataset(name, own, data, labels, tuple(map(str, values)))
    paths = [validation] if os.path.exists(validation) else training_files(folder)
    if not paths:
        raise missing(validation, IMAGENET, "val_data.npz or all train_data_batch_*.npz")
    drawn, parts = heldout_labels(), []
    for path in paths:
        data, values, labels = read_imagenet16(path)
        keep = np.isin(values, drawn)[labels]
        parts.append((data[keep], values[labels[keep]].astype(np.intp)))
    data, y = (np.concatenate(part) for part in zip(*parts))
    place = paths[0] if len(paths) == 1 else base
    values, labels = np.unique(y, return_inverse=True)
    if len(values) < 2:
        raise InputError(f"'{place}' has {len(values)} of the {len(drawn)} held-out labels {drawn[0]}, "
                         f"{drawn[1]} ... {drawn[-1]}; get val_data.npz or all training files from "
                         f"{IMAGENET.origin}")
    return _split_dataset(name, place, data, labels, tuple(map(str, values)))


def training_files(folder):
    """Sorted paths of `imagenet16/train_data_batch_*.npz` under the data folder; none is no error."""
    base = glob.escape(os.path.join(folder, IMAGENET.place))
    return sorted(glob.glob(os.path.join(base, "train_data_batch_*.npz")))


def heldout_labels(folder=None):
    """Labels, in the numbering of the training files, held out of meta-training: [.], rising.

    Always the same 40 of 1..1000: the first 40 of np.random.default_rng(0).permutation(1000), plus
    1, sorted (9, 26, 37, 82, 145 ... 971).  Whoever makes a `heldout_classes.npz` should make it of
    these.  None, if `folder` holds an `imagenet16/heldout_classes.npz` in which there is another
    label: its numbering is then taken for its own, and only `imagenet16_pool` can tell, by the
    images, which training classes are in it.  Raises InputError as `read_imagenet16` of that file.
    """
    drawn = np.random.default_rng(HELDOUT_SEED).permutation(IMAGENET_CLASSES)[:HELDOUT_CLASSES]
    drawn = np.sort(drawn) + 1
    path = os.path.join(folder, IMAGENET.place, HELDOUT_FILE) if folder else ""
    if os.path.exists(path) and not np.isin(read_imagenet16(path)[1], drawn).all():
        return drawn[:0]
    return drawn


def read_imagenet16(path):
    """data [n, 768] uint8 channel first, distinct labels [C] as in the file, labels [n] int 0..C-1.

    The public format: `data`, and `labels` from 1 to 1000 (Chrabaszcz et al. 2017).  Raises
    InputError as `read_npz`, for other shapes or types and for a label out of range.
    """
    data, y = read_npz(path, ("data", "labels"))
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 768 or not len(data):
        raise InputError(f"'{path}': data is {data.dtype} {list(data.shape)}, not uint8 [n, 768]; "
                         "give the 16x16 version")
    values, labels = checked_labels(path, "labels", y, len(data))
    for value in (values[0], values[-1]):
        if not 1 <= value <= IMAGENET_CLASSES:
            raise InputError(f"'{path}': label {value} is not 1..{IMAGENET_CLASSES}; fetch it "
                             "again or number the classes from 1")
    return data, values, labels


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
    return _split_dataset(name, path, x.reshape(len(x), -1), labels, classes)


def _split_dataset(name, path, x, labels, classes):
    """x [n, N0] uint8 without a test split -> Dataset."""
    train, test = split_rows(labels, len(classes))
    return _dataset(name, path, unit(x[train]), labels[train], unit(x[test]), labels[test], classes)


def _dataset(name, path, x_train, y_train, x_test, y_test, classes):
    require_every_class(path, y_train, y_test, classes)
    return Dataset(name, x_train, y_train, x_test, y_test, classes)
