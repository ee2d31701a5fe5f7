"""CIFAR-10 as it is published, binary or Python version (Krizhevsky 2009), whole or at 16x16: a data set and a pool.

Both versions hold images as 3,072 bytes: the red plane of 32x32 row by row, then the green, then the blue.
A file usually has 10,000 of them; any number will do.
"""
import glob
import io
import os
import pickle

import numpy as np

from ops.data.labelled import dataset, mean_of_2x2, rounded_mean_of_2x2, unit
from ops.data.places import Source, missing, read_bytes
from ops.data.pool import grouped
from ops.errors import InputError

ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar.html"
BINARY = Source("CIFAR-10, binary version (cifar-10-binary.tar.gz)", "cifar-10-batches-bin", ORIGIN)
PYTHON = Source("CIFAR-10, Python version (cifar-10-python.tar.gz)", "cifar-10-batches-py", ORIGIN)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGE = 3 * 32 * 32
RECORD = 1 + IMAGE  # the label's byte, then the image
HELD_OUT = 10  # the last tenth of the training images is held out of meta-training
PARTS = 30  # images are made smaller in so many parts, to spare memory


def load_cifar10(name, folder):
    """CIFAR-10 at 16x16 -> Dataset: 2x2 averages of each channel, 768 inputs, channel first; 184 MB if whole.

    "cifar10-32" is at 32x32, 3,072 inputs, 737 MB if whole.
    Raises InputError as `read_cifar` and for a class without examples.
    """
    parts, made = [], unit if name == "cifar10-32" else mean_of_2x2
    for split in ("train", "test"):
        images, labels = read_cifar(folder, split)
        parts += [made(images.reshape(-1, 3, 32, 32)).reshape(len(images), -1), labels]
    return dataset(name, os.path.join(folder, "cifar-10-batches-*"), *parts, CLASSES)


