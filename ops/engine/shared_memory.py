"""Named numpy arrays in one block of shared memory, and the sweeping up of blocks whose owner died."""
import errno
import math
import os
import re
import secrets
import weakref
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

from ops.errors import InputError
from ops.processes import PREFIX, alive

FOLDER = "/dev/shm"  # where Linux keeps shared memory and semaphores


class SharedArrays:
    """Numpy views, by name, into one block of shared memory.

    spec: {name: (shape, dtype)}.  The process that makes it (no `block`) owns it and unlinks it in
    `close`, at the latest when it ends; others attach by the owner's `block` name.  The name carries the
    owner's process id.  Raises InputError where there is not that much shared memory.
    """

    def __init__(self, spec, block=None):
        self.spec, self.owner = dict(spec), block is None
        offsets, size = {}, 0
        for name, (shape, dtype) in spec.items():
            offsets[name] = size
            size += -(-math.prod(map(int, shape)) * np.dtype(dtype).itemsize // 64) * 64  # a cache line each
        if self.owner:
            name = f"{PREFIX}_{os.getpid()}_{secrets.token_hex(4)}"
            try:
                _check_room(size)
                self._memory = shared_memory.SharedMemory(name, True, max(size, 64))
            except OSError as error:
                raise InputError(f"cannot get {size / 1e6:.0f} MB of shared memory ({error.strerror}); free some in "
                                 "/dev/shm, take fewer --live-tasks or --workers, or smaller data sets in --tasks"
                                 ) from error
        else:
            self._memory = shared_memory.SharedMemory(block)
        self.block = self._memory.name
        self._arrays = {name: np.ndarray(shape, dtype, self._memory.buf, offsets[name])
                        for name, (shape, dtype) in spec.items()}
        self._close = weakref.finalize(self, _close, self._memory, self._arrays, os.getpid() if self.owner else None)

    def __getitem__(self, name):
        return self._arrays[name]

    def close(self):
        """Drop the views; the owner also removes the block.  Views taken before become invalid."""
        self._close()


def _close(memory, arrays, owner):
    """What `SharedArrays.close` does; `owner` is the owning process's id, or None in the others."""
    arrays.clear()
    try:
        memory.close()
    except BufferError:  # a view is still held somewhere; the mapping goes with the process
        pass
    if owner == os.getpid():
        try:
            memory.unlink()
        except FileNotFoundError:
            pass


def _check_room(size):
    """OSError unless `size` bytes are free: the system grants more than there is, and kills who then writes there."""
    try:
        room = os.statvfs(FOLDER)
    except (OSError, AttributeError):  # not on this system
        return
    if room.f_blocks and size > room.f_bavail * room.f_frsize:  # no blocks: a file system without a limit
        raise OSError(errno.ENOSPC, f"{room.f_bavail * room.f_frsize / 1e6:.0f} MB are free")


def remove_abandoned(folder=FOLDER):
    """Unlink blocks and semaphores of this program whose owner no longer runs; returns their names.

    A main process killed outright cannot remove its own.  Only Linux lists them; elsewhere nothing is done.
    """
    removed = []
    for path in Path(folder).glob(f"*{PREFIX}_*"):
        match = re.fullmatch(rf"{PREFIX}_(\d+)_[0-9a-f]+|sem\.{PREFIX}_(\d+)-\w+", path.name)
        if match and not alive(int(match[1] or match[2])):
            try:
                path.unlink()
                removed.append(path.name)
            except OSError:
                pass
    return removed
