"""Prototypical networks (Snell et al. 2017) as in H.3.4: an embedding trained on episodes of many classes.

No method of `METHODS`: it needs classes to train on beside those that it is scored on.
"""
from typing import NamedTuple

import autograd.numpy as np

from ops.scoring.methods.network import cross_entropy_of, init_layers, outputs, trained

WAYS, QUERIES = 10, 15  # classes of an episode, queries of each
HALVED = 2000           # updates after which the rate is halved, again and again


class Episode(NamedTuple):
    """support [ways, shots, N0], queries [ways, queries, N0], of the same classes in the same order."""
    support: np.ndarray
    queries: np.ndarray


def episode(rng, images, counts, shots, ways=WAYS, queries=QUERIES, permute=False):
    """A random Episode of images [n, N0] grouped by class, `counts` [C] of each; permute: in one random order of pixels.

    Every class has shots + queries images or more.
    """
    x = images[episode_rows(rng, counts, ways, shots + queries)]
    if permute:
        x = x[..., rng.permutation(x.shape[-1])]
    return Episode(x[:, :shots], x[:, shots:])


def episode_rows(rng, counts, ways, per_class):
    """[ways, per_class] different rows of images grouped by class, `counts` [C] of each, of different classes."""
    starts = np.cumsum(counts) - counts
    return np.stack([starts[c] + rng.choice(counts[c], per_class, replace=False)
                     for c in rng.choice(len(counts), ways, replace=False)])


def fitted(rng, draw, sizes, steps, rate=1e-3):
    """Yield the network, sizes = [N0, ..., NL], changed in place, after each of `steps` (rising) episodes draw() -> Episode.

    Batch norm and ReLU after all layers but the last, which is linear.  Raises InputError as `trained`.
    """
    return trained(loss, init_layers(rng, sizes), draw, lambda t: rate * 0.5 ** (t // HALVED), steps, "prototypical network")


def loss(layers, support, queries):
    """Mean cross-entropy of an episode's queries in nats."""
    scores = query_scores(layers, support, queries)
    return cross_entropy_of(scores, np.repeat(np.arange(len(queries)), queries.shape[1]))


def accuracy(layers, support, queries):
    """Share of an episode's queries that are nearest to their class's prototype."""
    scores = query_scores(layers, support, queries)
    return float((scores.argmax(axis=1).reshape(queries.shape[:2]) == np.arange(len(queries))[:, None]).mean())


def query_scores(layers, support, queries):
    """-|embedding - prototype|^2 [ways * queries, ways]; a prototype is a class's mean embedding of its support.

    Batch norms have the statistics of support and queries together.
    """
    ways, shots, n = support.shape
    x = np.concatenate([support.reshape(-1, n), queries.reshape(-1, n)])
    z = outputs(layers, x)
    prototypes = np.mean(np.reshape(z[:ways * shots], (ways, shots, -1)), axis=1)
    z = z[ways * shots:]
    return 2 * np.dot(z, prototypes.T) - np.sum(z ** 2, axis=1, keepdims=True) - np.sum(prototypes ** 2, axis=1)
