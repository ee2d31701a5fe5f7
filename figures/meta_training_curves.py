"""Meta-training curves (Fig. 3, App.3): J and accuracy over meta-steps, on training tasks and held-out letters.

Drawn from `metrics.jsonl` alone, several runs together: `python evaluate.py curves runs/a runs/b`.

    python -m figures.meta_training_curves NUMBERS.json OUT.png
"""
import json
import sys
from pathlib import Path

import numpy as np

from figures import files
from ops.errors import InputError

WINDOW = 25  # meta-steps averaged; the band is their standard deviation (Fig. 3's error bars)


TRAINING, HELD_OUT = ("J", "step", "seconds", "accuracy"), ("heldout_J", "step", "heldout_accuracy")


def read_metrics(run):
    """(training records, held-out records) of the run's folder or log; what has no J (all dropped) is left out.

    Raises InputError where there are none yet, and naming the line where one is not a record of train.py.
    """
    path = Path(run)
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read; give the folder of a run of train.py") from error
    train, heldout = [], []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number < len(lines):  # the last line may be cut off: the run may be writing it
                raise InputError(f"{path}: line {number} is not JSON; remove it or give another run") from error
            continue
        if not isinstance(record, dict):
            raise InputError(f"{path}: line {number} is not a record of train.py; remove it or give another run")
        for records, fields in ((train, TRAINING), (heldout, HELD_OUT)):
            if record.get(fields[0]) is not None:
                _check(f"{path}: line {number}", record, fields)
                records.append(record)
    if not train:
        raise InputError(f"{path}: no meta-steps with a J in it yet; wait, or give another run")
    return train, heldout


def _check(where, record, fields):
    """InputError unless each of the fields is a number."""
    for field in fields:
        if type(record.get(field)) not in (int, float):
            said = f"{record[field]!r:.60}, not a number" if field in record else "missing"
            raise InputError(f"{where}: '{field}' is {said}; remove the line or give another run")


def labels(runs):
    """A label for each of the folders: as much of the end of its path as tells it from the others."""
    parts = [Path(run).parts for run in runs]
    shown = []
    for i, mine in enumerate(parts):
        others = [theirs for k, theirs in enumerate(parts) if k != i]
        tells = (n for n in range(1, len(mine)) if all(theirs[-n:] != mine[-n:] for theirs in others))
        shown.append(str(Path(*mine[-next(tells, len(mine)):])))
    return shown


def numbers_of(runs):
    """{run: {"steps", "hours", "J", "J_sd", "accuracy", "heldout_steps", ...}}, in windows of WINDOW meta-steps."""
    numbers = {}
    for run in runs:
        train, heldout = read_metrics(run)
        windows = [train[i:i + WINDOW] for i in range(0, len(train), WINDOW)]
        mean = lambda key: [float(np.mean([r[key] for r in w])) for w in windows]
        numbers[str(Path(run))] = {
            "steps": mean("step"), "hours": [s / 3600 for s in mean("seconds")], "J": mean("J"), "accuracy": mean("accuracy"),
            "J_sd": [float(np.std([r["J"] for r in w])) for w in windows],
            "heldout_steps": [r["step"] for r in heldout], "heldout_J": [r["heldout_J"] for r in heldout],
            "heldout_accuracy": [r["heldout_accuracy"] for r in heldout]}
    return numbers


def draw(numbers):
    """Numbers of `numbers_of` -> a Matplotlib Figure of two panels; needs no display."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    for axes, key, label in zip(figure.subplots(1, 2), ("J", "accuracy"), ("meta-objective J", "few-shot accuracy")):
        for i, (run, n) in enumerate(zip(labels(numbers), numbers.values())):
            color = f"C{i}"
            axes.plot(n["steps"], n[key], color=color, label=f"{run}, training tasks")
            if key == "J":
                low, high = (np.add(n["J"], sign * np.asarray(n["J_sd"])) for sign in (-1, 1))
                axes.fill_between(n["steps"], low, high, color=color, alpha=0.2, linewidth=0)
            if n["heldout_steps"]:
                axes.plot(n["heldout_steps"], n[f"heldout_{key}"], "o--", color=color, markersize=4, linewidth=1,
                          label=f"{run}, held-out letters")
        axes.set_xlabel("meta-steps")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    return figure


def write(runs, path):
    """Draw the runs to `path` (.png) with the numbers beside it (.json), each atomically; InputError if it cannot."""
    numbers = numbers_of(runs)
    files.write_picture(numbers, draw(numbers), path)


def main(arguments=None):
    """The command: draw again from the numbers; returns 0, or 2 after one line on standard error."""
    return files.main("meta_training_curves", draw, "python evaluate.py curves", arguments)


if __name__ == "__main__":
    sys.exit(main())
