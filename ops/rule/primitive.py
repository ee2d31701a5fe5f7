"""How a block of the paper becomes an autograd primitive with a hand-derived VJP, and how its tape is walked.

    @block(vjp=square_vjp)
    def square(x, *, tape):
        tape.update(x=x)                 # what the backward pass needs, nothing else
        return x * x

`tape` is a fresh dict where autograd is recording and a `NoTape` where it is not, so applying the
rule keeps no intermediates.  The VJP is `square_vjp(g, tape, wanted)`: `wanted` is the set of
argument positions that need a gradient, and it returns {position: gradient}.

What tapes hold is counted.  Beyond BUDGET bytes a block keeps its arguments alone, and computes the rest
again in the backward pass; a function marked `remat` does so with all of its blocks at once.
"""
import contextlib
import functools
import gc
import inspect

import numpy as np
from autograd.core import VJPNode, add_outgrads
from autograd.tracer import getval, isbox, new_box, toposort, trace_stack
from numba import njit

from ops.rule import watch
from ops.rule.memory import keep_freed_memory

keep_freed_memory()

# Loops may be reassociated into SIMD sums and fused multiply-adds, but NaN and infinity keep their
# meaning (plain `fastmath=True` would let a NaN through unseen).
kernel = functools.partial(njit, cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})

EPS = 1e-6  # inside every root of the rule (D1; App.33, App.85-95)
BUDGET = 540 << 20  # bytes: three inner steps at the paper's sizes
_budget = BUDGET  # of blocks: less once a function runs again, when its gradients need room too
_held = 0  # bytes that tapes and what they connect hold now, or would if none had been forgotten


class NoTape(dict):
    """A tape that forgets: nothing is being differentiated."""

    def update(self, **saved):
        pass


NO_TAPE = NoTape()
NOTHING = np.zeros(())  # passed on where the gradient itself goes another way


def block(vjp, large=None):
    """Decorator: make `forward(*args, tape)` an autograd primitive with VJP `vjp(g, tape, wanted)`.

    large: names of what it puts on its tape that is its own and no argument: that, and its value, is counted.
    Arguments that are not arrays (an axis, a name) are never asked for a gradient.
    What `autograd.extend.primitive` and `defvjp_argnums` do, in a third of the time: a meta-gradient at the
    laptop's sizes is hundreds of small calls.  Forward mode and gradients of gradients are not defined.
    """

    def decorate(forward):
        signature = inspect.signature(forward)

        @functools.wraps(forward)
        def op(*args, **named):
            if named:
                args = signature.bind(*args, tape=None, **named).args
            boxed = [i for i, a in enumerate(args) if isbox(a)]
            if not boxed:
                return forward(*args, tape=NO_TAPE)
            values, tape, wanted = list(args), {}, frozenset(boxed)
            for i in boxed:
                values[i] = args[i]._value
            if large is not None and _held > _budget:
                tape = NO_TAPE
            out = forward(*values, tape=tape)
            again, size = None, 0
            if large is not None:
                tape, again, size = _kept(tape, large, out, values)

            def pull_back(g):
                saved = {} if tape is None else tape
                if tape is None:
                    forward(*again, tape=saved)
                grads = vjp(g, saved, wanted)
                if large is not None:
                    _release(size)
                return [grads[i] for i in boxed]

            trace, parents = args[boxed[0]]._trace, [args[i]._node for i in boxed]
            if any(args[i]._trace != trace for i in boxed):
                raise ValueError(f"{forward.__name__}: gradients of gradients are not defined")
            pull_back = _watched(pull_back)
            if type(out) is tuple:
                return _boxed_parts(out, trace, parents, pull_back)
            return new_box(out, trace, _node(parents, pull_back))

        return op

    return decorate


def _kept(tape, own, out, values):
    """(tape, None, bytes of `out` and what is its own) or, where tapes hold too much, (None, values to start from, bytes)."""
    global _held
    size = _bytes([out, *(tape.get(name) for name in own)])
    _held += size
    return (tape, None, size) if tape is not NO_TAPE and _held <= _budget else (None, values, size)


def _bytes(arrays):
    return sum(a.nbytes if isinstance(a, np.ndarray) else _bytes(a) if isinstance(a, (list, tuple)) else 0 for a in arrays)


def _release(size):
    global _held
    _held -= size


def _watched(pull_back):
    """The same, its time counted for the function that is at work now."""
    if watch.current is None:
        return pull_back
    label = watch.current.label

    def watched(g):
        with watch.current.of(label):
            return pull_back(g)

    return watched


def _node(parents, pull_back):
    node = VJPNode.new_root()
    node.parents, node.vjp = parents, pull_back
    return node


