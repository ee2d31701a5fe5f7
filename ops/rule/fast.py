"""`@fast(kernel)` above a definition of unsup_meta.py: what runs instead of it, unless definitions are asked for."""
import functools
import os

from ops.rule import watch

VARIABLE = "UNSUP_META_PLAIN"
FAST = {}  # {name: the function that `fast` made}, whose `definition` and `kernel` are the two
_plain = os.environ.get(VARIABLE, "0") not in ("", "0")


def use_definitions(on=True):
    """Run definitions from now on (or kernels again), in this process and in those that it starts."""
    global _plain
    _plain, os.environ[VARIABLE] = on, "1" if on else "0"


def definitions_in_use():
    """Whether definitions run, not kernels."""
    return _plain


def fast(kernel):
    """Decorator: call `kernel`, which takes and gives what the definition does, in its place."""
    def decorate(definition):
        @functools.wraps(definition)
        def either(*args, **options):
            run = definition if _plain else kernel
            if watch.current is None:
                return run(*args, **options)
            with watch.current.of(definition.__name__):
                return run(*args, **options)

        either.definition, either.kernel = definition, kernel
        FAST[definition.__name__] = either
        return either

    return decorate
