"""`figure comparison` and `figure learning-curve`: the numbers of `score`, pictures that show them, what is missing."""
import json
import os
import weakref

import numpy as np
import pytest

import evaluate
from figures import comparison, learning_curve
from ops.scoring import score
from small_data import small_theta
from small_scores import as_id, clusters, refused_command
from unsup_meta import save_theta


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two thetas with settings of their own; data of 3 classes in 5 dimensions and of 12 classes in 7."""
    folder = tmp_path_factory.mktemp("compare")
    save_theta(folder / "a.npz", small_theta(0), lr=3e-3, norm_eps=1e-3)
    save_theta(folder / "b.npz", small_theta(1, batch_size=6), lr=1e-2, norm_eps=1e-2)
    for name, classes, features in (("few", 3, 5), ("many", 12, 7)):
        x, y = clusters(4.0, classes, 30, features)
        np.savez(folder / f"{name}.npz", x=x, y=y)
    return {path.stem: str(path) for path in folder.iterdir()}


QUICK = ["--inner-steps", "2", "--draws", "3", "--seeds", "2", "--shots", "5", "--ways", "4", "--processes", "1"]


def arguments(files, folder, *more, theta=("a", "b"), data=("few", "many")):
    """A quick `figure comparison`; later flags win over earlier ones."""
    flags = [flag for name in theta for flag in ("--theta", f"{name}={files[name]}")]
    flags += [flag for name in data for flag in ("--data", files.get(name, name))]
    return ["figure", "comparison", "--folder", str(folder), *flags, *QUICK, *more]


def columns(files, folder, *more, code=0, **given):
    assert evaluate.main(arguments(files, folder, *more, **given)) == code
    return json.loads((folder / "comparison.json").read_text())["columns"]


# --- The numbers --------------------------------------------------------------------------------


def test_the_table_and_the_json_agree(files, tmp_path, capsys):
    found = columns(files, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    for words in ("5 labelled examples per class, at most 4 classes a draw, 3 draws, 2 seeds of phi, 2 inner steps",
                  "base model inputs-128-128-128-128-32"):
        assert words in lines[0]
    assert [(c["classes"], c["ways"], c["chance"]) for c in found] == [(3, 3, 1 / 3), (12, 4, 1 / 4)]
    for number, column in enumerate(found):
        components = f"{(5, 7)[number]} principal components"
        assert [(p["label"], p["learned"], p["n"]) for p in column["points"]] == [
            ("random start", False, 6), ("raw inputs", False, 3), (components, False, 3), ("learned rule, a", True, 6),
            ("learned rule, b", True, 6)]
        for p in column["points"]:
            line, = (line for line in lines if line.startswith(p["label"]))
            assert f"{p['mean']:.3f} +- {p['sem']:.3f}" in line
    settings = json.loads((tmp_path / "comparison.json").read_text())["settings"]
    assert settings["theta"] == [["a", "a.npz"], ["b", "b.npz"]] and settings["test_images"] == 2000


def test_compare_gives_what_score_gives(files, tmp_path):
    flags = ["--test-images", "20", "--inner-steps", "3"]
    found = columns(files, tmp_path, *flags)
    assert [column["n_test"] for column in found] == [21, 60]  # 7 of 10 a class; 5 of 10
    for name in ("a", "b"):
        out, data = tmp_path / "score.json", ["--data", files["few"], "--data", files["many"]]
        assert evaluate.main(["score", "--theta", files[name], "--json", str(out), *data, *QUICK, *flags]) == 0
        for one, column in zip(json.loads(out.read_text())["results"], found):
            points = [p for p in column["points"] if not p["learned"] or p["label"].endswith(name)]
            random, learned, *baselines = one["rows"]
            assert [[p[key] for key in ("mean", "sem", "n")] for p in points] == [
                [row[key] for key in ("mean", "sem", "n")] for row in (random, *baselines, learned)]


def test_numbers_depend_on_the_seed_and_not_on_company(files, tmp_path):
    both, other = columns(files, tmp_path), columns(files, tmp_path, "--seed", "1")
    (alone,) = columns(files, tmp_path, theta=["b"], data=["many"])
    assert alone["points"] == [p for p in both[1]["points"] if p["label"] != "learned rule, a"]
    for one, two in zip(both, other):
        assert all(p["mean"] != q["mean"] for p, q in zip(one["points"], two["points"]) if p["label"] == "raw inputs")


def test_another_theta_in_the_same_file_is_measured_anew(files, tmp_path):
    theta = str(tmp_path / "a.npz")
    save_theta(theta, small_theta(0), lr=3e-3, norm_eps=1e-3)
    before = columns(files | {"a": theta}, tmp_path, "--inner-steps", "9", theta=["a"])
    save_theta(theta, small_theta(2), lr=3e-3, norm_eps=1e-3)
    after = columns(files | {"a": theta}, tmp_path, "--inner-steps", "9", theta=["a"])
    changed = [p["label"] for one, two in zip(before, after) for p, q in zip(one["points"], two["points"]) if p != q]
    assert set(changed) == {"learned rule, a"}


def test_more_seeds_and_other_steps_measure_only_what_is_new(files, tmp_path):
    kept = lambda: (tmp_path / "results" / "comparison.jsonl").read_text().count("\n")
    columns(files, tmp_path, theta=["a"], data=["few"])
    assert kept() == 6  # random and learned from two seeds, raw, components
    columns(files, tmp_path, "--seeds", "3", theta=["a"], data=["few"])
    assert kept() == 8
    columns(files, tmp_path, "--inner-steps", "3", theta=["a"], data=["few"])
    assert kept() == 10


def test_options_reach_the_rules(files, tmp_path):
    points = lambda *more: [c["points"] for c in columns(files, tmp_path, "--inner-steps", "5", *more)]
    plain = points()
    for more in (["--lr", "0.5"], ["--norm-eps", "1e-6", "--lr", "0.5"], ["--activation", "tanh"]):
        assert points(*more) != plain, more
    labels = [[p["label"] for p in column] for column in points("--baselines", "none")]
    assert labels == [["random start", "learned rule, a", "learned rule, b"]] * 2


# --- What fails -----------------------------------------------------------------------------------


def test_a_rule_that_fails_does_not_stop_the_others(files, tmp_path, capsys):
    save_theta(tmp_path / "wild.npz", small_theta() | {"bias": np.full(3, 3e38, np.float32)}, lr=0.5)
    paths = files | {"wild": str(tmp_path / "wild.npz")}
    found = columns(paths, tmp_path, theta=["wild", "a"], code=2)
    table, errors = capsys.readouterr()
    assert errors.count("\n") == 1 and table.count("failed") == 2
    assert all(word in errors for word in ("4 of", "few.npz, wild", "wild.npz", "inner step"))
    good = columns(files, tmp_path, theta=["a"])
    for column, expected in zip(found, good):
        failed = column["points"].pop(3)
        assert failed["label"] == "learned rule, wild" and failed["mean"] is None
        assert "after inner step 1" in failed["error"] and column == expected
    columns(paths, tmp_path, theta=["wild", "a"], code=2)
    figure = comparison.draw(json.loads((tmp_path / "comparison.json").read_text()))
    assert [text.get_text() for text in figure.axes[0].texts] == ["failed"] * 2


@pytest.mark.parametrize("name", ["comparison", "learning-curve"])
def test_a_data_set_that_is_not_there_is_an_empty_panel_that_names_its_file(files, tmp_path, capsys, name):
    theta = f"a={files['a']}" if name == "comparison" else files["a"]
    assert evaluate.main(["figure", name, "--folder", str(tmp_path), "--theta", theta, "--data", files["few"], "--data",
                          "omniglot", "--data-dir", str(tmp_path / "nowhere"), *QUICK]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "omniglot" in error and "omniglot_28.npz" in error
    numbers = json.loads((tmp_path / f"{name}.json").read_text())
    here, missing = numbers["columns" if name == "comparison" else "panels"]
    assert "error" not in here and "omniglot_28.npz" in missing["error"]
    figure = (comparison if name == "comparison" else learning_curve).draw(numbers)
    assert any("omniglot_28" in text.get_text().replace("\n", "") for axes in figure.axes for text in axes.texts)


@pytest.mark.parametrize("flags, words", [  # the flags and words of the message
    (["--theta", "a=absent.npz"], ["--theta a", "two", "NAME=PATH"]),
    (["--theta", "c=absent.npz"], ["absent.npz", "no such file"]),
    (["--theta", "absent.npz"], ["--theta", "absent.npz", "NAME=PATH"]), (["--theta", "=absent.npz"], ["NAME=PATH"]),
    (["--theta", "c="], ["NAME=PATH"]), (["--data", "mnist15"], ["mnist15", "mnist14"]),
    (["--ways", "1"], ["--ways is 1"]), (["--ways", "ten"], ["--ways", "ten"]),
    (["--test-images", "0"], ["--test-images is 0"]), (["--shots", "21"], ["class '0'", "20 training"]),
    (["--sizes", "5,8,6"], ["--sizes"])], ids=as_id)
def test_bad_input_is_one_line_before_the_work(files, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.setattr(comparison, "measure", lambda cell: pytest.fail("the work was begun"))
    refused_command(capsys, arguments(files, tmp_path, *flags), words)
    assert os.listdir(tmp_path) == []


# --- The picture --------------------------------------------------------------------------------


def test_the_picture_shows_the_numbers(files, tmp_path):
    found = columns(files, tmp_path)
    axes = comparison.draw(json.loads((tmp_path / "comparison.json").read_text())).axes[0]
    for number, column in enumerate(found):
        for p in column["points"]:
            near = [y for bars in axes.containers for x, y in zip(*bars.lines[0].get_data()) if abs(x - number) < 0.5]
            assert p["mean"] in near and len(near) == 5
            low, high = p["mean"] - p["sem"], p["mean"] + p["sem"]
            ends = [tuple(s[:, 1]) for bars in axes.containers for s in bars.lines[2][0].get_segments()]
            assert any(np.allclose(end, (low, high)) for end in ends)
        chance = [line for line in axes.lines if line.get_label() == "chance"][number]
        assert list(chance.get_ydata()) == [column["chance"]] * 2 and np.mean(chance.get_xdata()) == number
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["few.npz\n3-way", "many.npz\n4 of 12 classes"]
    shown = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert shown == ["random start", "raw inputs", "5 principal components", "7 principal components",
                     "learned rule, a", "learned rule, b", "chance"]


def test_a_tuned_ridge_is_a_column_and_a_mark_of_its_own(files, tmp_path, capsys):
    found = columns(files, tmp_path, "--tuned-ridge", data=["few"])
    lines = capsys.readouterr().out.splitlines()
    assert "few.npz, ridge tuned" in lines[1] and len(found[0]["points"]) == 5
    axes = comparison.draw(json.loads((tmp_path / "comparison.json").read_text())).axes[0]
    marks = [y for line in axes.lines if line.get_marker() == "_" and line.get_markersize() == 9 for y in line.get_ydata()]
    assert marks == [p["tuned"]["mean"] for p in found[0]["points"]]
    for p in found[0]["points"]:
        assert any(line.startswith(p["label"]) and f"  {p['tuned']['mean']:.3f} +-" in line for line in lines)


def test_one_data_set_is_in_memory_at_a_time(files, tmp_path, monkeypatch):
    alive, load = [], score.load_dataset

    def watched(*given):
        assert all(array() is None for array in alive), "an earlier data set is still held"
        dataset = load(*given)
        alive.append(weakref.ref(dataset.x_train))
        return dataset

    monkeypatch.setattr(score, "load_dataset", watched)
    monkeypatch.setattr(score, "_held", {})
    columns(files, tmp_path)
    assert len(alive) == 4  # each is checked, then scored
