"""`figure stability` and `figure suite-ranking`: the suite's own numbers, averaged and ranked, and what is only shown."""
import json

import numpy as np
import pytest

import evaluate
from figures import stability, suite_ranking
from ops.data.pool import grouped
from ops.rule.theta_file import load_settings
from ops.scoring import on_suite
from ops.scoring.runner import Result
from ops.tasks.measure import components_accuracy, measure, problem
from ops.tasks.suite import SETS
from small_data import small_theta
from small_scores import as_id, clusters, refused_command
from unsup_meta import load_theta, save_theta

ONE, TWO, LACKING = [name for name in SETS if name != "heldout-letters"][:3]


@pytest.fixture
def pools(monkeypatch):
    """{set: {name: Pool}} of small ones, instead of the real ones; one set is not on this machine."""
    made = {}
    for name, features in ((ONE, 5), (TWO, 7), ("mnist14", 6)):
        pool = grouped(name, *clusters(6.0, 12, 35, features), tuple("abcdefghijkl"), None)
        made[name] = dict.fromkeys(SETS.get(name, [name]), pool)
    monkeypatch.setattr(on_suite, "_opened", lambda name, folder: (made.get(name), f"goes on without {name}: no file"))
    return made


@pytest.fixture(scope="module")
def thetas(tmp_path_factory):
    """Paths of three thetas of two runs."""
    paths = [tmp_path_factory.getbasetemp() / name for name in ("r/theta.npz", "r/thetas/b.npz", "s/theta.npz")]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_theta(path, small_theta(seed), lr=0.1, norm_eps=1e-3)
    return list(map(str, paths))


SMALL = ["--sets", f"{ONE},{TWO},{LACKING},mnist14", "--processes", "1"]
STABILITY = ["figure", "stability", *SMALL, "--times", "4,1", "--widths", "6", "--widths", "9", "--depth", "2"]


def numbers_of(name, folder):
    return json.loads((folder / f"{name}.json").read_text())


def test_stability_is_what_the_suite_measures_on_each_network(pools, thetas, tmp_path, capsys):
    named = [part for label, path in zip("pq", thetas) for part in ("--theta", f"{label}={path}")]
    assert evaluate.main([*STABILITY, *named, "--tasks", "2", "--folder", str(tmp_path)]) == 0
    found, out = numbers_of("stability", tmp_path), capsys.readouterr().out
    assert found["times"] == [1, 4] and list(found["sets"]) == ["suite", ONE, TWO, "mnist14"]
    assert found["missing"] == [f"goes on without {LACKING}: no file"] and found["missing"][0] in out
    theta, config = load_theta(thetas[1]), load_settings(thetas[1], {"lr": 0, "norm_eps": 0})
    tasks = [problem(TWO, index, pools[TWO], ((9, 9),)) for index in range(2)]
    expected = np.mean([measure(theta, task, (1, 4), config["lr"], config["norm_eps"]) for task in tasks], axis=0)
    curve, = (c for c in found["sets"][TWO]["curves"] if (c["label"], c["network"]) == ("q", "9 x 2"))
    assert np.allclose(np.transpose([curve["J"], curve["accuracy"]]), expected)
    assert found["sets"][TWO]["components"] == pytest.approx(np.mean([components_accuracy(task) for task in tasks]))
    assert 0 < found["sets"]["mnist14"]["curves"][0]["accuracy"][0] < 1
    for i, curve in enumerate(found["sets"]["suite"]["curves"]):  # the mean over the suite's sets alone
        assert np.allclose(curve["J"], np.mean([found["sets"][name]["curves"][i]["J"] for name in (ONE, TWO)], axis=0))
        line, = (line for line in out.splitlines() if line.startswith(f"{curve['label']}, {curve['network']}"))
        assert f"{curve['accuracy'][1]:.3f} ({curve['J'][1]:.2f})" in line


def test_a_mean_over_the_suite_is_of_one_rule_even_where_a_cell_failed():
    cell = lambda name, **more: {"name": name, "set": name} | more
    rule = lambda name, label: cell(name, rule={}, label=label, network="n")
    of = lambda value: {"J": [value], "accuracy": [value]}
    results = [Result(cell(name), {"components": 0.5} if name == ONE else None, None if name == ONE else "killed", 1) for name in (ONE, TWO)]
    results += [Result(rule(ONE, "bad"), of(0.1), None, 1), Result(rule(ONE, "good"), of(0.9), None, 1),
                Result(rule(TWO, "bad"), None, "killed", 1), Result(rule(TWO, "good"), of(0.7), None, 1)]
    found = stability.numbers(stability.Settings(times=(5,)), results)
    curve, = found["sets"]["suite"]["curves"]
    assert curve["label"] == "good" and curve["accuracy"] == [pytest.approx(0.8)] and stability.draw(found)
    assert "failed" in stability.words(found)


