"""Activation functions of the base model: ReLU in meta-training, any of these at evaluation (Sec. 5.3)."""
import numpy as np

from ops.errors import InputError
from ops.rule.primitive import NO_TAPE, block


def _relu_vjp(g, tape, wanted):
    return {0: g * (tape["x"] > 0)}


@block(vjp=_relu_vjp)
def relu(z, *, tape=NO_TAPE):
    """max(z, 0), with gradient 0 at 0 (App.14)."""
    x = np.maximum(z, z.dtype.type(0))
    tape.update(x=x)
    return x


def sigmoid(z):
    """1 / (1 + exp(-z)) without overflow; z an array of any shape."""
    half = z.dtype.type(0.5)
    return half * (np.tanh(half * z) + 1)


ACTIVATIONS = {
    "relu": relu,
    "leaky_relu": lambda z: np.where(z > 0, z, z.dtype.type(0.2) * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.logaddexp(z, z.dtype.type(0)),
    "swish": lambda z: z * sigmoid(z),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "step": lambda z: (z > 0).astype(z.dtype),
    "sine": np.sin,
    "linear": lambda z: z,
}


def activation_named(name):
    """The function of that name; raises InputError for an unknown one."""
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
