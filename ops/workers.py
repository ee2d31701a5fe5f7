"""A `multiprocessing.Pool` standing in for the paper's cluster of CPU workers (App. C).

The pool supplies and replaces processes; each runs one endless `_serve` call.  Jobs and replies are
short JSON messages over a pipe per worker, arrays lie in shared memory.  Nobody holds a lock while
computing, so a worker killed at any instant leaves nothing behind but an unanswered job, which
`wait` reports within a second.
"""
import importlib
import json
import multiprocessing
import os
import signal
import time
import traceback
from multiprocessing.connection import wait as wait_for

ONE_THREAD = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
                                     "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS")}
MESSAGE_LIMIT = 4000  # bytes: a pipe takes as much in one piece, or nothing
POLL_SECONDS = 0.5
START_SECONDS = 120.0

_channels = None  # in a worker: its end of every pipe


def usable_cores():
    """Cores this process may use: its affinity, and the cgroup's quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as f:
            quota, period = f.read().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cores


def _initialise(channels):
    global _channels
    _channels = channels
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _serve(rank, module, factory, arguments):
    """Answer jobs on this worker's pipe until told to stop or the main process is gone."""
    channel, parent = _channels[rank], multiprocessing.parent_process()
    handler = None
    channel.send_bytes(json.dumps({"hello": os.getpid()}).encode())
    while True:
        while not channel.poll(POLL_SECONDS):
            if parent is not None and not parent.is_alive():
                os._exit(1)
        job = json.loads(channel.recv_bytes())
        if job is None:
            return
        try:
            if handler is None:
                handler = getattr(importlib.import_module(module), factory)(**arguments)
            reply = handler(job)
        except Exception:
            reply = {"error": traceback.format_exc()[-MESSAGE_LIMIT // 2:]}
        channel.send_bytes(json.dumps(reply | {"job": job["job"]}).encode())


class WorkerPool:
    """`count` worker processes that each build `module.factory(**arguments)` and call it with jobs.

    A job and its reply are JSON dicts; "job" is its identity.  One BLAS and numba thread each: the
    processes start from a fresh interpreter that sees ONE_THREAD in its environment, however and
    with whatever threads this program itself was started.
    """

    def __init__(self, count, module, factory, arguments):
        self.count, self._call = count, (module, factory, arguments)
        self.restarts = 0
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([module])
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(ONE_THREAD)
        try:
            pairs = [context.Pipe() for _ in range(count)]
            self._pipes = [ours for ours, _ in pairs]
            self._pool = context.Pool(count, _initialise, ([theirs for _, theirs in pairs],))
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self._pid = [None] * count
        self._job = [None] * count
        self._started = [0.0] * count
        for rank in range(count):
            self._start(rank)

    def _start(self, rank):
        self._pid[rank], self._started[rank] = None, time.monotonic()
        self._pool.apply_async(_serve, (rank, *self._call))

    def idle(self):
        """Ranks that have no job."""
        return [rank for rank in range(self.count) if self._job[rank] is None]

    def pids(self):
        """Process ids of the workers that have reported for work."""
        return [pid for pid in self._pid if pid is not None]

    def submit(self, rank, job):
        """Hand `job` to the idle worker `rank`."""
        self._job[rank] = job
        if self._pid[rank] is not None:
            self._send(rank, job)

    def _send(self, rank, job):
        message = json.dumps(job).encode()
        assert len(message) <= MESSAGE_LIMIT, "a job must fit a pipe's atomic write"
        self._pipes[rank].send_bytes(message)

    def wait(self, timeout=POLL_SECONDS):
        """Events as (rank, job, reply): a reply, or None where the worker died with the job undone.

        Returns as soon as there is one, or an empty list after `timeout` seconds.
        """
        events = []
        for pipe in wait_for(self._pipes, timeout):
            rank = self._pipes.index(pipe)
            message = json.loads(pipe.recv_bytes())
            if "hello" in message:
                self._pid[rank] = message["hello"]
                if self._job[rank] is not None:
                    self._send(rank, self._job[rank])
            else:
                job, self._job[rank] = self._job[rank], None
                events.append((rank, job, message))
        return events or self._dead()

    def _dead(self):
        events = []
        for rank, pid in enumerate(self._pid):
            if pid is None and time.monotonic() - self._started[rank] > START_SECONDS:
                raise RuntimeError(f"worker {rank} did not start within {START_SECONDS:.0f} s")
            if pid is not None and not _alive(pid):
                while self._pipes[rank].poll():  # an answer that it managed to send still counts
                    return []
                self.restarts += 1
                self._drain_unread(rank)
                job, self._job[rank] = self._job[rank], None
                self._start(rank)
                events.append((rank, job, None))
        return [event for event in events if event[1] is not None]

    def _drain_unread(self, rank):
        """Nothing to do: a job in the pipe that the dead worker never read is read, and answered, by the next."""

    def close(self):
        """Stop every worker, at once if it is idle, and wait for the processes to end."""
        for rank, pid in enumerate(self._pid):
            if pid is not None and self._job[rank] is None and _alive(pid):
                self._pipes[rank].send_bytes(json.dumps(None).encode())
        self._pool.terminate()
        self._pool.join()
        for pipe in self._pipes:
            pipe.close()


def _alive(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False
    except OSError:
        return True
