"""Workers, what they leave behind, and the machine they find: threads, cores, shared memory, semaphores."""
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ops.engine import shared_memory
from ops.errors import InputError
from ops.processes import alive, usable_cores
from ops.engine.shared_memory import SharedArrays, remove_abandoned
from ops.engine.workers import ONE_THREAD, WorkerPool, _Process

ROOT = Path(__file__).resolve().parents[2]
HERE = str(Path(__file__).parent)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc and /dev/shm")


def make_handler(**arguments):
    """What the workers of these tests do, by the job's "do"."""
    return {"threads": _threads, "long": _compute_for_long, "fail": _fail}[arguments["do"]]


def _threads(job):
    from ops.rule.threads import thread_count
    return {"threads": thread_count(), "environment": {name: os.environ.get(name) for name in ONE_THREAD}}


def _compute_for_long(job):
    Path(job["file"]).touch()
    a, end = np.ones((1500, 1500)), time.monotonic() + 60
    while time.monotonic() < end:
        a = a @ a * 0
    return {}


def _fail(job):
    error = ZeroDivisionError("x" * 9000)
    error.add_note("its task: the last line")
    raise error


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def answer(do):
    pool = WorkerPool(1, "test_workers", "make_handler", {"do": do})
    try:
        pool.submit(0, {"job": 1})
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for _, _, reply in pool.wait():
                return reply
        pytest.fail("no answer")
    finally:
        pool.close()


def test_workers_compute_with_one_thread_whatever_is_exported(monkeypatch):
    monkeypatch.setenv("UNSUP_META_THREADS", "3")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    reply = answer("threads")
    assert reply["threads"] == 1 and set(reply["environment"].values()) == {"1"}
    assert os.environ["UNSUP_META_THREADS"] == "3"  # the main process keeps what the user set


def test_a_long_error_keeps_its_head_and_its_tail():
    error = answer("fail")["error"]
    assert error.startswith("Traceback") and "ops/engine/workers.py" in error and error.endswith("its task: the last line\n")
    assert "characters left out" in error and len(error) < 2200


BUSY = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
from ops.engine.shared_memory import SharedArrays
from ops.engine.workers import WorkerPool
if __name__ == "__main__":
    arrays = SharedArrays({{"a": ((1000,), "float32")}})
    pool = WorkerPool(1, "test_workers", "make_handler", {{"do": "long"}})
    pool.submit(0, {{"job": 1, "file": {file!r}}})
    while True:
        pool.wait()
        if pool.pids():
            print(pool.pids()[0], flush=True)
            break
    while True:
        pool.wait()
"""


def busy(folder):
    """(process, its worker's id): a main process in a group of its own with a worker in the middle of a long job."""
    program, file = folder / "busy.py", folder / "begun"
    program.write_text(BUSY.format(root=str(ROOT), here=HERE, file=str(file)))
    process = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    worker = int(process.stdout.readline())
    until(file.exists, 30, "the long job begins")
    return process, worker


def left_by(pid):
    """What a process and those it started have in shared memory."""
    return sorted(p.name for p in Path("/dev/shm").glob(f"*unsup_meta_{pid}[-_]*"))


@linux
def test_a_busy_worker_ends_with_a_killed_main_process(tmp_path):
    process, worker = busy(tmp_path)
    try:
        assert alive(worker)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not alive(worker), 2, "the worker ends")
        until(lambda: not left_by(process.pid), 10, "multiprocessing's own tracker sweeps up")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@linux
