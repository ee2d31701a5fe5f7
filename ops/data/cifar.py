"""Readers of CIFAR-10 as it is published, binary or Python version (Krizhevsky 2009).

Both hold images as 3,072 bytes: the red plane of 32x32 row by row, then the green, then the blue.
A file usually has 10,000 of them; any number will do.
"""
import glob
import os

import numpy as np

from ops.errors import InputError
from ops.data.files_on_disk import Source, missing, read_bytes
from ops.data.pickled import pickled_bytes, read_pickled_dict

ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar.html"
BINARY = Source("CIFAR-10, binary version (cifar-10-binary.tar.gz)", "cifar-10-batches-bin", ORIGIN)
PYTHON = Source("CIFAR-10, Python version (cifar-10-python.tar.gz)", "cifar-10-batches-py", ORIGIN)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGE = 3 * 32 * 32
RECORD = 1 + IMAGE  # the label's byte, then the image


def read_cifar(folder, split):
    """Images [n, 3072] uint8, channel first, and labels [n] int 0..9 of split "train" or "test".

    `folder` is the folder of data sets; the binary version is read where both are there.
    Raises InputError, naming the file: missing, of odd length, a label above 9, counts that
    disagree, a pickle that is no plain dict of data and labels.
    """
    binary = os.path.join(folder, BINARY.place)
    is_python = not os.path.isdir(binary) and os.path.isdir(os.path.join(folder, PYTHON.place))
    source, end = (PYTHON, "") if is_python else (BINARY, ".bin")
    base = os.path.join(folder, source.place)
    pattern = ("data_batch_*" if split == "train" else "test_batch") + end
    paths = sorted(glob.glob(os.path.join(glob.escape(base), pattern)))
    if not paths:
        raise missing(os.path.join(base, pattern), source, pattern)
    read = read_python_batch if is_python else read_binary_batch
    images, labels = zip(*map(read, paths))
    return np.concatenate(images), np.concatenate(labels)


def read_binary_batch(path):
    """A file of records of 3,073 bytes -> images [n, 3072] uint8, labels [n] int.

    InputError naming the file: no whole number of records, a label above 9, unreadable.
    """
    raw = read_bytes(path)
    if not raw or len(raw) % RECORD:
        raise InputError(f"'{path}' has {len(raw)} bytes, no whole number of records of {RECORD}; "
                         "fetch it again")
    records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    return records[:, 1:], _checked(path, records[:, 0].astype(np.intp))


def read_python_batch(path):
    """A pickled dict with data [n, 3072] and labels -> images [n, 3072] uint8, labels [n] int.

    Nothing in the pickle is run.  InputError naming the file: no such dict, counts that disagree, a
    label outside 0..9, unreadable.
    """
    raw = read_bytes(path)
    try:
        batch = read_pickled_dict(raw)
        absent = [key for key in ("data", "labels") if key not in batch]
        if absent:
            raise ValueError(f"it holds no '{absent[0]}'")
        images, labels = pickled_bytes(batch["data"]), batch["labels"]
        if images.shape[1] != IMAGE:
            raise ValueError(f"its data have {images.shape[1]} columns, not {IMAGE}")
        if not isinstance(labels, list) or not all(type(c) is int for c in labels):
            raise ValueError("its labels are no list of integers")
        if len(labels) != len(images) or not labels:
            raise ValueError(f"it has {len(images)} images but {len(labels)} labels")
    except ValueError as error:
        raise InputError(f"'{path}' is no batch of CIFAR-10 in its Python version ({error}); fetch "
                         f"it again or use {BINARY.title}") from None
    outside = [i for i, c in enumerate(labels) if not 0 <= c <= 9]
    if outside:
        raise _label_error(path, labels[outside[0]], outside[0])
    return images, np.array(labels, np.intp)


def _checked(path, labels):
    if labels.max() > 9:
        raise _label_error(path, labels.max(), labels.argmax())
    return labels


def _label_error(path, label, index):
    return InputError(f"'{path}': label {label} at index {index} is not 0..9; fetch it again")
