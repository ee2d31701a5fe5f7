"""What nobody reads any more or cannot be written; paths that are not what they seem."""
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from ops.files import held
from small_runs import ENDLESS, ROOT, flags, metrics, one_line, start, state_of, train, workers_of
from small_scores import clusters, refused_command


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks ps")
def test_a_run_whose_output_is_closed_is_saved_and_ends_without_a_word(tmp_path):
    process = start(tmp_path, *flags(workers=1, **ENDLESS), after=2)
    process.stdout.close()
    os.kill(workers_of(process)[0], signal.SIGKILL)  # of which it tells at once
    assert process.wait(30) == 141 and process.stderr.read() == ""
    process.stderr.close()
    assert state_of(tmp_path)[1]["state"]["step"] == metrics(tmp_path)[-1]["step"] + 1


@pytest.mark.parametrize("arguments", [["figure", "--help"], ["--help"]])
def test_help_that_nobody_reads(arguments):
    process = subprocess.Popen([sys.executable, str(ROOT / "evaluate.py"), *arguments],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(30) == 141 and process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, str(ROOT / "evaluate.py"), "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 2
    one_line(process.stderr, "standard output", "make room")


def test_a_folder_has_one_run_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("train.held", lambda folder: held(folder, 0.1))
    with held(tmp_path / "runs/laptop"):
        one_line(train(tmp_path, *flags(), code=2)[1], "another process", "laptop")
        one_line(train(tmp_path, *flags(), "--resume", code=2)[1], "another process")
    assert not (tmp_path / "runs").exists()

    def other_was_first(folder):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        return held(folder)
    monkeypatch.setattr("train.held", other_was_first)
    one_line(train(tmp_path, *flags(), code=2)[1], "already holds a run")


@pytest.mark.parametrize("name", ["x" * 300, "x\ny"])
def test_names_that_cannot_be_are_one_line(tmp_path, name, capsys):
    for flag in ("--init-theta", "--tasks", "--data-dir", "--name"):
        given = f"{name}.npz" if flag in ("--init-theta", "--tasks") else name
        tasks = ("--tasks", "cifar10") * (flag == "--data-dir")
        one_line(train(tmp_path, *flags(steps=1), *tasks, flag, given, code=2)[1], "train.py: ")
    refused_command(capsys, ["score", "--data", f"{name}.npz"])


def test_outputs_hit_no_input_whatever_it_is_called_and_no_device(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = clusters(4.0, 3, 30, 5)
    np.savez("mine.npz", x=x, y=y)
    os.mkdir("sub")
    os.symlink(".", "lnk")
    os.mkfifo("fifo")
    before = (tmp_path / "mine.npz").read_bytes()
    for data, out in (("sub/../mine.npz", "mine.npz"), ("lnk/mine.npz", "mine.npz"), ("mine.npz", "lnk/mine.npz"), ("mine.npz", "fifo")):
        refused_command(capsys, ["score", "--data", data, "--json", out])
    assert (tmp_path / "mine.npz").read_bytes() == before