def _boxed_parts(out, trace, parents, pull_back):
    """Boxes of the arrays of a tuple: their gradients meet in a list, which one node for all of them pulls back."""
    gradients, empty = [None] * len(out), [(np.shape(a), a.dtype) for a in out]
    whole = _node(parents, lambda _: pull_back([np.zeros(*e) if g is None else g for e, g in zip(empty, gradients)]))

    def part(i, a):
        def keep(g):
            gradients[i] = g
            return [NOTHING]
        return new_box(a, trace, _node([whole], keep))

    return tuple(part(i, a) for i, a in enumerate(out))


# --- The tape ---------------------------------------------------------------------------------------


def flatten(tree):
    """(leaves, rebuild) of dicts, lists and tuples within each other: rebuild(other leaves) is a tree of them."""
    if isinstance(tree, dict):
        names, parts = list(tree), list(tree.values())
        make = lambda items: dict(zip(names, items))
    elif isinstance(tree, (list, tuple)):
        parts, make = tree, type(tree)._make if hasattr(tree, "_fields") else type(tree)
    else:
        return [tree], lambda leaves: leaves[0]
    branches = [flatten(part) for part in parts]
    sizes, builders = [len(leaves) for leaves, _ in branches], [build for _, build in branches]

    def rebuild(leaves):  # keeps no leaf alive
        ends = np.cumsum(sizes).tolist()
        return make([build(leaves[end - size:end]) for build, size, end in zip(builders, sizes, ends)])

    return [leaf for leaves, _ in branches for leaf in leaves], rebuild


def _record(fun, leaves, at):
    """fun(leaves), those at positions `at` being recorded, and their roots on the tape."""
    roots, inputs = [VJPNode.new_root() for _ in at], list(leaves)
    with trace_stack.new_trace() as trace:
        for i, root in zip(at, roots):
            inputs[i] = new_box(leaves[i], trace, root)
        return fun(inputs), roots


def _pull_back(ends, roots):
    """Gradients of <g, end> summed over ends [(box, g)], one per root; None for a root that no end depends on.

    Autograd's own tape walked with several ends and roots: theta's forty arrays then cost no indexing nodes.
    """
    whole = _node([box._node for box, _ in ends], lambda _: [g for _, g in ends])
    outgrads = {whole: (NOTHING, False)}
    for node in toposort(whole):
        if node in outgrads and node.parents:
            grad = outgrads.pop(node)[0]
            shares, node.vjp = node.vjp(grad), None  # what it kept is not needed again
            for parent, share in zip(node.parents, shares):
                if share is not None:
                    outgrads[parent] = _accumulated(outgrads.get(parent), share)
    return [outgrads[root][0] if root in outgrads else None for root in roots]


def _accumulated(before, share):
    """(gradient so far or None, may it be changed in place) and one more share of it -> the same with it."""
    if share is NOTHING or before is None and type(share) is np.ndarray:
        return share, False
    if before is None:
        return add_outgrads(None, share)
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
def gradient(fun, tree):
    """fun(tree) -> (scalar, another tree): (scalar, its gradient, a tree like `tree`, the other tree), no boxes left."""
    global _held, _budget
    _held, _budget = 0, BUDGET
    leaves, rebuild = flatten(tree)
    (end, other), roots = _record(lambda boxes: fun(rebuild(boxes)), leaves, range(len(leaves)))
    grads = _pull_back([(end, np.ones((), end._value.dtype))] if isbox(end) else [], roots)
    grads = [np.zeros_like(a) if g is None else np.asarray(g, a.dtype) for g, a in zip(grads, leaves)]
    others, rebuild_other = flatten(other)
    return getval(end), rebuild(grads), rebuild_other([getval(a) for a in others])


def remat(fun):
    """Decorator for a function of trees: once tapes hold more than BUDGET, its arguments alone are kept.

    The backward pass then runs it again, recording this time: memory for time, and the same numbers.  What is to be
    differentiated must be an argument of it.
    """
    @functools.wraps(fun)
    def rematerialised(*args):
        leaves, rebuild = flatten(args)
        at = [i for i, a in enumerate(leaves) if isbox(a)]
        if not at:
            return fun(*args)
        values = [getval(a) for a in leaves]
        rebuild_out, before = [], _held

        def recorded_again():
            (outs, build), roots = _record(lambda inputs: flatten(fun(*rebuild(inputs))), values, at)
            rebuild_out[:] = [build]
            return outs, roots

        outs, roots = recorded_again()
        differentiable = [i for i, out in enumerate(outs) if isbox(out)]
        results, recorded = [getval(out) for out in outs], (outs, roots)
        if _held > BUDGET:
            recorded = None
            _release(_held - before - _bytes(results))

        def pull_back(gs):
            global _budget
            _budget = _held + BUDGET // 3
            outs, roots = recorded or recorded_again()
            return _pull_back([(outs[i], g) for i, g in zip(differentiable, gs)], roots)

        boxes = _boxed_parts(tuple(results[i] for i in differentiable), leaves[at[0]]._trace,
                             [leaves[i]._node for i in at], pull_back)
        for i, box in zip(differentiable, boxes):
            results[i] = box
        return rebuild_out[0](results)

    return rematerialised
