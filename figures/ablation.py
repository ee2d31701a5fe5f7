"""What each trick is worth: rules meta-trained without it, with equally many gradients (the ablation the slides miss).

A cell is a run of `train.py` in a process of one core: some five minutes at the default size, hours for all.
"""
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ops.command_line import chosen_from
from ops.errors import InputError
from ops.scoring.flags import setting
from ops.scoring.methods import METHODS, method_colour, open_rule
from ops.scoring.score import data_of, loaded
from ops.scoring.settings import DataSettings, ScoreSettings
from ops.scoring.tables import table
from ops.tasks.measure import suite_scores

ROOT = Path(__file__).resolve().parents[1]
WHOLE = "the default run"
U = lambda n: ("--unroll-start", f"{n},{n}", "--unroll-end", f"{n},{n}")
VARIANTS = {
    WHOLE: (), "no planes 7 to 10": ("--without", "lateral"), "no ConvUnit": ("--without", "conv-unit"),
    "no ConvBatch": ("--without", "conv-batch"), "V = W": ("--without", "v"), "squared objective": ("--objective", "squared"),
    "M = 1": ("--pairs", "1"), "e = 1": ("--norm-eps", "1"), "inputs in their order": ("--without", "order"),
    "U = 1": U(1), "U = 3": U(3), "U = 10": U(10), "from Hebb's rule": ("--theta-start", "hebbian"),
    "from a random theta": ("--theta-start", "random"), "theta not averaged": ("--theta-decay", "0"),
    "segments not clipped": ("--segment-clip", "0"), "letters alone": ("--tasks", "letters"),
    **{f"H = {n}": ("--hdims", str(n)) for n in (4, 8, 32)}, **{f"R = {n}": ("--rank", str(n)) for n in (1, 8)}}
SCORED = ("mnist14", "fashion14")  # to be seen beside the suite
TIMES = (60, 200)
BELOW, ABOVE = 0.12, 0.05  # of the default run's median: what is drawn
USES = ("train.py", "ops/engine/*.py")  # see `ops.scoring.runner`


@dataclass(frozen=True)
class Settings(DataSettings):
    """Which variants, of how many meta-steps and meta-seeds."""
    variants: tuple = setting(tuple(VARIANTS), "comma separated, of: " + ", ".join(VARIANTS), parse=chosen_from(VARIANTS),
                              many=True, quick=(WHOLE, "no planes 7 to 10"))
    meta_steps: int = setting(40, "of each run", low=1, quick=4)
    meta_seeds: int = setting(3, "runs of each variant", low=1, quick=1)
    flags: str = setting("", "more flags for all runs, separated by blanks; a variant's own win", metavar="TEXT")
    tasks: int = setting(2, "tasks of each set of the validation suite that a theta is scored on", low=1, quick=1)
    data: tuple = setting(SCORED, "data sets beside the suite", parse=lambda text: text.split(","), many=True, metavar="NAME")
    seeds: int = setting(1, "base models there", low=1)


def cells(settings):
    """Every variant with every meta-seed.  InputError as `data_of`."""
    data = [data_of(name, settings) for name in settings.data]
    fixed = settings.score_settings()
    return [{"name": f"{name}, meta-seed {k}", "variant": name, "meta_seed": k, "data": data, "settings": fixed,
             "flags": [*settings.flags.split(), *VARIANTS[name]], "meta_steps": settings.meta_steps, "tasks": settings.tasks,
             "data_dir": settings.data_dir} for k in range(settings.meta_seeds) for name in settings.variants]


