"""Few-shot accuracy against inner steps of the learned rule (part of workshop Fig. 1), a panel per data set."""
import os
import textwrap

from figures.comparison import legend
from ops.scoring import score
from ops.scoring.methods import method_colour, method_label
from ops.scoring.score import Settings, measure  # noqa: F401  (parts of an experiment)

TITLES = {"mnist14": "MNIST, 14x14", "fashion14": "Fashion-MNIST, 14x14"}
RULE = method_colour("learned")


def cells(settings):
    """As `score.cells`; a public data set that is not there becomes a panel that says so."""
    return score.cells(settings, absent=True)


def numbers(settings, results):
    """{"panels": [...]}, one for each data set.

    A panel: "title"; "steps", "mean", "low", "high" [points], the lowest and highest over seeds of
    phi, each seed a mean over draws; "lines" {method: mean} of the baselines; shots, draws, n_seeds;
    or "title" and "error".
    """
    panels = []
    for scored in score.scores(settings, results):
        panel = {"title": TITLES.get(scored["data"], os.path.basename(scored["data"]))}
        if "error" in scored:
            panels.append(panel | {"error": scored["error"]})
            continue
        curve = scored["curve"]
        lines = {row["method"]: row["mean"] for row in scored["rows"] if row["method"] not in ("random", "learned")}
        low, high = (list(map(extreme, zip(*curve["seeds"]))) for extreme in (min, max))
        panels.append(panel | {"steps": curve["steps"], "mean": curve["mean"], "low": low, "high": high, "lines": lines,
                               "shots": scored["shots"], "draws": scored["draws"], "n_seeds": len(curve["seeds"])})
    return {"panels": panels}


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure; needs no display."""
    from matplotlib.figure import Figure
    panels = numbers["panels"]
    figure = Figure(figsize=(1.0 + 4.2 * len(panels), 4.2), dpi=120, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels):
        _draw_panel(axes, panel)
    figure.get_axes()[0].set_ylabel("accuracy" + next((f", {p['shots']} labelled examples per class" for p in panels
                                                       if "shots" in p), ""))
    legend(figure, 2 * len(panels))
    return figure


def _draw_panel(axes, panel):
    axes.set_title(panel["title"])
    if "error" in panel:
        text = textwrap.fill(panel["error"], 45)
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=8)
        return axes.set_xticks([])
    band = f"lowest to highest of {panel['n_seeds']} seeds"
    axes.fill_between(panel["steps"], panel["low"], panel["high"], color=RULE, alpha=0.2, linewidth=0, label=band)
    axes.plot(panel["steps"], panel["mean"], color=RULE, marker="o", markersize=4, label="learned rule")
    for i, (method, mean) in enumerate(panel["lines"].items()):
        axes.axhline(mean, color=method_colour(method), linestyle=("--", ":", "-.")[i % 3],
                     label=method_label(method))
    axes.set_xlabel("inner steps of the learned rule")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
