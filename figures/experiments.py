"""The log of meta-training runs: what each was to show, its settings, its scores on the validation suite.

`figure experiments RUN... --hypothesis TEXT` adds runs to experiments.json, or brings them up to date, and prints the
table of README.md; without a RUN it prints the table again.
"""
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figures.training_curves import TRAINING, from_config, read_metrics
from ops.engine.config import OPERATIONAL, as_json, make_config, written
from ops.errors import InputError
from ops.processes import usable_cores
from ops.scoring.flags import one, setting

ALONE = True  # reading a log takes no time
LATE = 2 / 3  # of the meta-steps: scores of the validations after these are averaged
NO_PART = {*OPERATIONAL, "seed"} - {"init_theta"}  # of a run's settings as its row tells them


@dataclass(frozen=True)
class Settings:
    """The runs to add."""
    runs: tuple = setting((), "folders of meta-training runs", parse=one, positional=True, metavar="RUN")
    hypothesis: str = setting(None, "what these runs are to show, in a few words; else what the log has", metavar="TEXT")
    cores: int = setting(None, "that a run had; else its --workers, or those usable here", low=1)
    log: str = setting(str(Path(__file__).with_suffix(".json")), "the log that rows are added to; what comes of it is written to --folder", metavar="PATH.json")


def cells(settings):
    """A run each.  InputError for two of one name, or a log that is none."""
    _read_log(settings.log)
    runs = list(dict.fromkeys(Path(run) for run in settings.runs))
    names = [run.resolve().name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name}: two runs have this name, by which the log knows them; rename one's folder")
    return [{"name": name, "run": str(run)} for name, run in zip(names, runs)]


def measure(cell):
    """{"config", "minutes", "meta_steps", "score", "low", "high", "move", "sets"} of a run.

    score is the suite's (the mean margin over 32 components), of the validations after LATE of the meta-steps the mean,
    the least and the largest; move the largest change from one to the next; sets {name: mean margin}.
    Raises InputError for a run without config.json or such validations.
    """
    config = from_config(cell["run"], lambda config: config | {name: config[name] for name in ("seed", "workers")})
    train, scored = read_metrics(cell["run"], TRAINING, ("score", "step"))
    late = [record for record in scored if record["step"] >= LATE * train[-1]["step"]]
    try:
        sets = {name: [np.mean(record["validation"][name]["margin"]) for record in late]
                for name in late[0]["validation"]}
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{cell['run']}: no validation on the suite in the last third of its log; wait, or give another "
                         "run") from error
    scores = [record["score"] for record in late]
    return {"config": config, "minutes": train[-1]["seconds"] / 60, "meta_steps": train[-1]["step"] + 1,
            "score": float(np.mean(scores)), "low": min(scores), "high": max(scores),
            "move": float(np.abs(np.diff(scores)).max()) if len(scores) > 1 else None,
            "sets": {name: float(np.mean(margins)) for name, margins in sets.items()}}


def numbers(settings, results):
    """{"base": {setting: value}, "runs": [row]}: what `measure` gives, but instead of "config" what is told of it.

    A row's "settings" are those that differ from base, the default ones of the day the log was begun; beside them are
    "name", "hypothesis", "seed" and "cores".  InputError if no run is to be had.
    """
    log = _read_log(settings.log)
    base = as_json(make_config("laptop", {})) | log["base"]  # of a setting that came later, its default
    runs = {run["name"]: run for run in log["runs"]}
    for r in results:
        if not r.error:
            name, found = r.cell["name"], dict(r.value)
            config = found.pop("config")
            before = runs.get(name, {"hypothesis": ""})
            runs[name] = {"name": name, "hypothesis": settings.hypothesis or before["hypothesis"], "seed": config["seed"],
                          "cores": settings.cores or config["workers"] or usable_cores(),
                          "settings": {key: _short(value) for key, value in config.items()
                                       if key not in NO_PART and value != base.get(key)}} | found
    if not runs:
        raise InputError(f"{settings.log} holds no run yet; give the folders of some")
    return {"base": log["base"], "runs": list(runs.values())}


def _read_log(path):
    """{"base", "runs"} of the log; where there is none yet, today's default settings and no run."""
    if not Path(path).exists():
        return {"base": as_json(make_config("laptop", {})), "runs": []}
    try:
        log = json.loads(Path(path).read_text())
        words(log)
        return {"base": dict(log["base"]), "runs": list(log["runs"])}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a log of experiments; move it away") from error


def _short(value):
    """A setting; of an absolute path, which means nothing elsewhere, the last two parts."""
    return "/".join(Path(value).parts[-2:]) if isinstance(value, str) and Path(value).is_absolute() else value


def words(numbers):
    """Runs as a Markdown table, that of README.md; scores in points."""
    sets = list(dict.fromkeys(name for run in numbers["runs"] for name in run["sets"]))
    head = ["run", "what was tried", "settings", "seed", "minutes x cores", "meta-steps", "score", "largest move", *sets]
    lines = [head, ["---"] * len(head)]
    for i, run in enumerate(numbers["runs"]):
        flags = " ".join(f"`--{name.replace('_', '-')} {_flag(value)}`" for name, value in run["settings"].items())
        like = next((other["name"] for other in numbers["runs"][:i] if flags and other["settings"] == run["settings"]), None)
        low, high = _points(run["low"]), _points(run["high"])
        lines.append([run["name"], run["hypothesis"], f"as {like}" if like else flags or "default", str(run["seed"]),
                      f"{run['minutes']:.0f} x {run['cores']}", f"{run['meta_steps']:,}",
                      f"**{_points(run['score'])}** ({low} to {high})", "-" if run["move"] is None else
                      f"{100 * run['move']:.1f}", *(_points(run["sets"].get(name)) for name in sets)])
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _points(margin):
    return "-" if margin is None else f"{100 * margin:+.1f}"


def _flag(value):
    """As `written`, of what JSON gives."""
    return written(tuple(tuple(part) if isinstance(part, list) else part for part in value)
                   if isinstance(value, list) else value)


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: a row a run, its score with its range, its sets as small dots."""
    from matplotlib.figure import Figure
    runs = numbers["runs"]
    sets = list(dict.fromkeys(name for run in runs for name in run["sets"]))
    figure = Figure(figsize=(9, 1.8 + 0.26 * len(runs)), dpi=110, layout="constrained")
    axes, rows = figure.subplots(), range(len(runs))
    for i, name in enumerate(sets):
        axes.plot([100 * run["sets"].get(name, np.nan) for run in runs], rows, linestyle="none", marker="ov^sDP*X"[i % 8],
                  markersize=4, alpha=0.7, color=f"C{i % 10}", label=name)
    axes.hlines(rows, *([100 * run[end] for run in runs] for end in ("low", "high")), color="black", linewidth=1.5)
    axes.plot([100 * run["score"] for run in runs], rows, "k|", markersize=10, markeredgewidth=2,
              label="score: their mean, and its range")
    axes.axvline(0, color="#888888", linewidth=1, linestyle=":")
    axes.set_yticks(rows, [f"{run['name']}, seed {run['seed']}" for run in runs], fontsize=8)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_xlabel("points above 32 principal components (ridge tuned), over the last third of the run")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure
