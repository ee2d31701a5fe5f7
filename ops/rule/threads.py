"""Large blocks on several threads of one process: kernels and matrix products release Python's lock.

Workers of a meta-training run have one thread each; several are for one large model at a time.  Set
UNSUP_META_THREADS to their number and keep BLAS at one thread (OPENBLAS_NUM_THREADS=1): it would only
spread the products, not the loops between them.
"""
import functools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ops.errors import InputError
from ops.rule import watch
from ops.rule.memory import forget_scratch

VARIABLE = "UNSUP_META_THREADS"
WORTH_SHARING = 1 << 23  # multiply-adds or so, some 0.1 ms: handing a part to another thread costs 60 microseconds


@functools.lru_cache(maxsize=None)
def thread_count():
    """$UNSUP_META_THREADS, 1 if not set.  InputError if it is no number from 1 on."""
    text = os.environ.get(VARIABLE, "1")
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{VARIABLE} is {text!r}; give the number of threads, 1 or more")
    return int(text)


@functools.lru_cache(maxsize=None)
def _pool():
    return ThreadPoolExecutor(thread_count() - 1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not live on in a child


def in_parts(work, n, cost):
    """[work(first, end)] for 0..n cut into a part for each thread, in order; `cost` as WORTH_SHARING, of all.

    The main thread alone may call it, and `work` may not.
    """
    parts = min(thread_count(), n, int(cost // WORTH_SHARING) + 1)
    if parts <= 1:
        return [work(0, n)]
    edges = [n * i // parts for i in range(parts + 1)]
    try:
        others = [_pool().submit(work, first, end) for first, end in zip(edges[1:-1], edges[2:])]
        return [work(0, edges[1])] + [other.result() for other in others]
    except BaseException:  # an error or Ctrl-C: other parts may be at work for a while yet, on this thread's buffers
        forget_scratch()
        raise


def matmul(a, b, out=None):
    """np.matmul(a, b, out=out), seen by the bench."""
    if watch.current is not None:
        watch.current.product(a, b)
    return np.matmul(a, b, out=out)


def product(a, b):
    """a @ b of matrices, rows of a or columns of b shared among the threads."""
    (rows, inner), columns = a.shape, b.shape[1]
    if thread_count() == 1 or rows * inner * columns < WORTH_SHARING:
        return matmul(a, b)
    out = np.empty((rows, columns), a.dtype)
    if rows >= columns:
        in_parts(lambda i, k: matmul(a[i:k], b, out[i:k]), rows, rows * inner * columns)
    else:
        in_parts(lambda i, k: matmul(a, b[:, i:k], out[:, i:k]), columns, rows * inner * columns)
    return out


def products(*jobs):
    """a @ b into out for each (a, b, out) of matrices, some rows of every one of them to each thread."""
    n = thread_count()

    def part(first, end):
        for a, b, out in jobs:
            rows = slice(len(a) * first // n, len(a) * end // n)
            matmul(a[rows], b, out[rows])

    in_parts(part, n, sum(out.size * len(b) for _, b, out in jobs))
