"""Variational autoencoders on the unlabelled training inputs (H.3.1-2), their latents scored; KL weighted: beta-VAEs."""
import math
from typing import NamedTuple

import autograd.numpy as np

from ops.rule.primitive import block, kernel
from ops.scoring.few_shot import accuracy_within
from ops.scoring.methods.network import batch_rows, evaluated, init_layers, outputs, trained
from ops.scoring.methods.readout import reference_batch, scored, seen
from ops.scoring.settings import BASELINE, TUNING

BATCH = 128
LOG_SD = (-7.0, 3.0)  # both normals' are clipped to this
HALF_LEVEL = 1 / 510  # of 256 levels from 0 to 1
FLOOR = 1e-12         # of a level's probability
ROOT_2_PI = math.sqrt(2 * math.pi)
GRID, TAIL = 128, 9   # steps in 1, and where a normal's tail is far below FLOOR
RATIOS = np.array([ROOT_2_PI / 2 * math.erfc(t / 2 ** 0.5) * math.exp(t * t / 2)
                   for t in (k / GRID for k in range(GRID * TAIL + 1))])  # Mills' ratio (1 - Phi) / phi


class VAE(NamedTuple):
    """Encoder N0 - hidden - 2 latents, decoder mirrored; a feature is the mean of q(z|x) (Fig. 4).

    lr      Adam's
    beta    weight of the KL term
    hidden  how many of the base model's hidden layers encoder and decoder have; None: all
    The latents are as many as the base model's outputs.  Inputs have no order: it makes no difference to it.
    """
    lr: float = 1e-4
    beta: float = 1.0
    hidden: int | None = None
    seeded = True
    updates = 100_000

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[points, seeds, draws, readouts]; each seed has a stream of its own.  InputError as `trained` and `scored`."""
        return np.stack([[scored(*z, dataset, settings) for z in self.latents(dataset, sizes, settings, steps, k)]
                         for k in seeds], axis=1)

    def latents(self, dataset, sizes, settings, steps, seed):
        """Yield the means of q of the training and the test split, [n, latents], [m, latents], after each of `steps`."""
        dataset = in_unit_range(dataset)
        reference = reference_batch(dataset.x_train, settings)
        for networks in self.fitted(seen(dataset.x_train, settings), sizes, settings, steps, seed):
            yield tuple(self.encoded(networks, x, reference) for x in (dataset.x_train, dataset.x_test))

    @staticmethod
    def encoded(networks, x, reference):
        """Means of q [n, latents] of x [n, N0], batch norms with the statistics of `reference`."""
        return halves(evaluated(networks[0], x, reference))[0]

    def fitted(self, x, sizes, settings, steps, seed):
        """Yield (encoder, decoder), changed in place, after each of `steps` (rising) updates on batches of x [n, N0] in 0..1.

        Raises InputError as `trained`.
        """
        rng, hidden, latents = settings.stream(BASELINE, seed), list(sizes[1:-1])[:self.hidden], sizes[-1]
        networks = [init_layers(rng, of, x.dtype) for of in ([sizes[0], *hidden, 2 * latents],
                                                            [latents, *hidden[::-1], 2 * sizes[0]])]
        networks[1][-1][0][:] = 0  # every input starts as a normal of mean 0 and deviation 1
        draw = lambda: (x[batch_rows(rng, len(x), BATCH)], rng.standard_normal((BATCH, latents)).astype(x.dtype))
        loss = lambda networks, batch, noise: negative_elbo(networks, batch, noise, self.beta)
        return trained(loss, networks, draw, lambda t: self.lr, steps, f"VAE (beta {self.beta:g})")


class BetaVAE(NamedTuple):
    """A VAE of two hidden layers whose KL term weighs more (workshop Fig. 1); beta is chosen on the training split."""
    betas: tuple = (2, 4, 8, 16)
    lr: float = 1e-4
    seeded = True
    updates = 100_000

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[points, seeds, draws, readouts].  InputError as that of `VAE`."""
        return np.stack([self.chosen(dataset, sizes, settings, steps, k)[1] for k in seeds], axis=1)

    def chosen(self, dataset, sizes, settings, steps, seed):
        """(beta, accuracies [points, draws, readouts]): the one whose latents after the last of `steps` do best within the
        training split, on points that are not among the labelled ones."""
        best = None
        for beta in self.betas:
            found = []
            for train, test in VAE(self.lr, beta, 2).latents(dataset, sizes, settings, steps, seed):
                found.append(scored(train, test, dataset, settings))
            right = accuracy_within(train, dataset.y_train, settings.shots, settings.draws, settings.stream(TUNING),
                                    ways=settings.ways).mean()
            best = max(best or (right, beta, found), (right, beta, found), key=lambda one: one[0])
        return best[1], np.stack(best[2])


