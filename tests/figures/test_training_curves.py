"""Meta-training curves: what is read from the logs of runs, and what is said of logs that are no such thing."""
import json

import pytest

import evaluate
from figures import training_curves as curves
from ops.errors import InputError
from small_scores import refused_command

GOOD = {"step": 0, "seconds": 1.5, "J": 0.5, "accuracy": 0.25}


def run(folder, *records):
    """A run's folder whose log holds these records, or lines."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("record, words", [
    ({"J": 1, "step": 0}, ["'seconds'", "missing"]), (GOOD | {"J": "0.5"}, ["'J'", "'0.5'"]),
    (GOOD | {"J": True}, ["'J'", "True"]), (GOOD | {"J": [0.5]}, ["'J'", "[0.5]"]),
    (GOOD | {"accuracy": None}, ["'accuracy'", "None"]), (GOOD | {"step": "x" * 999}, ["'step'"]),
    ({"heldout_J": 0.5, "step": 3}, ["'heldout_accuracy'", "missing"]),
    ({"heldout_J": "low", "heldout_accuracy": 0.5, "step": 3}, ["'heldout_J'", "'low'"]),
    ("[1, 2]", ["not a record"]), ("nonsense", ["not JSON"]), ("[" * 100000, ["not JSON"])])
def test_a_bad_line_is_named(tmp_path, capsys, record, words):
    folder = run(tmp_path / "a", GOOD, record, GOOD)
    err = refused_command(capsys, ["figure", "training-curves", str(folder), "--folder", str(tmp_path / "out")],
                          [f"{folder / 'metrics.jsonl'}: line 2", *words])
    assert len(err) < 300 + len(str(folder)) and not (tmp_path / "out").exists()


def test_meta_steps_without_a_j_are_left_out(tmp_path):
    nothing = {"step": 1, "seconds": 2.0, "segments": 0, "dropped": 4}
    later = {"step": 3, "seconds": 5.5, "J": 0.25, "accuracy": 0.5}
    folder = run(tmp_path / "a", GOOD, nothing, nothing | {"J": None, "accuracy": None},
                 {"step": 2, "heldout_J": None}, {"step": 2, "heldout_J": 0.75, "heldout_accuracy": 0.125}, later,
                 '{"step": 4, "J": 0.')  # the run is writing this one
    numbers = curves.measure({"run": str(folder)})
    drawn = {"steps": [1.5], "J": [0.375], "J_sd": [0.125], "accuracy": [0.375], "hours": [3.5 / 3600]}
    assert numbers == drawn | {"heldout_steps": [2], "heldout_J": [0.75], "heldout_accuracy": [0.125]}
    with pytest.raises(InputError, match="no meta-steps with a J"):
        curves.measure({"run": str(run(tmp_path / "b", nothing, nothing | {"J": None}))})


@pytest.mark.parametrize("runs, labels", [
    (["runs/laptop"], ["laptop"]), (["a/laptop", "b/laptop"], ["a/laptop", "b/laptop"]),
    (["x/a/laptop", "y/b/laptop", "other"], ["a/laptop", "b/laptop", "other"]),
    (["x/a/laptop", "y/a/laptop", "y/b/laptop"], ["x/a/laptop", "y/a/laptop", "b/laptop"]),
    (["laptop", "a/laptop"], ["laptop", "a/laptop"]), (["."], ["."]),
    (["/runs/laptop", "../runs/laptop"], ["/runs/laptop", "../runs/laptop"]),
    (["a/metrics.jsonl", "b/metrics.jsonl"], ["a/metrics.jsonl", "b/metrics.jsonl"])])
def test_labels_tell_runs_apart_and_are_short(runs, labels):
    assert curves.labels(runs) == labels


def test_runs_of_one_name_have_a_line_and_a_label_each(tmp_path, capsys):
    held_out = {"step": 1, "heldout_J": 0.75, "heldout_accuracy": 0.125}
    runs = [str(run(tmp_path / name / "laptop", GOOD, held_out)) for name in ("a", "b")]
    command = ["figure", "training-curves", *runs, f"{runs[0]}/", "--folder", str(tmp_path)]  # a folder twice: one run
    assert evaluate.main(command) == 0
    numbers = json.loads((tmp_path / "training-curves.json").read_text())
    assert str(tmp_path) not in json.dumps(numbers)  # a run is called by the end of its path
    for axes in curves.draw(numbers).axes:
        assert [line.get_label() for line in axes.get_lines()] == [
            f"{name}/laptop, {what}" for name in "ab" for what in ("training tasks", "validation")]
    assert not (tmp_path / "results").exists()  # logs are read anew each time
    capsys.readouterr()
    assert evaluate.main([*command[:2], str(tmp_path / "none"), *command[2:]]) == 2
    assert "none" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "training-curves.json").read_text())["runs"]) == ["a/laptop", "b/laptop"]
