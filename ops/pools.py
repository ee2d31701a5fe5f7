"""Jobs by value, through any class with the interface of `multiprocessing.Pool`: on other machines too.

Each worker is a pool of one process, so that it has one job at a time and a lost one is replaced by itself, wherever there
is room then.  A pool that has lost its process may say so (an exception that is not the job's) or not: a job that takes
far longer than any before it is lost too.
"""
import contextlib
import functools
import importlib
import multiprocessing
import queue
import signal
import socket
import threading
import time
import traceback
from collections import Counter

from ops.errors import InputError
from ops.workers import DIED, POLL_SECONDS, START_SECONDS, Jobs, end_with

LOST_AFTER = 900.0, 20.0  # a job is lost after so many seconds, or so many times the longest so far if that is more
AT_ONCE = 1.0  # seconds in which a pool refuses a job that had lost its process before
RETRY_SECONDS = 2.0
END_SECONDS = 10.0  # for pools to end in; one may wait for a lock that a killed process held


# --- In a process of a pool -----------------------------------------------------------------------

_handler = None  # what answers jobs: how to build it, then itself


def _begin(module, factory, arguments):
    """The pool's initializer, which must not fail: the first job builds the handler."""
    global _handler
    _handler = functools.partial(_built, module, factory, arguments)
    if parent := multiprocessing.parent_process():  # of this library's own pools; others see to it themselves
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def _built(module, factory, arguments, job):
    global _handler
    _handler = getattr(importlib.import_module(module), factory)(**arguments)
    return _handler(job)


def _answer(job):
    """(reply, None, seconds), or (None, what went wrong here, seconds): InputError where it is the user's to mend."""
    began, host = time.monotonic(), socket.gethostname()
    try:
        reply, why = _handler(job), None
    except InputError as error:
        reply, why = None, InputError(f"worker on {host}: {error}")
    except Exception:
        reply, why = None, f"an exception in its worker on {host}:\n{traceback.format_exc()}"
    return reply, why, time.monotonic() - began


# --- In the main process --------------------------------------------------------------------------


def pool_class(text):
    """The class that MODULE:NAME is.  InputError where there is none."""
    module, _, name = text.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
        if not callable(kind):
            raise TypeError(f"{name} is no class")
        return kind
    except Exception as error:  # whatever importing the module may end in
        raise InputError(f"--pool {text}: {_line(error)}; give MODULE:NAME of a class like multiprocessing:Pool, of a "
                         "module that is installed here") from error


def _line(error):
    return " ".join(str(error).split())


