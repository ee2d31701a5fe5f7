"""Learning curves on 14x14 MNIST, the meta-objective and accuracy against training steps of each method (workshop Fig. 1)."""
from dataclasses import dataclass

import numpy as np

from figures.snapshots import run_setting, snapshots
from ops.scoring import score
from ops.scoring.flags import setting
from ops.scoring.methods import LOOKS, method_colour
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)
from ops.scoring.settings import DataSettings
from ops.scoring.tables import cell_text, difference, summary, table

PANELS = ("meta-objective, squared (1 is chance)", "accuracy")
LABELS = {"before": "rule before meta-training", "after": "rule after it", "vae": LOOKS["vae"][0], "beta-vae": LOOKS["beta-vae"][0],
          "supervised": LOOKS["supervised"][0]}
COLOURS = {"before": LOOKS["random"][1], "after": LOOKS["learned"][1]} | {m: method_colour(m) for m in (
    "vae", "beta-vae", "supervised")}


@dataclass(frozen=True)
class Settings(DataSettings):
    """A run, whose first and last theta are the rule; how many updates each method has."""
    run: str = run_setting()
    data: str = setting("mnist14", "the data set, as of `score`", metavar="NAME|PATH.npz")
    inner_steps: int = setting(1000, "updates by the rule", low=2, quick=100)
    vae_updates: int = setting(100_000, "updates of the VAEs", low=2, quick=2000)
    supervised_updates: int = setting(10_000, "updates of the supervised network", low=2, quick=500)
    points: int = setting(16, "points of a curve, spaced geometrically", low=2, quick=8)
    seeds: int = setting(3, "base models, and networks of each baseline", low=1, quick=1)
    baselines: tuple = setting(("vae", "beta-vae", "supervised"), "comma separated, of vae, beta-vae, supervised, or none",
                               parse=lambda text: text.split(","), many=True, quick=("vae", "supervised"))
    objective: bool = setting(True, "the meta-objective too", hidden=True)


def cells(settings):
    """The rule before and after meta-training, and the baselines.  InputError as `snapshots` and `score.cells`."""
    first, *_, last = snapshots(settings.run, 2)
    data, found = score.data_of(settings.data, settings), []
    steps = lambda most: [0, *dict.fromkeys(map(round, np.geomspace(1, most, settings.points).tolist()))]
    for label, theta in (("before", first), ("after", last)):
        given = theta.rule._asdict() | {"source": f"theta-{theta.step}"}
        found += score.method_cells(data, settings, "learned", given, steps(settings.inner_steps), label)
    for name in score.baselines_of(settings.baselines):
        most = settings.supervised_updates if name == "supervised" else settings.vae_updates
        found += score.method_cells(data, settings, name, {}, steps(most), name)
    return found


def numbers(settings, results):
    """{"curves": {label: {"steps", "accuracy", "J": [{"mean", "sem", "n"}]}}, "claim": {text: `difference`}, "failed": [lines]}."""
    curves, values, failed = {}, {}, []
    for cell, found, error in score.gathered(results):
        if error:
            failed.append(f"{cell['label']}: {error}")
            continue
        values[cell["label"]] = dict(zip(cell["steps"], found))  # of a step [seeds, draws, readouts]
        curves[cell["label"]] = {"steps": cell["steps"], "accuracy": [summary(v[..., 0]) for v in found],
                                 "J": [summary(v[..., -1]) for v in found]}
    return {"curves": curves, "claim": _claims(values), "failed": failed} | {
        name: getattr(settings, name) for name in ("data", "shots", "draws", "seeds")}


def _claims(values):
    """The workshop paper's: best of all in its objective; below VAEs in accuracy; ahead of them at the start."""
    claim, last = {}, lambda label: list(values[label].values())[-1]
    claimed = lambda larger, smaller, which: difference([(larger[..., which], smaller[..., which])])
    if "after" in values:
        for other in (label for label in ("vae", "beta-vae", "supervised") if label in values):
            claim[f"the rule's objective is below that of {LABELS[other]} in the end"] = claimed(last(other), last("after"), -1)
        for other in (label for label in ("vae", "beta-vae") if label in values):
            claim[f"its accuracy is below that of {LABELS[other]} in the end"] = claimed(last(other), last("after"), 0)
            steps = [s for s in values["after"] if 0 < s <= 10]
            if steps:
                early = min(values[other], key=lambda s: abs(s - steps[-1]))
                claim[f"it is ahead of {LABELS[other]} after {steps[-1]} updates"] = claimed(
                    values["after"][steps[-1]], values[other][early], 0)
    return claim


def words(numbers):
    """First, best and last of each curve; the claims."""
    rows = {}
    for label, curve in numbers["curves"].items():
        best = max(range(len(curve["steps"])), key=lambda i: curve["accuracy"][i]["mean"])
        rows[LABELS[label]] = [f"{cell_text(curve['accuracy'][i])} ({curve['J'][i]['mean']:.2f}) at {curve['steps'][i]:,}"
                               for i in (0, best, -1)]
    lines = [f"{text}: {'holds' if c['holds'] else 'does not hold'} ({c['difference']:+.3f})"
             for text, c in numbers["claim"].items()]
    return "\n".join([f"{numbers['data']}: accuracy (objective) at updates", table(["start", "best accuracy", "end"], rows), *lines,
                      *numbers["failed"]])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: two panels, a curve a method."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10.4, 4.6), dpi=120, layout="constrained")
    for axes, what, title in zip(figure.subplots(1, 2), ("J", "accuracy"), PANELS):
        for label, curve in numbers["curves"].items():
            axes.errorbar(curve["steps"], [p["mean"] for p in curve[what]], [p["sem"] or 0 for p in curve[what]], marker="o",
                          markersize=3.5, capsize=2, elinewidth=0.9, color=COLOURS[label], label=LABELS[label])
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, None)
        axes.set_xlabel("updates, of each its own kind")
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
    figure.get_axes()[0].set_ylim(0, 1.6)
    figure.get_axes()[1].set_ylim(0, 1)
    name = "14x14 MNIST" if numbers["data"] == "mnist14" else numbers["data"].rsplit("/", 1)[-1]
    figure.suptitle(f"{name}, {numbers['shots']} labelled examples per class; mean and standard error; base models: "
                    f"{numbers['seeds']}, draws: {numbers['draws']}", fontsize=8.5)
    entries = figure.get_axes()[0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside lower center", ncols=5, fontsize=8.5, frameon=False)
    return figure
