"""A `multiprocessing.Pool` whose processes may be killed at any instant, and the jobs it is given.

The Pool supplies processes and replaces those that die.  Each serves jobs inside the Pool's initializer and never
comes to the Pool's own queues: a process killed while it holds a queue's lock would stop all the others.  Instead
each opens a connection of its own to the main process, whose end, on either side, is the other side's death.
Nobody holds a lock: a killed process leaves nothing behind but a job without an answer, which another one is given.
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
from collections import Counter, deque
from contextlib import ExitStack
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from ops.errors import InputError
from ops.processes import ONE_THREAD

POLL_SECONDS = 0.5
START_SECONDS = 120.0
DIED = "its worker died"  # instead of a traceback


class Job(NamedTuple):
    """What a process is asked for: `work` is the name of a method of its handler, `arguments` that method's.

    where: where the arrays that go with it lie, in memory that its sender knows.
    """

    name: object
    work: str
    arguments: dict
    where: dict = {}


# --- In a process of the Pool ---------------------------------------------------------------------


def _serve(door, module, factory, arguments):
    """Send the main process one end of a connection, then answer the jobs that come in at the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    jobs, far_end = multiprocessing.Pipe()
    handler = None
    with contextlib.suppress(EOFError, OSError):
        socket.send_fds(door, [str(os.getpid()).encode()], [far_end.fileno()])
        far_end.close()
        while True:
            job = jobs.recv()
            try:
                handler = handler or getattr(importlib.import_module(module), factory)(**arguments)
                answer = handler(job), None
            except Exception:
                answer = None, f"an exception in its worker:\n{traceback.format_exc()}"
            jobs.send(answer)
    os._exit(1)


def end_with(parent):
    """End this process with its parent, even in the middle of a job: kernels and products let other threads run."""
    parent.join()
    os._exit(1)


# --- In the main process --------------------------------------------------------------------------


class _NoLock(contextlib.nullcontext):
    """For the Pool's queues, which no process uses: a real lock is a named semaphore, which killed processes leave."""

    def acquire(self, *_):
        """At once."""
        return True


@contextlib.contextmanager
def _one_thread():
    """ONE_THREAD in the environment, for as long as processes may be started."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _interrupts_later():
    """Ctrl-C comes to this process afterwards, and never to what is started meanwhile."""
    resource_tracker.ensure_running()  # its start would let them in
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Jobs:
    """Jobs that wait, those that workers have, and what comes of one whose worker is lost.

    A worker is a key of `_processes`; `_send(worker, job)` reaches it.  A reply is anything but None.
    failed(job, why, times) is told of a job that failed, for the how manieth time: why is DIED, or the exception with
    its traceback.  It gives None to have the job done again, or the reply that it is to have; or raises.
    """

    def __init__(self, count, failed):
        self.count, self.failed, self.restarts = count, failed, 0
        self._processes = {}  # {worker: how it is to be ended}
        self._jobs = {}       # {worker: the job under way there}
        self._queue, self._failures = deque(), Counter()  # jobs; {name: how often it failed}

    @property
    def idle(self):
        """How many jobs would be begun at once."""
        return max(0, self.count - len(self._jobs) - len(self._queue))

    def add(self, jobs):
        """Queue jobs; they start in this order."""
        self._queue.extend(jobs)
        self._hand_out()

    def _hand_out(self):
        """Give jobs to workers without one, at most `count`: those of a killed fork server live on beside new ones."""
        for worker in self._processes:
            if self._queue and worker not in self._jobs and len(self._jobs) < self.count:
                self._jobs[worker] = self._queue.popleft()
                self._send(worker, self._jobs[worker])

    def _answered(self, worker, reply, why):
        """[(job, reply)] of a worker that has answered or is lost; [] if it had no job, or one that waits again now."""
        if not (job := self._jobs.pop(worker, None)):
            return []
        if why:
            self._failures[job.name] += 1
            reply = self.failed(job, why, self._failures[job.name])
        if reply is None:
            self._queue.appendleft(job)
            return []
        del self._failures[job.name]
        return [(job, reply)]


class Workers(Jobs):
    """`count` processes that each build `module.factory(**arguments)` and call it with jobs; `close` ends them.

    context: how they start, a `multiprocessing.context` of the caller's own that does so from a fresh interpreter; it
    sees ONE_THREAD in its environment: one BLAS and numba thread, whatever this program itself was started with.
    failed: as of `Jobs`.
    """

    def __init__(self, context, count, module, factory, arguments, failed):
        super().__init__(count, failed)  # a worker is the connection to it; `_processes` has its process id
        self._changed = time.monotonic()
        context.Lock = _NoLock
        with ExitStack() as opened:
            self._door, theirs = map(opened.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
            opened.enter_context(_one_thread())
            with _interrupts_later():
                pool = context.Pool(count, _serve, (theirs, module, factory, arguments))
                for end in (self._end_forgotten, pool.join, pool.terminate):  # the last one first
                    opened.callback(end)
            self.close = opened.pop_all().close

    def pids(self):
        """Process ids of the workers that have reported for work."""
        return list(self._processes.values())

    def receive(self):
        """Wait a moment; [(job, reply)] that came in.  InputError if processes cannot be started."""
        answered = []
        for source in wait([self._door, *self._processes], POLL_SECONDS):
            if source is self._door:
                self._admit()
                continue
            try:
                reply, why = source.recv()
            except (EOFError, OSError):
                reply, why = None, DIED
                self._bury(source)
            answered += self._answered(source, reply, why)
        if len(self._processes) < self.count and time.monotonic() - self._changed > START_SECONDS:
            raise InputError(f"a worker process did not start within {START_SECONDS:.0f} s; ask for fewer")
        self._hand_out()  # before the caller turns to anything else
        return answered

    def _send(self, worker, job):
        with contextlib.suppress(OSError):  # it died just now, as `receive` will notice
            worker.send(job)

    def _admit(self):
        """Take the connection that a new worker has sent."""
        message, (descriptor,), _, _ = socket.recv_fds(self._door, 64, 1)
        self._processes[Connection(descriptor)] = int(message)
        self._changed = time.monotonic()

    def _bury(self, worker):
        """Forget a worker that has died."""
        worker.close()
        del self._processes[worker]
        self.restarts, self._changed = self.restarts + 1, time.monotonic()

    def _end_forgotten(self):
        """End what lives and the Pool knows no more of, since its fork server was killed."""
        for worker, pid in self._processes.items():
            if not worker.poll():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            worker.close()