class Pools(Jobs):
    """`count` pools of one process, each of which builds `module.factory(**arguments)` and calls it with jobs.

    kind: the class of pools; failed: as of `Jobs`.  A job goes as `packed` makes it, and what comes back is the reply that
    `unpacked` makes of it.
    """

    def __init__(self, kind, count, module, factory, arguments, failed):
        super().__init__(count, failed)  # a worker is a number; `_processes` has its pool
        self._kind, self._arguments = kind, (module, factory, arguments)
        self._inbox, self._wanted = queue.SimpleQueue(), queue.SimpleQueue()  # calls to make here; workers to be started
        self._sent, self._longest, self._changed = {}, 0.0, time.monotonic()
        self._at_once = Counter()  # {name of a job: how often it was refused at once}
        self._name, self._closed = getattr(kind, "__qualname__", str(kind)), threading.Event()
        self._opener = threading.Thread(target=self._open, daemon=True)
        self._opener.start()
        for number in range(count):
            self._wanted.put(number)

    @property
    def idle(self):
        """How many jobs would be begun at once: by the workers that are there."""
        return max(0, len(self._processes) - len(self._jobs) - len(self._queue))

    def packed(self, job):
        """What is sent of a job."""
        return job

    def unpacked(self, job, answer):
        """The reply that an answer is."""
        return answer

    def _open(self):
        """Start workers one after another, apart from the main thread: there may be no room for one until a machine joins.

        So a pool never installs handlers of signals either, which only the main thread can.  What this thread starts comes up deaf
        to Ctrl-C, until `_begin` has it ignored.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        while (number := self._wanted.get()) is not None and not self._closed.is_set():
            try:
                self._inbox.put((self._admit, number, self._kind(1, _begin, self._arguments)))
            except Exception as error:
                self._inbox.put((self._refused, number, error))
                self._closed.wait(RETRY_SECONDS)

    def receive(self):
        """Wait a moment; [(job, reply)] that came in.

        InputError if a worker says so, or if for START_SECONDS there has been none.
        """
        answered = []
        with contextlib.suppress(queue.Empty):
            entry = self._inbox.get(timeout=POLL_SECONDS)
            while True:
                act, *what = entry
                answered += act(*what) or []
                entry = self._inbox.get_nowait()
        for worker in [worker for worker in self._sent if self._overdue(worker)]:
            answered += self._lost(worker, None)
        if not self._processes and time.monotonic() - self._changed > START_SECONDS:
            raise InputError(f"no worker of {self._name} started within {START_SECONDS:.0f} s; see whether there is "
                             "room for one, then --resume")
        self._hand_out()
        return answered

    def _overdue(self, worker):
        """Whether its job is lost: later and later each time that it was, since it may be long."""
        least, times = LOST_AFTER
        limit = max(least, times * self._longest) * 4 ** self._failures[self._jobs[worker].name]
        return time.monotonic() - self._sent[worker] > limit

    def _send(self, worker, job):
        self._sent[worker] = time.monotonic()
        put = lambda act: lambda what: self._inbox.put((act, worker, what))
        try:
            self._processes[worker].apply_async(_answer, (self.packed(job),), callback=put(self._came),
                                                error_callback=put(self._lost))
        except Exception as error:  # the pool knows already
            self._inbox.put((self._lost, worker, error))

    # What the threads of pools put into the inbox:

    def _admit(self, worker, pool):
        self._processes[worker], self._changed = pool, time.monotonic()

    def _refused(self, worker, error):
        if not self._processes and not self.restarts:  # not even the first one
            raise InputError(f"{self._name} gives no worker: {_line(error)}") from error
        self._wanted.put(worker)

    def _came(self, worker, answer):
        if worker in self._processes:  # else it was given up, and its job to another one
            reply, why, seconds = answer
            if isinstance(why, InputError):
                raise why
            del self._sent[worker]
            self._longest = max(self._longest, seconds)
            self._at_once.pop(self._jobs[worker].name, None)
            return self._answered(worker, None if why else self.unpacked(self._jobs[worker], reply), why)

    def _lost(self, worker, error):
        """Another worker in its place; its job waits again, and fails unless a worker lost before took it (each may, once)."""
        if worker in self._processes:
            _end(self._processes.pop(worker))
            name, at_once = self._jobs[worker].name, time.monotonic() - self._sent.pop(worker) < AT_ONCE
            self.restarts, self._changed = self.restarts + 1, time.monotonic()
            self._wanted.put(self.count + self.restarts)
            self._at_once[name] += at_once
            if at_once and self._at_once[name] <= self.count:
                self._queue.appendleft(self._jobs.pop(worker))
                return []
            return self._answered(worker, None, f"{DIED} ({_line(error)})" if error else DIED)

    def close(self):
        """End all workers, those that are being started too."""
        self._closed.set()
        self._wanted.put(None)
        self._opener.join(END_SECONDS)
        with contextlib.suppress(queue.Empty):
            while True:
                act, *what = self._inbox.get_nowait()
                if act == self._admit:
                    act(*what)
        until = time.monotonic() + END_SECONDS
        for ending in [_end(pool) for pool in self._processes.values()]:
            ending.join(max(0, until - time.monotonic()))


def _end(pool):
    """End a pool, in a thread of its own, which is returned."""
    def end():
        with contextlib.suppress(Exception):  # nobody is left to be told
            pool.terminate()
            pool.join()

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    return thread
