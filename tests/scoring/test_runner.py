"""The frame of the experiments: nothing is measured twice or lost, whatever happens, on any number of processes."""
import io
import json
import os
import signal
import subprocess
import sys

import pytest

import evaluate
import figures
import small_experiment
from ops.rule import fast
from ops.scoring import runner
from small_runs import ROOT, wait_until
from small_scores import refused_command

ENTRIES = (figures.Entry("small", "small", "Fig. 9", "numbers doubled"),)


@pytest.fixture(autouse=True)
def small_figure(monkeypatch):
    """`figure small` is `small_experiment`."""
    monkeypatch.setattr(figures, "FIGURES", ENTRIES)
    monkeypatch.setitem(sys.modules, "figures.small", small_experiment)


def figure(tmp_path, *more, processes=1):
    tmp_path.mkdir(exist_ok=True)
    return evaluate.main(["figure", "small", "--folder", str(tmp_path), "--processes", str(processes), "--log",
                          str(tmp_path / "log"), *more])


def document(tmp_path):
    return json.loads((tmp_path / "small.json").read_text())


def measured(tmp_path):
    """The numbers measured so far, in order."""
    path = tmp_path / "log"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def kept(tmp_path):
    return (tmp_path / "results" / "small.jsonl").read_bytes()


def test_a_figure_leaves_its_picture_its_numbers_and_its_results(tmp_path, capsys):
    assert figure(tmp_path) == 0
    out, err = capsys.readouterr()
    assert "values [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]" in out and err == ""
    found = document(tmp_path)
    assert found["values"] == [0, 2, 4, 6, 8, 10] and found["figure"] == "small"
    assert found["settings"] == {"count": 6, "scale": 2.0, "mishap": "none", "log": "log", "extra": ["a"]}
    assert found["seconds"] > 0 and found["core_seconds"] > 0
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")
    records = [json.loads(line) for line in kept(tmp_path).splitlines()]
    assert [record["cell"] for record in records] == [f"number {i}" for i in range(6)]
    assert len({record["key"] for record in records}) == 6


def test_numbers_do_not_depend_on_the_processes_of_which_each_has_one_thread(tmp_path):
    cells = small_experiment.cells(small_experiment.Settings())
    results = {n: runner.run_cells(small_experiment, cells, n) for n in (1, 2)}
    values = {n: [result.value for result in results[n]] for n in results}
    assert [v["value"] for v in values[1]] == [v["value"] for v in values[2]] == [0, 2, 4, 6, 8, 10]
    assert {v["pid"] for v in values[1]} == {os.getpid()} and os.getpid() not in {v["pid"] for v in values[2]}
    assert {v["threads"] for v in values[2]} == {"1"}
    assert [result.cell for result in results[2]] == cells


def test_another_run_goes_on_and_other_settings_do_not_take_what_was_measured(tmp_path):
    assert figure(tmp_path, "--count", "3") == 0
    assert figure(tmp_path, "--count", "5") == 0
    assert measured(tmp_path) == [0, 1, 2, 3, 4]
    assert figure(tmp_path, "--count", "3", "--scale", "3") == 0
    assert measured(tmp_path)[5:] == [0, 1, 2] and document(tmp_path)["values"] == [0, 3, 6]
    assert figure(tmp_path, "--count", "3") == 0  # and these are still there
    assert len(measured(tmp_path)) == 8 and document(tmp_path)["values"] == [0, 2, 4]


def test_other_code_does_not_take_what_was_measured(tmp_path, monkeypatch):
    assert figure(tmp_path, "--count", "2") == 0
    monkeypatch.setenv(fast.VARIABLE, "0")
    monkeypatch.setattr(fast, "_plain", False)  # both as they are now, at the end
    assert figure(tmp_path, "--count", "2", "--plain") == 0  # the rule's other form
    fast.use_definitions(False)
    monkeypatch.setattr(small_experiment, "USES", ("tests/helpers/small_r*.py",), raising=False)  # files it is said to use
    assert figure(tmp_path, "--count", "2") == 0
    measure = small_experiment.measure
    monkeypatch.setattr(small_experiment, "measure", lambda cell: measure(cell))  # of another file
    assert figure(tmp_path, "--count", "2") == 0
    assert measured(tmp_path) == [0, 1] * 4


