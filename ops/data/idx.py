"""Reader of IDX, the file format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist)."""
import gzip
import os
import struct
import zlib

import numpy as np

from ops.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
UBYTE = 8  # the format's code for unsigned bytes, the only type these data sets use


def read_idx(path, ndim):
    """An IDX file of unsigned bytes, gzipped or not -> uint8 array of `ndim` dimensions.

    Raises InputError, naming file and reason: missing, not gzip's data, cut short, wrong magic,
    more or fewer bytes than its header says.
    """
    raw = _read_bytes(path)
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


def read_idx_split(folder, split):
    """Images [n, h, w] and labels [n], both uint8, of split "train" or "t10k" in `folder`.

    File names are the public ones, with or without ".gz".  InputError as `read_idx`, and when the
    counts of images and labels disagree or a label is above 9.
    """
    images = read_idx(_find(folder, f"{split}-images-idx3-ubyte"), 3)
    path = _find(folder, f"{split}-labels-idx1-ubyte")
    labels = read_idx(path, 1)
    if len(images) != len(labels):
        raise InputError(f"'{folder}': {len(images)} {split} images but {len(labels)} labels; "
                         "fetch both files again")
    if len(labels) and labels.max() > 9:
        raise InputError(f"'{path}': label {labels.max()} at index {labels.argmax()} is not 0..9; "
                         "fetch it again")
    return images, labels


def _find(folder, name):
    for candidate in (os.path.join(folder, name + ".gz"), os.path.join(folder, name)):
        if os.path.isfile(candidate):
            return candidate
    raise InputError(f"'{folder}' holds neither {name}.gz nor {name}; fetch the data set's IDX "
                     "files into it")


def _read_bytes(path):
    """The file's content, unpacked if it is gzip's; InputError if it cannot be had."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
        return gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist; fetch it or mend the path") from None
    except (OSError, EOFError, zlib.error, struct.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"'{path}' cannot be read ({reason}); fetch it again") from None
