"""Three digits as the colours of one image: do filters specialise on a colour, or all fall for the same? (workshop Fig. 2)."""
import textwrap
from dataclasses import dataclass

import numpy as np

from figures.fig6_filters import first_filters, packed, unpacked
from figures.snapshots import in_words, run_setting, snapshots, updates
from ops.scoring.flags import setting
from ops.scoring.methods import method_colour
from ops.scoring.score import data_of, loaded
from ops.scoring.settings import DataSettings, ScoreSettings
from ops.scoring.tables import CLEAR, summary

PAPERS_STEPS = 10_000
SHOWN, HIDDEN_AND_OUTPUT = 16, (128, 128, 32)  # filters; below 200 units in two layers, as the workshop paper's
EVEN = 1 / 3  # a channel's share where none is preferred
SHARES = {"collapse": "of the strongest channel in all squared weight (1 all alike, 1/3 none preferred)",
          "own": "of each filter's own strongest channel, a mean"}
USES = ("figures/fig6_filters.py",)  # see `ops.scoring.runner`


@dataclass(frozen=True)
class Settings:
    """A run, its thetas and the data set."""
    run: str = run_setting()
    thetas: int = setting(8, "how many of its thetas", low=2, quick=4)
    data: str = setting("mnist3-14", "stacked digits: mnist3-14, of the embedded ones, or mnist3, 28x28",
                        choices=("mnist3-14", "mnist3"))
    inner_steps: int = setting(None, f"updates; else the paper's {PAPERS_STEPS:,} in inner time, steps x lr", low=1)
    seeds: int = setting(3, "base models, the inputs of each in an order of its own", low=1, quick=1)
    seed: int = setting(0, "seed of all random numbers", low=0)
    data_dir: str = setting(None, "where data files lie; else $UNSUP_META_DATA or ~/.cache/unsup_meta", metavar="PATH")


def cells(settings):
    """Each theta on each base model.  InputError as `snapshots`."""
    data = data_of(settings.data, DataSettings(data_dir=settings.data_dir), absent=True)
    return [theta.fields() | {"name": f"theta {theta.step}, base model {k}", "number": k, "seed": settings.seed,
                              "data": data, "updates": updates(settings.inner_steps, PAPERS_STEPS, theta.rule.lr)}
            for theta in snapshots(settings.run, settings.thetas) for k in range(settings.seeds)]


def measure(cell):
    """{"filters": the first SHOWN, packed, "side", "collapse", "own": SHARES}."""
    dataset = loaded(cell["data"])
    filters = first_filters(cell, ScoreSettings(seed=cell["seed"], permute=0), dataset, cell["number"], HIDDEN_AND_OUTPUT)
    return {"filters": packed(filters[:SHOWN]), "side": round((filters.shape[1] / 3) ** 0.5)} | shares(filters)


def shares(filters):
    """{"collapse", "own"} of filters [n, 3 h w]: see SHARES."""
    squares = (filters.reshape(len(filters), 3, -1) ** 2).sum(axis=2)
    own = squares.max(axis=1) / np.maximum(squares.sum(axis=1), 1e-30)
    return {"collapse": float(squares.sum(axis=0).max() / squares.sum()), "own": float(own.mean())}


