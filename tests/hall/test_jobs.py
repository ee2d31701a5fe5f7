"""Jobs of processes that are killed or fail, however the processes start, and what those leave behind."""
import contextlib
import functools
import multiprocessing
import os
import signal
import socket
import sys
import time

import pytest

import ops.pools
from ops.errors import InputError
from ops.pools import Pools
from ops.workers import DIED, Job, Workers
from small_runs import shared_memory_of, wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(params=[multiprocessing.context.SpawnContext, pytest.param(multiprocessing.context.ForkServerContext, marks=pytest.mark.slow)])
def staff(request):
    """staff(count, failed): `Workers` that build `runs.Handler()`."""
    with contextlib.ExitStack() as opened:
        yield lambda count, failed: opened.enter_context(contextlib.closing(
            Workers(request.param(), count, "small_runs", "Handler", {}, failed)))


def test_a_killed_workers_job_is_given_to_another_within_a_second(staff, tmp_path):
    failures, begun = [], tmp_path / "begun"
    workers = staff(2, lambda job, why, times: failures.append((job.name, why, times)))
    workers.add([Job(1, "compute", {"file": str(begun)})])
    wait_until(lambda: workers.receive() == [] and begun.exists() and begun.read_text(), 60, "the job begins")
    wait_until(lambda: workers.receive() == [] and len(workers.pids()) == 2, 60, "the other one is there")
    assert workers.idle == 1
    busy, begin = int(begun.read_text()), time.monotonic()
    os.kill(busy, signal.SIGKILL)
    while not failures:
        assert workers.receive() == []
    assert time.monotonic() - begin < 1 and failures == [(1, DIED, 1)]
    assert busy not in workers.pids() and workers.restarts == 1
    wait_until(lambda: workers.receive() == [] and begun.read_text() not in ("", str(busy)), 60, "it begins again")
    os.kill(int(begun.read_text()), signal.SIGKILL)
    wait_until(lambda: workers.receive() == [] and len(failures) > 1, 60, "its second failure")
    assert failures[1:] == [(1, DIED, 2)]
    for pid in (os.getpid(), *workers.pids()):
        assert not shared_memory_of(pid)[1]  # no semaphore, which could be left behind


def test_the_caller_says_what_comes_of_a_job_that_fails(staff):
    def failed(job, why, times):
        assert why.rstrip().endswith("AttributeError: 'Handler' object has no attribute 'rest'") and "Traceback" in why
        seen.append((job.name, times))
        if job.name == "last":
            raise ValueError("given up")
        return "given instead" if times == 3 else None

    seen, workers, got = [], staff(1, failed), []
    workers.add([Job(name, "rest", {}) for name in ("first", "last")])
    with pytest.raises(ValueError, match="given up"):
        while True:
            got += workers.receive()
    assert got == [(Job("first", "rest", {}), "given instead")]
    assert seen == [("first", 1), ("first", 2), ("first", 3), ("last", 1)]


# --- The same through pools -----------------------------------------------------------------------


@pytest.fixture
def pools():
    """pools(count, failed): `Pools` of multiprocessing, which says nothing of a job whose process was killed."""
    with contextlib.ExitStack() as opened:
        yield lambda count, failed, kind=multiprocessing.Pool: opened.enter_context(contextlib.closing(
            Pools(kind, count, "small_runs", "Handler", {}, failed)))


def received(workers, count):
    found = []
    wait_until(lambda: found.extend(workers.receive()) or len(found) == count, 60, "all answers")
    return found


def test_a_job_of_which_a_pool_says_nothing_is_given_to_another_one(pools, tmp_path, monkeypatch):
    failures, begun = [], tmp_path / "begun"
    workers = pools(2, lambda job, why, times: failures.append((job.name, why, times)))
    workers.add([Job(1, "compute", {"file": str(begun)})])
    wait_until(lambda: workers.receive() == [] and begun.exists() and begun.read_text(), 60, "the job begins")
    first = int(begun.read_text())
    os.kill(first, signal.SIGKILL)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert workers.receive() == [] and not failures  # it may still come
    monkeypatch.setattr(ops.pools, "LOST_AFTER", (1.0, 0.0))
    wait_until(lambda: workers.receive() == [] and failures, 60, "its failure")
    monkeypatch.undo()
    assert failures == [(1, DIED, 1)] and workers.restarts == 1
    wait_until(lambda: workers.receive() == [] and begun.read_text() not in ("", str(first)), 60, "it begins again")