@pytest.mark.parametrize("damage, again", [
    (lambda b: b[:-9], [2, 3]), (lambda b: b + b'{"key": "a', [3]), (lambda b: b"[1]\n\xff\n{}\n" + b, [3])])
def test_torn_and_foreign_lines_are_dropped(tmp_path, damage, again):
    assert figure(tmp_path, "--count", "3") == 0
    path = tmp_path / "results" / "small.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    assert figure(tmp_path, "--count", "4") == 0
    assert measured(tmp_path)[3:] == again and document(tmp_path)["values"] == [0, 2, 4, 6]
    assert figure(tmp_path, "--count", "4") == 0
    assert measured(tmp_path)[3:] == again


@pytest.mark.parametrize("processes", [1, 2])
def test_a_cell_that_fails_is_named_and_the_others_are_kept(tmp_path, capsys, processes):
    assert figure(tmp_path, "--mishap", "fail", processes=processes) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "1 of 6 cells" in err and "number 1: number 1 is not to be had" in err
    assert document(tmp_path)["values"] == [0, None, 4, 6, 8, 10] and kept(tmp_path).count(b"\n") == 5
    assert figure(tmp_path, "--mishap", "fail", processes=processes) == 2
    assert sorted(measured(tmp_path)) == [0, 1, 1, 2, 3, 4, 5]


def test_nothing_is_written_where_nothing_can_be_measured(tmp_path, capsys):
    for flags in (["--count", "0"], ["--count", "few"], ["--scale", "-1"], ["--mishap", "early"], ["--colour", "red"],
                  ["--processes", "0"], ["--redraw"]):
        assert figure(tmp_path, *flags) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "small.json").write_text("before")
    small = small_experiment.cells(small_experiment.Settings(count=2, mishap="fail"))[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_experiment, "cells", lambda settings: small)
        assert figure(tmp_path) == 2
    assert (tmp_path / "small.json").read_text() == "before" and not (tmp_path / "small.png").exists()
    assert capsys.readouterr().err == "evaluate.py: number 1 is not to be had\n"


def test_outputs_that_cannot_be_written_are_told_before_the_work(tmp_path, capsys):
    (tmp_path / "small.png").mkdir()
    assert figure(tmp_path) == 2
    (tmp_path / "file").write_text("kept")
    assert figure(tmp_path, "--folder", str(tmp_path / "file")) == 2
    assert capsys.readouterr().err.count("\n") == 2 and measured(tmp_path) == []


def test_quick_settings_and_those_given(tmp_path):
    assert figure(tmp_path, "--quick", "--extra", "b", "--extra", "b", "--extra", "c") == 0
    assert document(tmp_path)["settings"]["count"] == 2 and document(tmp_path)["settings"]["extra"] == ["b", "c"]
    assert figure(tmp_path, "--quick", "--count", "3") == 0
    assert document(tmp_path)["settings"]["count"] == 3


def test_redrawing_computes_nothing(tmp_path, capsys):
    assert figure(tmp_path) == 0
    before = (tmp_path / "small.png").read_bytes()
    (tmp_path / "small.json").rename(tmp_path / "other.json")
    assert figure(tmp_path, "--redraw", "--as", "other") == 0
    assert (tmp_path / "other.png").read_bytes() == before and len(measured(tmp_path)) == 6
    assert figure(tmp_path, "--as", "third") == 0 and (tmp_path / "third.png").read_bytes() == before
    assert len(measured(tmp_path)) == 6  # what was measured goes by the figure's name
    for text in ("{}", "[]", '{"values": 1}', "no JSON"):
        (tmp_path / "small.json").write_text(text)
        assert figure(tmp_path, "--redraw") == 2
    assert capsys.readouterr().err.count("figure small") == 4 and (tmp_path / "small.png").read_bytes() == before


def test_all_of_them_go_on_after_one_that_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "FIGURES", [ENTRIES[0]._replace(name=name) for name in ("one", "two")])
    cells, seen = small_experiment.cells, []

    def first_fails(settings):
        seen.append(settings.count)
        return cells(small_experiment.Settings(mishap="early") if len(seen) == 1 else settings)

    monkeypatch.setattr(small_experiment, "cells", first_fails)
    assert evaluate.main(["figure", "--all", "--quick", "--folder", str(tmp_path), "--processes", "1"]) == 2
    out, err = capsys.readouterr()
    assert err == "evaluate.py: one: cells: not like this\n" and "two: numbers doubled" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "two.json", "two.png"] and seen == [2, 2]


