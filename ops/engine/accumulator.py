"""From live tasks to one averaged gradient: which segments a meta-step is made of, and their sum.

Each gradient has a row of shared memory to itself, so that nobody waits for a lock; the main process adds them up.
"""
import math
from collections import deque

import numpy as np

from ops.workers import Job


class _Accumulator:
    """What both modes share.

    workers, memory, live: the run's `Workers`, `run_memory` and [LiveTask]; note(reply) is told of each segment.
    """

    def __init__(self, config, workers, memory, live, note):
        self.config, self.workers, self.memory, self.live, self.note = config, workers, memory, live, note

    def _job(self, name, task, step, version, theta_row, row):
        """The next segment of `task`: at theta `version`, which lies in `theta_row`, with the gradient to `row`."""
        keys = {"slot": task.slot, "generation": task.generation, "born": task.born, "t": task.t, "step": step}
        return Job(name, "segment", keys, {"theta": theta_row, "version": version, "gradient": row,
                                           "phi": (task.slot, task.parity, task.floats)})

    def _gradient(self, row, reply):
        """The gradient in `row`, its norm at most --segment-clip, since one in a hundred is that of a hundred others."""
        clip, norm = self.config.segment_clip, reply["norm"]
        return self.memory["grads"][row] * np.float32(clip / norm if 0 < clip < norm else 1)


class InStep(_Accumulator):
    """Sync: meta-step r is the segments of its `meta_batch` slots, in turn, summed in slot order: always the same bits.

    A gradient may be of the theta of one meta-step before (`theta_delay`), so that workers begin the next segments
    while the last of these are under way and while Adam steps.
    """

    queued = frozenset()  # names of the jobs that workers have been given and that were not taken back

    def publish(self, step, theta):
        """Let workers read the theta [P] of meta-step `step`; that of the meta-step before stays."""
        self.memory["theta"][step % 2, :len(theta)] = theta

    def _names(self, step):
        return range(step * self.config.meta_batch, (step + 1) * self.config.meta_batch)

    def _task(self, name):
        return self.live[name % len(self.live)]

    def _start(self, step, busy=()):
        """Queue the segments of meta-step `step` that are not yet, large phi first, none of slots in `busy`."""
        version, rows = max(0, step - self.config.theta_delay), len(self.memory["grads"])
        names = [n for n in self._names(step) if n not in self.queued and self._task(n).slot not in busy]
        names.sort(key=lambda name: -(self._task(name).floats or math.inf))  # 0: not known yet
        self.queued |= set(names)
        self.workers.add([self._job(name, self._task(name), step, version, version % 2, name % rows) for name in names])

    def collect(self, step, over):
        """(averaged gradient, or None if none was finite; replies; more to log) of meta-step `step`."""
        config, names = self.config, self._names(step)
        chosen = [self._task(name) for name in names]
        self._start(step)
        if config.theta_delay and step + 1 < config.steps:
            self._start(step + 1, busy={task.slot for task in chosen})
        replies = self.workers.take(names)
        self.queued -= set(names)
        for reply in replies:
            self.note(reply)  # if it cannot be said, this meta-step has not begun to count
        for task, reply in zip(chosen, replies):
            task.advance(reply, step)
        among = len(self.memory["grads"])
        rows = [self._gradient(name % among, reply) for name, reply in zip(names, replies) if reply["finite"]]
        return sum_rows(rows) / len(rows) if rows else None, replies, {}

    def drain(self, step):
        """Before a validation: nothing to wait for."""


class AsTheyCome(_Accumulator):
    """Async, the paper's: workers never wait; a meta-step is the next `meta_batch` gradients that come in.

    There are two rows for each worker, so that none waits for a row to be read; a row is free again once its
    gradient is added, whoever computed it.  A job's theta is copied into its row before the job is sent, so that no
    worker reads what is being written.  Gradients of a theta more than `staleness_limit` meta-steps old are dropped.
    """

    def __init__(self, config, workers, memory, live, note):
        super().__init__(config, workers, memory, live, note)
        self.free, self.busy, self.cursor = deque(range(len(memory["grads"]))), set(), 0
        self._clear()

    def _clear(self):
        self.total, self.replies, self.ages, self.dropped = None, [], [], 0

    def publish(self, step, theta):
        """Take the segments begun from now on at this theta [P]."""
        self.theta = theta

    def next_job(self, step):
        """The next free slot's segment."""
        while self.live[self.cursor % len(self.live)].slot in self.busy:
            self.cursor += 1
        task, row = self.live[self.cursor % len(self.live)], self.free.popleft()
        self.cursor += 1
        self.busy.add(task.slot)
        self.memory["theta"][row, :len(self.theta)] = self.theta
        return self._job(task.slot, task, step, step, row, row)

    def add(self, job, reply, step):
        """Take over a finished segment: its gradient too, unless it is too old or not finite."""
        row, age = job.where["gradient"], step - job.where["version"]
        self.busy.remove(job.arguments["slot"])
        self.free.append(row)
        self.live[job.arguments["slot"]].advance(reply, step)
        if age > self.config.staleness_limit:
            self.dropped += 1
        else:
            self.replies.append(reply)
            if reply["finite"]:
                gradient = self._gradient(row, reply)
                self.total = gradient if self.total is None else self.total + gradient
                self.ages.append(age)
        self.note(reply)

    def collect(self, step, over):
        """As `InStep.collect`, of the next `meta_batch` gradients; None alone once over() says that the run is."""
        while len(self.ages) < self.config.meta_batch:
            if over():
                return None
            self.workers.add([self.next_job(step) for _ in range(self.workers.idle)])
            self._receive(step)
        extra = {"staleness_mean": float(np.mean(self.ages)), "staleness_max": max(self.ages), "stale": self.dropped}
        result = self.total / len(self.ages), self.replies, extra  # more than meta_batch may have come in at once
        self._clear()
        return result

    def _receive(self, step):
        for job, reply in self.workers.receive():
            self.add(job, reply, step)

    def drain(self, step):
        """Let the segments under way come in: a validation has the workers to itself."""
        while self.busy:
            self._receive(step)


def sum_rows(rows):
    """The sum of vectors in the order given: the same bits whatever order they were computed in."""
    total = np.array(rows[0])
    for row in rows[1:]:
        total += row
    return total
