"""A `multiprocessing.Pool` standing in for the paper's cluster of CPU workers (App. C).

The pool supplies processes and replaces dead ones; each serves jobs inside the pool's initializer, so
that it never touches the pool's own queues: a process killed while it holds a queue's lock would stop
the whole pool.  Jobs and replies are short JSON messages over a pipe per rank, arrays lie in shared
memory.  Nobody holds a lock, so a worker killed at any instant leaves nothing behind but an unanswered
job, which `wait` reports within a second.
"""
import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import time
import traceback
from multiprocessing.connection import wait as wait_for

from ops.errors import InputError
from ops.processes import PREFIX, alive, end_with_parent, usable_cores  # noqa: F401  (usable_cores: for callers)

ONE_THREAD = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
                                     "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS", "UNSUP_META_THREADS")}
MESSAGE_LIMIT = 4000  # bytes: a pipe takes as much in one piece, or nothing
POLL_SECONDS = 0.5
START_SECONDS = 120.0
STARTS = 5  # tries
HEAD, TAIL = 600, 1400  # characters that are kept of a traceback: its start and, after it, what was raised


def _serve(hello, pids, channels, module, factory, arguments):
    """In a worker: announce its process id, wait for a rank, then answer jobs until the main process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    end_with_parent(parent)
    os.environ.update(ONE_THREAD)  # for what is read late, should the fork server have been started by another
    hello.send_bytes(str(os.getpid()).encode())
    while os.getpid() not in pids[:]:
        time.sleep(0.01)
        _leave_with(parent)
    channel, handler = channels[pids[:].index(os.getpid())], None
    while True:
        while not channel.poll(POLL_SECONDS):
            _leave_with(parent)
        job = json.loads(channel.recv_bytes())
        try:
            if handler is None:
                handler = getattr(importlib.import_module(module), factory)(**arguments)
            reply = handler(job)
        except Exception:
            reply = {"error": _shortened(traceback.format_exc())}
        try:
            channel.send_bytes(json.dumps(reply | {"job": job["job"]}).encode())
        except OSError:
            _leave_with(parent)


def _shortened(text):
    """`text` with its middle left out where it is long: a traceback's first and last lines tell most."""
    left_out = len(text) - HEAD - TAIL
    return text if left_out <= 0 else f"{text[:HEAD]}\n... {left_out} characters left out ...\n{text[-TAIL:]}"


def _leave_with(parent):
    """End this process once the main process has ended (where the system did not do so)."""
    if parent is not None and not parent.is_alive():
        os._exit(1)


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
        raise InputError(f"the fork server that starts the workers ended {STARTS} times ({last!r}); start the run again")


class _Context(multiprocessing.context.ForkServerContext):
    Process = _Process


class WorkerPool:
    """`count` worker processes that each build `module.factory(**arguments)` and call it with jobs.

    A job and its reply are JSON dicts; "job" is its identity.  One BLAS and numba thread each: the
    processes start from a fresh interpreter that sees ONE_THREAD in its environment, however and
    with whatever threads this program itself was started.
    """

    def __init__(self, count, module, factory, arguments):
        self.count, self.restarts = count, 0
        context = _Context()
        context.set_forkserver_preload([module])
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(ONE_THREAD)
        try:
            pairs = [context.Pipe() for _ in range(count)]
            self._pipes, self._far_ends = [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
            self._hello, hello = context.Pipe(duplex=False)
            self._pids = context.RawArray("q", count)  # rank -> process id, read by the workers
            with _semaphores_of_ours():
                shared = hello, self._pids, self._far_ends, module, factory, arguments
                self._pool = context.Pool(count, _serve, shared)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self._job = [None] * count
        self._vacant = [time.monotonic()] * count  # since when a rank waits for a process
        self._waiting, self._looked = [], 0.0

    def idle(self):
        """Ranks that have no job."""
        return [rank for rank in range(self.count) if self._job[rank] is None]

    def pids(self):
        """Process ids of the workers that have reported for work."""
        return [pid for pid in self._pids if pid]

    def submit(self, rank, job):
        """Hand `job` to the idle worker `rank`."""
        self._job[rank] = job
        if self._pids[rank]:
            self._send(rank, job)

    def _send(self, rank, job):
        message = json.dumps(job).encode()
        assert len(message) <= MESSAGE_LIMIT, "a job must fit a pipe's atomic write"
        self._pipes[rank].send_bytes(message)

    def wait(self, timeout=POLL_SECONDS):
        """Events as (rank, job, reply): a reply, or None where the worker died with the job undone.

        Returns as soon as there is one, or an empty list after `timeout` seconds.
        """
        events = [] if time.monotonic() - self._looked < POLL_SECONDS else self._dead()
        for pipe in wait_for([self._hello, *self._pipes], 0 if events else timeout):
            message = json.loads(pipe.recv_bytes())
            if pipe is self._hello:
                self._waiting.append(message)
                self._assign()
            else:
                rank = self._pipes.index(pipe)
                job, self._job[rank] = self._job[rank], None
                events.append((rank, job, message))
        return events

    def _assign(self):
        """Give vacant ranks to processes that announced themselves."""
        for rank in range(self.count):
            while not self._pids[rank] and self._waiting:
                pid = self._waiting.pop(0)
                if alive(pid):
                    self._pids[rank] = pid
                    if self._job[rank] is not None:
                        self._send(rank, self._job[rank])

    def _dead(self):
        """Vacate the ranks of workers that died; events for the jobs they had."""
        self._looked, events = time.monotonic(), []
        for rank, pid in enumerate(self._pids):
            if not pid and self._looked - self._vacant[rank] > START_SECONDS:
                raise InputError(f"worker {rank} did not start within {START_SECONDS:.0f} s; give fewer --workers")
            if not pid or alive(pid) or self._pipes[rank].poll():  # an answer it managed to send still counts
                continue
            self.restarts += 1
            _empty(self._far_ends[rank])
            self._pids[rank], self._vacant[rank] = 0, self._looked
            job, self._job[rank] = self._job[rank], None
            if job is not None:
                events.append((rank, job, None))
        self._assign()
        return events

    def close(self):
        """End every worker and wait for the processes."""
        self._pool.terminate()
        self._pool.join()
        for pid in filter(alive, self.pids()):  # of whom the pool knows no more: their fork server was killed
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pipe in [self._hello, *self._pipes, *self._far_ends]:
            pipe.close()


@contextlib.contextmanager
def _semaphores_of_ours():
    """Semaphores made meanwhile are named after this process, so that `remove_abandoned` knows whose they were.

    multiprocessing offers no public way; where it keeps its prefix elsewhere, the names stay its own.
    """
    try:
        settings = multiprocessing.process.current_process()._config
        before = settings["semprefix"]
        settings["semprefix"] = f"/{PREFIX}_{os.getpid()}"
    except (AttributeError, KeyError, TypeError):
        yield
        return
    try:
        yield
    finally:
        settings["semprefix"] = before


def _empty(pipe):
    """Throw away what a dead worker left unread, byte by byte: it may have died inside a message."""
    os.set_blocking(pipe.fileno(), False)
    try:
        while os.read(pipe.fileno(), 1 << 16):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(pipe.fileno(), True)
