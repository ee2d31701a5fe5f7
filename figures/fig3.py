"""Meta-training curves (Fig. 3, App. 3): J over hours of meta-training, and of thetas on the way on single data sets."""
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import unsup_meta as um
from figures import training_curves
from figures.snapshots import chosen, in_words, run_setting, snapshots, updates
from ops.scoring.flags import data_names, setting
from ops.scoring.methods import Learned
from ops.scoring.objective import labelled_pairs, objectives
from ops.scoring.score import data_of, loaded
from ops.scoring.settings import BATCHES, DRAWS, PHI, DataSettings, ScoreSettings
from ops.scoring.tables import CLEAR, difference

PAPERS_STEPS = 3_000
TITLES = {"letters": "Alphabet", "cifar10": "Mini CIFAR-10", "imagenet16-heldout": "Mini ImageNet Test",
          "mnist14": "Tiny MNIST", "fashion14": "Tiny Fashion-MNIST", "imdb": "IMDB"}
TRAINED, TEST = "#1b9e77", "#7570b3"  # sets that the run trains on, and others


@dataclass(frozen=True)
class Settings:
    """A run, its thetas, and where they are measured."""
    run: str = run_setting()
    thetas: int = setting(10, "how many of its thetas", low=2, quick=6)
    data: tuple = setting(tuple(TITLES), "data sets, comma separated", parse=data_names, many=True,
                          quick=("letters", "mnist14", "fashion14"))
    inner_steps: int = setting(None, f"updates; else the paper's {PAPERS_STEPS:,} in inner time, steps x lr", low=1)
    seeds: int = setting(2, "base models", low=1)
    seed: int = setting(0, "seed of all random numbers", low=0)
    data_dir: str = setting(None, "where data files lie; else $UNSUP_META_DATA or ~/.cache/unsup_meta", metavar="PATH")


def cells(settings):
    """Each theta on each data set from each seed.  InputError as `snapshots` and `score.data_of`."""
    thetas, found = snapshots(settings.run, settings.thetas), []
    _trained(settings.run)
    for name in settings.data:
        data = data_of(name, DataSettings(data_dir=settings.data_dir), absent=True)
        for theta in thetas:
            steps = updates(settings.inner_steps, PAPERS_STEPS, theta.rule.lr)
            found += [theta.fields() | {"name": f"{name}, theta {theta.step}, seed {k}", "data": data, "updates": steps,
                                        "number": k, "seed": settings.seed} for k in range(settings.seeds)]
    return found


def measure(cell):
    """J [pairs] of a fresh phi after the updates, at most 10-way, 10 labelled examples per class."""
    rule, settings, data = Learned(**cell["rule"]), ScoreSettings(seed=cell["seed"]), cell["data"]
    dataset, dtype = loaded(data), rule.theta["merge"].dtype
    pairs = labelled_pairs(dataset, settings.stream(DRAWS))
    phi = um.init_phi(settings.stream(PHI, cell["number"]), data["sizes"], dtype)
    phi = rule.apply(phi, dataset.x_train.astype(dtype, copy=False), range(cell["updates"]),
                     settings.stream(BATCHES, cell["number"]))
    return objectives(phi, *(array.astype(dtype, copy=False) for array in pairs)).tolist()


def numbers(settings, results):
    """{"time": words, "log": as of `training_curves`, "chosen": {"step", "hours"}, "panels": [...], "claim"}.

    A panel: "title", "data", "trained" (does the run train on it?), "steps", "hours", "J", "sd" [thetas], sd over pairs
    and seeds; "lowest", the hours of the lowest J, and "above", by how much the last is above it, with "sem" of the
    difference over common seeds and pairs; or "title" and "error".
    """
    log, cell = training_curves.measure({"run": settings.run}), results[0].cell
    panels = panels_of(results, _trained(settings.run))
    return {"time": in_words(cell["updates"], cell["rule"]["lr"]), "log": log,
            "chosen": chosen(settings.run), "panels": panels, "claim": _claim(log, panels)}


