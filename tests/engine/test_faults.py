"""Faults that must cost nothing: killed workers, a killed main process, signals, full disks, NaN, broken checkpoints."""
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ops.files import load_npz
from test_train import (ROOT, assert_same_state, finish, flags, learning, metrics, start, state_of, train)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and /dev/shm")
LONG = dict(steps=30, validate_steps=0, live_tasks=6, pairs=2)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(c) for c in found]


def descendants(pid):
    """Process ids below `pid`, workers last."""
    return children(pid) + [d for c in children(pid) for d in descendants(c)]


def fork_server_of(process):
    """The child of the run that has its workers for children; [] or its process id in a list."""
    return [c for c in children(process.pid) if children(c)]


def workers_of(process):
    """Processes that were forked by the run's fork server."""
    return [worker for server in fork_server_of(process) for worker in children(server)]


def wait_until(condition, seconds=30, what="the condition"):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true within {seconds} s"
        time.sleep(0.02)


def steps_logged(folder):
    try:
        return len((folder / "runs/laptop/metrics.jsonl").read_text().splitlines())
    except OSError:
        return 0


def shared_blocks(pid=None):
    """Blocks of shared memory that runs (or one run) left or use."""
    return [p.name for p in Path("/dev/shm").glob(f"unsup_meta_{pid or ''}*")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, *flags(workers=2, **LONG))
    return folder


def test_killed_workers_change_no_bit(undisturbed, tmp_path):
    process, chance, killed = start(tmp_path, *flags(workers=2, **LONG)), random.Random(0), 0
    wait_until(lambda: steps_logged(tmp_path) > 2, 60, "training")
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
    assert_same_state(state_of(tmp_path), state_of(undisturbed))
    assert learning(metrics(tmp_path)) == learning(metrics(undisturbed))


def test_a_killed_fork_server_changes_no_bit(undisturbed, tmp_path):
    """Its workers live on; the next one to be replaced needs a new fork server."""
    process = start(tmp_path, *flags(workers=2, **LONG))
    wait_until(lambda: steps_logged(tmp_path) > 2, 60, "training")
    workers = workers_of(process)
    os.kill(fork_server_of(process)[0], signal.SIGKILL)
    time.sleep(0.2)
    for worker in workers:  # also those that may have ended by themselves
        if Path(f"/proc/{worker}").exists():
            os.kill(worker, signal.SIGKILL)
    finish(process)
    assert_same_state(state_of(tmp_path), state_of(undisturbed))
    assert not shared_blocks(process.pid)


def test_a_killed_worker_is_noticed_within_five_seconds(tmp_path):
    process = start(tmp_path, *flags(workers=1, **(LONG | {"steps": 100000})))
    wait_until(lambda: steps_logged(tmp_path) > 2, 60, "training")
    os.kill(workers_of(process)[0], signal.SIGKILL)
    before, begin = steps_logged(tmp_path), time.monotonic()
    wait_until(lambda: steps_logged(tmp_path) > before + 3, 20, "going on")
    assert time.monotonic() - begin < 5 + 4  # noticed within 5 s; a new process loads its kernels in a few
    process.send_signal(signal.SIGTERM)
    finish(process, 130)


def test_killed_main_process_leaves_no_orphans_and_resumes_to_the_same_bits(undisturbed, tmp_path):
    process = start(tmp_path, *flags(workers=2, checkpoint_steps=5, **LONG))
    wait_until(lambda: steps_logged(tmp_path) > 12, 60, "training")
    below = descendants(process.pid)
    process.kill()
    process.wait()
    alive = lambda: [p for p in below if Path(f"/proc/{p}").exists() and "Z" not in Path(f"/proc/{p}/stat").read_text().split(")")[1][:3]]
    wait_until(lambda: not alive(), 10, "the end of its processes")
    train(tmp_path, *flags(workers=2, checkpoint_steps=5, **LONG), "--resume")
    assert not shared_blocks(process.pid)
    assert_same_state(state_of(tmp_path), state_of(undisturbed))
    assert learning(metrics(tmp_path)) == learning(metrics(undisturbed))


@pytest.mark.parametrize("number, mode", [(signal.SIGINT, "sync"), (signal.SIGTERM, "async")])
def test_signal_saves_and_exits_130(tmp_path, number, mode):
    process = start(tmp_path, *flags(workers=2, mode=mode, **(LONG | {"steps": 100000})))
    wait_until(lambda: steps_logged(tmp_path) > 3, 60, "training")
    process.send_signal(number)
    finish(process, 130)
    assert load_npz(tmp_path / "runs/laptop/theta.npz") and not shared_blocks(process.pid)
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
    assert all(r["segments"] + r["stale"] + r["dropped"] >= 3 and 0 <= r["staleness_mean"] <= r["staleness_max"] for r in records)
    assert max(r["staleness_max"] for r in records) >= 1


