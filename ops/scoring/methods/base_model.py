"""The base model as it starts and after updates by a rule (App.1-7), its features scored (D11)."""
from typing import NamedTuple

import numpy as np

import unsup_meta as um
from ops.errors import InputError
from ops.rule.theta_file import load_settings, theta_dims
from ops.scoring.methods.network import batch_rows
from ops.scoring.methods.readout import reference_batch, scored, seen
from ops.scoring.settings import BATCHES, ORDER, PHI

PAPER = {"lr": 3e-4, "norm_eps": 1.0}  # of a theta whose file does not say


class RandomStart(NamedTuple):
    """The base model before any update."""
    dtype: str = "float32"
    seeded = True

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[1, seeds, draws, readouts]."""
        dataset = _as(dataset, self.dtype)
        return np.stack([feature_accuracy(_start(settings, k, sizes, self.dtype), ordered(dataset, settings, k), settings)
                         for k in seeds])[None]


class Learned(NamedTuple):
    """The base model after updates by theta, with the lr and norm_eps it was meta-trained with; `source` names it."""
    theta: dict
    lr: float
    norm_eps: float
    source: str = "theta"
    seeded = True

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[points, seeds, draws, readouts]; each seed has streams of its own for its start and its batches."""
        dtype, values = self.theta["merge"].dtype, [[] for _ in steps]
        dataset = _as(dataset, dtype)
        for k in seeds:
            phi, rng, data = _start(settings, k, sizes, dtype), settings.stream(BATCHES, k), ordered(dataset, settings, k)
            unlabelled = seen(data.x_train, settings)
            for row, before, step in zip(values, (0, *steps), steps):
                for t in range(before, step):  # one by one: of a wide base model there is room for two, not for three
                    phi = self.apply(phi, unlabelled, range(t, t + 1), rng, settings.activation)
                row.append(feature_accuracy(phi, data, settings))
        return np.array(values)

    def apply(self, phi, x_train, steps, rng, activation="relu"):
        """The base model after unsupervised updates `steps`, a range (App.1-7), on batches from x_train.

        phi a list of `Layer`, x_train [n, N0], of theta's dtype; each batch is B different rows drawn from `rng`,
        where n < B all rows, in a random order over and over.
        Raises InputError if theta, phi and x_train do not fit, or once phi is not finite.
        """
        n, B = len(x_train), theta_dims(self.theta)["batch_size"]
        for t in steps:
            phi = self.update(phi, x_train[batch_rows(rng, n, B)], activation)
            if not all(np.isfinite(array).all() for layer in phi for array in layer):
                raise InputError(
                    f"{self.source}: the base model is NaN or infinite after inner step {t + 1} (lr {self.lr:g}, "
                    f"norm_eps {self.norm_eps:g}); lower --lr, scale the data or use another theta")
        return phi

    def update(self, phi, x, activation):
        """The base model after one update (App.1-7)."""
        return um.unsupervised_update(phi, x, self.theta, self.lr, self.norm_eps, activation)


def open_rule(path, lr=None, norm_eps=None):
    """The `Learned` of a theta file; lr and norm_eps win over what is in the file.  InputError as `load_theta`."""
    found = load_settings(path, PAPER)
    return Learned(um.load_theta(path), lr or found["lr"], norm_eps or found["norm_eps"], str(path))


def _start(settings, seed, sizes, dtype):
    return um.init_phi(settings.stream(PHI, seed), list(sizes), np.dtype(dtype))


def _as(dataset, dtype):
    """The data set with inputs of one dtype."""
    return dataset._replace(x_train=dataset.x_train.astype(dtype, copy=False),
                            x_test=dataset.x_test.astype(dtype, copy=False))


def ordered(dataset, settings, seed):
    """The data set with its inputs in the random order of a base model, from settings.permute; None: in their own."""
    if settings.permute is None:
        return dataset
    order = np.random.default_rng([settings.permute, ORDER, seed]).permutation(dataset.x_train.shape[1])
    return dataset._replace(x_train=dataset.x_train[:, order], x_test=dataset.x_test[:, order])


def feature_accuracy(phi, dataset, settings):
    """Accuracies [draws, readouts] of phi's features (D11); phi and dataset of one dtype.  InputError as `scored`."""
    reference = reference_batch(dataset.x_train, settings)
    train, test = (um.features(phi, x, reference, settings.activation) for x in (dataset.x_train, dataset.x_test))
    return scored(train, test, dataset, settings)
