"""Named numpy arrays in one block of shared memory, and the sweeping up of blocks whose owner died."""
import os
import re
import secrets
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

from ops.errors import InputError

PREFIX = "unsup_meta"


class SharedArrays:
    """Numpy views, by name, into one block of shared memory.

    spec: {name: (shape, dtype)}.  The process that makes it (no `block`) owns it and unlinks it in
    `close`; others attach by the owner's `block` name.  The name carries the owner's process id.
    """

    def __init__(self, spec, block=None):
        self.spec, self.owner = dict(spec), block is None
        offsets, size = {}, 0
        for name, (shape, dtype) in spec.items():
            offsets[name] = size
            size += -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // 64) * 64  # a cache line each
        if self.owner:
            name = f"{PREFIX}_{os.getpid()}_{secrets.token_hex(4)}"
            try:
                self._memory = shared_memory.SharedMemory(name, True, max(size, 64))
            except OSError as error:
                raise InputError(f"cannot get {size / 1e6:.0f} MB of shared memory ({error.strerror}); free some in /dev/shm "
                                 "or take fewer --live-tasks or --workers") from error
        else:
            self._memory = shared_memory.SharedMemory(block)
        self.block = self._memory.name
        self._arrays = {name: np.ndarray(shape, dtype, self._memory.buf, offsets[name])
                        for name, (shape, dtype) in spec.items()}

    def __getitem__(self, name):
        return self._arrays[name]

    def close(self):
        """Drop the views; the owner also removes the block.  Views taken before become invalid."""
        self._arrays.clear()
        try:
            self._memory.close()
        except BufferError:  # a view is still held somewhere; the mapping goes with the process
            pass
        if self.owner:
            try:
                self._memory.unlink()
            except FileNotFoundError:
                pass


def remove_abandoned(folder="/dev/shm"):
    """Unlink blocks of this program whose owner no longer runs; returns their names.

    A main process killed outright cannot remove its own.  Only Linux lists them; elsewhere nothing is done.
    """
    removed = []
    for path in Path(folder).glob(f"{PREFIX}_*"):
        match = re.fullmatch(PREFIX + r"_(\d+)_[0-9a-f]+", path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            try:
                path.unlink()
                removed.append(path.name)
            except OSError:
                pass
    return removed
