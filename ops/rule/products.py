"""Matrix products as primitives: plain numpy inside, and a VJP that makes no more than it must."""
import numpy as np

from ops.rule.primitive import NO_TAPE, block
from ops.rule.threads import product


def _to_shape(g, shape):
    """Sum over the leading axis that broadcasting added, if it did."""
    return g if g.ndim == len(shape) else g.sum(axis=0)


def _matmul_vjp(g, tape, wanted):
    a, b = tape["a"], tape["b"]
    grads = {}
    if 0 in wanted:
        grads[0] = _to_shape(np.matmul(g, b.swapaxes(-1, -2)), a.shape)
    if 1 in wanted and a.ndim == 3 and b.ndim == 2:  # one product over all the rows
        grads[1] = np.matmul(a.reshape(-1, a.shape[2]).T, np.ascontiguousarray(g).reshape(-1, g.shape[2]))
    elif 1 in wanted:
        grads[1] = _to_shape(np.matmul(a.swapaxes(-1, -2), g), b.shape)
    return grads


@block(vjp=_matmul_vjp)
def matmul(a, b, *, tape=NO_TAPE):
    """a @ b for matrices [I, K], [K, J], either of them optionally in a stack [G, ., .]."""
    tape.update(a=a, b=b)
    return np.matmul(a, b)


def _transport_vjp(g, tape, wanted):
    V, delta = tape["V"], tape["delta"]
    runs = np.ascontiguousarray(g).reshape(-1, g.shape[2])
    grads = {}
    if 0 in wanted:
        grads[0] = product(runs.T, delta)
    if 1 in wanted:
        grads[1] = product(runs, V).reshape(g.shape[:2] + V.shape[1:])
    return grads


@block(vjp=_transport_vjp)
def transport(V, delta, *, tape=NO_TAPE):
    """dhat_cbm = sum_j delta_cbj V_mj: V [M, N], delta [C, B, N] -> [C, B, M] (App.32)."""
    runs = np.ascontiguousarray(delta).reshape(-1, delta.shape[2])
    tape.update(V=V, delta=runs)
    return product(runs, V.T).reshape(delta.shape[:2] + V.shape[:1])


def _pair_vjp(g, tape, wanted):
    return {0: g[0], 1: g[1]}


@block(vjp=_pair_vjp)
def pair(W, V, *, tape=NO_TAPE):
    """[2, I, J]: W and V side by side, since every equation of the weight update serves both."""
    return np.stack([W, V])


def _half_vjp(g, tape, wanted):
    out = np.empty((2,) + g.shape, g.dtype)
    out[tape["which"]], out[1 - tape["which"]] = g, 0
    return {0: out}


@block(vjp=_half_vjp)
def half(WV, which, *, tape=NO_TAPE):
    """WV[which]: W (0) or V (1) of a pair, or one of two batches that went through the base model together."""
    tape.update(which=which)
    return WV[which]


def _move_towards_vjp(g, tape, wanted):
    lr = tape["lr"]
    return {0: g * (1 - lr), 1: g * lr}


@block(vjp=_move_towards_vjp)
def move_towards(p, target, lr, *, tape=NO_TAPE):
    """p (1 - lr) + target lr, any shape (App.5-7)."""
    tape.update(lr=p.dtype.type(lr))
    return p * p.dtype.type(1 - lr) + target * p.dtype.type(lr)