def test_what_a_killed_group_of_processes_left_is_swept_up_even_while_its_owner_is_a_zombie(tmp_path):
    process, worker = busy(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    try:
        until(lambda: not alive(process.pid) and not alive(worker), 5, "all end")
        assert Path(f"/proc/{process.pid}").exists()  # nobody has waited for it: a zombie
        left = left_by(process.pid)
        assert len([name for name in left if name.startswith("sem.")]) >= 3 and len(left) >= 4, left
        mine = SharedArrays({"a": ((3,), "float32")})
        assert set(left) <= set(remove_abandoned()) and not left_by(process.pid)
        assert left_by(os.getpid()) == [mine.block]
        mine.close()
    finally:
        process.communicate()
    assert not alive(process.pid)


@linux
def test_no_more_shared_memory_is_taken_than_there_is():
    free = os.statvfs("/dev/shm")
    if not free.f_blocks:
        pytest.skip("no limit here")
    with pytest.raises(InputError, match="MB of shared memory.*free") as caught:
        SharedArrays({"a": ((free.f_bavail * free.f_frsize // 4 + 10**6,), "float32")})
    assert "\n" not in str(caught.value) and not left_by(os.getpid())
    with pytest.raises(InputError, match="MB of shared memory"):  # more than a 64-bit number of bytes
        SharedArrays({"a": ((2**40, 2**30), "float32")})


def test_a_folder_of_shared_memory_that_is_not_there_is_no_error(monkeypatch):
    monkeypatch.setattr(shared_memory, "FOLDER", "/none/such")
    arrays = SharedArrays({"a": ((2, 3), "float64")})
    arrays["a"][:] = 7
    assert arrays["a"].sum() == 42
    arrays.close()
    arrays.close()  # once more does nothing


@linux
def test_a_block_that_nobody_closed_goes_with_its_owner_without_a_word():
    code = ("from ops.engine.shared_memory import SharedArrays\na = SharedArrays({'a': ((5,), 'float32')})\n"
            "SharedArrays({'a': ((5,), 'float32')})\nraise SystemExit(a.block)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    block = done.stderr.strip()
    assert len(done.stderr.splitlines()) == 1 and block.startswith("unsup_meta_"), done.stderr
    assert not left_by(block.split("_")[2])


def cgroup(root, lines, **files):
    """A folder with proc/self/cgroup and {path under sys/fs/cgroup: text}."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(lines) + "\n")
    for path, text in files["files"].items():
        path = root / "sys/fs/cgroup" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def quota(of, period=100000):
    return {"cpu.cfs_quota_us": f"{of}\n", "cpu.cfs_period_us": f"{period}\n"}


def under(folder, files):
    return {f"{folder}/{name}": text for name, text in files.items()}


@pytest.mark.parametrize("lines, files, cores", [
    ([], {}, 64),
    (["0::/"], {"cpu.max": "300000 100000\n"}, 3),
    (["0::/a/b"], {"cpu.max": "max 100000\n", "a/cpu.max": "700000 100000\n", "a/b/cpu.max": "max 100000\n"}, 7),
    (["0::/a/b"], {"a/cpu.max": "700000 100000\n", "a/b/cpu.max": "250000 100000\n"}, 2),
    (["0::/a/b"], {"a/b/cpu.max": "20000 100000\n"}, 1),
    (["0::/a"], {"b/cpu.max": "100000 100000\n", "a/cpu.max": "nonsense", "cpu.max": "9 0\n"}, 64),
    (["0::/not/mounted/here"], {"cpu.max": "400000 100000\n"}, 4),
    (["0::/../../b"], {"cpu.max": "500000 100000\n"}, 5),
    (["4:memory:/m", "1:cpu:/"], under("cpu", quota(350000)), 3),
    (["3:cpu,cpuacct:/docker/x"], under("cpu,cpuacct/docker/x", quota(600000)), 6),
    (["3:cpuacct,cpu:/docker/x"], under("cpu", quota(600000)), 6),
    (["3:cpu,cpuacct:/x/y"], under("cpu/x", quota(5000, 1000)) | under("cpu", quota(-1)), 5),
    (["5:cpuset:/x"], under("cpuset/x", quota(100000)), 64),
    (["1:cpu:/x", "0::/y"], under("cpu/x", quota(800000)) | {"unified/y/cpu.max": "400000 100000"}, 4)])
def test_the_cores_are_those_of_the_processs_control_groups(tmp_path, monkeypatch, lines, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert usable_cores(cgroup(tmp_path, lines, files=files)) == cores


def test_cores_without_control_groups_are_those_of_the_affinity(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 6}, raising=False)
    assert usable_cores(tmp_path / "none") == 3


def test_who_lives():
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    ended.stdout.read()
    until(lambda: not alive(ended.pid), 5, "a zombie does not count")
    ended.wait()
    assert not alive(ended.pid) and alive(os.getpid()) and alive(1)


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
