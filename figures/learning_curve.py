"""Few-shot accuracy against inner steps of the learned rule (workshop Fig. 1), a panel per data set.

    python -m figures.learning_curve NUMBERS.json OUT.png
"""
import os
import sys

from figures import files
from ops.scoring.baselines import method_label

TITLES = {"mnist14": "MNIST, 14x14", "fashion14": "Fashion-MNIST, 14x14"}
RULE, GREYS = "#1f6fb4", ("#555555", "#a0522d", "#6b8e23", "#8a2be2")


def numbers_of(results):
    """Results of `evaluate.score_report` -> {"panels": [...]}, plain JSON, all that the picture needs.

    A panel: "title"; "steps", "mean", "low", "high" [points], the lowest and highest over seeds of
    phi, each seed a mean over draws; "lines" {method: mean} of the baselines; shots, draws, n_seeds.
    """
    panels = []
    for result in results:
        curve, name = result["curve"], result["data"]
        lines = {row["method"]: row["mean"] for row in result["rows"] if row["method"] not in ("random", "learned")}
        panels.append({"title": TITLES.get(name, os.path.basename(name)), "steps": curve["steps"],
                       "mean": curve["mean"], "low": list(map(min, zip(*curve["seeds"]))),
                       "high": list(map(max, zip(*curve["seeds"]))), "lines": lines,
                       "shots": result["shots"], "draws": result["draws"], "n_seeds": len(curve["seeds"])})
    return {"panels": panels}


def draw(numbers):
    """Numbers of `numbers_of` -> a Matplotlib Figure; needs no display."""
    from matplotlib.figure import Figure
    panels = numbers["panels"]
    figure = Figure(figsize=(1.0 + 4.2 * len(panels), 4.2), dpi=120, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels):
        _draw_panel(axes, panel)
    figure.get_axes()[0].set_ylabel(f"accuracy, {panels[0]['shots']} labelled examples per class")
    entries = {}  # label -> what it looks like; panels share most of them
    for axes in figure.get_axes():
        for handle, label in zip(*axes.get_legend_handles_labels()):
            entries.setdefault(label, handle)
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=2 * len(panels),
                  fontsize=9, frameon=False)
    return figure


def _draw_panel(axes, panel):
    band = f"lowest to highest of {panel['n_seeds']} seeds"
    axes.fill_between(panel["steps"], panel["low"], panel["high"], color=RULE, alpha=0.2, linewidth=0, label=band)
    axes.plot(panel["steps"], panel["mean"], color=RULE, marker="o", markersize=4, label="learned rule")
    for i, (method, mean) in enumerate(panel["lines"].items()):
        axes.axhline(mean, color=GREYS[i % len(GREYS)], linestyle=("--", ":", "-.")[i % 3], label=method_label(method))
    axes.set(title=panel["title"], xlabel="inner steps of the learned rule")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)


def write(numbers, path):
    """Write the picture (`.png`) and its numbers beside it (`.json`), each atomically; InputError if it cannot."""
    files.write_picture(numbers, draw(numbers), path)


def main(arguments=None):
    """The command: draw again from the numbers; returns 0, or 2 after one line on standard error."""
    return files.main("learning_curve", draw, "python evaluate.py score --picture", arguments)


if __name__ == "__main__":
    sys.exit(main())
