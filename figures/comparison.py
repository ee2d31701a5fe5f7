"""Few-shot accuracy of several learned rules and baselines, a column per data set (part of Fig. 4 left)."""
import os
import textwrap
from dataclasses import dataclass

import numpy as np

from ops.scoring import score
from ops.scoring.flags import setting
from ops.scoring.methods import LOOKS, baselines_of, method_colour, method_label, row_name
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)
from ops.scoring.settings import HIDDEN_AND_OUTPUT, DataSettings, thetas_setting
from ops.scoring.tables import columns_of, protocol, summaries, table

TITLES = {"mnist14": "MNIST\n14x14", "fashion14": "Fashion-MNIST\n14x14", "mnist28": "MNIST\n28x28",
          "fashion28": "Fashion-MNIST\n28x28", "mnist14full": "all of MNIST\n14x14",
          "fashion14full": "all of Fashion-\nMNIST, 14x14", "cifar10": "CIFAR-10\n16x16",
          "imagenet16-heldout": "ImageNet, held-out\nclasses, 16x16", "omniglot": "Omniglot\n28x28",
          "imdb": "IMDB\nbags of words", "moons": "two moons", "mnist3": "stacked MNIST\n28x28"}
LEARNED = (method_colour("learned"), "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's palette
LEARNED_MARKERS = "oDP*Xh"
BASELINE_MARKERS = "sv^<>p"  # hollow; shapes differ too, so colour is not needed to tell the methods apart
SPREAD = 0.62  # of a column's width, taken up by its dots


@dataclass(frozen=True)
class Settings(DataSettings):
    """Several thetas; at most ten classes a draw, and test images enough for a standard error of 0.01."""
    theta: tuple = thetas_setting()
    ways: int = setting(10, "classes in a draw, drawn anew for each, if there are more", low=2)
    test_images: int = setting(2000, "test images of a draw's classes, about, drawn at random once", low=1)


def cells(settings, updates={}):
    """Each data set's random start, baselines, then the rules.  InputError for what cannot be compared.

    updates: {baseline: so many}; else the method's own number.
    """
    rules, found = score.rules_of(settings.theta, settings.lr, settings.norm_eps), []
    updates = dict.fromkeys(("hebbian", "rectified"), settings.inner_steps) | updates
    start = {"dtype": str(next(iter(rules.values())).theta["merge"].dtype)}
    for name in settings.data:
        data = score.data_of(name, settings, absent=True)
        found += score.method_cells(data, settings, "random", start)
        for baseline in baselines_of(settings.baselines):
            found += score.method_cells(data, settings, baseline, steps=[updates[baseline]] if baseline in updates else None)
        for label, rule in rules.items():
            found += score.method_cells(data, settings, "learned", rule._asdict(), [settings.inner_steps], label)
    return found


def numbers(settings, results):
    """{"columns": [...]}, one for each data set; beside them shots, draws, seeds, inner_steps.

    A column: "title", "ways", "classes", "chance" and "points" [{"label", "learned", "mean", "sem", "n"}], mean
    None and "error" where a rule failed, "tuned" {"mean", "sem", "n"} under --tuned-ridge; or "title", "error" and no
    points where the data set is not there.
    """
    columns = {}
    for cell, values, error in score.gathered(results):
        data, learned = cell["data"], cell["method"] == "learned"
        column = columns.setdefault(data["data"], {
            "title": TITLES.get(data["data"], os.path.basename(data["data"])), "points": []})
        if "classes" not in data:
            column["error"] = error
            continue
        C = len(data["classes"])
        column |= {"ways": data["ways"], "classes": C, "chance": 1 / data["ways"], "n_test": data["n_test"]}
        label = method_label(row_name(cell["method"], data)) + f", {cell['label']}" * learned
        failed = {"mean": None, "sem": None, "n": 0, "error": error}
        column["points"].append({"label": label, "learned": learned} | (failed if error else summaries(values[0])))
    return {"columns": list(columns.values())} | {
        name: getattr(settings, name) for name in ("shots", "ways", "draws", "seeds", "inner_steps")}


def words(numbers):
    """The numbers as a table."""
    labels = dict.fromkeys(p["label"] for column in numbers["columns"] for p in column["points"])
    columns = {}
    for column in numbers["columns"]:
        columns |= columns_of(column["title"].replace("\n", " "), {p["label"]: p for p in column["points"]})
    return protocol(numbers, (None, *HIDDEN_AND_OUTPUT)) + "\n" + table(
        list(columns), {label: [column.get(label, "-") for column in columns.values()] for label in labels})


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure; needs no display.  Bars are one standard error."""
    from matplotlib.figure import Figure
    columns = numbers["columns"]
    labels = {p["label"]: p["learned"] for column in columns for p in column["points"]}
    labels = dict(sorted(labels.items(), key=lambda entry: entry[1]))  # baselines first, otherwise in their order
    figure = Figure(figsize=(2.0 + 1.55 * max(len(columns), 3), 4.8), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, column in enumerate(columns):
        if "error" in column:
            axes.text(number, 0.5, textwrap.fill(column["error"], 28), ha="center", va="center", fontsize=6)
        axes.plot([number - 0.45, number + 0.45], [column.get("chance", np.nan)] * 2, color="black", linestyle=":",
                  linewidth=1.2, label="chance")
        if number:
            axes.axvline(number - 0.5, color="#dddddd", linewidth=0.8)
    for i, (label, style) in enumerate(_styles(labels).items()):
        offset = SPREAD * ((i + 0.5) / len(labels) - 0.5)
        found = [(number + offset, p) for number, column in enumerate(columns)
                 for p in column["points"] if p["label"] == label]
        dots = [(x, p["mean"], p["sem"] or 0) for x, p in found if p["mean"] is not None]
        axes.errorbar(*(zip(*dots) if dots else ([], [], [])), linestyle="none", elinewidth=1.2, capsize=2.5,
                      label=label, **style)
        tuned = [(x, p["tuned"]["mean"]) for x, p in found if "tuned" in p]
        if tuned:
            axes.plot(*zip(*tuned), "_", color=style["color"], markersize=9, markeredgewidth=2)
        for x in (x for x, p in found if p["mean"] is None):
            axes.text(x, 0.02, "failed", color=style["color"], rotation=90, ha="center", va="bottom", fontsize=8)
    if any("tuned" in p for column in columns for p in column["points"]):
        axes.plot([], [], "_", color="black", markersize=9, markeredgewidth=2, label="the same, its ridge tuned")
    _dress(figure, axes, numbers)
    return figure


def _styles(labels):
    """{label: is it a learned rule} -> {label: colour and marker}; beyond six of a kind they begin again."""
    styles, counts = {}, {True: 0, False: 0}
    for label, learned in labels.items():
        n, markers = counts[learned], LEARNED_MARKERS if learned else BASELINE_MARKERS
        colour = LEARNED[n % len(LEARNED)] if learned else _baseline_colour(label)
        styles[label] = {"marker": markers[n % len(markers)], "color": colour, "markersize": 7 if learned else 5.5,
                         "markerfacecolor": colour if learned else "white"}
        counts[learned] += 1
    return styles


def _baseline_colour(label):
    """Of a method by its name in words, before which components have their number."""
    return max((len(name), colour) for name, colour in LOOKS.values() if label.endswith(name))[1]


def _dress(figure, axes, numbers):
    columns = numbers["columns"]
    ways = ["" if "error" in c else f"{c['ways']}-way" if c["ways"] == c["classes"] else
            f"{c['ways']} of {c['classes']} classes" for c in columns]
    axes.set_xticks(range(len(columns)), [f"{c['title']}\n{w}" for c, w in zip(columns, ways)], fontsize=9)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_title(f"after {numbers['inner_steps']} inner steps of the rule; mean and standard error over "
                   f"{numbers['seeds']} base models and {numbers['draws']} draws", fontsize=9)
    dress_accuracies(figure, axes, numbers["shots"], last="chance")


def dress_accuracies(figure, axes, shots, high=1, columns=4, last=None):
    """Dress axes of accuracies up to `high`, and their figure as `legend`."""
    axes.set_ylim(0, high)
    axes.set_ylabel(f"accuracy, {shots} labelled examples per class")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    legend(figure, columns, last)


def legend(figure, columns, last=None, fontsize=9):
    """Under the figure, an entry for each label of any of its axes, `last` at the end."""
    entries = {}
    for axes in figure.get_axes():
        entries |= dict(zip(*reversed(axes.get_legend_handles_labels())))
    entries = dict(sorted(entries.items(), key=lambda entry: entry[0] == last))
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=min(len(entries), columns), fontsize=fontsize,
                  frameon=False)