def measure(cell):
    """{"suite": score, "data": {name: accuracy}} of the theta that a run gives.

    An accuracy is 0 where a base model is not finite.  Base models of "V = W" have W for V.
    InputError with the last line of what the run said, if it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*cell["flags"], "--name", "run", "--seed", str(cell["meta_seed"]), "--steps", str(cell["meta_steps"]),
                     "--minutes", "0", "--workers", "1", "--validate-steps", "0", "--snapshot-steps", "0", "--no-score"]
        run = subprocess.run([sys.executable, str(ROOT / "train.py"), *arguments], cwd=folder, capture_output=True, text=True)
        if run.returncode:
            said = (run.stderr or run.stdout).strip().splitlines() or [f"train.py ended with {run.returncode}"]
            raise InputError(f"{cell['name']}: {said[-1]}")
        rule = open_rule(Path(folder) / "runs/run/theta.npz")
    settings, found = ScoreSettings(**cell["settings"]), {}
    part = {"part": "V (W instead)"} if cell["variant"] == "V = W" else {}
    method = METHODS["knocked-out"](**rule._asdict(), **part)
    with np.errstate(all="ignore"):  # what is not finite is found and told
        suite = suite_scores(rule.theta, rule.lr, rule.norm_eps, tasks=cell["tasks"], times=TIMES, folder=cell["data_dir"],
                             update=lambda phi, x: method.update(phi, x, "relu"))
        for data in cell["data"]:
            dataset = loaded(data)
            try:
                values = method.curve(dataset, data["sizes"], settings, [settings.inner_steps], range(settings.seeds))
                found[data["data"]] = float(values[-1, ..., 0].mean())
            except InputError:  # not finite
                found[data["data"]] = 0.0
    return {"suite": suite["score"], "data": found}


def numbers(settings, results):
    """{"variants": {name: {what: {"median", "low", "high", "values", "change"}}}, "failed": [lines]}; what is "suite" or a data set.

    Medians and ranges over meta-seeds; "change" is the median of the differences from the default run of the same meta-seed.
    """
    found, failed = {}, [f"{r.error}" for r in results if r.error]
    for r in (r for r in results if not r.error):
        for what, value in ({"suite": r.value["suite"]} | r.value["data"]).items():
            found.setdefault(r.cell["variant"], {}).setdefault(what, {})[r.cell["meta_seed"]] = value
    whole = found.get(WHOLE, {})
    variants = {name: {what: _spread(of, whole.get(what, {})) for what, of in whats.items()} for name, whats in found.items()}
    return {"variants": variants, "failed": failed, "meta_steps": settings.meta_steps, "meta_seeds": settings.meta_seeds}


def _spread(values, whole):
    common = [values[k] - whole[k] for k in values if k in whole]
    return {"median": float(np.median(list(values.values()))), "low": min(values.values()), "high": max(values.values()),
            "values": list(values.values()), "change": float(np.median(common)) if common else None}


def words(numbers):
    """A row a variant: median (lowest to highest), and its change."""
    whats = list(dict.fromkeys(what for of in numbers["variants"].values() for what in of))
    text = lambda v: f"{v['median']:+.3f} ({v['low']:+.3f} to {v['high']:+.3f})" + (
        "" if v["change"] is None else f" {v['change']:+.3f}")
    return "\n".join([f"{numbers['meta_steps']} meta-steps, {numbers['meta_seeds']} meta-seeds: median, range, change from {WHOLE}",
                      table(whats, {name: [text(of[what]) if what in of else "-" for what in whats]
                                    for name, of in numbers["variants"].items()}), *numbers["failed"]])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: a panel for the suite and each data set, a row a variant, a dot a meta-seed."""
    from matplotlib.figure import Figure
    variants = numbers["variants"]
    whats = list(dict.fromkeys(what for of in variants.values() for what in of)) or ["suite"]
    figure = Figure(figsize=(2.4 + 2.7 * len(whats), 1.4 + 0.3 * max(1, len(variants))), dpi=120, layout="constrained")
    for axes, what in zip(figure.subplots(1, len(whats), squeeze=False, sharey=True)[0], whats):
        for place, (name, of) in enumerate(variants.items()):
            if what in of:
                axes.plot(of[what]["values"], [place] * len(of[what]["values"]), "o", markersize=4, color="white",
                          markeredgecolor=method_colour("learned"))
                axes.plot(of[what]["median"], place, "|", markersize=14, markeredgewidth=2.2, color=method_colour("learned"))
        if what in variants.get(WHOLE, {}):
            middle = variants[WHOLE][what]["median"]
            axes.axvline(middle, color="black", linewidth=0.8, linestyle=":")
            axes.set_xlim(middle - BELOW, middle + ABOVE)
            for place, of in enumerate(variants.values()):  # what lies outside is told
                if what in of and not -BELOW < of[what]["median"] - middle < ABOVE:
                    left = of[what]["median"] < middle
                    axes.text(0.02 if left else 0.98, place, f"{of[what]['median']:.3f}", ha="left" if left else "right", va="center",
                              fontsize=8, color=method_colour("learned"), transform=axes.get_yaxis_transform())
        axes.set_xlabel("margin over components" if what == "suite" else "accuracy")
        axes.set_title("validation suite" if what == "suite" else what, fontsize=9)
        axes.grid(axis="x", alpha=0.3)
    axes = figure.get_axes()[0]
    axes.set_yticks(range(len(variants)), list(variants))
    axes.set_ylim(max(1, len(variants)) - 0.5, -0.5)
    figure.suptitle(f"rules of {numbers['meta_steps']} meta-steps; a dot a meta-seed, a line their median, which is told where it lies outside", fontsize=8.5)
    return figure
