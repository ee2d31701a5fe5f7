"""Few-shot accuracy on data sets never meta-trained on, the rule beside what the paper compares it with (Fig. 4 left)."""
import textwrap
from dataclasses import dataclass

import numpy as np

from figures import comparison
from figures.comparison import TITLES, dress_accuracies
from ops.scoring import score
from ops.scoring.flags import setting
from ops.scoring.methods import method_colour, method_label, row_name
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)
from ops.scoring.settings import HIDDEN_AND_OUTPUT, DataSettings, thetas_setting
from ops.scoring.tables import columns_of, difference, protocol, summaries, table

BARS = ("random", "vae", "supervised", "learned")  # the paper's; the others are thin marks
WIDTH = 0.2  # of a bar


@dataclass(frozen=True)
class Settings(DataSettings):
    """Thetas of several meta-seeds, drawn as one method; updates of each trained baseline."""
    theta: tuple = thetas_setting()
    data: tuple = setting(("mnist14", "fashion14", "mnist28", "fashion28"), "data sets, comma separated or repeated",
                          parse=lambda text: text.split(","), many=True, quick=("mnist14", "fashion14"), metavar="NAME")
    baselines: tuple = setting(("vae", "supervised", "raw", "pca", "kmeans", "hebbian", "rectified"),
                               "comma separated, of those in ops/scoring/methods, or none",
                               parse=lambda text: tuple(text.split(",")))
    draws: int = setting(20, "draws of labelled examples", low=1, quick=5)
    seeds: int = setting(3, "base models", low=1, quick=1)
    tuned_ridge: bool = setting(True, "a second column, the ridge of each readout tuned")
    vae_updates: int = setting(100_000, "updates of the VAE, as the paper has it", low=1, quick=4000)
    supervised_updates: int = setting(10_000, "updates of the supervised network, as the paper has it", low=1,
                                      quick=1000)


def cells(settings):
    """As `comparison.cells`."""
    return comparison.cells(settings, {"vae": settings.vae_updates, "supervised": settings.supervised_updates})


def numbers(settings, results):
    """{"groups": [...]}, one for each data set; beside them shots, ways, draws, seeds, inner_steps.

    A group: "title", "methods" {name: {"mean", "sem", "n", "tuned": {...}}}, that of "learned" with the phis of all thetas
    as seeds, and "thetas" {label: the same of each alone}; "claim" {other of the paper's bars: {"difference", "sem",
    "holds"}}, over common draws; or "title" and "error".
    """
    groups, values = {}, {}
    for cell, accuracies, error in score.gathered(results):
        name, method = cell["data"]["data"], cell["method"]
        group = groups.setdefault(name, {"title": TITLES.get(name, name), "methods": {}, "thetas": {}})
        if error:
            group["error"] = group.get("error", error)
            continue
        found = values.setdefault(name, {}).setdefault(method, [])
        found.append(accuracies[-1])
        if method == "learned":
            group["thetas"][cell["label"]] = summaries(accuracies[-1])
        group["methods"][row_name(method, cell["data"])] = summaries(np.concatenate(found))
    for name, of in values.items():
        if "learned" in of and "error" not in groups[name]:
            groups[name]["claim"] = {other: difference([(rule[..., 0], of[other][0][..., 0]) for rule in of["learned"]])
                                     for other in BARS[:-1] if other in of}
    return {"groups": list(groups.values())} | {
        name: getattr(settings, name) for name in ("shots", "ways", "draws", "seeds", "inner_steps")}


def words(numbers):
    """The numbers as a table; below, the paper's claim for each data set."""
    groups = [g for g in numbers["groups"] if g["methods"]]
    labels, columns = dict.fromkeys(m for g in groups for m in g["methods"]), {}
    for g in groups:
        columns |= columns_of(g["title"].replace("\n", " "), g["methods"])
    lines = [f"{g['title']}: ".replace("\n", " ") + ", ".join(
        f"{'above' if c['holds'] else 'NOT above'} {method_label(other)} ({c['difference']:+.3f})"
        for other, c in g["claim"].items()) for g in groups if "claim" in g]
    return "\n".join([protocol(numbers, (None, *HIDDEN_AND_OUTPUT)), table(list(columns), {
        method_label(m): [column.get(m, "-") for column in columns.values()] for m in labels}), *lines])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure; needs no display.  Bars are one standard error."""
    from matplotlib.figure import Figure
    groups = numbers["groups"]
    figure = Figure(figsize=(max(7.6, 2.0 + 2.1 * len(groups)), 4.8), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, group in enumerate(groups):
        if "error" in group:
            axes.text(number, 0.5, textwrap.fill(group["error"], 26), ha="center", va="center", fontsize=7)
        for i, method in enumerate(BARS):
            if method in group["methods"]:
                _bar(axes, number + (i - 1.5) * WIDTH, method, group)
        others = [m for m in group["methods"] if m not in BARS]
        for i, method in enumerate(others):
            x, found = number + (i + 0.5) * 4 * WIDTH / len(others) - 2 * WIDTH, group["methods"][method]
            axes.plot([x], [found["mean"]], "D", markersize=4, color=method_colour(method), markeredgecolor="white",
                      label=method_label(method))
            _tuned(axes, x, found, method_colour(method))
    axes.plot([], [], "_", color="black", markersize=9, markeredgewidth=1.6, label="the same, its ridge tuned")
    axes.set_xticks(range(len(groups)), [g["title"] for g in groups])
    axes.set_title(f"{numbers['inner_steps']} updates by the rule, of {max(len(g['thetas']) for g in groups)} meta-seeds "
                   f"(dots); one standard error; base models: {numbers['seeds']}, draws: {numbers['draws']}", fontsize=8)
    dress_accuracies(figure, axes, numbers["shots"], 0.9, columns=3)
    return figure


def _bar(axes, x, method, group):
    found = group["methods"][method]
    axes.bar(x, found["mean"], WIDTH * 0.92, color=method_colour(method), alpha=0.85, yerr=found["sem"] or 0,
             error_kw={"elinewidth": 1, "capsize": 2}, label=method_label(method))
    _tuned(axes, x, found, "black")
    if method == "learned":
        for i, theta in enumerate(group["thetas"].values()):
            axes.plot(x + (i + 1) * WIDTH / (len(group["thetas"]) + 1) - WIDTH / 2, theta["mean"], "o", markersize=3,
                      color="white", markeredgecolor="black", markeredgewidth=0.7)


def _tuned(axes, x, found, colour):
    if "tuned" in found:
        axes.plot(x, found["tuned"]["mean"], "_", color=colour, markersize=9, markeredgewidth=1.6)
