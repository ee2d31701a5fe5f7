"""MNIST and Fashion-MNIST: 14x14 samples that come with this project, and the published IDX files in full.

`embedded/mnist_14x14.npz`: MNIST, Y. LeCun, C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist,
CC BY-SA 3.0.  `embedded/fashion_mnist_14x14.npz`: Fashion-MNIST, Zalando Research,
https://github.com/zalandoresearch/fashion-mnist, MIT licence.  Both changed by `make_embedded.py`.
"""
import gzip
import os
import struct
import zlib

import numpy as np

from ops.data.labelled import Dataset, dataset, mean_of_2x2, unit
from ops.data.places import Source, place_of, read_bytes, read_npz
from ops.errors import InputError

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MNIST = Source("MNIST", "mnist", "http://yann.lecun.com/exdb/mnist or one of its mirrors")
FASHION = Source("Fashion-MNIST", "fashion-mnist", "https://github.com/zalandoresearch/fashion-mnist")
EMBEDDED_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "embedded")
EMBEDDED = {"mnist14": ("mnist_14x14.npz", DIGITS), "fashion14": ("fashion_mnist_14x14.npz", CLOTHES)}
FULL = {"mnist28": (MNIST, DIGITS, 28), "fashion28": (FASHION, CLOTHES, 28),
        "mnist14full": (MNIST, DIGITS, 14), "fashion14full": (FASHION, CLOTHES, 14)}
STACKS = {"train": 20000, "t10k": 5000}  # of three digits; 235 MB as float32
GZIP_MAGIC = b"\x1f\x8b"
UBYTE = 8  # IDX's code for unsigned bytes, the only type these data sets use


# ---- 14x14, embedded

def load_embedded(name, folder=None):
    """The embedded sample `name` of EMBEDDED -> Dataset of 6,000 and 2,000 images of 14x14; no `folder` is read."""
    file_name, classes = EMBEDDED[name]
    x_train, y_train, x_test, y_test = read_npz(os.path.join(EMBEDDED_FOLDER, file_name),
                                                ("x_train", "y_train", "x_test", "y_test"))
    return Dataset(name, unit(x_train), y_train.astype(np.intp), unit(x_test), y_test.astype(np.intp), classes)


# ---- in full, from IDX files

def load_full(name, folder):
    """MNIST or Fashion-MNIST in full -> Dataset `name`, of FULL: 28x28, or 14x14 averages.

    60,000 training and 10,000 test images of 784 or 196 pixels, 220 or 55 MB as float32.  `folder` is the folder of
    data sets.  Raises InputError as `read_split` and for a class without examples.
    """
    source, classes, side = FULL[name]
    parts = []
    for split in ("train", "t10k"):
        images, labels = read_split(folder, source, split)
        parts += [(unit(images) if side == 28 else mean_of_2x2(images)).reshape(len(images), -1), labels]
    return dataset(name, os.path.join(folder, source.place), *parts, classes)


def load_mnist3(name, folder):
    """Three MNIST digits as colour channels (workshop Fig. 2), channel first, always the same stacks; labels are the first's.

    "mnist3": 28x28, 2,352 inputs; 20,000 training and 5,000 test stacks, 235 MB.  "mnist3-14": of the embedded 14x14, 588 inputs,
    6,000 and 2,000.  Or as many as there are digits.  A digit of a split is in one stack once as the first channel at most,
    likewise as second and third.  InputError as `load_full`.
    """
    parts, small = [], load_embedded("mnist14") if name == "mnist3-14" else None
    for split, rng in zip(STACKS, np.random.default_rng(0).spawn(2)):
        images, labels = read_split(folder, MNIST, split) if small is None else (
            (small.x_train, small.y_train) if split == "train" else (small.x_test, small.y_test))
        rows = np.stack([rng.permutation(len(images))[:STACKS[split]] for _ in range(3)], axis=1)
        stacks = images[rows].reshape(len(rows), -1)
        parts += [unit(stacks) if small is None else stacks, labels[rows[:, 0]]]
    return dataset(name, os.path.join(folder, MNIST.place), *parts, DIGITS)


def read_split(folder, source, split):
    """Images [n, 28, 28] uint8 and labels [n] int 0..9 of split "train" or "t10k", n > 0.

    File names are the public ones, with or without ".gz".  Raises InputError as `read_idx`, for a missing file, which
    it says where to get, for images that are not 28x28, counts that disagree and a label above 9.
    """
    paths = [place_of(folder, source, f"{split}-{part}.gz", f"{split}-{part}")
             for part in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if images.shape[1:] != (28, 28) or not len(images):
        raise InputError(f"'{paths[0]}': images are {list(images.shape)}, not [n, 28, 28]; fetch it again")
    if len(images) != len(labels):
        raise InputError(f"'{os.path.dirname(paths[0])}': {len(images)} {split} images but {len(labels)} labels; "
                         "fetch both files again")
    if labels.max() > 9:
        raise InputError(f"'{paths[1]}': label {labels.max()} at index {labels.argmax()} is not 0..9; fetch it again")
    return images, labels.astype(np.intp)


def read_idx(path, ndim):
    """An IDX file of unsigned bytes, gzipped or not -> uint8 array of `ndim` dimensions.

    Raises InputError, naming file and reason: missing, not gzip's data, cut short, wrong magic,
    more or fewer bytes than its header says.
    """
    raw = read_bytes(path)
    try:
        raw = gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"'{path}' cannot be read ({' '.join(str(error).split())}); fetch it again") from None
    header = 4 + 4 * ndim
    if len(raw) < header:
        raise InputError(f"'{path}' is cut short: {len(raw)} bytes, its header alone has {header}; "
                         "fetch it again")
    magic, expected = raw[:4], bytes([0, 0, UBYTE, ndim])
    if magic != expected:
        raise InputError(f"'{path}' is no IDX file of {ndim}-d bytes: it begins {magic.hex()}, "
                         f"not {expected.hex()}; fetch it again")
    shape = struct.unpack(f">{ndim}I", raw[4:header])
    size, found = int(np.prod(shape, dtype=object)), len(raw) - header
    if size != found:
        raise InputError(f"'{path}' holds {found} bytes of data where its header says "
                         f"{'x'.join(map(str, shape))} = {size}; fetch it again")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
