"""Few-shot problems of some of the classes, `evaluate.py compare` and its picture."""
import json
import os
import sys
import weakref

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import evaluate
from figures import comparison
from ops.errors import InputError
from ops.scoring.few_shot import few_shot_accuracy
from unsup_meta import normalise_targets, solve_ridge, with_ones
from ops.scoring.scoring import ScoreSettings, limit_test
from ops.tasks import Dataset, few_shot_draw
from unsup_meta import save_theta
from small_data import rng, small_theta


def clusters(spread, classes, n, features=12):
    """Points [n * classes, features] about one centre a class, labels in turn."""
    y = np.arange(n * classes) % classes
    x = 5 * rng(1).normal(size=(classes, features))[y] + spread * rng(2).normal(size=(len(y), features))
    return x.astype(np.float32), y


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


def arguments(files, *more, theta=("a", "b"), data=("few", "many")):
    """A quick `compare` command; later flags win over earlier ones."""
    flags = [flag for name in theta for flag in ("--theta", f"{name}={files[name]}")]
    flags += [flag for name in data for flag in ("--data", files.get(name, name))]
    flags += ["--inner-steps", "2", "--draws", "3", "--seeds", "2", "--shots", "5", "--ways", "4"]
    return ["compare", *flags, *more]


def compared(files, tmp_path, *more, **given):
    out = str(tmp_path / "comparison.json")
    assert evaluate.main(arguments(files, "--json", out, *more, **given)) == 0
    with open(out) as file:
        return json.load(file)


# --- Some of the classes ------------------------------------------------------------------------


def test_some_of_many_separable_classes_are_all_right():
    x, y = clusters(0.01, classes=30, n=12, features=40)
    half = len(x) // 2
    assert (few_shot_accuracy(x[:half], y[:half], x[half:], y[half:], 4, 8, rng(), ways=5) == 1).all()


@pytest.mark.parametrize("ways", [2, 5])
def test_noise_is_at_the_chance_of_the_ways(ways):
    x, y = rng(3).normal(size=(8000, 6)).astype(np.float32), np.arange(8000) % 20
    accuracies = few_shot_accuracy(x[:4000], y[:4000], x[4000:], y[4000:], 10, 60, rng(), ways=ways)
    assert accuracies.shape == (60,) and abs(accuracies.mean() - 1 / ways) < 0.02


@pytest.mark.parametrize("features", [6, 50])  # fewer and more than the 12 labelled points
def test_a_draw_is_the_plain_problem_of_its_classes(features):
    x, y = clusters(3.0, classes=9, n=40, features=features)
    half = len(x) // 2
    train, y_train, test, y_test = x[:half], y[:half], x[half:], y[half:]
    got, generator, seen = few_shot_accuracy(train, y_train, test, y_test, 4, 6, rng(7), ways=3), rng(7), set()
    for accuracy in got:
        classes = generator.choice(9, 3, replace=False).tolist()
        seen.update(classes)
        mine = np.array([i for i in range(half) if y_train[i] in classes])
        labels = np.array([classes.index(y_train[i]) for i in mine])
        rows = few_shot_draw(generator, labels, 4)
        assert sorted(labels[rows]) == [0] * 4 + [1] * 4 + [2] * 4
        y_hot = normalise_targets(np.eye(3, dtype=np.float32)[labels[rows]])
        C = solve_ridge(with_ones(train[mine[rows]]), y_hot, 0.1)
        asked = [i for i in range(len(test)) if y_test[i] in classes]
        assert accuracy == np.mean([classes[(with_ones(test[i:i + 1]) @ C).argmax()] == y_test[i] for i in asked])
    assert len(seen) > 3  # the classes are drawn anew


