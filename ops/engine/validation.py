"""Validation: a theta scored on the suite of `ops/tasks/suite.py`, a job a task, and what is told of it."""
import numpy as np

import unsup_meta as um
from ops.errors import InputError
from ops.tasks.measure import components_accuracy, gathered, measure, problem, suite_score
from ops.tasks.suite import open_suite, sets_of
from ops.workers import Job

POOL = "validation "  # begins the names of the suite's pools among those of a run
NOISE = 0.01  # of a score on few tasks: a later theta, of more averaging and a lower rate, may do so much worse


def kept(scores):
    """Which of these in their order is that of the theta to keep: the last that is within NOISE of the best before it."""
    return max(i for i, score in enumerate(scores) if score >= max(scores[:i + 1]) - NOISE)


def open_validation(config):
    """({name among a run's pools: Pool}, text for the log): --validate-sets, as far as this machine has them.

    InputError if it has none.
    """
    if not config.validate_steps:
        return {}, "no validation: theta.npz will be the newest theta"
    pools, missing = open_suite(config.data_dir, config.validate_sets)
    if not sets_of(pools):
        raise InputError(f"--validate-sets: {missing[0]}")
    times = " and ".join(map(str, config.validate_times))
    found = f"validation: {', '.join(sets_of(pools))}; {config.validate_tasks} tasks each, after {times} inner steps"
    return {POOL + name: pool for name, pool in pools.items()}, "\n".join([found, *missing])


def _suite(pools):
    """{name: Pool} of the suite among a run's."""
    return {name.removeprefix(POOL): pool for name, pool in pools.items() if name.startswith(POOL)}


def measured(config, pools, theta, name, index, baseline):
    """What a job is answered: `measure` of theta on task `index` of a set, and `components_accuracy` if `baseline`."""
    task = problem(name, index, _suite(pools), embedding=config.embedding)
    update = None
    if "v" in config.without:
        update = lambda phi, x: um.unsupervised_update([layer._replace(V=layer.W) for layer in phi], x, theta, config.lr,
                                                       config.norm_eps)
    return {"theta": measure(theta, task, config.validate_times, config.lr, config.norm_eps, config.ridge,
                             config.objective == "cosine", update),
            "components": components_accuracy(task) if baseline else None}


class Validation:
    """The suite as a run goes through it; pools as of `open_validation` among others."""

    def __init__(self, config, pools):
        self.tasks = {name: range(config.validate_tasks) for name in sets_of(_suite(pools))}
        self.components = {}  # {(set, index): accuracy}, which no theta changes

    def record(self, workers, theta_row):
        """What the log says of the theta in this row: its score, J and accuracy on average, and each set's.

        Of async mode nothing else may be under way.
        """
        tasks = [(name, index) for name, indices in self.tasks.items() for index in indices]
        jobs = [Job(f"validation on {name} {index}", "validate", {"name": name, "index": index,
                    "baseline": (name, index) not in self.components}, {"theta": theta_row}) for name, index in tasks]
        workers.add(jobs)
        replies = dict(zip(tasks, workers.take([job.name for job in jobs])))
        self.components |= {key: reply["components"] for key, reply in replies.items() if key not in self.components}
        sets = {name: gathered([replies[name, index]["theta"] for index in indices],
                               [self.components[name, index] for index in indices])
                for name, indices in self.tasks.items()}
        mean = lambda key: float(np.mean([found[key] for found in sets.values()]))
        return {"score": suite_score(sets), "heldout_J": mean("J"), "heldout_accuracy": mean("accuracy"),
                "validation": sets}
