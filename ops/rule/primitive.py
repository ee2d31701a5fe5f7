"""How a block of the paper becomes an autograd primitive with a hand-derived VJP.

    @block(vjp=square_vjp)
    def square(x, *, tape):
        tape.update(x=x)                 # what the backward pass needs, nothing else
        return x * x

`tape` is a fresh dict where autograd is recording and a `NoTape` where it is not, so applying the
rule keeps no intermediates.  The VJP is `square_vjp(g, tape, wanted)`: `wanted` is the set of
argument positions that need a gradient, and it returns {position: gradient}.
"""
import contextlib
import functools
import gc

import numpy as np
from autograd.core import VJPNode, add_outgrads
from autograd.tracer import isbox, new_box, toposort, trace_stack
from numba import njit

from ops.rule.memory import keep_freed_memory

keep_freed_memory()

# Loops may be reassociated into SIMD sums and fused multiply-adds, but NaN and infinity keep their
# meaning (plain `fastmath=True` would let a NaN through unseen).
kernel = functools.partial(njit, cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})


EPS = 1e-6  # inside every root of the rule (D1; App.33, App.85-95)


class NoTape(dict):
    """A tape that forgets: nothing is being differentiated."""

    def update(self, **saved):
        pass


NO_TAPE = NoTape()


def block(vjp):
    """Decorator: make `forward(*args, tape)` an autograd primitive with VJP `vjp(g, tape, wanted)`.

    Arguments are positional; those that are not arrays (an axis, a name) are never asked for a gradient.
    What `autograd.extend.primitive` and `defvjp_argnums` do, in a third of the time: a meta-gradient at the
    laptop's sizes is hundreds of small calls.  Forward mode and gradients of gradients are not defined.
    """

    def decorate(forward):
        @functools.wraps(forward)
        def op(*args):
            boxed = [i for i, a in enumerate(args) if isbox(a)]
            if not boxed:
                return forward(*args, tape=NO_TAPE)
            values, tape, wanted = list(args), {}, frozenset(boxed)
            for i in boxed:
                values[i] = args[i]._value

            def pull_back(g):
                grads = vjp(g, tape, wanted)
                return [grads[i] for i in boxed]

            trace, out = args[boxed[0]]._trace, forward(*values, tape=tape)
            parents = [args[i]._node for i in boxed]
            if type(out) is tuple:
                return _boxed_parts(out, trace, parents, pull_back)
            return new_box(out, trace, _node(parents, pull_back))

        return op

    return decorate


def _node(parents, pull_back):
    node = VJPNode.new_root()
    node.parents, node.vjp = parents, pull_back
    return node


NOTHING = np.zeros(())  # passed on where the gradient itself goes another way


def _boxed_parts(out, trace, parents, pull_back):
    """Boxes of the arrays of a tuple: their gradients meet in a list, which one node for all of them pulls back."""
    gradients, empty = [None] * len(out), [(a.shape, a.dtype) for a in out]
    whole = _node(parents, lambda _: pull_back([np.zeros(*e) if g is None else g for e, g in zip(empty, gradients)]))

    def part(i, a):
        def keep(g):
            gradients[i] = g
            return [NOTHING]
        return new_box(a, trace, _node([whole], keep))

    return tuple(part(i, a) for i, a in enumerate(out))


def _accumulated(before, share):
    """(gradient so far or None, may it be changed in place) and one more share of it -> the same with it."""
    if before is None or share is NOTHING:
        return share, False
    total, ours = before
    if type(total) is np.ndarray and type(share) is np.ndarray:
        return (np.add(total, share, out=total) if ours else total + share), True
    return add_outgrads(before, share)


@contextlib.contextmanager
def _no_collection():
    """Python's search for cycles of dead objects put off: a tape has none, and it took 3% of a gradient's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_no_collection()
def value_and_gradients(fun, values):
    """fun(list of boxed values) -> scalar, and its gradients, one per value.

    What `autograd.value_and_grad` does for one argument, with a root of the tape for each (autograd's own
    tape, walked here): theta's forty arrays then cost no indexing nodes.  A value that `fun` does not use gets zeros.
    """
    roots = [VJPNode.new_root() for _ in values]
    with trace_stack.new_trace() as trace:
        end = fun([new_box(value, trace, root) for value, root in zip(values, roots)])
    outgrads = {end._node: (np.ones((), end._value.dtype), False)}
    for node in toposort(end._node):
        if node in outgrads and node.parents:
            grad = outgrads.pop(node)[0]
            shares, node.vjp = node.vjp(grad), None  # what it kept is not needed again
            for parent, share in zip(node.parents, shares):
                outgrads[parent] = _accumulated(outgrads.get(parent), share)
    return end._value, [outgrads[root][0] if root in outgrads else np.zeros_like(value)
                        for root, value in zip(roots, values)]


def _inner_vjp(g, tape, wanted):
    return {0: g * tape["b"]}


@block(vjp=_inner_vjp)
def inner(a, b, *, tape=NO_TAPE):
    """sum(a b), with a gradient for `a` alone."""
    tape.update(b=b)
    return np.sum(a * b)


def recomputed(fun):
    """`fun(*arrays) -> tuple of arrays` as one node of the tape that keeps its arguments and nothing else.

    The backward pass runs `fun` again, recording this time: memory for time.
    """

    def vjp(g, tape, wanted):
        def weighted(values):
            outputs = fun(*values)
            return sum((inner(out, share) for out, share in zip(outputs, g) if isbox(out)), 0.0)

        return dict(enumerate(value_and_gradients(weighted, tape["args"])[1]))

    @block(vjp=vjp)
    def once(*args, tape=NO_TAPE):
        tape.update(args=args)
        return tuple(fun(*args))

    return once
