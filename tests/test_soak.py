"""A long disturbed run against an undisturbed one: `python -m pytest -m slow -s tests/test_soak.py` (about ten minutes)."""
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from test_faults import shared_blocks, steps_logged, workers_of
from test_train import assert_same_state, flags, start, state_of

SOAK = dict(steps=2000, validate_steps=0, live_tasks=6, horizon_end=20, horizon_growth=500, checkpoint_steps=25, workers=2)
KILL_EVERY, MAIN_KILLS = 2.0, 10


def resident_mb(pid):
    """Resident memory of a process in MB, 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_two_thousand_steps_with_killed_workers_and_main_processes(tmp_path):
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    calm.mkdir()
    rough.mkdir()
    train_seconds = time.monotonic()
    finish_within(start(calm, *flags(**SOAK)), 900)
    train_seconds = time.monotonic() - train_seconds
    chance, worker_kills, main_kills, memory = random.Random(0), 0, 0, []
    process, resume = start(rough, *flags(**SOAK)), []
    last_kill = time.monotonic()
    while True:
        if process.poll() is not None:
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, process.stderr.read()
            resume = ["--resume"] if (rough / "runs/laptop/checkpoint.npz").exists() else []
            process = start(rough, *flags(**SOAK), *resume)
        if main_kills < MAIN_KILLS and steps_logged(rough) > (main_kills + 1) * SOAK["steps"] // (MAIN_KILLS + 2):
            process.kill()
            process.wait()
            main_kills += 1
            continue
        if time.monotonic() - last_kill > KILL_EVERY and (alive := workers_of(process)):
            memory.append((resident_mb(process.pid), max(map(resident_mb, alive))))
            os.kill(chance.choice(alive), signal.SIGKILL)
            worker_kills, last_kill = worker_kills + 1, time.monotonic()
        time.sleep(0.05)
    third = len(memory) // 3
    peak = lambda part, which: max(m[which] for m in part)
    print(f"\nundisturbed {train_seconds:.0f} s; {worker_kills} workers and {main_kills} main processes killed; "
          f"main process {peak(memory[:third], 0):.0f} MB early, {peak(memory[-third:], 0):.0f} MB late; "
          f"workers {peak(memory[:third], 1):.0f} and {peak(memory[-third:], 1):.0f} MB")
    assert main_kills == MAIN_KILLS and worker_kills > 20
    assert peak(memory[-third:], 0) < 1.2 * peak(memory[:third], 0)
    assert_same_state(state_of(rough), state_of(calm))
    assert not shared_blocks()


def finish_within(process, seconds):
    """Wait for a long run, and fail with what it said if it failed."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, out + err
