"""What can be scored: ways to make features, each with the same few-shot readout (D11).

A method is a NamedTuple of what it needs, and has

    curve(dataset, sizes, settings, steps, seeds) -> accuracies [points, seeds, draws, readouts]

after each of `steps` (rising) updates of its own kind, for the base models numbered `seeds`.  A method
that is not trained gives one point, one with nothing random about its features one seed (`seeded` False).
All methods, seeds and steps share the reference batch and the draws of labelled points, which depend on
settings.seed alone, and so can be compared draw by draw.  All of dataset's test images are used.
There is a single readout, whose ridge is the paper's, or a second one whose ridge is tuned (settings.tuned_ridge).
"""
from typing import NamedTuple

import numpy as np

import unsup_meta as um
from ops.errors import InputError
from ops.rule.theta_file import load_settings, theta_dims
from ops.scoring.few_shot import RIDGE, few_shot_accuracy, tuned_ridge
from ops.scoring.settings import BATCHES, DRAWS, PHI, REFERENCE, TUNING

COMPONENTS = 32  # as many as the base model has outputs
PAPER = {"lr": 3e-4, "norm_eps": 1.0}  # of a theta whose file does not say


# --- Features of the base model -----------------------------------------------------------------


class RandomStart(NamedTuple):
    """The base model before any update."""
    dtype: str = "float32"
    seeded = True

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[1, seeds, draws, readouts]."""
        dataset = _as(dataset, self.dtype)
        phis = (_start(settings, k, sizes, self.dtype) for k in seeds)
        return np.stack([feature_accuracy(phi, dataset, settings) for phi in phis])[None]


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
            phi, rng = _start(settings, k, sizes, dtype), settings.stream(BATCHES, k)
            for row, before, step in zip(values, (0, *steps), steps):
                phi = self.apply(phi, dataset.x_train, range(before, step), rng, settings.activation)
                row.append(feature_accuracy(phi, dataset, settings))
        return np.array(values)

    def apply(self, phi, x_train, steps, rng, activation="relu"):
        """The base model after unsupervised updates `steps`, a range (App.1-7), on batches from x_train.

        phi a list of `Layer`, x_train [n, N0], of theta's dtype; each batch is B different rows drawn from `rng`,
        where n < B all rows, in a random order over and over.
        Raises InputError if theta, phi and x_train do not fit, or once phi is not finite.
        """
        n, B = len(x_train), theta_dims(self.theta)["batch_size"]
        for t in steps:
            rows = rng.choice(n, B, replace=False) if n >= B else np.resize(rng.permutation(n), B)
            phi = um.unsupervised_update(phi, x_train[rows], self.theta, self.lr, self.norm_eps, activation)
            if not all(np.isfinite(array).all() for layer in phi for array in layer):
                raise InputError(
                    f"{self.source}: the base model is NaN or infinite after inner step {t + 1} (lr {self.lr:g}, "
                    f"norm_eps {self.norm_eps:g}); lower --lr, scale the data or use another theta")
        return phi


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


def feature_accuracy(phi, dataset, settings):
    """Accuracies [draws, readouts] of phi's features (D11); phi and dataset of one dtype.  InputError as `scored`."""
    n_reference = min(settings.batch_reference, len(dataset.x_train))
    rows = settings.stream(REFERENCE).choice(len(dataset.x_train), n_reference, replace=False)
    reference = dataset.x_train[rows]
    train, test = (um.features(phi, x, reference, settings.activation) for x in (dataset.x_train, dataset.x_test))
    return scored(train, test, dataset, settings)


def scored(train, test, dataset, settings):
    """Accuracies [draws, readouts] of features train [n, F], test [m, F] of the data set's examples.

    Raises InputError as `few_shot_accuracy` and `tuned_ridge`.
    """
    of = lambda ridge: few_shot_accuracy(train, dataset.y_train, test, dataset.y_test, settings.shots, settings.draws,
                                         settings.stream(DRAWS), ridge, settings.ways)
    found = [of(RIDGE)]
    if settings.tuned_ridge:
        found.append(of(tuned_ridge(train, dataset.y_train, settings.shots, settings.stream(TUNING), settings.ways)))
    return np.stack(found, axis=-1)


# --- What no rule has made ----------------------------------------------------------------------


class RawInputs(NamedTuple):
    """The inputs themselves."""
    seeded = False

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[1, 1, draws, readouts]."""
        return scored(dataset.x_train, dataset.x_test, dataset, settings)[None, None]


class Components(NamedTuple):
    """The 32 leading principal components; with fewer features or training points, as many as there are."""
    seeded = False

    def curve(self, dataset, sizes, settings, steps, seeds):
        """[1, 1, draws, readouts]."""
        train, test = project_on_components(dataset.x_train, dataset.x_test, COMPONENTS)
        return scored(train, test, dataset, settings)[None, None]


def project_on_components(x_train, x_test, count):
    """Plain projections, not whitened, on the `count` leading eigenvectors of the training split's covariance.

    x_train [n, N0], x_test [m, N0] -> [n, k], [m, k] float32, k = min(count, N0, n).  No label is used.
    """
    mean = x_train.mean(axis=0, dtype=np.float64)
    centred = x_train - mean
    _, vectors = np.linalg.eigh(centred.T @ centred / len(x_train))  # eigenvalues rising
    leading = vectors[:, ::-1][:, :min(count, len(x_train))]
    return (centred @ leading).astype(np.float32), ((x_test - mean) @ leading).astype(np.float32)


# --- Their names --------------------------------------------------------------------------------

METHODS = {"random": RandomStart, "learned": Learned, "raw": RawInputs, "pca": Components}
BASELINES = ("raw", "pca")  # what --baselines takes


def baselines_of(names):
    """The baselines asked for, none for ("none",); raises InputError for an unknown one."""
    for name in names:
        if name not in (*BASELINES, "none"):
            raise InputError(f"unknown baseline '{name}'; choose from {', '.join(BASELINES)}, or 'none'")
    return [name for name in names if name != "none"]


def row_name(method, data):
    """A method's name in JSON; that of components tells how many there are: "pca32".  data as of `score.data_of`."""
    return f"pca{min(COMPONENTS, data['sizes'][0], data['n_train'])}" if method == "pca" else method


def method_label(method):
    """A method's name in JSON -> its name in tables and pictures: "pca32" -> "32 principal components"."""
    if method.startswith("pca"):
        return f"{method[len('pca'):]} principal components"
    return {"random": "random start", "learned": "learned rule", "raw": "raw inputs"}.get(method, method)
