"""Segments' results on their way to a meta-step: the asynchronous accumulator, and what to log."""
from collections import deque

import numpy as np


class Gathering:
    """Async mode: the shared gradient accumulator, and which slots are under way.

    There are two rows of shared memory for each worker, so that none waits for a row to be read; a row is
    free again once its gradient is added, whoever computed it.  Gradients of a theta more than
    `staleness_limit` meta-steps old are dropped.
    """

    def __init__(self, config, workers):
        self.config = config
        self.busy, self.rows, self.cursor = set(), deque(range(2 * workers)), 0
        self._clear()

    def _clear(self):
        self.total, self.count, self.replies, self.staleness, self.dropped = None, 0, [], [], 0

    def next_job(self, tasks, step):
        """The next free slot's segment."""
        while self.cursor % len(tasks) in self.busy:
            self.cursor += 1
        slot = self.cursor % len(tasks)
        self.cursor += 1
        self.busy.add(slot)
        return tasks[slot].job(slot, self.rows.popleft(), step)

    def add(self, job, reply, row, step):
        """Add a finished segment's gradient, unless it is too old or not finite."""
        self.busy.remove(job["slot"])
        self.rows.append(job["row"])
        age = step - reply["version"]
        if age > self.config.staleness_limit:
            self.dropped += 1
            return
        self.replies.append(reply)
        if reply["finite"]:
            self.total = row.copy() if self.total is None else self.total + row
            self.count += 1
            self.staleness.append(age)

    def take(self):
        """(summed gradient, replies, what to log) of a full batch; starts the next."""
        extra = {"staleness_mean": float(np.mean(self.staleness)), "staleness_max": max(self.staleness), "stale": self.dropped}
        result = self.total, self.replies, extra
        self._clear()
        return result


def summary(replies):
    """What to log about a meta-step's segments: averages over the finite ones, J by data set, what was dropped."""
    good, bad = ([r for r in replies if r["finite"] == finite] for finite in (True, False))
    counts = {"segments": len(good), "dropped": len(bad)}
    if bad:
        counts["dropped_tasks"] = [r["task"] for r in bad]
    if not good:
        return counts
    average = lambda key: float(np.mean([r[key] for r in good]))
    kinds = sorted({r["kind"] for r in good})
    return {name: average(name) for name in ("J", "accuracy", "unrolls", "phi_norm", "data_s", "unroll_s")} | {
        "J_by_data": {kind: float(np.mean([r["J"] for r in good if r["kind"] == kind])) for kind in kinds}} | counts