def test_progress_is_one_live_line_on_a_terminal_and_a_line_now_and_then_elsewhere(tmp_path, monkeypatch):
    for live in (True, False):
        stream = io.StringIO()
        stream.isatty = lambda live=live: live
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(runner, "LINE_SECONDS", 0.0)
        assert figure(tmp_path / str(live), "--count", "4", "--mishap", "fail") == 2
        shown = stream.getvalue()
        assert "3 of 4 cells, 0:00 done, 0:00 left  number 2" in shown
        *lines, error, _ = shown.split("\n")
        assert error.endswith("number 1: number 1 is not to be had") and len(lines) == (0 if live else 4)
        assert error.startswith("\r\033[K" if live else "evaluate.py: ") and ("\r\033[Kevaluate.py" in shown) == live
        assert all(len(part) < 80 for part in (lines or error.split("\r\033[K")[:-1]))


# --- Processes that die, and Ctrl-C ---------------------------------------------------------------


def test_a_cell_whose_process_is_killed_is_measured_again(tmp_path):
    assert figure(tmp_path, "--mishap", "die-once", processes=2) == 0
    assert document(tmp_path)["values"] == [0, 2, 4, 6, 8, 10] and sorted(measured(tmp_path)) == [0, 1, 1, 2, 3, 4, 5]


def test_a_cell_that_kills_its_process_twice_has_failed(tmp_path, capsys):
    assert figure(tmp_path, "--mishap", "die", "--count", "3", processes=2) == 2
    err = capsys.readouterr().err
    assert "1 of 3 cells" in err and "killed 2 times" in err and document(tmp_path)["values"] == [0, None, 4]


def test_a_bug_in_a_process_shows_its_traceback():
    cells = small_experiment.cells(small_experiment.Settings(mishap="bug"))
    with pytest.raises(RuntimeError, match="(?s)in measure.*KeyError: 'a bug'"):
        runner.run_cells(small_experiment, cells, 2)


COMMAND = """
import sys; sys.path[:0] = sys.argv[1:3]
import evaluate, figures
figures.FIGURES = [figures.Entry("small", "small", "", "")]
import small_experiment; sys.modules["figures.small"] = small_experiment
if __name__ == "__main__":
    sys.exit(evaluate.main(["figure", "small", *sys.argv[3:]]))
"""


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_run_keeps_what_is_done_and_leaves_no_process(tmp_path, number, code):
    (tmp_path / "command.py").write_text(COMMAND)
    flags = ["--folder", str(tmp_path), "--log", str(tmp_path / "log"), "--mishap", "wait"]
    run = subprocess.Popen([sys.executable, str(tmp_path / "command.py"), str(ROOT), str(ROOT / "tests" / "helpers"),
                            *flags, "--processes", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: sorted(measured(tmp_path)) == [0, 1, 2, 3, 4, 5] and kept(tmp_path).count(b"\n") == 5, 60)
    os.killpg(run.pid, number) if number == signal.SIGINT else run.kill()  # Ctrl-C comes to all of them
    assert run.wait(30) == code and (number == signal.SIGKILL or run.stderr.read() == "")
    run.stderr.close()
    with pytest.raises(ProcessLookupError):  # soon nobody of its session is left
        wait_until(lambda: os.killpg(run.pid, 0), 30)
    assert figure(tmp_path, "--mishap", "wait") == 0
    assert sorted(measured(tmp_path)) == [0, 1, 1, 2, 3, 4, 5] and document(tmp_path)["values"] == [0, 2, 4, 6, 8, 10]


# --- The table ------------------------------------------------------------------------------------


def test_help_lists_the_figures_and_an_unknown_one_is_one_line(capsys):
    assert evaluate.main(["figure"]) == 0 and evaluate.main(["figure", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in (*ENTRIES[0][2:], "small"))
    refused_command(capsys, ["figure", "smell"], ["smell", "small"])
