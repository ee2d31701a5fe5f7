"""Memory that all processes of a run share, and the one form that theta and phi have in it: views of a flat vector.

Nothing here has a name in the file system: multiprocessing unlinks a block at its birth and hands it to workers
as an open file, so that it ends with the last process that holds it, however that ends.
"""
import math
import os
from multiprocessing.heap import BufferWrapper

import numpy as np

import unsup_meta as um
from ops.errors import InputError

FOLDER = "/dev/shm"  # where Linux keeps shared memory
AVERAGED = -1  # the row of `theta` that a validation reads
LINE = 64  # bytes of a cache line: every array, every row of theta, of a gradient and of phi begins at one


class SharedArrays:
    """Numpy arrays by name in one block of shared memory; pickled for a worker, it takes the block along, not a copy.

    spec: {name: (shape, dtype)}.  Raises InputError where there is not that much shared memory.
    """

    def __init__(self, spec):
        self.spec, self.nbytes = spec, sum(_size(shape, dtype) for shape, dtype in spec.values())
        try:
            _check_room(self.nbytes)
            # What `multiprocessing.RawArray` is made of, but not filled with zeros: unused pages are not taken.
            self._memory = BufferWrapper(self.nbytes + LINE)
        except (OSError, OverflowError) as error:
            raise InputError(f"cannot get {self.nbytes / 1e6:,.0f} MB of shared memory ({error}); free some in "
                             f"{FOLDER}, lower --live-tasks, --max-units or --workers, or take smaller sets in --tasks"
                             ) from error
        self._cut()

    def __getstate__(self):
        return self.spec, self.nbytes, self._memory

    def __setstate__(self, state):
        self.spec, self.nbytes, self._memory = state
        self._cut()

    def _cut(self):
        self._arrays, buffer = {}, self._memory.create_memoryview()
        start = -np.frombuffer(buffer, np.uint8).ctypes.data % LINE
        for name, (shape, dtype) in self.spec.items():
            self._arrays[name] = np.ndarray(shape, dtype, buffer, start)
            start += _size(shape, dtype)

    def __getitem__(self, name):
        return self._arrays[name]


def _size(shape, dtype):
    """Bytes of an array, in whole cache lines."""
    return -(-math.prod(map(int, shape)) * np.dtype(dtype).itemsize // LINE) * LINE


def _check_room(size):
    """OSError unless `size` bytes are free: the system grants more than there is, and kills who then writes there."""
    try:
        room = os.statvfs(FOLDER)
    except (OSError, AttributeError):  # not on this system
        return
    if room.f_blocks and size > room.f_bavail * room.f_frsize:  # no blocks: a file system without a limit
        raise OSError(f"{room.f_bavail * room.f_frsize / 1e6:,.0f} MB are free")


# --- theta and phi --------------------------------------------------------------------------------


def views(vector, shapes):
    """{name: array}, the arrays of {name: shape} as views of `vector`, one after another."""
    found, start = {}, 0
    for name, shape in shapes.items():
        end = start + math.prod(shape)
        found[name], start = vector[start:end].reshape(shape), end
    return found


def layers(vector, sizes):
    """phi, a list of `um.Layer`, as views of `vector`, for layer sizes [N^0, ..., N^L]."""
    shapes = {(l, part): shape for l, (m, n) in enumerate(zip(sizes[:-1], sizes[1:]))
              for part, shape in (("W", (m, n)), ("b", (n,)), ("V", (m, n)))}
    arrays = list(views(vector, shapes).values())
    return [um.Layer(*arrays[i:i + 3]) for i in range(0, len(arrays), 3)]


def phi_floats(sizes):
    """How many numbers phi has."""
    return sum((2 * m + 1) * n for m, n in zip(sizes[:-1], sizes[1:]))


def run_memory(config, inputs, workers):
    """The `SharedArrays` of a run whose tasks have at most `inputs` inputs.

    grads [rows, P]: a row for each gradient, twice what can be under way, since one is written while another is read.
    theta [rows + 1, P]: sync, by meta-step modulo 2; async, what the gradient of this row is taken of; AVERAGED.
    phi [live_tasks, 2, floats]: a segment reads one of a slot's two and writes the other, see `LiveTask`.
    """
    largest = max(phi_floats([inputs] + [config.max_units] * layers + [config.embedding])
                  for layers in (config.min_layers, config.max_layers))  # without a hidden layer it may be larger
    in_lines = lambda floats: -(-floats * 4 // LINE) * LINE // 4
    P = in_lines(sum(math.prod(shape) for shape in um.theta_shapes(**config.rule_sizes).values()))
    sync = config.mode == "sync"
    rows = 2 * (config.meta_batch if sync else workers)
    return SharedArrays({"theta": ((1 + (2 if sync else rows), P), "float32"), "grads": ((rows, P), "float32"),
                         "phi": ((config.live_tasks, 2, in_lines(largest)), "float32")})


# --- Where the arrays of jobs lie -----------------------------------------------------------------


def arrays_of(job, memory):
    """{"theta": [P] and, for a segment, "phi": flat, None before the first one}, where `job.where` says.

    theta: a row; phi: (slot, parity, how many numbers), read there and written to the other parity; gradient: a row.
    """
    found = {"theta": memory["theta"][job.where["theta"]]}
    if "phi" in job.where:
        slot, parity, floats = job.where["phi"]
        found["phi"] = memory["phi"][slot, parity, :floats] if floats else None
    return found


def put_back(job, memory, answer):
    """The reply of an answer; for a segment, which is (reply, gradient, phi_U), with the arrays put where they belong."""
    if "phi" not in job.where:
        return answer
    reply, gradient, phi = answer
    slot, parity, _ = job.where["phi"]
    memory["grads"][job.where["gradient"], :len(gradient)] = gradient
    memory["phi"][slot, 1 - parity, :len(phi)] = phi
    return reply


# --- Pools of images ------------------------------------------------------------------------------


class SharedPools:
    """{name: Pool}: the images that tasks are drawn from, loaded once and read by all workers where they lie."""

    def __init__(self, pools):
        fields = {(name, field): array for name, pool in pools.items() for field, array in pool._asdict().items()
                  if isinstance(array, np.ndarray)}
        self.arrays = SharedArrays({key: (array.shape, array.dtype.str) for key, array in fields.items()})
        for key, array in fields.items():
            self.arrays[key][...] = array
        self._rest = {name: pool._replace(**{field: None for of, field in fields if of == name})
                      for name, pool in pools.items()}

    def pools(self):
        """{name: Pool} around the shared memory, read-only and without a copy."""
        found = dict(self._rest)
        for name, field in self.arrays.spec:
            array = self.arrays[name, field]
            array.flags.writeable = False
            found[name] = found[name]._replace(**{field: array})
        return found
