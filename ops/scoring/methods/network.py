"""Networks that the trained baselines are made of: layers of the base model, then a linear one; and Adam."""
import math

import autograd.numpy as np

import unsup_meta as um
from ops.errors import InputError
from ops.rule.activations import relu
from ops.rule.primitive import flatten, gradient, kernel

DECAY, DECAY_SQUARED, EPS = 0.9, 0.999, 1e-8  # Adam's


def init_layers(rng, sizes, dtype=np.float32):
    """A fresh network, sizes = [N0, ..., NL]: [(W, b)], W truncated normal with sd 1 / sqrt(fan in), b zero."""
    return [(um.truncated_normal(rng, (m, n), 1 / np.sqrt(m), dtype), np.zeros(n, dtype))
            for m, n in zip(sizes[:-1], sizes[1:])]


def outputs(layers, x):
    """[B, NL] of x [B, N0]: batch norm and ReLU after all layers but the last (App.13-14), statistics of this batch."""
    *hidden, (W, b) = layers
    for layer in hidden:
        x = relu(um.base_layer(x, *layer))
    return np.dot(x, W) + b


def evaluated(layers, x, reference):
    """... of x [n, N0] with the batch-norm statistics of `reference` [m, N0] (D11)."""
    *hidden, (W, b) = layers
    return np.dot(um.features([(*layer, None) for layer in hidden], x, reference), W) + b


def cross_entropy_of(logits, y):
    """Mean of -log softmax(logits)[y] in nats; logits [B, C], y [B] int."""
    logits = logits - np.max(logits, axis=1, keepdims=True)
    one_hot = np.eye(logits.shape[1], dtype=logits.dtype)[y]
    return np.mean(np.log(np.sum(np.exp(logits), axis=1)) - np.sum(logits * one_hot, axis=1))


def batch_rows(rng, n, size):
    """`size` different rows of n; of fewer all, in a random order over and over."""
    return rng.choice(n, size, replace=False) if n >= size else np.resize(rng.permutation(n), size)


def trained(loss, parameters, draw, rate, steps, name):
    """Yield the parameters, a tree of arrays changed in place, after each of `steps`, rising numbers of Adam's updates.

    loss(parameters, *draw()) is a scalar that autograd can follow, rate(t) the learning rate of update t = 0, 1, ...
    Raises InputError, which begins with `name`, if the parameters at one of the steps are not finite.
    """
    arrays = flatten(parameters)[0]
    moments = [(np.zeros(a.size, a.dtype), np.zeros(a.size, a.dtype)) for a in arrays]
    for before, step in zip((0, *steps), steps):
        for t in range(before, step):
            batch = draw()
            _, gradients, _ = gradient(lambda tree: (loss(tree, *batch), ()), parameters)
            scale, spread = rate(t) / (1 - DECAY ** (t + 1)), (1 - DECAY_SQUARED ** (t + 1)) ** -0.5
            for a, g, (m, v) in zip(arrays, flatten(gradients)[0], moments):
                _adam(a.reshape(-1), g.reshape(-1), m, v, scale, spread)
        if not all(np.isfinite(a).all() for a in arrays):
            raise InputError(f"{name}: NaN or infinite within {step} updates; lower its learning rate or scale the data to "
                             "about 1")
        yield parameters


@kernel()
def _adam(a, g, m, v, scale, spread):
    """An update in place, all [n]; scale and spread hold the rate and what the moments lack at the beginning."""
    for i in range(len(a)):
        m[i] += (1 - DECAY) * (g[i] - m[i])
        v[i] += (1 - DECAY_SQUARED) * (g[i] * g[i] - v[i])
        a[i] -= scale * m[i] / (math.sqrt(v[i]) * spread + EPS)
