"""The pools of images that tasks are drawn from, loaded once and read by all workers from shared memory."""
import hashlib

import numpy as np

from ops.engine.shared_memory import SharedArrays
from ops.tasks import pool_arrays, pool_from


def digests(pools):
    """{name: SHA-256 of its images and labels} of the pools: what a run may be resumed with."""
    return {name: _digest(pool.images, pool.counts) for name, pool in pools.items()}


def _digest(*arrays):
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.shape} {array.dtype.str}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def share_pools(pools):
    """(SharedArrays, handle): a copy of the arrays of {name: Pool}; a worker gives the handle, JSON, to `attach_pools`."""
    parts = {name: pool_arrays(pool) for name, pool in pools.items()}
    arrays = {f"{name}|{part}": array for name, (group, _) in parts.items() for part, array in group.items()}
    shared = SharedArrays({key: (array.shape, array.dtype.str) for key, array in arrays.items()})
    for key, array in arrays.items():
        shared[key][...] = array
    return shared, {"block": shared.block, "spec": shared.spec, "meta": {name: meta for name, (_, meta) in parts.items()}}


def attach_pools(handle):
    """(SharedArrays, {name: Pool}) around the memory of `share_pools`, read-only and without a copy."""
    shared = SharedArrays(handle["spec"], handle["block"])
    for key in handle["spec"]:
        shared[key].flags.writeable = False
    part = lambda name: {key.rpartition("|")[2]: shared[key] for key in handle["spec"] if key.rpartition("|")[0] == name}
    return shared, {name: pool_from(part(name), meta) for name, meta in handle["meta"].items()}
