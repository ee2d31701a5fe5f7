"""What it costs: accuracy against meta-training core-hours, the paper's beside it; and seconds of each method to be as good."""
import time
from dataclasses import dataclass

import numpy as np

from figures.snapshots import run_setting, snapshots
from figures.training_curves import from_config
from ops.processes import usable_cores
from ops.scoring import score
from ops.scoring.flags import setting
from ops.scoring.methods import LOOKS, METHODS, method_colour
from ops.scoring.settings import DataSettings, ScoreSettings
from ops.scoring.tables import cell_text, summary, table

PAPERS_HOURS = 98_000  # 512 workers for 8 days
LITTLE = 1e-4  # core-hours at which the untrained theta is drawn
TIMED = 40  # updates over which seconds are taken


@dataclass(frozen=True)
class Settings(DataSettings):
    """A run with snapshots; how long each method may take."""
    run: str = run_setting()
    thetas: int = setting(10, "how many of its thetas", low=2, quick=5)
    cores: int = setting(None, "that the run had; else its --workers, or those usable here", low=1)
    data: str = setting("mnist14", "the data set, as of `score`", metavar="NAME|PATH.npz")
    seeds: int = setting(3, "base models, and networks of each baseline", low=1, quick=1)
    vae_updates: int = setting(20_000, "most updates of the VAE", low=2, quick=2000)
    supervised_updates: int = setting(2000, "most updates of the supervised network", low=2, quick=300)
    points: int = setting(12, "points of a method's curve, spaced geometrically", low=2, quick=8)


def cells(settings):
    """Thetas of the run after settings.inner_steps; curves of its last one, of the VAE and supervised.  InputError as `snapshots`."""
    data, found = score.data_of(settings.data, settings), []
    thetas = snapshots(settings.run, settings.thetas)
    cores_of(settings)
    for theta in thetas:
        of = score.method_cells(data, settings, "learned", theta.fields()["rule"], [settings.inner_steps], f"theta {theta.step}")
        found += [cell | {"kind": "theta", "hours": theta.hours, "step": theta.step} for cell in of]
    for method, most, given in (("learned", settings.inner_steps, thetas[-1].fields()["rule"]), ("vae", settings.vae_updates, {}),
                                ("supervised", settings.supervised_updates, {})):
        steps = [0, *dict.fromkeys(map(round, np.geomspace(1, most, settings.points).tolist()))]
        found += [cell | {"kind": "curve"} for cell in score.method_cells(data, settings, method, given, steps, method)]
    return found


def measure(cell):
    """{"values": as `score.measure`, "seconds": of an update on one core, for a curve}; supervised learns one draw at a time."""
    value = {"values": score.measure(cell)}
    if cell["kind"] == "curve":
        settings, data = ScoreSettings(**cell["settings"] | {"draws": 1}), cell["data"]
        method, took = METHODS[cell["method"]](**cell["given"]), {}
        for steps in (1, 1, 1 + TIMED):  # the first compiles
            began = time.process_time()
            method.curve(score.loaded(data), data["sizes"], settings, [steps], [cell["seed"]])
            took[steps] = time.process_time() - began
        value["seconds"] = (took[1 + TIMED] - took[1]) / TIMED
    return value


def cores_of(settings):
    """--cores, else the --workers of the run, else what is usable here.  InputError without the run's config.json."""
    return settings.cores or from_config(settings.run, lambda config: config["workers"]) or usable_cores()


def numbers(settings, results):
    """{"thetas": [{"step", "core_hours", "mean", "sem", "n"}], "curves": {method: {"seconds": [...], "accuracy": [...]}},
    "target", "to_target": {method: seconds}, "cores", "papers"}; the target is the lowest of the methods' best.
    """
    cores, thetas, curves = cores_of(settings), {}, {}
    for r in (r for r in results if not r.error):
        into = thetas if r.cell["kind"] == "theta" else curves
        key = (r.cell["step"], r.cell["hours"]) if into is thetas else r.cell["method"]
        into.setdefault(key, []).append(r)
    drawn = {method: {"seconds": [float(np.mean([r.value["seconds"] for r in of])) * s for s in of[0].cell["steps"]],
                      "accuracy": [summary(np.array(values)[..., 0]) for values in zip(*(r.value["values"] for r in of))]}
             for method, of in curves.items()}
    target = min((max(p["mean"] for p in curve["accuracy"]) for curve in drawn.values()), default=0.0)
    reached = lambda curve: next(s for s, p in zip(curve["seconds"], curve["accuracy"]) if p["mean"] >= target)
    return {"thetas": [{"step": step, "core_hours": hours * cores} | summary(np.stack([r.value["values"][-1] for r in of])[..., 0])
                       for (step, hours), of in thetas.items()],
            "curves": drawn, "target": target, "to_target": {method: reached(curve) for method, curve in drawn.items()},
            "cores": cores, "papers": PAPERS_HOURS, "failed": [f"{r.cell['name']}: {r.error}" for r in results if r.error]} | {
                name: getattr(settings, name) for name in ("data", "shots", "draws", "seeds", "inner_steps")}


def words(numbers):
    """Core-hours and accuracy of each theta; seconds to the target."""
    rows = {f"theta of meta-step {t['step']:,}": [f"{t['core_hours']:.3f}", cell_text(t)] for t in numbers["thetas"]}
    lines = [f"{LOOKS[method][0]}: {seconds:.2g} core-seconds to {numbers['target']:.3f}, the lowest of the methods' best"
             for method, seconds in numbers["to_target"].items()]
    return "\n".join([table(["core-hours", f"accuracy, {numbers['data']}"], rows), *lines,
                      f"the paper's: 512 workers for 8 days, {PAPERS_HOURS:,} worker-hours", *numbers["failed"]])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: left meta-training, right a base model."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10.4, 4.4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.errorbar([max(t["core_hours"], LITTLE) for t in numbers["thetas"]], [t["mean"] for t in numbers["thetas"]],
                  [t["sem"] or 0 for t in numbers["thetas"]], color=method_colour("learned"), marker="o", markersize=4, capsize=2)
    left.axvline(numbers["papers"], color="black", linestyle="--", linewidth=1)
    left.text(numbers["papers"], 0.03, "the paper's ", rotation=90, ha="right", fontsize=8)
    left.set_xlabel(f"core-hours of meta-training ({numbers['cores']} cores; left end: none)")
    for method, curve in numbers["curves"].items():
        right.errorbar([max(s, 1e-3) for s in curve["seconds"]], [p["mean"] for p in curve["accuracy"]],
                       [p["sem"] or 0 for p in curve["accuracy"]], color=method_colour(method), marker="o", markersize=4, capsize=2,
                       label=LOOKS[method][0])
    right.axhline(numbers["target"], color="black", linestyle=":", linewidth=1)
    right.set_xlabel("core-seconds of one base model (left end: none)")
    right.legend(fontsize=8, frameon=False)
    name = "14x14 MNIST" if numbers["data"] == "mnist14" else numbers["data"].rsplit("/", 1)[-1]
    left.set_ylabel(f"{name} accuracy, {numbers['shots']} labelled examples per class")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
    return figure
