"""What the papers' figures need of a run of train.py: its thetas on the way; and how many updates are as the paper's.

Thetas lie in runs/NAME/thetas/theta-STEP.npz, see --snapshot-steps and --snapshot-growth of train.py.
"""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from figures.training_curves import TRAINING, read_metrics
from ops.engine.validation import kept
from ops.errors import InputError
from ops.scoring.flags import setting
from ops.scoring.methods import open_rule
from ops.scoring.methods.base_model import PAPER

FEWEST = 2
WANTED = "`python train.py --name NAME --snapshot-steps 2 --snapshot-growth 1.5`"


class Snapshot(NamedTuple):
    """A theta of a run: `rule`, its `Learned`, after so many meta-steps and hours of meta-training."""
    step: int
    hours: float
    rule: object

    def fields(self):
        """What a cell holds of it."""
        return {"step": self.step, "hours": self.hours, "rule": self.rule._asdict() | {"source": f"theta-{self.step}"}}


def run_setting():
    """A field: the run's folder."""
    return setting(_newest, "folder of a meta-training run with snapshots of theta; else of those in runs/ the one with "
                   "the newest", metavar="runs/NAME")


def _newest():
    found = [path for path in Path("runs").glob("*/thetas/theta-*.npz") if path.is_file()]
    return str(max(found, key=lambda path: path.stat().st_mtime).parent.parent) if found else ""


def snapshots(run, count):
    """[Snapshot] of the run, rising: the first one, which is of an untrained theta, and the last one of them all.

    Where there are more than `count`, those between that are nearest to even spacing of the logarithms of their steps.
    Raises InputError for fewer than FEWEST, for a file that is no theta, and without the run's log, which has the hours.
    """
    found = Path(run or "runs").glob("thetas/theta-*.npz")
    paths = {int(path.stem[6:]): path for path in found if path.stem[6:].isdecimal()}
    if len(paths) < FEWEST:
        raise InputError(f"{f'--run {run}: {len(paths)}' if run else 'no run in runs/ with'} snapshots of theta; "
                         f"meta-train with {WANTED} and give --run runs/NAME")
    log, = read_metrics(run, TRAINING)
    return [Snapshot(step, hours(log, step), open_rule(paths[step])) for step in spread(sorted(paths), count)]


def hours(log, step):
    """Hours that so many meta-steps took, from the log's records."""
    done = int(np.searchsorted([record["step"] for record in log], step))
    return log[done - 1]["seconds"] / 3600 if done else 0.0


def spread(steps, count):
    """`count` of the rising numbers `steps`, or all: the first, the last, and geometrically spaced ones between."""
    if len(steps) <= count:
        return steps
    first, *left = steps
    chosen = [first]
    for target in np.geomspace(left[-1], max(left[0], 1), count - 1):
        chosen.append(left.pop(int(np.argmin(np.abs(np.log(np.array(left) / target))))))
    return sorted(chosen)


def chosen(run):
    """{"step", "hours"} of the run's theta.npz, which validation keeps; without one, its newest."""
    log, scored = read_metrics(run, TRAINING, ("score", "step"))
    step = 1 + (scored[kept([record["score"] for record in scored])] if scored else log[-1])["step"]
    return {"step": step, "hours": hours(log, step)}


def updates(given, papers, lr):
    """So many updates as are given; else as many as the paper's in inner time, steps x lr, W being a moving average."""
    return given or max(1, round(papers * PAPER["lr"] / lr))


def in_words(steps, lr):
    """A number of updates as a figure prints it."""
    return f"{steps} inner steps (x lr {lr:g} = {steps * lr:.3g})"
