"""What a learned rule is compared with: the same few-shot readout on features no rule has made.

A baseline is a function (dataset, shots, draws, rng, ways=None) -> (method, accuracies [seeds,
draws]), with one row where nothing about it is random but the draw of labelled points; `BASELINES`
names them for the command line.
"""
import numpy as np

from ops.errors import InputError
from ops.scoring.few_shot import few_shot_accuracy

COMPONENTS = 32  # as many as the base model has outputs


def raw_inputs(dataset, shots, draws, rng, ways=None):
    """Readout of the inputs themselves: ("raw", accuracies [1, draws]).  InputError as `few_shot_accuracy`."""
    return "raw", _scored(dataset, dataset.x_train, dataset.x_test, shots, draws, rng, ways)


def principal_components(dataset, shots, draws, rng, ways=None):
    """Readout of the 32 leading principal components: ("pca32", accuracies [1, draws]).

    With fewer features or training points than 32, as many as there are, and named so.
    InputError as `few_shot_accuracy`.
    """
    train, test = project_on_components(dataset.x_train, dataset.x_test, COMPONENTS)
    return f"pca{train.shape[1]}", _scored(dataset, train, test, shots, draws, rng, ways)


def project_on_components(x_train, x_test, count):
    """Plain projections, not whitened, on the `count` leading eigenvectors of the training split's covariance.

    x_train [n, N0], x_test [m, N0] -> [n, k], [m, k] float32, k = min(count, N0, n).  No label is used.
    """
    mean = x_train.mean(axis=0, dtype=np.float64)
    centred = x_train - mean
    _, vectors = np.linalg.eigh(centred.T @ centred / len(x_train))  # eigenvalues rising
    leading = vectors[:, ::-1][:, :min(count, len(x_train))]
    return (centred @ leading).astype(np.float32), ((x_test - mean) @ leading).astype(np.float32)


BASELINES = {"raw": raw_inputs, "pca": principal_components}


def baseline_named(name):
    """The baseline of that name; raises InputError for an unknown one."""
    if name not in BASELINES:
        raise InputError(f"unknown baseline '{name}'; choose from {', '.join(BASELINES)}, or 'none'")
    return BASELINES[name]


def method_label(method):
    """A method's name in JSON -> its name in tables and pictures: "pca32" -> "32 principal components"."""
    if method.startswith("pca"):
        return f"{method[len('pca'):]} principal components"
    return {"random": "random start", "learned": "learned rule", "raw": "raw inputs"}.get(method, method)


def _scored(dataset, train, test, shots, draws, rng, ways):
    return few_shot_accuracy(train, dataset.y_train, test, dataset.y_test, shots, draws, rng, ways=ways)[None]
