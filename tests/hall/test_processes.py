"""The machine that a process finds: Python, cores, who lives."""
import os
import subprocess
import sys

import pytest

from ops import processes
from ops.processes import alive, usable_cores
from small_runs import wait_until


def test_an_old_python_is_one_line(monkeypatch, capsys):
    processes.check_python("train.py")
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    with pytest.raises(SystemExit) as caught:
        processes.check_python("train.py")
    assert caught.value.code == 2 and capsys.readouterr().err == (
        "train.py: needs Python 3.11 or newer, this is 3.10.4; start it with another\n")


def cgroup(root, lines, **files):
    """A folder with proc/self/cgroup and {path under sys/fs/cgroup: text}."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(lines) + "\n")
    for path, text in files["files"].items():
        path = root / "sys/fs/cgroup" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("lines, files, cores", [
    ([], {}, 64),
    (["0::/"], {"cpu.max": "300000 100000\n"}, 3),
    (["0::/a/b"], {"cpu.max": "max 100000\n", "a/cpu.max": "700000 100000\n", "a/b/cpu.max": "max 100000\n"}, 7),
    (["0::/a/b"], {"a/cpu.max": "700000 100000\n", "a/b/cpu.max": "250000 100000\n"}, 2),
    (["0::/a/b"], {"a/b/cpu.max": "20000 100000\n"}, 1),
    (["0::/a"], {"b/cpu.max": "100000 100000\n", "a/cpu.max": "nonsense", "cpu.max": "9 0\n"}, 64),
    (["0::/not/mounted/here"], {"cpu.max": "400000 100000\n"}, 4),
    (["0::/../../b"], {"cpu.max": "500000 100000\n"}, 5),
    (["4:memory:/m", "1:cpu:/x", "0::/y"], {"y/cpu.max": "400000 100000", "x/cpu.max": "100000 100000"}, 4)])
def test_the_cores_are_those_of_the_processs_control_groups(tmp_path, monkeypatch, lines, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert usable_cores(cgroup(tmp_path, lines, files=files)) == cores


def test_cores_without_control_groups_are_those_of_the_affinity(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 6}, raising=False)
    assert usable_cores(tmp_path / "none") == 3


def test_who_lives():
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    ended.stdout.read()
    wait_until(lambda: not alive(ended.pid), 5, "a zombie does not count")
    ended.wait()
    assert not alive(ended.pid) and alive(os.getpid()) and alive(1)
