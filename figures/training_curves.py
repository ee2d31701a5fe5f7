"""Meta-training curves (part of Fig. 3, App.3): J and accuracy over meta-steps, in training and in validation.

Drawn from `metrics.jsonl` alone, several runs together: `python evaluate.py figure training-curves runs/a runs/b`.
"""
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ops.errors import InputError
from ops.scoring.flags import one, setting

ALONE = True  # reading a log takes no time
WINDOW = 25  # meta-steps averaged; the band is their standard deviation (Fig. 3's error bars)
TRAINING, HELD_OUT = ("J", "step", "seconds", "accuracy"), ("heldout_J", "step", "heldout_accuracy")


def read_metrics(run, *kinds):
    """[records of each kind] of the run's folder or log; a kind is a tuple of fields, all numbers.

    A record is of a kind if it has its first field: where all segments were dropped there is no J, and no record of
    TRAINING.  Raises InputError where there is none of the first kind yet, and naming the line that is none of
    train.py's.
    """
    path = Path(run)
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read; give the folder of a run of train.py") from error
    found = {fields: [] for fields in kinds}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number < len(lines):  # the last line may be cut off: the run may be writing it
                raise InputError(f"{path}: line {number} is not JSON; remove it or give another run") from error
            continue
        if not isinstance(record, dict):
            raise InputError(f"{path}: line {number} is not a record of train.py; remove it or give another run")
        for fields, records in found.items():
            if record.get(fields[0]) is not None:
                _check(f"{path}: line {number}", record, fields)
                records.append(record)
    if not found[kinds[0]]:
        raise InputError(f"{path}: no meta-steps with a J in it yet; wait, or give another run")
    return list(found.values())


def _check(where, record, fields):
    """InputError unless each of the fields is a number."""
    for field in fields:
        if type(record.get(field)) not in (int, float):
            said = f"{record[field]!r:.60}, not a number" if field in record else "missing"
            raise InputError(f"{where}: '{field}' is {said}; remove the line or give another run")


def from_config(run, read):
    """read(settings) of the run's config.json, {setting: value}.  InputError where that cannot be had."""
    path = Path(run) / "config.json"
    try:
        return read(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as settings ({error}); give the folder of a run of train.py") from error


def labels(runs):
    """A label for each of the folders: as much of the end of its path as tells it from the others."""
    parts = [Path(run).parts for run in runs]
    shown = []
    for i, mine in enumerate(parts):
        others = [theirs for k, theirs in enumerate(parts) if k != i]
        tells = (n for n in range(1, len(mine)) if all(theirs[-n:] != mine[-n:] for theirs in others))
        shown.append(str(Path(*mine[-next(tells, len(mine)):])))
    return shown


@dataclass(frozen=True)
class Settings:
    """The runs to draw."""
    runs: tuple = setting(("runs/laptop",), "folders of meta-training runs", parse=one, positional=True, metavar="RUN")


def cells(settings):
    """A run each."""
    runs = list(dict.fromkeys(str(Path(run)) for run in settings.runs))
    return [{"name": label, "run": run} for label, run in zip(labels(runs), runs)]


def measure(cell):
    """{"steps", "hours", "J", "J_sd", "accuracy", "heldout_steps", ...} of a run, in windows of WINDOW meta-steps."""
    train, heldout = read_metrics(cell["run"], TRAINING, HELD_OUT)
    windows = [train[i:i + WINDOW] for i in range(0, len(train), WINDOW)]
    mean = lambda key: [float(np.mean([r[key] for r in w])) for w in windows]
    return {"steps": mean("step"), "hours": [s / 3600 for s in mean("seconds")],
            "J": mean("J"), "accuracy": mean("accuracy"), "J_sd": [float(np.std([r["J"] for r in w])) for w in windows],
            "heldout_steps": [r["step"] for r in heldout], "heldout_J": [r["heldout_J"] for r in heldout],
            "heldout_accuracy": [r["heldout_accuracy"] for r in heldout]}


def numbers(settings, results):
    """{"runs": {name: what was measured}} of the runs that could be read."""
    return {"runs": {r.cell["name"]: r.value for r in results if not r.error}}


def draw(numbers):
    """Numbers of `numbers` -> a Matplotlib Figure of two panels; needs no display."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    for axes, key, label in zip(figure.subplots(1, 2), ("J", "accuracy"), ("meta-objective J", "few-shot accuracy")):
        for i, (run, n) in enumerate(numbers["runs"].items()):
            color = f"C{i}"
            axes.plot(n["steps"], n[key], color=color, label=f"{run}, training tasks")
            if key == "J":
                low, high = (np.add(n["J"], sign * np.asarray(n["J_sd"])) for sign in (-1, 1))
                axes.fill_between(n["steps"], low, high, color=color, alpha=0.2, linewidth=0)
            if n["heldout_steps"]:
                axes.plot(n["heldout_steps"], n[f"heldout_{key}"], "o--", color=color, markersize=4, linewidth=1,
                          label=f"{run}, validation")
        axes.set_xlabel("meta-steps")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    return figure
