"""What the bench looks at: the seconds and the matrix products of each function of unsup_meta.py.

    with watching() as seen:
        um.meta_gradient(...)
    seen.seconds     # {function: seconds}, its backward pass included
    seen.products    # [(function, M, K, N)]: [M, K] times [K, N], one entry for each matrix of a stack

Functions are the `fast` ones and those given to `watching`; what one of them calls counts as its own.
"""
import contextlib
import math
import time
from collections import Counter

current = None  # the Watch that is on, in this process


class Watch:
    """Seconds and products by function; `label` is the function at work, None between them."""

    def __init__(self):
        self.label, self.seconds, self.products = None, Counter(), []

    @contextlib.contextmanager
    def of(self, label):
        """What happens within is `label`'s, unless another function's work is under way."""
        if self.label is not None or label is None:
            yield
            return
        self.label, begin = label, time.perf_counter()
        try:
            yield
        finally:
            self.seconds[label] += time.perf_counter() - begin
            self.label = None

    def product(self, a, b):
        """Note the product of a [..., M, K] and b [..., K, N]."""
        stack = math.prod(max(a.shape[:-2], b.shape[:-2], key=math.prod))
        self.products += [(self.label, a.shape[-2], a.shape[-1], b.shape[-1])] * stack


@contextlib.contextmanager
def watching(module=None, *names):
    """A `Watch` for what runs within; functions `names` of `module` that are not `fast` are watched as well."""
    global current
    plain = {name: getattr(module, name) for name in names}
    current = Watch()
    try:
        for name, function in plain.items():
            setattr(module, name, _watched(name, function))
        yield current
    finally:
        current = None
        for name, function in plain.items():
            setattr(module, name, function)


def _watched(name, function):
    def watched(*args, **options):
        with current.of(name):
            return function(*args, **options)
    return watched