def faulty_program(folder, fault):
    """`folder/train.py`: the real program with a fault put in before it starts, in every process of the run."""
    (folder / "train.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{fault}\n"
                                     f"exec(open({str(ROOT / 'train.py')!r}).read())\n")


def run_faulty(folder, *arguments):
    return subprocess.run([sys.executable, "train.py", "--no-score", *arguments], cwd=folder, capture_output=True,
                          text=True, timeout=120)


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    train(tmp_path, *flags(workers=1, steps=3))
    before = (tmp_path / "runs/laptop/checkpoint.npz").read_bytes()
    faulty_program(tmp_path, "import errno, os\nwritten = []\ndef full(file):\n"
                   "    written.append(file)\n    if len(written) > 2: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
                   "os.fsync = full")  # the log and the best theta still fit
    done = run_faulty(tmp_path, *flags(workers=1, steps=6), "--resume")
    assert "runs/laptop/checkpoint" in done.stderr, done.stderr
    assert done.returncode == 2 and "No space left" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "runs/laptop/checkpoint.npz").read_bytes() == before
    assert not [p for p in (tmp_path / "runs/laptop").iterdir() if p.name.startswith(".")]


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    train(tmp_path, *flags(workers=1, steps=2))
    path = tmp_path / "runs/laptop/checkpoint.npz"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:len(whole) // 2])
    _, err = train(tmp_path, *flags(workers=1, steps=4), "--resume", code=2)
    assert "checkpoint.npz" in err and len(err.strip().splitlines()) == 1


def test_an_exception_in_a_worker_shows_its_traceback_and_ends_after_three_tries(tmp_path):
    faulty_program(tmp_path, "import unsup_meta\ndef broken(*args): raise ZeroDivisionError('a fault put in by the test')\n"
                   "unsup_meta.meta_gradient = broken")
    done = run_faulty(tmp_path, *flags(workers=2))
    assert done.returncode == 2 and "failed 3 times" in done.stderr
    for word in ("a fault put in by the test", "Traceback", "'slot': ", "its task: glyphs 14x14, letters"):
        assert word in done.stdout, done.stdout


def test_non_finite_gradients_are_dropped_counted_and_end_the_run_when_too_many(tmp_path):
    out, err = train(tmp_path, *flags(workers=2, lr=1e30, max_failures=4), code=2)
    assert "not finite" in out and "segments in a row" in err and len(err.splitlines()) == 1 and "letters" in out
    assert json.loads(str(load_npz(tmp_path / "runs/laptop/checkpoint.npz")["header"]))["state"]["failures"] >= 4


def test_blocks_of_dead_owners_are_removed_and_those_of_living_ones_kept():
    from ops.engine.shared_memory import SharedArrays, remove_abandoned
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = Path(f"/dev/shm/unsup_meta_{dead.pid}_00000000")
    left.write_bytes(b"0" * 64)
    mine = SharedArrays({"a": ((3,), "float32")})
    try:
        assert left.name in remove_abandoned() and not left.exists()
        assert mine.block in shared_blocks(os.getpid())
        other = SharedArrays({"a": ((3,), "float32")}, mine.block)
        mine["a"][:] = [1, 2, 3]
        np.testing.assert_array_equal(other["a"], [1, 2, 3])
        other.close()
    finally:
        mine.close()
    assert not shared_blocks(os.getpid())


def test_workers_have_one_thread_each_however_the_program_was_started(tmp_path):
    process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), "--no-score", *flags(workers=1, **(LONG | {"steps": 10 ** 6}))],
                               cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"OPENBLAS_NUM_THREADS": "7", "NUMBA_NUM_THREADS": "2"})
    wait_until(lambda: steps_logged(tmp_path) > 1, 60, "training")
    worker = Path(f"/proc/{workers_of(process)[0]}")
    environment = worker.joinpath("environ").read_text().split("\0")
    assert "OPENBLAS_NUM_THREADS=1" in environment and "NUMBA_NUM_THREADS=1" in environment
    assert len(list(worker.joinpath("task").iterdir())) == 1
    process.send_signal(signal.SIGINT)
    finish(process, 130)