def test_what_fails_in_a_pools_process_is_told_with_its_host(pools):
    told = []
    workers = pools(1, lambda job, why, times: told.append(why) or ("given instead" if times == 2 else None))
    workers.add([Job("a", "rest", {}), Job("b", "threads", {})])
    assert [reply for _, reply in received(workers, 2)] == ["given instead", "1"]
    assert len(told) == 2 and all(f"worker on {socket.gethostname()}" in why and "Traceback" in why for why in told)
    workers.add([Job("c", "refuse", {})])
    with pytest.raises(InputError, match=f"worker on {socket.gethostname()}: no such data here"):
        received(workers, 1)


def test_a_pool_that_fails_is_replaced_and_one_that_never_was_is_one_line(pools):
    class Gone(RuntimeError):
        """What an engine says of a lost node."""

    class Failing:
        made = 0

        def __init__(self, processes, initializer, initargs):
            assert processes == 1
            Failing.made += 1
            self.number = Failing.made
            initializer(*initargs)

        def apply_async(self, work, arguments, callback, error_callback):
            if self.number == 1:
                error_callback(Gone("node lost"))
            elif self.number == 2:
                raise Gone("closed\n\tfor good")
            else:
                callback(work(*arguments))

        def terminate(self):
            raise Gone("long ago")

    told = []
    workers = pools(1, lambda job, why, times: told.append(why), Failing)
    workers.add([Job(1, "threads", {})])
    assert received(workers, 1) and told == ["its worker died (closed for good)"]  # the first may have been lost before
    assert workers.restarts == 2 and Failing.made == 3

    class Never:
        def __init__(self, *_):
            raise ValueError("more processes than there are")

    with pytest.raises(InputError, match="Never.* gives no worker: more processes"):
        received(pools(1, None, functools.partial(Never)), 1)  # a class with options of its own


def test_a_job_that_meets_one_lost_worker_after_another_has_not_failed(pools):
    """The workers of a lost node were idle: that says nothing of the job."""
    class Node:
        lost, made, ended = True, 0, 0

        def __init__(self, processes, initializer, initargs):
            self.on_it, Node.made = Node.made < 4, Node.made + 1
            initializer(*initargs)

        def apply_async(self, work, arguments, callback, error_callback):
            error_callback(RuntimeError("node lost")) if self.on_it else callback(work(*arguments))

        def terminate(self):
            Node.ended += 1

        def join(self):
            """At once."""

    workers = pools(4, None, Node)
    wait_until(lambda: workers.receive() == [] and workers.idle == 4, 60, "all are there")
    workers.add([Job(1, "threads", {})])
    assert len(received(workers, 1)) == 1 and workers.restarts >= 1
    workers.close()
    wait_until(lambda: Node.ended == Node.made, 10, "the end of all, also of those that were being started")


@pytest.mark.parametrize("text", ["nosuchmodule:Pool", "multiprocessing:NoSuch", "multiprocessing", ":Pool", ".x:Pool",
                                  "math:pi"])
def test_a_class_that_is_not_there_is_one_line(text):
    with pytest.raises(InputError, match=f"^--pool {text}: .*MODULE:NAME") as caught:
        ops.pools.pool_class(text)
    assert "\n" not in str(caught.value)


def test_interrupts_are_for_the_main_process(staff):
    workers, found = staff(2, None), []
    wait_until(lambda: workers.receive() == [] and len(workers.pids()) == 2, 60, "both are there")
    before = workers.pids()
    for pid in before:
        os.kill(pid, signal.SIGINT)
    workers.add([Job(i, "threads", {}) for i in range(4)])
    wait_until(lambda: found.extend(workers.receive()) or len(found) == 4, 60, "all answers")
    assert {reply for _, reply in found} == {"1"} and workers.pids() == before
