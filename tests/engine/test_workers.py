"""The workers of a run, what they leave behind, and the memory they share."""
import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ops.engine import shared_memory
from ops.engine.shared_memory import SharedArrays, SharedPools, layers, phi_floats, views
from ops.engine.workers import Workers, _Process
from ops.errors import InputError
from ops.data.pool import Pool
from ops.processes import alive
from ops.workers import Job
from small_runs import ROOT, any_alive, assert_nothing_has_a_name, descendants, wait_until

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and /dev/shm")


@linux
def test_a_replaced_worker_reads_and_writes_the_same_memory():
    memory, pids = SharedArrays({"a": ((5,), "float32")}), set()
    memory["a"][:] = 7
    with contextlib.closing(Workers(1, "small_runs", "Handler", {"memory": memory}, print)) as workers:
        for restarts, value in enumerate((8, 9)):
            workers.add([Job(1, "change", {"value": value})])
            (reply,) = workers.take([1])
            assert reply["before"] == value - 1 and memory["a"][0] == value and workers.restarts == restarts
            os.kill(reply["pid"], signal.SIGKILL)
            pids.add(reply["pid"])
    assert len(pids) == 2


BUSY = """
import sys
sys.path[:0] = [{root!r}, {helpers!r}]
from ops.engine.shared_memory import SharedArrays
from ops.engine.workers import Workers
from ops.workers import Job
if __name__ == "__main__":
    workers = Workers(2, "small_runs", "Handler", {{"memory": SharedArrays({{"a": ((1000,), "float32")}})}}, print)
    workers.add([Job(1, "compute", {{"file": {file!r}}})])
    while True:
        workers.receive()
"""


@linux
@pytest.mark.parametrize("group", [False, True])
def test_busy_and_idle_workers_end_with_a_killed_main_process_and_nothing_is_left(tmp_path, group):
    program, file = tmp_path / "busy.py", tmp_path / "begun"
    program.write_text(BUSY.format(root=str(ROOT), helpers=str(ROOT / "tests/helpers"), file=str(file)))
    process = subprocess.Popen([sys.executable, str(program)], start_new_session=True)
    try:
        wait_until(file.exists, 60, "the long job begins")
        below = descendants(process.pid)
        assert len(below) >= 3  # a fork server and two workers
        assert_nothing_has_a_name([process.pid, *below])
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        wait_until(lambda: not any_alive(below), 3, "the workers end, one of them in the middle of a kernel")
        wait_until(lambda: not alive(process.pid), 10, "its own end")
        assert Path(f"/proc/{process.pid}").exists()  # nobody has waited for it: a zombie
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- Shared memory --------------------------------------------------------------------------------


@linux
def test_no_more_shared_memory_is_taken_than_there_is():
    free = os.statvfs("/dev/shm")
    if not free.f_blocks:
        pytest.skip("no limit here")
    for floats in (free.f_bavail * free.f_frsize // 4 + 10**6, 2**70):  # the second: more than 64 bits can count
        with pytest.raises(InputError, match="MB of shared memory.*free.*--live-tasks") as caught:
            SharedArrays({"a": ((floats,), "float32")})
        assert "\n" not in str(caught.value)


def test_a_folder_of_shared_memory_that_is_not_there_is_no_error(monkeypatch):
    monkeypatch.setattr(shared_memory, "FOLDER", "/none/such")
    arrays = SharedArrays({"a": ((2, 3), "float64"), "b": ((5,), "uint8")})
    arrays["a"][:], arrays["b"][:] = 7, 1
    assert arrays["a"].sum() == 42 and arrays["b"].sum() == 5
    assert all(arrays[name].ctypes.data % 64 == 0 for name in "ab")


def test_views_are_of_one_vector():
    vector = np.zeros(40, np.float32)
    found = views(vector, {"a": (2, 3), "b": (), "c": (4,)})
    found["a"][1, 2], found["b"][...], found["c"][0] = 1, 2, 3
    assert vector[5:8].tolist() == [1, 2, 3] and found["c"].shape == (4,)
    phi = layers(vector, [3, 2, 4])
    assert [layer.W.shape for layer in phi] == [layer.V.shape for layer in phi] == [(3, 2), (2, 4)]
    phi[1].V[-1, -1] = 5
    assert vector[phi_floats([3, 2, 4]) - 1] == 5 and [layer.b.shape for layer in phi] == [(2,), (4,)]


def test_pools_are_read_where_they_lie_and_nobody_writes_to_them():
    pool = Pool("p", np.arange(24, dtype=np.uint8).reshape(6, 4), np.array([2, 4]), ("a", "b"), 2, 1, {"g": (1,)})
    shared = SharedPools({"folder/a.npz": pool})
    found = shared.pools()["folder/a.npz"]
    assert found._replace(images=None, counts=None) == pool._replace(images=None, counts=None)
    assert (found.images == pool.images).all() and found.counts.tolist() == [2, 4]
    assert found.images is not pool.images and not found.images.flags.writeable and not found.counts.flags.writeable
    assert b"\x00\x01\x02\x03\x04\x05\x06" not in pickle.dumps(shared._rest)  # what goes to a worker has no images


# --- The fork server ------------------------------------------------------------------------------


@pytest.mark.parametrize("failures, works", [(0, True), (4, True), (5, False)])
def test_a_fork_server_killed_while_a_worker_starts_is_started_again(failures, works, monkeypatch):
    outcomes = [EOFError("unexpected EOF"), ConnectionRefusedError("refused")] * 3

    def start(process):
        calls.append(process)
        if len(calls) <= failures:
            raise outcomes[len(calls)]

    calls, process = [], _Process(target=print)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    if works:
        process.start()
    else:
        with pytest.raises(InputError, match="fork server"):
            process.start()
    assert calls == [process] * min(failures + 1, 5)