def panels_of(results, trained):
    """`numbers`' panels; trained: names of the sets that the run trains on."""
    panels = []
    for name in dict.fromkeys(result.cell["data"]["data"] for result in results):
        mine = [result for result in results if result.cell["data"]["data"] == name]
        panel = {"title": TITLES.get(name, Path(name).name), "data": name, "trained": name in trained}
        if error := next((result.error for result in mine if result.error), None):
            panels.append(panel | {"error": error})
            continue
        hours = {result.cell["step"]: result.cell["hours"] for result in mine}
        values = np.array([[r.value for r in mine if r.cell["step"] == at] for at in hours])  # [thetas, seeds, pairs]
        means = values.mean(axis=(1, 2))
        lowest, rise = means.argmin(), difference([(values[-1], values[means.argmin()])])
        panels.append(panel | {
            "steps": list(hours), "hours": list(hours.values()), "J": means.tolist(),
            "sd": values.std(axis=(1, 2)).tolist(), "lowest": list(hours.values())[lowest],
            "above": rise["difference"], "sem": rise["sem"], "turned": rise["holds"]})
    return panels


def _trained(run):
    """Names of the sets that a run trains on."""
    return training_curves.from_config(run, lambda config: [name for name, _ in config["tasks"]])


def _claim(log, panels):
    """The paper's claims, each True or False."""
    claim, hours = {}, np.array(log["hours"])
    late = hours > hours[-1] / 2
    if late.sum() > 3:  # a line through them has a standard error
        (slope, _), covariance = np.polyfit(hours[late], np.array(log["J"])[late], 1, cov=True)
        claim["training J still falls in the second half of the run (by 2 standard errors)"] = bool(
            slope < -CLEAR * covariance[0, 0] ** 0.5)
    for panel in (panel for panel in panels if "error" not in panel):
        if panel["data"] in ("mnist14", "fashion14"):
            claim[f"{panel['title']}: J does not rise again (by 2 standard errors)"] = not panel["turned"]
        elif panel["data"] == "imdb":
            claim["IMDB: J turns and rises"] = panel["turned"]
    return claim


def words(numbers):
    """J of the first, the best and the last theta on each set; the claims."""
    lines = [f"J after {numbers['time']}; the chosen theta: meta-step {numbers['chosen']['step']:,}, "
             f"{numbers['chosen']['hours']:.2f} h (the paper's 8 days are 192 h, less than its line at 200 h)"]
    for panel in numbers["panels"]:
        lines.append(f"{panel['title']}: " + (panel["error"] if "error" in panel else
                     f"{panel['J'][0]:.3f} at first, {min(panel['J']):.3f} at {panel['lowest']:.2g} h, "
                     f"{panel['J'][-1]:.3f} at {panel['hours'][-1]:.2g} h"))
    return "\n".join(lines + [f"{claim}: {'holds' if holds else 'does not hold'}"
                              for claim, holds in numbers["claim"].items()])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: training J at the left, a panel for each set, with a common y."""
    from matplotlib.figure import Figure
    log, panels = numbers["log"], numbers["panels"]
    columns = -(-len(panels) // 2)
    figure = Figure(figsize=(4.6 + 2.6 * columns, 5.4), dpi=120, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(4.2, 2.6 * columns))
    axes = left.subplots()
    low, high = (np.add(log["J"], sign * np.array(log["J_sd"])) for sign in (-1, 1))
    axes.fill_between(log["hours"], low, high, color=TRAINED, alpha=0.2, linewidth=0)
    axes.plot(log["hours"], log["J"], color=TRAINED, linewidth=1.5)
    axes.set_title(f"all training tasks,\nmean and sd of {training_curves.WINDOW} meta-steps", fontsize=11)
    axes.set_ylabel("meta-objective J", fontsize=11)
    shown = right.subplots(2, columns, squeeze=False, sharey=True, sharex=True)
    for place in shown.flat[len(panels):]:
        place.set_visible(False)
    for i, (place, panel) in enumerate(zip(shown.flat, panels)):
        colour = TRAINED if panel["trained"] else TEST
        place.tick_params(labelbottom=i + columns >= len(panels))
        kind = "training set" if panel["trained"] else "test set"
        place.set_title(f"{panel['title']}\n({kind})", fontsize=10, color=colour)
        if "error" in panel:
            place.text(0.5, 0.5, textwrap.fill(panel["error"], 30), ha="center", va="center", fontsize=7,
                       transform=place.transAxes)
            continue
        place.errorbar(panel["hours"], panel["J"], panel["sd"], color=colour, marker="o", markersize=4, capsize=2,
                       linewidth=1.5, elinewidth=0.8)
    for place in (axes, *shown.flat):
        place.axvline(numbers["chosen"]["hours"], color="black", linestyle="--", linewidth=1)
        place.grid(alpha=0.3)
    left.supxlabel("hours of meta-training", fontsize=11)
    right.supxlabel("hours of meta-training (dashed: the chosen theta)", fontsize=11)
    right.supylabel(f"J after {numbers['time']}", fontsize=10)
    return figure
