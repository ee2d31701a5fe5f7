"""Rules on tasks of the validation suite, and of training splits beside it, as cells of an experiment.

A cell is a rule (or principal components) on a task.  The training splits of MNIST and Fashion-MNIST are there to be
seen, never to choose by, and no test split is opened.
"""
import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from ops.command_line import chosen_from
from ops.data import DATASETS, load_dataset
from ops.data.pool import grouped
from ops.errors import InputError
from ops.scoring.flags import setting
from ops.tasks.measure import DRAWS, HIDDEN, POINTS, REFERENCE, SHOTS, Problem, components_accuracy, problem
from ops.tasks.measure import measure as measure_rule
from ops.tasks.suite import CHOICE, SETS, open_suite, sets_of, suite_stream
from ops.tasks.task import make_task

SHOWN = tuple(DATASETS)  # the embedded ones, their training splits
OUTPUTS = 32  # of base models, as `problem` has them


@dataclass(frozen=True)
class SuiteSettings:
    """Which tasks."""
    sets: tuple = setting((*SETS, *SHOWN), f"sets of the suite, and {', '.join(SHOWN)} (training splits, to be seen and "
                          "never to choose by), comma separated or repeated", parse=chosen_from((*SETS, *SHOWN)),
                          many=True, quick=("heldout-letters", "vectors", SHOWN[0]))
    tasks: int = setting(2, "tasks of each set", low=1, quick=1)
    data_dir: str = setting(None, "where data files lie; else $UNSUP_META_DATA or ~/.cache/unsup_meta", metavar="PATH")


def suite_cells(settings, rules, times, networks):
    """Cells of the rules {label: Learned} on each task: after each of `times` updates of base models of `networks`.

    networks  {name: hidden layers of base models, in turn over sets and tasks, as `ops.tasks.measure.problem` wants}
    A set that this machine lacks gives a cell that says so.
    """
    found = []
    for name in settings.sets:
        pools, why = _opened(name, settings.data_dir)
        if pools is None:
            found.append({"name": name, "set": name, "missing": why})
            continue
        digest = hashlib.sha256(b"".join(pool.images.tobytes() for pool in pools.values())).hexdigest()
        for index in range(settings.tasks):
            task = {"set": name, "index": index, "data_dir": settings.data_dir, "digest": digest}
            found.append(task | {"name": f"{name} {index}, components"})
            found += [task | {"name": f"{name} {index}, {label}, {network}", "label": label, "network": network,
                              "hidden": hidden, "times": list(times), "rule": rule._asdict()}
                      for network, hidden in networks.items() for label, rule in rules.items()]
    return found


def measure(cell):
    """{"J", "accuracy"} [times] of a rule, J None once phi is not finite; {"components": accuracy}; None: missing."""
    if "missing" in cell:
        return None
    if "rule" not in cell:
        return {"components": components_accuracy(_problem(cell))}
    task, rule = _problem(cell, cell["hidden"]), cell["rule"]
    found = measure_rule(rule["theta"], task, cell["times"], rule["lr"], rule["norm_eps"])
    return {"J": [J if np.isfinite(J) else None for J, _ in found], "accuracy": [accuracy for _, accuracy in found]}


def _problem(cell, hidden=HIDDEN):
    """The suite's Problem of a cell; of a training split its like, with all classes."""
    name, index = cell["set"], cell["index"]
    pools, _ = _opened(name, cell["data_dir"])
    if name in SETS:
        return problem(name, index, pools, hidden)
    pool, rng = pools[name], suite_stream(name, index, POINTS)
    task = make_task(suite_stream(name, index, CHOICE), name, name, pool, range(len(pool.counts)))
    (xa, *xb), (ya, *yb) = task.labelled_parts(rng, SHOTS, DRAWS, 3)
    return Problem(name, index, task, [task.features, *hidden[index % len(hidden)], OUTPUTS], xa, ya,
                   np.concatenate(xb, axis=1), np.concatenate(yb, axis=1), task.unlabelled(rng, REFERENCE))


@functools.lru_cache(maxsize=1)
def _opened(name, folder):
    """({name: Pool} of a set or None, why there is none)."""
    if name in SHOWN:
        data = load_dataset(name)
        return {name: grouped(name, data.x_train, data.y_train, data.classes, 14)}, None
    pools, missing = open_suite(folder, [name])
    return (pools, None) if name in sets_of(pools) else (None, missing[0])


def suite_numbers(results):
    """({set: {"components": accuracy, "curves": [{"label", "network", "J", "accuracy"}]}}, why others are missing).

    J and accuracy [times] are means over the tasks; J is None where one task's is.  InputError if there is no set at all.
    """
    found, missing = {}, [r.cell["missing"] for r in results if "missing" in r.cell]
    for r in results:
        if "missing" not in r.cell and not r.error:
            key = (r.cell["label"], r.cell["network"]) if "rule" in r.cell else None
            found.setdefault(r.cell["set"], {}).setdefault(key, []).append(r.value)
    if not found:
        raise InputError(f"nothing to measure on: {missing[0]}")
    sets = {}
    for name, of in found.items():
        baseline = of.pop(None, [])
        sets[name] = {"components": mean([value["components"] for value in baseline] or [None]), "curves": [
            {"label": label, "network": network} | {what: [mean(column) for column in zip(*(v[what] for v in values))]
                                                    for what in ("J", "accuracy")}
            for (label, network), values in of.items()]}
    return sets, missing


def mean(values):
    """The mean of numbers, None if one of them is None."""
    return None if None in values else float(np.mean(values))