def test_as_many_ways_as_classes_or_more_are_all_of_them():
    x, y = clusters(3.0, classes=4, n=40)
    scores = [few_shot_accuracy(x[:80], y[:80], x[80:], y[80:], 5, 6, rng(), ways=ways) for ways in (None, 4, 99)]
    assert np.array_equal(scores[0], scores[1]) and np.array_equal(scores[0], scores[2])
    with pytest.raises(InputError, match="ways is 1"):
        few_shot_accuracy(x, y, x, y, 5, 6, rng(), ways=1)
    with pytest.raises(InputError, match="no test example"):
        few_shot_accuracy(x, y, x[y == 0], y[y == 0], 5, 30, rng(), ways=2)


def test_the_limit_of_test_images_is_for_the_classes_of_a_draw():
    counts = np.array([3, 40, 100, 57])
    y = rng().permutation(np.repeat(np.arange(4), counts))
    x = np.arange(200, dtype=np.float32)[:, None]
    dataset = Dataset("made", x, y, x, y, tuple("abcd"))
    limited = limit_test(dataset, ScoreSettings(test_images=20))
    assert np.bincount(limited.y_test).tolist() == [1, 4, 10, 6]  # a tenth, rounded up
    assert np.array_equal(limited.y_test, y[limited.x_test[:, 0].astype(int)]) and limited.x_train is x
    assert len(np.unique(limited.x_test)) == 21
    assert np.bincount(limit_test(dataset, ScoreSettings(test_images=20, ways=2)).y_test).tolist() == [1, 8, 20, 12]
    other = limit_test(dataset, ScoreSettings(test_images=20, seed=1))
    assert np.array_equal(limit_test(dataset, ScoreSettings(test_images=20)).x_test, limited.x_test)
    assert not np.array_equal(other.x_test, limited.x_test)
    for settings in (ScoreSettings(), ScoreSettings(test_images=200), ScoreSettings(test_images=100, ways=2)):
        assert limit_test(dataset, settings) is dataset


# --- The command --------------------------------------------------------------------------------