def in_unit_range(dataset):
    """The data set, its inputs shifted and scaled together so that the training split fits 0..1; images are as they are."""
    low, high = min(dataset.x_train.min(), 0), max(dataset.x_train.max(), 1)
    if (low, high) == (0, 1):
        return dataset
    return dataset._replace(x_train=(dataset.x_train - low) / (high - low), x_test=(dataset.x_test - low) / (high - low))


# --- The objective --------------------------------------------------------------------------------


def negative_elbo(networks, x, noise, beta=1.0):
    """Mean over x [B, N0] of beta KL(q || N(0, 1)) - log p(x | z) in nats, z = mean + sd noise of q; noise [B, latents]."""
    encoder, decoder = networks
    q = normal(outputs(encoder, x))
    return np.mean(beta * divergence(*q) - log_likelihood(x, *normal(outputs(decoder, sample(*q, noise)))))


def evaluated_elbo(networks, x, reference, rng):
    """`negative_elbo` of beta 1 for each of x [n, N0], [n], every batch norm with the statistics of `reference` (D11)."""
    encoder, decoder = networks
    q_reference, q = (normal(evaluated(encoder, of, reference)) for of in (reference, x))
    z_reference, z = (sample(*of, rng.standard_normal(of[0].shape).astype(x.dtype)) for of in (q_reference, q))
    return divergence(*q) - log_likelihood(x, *normal(evaluated(decoder, z, z_reference)))


def normal(a):
    """Outputs [B, 2 n] -> mean and log sd, [B, n] each."""
    mean, log_sd = halves(a)
    return mean, np.clip(log_sd, *LOG_SD)


@block(vjp=lambda g, tape, wanted: {0: np.concatenate(g, axis=1)})
def halves(a, *, tape):
    """The first and the last columns of a [B, 2 n]; autograd's own slices would be slow to pull back."""
    return tuple(np.split(a, 2, axis=1))


def sample(mean, log_sd, noise):
    """mean + sd noise, all [B, n]."""
    return mean + np.exp(log_sd) * noise


def divergence(mean, log_sd):
    """KL of normals from N(0, 1), summed over the last axis: [B, n] -> [B]."""
    return np.sum(0.5 * (mean ** 2 + np.exp(2 * log_sd) - 1) - log_sd, axis=1)


def _log_likelihood_vjp(g, tape, wanted):
    return {i: g[:, None] * tape["slopes"][i - 1] for i in wanted}


@block(vjp=_log_likelihood_vjp)
def log_likelihood(x, mean, log_sd, *, tape):
    """log p(x), summed over pixels: x, mean, log_sd [B, N0] -> [B].  No gradient with respect to x.

    A pixel is rounded to 256 levels; one has the probability Phi((x + 1/510 - mean) / sd) - Phi((x - 1/510 - mean) / sd), of
    the outer two all beyond, and never less than 1e-12.
    """
    log_p, by_mean, by_log_sd = (np.empty(mean.shape, mean.dtype) for _ in range(3))
    _level_log_probability(*(a.reshape(-1) for a in (x, mean, log_sd, log_p, by_mean, by_log_sd)))
    tape.update(slopes=(by_mean, by_log_sd))
    return log_p.sum(axis=1)


@kernel()
def _level_log_probability(x, mean, log_sd, log_p, by_mean, by_log_sd):
    """log p of each pixel and its derivatives; all [n]."""
    for i in range(len(x)):
        level, inverse = math.floor(255 * x[i] + 0.5), math.exp(-log_sd[i])
        a, b = (level / 255 - HALF_LEVEL - mean[i]) * inverse, (level / 255 + HALF_LEVEL - mean[i]) * inverse
        at_a = math.exp(-0.5 * a * a) / ROOT_2_PI if level > 0 else 0.0
        at_b = math.exp(-0.5 * b * b) / ROOT_2_PI if level < 255 else 0.0
        if level <= 0:
            p = _tail(-b, at_b)
        elif level >= 255:
            p = _tail(a, at_a)
        elif a > 0:  # a difference of small numbers loses nothing
            p = _tail(a, at_a) - _tail(b, at_b)
        else:
            p = _tail(-b, at_b) - _tail(-a, at_a)
        log_p[i] = math.log(max(p, FLOOR))
        over = 1 / p if p > FLOOR else 0.0
        by_mean[i] = (at_a - at_b) * over * inverse
        by_log_sd[i] = (a * at_a - b * at_b) * over


@kernel()
def _tail(t, density):
    """1 - Phi(t), given phi(t): Mills' ratio R by Taylor's series about the nearest of RATIOS, R' being t R - 1; error 1e-10.

    libm's erfc called from a loop like the above takes up to 300 ns, this 5.
    """
    size = min(abs(t), TAIL)
    nearest = int(size * GRID + 0.5)
    t0, ratio = nearest / GRID, RATIOS[nearest]
    first = t0 * ratio - 1
    second = ratio + t0 * first
    third = 2 * first + t0 * second
    d = size - t0
    beyond = density * (ratio + d * (first + d * (second / 2 + d * third / 6)))
    return beyond if t >= 0 else 1 - beyond
