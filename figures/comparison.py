"""Few-shot accuracy of several learned rules and baselines, a column per data set, from `evaluate.py compare`.

    python -m figures.comparison NUMBERS.json OUT.png
"""
import os
import sys

from figures import files
from ops.scoring.scoring import row_label

TITLES = {"mnist14": "MNIST\n14x14", "fashion14": "Fashion-MNIST\n14x14", "mnist28": "MNIST\n28x28",
          "fashion28": "Fashion-MNIST\n28x28", "mnist14full": "all of MNIST\n14x14",
          "fashion14full": "all of Fashion-\nMNIST, 14x14", "cifar10": "CIFAR-10\n16x16",
          "imagenet16-heldout": "ImageNet, held-out\nclasses, 16x16", "omniglot": "Omniglot\n28x28",
          "imdb": "IMDB\nbags of words", "moons": "two moons", "mnist3": "stacked MNIST\n28x28"}
LEARNED = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # M. Okabe and K. Ito's palette
LEARNED_MARKERS = "oDP*Xh"
BASELINE_MARKERS = "sv^<>p"  # grey; shapes differ too, so colour is not needed to tell the methods apart
SPREAD = 0.62  # of a column's width, taken up by its dots


def numbers_of(document):
    """What `evaluate.py compare` writes -> {"columns": [...]}, plain JSON, all that the picture needs.

    A column: "title", "ways", "classes", "chance" and "points" [{"label", "learned", "mean", "sem"}], mean
    None where a rule failed; beside them shots, draws, seeds, inner_steps.
    """
    columns = []
    for result in document["results"]:
        points = [{"label": row_label(row), "learned": row["method"] == "learned", "mean": row["mean"],
                   "sem": row["sem"]} for row in result["rows"]]
        title = TITLES.get(result["data"], os.path.basename(result["data"]))
        columns.append({"title": title, "ways": result["ways"], "classes": result["classes"],
                        "chance": result["chance"], "points": points})
    return {"columns": columns} | {key: document[key] for key in ("shots", "draws", "seeds", "inner_steps")}


def draw(numbers):
    """Numbers of `numbers_of` -> a Matplotlib Figure; needs no display.  Bars are one standard error."""
    from matplotlib.figure import Figure
    columns = numbers["columns"]
    if not columns:
        raise ValueError("there is no data set in it")
    labels = {p["label"]: p["learned"] for column in columns for p in column["points"]}
    labels = dict(sorted(labels.items(), key=lambda entry: entry[1]))  # baselines first, otherwise in their order
    figure = Figure(figsize=(2.0 + 1.55 * max(len(columns), 3), 4.8), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, column in enumerate(columns):
        axes.plot([number - 0.45, number + 0.45], [column["chance"]] * 2, color="black", linestyle=":",
                  linewidth=1.2, label="chance")
        if number:
            axes.axvline(number - 0.5, color="#dddddd", linewidth=0.8)
    for i, (label, style) in enumerate(_styles(labels).items()):
        offset = SPREAD * ((i + 0.5) / len(labels) - 0.5)
        found = [(number + offset, p["mean"], p["sem"]) for number, column in enumerate(columns)
                 for p in column["points"] if p["label"] == label]
        dots = [(x, mean, sem or 0) for x, mean, sem in found if mean is not None]
        axes.errorbar(*(zip(*dots) if dots else ([], [], [])), linestyle="none", elinewidth=1.2, capsize=2.5,
                      label=label, **style)
        for x in (x for x, mean, _ in found if mean is None):
            axes.text(x, 0.02, "failed", color=style["color"], rotation=90, ha="center", va="bottom", fontsize=8)
    _dress(figure, axes, numbers)
    return figure


def _styles(labels):
    """{label: is it a learned rule} -> {label: colour and marker}; beyond six of a kind they begin again."""
    styles, counts = {}, {True: 0, False: 0}
    for label, learned in labels.items():
        n, markers = counts[learned], LEARNED_MARKERS if learned else BASELINE_MARKERS
        colour = LEARNED[n % len(LEARNED)] if learned else ("#999999", "#555555", "#222222")[n % 3]
        styles[label] = {"marker": markers[n % len(markers)], "color": colour, "markersize": 7 if learned else 5.5,
                         "markerfacecolor": colour if learned else "white"}
        counts[learned] += 1
    return styles


def _dress(figure, axes, numbers):
    columns = numbers["columns"]
    ways = [f"{c['ways']}-way" if c["ways"] == c["classes"] else f"{c['ways']} of {c['classes']} classes"
            for c in columns]
    axes.set_xticks(range(len(columns)), [f"{c['title']}\n{w}" for c, w in zip(columns, ways)], fontsize=9)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(0, 1)
    axes.set_ylabel(f"accuracy, {numbers['shots']} labelled examples per class")
    axes.set_title(f"after {numbers['inner_steps']} inner steps of the rule; mean and standard error over "
                   f"{numbers['seeds']} base models and {numbers['draws']} draws", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    entries = dict(zip(labels, handles))  # chance has one line a column
    entries["chance"] = entries.pop("chance")
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(len(entries), 4),
                  fontsize=9, frameon=False)


def write(numbers, path):
    """Write the picture (`.png`) and its numbers beside it (`.json`), each atomically; InputError if it cannot."""
    files.write_picture(numbers, draw(numbers), path)


def main(arguments=None):
    """The command: draw again from the numbers; returns 0, or 2 after one line on standard error."""
    return files.main("comparison", draw, "python evaluate.py compare --picture", arguments)


if __name__ == "__main__":
    sys.exit(main())
