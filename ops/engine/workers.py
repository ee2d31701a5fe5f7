"""The Pool standing in for the paper's cluster of CPU workers (App. C): `ops.workers` as Algorithm 1 uses it.

On one machine messages are short and arrays lie in shared memory (`Workers`, `SharedWorker`); through pools of other
engines arrays travel with the jobs (`ByValue`, `RemoteWorker`).  A run goes on whatever is killed, the fork server too; it
ends when a job fails ATTEMPTS times, or when it is asked to.
"""
import importlib
import multiprocessing
import os
import signal
import time

from ops import workers
from ops.engine.checkpoint import digests
from ops.engine.shared_memory import arrays_of, put_back
from ops.engine.validation import open_validation
from ops.errors import InputError
from ops.pools import Pools
from ops.rule.fast import use_definitions
from ops.tasks.mixture import open_pools

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


class _OfARun:
    """What a run asks of its workers, however they are reached; say(text) tells the user.

    A reply is a dict.  Setting `stopping` ends the next wait with `Stop`.
    """

    stopping = False

    def __init__(self, say, *arguments):
        self.say, self._replies = say, {}  # {name: reply}
        super().__init__(*arguments, self._again)

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
        self.say(f"{why}; " + (f"to be computed again: {job}" if times < ATTEMPTS else f"the last try: {job}"))
        if times == ATTEMPTS:
            raise InputError(f"{job} failed {ATTEMPTS} times; the state before it is saved")


class Workers(_OfARun, workers.Workers):
    """`count` processes that each build `module.factory(**arguments)` and call it with jobs, forked by a server.

    The server has the modules in `preload` imported.
    """

    def __init__(self, count, module, factory, arguments, say, preload=()):
        context = _Context()
        context.set_forkserver_preload([module, *preload])
        super().__init__(say, context, count, module, factory, arguments)


class ByValue(_OfARun, Pools):
    """`count` workers through pools of the class `kind`, which build `RemoteWorker`; the arrays of jobs travel."""

    def __init__(self, kind, count, arguments, memory, say):
        self.memory = memory
        super().__init__(say, kind, count, __name__, "RemoteWorker", arguments)

    def packed(self, job):
        """The job with its arrays among its arguments."""
        return job._replace(arguments=job.arguments | arrays_of(job, self.memory), where={})

    def unpacked(self, job, answer):
        """The reply, its arrays put where the job says."""
        return put_back(job, self.memory, answer)


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


# --- What workers build ---------------------------------------------------------------------------


class SharedWorker:
    """A worker whose theta, phi and gradients lie in the run's memory, at rows that jobs name, images too.

    worker: the (module, name) of what computes them, given config and pools, and called with a job.
    """

    def __init__(self, worker, config, memory, pools):
        self.memory, self.worker = memory, _class(worker)(config, pools.pools())

    def __call__(self, job):
        """The reply to a job."""
        answer = self.worker(job._replace(arguments=job.arguments | arrays_of(job, self.memory)))
        return put_back(job, self.memory, answer)


class RemoteWorker:
    """... that is given them, and has opened the data sets of its own machine.

    data: {name: digest} of the run's, as of `digests`; plain: whether definitions run.  InputError where this machine lacks
    a data set, or has another one.
    """

    def __init__(self, worker, config, data, plain=False):
        if plain:
            use_definitions()
        pools = open_pools(config.tasks, config) | open_validation(config)[0]
        mine = digests(pools)
        for name in data:
            if mine.get(name) != data[name]:
                raise InputError(f"{name}: {'other images than' if name in mine else 'missing, unlike'} on the machine that "
                                 "the run was started on; put the same files here")
        self.worker = _class(worker)(config, {name: pools[name] for name in data})

    def __call__(self, job):
        """The answer to a job: a reply, or (reply, gradient, phi_U)."""
        return self.worker(job)


def _class(of):
    module, name = of
    return getattr(importlib.import_module(module), name)
