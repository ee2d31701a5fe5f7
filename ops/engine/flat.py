"""{name: array} and [Layer, ...] as one flat vector and back: the form they have in shared memory."""
import numpy as np


def flatten(arrays, out=None):
    """The arrays one after another as a vector, into `out` where given."""
    arrays = list(arrays)
    size = sum(a.size for a in arrays)
    out = np.empty(size, arrays[0].dtype) if out is None else out[:size]
    start = 0
    for a in arrays:
        out[start:start + a.size] = a.ravel()
        start += a.size
    return out


def unflatten(vector, shapes, copy=True):
    """Arrays of the given shapes cut from `vector` in order (copies unless told)."""
    arrays, start = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        piece = vector[start:start + size].reshape(shape)
        arrays.append(piece.copy() if copy else piece)
        start += size
    return arrays


def phi_shapes(sizes):
    """Shapes of W, b, V of every layer in turn, for layer sizes [N^0, ..., N^L]."""
    return [shape for m, n in zip(sizes[:-1], sizes[1:]) for shape in ((m, n), (n,), (m, n))]
