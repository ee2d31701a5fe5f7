"""Jobs on their way to the workers and replies on their way back; what was lost or failed is done again."""
import json
from collections import deque

from ops.errors import InputError

ATTEMPTS = 3  # of one job, before the run gives up


class Stop(Exception):
    """The run was asked to stop."""


class Dispatcher:
    """Hands jobs to a `WorkerPool` and keeps replies until they are asked for.

    say(text) tells the user.  Setting `stopping` ends the next wait with `Stop`.
    """

    def __init__(self, pool, say):
        self.pool, self.say = pool, say
        self.waiting, self.replies, self.attempts, self.stopping = deque(), {}, {}, False

    def add(self, jobs):
        """Queue `jobs`, dicts whose "job" is their name; they start in this order."""
        self.waiting.extend(jobs)

    def receive(self):
        """Give waiting jobs to idle workers, wait a moment, return [(job, reply)] that came in.

        A worker that died is replaced; an exception in a worker is shown with its task; a job that fails
        ATTEMPTS times ends the run with an InputError.
        """
        if self.stopping:
            raise Stop
        self._hand_out()
        good = []
        for _, job, reply in self.pool.wait():
            if reply is not None and "error" not in reply:
                self.attempts.pop(json.dumps(job), None)
                good.append((job, reply))
            else:
                self._again(job, reply)
        self._hand_out()  # before the caller turns to anything else
        return good

    def _hand_out(self):
        for rank in self.pool.idle():
            if self.waiting:
                self.pool.submit(rank, self.waiting.popleft())

    def _again(self, job, reply):
        what = "its worker died" if reply is None else f"an exception in its worker:\n{reply['error']}"
        self.say(f"{what}; to be computed again: {job}")
        tries = self.attempts[json.dumps(job)] = self.attempts.get(json.dumps(job), 0) + 1
        if tries == ATTEMPTS:
            raise InputError(f"{job} failed {ATTEMPTS} times; the state before it is saved")
        self.waiting.appendleft(job)

    def take(self, names):
        """Replies to the jobs of these names, in their order, once all are there."""
        while not all(name in self.replies for name in names):
            self.replies.update((job["job"], reply) for job, reply in self.receive())
        return [self.replies.pop(name) for name in names]
