"""Jobs of processes that are killed or fail, however the processes start, and what those leave behind."""
import contextlib
import multiprocessing
import os
import signal
import sys
import time

import pytest

from ops.workers import DIED, Job, Workers
from small_runs import shared_memory_of, wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(params=[multiprocessing.context.SpawnContext, multiprocessing.context.ForkServerContext])
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


def test_interrupts_are_for_the_main_process(staff):
    workers, found = staff(2, None), []
    wait_until(lambda: workers.receive() == [] and len(workers.pids()) == 2, 60, "both are there")
    before = workers.pids()
    for pid in before:
        os.kill(pid, signal.SIGINT)
    workers.add([Job(i, "threads", {}) for i in range(4)])
    wait_until(lambda: found.extend(workers.receive()) or len(found) == 4, 60, "all answers")
    assert {reply for _, reply in found} == {"1"} and workers.pids() == before
