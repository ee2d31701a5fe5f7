"""A `multiprocessing.Pool` standing in for the paper's cluster of CPU workers (App. C), and the jobs it is given.

The Pool supplies processes and replaces those that die.  Each serves jobs inside the Pool's initializer and never
comes to the Pool's own queues: a process killed while it holds a queue's lock would stop all the others.  Instead
each opens a connection of its own to the main process, whose end, on either side, is the other side's death.
Messages are short, arrays lie in shared memory and nobody holds a lock: a worker killed at any instant leaves
nothing behind but a job without an answer, which another one is given.
"""
import contextlib
import importlib
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections import deque
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from ops.errors import InputError
from ops.processes import ONE_THREAD

POLL_SECONDS = 0.5
START_SECONDS = 120.0
STARTS = 5  # tries
ATTEMPTS = 3  # of one job, before the run gives up


class Job(NamedTuple):
    """What a worker is asked for: `work` is the name of a method of its handler, `arguments` that method's."""

    name: object
    work: str
    arguments: dict


class Stop(Exception):
    """The run was asked to stop."""


# --- In a worker ----------------------------------------------------------------------------------


def _serve(door, module, factory, arguments):
    """Send the main process one end of a connection, then answer the jobs that come in at the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    os.environ.update(ONE_THREAD)  # for what is read late, should the fork server have been started by another
    jobs, far_end = multiprocessing.Pipe()
    handler = None
    with contextlib.suppress(EOFError, OSError):
        socket.send_fds(door, [str(os.getpid()).encode()], [far_end.fileno()])
        far_end.close()
        while True:
            job = jobs.recv()
            try:
                if handler is None:
                    handler = getattr(importlib.import_module(module), factory)(**arguments)
                reply = handler(job)
            except Exception:
                reply = {"error": traceback.format_exc()}
            jobs.send(reply)
    os._exit(1)


def _end_with(parent):
    """End this process with its parent, even in the middle of a segment: kernels and products let other threads run."""
    parent.join()
    os._exit(1)


# --- In the main process --------------------------------------------------------------------------


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


class _NoLock(contextlib.nullcontext):
    """For the Pool's queues, which no worker uses: a real lock is a named semaphore, which killed processes leave."""

    def acquire(self, *_):
        """At once."""
        return True


class _Context(multiprocessing.context.ForkServerContext):
    Process = _Process

    def Lock(self):
        return _NoLock()


class Workers:
    """`count` processes that each build `module.factory(**arguments)` and call it with jobs.

    A reply is a dict.  Jobs of workers that died or failed are done again.  say(text) tells the user.  Setting
    `stopping` ends the next wait with `Stop`.  One BLAS and numba thread each: the processes start from a fresh
    interpreter that sees ONE_THREAD in its environment, whatever threads this program itself was started with.
    """

    def __init__(self, count, module, factory, arguments, say):
        self.count, self.say, self.restarts, self.stopping = count, say, 0, False
        self._processes = {}  # the connection to each worker -> its process id
        self._jobs = {}       # the connection -> the job under way there
        self._queue, self._replies, self._failures = deque(), {}, {}  # jobs; {name: reply}; {name: how often}
        self._changed = time.monotonic()
        context, before = _Context(), {name: os.environ.get(name) for name in ONE_THREAD}
        context.set_forkserver_preload([module])
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        os.environ.update(ONE_THREAD)
        try:
            self._pool = context.Pool(count, _serve, (theirs, module, factory, arguments))
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    @property
    def idle(self):
        """How many jobs would be begun at once."""
        return max(0, self.count - len(self._jobs) - len(self._queue))

    def pids(self):
        """Process ids of the workers that have reported for work."""
        return list(self._processes.values())

    def add(self, jobs):
        """Queue jobs; they start in this order."""
        self._queue.extend(jobs)
        self._hand_out()

    def take(self, names):
        """Replies to the jobs of these names, in their order, once all are there."""
        while not all(name in self._replies for name in names):
            self._replies.update((job.name, reply) for job, reply in self.receive())
        return [self._replies.pop(name) for name in names]

    def receive(self):
        """Wait a moment; [(job, reply)] that came in.

        A worker that died is replaced; an exception in a worker is shown with its task.  Raises InputError if a
        job fails ATTEMPTS times.
        """
        if self.stopping:
            raise Stop
        good = []
        for source in wait([self._door, *self._processes], POLL_SECONDS):
            if source is self._door:
                self._admit()
                continue
            try:
                reply = source.recv()
            except (EOFError, OSError):
                self._bury(source)
                continue
            job = self._jobs.pop(source)
            if "error" in reply:
                self._again(job, f"an exception in its worker:\n{reply['error']}")
            else:
                self._failures.pop(job.name, None)
                good.append((job, reply))
        if len(self._processes) < self.count and time.monotonic() - self._changed > START_SECONDS:
            raise InputError(f"a worker did not start within {START_SECONDS:.0f} s; give fewer --workers")
        self._hand_out()  # before the caller turns to anything else
        return good

    def _hand_out(self):
        """Give jobs to workers without one, at most `count`: those of a killed fork server live on beside new ones."""
        for worker in self._processes:
            if self._queue and worker not in self._jobs and len(self._jobs) < self.count:
                self._jobs[worker] = self._queue.popleft()
                with contextlib.suppress(OSError):  # it died just now, as `receive` will notice
                    worker.send(self._jobs[worker])

    def _admit(self):
        """Take the connection that a new worker has sent."""
        message, (descriptor,), _, _ = socket.recv_fds(self._door, 64, 1)
        self._processes[Connection(descriptor)] = int(message)
        self._changed = time.monotonic()

    def _bury(self, worker):
        """Forget a worker that has died; what it was doing is to be done again."""
        worker.close()
        del self._processes[worker]
        self.restarts, self._changed = self.restarts + 1, time.monotonic()
        if job := self._jobs.pop(worker, None):
            self._again(job, "its worker died")

    def _again(self, job, what):
        self.say(f"{what}; to be computed again: {job}")
        tries = self._failures[job.name] = self._failures.get(job.name, 0) + 1
        if tries == ATTEMPTS:
            raise InputError(f"{job} failed {ATTEMPTS} times; the state before it is saved")
        self._queue.appendleft(job)

    def close(self):
        """End every worker and wait for the processes."""
        self._pool.terminate()
        self._pool.join()
        for worker, pid in self._processes.items():
            if not worker.poll():  # it lives: the Pool knows no more of it, since its fork server was killed
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            worker.close()
        self._door.close()


class Signals:
    """Ctrl-C and SIGTERM: while meta-training the first one ends it after a save, the second one at once.

    At other times (starting, scoring) there is nothing to save: KeyboardInterrupt.
    """

    def __init__(self):
        self.workers = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)

    def stop(self, number, frame):
        """Handle a signal."""
        if self.workers is None:
            raise KeyboardInterrupt
        if self.workers.stopping:
            os._exit(130)
        self.workers.stopping = True
