"""The log of experiments: a run's row is what its folder says, rows stay, and README.md has the log's table."""
import json
from pathlib import Path

import pytest

import evaluate
from figures import experiments
from ops.engine.config import as_json, make_config
from small_scores import refused_command

STEP = {"seconds": 1.5, "J": 0.5, "accuracy": 0.25}


def run(folder, scores, **settings):
    """A run's folder: a meta-step of 90 s each, a validation after it; its sets have the score plus and minus 0.1."""
    folder.mkdir(parents=True)
    config = as_json(make_config("laptop", {})) | {"workers": 3} | settings
    (folder / "config.json").write_text(json.dumps(config))
    lines = []
    for step, score in enumerate(scores):
        lines.append({"step": step, "seconds": 90.0 * (step + 1), "J": 0.5, "accuracy": 0.25})
        sets = {"letters": {"margin": [score, score + 0.2]}, "vectors": {"margin": [score - 0.1]}}
        lines.append({"step": step, "score": score, "heldout_J": 0.5, "heldout_accuracy": 0.5, "validation": sets})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


@pytest.fixture
def add(tmp_path):
    """Adds runs to a log of this test's own; returns it."""
    def add(*arguments):
        assert evaluate.main(["figure", "experiments", *arguments, *place(tmp_path)]) == 0
        return json.loads((tmp_path / "experiments.json").read_text())
    return add


def place(tmp_path):
    return ["--folder", str(tmp_path), "--log", str(tmp_path / "experiments.json")]


def test_a_run_is_what_its_folder_says(tmp_path, add, capsys):
    folder = run(tmp_path / "runs" / "wide", [9.0, 9.0, 9.0, 9.0, 0.25, 0.0, 0.125], seed=7, max_units=90, lr=1e-2,
                 init_theta="/home/me/runs/a/theta.npz")
    row, = add(folder, "--hypothesis", "wide | fast")["runs"]
    assert row == {
        "name": "wide", "hypothesis": "wide | fast", "seed": 7, "cores": 3, "minutes": 10.5, "meta_steps": 7,
        "settings": {"lr": 0.01, "max_units": 90, "init_theta": "a/theta.npz"}, "score": 0.125, "low": 0.0, "high": 0.25,
        "move": 0.25, "sets": {"letters": pytest.approx(0.225), "vectors": pytest.approx(0.025)}}
    assert str(tmp_path) not in (tmp_path / "experiments.json").read_text()
    line = capsys.readouterr().out.splitlines()[2]
    assert line == ("| wide | wide / fast | `--lr 0.01` `--max-units 90` `--init-theta a/theta.npz` | 7 | 10 x 3 | 7 "
                    "| **+12.5** (+0.0 to +25.0) | 25.0 | +22.5 | +2.5 |")


def test_rows_stay_and_a_run_given_again_is_brought_up_to_date(tmp_path, add, monkeypatch):
    first = run(tmp_path / "a" / "one", [0.5, 0.5, 0.5, 0.5])
    before = add(first, "--hypothesis", "first")
    monkeypatch.setattr(experiments, "make_config", lambda *_: make_config("laptop", {"max_units": 64}))  # defaults of later
    both = add(run(tmp_path / "a" / "two", [0.25], max_units=64), "--cores", "2")
    assert both["runs"][0] == before["runs"][0] and both["base"] == before["base"]
    assert both["runs"][1]["settings"] == {"max_units": 64}
    assert [(r["name"], r["hypothesis"], r["cores"], r["move"]) for r in both["runs"]] == [
        ("one", "first", 3, 0.0), ("two", "", 2, None)]
    again = add(run(tmp_path / "b" / "one", [0.75]))
    assert [(r["name"], r["hypothesis"], r["score"]) for r in again["runs"]] == [("one", "first", 0.75), ("two", "", 0.25)]
    assert add()["runs"] == again["runs"]


def test_a_setting_that_came_after_the_log_is_told_where_it_is_not_the_default(tmp_path, add):
    log = add(run(tmp_path / "one", [0.5]))
    del log["base"]["clip"]
    (tmp_path / "experiments.json").write_text(json.dumps(log))
    add(run(tmp_path / "two", [0.5]))
    assert [r["settings"] for r in add(run(tmp_path / "three", [0.5], clip=2.0))["runs"]] == [{}, {}, {"clip": 2.0}]


def test_settings_of_another_day_are_compared_with_those_of_the_first(tmp_path, add):
    base = add(run(tmp_path / "one", [0.5]))["base"]
    assert base == as_json(make_config("laptop", {}))
    folder = Path(run(tmp_path / "two", [0.5]))
    later = json.loads((folder / "config.json").read_text()) | {"new": [["letters", 0.5]], "clip": 1.0}
    (folder / "config.json").write_text(json.dumps(later))
    found = add(str(folder))
    assert found["runs"][1]["settings"] == {"new": [["letters", 0.5]], "clip": 1.0}
    found["runs"].append(found["runs"][1] | {"name": "three"})
    assert [line.split(" | ")[2] for line in experiments.words(found).splitlines()[2:]] == [
        "default", "`--clip 1.0` `--new letters:0.5`", "as two"]


def test_what_is_no_run_or_no_log_is_one_line(tmp_path, capsys):
    good, empty = run(tmp_path / "good", [0.5]), tmp_path / "empty"
    old = Path(run(tmp_path / "old", []))
    (old / "metrics.jsonl").write_text(json.dumps({"step": 0} | STEP) + "\n")
    empty.mkdir()
    for runs, words in (([str(empty)], ["config.json"]), ([str(old)], ["old", "no validation"]),
                        ([good, run(tmp_path / "more" / "good", [0.5])], ["good", "two runs"]), ([], ["no run yet"])):
        refused_command(capsys, ["figure", "experiments", *runs, *place(tmp_path)], words)
        assert not (tmp_path / "experiments.json").exists()
    for text in ("[]", "{}", '{"base": {}, "runs": [{}]}', "no JSON"):
        (tmp_path / "experiments.json").write_text(text)
        refused_command(capsys, ["figure", "experiments", good, *place(tmp_path)], ["experiments.json", "not a log"])
        assert (tmp_path / "experiments.json").read_text() == text


def test_the_picture_shows_scores_and_their_ranges(tmp_path, add):
    for name, scores in (("one", [0.5, 0.25, 0.75]), ("two", [0.0, 0.125, 0.125])):
        numbers = add(run(tmp_path / name, scores))
    axes = experiments.draw(numbers).axes[0]
    assert [list(segment[:, 0]) for segment in axes.collections[0].get_segments()] == [
        [100 * run["low"], 100 * run["high"]] for run in numbers["runs"]]
    line, = (line for line in axes.lines if line.get_label().startswith("score"))
    assert list(line.get_xdata()) == [100 * run["score"] for run in numbers["runs"]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one, seed 0", "two, seed 0"]


def test_the_table_of_readme_is_that_of_the_log():
    log = Path(experiments.__file__).with_suffix(".json")
    if not log.exists():
        pytest.skip("there is no log yet")
    assert experiments.words(json.loads(log.read_text())) in log.with_name("README.md").read_text()
