"""A long disturbed run against an undisturbed one: `python -m pytest -m slow -s tests/engine/test_soak.py`"""
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from small_runs import (any_alive, assert_nothing_has_a_name, assert_same_state, descendants, flags, start, state_of,
                  steps_logged, wait_until, workers_of)

SOAK = dict(steps=2000, validate_steps=0, live_tasks=6, horizon_end=20, horizon_growth=500, checkpoint_steps=25,
            workers=2)
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
    train_seconds = time.monotonic()
    calm_memory = memory_until_the_end(start(calm, *flags(**SOAK)), 900)
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
            below = descendants(process.pid)
            assert_nothing_has_a_name([process.pid])
            process.kill()
            process.wait()
            main_kills += 1
            wait_until(lambda: not any_alive(below), 5, "the end of its processes")
            continue
        if time.monotonic() - last_kill > KILL_EVERY and (alive := workers_of(process)):
            memory.append((resident_mb(process.pid), max(map(resident_mb, alive))))
            os.kill(chance.choice(alive), signal.SIGKILL)
            worker_kills, last_kill = worker_kills + 1, time.monotonic()
        time.sleep(0.05)
    calm_third, third = len(calm_memory) // 3, len(memory) // 3
    peak = lambda part, which: max(m[which] for m in part)
    print(f"\nundisturbed {train_seconds:.0f} s; {worker_kills} workers and {main_kills} main processes killed; "
          f"main process {peak(memory[:third], 0):.0f} MB early, {peak(memory[-third:], 0):.0f} MB late; "
          f"workers {peak(memory[:third], 1):.0f} and {peak(memory[-third:], 1):.0f} MB; undisturbed workers "
          f"{max(calm_memory[:calm_third]):.0f} and {max(calm_memory[-calm_third:]):.0f} MB")
    assert max(calm_memory[-calm_third:]) < 1.1 * max(calm_memory[:calm_third])
    assert main_kills == MAIN_KILLS and worker_kills > 20
    assert peak(memory[-third:], 0) < 1.2 * peak(memory[:third], 0)
    assert_same_state(state_of(rough), state_of(calm))


def memory_until_the_end(process, seconds):
    """[MB of the largest worker], each second of a long run; fails with what it said if it failed."""
    memory, end = [], time.monotonic() + seconds
    while process.poll() is None:
        assert time.monotonic() < end, "the run took too long"
        memory.append(max(map(resident_mb, workers_of(process)), default=0.0))
        time.sleep(1)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return memory[5:-1]  # while they start they grow
