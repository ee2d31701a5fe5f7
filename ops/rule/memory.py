"""Memory is used again: buffers by name, and freed blocks for the next array instead of being given back."""
import ctypes
import math
import sys
import threading

import numpy as np

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGEST_REUSED = 32 << 20  # bytes: the most that glibc accepts


def keep_freed_memory():
    """Have glibc reuse the blocks of arrays up to 32 MB; does nothing with another C library.

    By default each large array is fresh memory from the system, which hands it out zeroed, a page at a time:
    at the paper's sizes that was a sixth of the time of an inner step.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_REUSED)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


_buffers = threading.local()


def scratch(name, shape, dtype):
    """An uninitialised array that this thread's next call with the same `name` and dtype will overwrite."""
    cache = _buffers.__dict__
    size, key = math.prod(shape), (name, dtype.char)
    if key not in cache or cache[key].size < size:
        cache[key] = np.empty(size, dtype)
    return cache[key][:size].reshape(shape)


def forget_scratch():
    """Have this thread's next calls of `scratch` make new arrays: another thread may still write to the old ones."""
    _buffers.__dict__.clear()
