"""How many labelled and unlabelled examples it takes, and how many classes it can tell apart: accuracy of every method."""
import dataclasses
import os
import textwrap
from dataclasses import dataclass

import numpy as np

from figures.comparison import TITLES, legend
from ops.errors import InputError
from ops.scoring import score
from ops.scoring.flags import counts, setting
from ops.scoring.methods import baselines_of, method_colour, method_label, row_name
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)
from ops.scoring.settings import DataSettings, thetas_setting
from ops.scoring.tables import cell_text, summary, table

PANELS = {"shots": "labelled examples per class", "unlabelled": "unlabelled images", "ways": "classes in a draw",
          "ways of one": "classes in a draw, 1 labelled example per class"}


@dataclass(frozen=True)
class Settings(DataSettings):
    """Thetas, the mean of which is drawn; the numbers of examples."""
    theta: tuple = thetas_setting()
    data: str = setting("mnist14", "the data set, as of `score`", metavar="NAME|PATH.npz")
    baselines: tuple = setting(("raw", "pca", "kmeans", "rectified", "vae", "supervised"), "comma separated, of those in "
                               "ops/scoring/methods, or none", parse=lambda text: text.split(","), many=True,
                               quick=("raw", "pca", "kmeans", "rectified", "supervised"))
    labels: tuple = setting((1, 2, 5, 10, 20, 50), "labelled examples per class, comma separated", parse=counts, many=True)
    images: tuple = setting((64, 250, 1000, 6000), "unlabelled images, comma separated; --shots labelled ones per class",
                            parse=counts, many=True)
    many: str = setting("omniglot", "a data set of many classes, for accuracy against their number", metavar="NAME|PATH.npz",
                        quick="letters")
    classes: tuple = setting((2, 5, 10, 20, 30), "classes in a draw from it, comma separated; --shots labelled ones per class, "
                             "and 1", parse=counts, many=True)
    test_images: int = setting(2000, "test images of a draw's classes, about, drawn at random once", low=1)
    seeds: int = setting(3, "base models", low=1, quick=1)
    vae_updates: int = setting(20_000, "updates of the VAE", low=1)
    supervised_updates: int = setting(2000, "updates of the supervised network", low=1, quick=500)


def cells(settings):
    """Every method at every number of labelled, then of unlabelled examples, then of classes.

    InputError as `score.cells`, and for more of them than there are.
    """
    rules, found = score.rules_of(settings.theta, settings.lr, settings.norm_eps), []
    steps = dict.fromkeys(("vae", "beta-vae"), [settings.vae_updates]) | {"supervised": [settings.supervised_updates]} | dict.fromkeys(
        ("hebbian", "rectified"), [settings.inner_steps])
    values = [("shots", n, settings.data, {"shots": n}) for n in sorted(settings.labels)]
    values += [("unlabelled", n, settings.data, {"unlabelled": n}) for n in sorted(settings.images)]
    values += [("ways", n, settings.many, {"ways": n}) for n in sorted(settings.classes)]
    values += [("ways of one", n, settings.many, {"ways": n, "shots": 1}) for n in sorted(settings.classes)]
    for panel, n, name, changed in values:
        of = dataclasses.replace(settings, **changed)
        data = score.data_of(name, of, absent=True)
        most = data.get("n_train", n) if panel == "unlabelled" else len(data.get("classes", [0] * n))
        if panel != "shots" and not 2 <= n <= most:
            raise InputError(f"--{'images' if panel == 'unlabelled' else 'classes'} {n}: {name} has 2 to {most}; give such numbers")
        plan = [("learned", rule._asdict(), [settings.inner_steps], name) for name, rule in rules.items()]
        plan += [(baseline, {}, steps.get(baseline), "") for baseline in baselines_of(settings.baselines)]
        for method, given, updates, label in plan:
            found += [cell | {"panel": panel, "value": n} for cell in
                      score.method_cells(data, of, method, given, updates, f"{label or method}, {n} {PANELS[panel]}")]
    return found


def numbers(settings, results):
    """{"panels": {panel: {method: [{"value", "mean", "sem", "n"}]}}, "failed": [lines]}, "data", "shots", "draws" and others."""
    found, failed = {panel: {} for panel in PANELS}, {}
    for cell, values, error in score.gathered(results):
        if error:
            failed[error if "classes" not in cell["data"] else f"{cell['label']}: {error}"] = None
            continue
        at = found[cell["panel"]].setdefault(row_name(cell["method"], cell["data"]), {})
        at.setdefault(cell["value"], []).append(values[0, ..., 0])
    curves = {panel: {method: [{"value": value} | summary(np.concatenate(of)) for value, of in at.items()]
                      for method, at in methods.items()} for panel, methods in found.items()}
    return {"panels": curves, "failed": list(failed), "thetas": len(settings.theta)} | {
        name: getattr(settings, name) for name in ("data", "many", "shots", "draws", "seeds", "inner_steps")}


def words(numbers):
    """A table for each of PANELS."""
    lines = []
    for panel, text in PANELS.items():
        values = sorted({point["value"] for curve in numbers["panels"][panel].values() for point in curve})
        lines += [f"{_data(numbers, panel)}: accuracy against {text}", table(list(map(str, values)), {
            method_label(method): [next((cell_text(p) for p in curve if p["value"] == value), "-") for value in values]
            for method, curve in numbers["panels"][panel].items()})]
    return "\n".join(lines + numbers["failed"])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: a panel for each of PANELS, a line a method."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(11.0, 7.4), dpi=120, layout="constrained")
    for axes, (panel, text) in zip(figure.subplots(2, 2, sharey=True).flat, PANELS.items()):
        for method, curve in numbers["panels"][panel].items():
            axes.errorbar([p["value"] for p in curve], [p["mean"] for p in curve], [p["sem"] or 0 for p in curve],
                          color=method_colour(method), marker="o", markersize=4, capsize=2, elinewidth=1,
                          linewidth=2.2 if method == "learned" else 1.3, label=method_label(method))
        values = sorted({p["value"] for curve in numbers["panels"][panel].values() for p in curve})
        if panel.startswith("ways"):
            axes.plot(values, [1 / n for n in values], ":", color="black", label="chance")
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.minorticks_off()
        axes.set_xlabel(text + f", {numbers['shots']} labelled examples per class" * (panel in ("unlabelled", "ways")))
        axes.set_title(TITLES.get(_data(numbers, panel), _data(numbers, panel)).replace("\n", " "), fontsize=9.5)
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        if not values:
            axes.text(0.5, 0.5, textwrap.fill("; ".join(numbers["failed"]), 50), transform=axes.transAxes, ha="center", fontsize=7)
    figure.supylabel("accuracy")
    figure.suptitle(f"mean and standard error; thetas: {numbers['thetas']}, base models: {numbers['seeds']}, draws: "
                    f"{numbers['draws']}; {numbers['inner_steps']} inner steps", fontsize=8.5)
    legend(figure, 4, fontsize=8.5)
    return figure


def _data(numbers, panel):
    return os.path.basename(numbers["many" if panel.startswith("ways") else "data"])
