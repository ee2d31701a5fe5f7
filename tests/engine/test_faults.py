"""Faults that must cost nothing: killed workers, a killed main process, signals, full disks, NaN."""
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from ops.files import load_npz
from ops.processes import ONE_THREAD
from small_runs import (ENDLESS, LONG, any_alive, assert_nothing_has_a_name, assert_same_run, descendants, faulty, finish,
                  flags, fork_server_of, metrics, one_line, start, state_of, train, wait_until, workers_of)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and /dev/shm")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, *flags(workers=2, **LONG))
    return folder


def test_killed_workers_change_no_bit(undisturbed, tmp_path):
    process, chance, killed = start(tmp_path, *flags(workers=2, **LONG), after=2), random.Random(0), 0
    while process.poll() is None and killed < 4:
        alive = workers_of(process)
        if alive:
            try:
                os.kill(chance.choice(alive), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
        time.sleep(0.4)
    out, _ = finish(process)
    assert killed >= 2 and "died" in out
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_killed_fork_server_changes_no_bit(undisturbed, tmp_path):
    """Its workers live on; the next one to be replaced needs a new fork server."""
    process = start(tmp_path, *flags(workers=2, **LONG), after=2)
    workers = workers_of(process)
    os.kill(fork_server_of(process)[0], signal.SIGKILL)
    time.sleep(0.2)
    for worker in workers:  # also those that may have ended by themselves
        if Path(f"/proc/{worker}").exists():
            os.kill(worker, signal.SIGKILL)
    finish(process)
    assert_same_run(tmp_path, undisturbed)
    assert not any_alive(workers)


def test_killed_main_process_leaves_no_orphans_and_resumes_to_the_same_bits(undisturbed, tmp_path):
    process = start(tmp_path, *flags(workers=2, checkpoint_steps=5, **LONG), after=12)
    below = descendants(process.pid)
    assert_nothing_has_a_name([process.pid, *below])
    process.kill()
    process.wait()
    wait_until(lambda: not any_alive(below), 5, "the end of its processes")
    train(tmp_path, *flags(workers=2, checkpoint_steps=5, **LONG), "--resume")
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.parametrize("number, mode", [(signal.SIGINT, "sync"), (signal.SIGTERM, "async")])
def test_signal_saves_and_exits_130(tmp_path, number, mode):
    process = start(tmp_path, *flags(workers=2, mode=mode, **ENDLESS), after=3)
    below = descendants(process.pid)
    process.send_signal(number)
    finish(process, 130)
    wait_until(lambda: not any_alive(below), 5, "the end of its processes")
    assert load_npz(tmp_path / "runs/laptop/theta.npz")
    saved = state_of(tmp_path)[1]["state"]["step"]
    assert saved >= 3
    if mode == "sync":
        assert [r["step"] for r in metrics(tmp_path)] == list(range(saved))
    train(tmp_path, *flags(workers=2, mode=mode, **(LONG | {"steps": saved + 2})), "--resume")
    assert state_of(tmp_path)[1]["state"]["step"] == saved + 2


def test_async_trains_and_logs_staleness(tmp_path):
    train(tmp_path, *flags(workers=2, mode="async", **LONG))
    records = metrics(tmp_path)
    assert [r["step"] for r in records] == list(range(LONG["steps"]))
    assert all(r["segments"] >= 3 and 0 <= r["staleness_mean"] <= r["staleness_max"] for r in records)
    assert max(r["staleness_max"] for r in records) >= 1


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    train(tmp_path, *flags(workers=1, steps=3))
    before = (tmp_path / "runs/laptop/checkpoint.npz").read_bytes()
    program = faulty(tmp_path, "import errno, os\nwritten = []\ndef full(file):\n    written.append(file)\n"
                     "    if len(written) > 1: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
                     "os.fsync = full")  # the log still fits
    _, error = train(tmp_path, *flags(workers=1, steps=6), "--resume", program=program, code=2)
    one_line(error, "runs/laptop/checkpoint", "No space left")
    assert (tmp_path / "runs/laptop/checkpoint.npz").read_bytes() == before
    assert not [p for p in (tmp_path / "runs/laptop").iterdir() if p.name.startswith(".")]


def test_an_exception_in_a_worker_shows_its_traceback_and_ends_after_three_tries(tmp_path):
    program = faulty(tmp_path, "import unsup_meta\ndef broken(*args): raise ZeroDivisionError('put in by the test')\n"
                     "unsup_meta.meta_gradient = broken")
    out, error = train(tmp_path, *flags(workers=2), program=program, code=2)
    one_line(error, "failed 3 times")
    for word in ("put in by the test", "Traceback", "'slot': ", "its task: glyphs 14x14, letters"):
        assert word in out, out
    assert state_of(tmp_path)[1]["state"]["step"] == 0  # what there was is saved


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_non_finite_gradients_are_dropped_counted_and_end_the_run_when_too_many(tmp_path, mode):
    out, err = train(tmp_path, *flags(workers=2, mode=mode, lr=1e30, max_failures=4), code=2)
    assert "not finite" in out and "segments in a row" in err and len(err.splitlines()) == 1 and "letters" in out
    assert json.loads(str(load_npz(tmp_path / "runs/laptop/checkpoint.npz")["header"]))["state"]["failures"] >= 4


def test_workers_have_one_thread_each_however_the_program_was_started(tmp_path):
    process = start(tmp_path, *flags(workers=1, **ENDLESS), after=1, env=os.environ | {
        "OPENBLAS_NUM_THREADS": "7", "NUMBA_NUM_THREADS": "2", "UNSUP_META_THREADS": "3"})
    worker = Path(f"/proc/{workers_of(process)[0]}")
    environment = worker.joinpath("environ").read_text().split("\0")
    assert {f"{name}=1" for name in ONE_THREAD} <= set(environment)
    assert len(list(worker.joinpath("task").iterdir())) == 2  # the other one waits for the main process to end
    process.send_signal(signal.SIGINT)
    finish(process, 130)
