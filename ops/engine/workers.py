"""The Pool standing in for the paper's cluster of CPU workers (App. C): `ops.workers` as Algorithm 1 uses it.

Messages are short, arrays lie in shared memory.  A run goes on whatever is killed, the fork server too; it ends when
a job fails ATTEMPTS times, or when it is asked to.
"""
import multiprocessing
import os
import signal
import time

from ops import workers
from ops.errors import InputError

STARTS = 5  # tries
ATTEMPTS = 3  # of one job, before the run gives up


class Stop(Exception):
    """The run was asked to stop."""


class _Process(multiprocessing.context.ForkServerProcess):
    """A process that is started again if the fork server is killed meanwhile: a new one takes its place.

    The thread of a Pool that replaces workers would end with that error, and the run with it.
    """

    def start(self):
        for attempt in range(STARTS):
            try:
                return super().start()
            except (EOFError, ConnectionError) as error:
                last = error
                time.sleep(0.1 * attempt)  # until the system knows that it is gone
        raise InputError(f"the fork server that starts the workers ended {STARTS} times ({last!r}); start the run "
                         "again")


class _Context(multiprocessing.context.ForkServerContext):
    Process = _Process


class Workers(workers.Workers):
    """`count` processes that each build `module.factory(**arguments)` and call it with jobs; say(text) tells the user.

    They are forked by a server that has `module` imported.  A reply is a dict.  Setting `stopping` ends the next wait
    with `Stop`.
    """

    def __init__(self, count, module, factory, arguments, say):
        self.say, self.stopping, self._replies = say, False, {}  # {name: reply}
        context = _Context()
        context.set_forkserver_preload([module])
        super().__init__(context, count, module, factory, arguments, self._again)

    def take(self, names):
        """Replies to the jobs of these names, in their order, once all are there."""
        while not all(name in self._replies for name in names):
            self._replies.update((job.name, reply) for job, reply in self.receive())
        return [self._replies.pop(name) for name in names]

    def receive(self):
        """Wait a moment; [(job, reply)] that came in.  Raises InputError if a job fails ATTEMPTS times."""
        if self.stopping:
            raise Stop
        return super().receive()

    def _again(self, job, why, times):
        self.say(f"{why}; to be computed again: {job}")
        if times == ATTEMPTS:
            raise InputError(f"{job} failed {ATTEMPTS} times; the state before it is saved")


class Signals:
    """Ctrl-C and SIGTERM: while meta-training the first one ends it after a save, the second one at once.

    At other times (starting, scoring) there is nothing to save, and the program ends at once: an exception might be
    raised within an import or a callback, which lose it, or crash.
    """

    def __init__(self):
        self.workers = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)

    def stop(self, number, frame):
        """Handle a signal."""
        if self.workers is None or self.workers.stopping:
            os._exit(130)
        self.workers.stopping = True
