"""What a few-shot score (D11) is made of besides the rule: settings, checks, random streams, summaries, tables."""
import os
from typing import NamedTuple

import numpy as np

from ops.rule.activations import activation_named
from ops.scoring.baselines import baseline_named, method_label
from ops.errors import InputError
from ops.scoring.few_shot import check_ways, mean_and_sem
from ops.tasks import require_shots
from ops.rule.theta_file import theta_dims

HIDDEN_AND_OUTPUT = (128, 128, 128, 128, 32)  # the paper's evaluation network (Fig. 4)
CURVE_POINTS = 10
LARGEST_INPUT = 1e12
PHI, BATCHES, REFERENCE, DRAWS, TEST = range(5)  # what a random stream is for


class ScoreSettings(NamedTuple):
    """How a theta is scored; lr and norm_eps are what it was meta-trained with.

    ways: classes a draw is made of, drawn anew for each; None, or as many as there are: all.
    test_images: about how many test images a draw is scored on, see `limit_test`; None: all.
    """
    lr: float = 3e-4
    norm_eps: float = 1.0
    inner_steps: int = 200
    shots: int = 10
    draws: int = 20
    seeds: int = 3
    seed: int = 0
    batch_reference: int = 2000
    baselines: tuple = ("raw", "pca")
    activation: str = "relu"
    ways: int | None = None
    test_images: int | None = None

    def stream(self, *key):
        """The random generator of one purpose: PHI, BATCHES, ..., then a seed's number where each has its own."""
        return np.random.default_rng([self.seed, *key])


class LearnedRule(NamedTuple):
    """A theta to be compared: its name, where it is from, and what it was meta-trained with."""
    name: str
    theta: dict
    source: str
    lr: float
    norm_eps: float


def curve_steps(inner_steps, points=CURVE_POINTS):
    """Inner steps to measure at: 0, ..., inner_steps, denser where the rule moves fastest, the beginning."""
    return sorted({round(inner_steps * (i / points) ** 2) for i in range(points + 1)})


def ways_of(dataset, settings):
    """Number of classes in a draw of this data set."""
    return min(settings.ways or len(dataset.classes), len(dataset.classes))


def limit_test(dataset, settings):
    """The data set with fewer test images: about settings.test_images of the classes of one draw.

    Each class keeps the same share of its test images, rounded up, drawn at random once, so every
    draw of labelled points and every method is scored on the same ones.  Were the limit for the whole
    set, not for the `ways` classes of a draw, next to nothing of each of hundreds of classes would stay.
    """
    of_all = len(dataset.classes) / ways_of(dataset, settings)
    share = (settings.test_images or np.inf) * of_all / len(dataset.x_test)
    if share >= 1:
        return dataset
    rng = settings.stream(TEST)
    rows = [rng.permutation(np.flatnonzero(dataset.y_test == c)) for c in range(len(dataset.classes))]
    rows = np.sort(np.concatenate([r[:int(np.ceil(share * len(r)))] for r in rows]))
    return dataset._replace(x_test=dataset.x_test[rows], y_test=dataset.y_test[rows])


def summary(accuracies):
    """{"mean", "sem", "n"} of accuracies [seeds, draws], JSON-ready: no standard error is None, not NaN."""
    mean, sem, n = mean_and_sem(accuracies)
    return {"mean": mean, "sem": sem if np.isfinite(sem) else None, "n": n}


def check_score(theta, dataset, sizes, settings, source="theta"):
    """Raise InputError unless data set, base model, theta and settings fit together; nothing is computed yet."""
    features, n = dataset.x_train.shape[1], len(dataset.x_train)
    if sizes[0] != features:
        raise InputError(f"sizes start with {sizes[0]}, but data '{dataset.name}' has {features} features; "
                         f"start --sizes with {features} or leave it out")
    largest = np.max([bound for x in (dataset.x_train, dataset.x_test) for bound in (x.max(), -x.min())])
    if not largest < LARGEST_INPUT:
        raise InputError(f"data '{dataset.name}' reaches {largest:.1g}, whose squares overflow float32; "
                         "scale the data to about 1")
    B = theta_dims(theta)["batch_size"]
    if n < B:
        raise InputError(f"{source} needs batches of {B}, but data '{dataset.name}' has only {n} training examples; "
                         "give more data or a theta of a smaller batch size")
    for name in ("shots", "draws", "seeds", "test_images"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; ask for 1 or more")
    for name in ("inner_steps", "seed"):
        if getattr(settings, name) < 0:
            raise InputError(f"{name} is {getattr(settings, name)}; ask for 0 or more")
    if settings.batch_reference < 2:
        raise InputError(f"batch_reference is {settings.batch_reference}; statistics need 2 examples or more")
    check_ways(settings.ways)
    activation_named(settings.activation)
    for name in settings.baselines:
        baseline_named(name)
    require_shots(dataset, settings.shots)


# --- Tables -------------------------------------------------------------------------------------


def print_table(results, stream):
    """Print results of `score_report` that share their settings: a row per method, a column per data set."""
    first = results[0]
    print(protocol(first, first["sizes"]), file=stream)
    methods = list(dict.fromkeys(row["method"] for result in results for row in result["rows"]))
    titles = [os.path.basename(result["data"]) for result in results]
    widths = [max(len(title), len("0.000 +- 0.000")) for title in titles]
    line = lambda label, cells: f"{label:<26}" + "".join(f"  {c:<{w}}" for c, w in zip(cells, widths))
    print(line("", titles).rstrip(), file=stream)
    for method in methods:
        found = [next((r for r in result["rows"] if r["method"] == method), None) for result in results]
        print(line(method_label(method), [cell(row) for row in found]).rstrip(), file=stream)


def protocol(settings, sizes):
    """A table's first line: how the numbers were measured, from {field of ScoreSettings: value}."""
    network = "-".join(map(str, sizes[1:]))
    ways = "" if settings["ways"] is None else f"at most {settings['ways']} classes a draw, "
    return (f"few-shot accuracy, mean +- standard error: {settings['shots']} labelled examples per class, {ways}"
            f"{settings['draws']} draws, {settings['seeds']} seeds of phi, {settings['inner_steps']} inner steps, "
            f"base model inputs-{network}")


def cell(row):
    """A result row {"mean", "sem"} as text, "-" where there is none."""
    if row is None:
        return "-"
    if row["mean"] is None:
        return "failed"
    return f"{row['mean']:.3f}" + ("" if row["sem"] is None else f" +- {row['sem']:.3f}")


def row_label(row):
    """The name of a result row in tables and pictures; learned rules that are compared have names of their own."""
    return method_label(row["method"]) + (f", {row['theta']}" if "theta" in row else "")