def numbers(settings, results):
    """{"thetas": [{"step", "hours", "collapse", "own" {"mean", "sem"}}], "panes": [...], "time", "claim"}, or "error".

    Panes are of the first trained theta and the last, their first base model: {"step", "filters", "side"}.
    """
    if error := next((r.error for r in results if r.error), None):
        return {"error": error, "data": settings.data}
    at = {}
    for r in results:
        at.setdefault((r.cell["step"], r.cell["hours"]), []).append(r.value)
    thetas = [{"step": step, "hours": hours} | {what: summary(np.array([[value[what] for value in values]])) for what in SHARES}
              for (step, hours), values in at.items()]
    early, late = ([*at.values()][i][0] for i in (1 if len(at) > 2 else 0, -1))
    panes = [{"step": of["step"], "filters": value["filters"], "side": value["side"]}
             for of, value in zip((thetas[1 if len(at) > 2 else 0], thetas[-1]), (early, late))]
    first, last = thetas[0]["collapse"], thetas[-1]["collapse"]
    clear = last["sem"] is not None and last["mean"] - first["mean"] > CLEAR * np.hypot(last["sem"], first["sem"])
    return {"thetas": thetas, "panes": panes, "seeds": settings.seeds, "data": settings.data,
            "time": in_words(results[0].cell["updates"], results[0].cell["rule"]["lr"]),
            "claim": {"filters of the last theta fall for one colour, more than those of the first": bool(clear)}}


def words(numbers):
    """Both shares of each theta; the claim."""
    if "error" in numbers:
        return numbers["error"]
    lines = [f"theta {t['step']:>6,}: " + ", ".join(f"{what} {t[what]['mean']:.3f}" + (
        f" +- {t[what]['sem']:.3f}" if t[what]["sem"] is not None else "") for what in SHARES) for t in numbers["thetas"]]
    return "\n".join([*(f"{what}: share {text}" for what, text in SHARES.items()), *lines,
                      *(f"{claim}: {'holds' if holds else 'does not hold'}" for claim, holds in numbers["claim"].items())])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: filters of an early and a late theta, colours and channels; the shares."""
    from matplotlib.figure import Figure
    if "error" in numbers:
        figure = Figure(figsize=(6, 3), dpi=120)
        figure.text(0.5, 0.5, textwrap.fill(numbers["error"], 60), ha="center", va="center", fontsize=8)
        return figure
    figure = Figure(figsize=(11.6, 5.4), dpi=120, layout="constrained")
    grid = figure.subplots(4, 3, gridspec_kw={"width_ratios": (1, 1, 0.8)})
    for column, pane in enumerate(numbers["panes"]):
        filters = unpacked(pane["filters"], (3, pane["side"], pane["side"]))
        for row, name in enumerate(("colour", "red", "green", "blue")):
            axes = grid[row, column]
            shown = 0.5 + 0.5 * filters.transpose(0, 2, 3, 1) if row == 0 else 0.5 + 0.5 * filters[:, row - 1]
            rows = np.split(shown, SHOWN // 8)  # of eight filters
            axes.imshow(np.concatenate([np.concatenate(list(of), axis=1) for of in rows]), cmap="gray", vmin=0, vmax=1,
                        interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_ylabel(name if column == 0 else "", fontsize=8.5)
        grid[0, column].set_title(f"{SHOWN} filters, theta of meta-step {pane['step']:,}", fontsize=9)
    for axes in grid[:, 2]:
        axes.remove()
    axes = figure.add_subplot(grid[0, 2].get_gridspec()[:, 2])
    steps = [t["step"] for t in numbers["thetas"]]
    for what, line in zip(SHARES, ("-", "--")):
        mean, sem = ([t[what][name] or 0 for t in numbers["thetas"]] for name in ("mean", "sem"))
        axes.errorbar(steps, mean, sem, marker="o",
                      markersize=4, capsize=2, linestyle=line, color=method_colour("learned"), label=textwrap.fill(SHARES[what], 34))
    axes.axhline(EVEN, color="black", linestyle=":", linewidth=1)
    axes.set_xscale("symlog")
    axes.set_xlim(0, None)
    axes.set_ylim(0, 1)
    axes.set_xlabel("meta-steps of theta")
    axes.set_ylabel("share of squared weight")
    axes.legend(fontsize=7.5, frameon=False, handlelength=4)
    axes.grid(alpha=0.3)
    figure.suptitle(f"first layer after {numbers['time']} on stacked digits; shares: base models {numbers['seeds']}", fontsize=9)
    return figure