def test_stability_draws_its_numbers_and_a_theta_that_diverges(pools, thetas, tmp_path):
    save_theta(tmp_path / "wild.npz", small_theta() | {"bias": np.full(3, 3e38, np.float32)}, lr=0.5)
    named = ["--theta", f"tame={thetas[0]}", "--theta", f"wild={tmp_path / 'wild.npz'}"]
    assert evaluate.main([*STABILITY, *named, "--tasks", "1", "--folder", str(tmp_path)]) == 0
    found = numbers_of("stability", tmp_path)
    of = {(name, c["label"], c["network"]): c for name, one in found["sets"].items() for c in one["curves"]}
    assert of[ONE, "wild", "6 x 2"]["J"][1] is None and of["suite", "wild", "6 x 2"]["J"][1] is None
    assert of[ONE, "wild", "6 x 2"]["accuracy"][1] == 0
    shown = [axes for axes in stability.draw(found).axes if axes.get_visible()]
    for (name, one), above, below in zip(found["sets"].items(), shown[:4], shown[4:]):
        assert name in above.get_title() or name == "suite"
        for axes, what in ((above, "accuracy"), (below, "J")):
            drawn = [np.array(line.get_ydata(), float) for line in axes.get_lines()]
            for curve in one["curves"]:
                expected = np.array(curve[what], float)  # None is NaN
                assert any(np.array_equal(y, expected, equal_nan=True) for y in drawn)


@pytest.mark.parametrize("flags, words", [
    (["--sets", "mnist15"], ["mnist15", "mnist14"]), (["--times", "0,3"], ["--times", "1 or more"]),
    (["--widths", "wide"], ["--widths", "wide"]), (["--depth", "0"], ["--depth is 0"]),
    (["--tasks", "0"], ["--tasks is 0"]), (["--theta", "a=absent.npz"], ["absent.npz"]),
    (["--sets", LACKING], [f"without {LACKING}: no file"])], ids=as_id)
def test_what_stability_cannot_do_is_one_line(pools, thetas, tmp_path, capsys, flags, words):
    named = [] if "--theta" in flags else ["--theta", f"a={thetas[0]}"]
    command = ["figure", "stability", "--times", "1", "--widths", "6", "--depth", "1", "--processes", "1"]
    refused_command(capsys, [*command, *named, "--folder", str(tmp_path / "out"), *flags], words)
    assert not list(tmp_path.glob("out/*.*"))


# --- Ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("a, b, spearman, kendall", [
    ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8, 0.6), ([1, 2, 3], [9, 5, 1], -1, -1),
    ([1, 2, 2, 3], [1, 2, 3, 4], 4.5 / 22.5**0.5, 5 / 30**0.5), ([1, 1, 1], [1, 2, 3], None, None)])
def test_rank_correlations_are_the_textbooks(a, b, spearman, kendall):
    for found in (suite_ranking.correlations(a, b), suite_ranking.correlations(b, np.exp(a))):
        assert found == {"spearman": spearman and pytest.approx(spearman), "kendall": kendall and pytest.approx(kendall)}


def ranking_of(accuracy):
    """`numbers` of these accuracies {set: [thetas]}, each the mean of two tasks at two times."""
    results = [Result({"set": name, "label": f"run/{k}", "network": "", "rule": {}},
                      {"J": [1, 1], "accuracy": [value + shift, value - shift]}, None, 0)
               for name, values in accuracy.items() for shift in (0, 0.125) for k, value in enumerate(values)]
    return suite_ranking.numbers(None, results)


def test_a_set_is_ranked_against_the_others_of_the_suite_and_never_by_what_is_only_shown():
    accuracy = {ONE: [0.5, 0.25, 0.75, 0.625], TWO: [0.5, 0.25, 0.625, 0.75], LACKING: [0.75, 0.625, 0.5, 0.25],
                "mnist14": [0.25, 0.75, 0.5, 0.625]}
    found = ranking_of(accuracy)
    assert found["thetas"] == [f"run/{k}" for k in range(4)] and found["accuracy"] == accuracy
    for name, others in ((ONE, (TWO, LACKING)), (LACKING, (ONE, TWO))):
        mean = np.mean([accuracy[other] for other in others], axis=0)
        assert found["ranks"][name]["others"] == suite_ranking.correlations(accuracy[name], mean)
        assert found["ranks"][name]["mnist14"] == suite_ranking.correlations(accuracy[name], accuracy["mnist14"])
    other = ranking_of(accuracy | {"mnist14": [0.75, 0.25, 0.5, 0.5]})
    assert {name: of.get("others") for name, of in other["ranks"].items()} == {
        name: of.get("others") for name, of in found["ranks"].items()}
    assert other["ranks"][suite_ranking.SUITE] != found["ranks"][suite_ranking.SUITE] and "mnist14" not in found["ranks"]


def test_thetas_are_ranked_by_what_a_validation_measures(pools, thetas, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(suite_ranking, "TIMES", (1, 3))
    command = ["figure", "suite-ranking", *SMALL, "--tasks", "1", "--folder", str(tmp_path)]
    assert evaluate.main([*command, *thetas]) == 0
    found, out = numbers_of("suite-ranking", tmp_path), capsys.readouterr().out
    assert found["thetas"] == ["r/theta", "r/b", "s/theta"] and list(found["accuracy"]) == [ONE, TWO, "mnist14"]
    expected = [np.mean([v for _, v in measure(load_theta(path), problem(TWO, 0, pools[TWO]), (1, 3), 0.1, 1e-3)])
                for path in thetas]
    assert np.allclose(found["accuracy"][TWO], expected)
    assert "over 3 thetas" in out and f"without {LACKING}" in out and "never to choose by" in out
    figure = suite_ranking.draw(found)
    dots = figure.axes[1].collections[0].get_offsets()
    assert np.allclose(dots, np.transpose([found["accuracy"][ONE], found["accuracy"][TWO]]))
    refused_command(capsys, [*command, *thetas[:2], thetas[0]], ["2 thetas", "3 or more"])
    refused_command(capsys, [*command, *thetas, str(tmp_path / "absent.npz")], ["absent.npz", "no such file"])
