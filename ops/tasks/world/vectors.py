"""Plain vectors, as tables and bags of words are: float32, without an order of the inputs that means anything.

Each function draws a group: CLASSES classes of IMAGES vectors each, [CLASSES * IMAGES, inputs], class by class.
"""
import numpy as np

from ops.tasks.world.views import IMAGES

CLASSES = 20    # of a group
RANKS = (5, 13) # of what the inputs of a table have in common
BACKGROUND = 8  # topics that the documents of all classes share
WORDS = (0.15, 0.6)  # of a document, for each word of the vocabulary


def gaussians(inputs, rng, strength):
    """Low-rank Gaussians and noise: classes differ in mean and covariance; inputs have their own scale and offset."""
    rank = int(rng.integers(*RANKS))
    within = rng.standard_normal((CLASSES, IMAGES, rank)) @ rng.standard_normal((CLASSES, rank, rank)) / np.sqrt(rank)
    latent = rng.standard_normal((CLASSES, 1, rank)) + strength * np.sqrt(rank / 9) * within
    return _table(rng, latent.reshape(-1, rank) @ rng.standard_normal((rank, inputs)) / np.sqrt(rank))


def _table(rng, x):
    """Columns [n, inputs] with noise, a scale and, in half of the groups, an offset of their own: float32."""
    x = x + rng.uniform(0.1, 0.4) * rng.standard_normal(x.shape)
    x = (x - rng.integers(2) * rng.standard_normal(x.shape[1])) * np.exp(0.4 * rng.standard_normal(x.shape[1]))
    return x.astype(np.float32)


def topics(inputs, rng, strength):
    """Bags of words: a document mixes its class's topic with others; counts or, in half of the groups, presence."""
    usual = -rng.uniform(0.5, 1.0) * np.log(np.arange(inputs) + 3.0)  # Zipf's law
    own, others = (np.exp(usual + rng.standard_normal((n, inputs))) for n in (CLASSES, BACKGROUND))
    own, others = (topic / topic.sum(axis=1, keepdims=True) for topic in (own, others))
    mixed = rng.dirichlet(np.full(BACKGROUND, 0.5), CLASSES * IMAGES) @ others
    share = 1 / (1 + strength * rng.gamma(2.0, 0.5, (CLASSES * IMAGES, 1)))
    words = np.rint(inputs * rng.uniform(*WORDS, CLASSES * IMAGES)).astype(int)
    counts = rng.multinomial(words, share * own.repeat(IMAGES, axis=0) + (1 - share) * mixed)
    return (np.minimum(counts, 1) if rng.random() < 0.5 else counts).astype(np.float32)


def warped(inputs, rng, strength):
    """Held out: classes of three clusters each on a curved sheet, seen through a random network; some inputs in steps."""
    rank = int(rng.integers(*RANKS))
    clusters = rng.standard_normal((CLASSES, 1, rank)) + rng.standard_normal((CLASSES, 3, rank)) * 0.7
    latent = clusters[:, np.arange(IMAGES) % 3] + strength * rng.standard_normal((CLASSES, IMAGES, rank))
    hidden = np.tanh(latent.reshape(-1, rank) @ rng.standard_normal((rank, 64)) / np.sqrt(rank) + rng.standard_normal(64))
    x = hidden @ rng.standard_normal((64, inputs)) / 4
    kind = rng.integers(3, size=inputs)  # each input as it is, skewed or in steps
    return _table(rng, np.where(kind == 0, x, np.where(kind == 1, np.exp(np.minimum(x, 2)), np.rint(x))))