def cifar10_pool(folder):
    """The training images of CIFAR-10 but for the last tenth -> Pool of 16x16 images, 768 inputs, 35 MB if whole.

    Each channel is averaged over 2x2 blocks and rounded to the nearest grey level, halves up.  `folder` is
    the folder of data sets.  Raises InputError as `read_cifar` and for a class without images.
    """
    images, labels = read_cifar(folder, "train")
    images, labels = (a[:len(a) - len(a) // HELD_OUT] for a in (images, labels))
    small = np.empty((len(images), 3, 16, 16), np.uint8)
    for part, into in zip(np.array_split(images, PARTS), np.array_split(small, PARTS)):
        into[:] = rounded_mean_of_2x2(part.reshape(-1, 3, 32, 32))
    return grouped("cifar10", small.reshape(len(small), -1), labels, CLASSES, 16, 3)


def heldout_photographs(folder):
    """The last tenth of the training images, of which `cifar10_pool` has none: [n, 3, 32, 32] uint8.

    Theta is chosen on them, each a class of its own.  InputError as `read_cifar`.
    """
    images, _ = read_cifar(folder, "train")
    return images[len(images) - len(images) // HELD_OUT:].reshape(-1, 3, 32, 32)


def read_cifar(folder, split):
    """Images [n, 3072] uint8, channel first, and labels [n] int 0..9 of split "train" or "test".

    `folder` is the folder of data sets; the binary version is read where both are there.
    Raises InputError, naming the file: missing, of odd length, a label outside 0..9, counts that
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
    parts = []
    for path in paths:
        images, labels = (read_python_batch if is_python else read_binary_batch)(path)
        outside = np.flatnonzero((labels < 0) | (labels > 9))
        if len(outside):
            raise InputError(f"'{path}': label {labels[outside[0]]} at index {outside[0]} is not 0..9; fetch it again")
        parts.append((images, labels))
    return tuple(np.concatenate(part) for part in zip(*parts))


def read_binary_batch(path):
    """A file of records of 3,073 bytes -> images [n, 3072] uint8, labels [n] int; InputError if it is none."""
    raw = read_bytes(path)
    if not raw or len(raw) % RECORD:
        raise InputError(f"'{path}' has {len(raw)} bytes, no whole number of records of {RECORD}; "
                         "fetch it again")
    records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    return records[:, 1:], records[:, 0].astype(np.intp)


def read_python_batch(path):
    """A pickled dict with data [n, 3072] and labels -> images [n, 3072] uint8, labels [n] int.

    Nothing that the pickle names is run, see `Unpickler`.  InputError naming the file: no such dict, counts that
    disagree, unreadable.
    """
    raw = read_bytes(path)
    try:
        batch = Unpickler(io.BytesIO(raw), encoding="bytes").load()
        if not isinstance(batch, dict):
            raise ValueError("it holds no dict")
        batch = {key.decode("ascii") if isinstance(key, bytes) else key: value for key, value in batch.items()}
        absent = [key for key in ("data", "labels") if key not in batch]
        if absent:
            raise ValueError(f"it holds no '{absent[0]}'")
        images, labels = getattr(batch["data"], "rows", None), batch["labels"]
        if images is None:
            raise ValueError("its data are no NumPy array in the plain form")
        if images.shape[1] != IMAGE:
            raise ValueError(f"its data have {images.shape[1]} columns, not {IMAGE}")
        if not isinstance(labels, list) or not all(type(c) is int for c in labels):
            raise ValueError("its labels are no list of integers")
        if len(labels) != len(images) or not labels:
            raise ValueError(f"it has {len(images)} images but {len(labels)} labels")
        return images, np.array(labels, np.intp)
    except Exception as error:  # what a damaged or hostile pickle raises may be anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"'{path}' is no batch of CIFAR-10 in its Python version ({reason}); fetch "
                         f"it again or use {BINARY.title}") from None


# ---- a pickle that may be hostile

class Array:
    """What a pickle takes for numpy.ndarray: of what it says of an array, rows of bytes are taken and nothing else."""

    def __init__(self, *_):
        self.rows = None

    def __setstate__(self, state):
        _, shape, kind, fortran, content = state
        whole = len(shape) == 2 and all(type(number) is int and number >= 0 for number in shape)
        if kind.name not in (b"u1", "u1", "|u1", "uint8") or fortran or not whole:
            raise ValueError("its array is not of uint8 in rows")
        self.rows = np.frombuffer(content, np.uint8).reshape(shape)


class Type:
    """What a pickle takes for numpy.dtype: its name alone."""

    def __init__(self, name, *_):
        self.name = name

    def __setstate__(self, state):
        pass


class Latin1:
    """What a pickle takes for _codecs.encode, by which Python 3 writes bytes in the protocols of Python 2."""

    def __new__(cls, text, *_):
        return text.encode("latin1")


class Unpickler(pickle._Unpickler):
    """An unpickler of dicts of arrays: it makes plain values, and the stand-ins above for the few names that it takes.

    Whatever else a pickle names is refused before it is imported.  It is the standard library's unpickler written in
    Python, since in that one opcodes can be left out (those that make sets, hash tuples of tuples or ask for memory)
    and a memo's number is no size to be allocated.
    """

    NAMES = {("numpy.core.multiarray", "_reconstruct"): Array, ("numpy._core.multiarray", "_reconstruct"): Array,
             ("numpy", "ndarray"): Array, ("numpy", "dtype"): Type, ("_codecs", "encode"): Latin1}
    dispatch = {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in """
        PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 SHORT_BINSTRING BINSTRING BINUNICODE
        SHORT_BINUNICODE BINBYTES SHORT_BINBYTES EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE APPEND
        APPENDS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE""".split()}

    def find_class(self, module, name):
        """The stand-in for a name; ValueError for any but the five."""
        if (module, name) not in self.NAMES:
            raise ValueError(f"it asks for {ascii(f'{module}.{name}'[:80])}, which a dict of arrays does not need")
        return self.NAMES[module, name]

    def build(self):
        """Give a stand-in its state; nothing else has any."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (Array, Type)):
            raise ValueError("it gives a state to what has none")
        self.stack[-1].__setstate__(state)

    def set_items(self, items):
        """Put keys and values into the dict on top of the stack."""
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values) or not all(isinstance(key, (str, bytes)) for key in keys):
            raise ValueError("a dict's keys are no strings")
        dict.update(self.stack[-1], zip(keys, values))

    def set_item(self):
        """`set_items` of a single key."""
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    dispatch |= {pickle.BUILD[0]: build, pickle.SETITEM[0]: set_item,
                 pickle.SETITEMS[0]: lambda self: self.set_items(self.pop_mark())}
