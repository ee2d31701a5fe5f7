"""Activation functions of the base model by name: ReLU in meta-training, any of these at evaluation (Sec. 5.3)."""
import autograd.numpy as np

from ops.errors import InputError


def relu(u):
    """max(u, 0), any shape (App.14); NaN stays NaN, the derivative at 0 is 0."""
    return u * (u > 0)


def sigmoid(u):
    """1 / (1 + exp(-u)), any shape, without overflow."""
    return 0.5 * (np.tanh(0.5 * u) + 1)


ACTIVATIONS = {
    "relu": relu,
    "leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.logaddexp(z, np.zeros(1, z.dtype)),
    "swish": lambda z: z * sigmoid(z),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "step": lambda z: (z > 0).astype(z.dtype),
    "sine": np.sin,
    "linear": lambda z: z,
}


def activation_named(name):
    """The function of that name, of an array of any shape; raises InputError for an unknown one."""
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
