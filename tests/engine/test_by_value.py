"""`--pool MODULE:NAME`: the run is the same through any class like multiprocessing.Pool, whatever is lost on the way."""
import os
import signal
import sys
import time

import pytest

from ops.engine.checkpoint import digests
from ops.engine.validation import open_validation
from ops.engine.workers import RemoteWorker
from ops.tasks.mixture import open_pools
from small_data import config, refused
from small_runs import (LONG, any_alive, assert_same_run, children, faulty, finish, flags, metrics, one_line, start, state_of,
                        train, wait_until)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
SOME = LONG | {"steps": 8}
STANDARD = ("--pool", "multiprocessing:Pool")


def test_a_run_by_value_is_that_in_shared_memory_to_the_bit_and_each_goes_on_with_the_other(tmp_path):
    train(tmp_path / "shared", *flags(workers=2))
    train(tmp_path / "both", *flags(workers=1, steps=2))
    out, _ = train(tmp_path / "both", *flags(workers=2, steps=4), *STANDARD, "--resume")
    assert "with 2 workers of multiprocessing:Pool from meta-step 2" in out
    train(tmp_path / "both", *flags(workers=1), "--resume")
    assert_same_run(tmp_path / "shared", tmp_path / "both")


def test_killed_workers_of_a_pool_change_no_bit_and_all_end_with_the_run(tmp_path):
    train(tmp_path / "whole", *flags(workers=2, **SOME))
    program = faulty(tmp_path / "cut", "import ops.pools\nops.pools.LOST_AFTER = 1.0, 1.0")
    process = start(tmp_path / "cut", *flags(workers=2, **SOME), *STANDARD, program=program, after=2)
    below = set(children(process.pid))
    os.kill(min(below), signal.SIGKILL)
    while process.poll() is None:
        below |= set(children(process.pid))
        time.sleep(0.05)
    out, _ = finish(process)
    assert "its worker died; to be computed again" in out and len(below) >= 3
    wait_until(lambda: not any_alive(below), 10, "the end of its workers")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_signal_while_workers_are_being_started_ends_them_all(tmp_path):
    process = start(tmp_path, *flags(workers=8, live_tasks=8, steps=10 ** 6), *STANDARD, start_new_session=True)
    wait_until(lambda: (tmp_path / "runs/laptop/checkpoint.npz").exists(), 60, "the first checkpoint")
    os.killpg(process.pid, signal.SIGINT)
    _, error = finish(process, 130)
    assert error == ""
    with pytest.raises(ProcessLookupError):  # soon nobody of its session is left
        wait_until(lambda: os.killpg(process.pid, 0), 10)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_workers_of_pools_end_with_the_main_process(tmp_path, number):
    process = start(tmp_path, *flags(workers=2, mode="async", **(LONG | {"steps": 10 ** 6})), *STANDARD, after=3,
                    start_new_session=True)
    below = children(process.pid)
    assert len(below) == 2
    os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()  # Ctrl-C comes to all of them
    _, error = finish(process, 130 if number == signal.SIGINT else -number)
    wait_until(lambda: not any_alive(below), 10, "the end of its workers")
    assert error == "" and max(record["staleness_max"] for record in metrics(tmp_path)) >= 1
    if number == signal.SIGINT:
        assert state_of(tmp_path)[1]["state"]["step"] >= 3


def test_a_class_of_pools_that_is_not_there_ends_before_anything_is_written(tmp_path):
    one_line(train(tmp_path, *flags(), "--pool", "ray.util.no_such:Pool", code=2)[1], "--pool", "MODULE:NAME")
    assert not (tmp_path / "runs").exists()


def test_a_machine_with_other_data_or_without_them_says_so():
    c = config(tasks="letters", validate_sets="heldout-letters")
    data = digests(open_pools(c.tasks, c) | open_validation(c)[0])
    assert RemoteWorker(("train", "Worker"), c, data).worker.pools.keys() == data.keys()
    refused(["letters: other images"], RemoteWorker, ("train", "Worker"), c, data | {"letters": "0" * 64})
    refused(["scripts: missing"], RemoteWorker, ("train", "Worker"), c, data | {"scripts": "0" * 64})