def test_the_table_and_the_json_agree(files, tmp_path, capsys):
    document = compared(files, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    for words in ("5 labelled examples per class, at most 4 classes a draw, 3 draws, 2 seeds of phi, 2 inner steps",
                  "base model inputs-128-128-128-128-32"):
        assert words in lines[0]
    assert [(r["classes"], r["ways"], r["chance"], r["sizes"][0]) for r in document["results"]] == [
        (3, 3, 1 / 3, 5), (12, 4, 1 / 4, 7)]
    shown = iter(lines[1:])
    for result in document["results"]:
        title = next(shown)
        name = os.path.basename(result["data"])
        assert title.startswith(f"{name}: {result['ways']} of {result['classes']} classes")
        assert [(row["method"], row.get("theta"), row["n"]) for row in result["rows"]] == [
            ("random", None, 6), ("raw", None, 3), (f"pca{result['sizes'][0]}", None, 3), ("learned", "a", 6),
            ("learned", "b", 6)]
        names = ["random start", "raw inputs", f"{result['sizes'][0]} principal components", "learned rule, a",
                 "learned rule, b"]
        for name, row in zip(names, result["rows"]):
            assert next(shown).split() == [*name.split(), f"{row['mean']:.3f}", "+-", f"{row['sem']:.3f}"]
    assert next(shown, None) is None
    assert document["thetas"] == {"a": {"path": files["a"], "lr": 3e-3, "norm_eps": 1e-3},
                                  "b": {"path": files["b"], "lr": 1e-2, "norm_eps": 1e-2}}
    assert (document["ways"], document["test_images"], document["shots"]) == (4, 2000, 5)


def test_compare_gives_what_score_gives(files, tmp_path):
    flags = ["--test-images", "20", "--inner-steps", "3"]
    document = compared(files, tmp_path, *flags)
    assert [result["n_test"] for result in document["results"]] == [21, 60]  # 7 of 10 a class; 5 of 10
    for name in ("a", "b"):
        out = str(tmp_path / "score.json")
        command = arguments(files, *flags, theta=[])
        assert evaluate.main(["score", "--theta", files[name], "--json", out, *command[1:]]) == 0
        with open(out) as file:
            scored = json.load(file)["results"]
        for one, result in zip(scored, document["results"]):
            rows = [row for row in result["rows"] if row.get("theta", name) == name]
            expected = {row["method"]: row for row in one["rows"]}
            assert len(rows) == 4 and one["n_test"] == result["n_test"]
            for row in rows:
                assert {key: row[key] for key in ("method", "mean", "sem", "n")} == expected[row["method"]]


def test_numbers_depend_on_the_seed_and_not_on_company(files, tmp_path):
    both, other = compared(files, tmp_path), compared(files, tmp_path, "--seed", "1")
    alone = compared(files, tmp_path, theta=["b"], data=["many"])
    assert compared(files, tmp_path) == both
    assert alone["results"][0]["rows"] == [row for row in both["results"][1]["rows"] if row.get("theta", "b") == "b"]
    for one, two in zip(both["results"], other["results"]):
        assert all(r["mean"] != s["mean"] for r, s in zip(one["rows"], two["rows"]) if r["method"] == "raw")


def test_options_reach_the_rules(files, tmp_path):
    rows = lambda *more: [r["rows"] for r in compared(files, tmp_path, "--inner-steps", "5", *more)["results"]]
    plain = rows()
    for more in (["--lr", "0.5"], ["--norm-eps", "1e-6", "--lr", "0.5"], ["--activation", "tanh"]):
        assert rows(*more) != plain, more
    methods = [[row["method"] for row in data] for data in rows("--baselines", "none")]
    assert methods == [["random", "learned", "learned"]] * 2


def test_one_data_set_is_in_memory_at_a_time(files, tmp_path, monkeypatch):
    alive, load = [], evaluate.load_dataset

    def watched(*given):
        assert all(array() is None for array in alive), "an earlier data set is still held"
        dataset = load(*given)
        alive.append(weakref.ref(dataset.x_train))
        return dataset

    monkeypatch.setattr(evaluate, "load_dataset", watched)
    compared(files, tmp_path)
    assert len(alive) == 4  # each is checked, then scored


def test_a_rule_that_fails_does_not_stop_the_others(files, tmp_path, capsys):
    wild = small_theta() | {"bias": np.full(3, 3e38, np.float32)}
    save_theta(tmp_path / "wild.npz", wild, lr=0.5)
    out, picture = str(tmp_path / "out.json"), str(tmp_path / "drawn.png")
    paths = files | {"wild": str(tmp_path / "wild.npz")}
    assert evaluate.main(arguments(paths, "--json", out, "--picture", picture, theta=["wild", "a"])) == 2
    table, errors = capsys.readouterr()
    assert errors.count("\n") == 1
    assert all(word in errors for word in ("2 score(s)", "few.npz", "wild.npz", "inner step"))
    assert table.count("failed") == 2
    with open(out) as file:
        results = json.load(file)["results"]
    good = compared(files, tmp_path, theta=["a"])["results"]
    for result, expected in zip(results, good):
        failed = result["rows"].pop(3)
        assert failed["theta"] == "wild" and failed["mean"] is None and "after inner step 1" in failed["error"]
        assert result["rows"] == expected["rows"]
    figure = comparison.draw(json.loads((tmp_path / "drawn.json").read_text()))
    assert [text.get_text() for text in figure.axes[0].texts] == ["failed"] * 2


def test_finished_data_sets_are_kept(files, tmp_path, monkeypatch):
    out, make = str(tmp_path / "out.json"), evaluate._compared

    def interrupted(rules, settings, dataset, stream):
        if dataset.name == "many.npz":
            raise KeyboardInterrupt
        return make(rules, settings, dataset, stream)

    monkeypatch.setattr(evaluate, "_compared", interrupted)
    assert evaluate.main(arguments(files, "--json", out)) == 130
    with open(out) as file:
        assert [result["data"] for result in json.load(file)["results"]] == [files["few"]]


REFUSED = [  # flags, words of the message
    (["--theta", "a=absent.npz"], ["--theta a", "two", "NAME=PATH"]),
    (["--theta", "c=absent.npz"], ["absent.npz", "no such file"]),
    (["--theta", "absent.npz"], ["--theta", "absent.npz", "NAME=PATH"]),
    (["--theta", "=absent.npz"], ["NAME=PATH"]),
    (["--theta", "c="], ["NAME=PATH"]),
    (["--data", "mnist15"], ["mnist15", "mnist14"]),
    (["--data", "omniglot", "--data-dir", "nowhere"], ["mniglot", "nowhere"]),
    (["--ways", "1"], ["ways is 1"]),
    (["--ways", "ten"], ["--ways", "ten"]),
    (["--test-images", "0"], ["test_images is 0"]),
    (["--shots", "21"], ["class '0'", "20 training"]),
    (["--sizes", "5,8,6"], ["--sizes"]),
    (["--picture", "out.jpg"], ["out.jpg", ".png"]),
    (["--picture", "scores.png"], ["scores.json", "another name"]),
]


@pytest.mark.parametrize("flags, words", REFUSED, ids=lambda value: "=".join(value) if value[0][0] == "-" else "")
def test_bad_input_is_one_line_before_the_work(files, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "accuracy_curve", lambda *given, **more: pytest.fail("the work was begun"))
    assert evaluate.main(arguments(files, "--json", "scores.json", *flags)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("evaluate.py: "), err
    assert all(word in err for word in words), err
    assert os.listdir(tmp_path) == []


def test_outputs_never_replace_a_theta_and_one_theta_is_needed(files, tmp_path, capsys):
    before = open(files["b"], "rb").read()
    assert evaluate.main(arguments(files, "--json", files["b"])) == 2
    assert "another name" in capsys.readouterr().err and open(files["b"], "rb").read() == before
    assert evaluate.main(arguments(files, theta=[])) == 2
    assert "--theta" in capsys.readouterr().err


# --- The picture --------------------------------------------------------------------------------


def test_the_picture_shows_the_numbers(files, tmp_path):
    picture = tmp_path / "picture.png"
    document = compared(files, tmp_path, "--picture", str(picture))
    numbers = json.loads((tmp_path / "picture.json").read_text())
    assert numbers == comparison.numbers_of(document) and picture.read_bytes().startswith(b"\x89PNG")
    axes = comparison.draw(numbers).axes[0]
    for column, result in enumerate(document["results"]):
        for row in result["rows"]:
            near = [y for bars in axes.containers for x, y in zip(*bars.lines[0].get_data()) if abs(x - column) < 0.5]
            assert row["mean"] in near and len(near) == 5
            low, high = row["mean"] - row["sem"], row["mean"] + row["sem"]
            ends = [tuple(s[:, 1]) for bars in axes.containers for s in bars.lines[2][0].get_segments()]
            assert any(np.allclose(end, (low, high)) for end in ends)
        chance = [line for line in axes.lines if line.get_label() == "chance"][column]
        assert list(chance.get_ydata()) == [result["chance"]] * 2 and np.mean(chance.get_xdata()) == column
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["few.npz\n3-way", "many.npz\n4 of 12 classes"]
    shown = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert shown == ["random start", "raw inputs", "5 principal components", "7 principal components",
                     "learned rule, a", "learned rule, b", "chance"]
    again = tmp_path / "again.png"
    assert comparison.main([str(tmp_path / "picture.json"), str(again)]) == 0
    assert again.read_bytes() == picture.read_bytes()


def test_a_picture_needs_its_numbers(tmp_path, capsys):
    (tmp_path / "bad.json").write_text('{"columns": []}')
    for given in (["bad.json", "out.png"], ["none.json", "out.png"], ["bad.json"]):
        assert comparison.main([str(tmp_path / name) for name in given]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()
