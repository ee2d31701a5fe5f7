"""How well a theta does on a task of the validation suite: J and few-shot accuracy (D11), beside principal components.

`suite_scores` scores a theta on the whole suite.
"""
from typing import NamedTuple

import numpy as np

import unsup_meta as um
from ops.rule.theta_file import theta_dims
from ops.tasks.suite import SETS, SHOTS, open_suite, sets_of, suite_stream, suite_task
from ops.tasks.task import Task

DRAWS, TEST_PARTS = 16, 4  # of labelled points, SHOTS a class; so many times SHOTS test points a class, at most
REFERENCE = 1000  # unlabelled points whose batch-norm statistics are kept (D11), and whose components are taken
COMPONENTS = 32
RIDGES = 10.0 ** np.arange(-2, 5)  # that the readout of components is tuned over
HIDDEN = ((128,) * 4, (64,) * 2, (32,) * 3)  # layers of base models, in turn over sets and tasks
POINTS, PHI = 1, 2  # random streams


class Problem(NamedTuple):
    """A task of the suite and all that is drawn of it once.

    sizes         [N^0, ..., N^L] of the base model
    xa, ya        [draws, SHOTS*classes, .], what a draw's readout is fitted on; y one-hot
    xb, yb        [draws, test points, .], what it is tested on: other images of the same classes
    reference     [REFERENCE, N0]
    """
    name: str
    index: int
    task: Task
    sizes: list
    xa: np.ndarray
    ya: np.ndarray
    xb: np.ndarray
    yb: np.ndarray
    reference: np.ndarray


def problem(name, index, pools, hidden=HIDDEN, embedding=32):
    """The Problem of task `index` of a set, always the same; pools as of `open_suite`."""
    task, rng = suite_task(name, index, pools), suite_stream(name, index, POINTS)
    parts = int(np.clip(task.counts.min() // SHOTS, 2, 1 + TEST_PARTS))
    (xa, *xb), (ya, *yb) = task.labelled_parts(rng, SHOTS, DRAWS, parts)
    sizes = [task.features, *hidden[(list(SETS).index(name) + index) % len(hidden)], embedding]
    return Problem(name, index, task, sizes, xa, ya, np.concatenate(xb, axis=1), np.concatenate(yb, axis=1),
                   task.unlabelled(rng, REFERENCE))


def measure(theta, problem, times, lr, norm_eps, ridge=0.1, cosine=True, update=None):
    """[(J, accuracy)] of a fresh phi after each of `times` (rising) updates by theta; lr, norm_eps as `um.meta_gradient`.

    phi's start and its unlabelled batches are the same for every theta.  (nan, 0.0) once phi is not finite.
    update(phi, x) -> phi, where it is not `um.unsupervised_update`.
    """
    update = update or (lambda phi, x: um.unsupervised_update(phi, x, theta, lr, norm_eps))
    B, dtype = theta_dims(theta)["batch_size"], theta["merge"].dtype
    rng, found = suite_stream(problem.name, problem.index, PHI), []
    phi = um.init_phi(rng, problem.sizes, dtype)
    for before, time in zip((0, *times), times):
        for _ in range(before, time):
            x = problem.task.unlabelled(rng, B).astype(dtype, copy=False)
            phi = update(phi, x)
        finite = all(np.isfinite(array).all() for layer in phi for array in layer)
        features = lambda x: um.features(phi, x.astype(dtype, copy=False), problem.reference.astype(dtype, copy=False))
        found.append(score(problem, features, ridge, cosine) if finite else (np.nan, 0.0))
    return found


def score(problem, features, ridge, cosine=True):
    """(J, accuracy) of features(x [n, N0]) -> [n, F]: the meta-objective's readout (App.20-26) of every draw."""
    fa, fb = _per_draw(features, problem.xa), _per_draw(features, problem.xb)
    ya, yb = (um.normalise_targets(y).astype(fa.dtype) for y in (problem.ya, problem.yb))
    p = np.matmul(um.with_ones(fb), um.solve_ridge(um.with_ones(fa), ya, ridge))
    return float(um.prediction_error(p, yb, cosine)), um.accuracy(p, problem.yb)


def components_accuracy(problem):
    """Accuracy of the COMPONENTS leading principal components of the reference points, their readout's ridge tuned."""
    features = components(problem)
    return score(problem, features, tuned_ridge(problem, features))[1]


def components(problem):
    """features(x [n, N0]) -> [n, COMPONENTS at most]: projections of the reference's covariance, not whitened."""
    mean = problem.reference.mean(axis=0, dtype=np.float64)
    centred = problem.reference - mean
    leading = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :COMPONENTS]  # eigenvalues rising
    return lambda x: (x - mean) @ leading


def tuned_ridge(problem, features):
    """The one of RIDGES with which labelled points are predicted best, each of a draw from its others (App.20-23).

    So no test point is used.  A readout predicts H y of its own points, H = A (A'A + r I)^-1 A', and would predict
    (H y - h y) / (1 - h) of a point, h being its entry on H's diagonal, had it been left out.
    """
    A = um.with_ones(_per_draw(features, problem.xa)).astype(np.float64)
    y = um.normalise_targets(problem.ya).astype(np.float64)
    values, vectors = np.linalg.eigh(np.matmul(A, A.swapaxes(1, 2)))
    right = []
    for ridge in RIDGES:
        kept = np.maximum(values, 0) / (np.maximum(values, 0) + ridge)
        h = np.sum(vectors ** 2 * kept[:, None], axis=2, keepdims=True)
        Hy = np.matmul(vectors, kept[..., None] * np.matmul(vectors.swapaxes(1, 2), y))
        right.append(um.accuracy((Hy - h * y) / (1 - h), problem.ya))
    return RIDGES[int(np.argmax(right))]


def _per_draw(features, x):
    """Features [draws, n, F] of x [draws, n, N0]."""
    return features(x.reshape(-1, x.shape[-1])).reshape(x.shape[:2] + (-1,))


def suite_scores(theta, lr, norm_eps, sets=tuple(SETS), tasks=2, times=(100, 300), folder=None, update=None):
    """Score theta {name: array} on `tasks` tasks of each set: {set: as `gathered`}, and "score" with its mean.

    lr, norm_eps  of the inner loop that theta was trained with
    sets          names among SETS; those that this machine lacks are left out
    times         updates after which is measured, rising
    folder        of data sets, as --data-dir
    update        as of `measure`
    """
    pools, _ = open_suite(folder, sets)
    found = {}
    for name in sets_of(pools):
        problems = [problem(name, index, pools) for index in range(tasks)]
        found[name] = gathered([measure(theta, p, times, lr, norm_eps, update=update) for p in problems],
                               [components_accuracy(p) for p in problems])
    return {"score": suite_score(found), "sets": found}


def gathered(measured, baselines):
    """{"J", "accuracy", "margin": a list over times, "components": accuracy} of a set's tasks, averaged.

    measured: what `measure` gave for each; baselines: `components_accuracy` of each.  margin = accuracy - components.
    """
    J, accuracy = np.mean(measured, axis=0).T
    components = float(np.mean(baselines))
    return {"J": J.tolist(), "accuracy": accuracy.tolist(), "margin": (accuracy - components).tolist(),
            "components": components}


def suite_score(sets):
    """The score of a theta, that the best is chosen by: the margin averaged over times, then over sets."""
    return float(np.mean([np.mean(found["margin"]) for found in sets.values()]))
