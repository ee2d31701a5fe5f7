"""Does the validation suite tell good thetas from bad ones?  How each of its sets ranks thetas, against the others' mean.

Give 20 thetas or more, of several runs.  How they rank on training images of MNIST and Fashion-MNIST is drawn beside it,
to be seen: no theta and no set is chosen by it.
"""
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figures.training_curves import labels
from ops.errors import InputError
from ops.scoring.flags import one, setting
from ops.scoring.methods import open_rule
from ops.scoring.on_suite import SHOWN, SuiteSettings, measure, suite_cells, suite_numbers  # noqa: F401
from ops.scoring.tables import table
from ops.tasks.measure import HIDDEN

TIMES = (100, 300)
FEWEST = 3
SUITE = "the suite's mean"


@dataclass(frozen=True)
class Settings(SuiteSettings):
    """The thetas to rank."""
    thetas: tuple = setting((), "theta files of several runs; else all that --snapshot-steps left in runs/", parse=one,
                            positional=True, metavar="PATH")


def cells(settings):
    """Every theta on every task, as a validation in training does.  InputError for fewer than FEWEST thetas."""
    paths = list(dict.fromkeys(map(Path, settings.thetas or sorted(Path("runs").glob("*/thetas/*.npz")))))
    if len(paths) < FEWEST:
        raise InputError(f"{len(paths)} thetas cannot be ranked; give the paths of {FEWEST} or more, best of 20 or more")
    folder = lambda path: str(path.parent.parent if path.parent.name == "thetas" else path.parent)
    folders = list(dict.fromkeys(map(folder, paths)))
    run = dict(zip(folders, labels(folders)))
    rules = {f"{run[folder(path)]}/{path.stem}": open_rule(path) for path in paths}
    return suite_cells(settings, rules, TIMES, {"validation": HIDDEN})


def numbers(settings, results):
    """{"thetas": [n labels], "accuracy": {set: [n]}, "ranks": {set: {with what: correlations}}, "missing": [lines]}

    Accuracies are means over tasks and TIMES.  A set of the suite is compared with the mean of the suite's others, and,
    to be seen, with each of SHOWN; these and SUITE stand for themselves too.
    """
    sets, missing = suite_numbers(results)
    accuracy = {name: {curve["label"]: float(np.mean(curve["accuracy"])) for curve in found["curves"]}
                for name, found in sets.items()}
    thetas = [label for label in next(iter(accuracy.values())) if all(label in of for of in accuracy.values())]
    accuracy = {name: [of[label] for label in thetas] for name, of in accuracy.items()}
    suite, shown = ([name for name in accuracy if (name in SHOWN) == yes] for yes in (False, True))
    mean = lambda names: np.mean([accuracy[name] for name in names], axis=0).tolist()
    ranks = {}
    for name in suite:
        others = {"others": mean([other for other in suite if other != name])} if len(suite) > 1 else {}
        ranks[name] = {what: correlations(accuracy[name], of)
                       for what, of in (others | {name: accuracy[name] for name in shown}).items()}
    if suite:
        ranks[SUITE] = {name: correlations(mean(suite), accuracy[name]) for name in shown}
    return {"thetas": thetas, "accuracy": accuracy, "ranks": ranks, "missing": missing}


def correlations(a, b):
    """{"spearman", "kendall"} rank correlations (tau-b) of a and b [n]; None where all of one are equal."""
    a, b = (np.sign(np.subtract.outer(v, v)) for v in (a, b))  # [n, n]; the row sums are ranks, about 0
    agree = lambda p, q: float((p * q).sum() / np.sqrt((p * p).sum() * (q * q).sum())) if p.any() and q.any() else None
    return {"spearman": agree(a.sum(axis=1), b.sum(axis=1)), "kendall": agree(a, b)}


def words(numbers):
    """Spearman and Kendall correlations as a table; what is missing."""
    titles = list(dict.fromkeys(what for of in numbers["ranks"].values() for what in of))
    return "\n".join([f"rank correlations, Spearman's and Kendall's, over {len(numbers['thetas'])} thetas (those with "
                      f"{', '.join(SHOWN)} are to be seen, never to choose by)",
                      table(titles, {name: [_text(of.get(what)) for what in titles]
                                     for name, of in numbers["ranks"].items()}), *numbers["missing"]])


def _text(found):
    return "-" if found is None else "  ".join("none" if v is None else f"{v:+.2f}" for v in found.values())


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: of each set a panel, a dot a theta, against the others' mean."""
    from matplotlib.figure import Figure
    accuracy, thetas = numbers["accuracy"], numbers["thetas"]
    columns, rows = min(len(accuracy), 4), -(-len(accuracy) // 4)
    figure = Figure(figsize=(0.6 + 2.8 * columns, 0.6 + 2.9 * rows), dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(accuracy):]:
        axes.set_visible(False)
    runs = list(dict.fromkeys(str(Path(theta).parent) for theta in thetas))
    colors = [f"C{runs.index(str(Path(theta).parent)) % 10}" for theta in thetas]
    for axes, (name, own) in zip(panels.flat, accuracy.items()):
        others = [of for other, of in accuracy.items() if other != name and other not in SHOWN]
        if not others:
            axes.set_visible(False)
            continue
        found = correlations(own, np.mean(others, axis=0))
        axes.scatter(np.mean(others, axis=0), own, c=colors, s=16)
        seen = ", training split: to be seen" * (name in SHOWN)
        axes.set_title(f"{name}{seen}\nSpearman, Kendall {_text(found)}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.supxlabel(f"mean accuracy on the suite's other sets ({len(thetas)} thetas, a colour a run)", fontsize=9)
    figure.supylabel("accuracy on the set", fontsize=9)
    return figure
