"""`figure fig2-protonets`: the same episodes for all, what permuting costs, the claim in numbers."""
import json

import numpy as np
import pytest

import evaluate
from figures import fig2_protonets
from ops.scoring.few_shot import few_shot_accuracy
from ops.scoring.methods.prototypical import episode_rows
from ops.scoring.settings import TEST
from small_data import rng, small_theta
from small_scores import as_id, clusters, refused_command
from unsup_meta import save_theta

SMALL = ["--shots", "1,3", "--episodes", "10", "--tests", "4", "--rule-tests", "2", "--inner-steps", "3", "--processes", "1"]


@pytest.fixture
def classes(monkeypatch):
    """20 classes to train on and 15 others of 20 images in 6 dimensions, instead of the real ones."""
    x, y = clusters(4.0, 35, 20, 6)
    x, of = x[np.argsort(y, kind="stable")], np.full(35, 20)
    made = (x[:400], of[:20]), (x[400:], of[20:])
    monkeypatch.setattr(fig2_protonets, "classes_of", lambda name, folder: made)
    return made


@pytest.fixture
def theta(tmp_path):
    save_theta(tmp_path / "theta.npz", small_theta(), lr=0.1, norm_eps=1e-3)
    return str(tmp_path / "theta.npz")


def arguments(folder, theta, *more):
    return ["figure", "fig2-protonets", "--folder", str(folder), "--theta", theta, *SMALL, *more]


def test_all_methods_are_scored_on_the_same_episodes(classes, theta, tmp_path, capsys):
    assert evaluate.main(arguments(tmp_path, theta)) == 0
    found, out = json.loads((tmp_path / "fig2-protonets.json").read_text()), capsys.readouterr().out
    curves = {(c["method"], c["permuted"]): c["points"] for c in found["curves"]}
    assert found["shots"] == [1, 3] and set(curves) == {("raw", False)} | {
        (method, permuted) for method in ("prototypical", "learned") for permuted in (False, True)}
    assert [p["n"] for p in curves["raw", False] + curves["prototypical", True] + curves["learned", True]] == [4] * 4 + [2] * 2
    images, per_class = classes[1]
    for k, point in zip((1, 3), curves["raw", False]):
        right = []
        for number in range(4):
            x, y = images[episode_rows(rng([0, TEST, number]), per_class, 10, 18)], np.arange(10)
            right.append(few_shot_accuracy(x[:, :k].reshape(-1, 6), y.repeat(k), x[:, 3:].reshape(-1, 6), y.repeat(15), k, 1,
                                           rng(1))[0])
        assert point["mean"] == pytest.approx(np.mean(right))
    assert curves["learned", False] != curves["learned", True]
    assert curves["prototypical", False] != curves["prototypical", True]
    assert len(found["training"]["curves"]) == 4
    for c in found["training"]["curves"]:
        ends = curves["prototypical", c["permuted"]][found["shots"].index(c["shots"])]["mean"]
        assert len(c["accuracy"]) == len(found["training"]["parts"]) and c["accuracy"][-1] == pytest.approx(ends)
    for c in found["curves"]:
        assert f"{c['points'][1]['mean']:.3f} +- {c['points'][1]['sem']:.3f}" in out
    drawn = [list(bars.lines[0].get_ydata()) for bars in fig2_protonets.draw(found).axes[0].containers]
    assert all([p["mean"] for p in points] in drawn for points in curves.values())


def test_the_rule_sees_its_classes_but_no_query(classes, theta, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(fig2_protonets.Learned, "apply", lambda self, phi, x, *more: seen.append(x) or phi)
    assert evaluate.main(arguments(tmp_path, theta)) == 0
    images, per_class = classes[1]
    for number, x in zip((0, 1), seen):  # those with pixels intact come first
        rows = episode_rows(rng([0, TEST, number]), per_class, 10, 18)
        expected = sorted({20 * (r // 20) + i for r in rows[:, 0] for i in range(20)} - set(rows[:, 3:].reshape(-1)))
        assert np.array_equal(x, images[expected]) and len(x) == 50
    assert np.array_equal(np.sort(seen[2]), np.sort(seen[0])) and not np.array_equal(seen[2], seen[0])


def claim(network, rule):
    """`claim_of` mean accuracies (intact, permuted) of networks and the rule, of 50 episodes."""
    of = lambda mean, seed: {k: mean + 0.02 * rng(seed).normal(size=50) for k in (1, 5)}
    pairs = [("prototypical", network), ("learned", rule)]
    found = {(method, p): of(means[p], 2 * i + p) for i, (method, means) in enumerate(pairs) for p in (False, True)}
    return fig2_protonets.claim_of(found | {("raw", False): of(0.3, 9)}, (1, 5))


def test_the_claim_is_that_networks_lose_most_of_their_gain_and_the_rule_nothing():
    found = claim((0.5, 0.2), (0.4, 0.4))
    assert found["holds"] and np.allclose(found["lost"], 0.75, atol=0.03)
    assert np.allclose(found["lost_over_raw"], 1.5, atol=0.1)
    assert claim((0.2, 0.2), (0.4, 0.4))["lost_over_raw"] == [None, None]
    assert not claim((0.5, 0.4), (0.4, 0.4))["network_loses_most"]
    assert claim((0.5, 0.2), (0.4, 0.3))["rule_loses_nothing"] is False


def test_the_made_classes_need_no_download_and_share_nothing():
    (train, of_train), (test, of_test) = fig2_protonets.classes_of("world", None)
    assert len(of_train) == 4 * len(of_test) >= 100 and of_test.min() >= 20 + fig2_protonets.QUERIES
    assert train.shape[1] == 196 and train.max() <= 1 and len(test) == of_test.sum()
    assert not {image.tobytes() for image in test[:200]} & {image.tobytes() for image in train}


@pytest.mark.parametrize("flags, words", [
    (["--shots", "6"], ["--shots 6", "20 images", "21 are needed"]), (["--theta", "absent.npz"], ["absent.npz"]),
    (["--data", "letters"], ["letters"]), (["--shots", "0"], ["--shots"]), (["--tests", "1"], ["--tests is 1"])], ids=as_id)
def test_bad_settings_are_one_line(classes, theta, tmp_path, capsys, flags, words):
    refused_command(capsys, arguments(tmp_path / "out", theta, *flags), words)
    assert not list(tmp_path.glob("out/*.*"))


def test_missing_data_are_told(theta, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    refused_command(capsys, arguments(tmp_path, theta, "--data", "imagenet16", "--data-dir", str(tmp_path / "empty")),
                    ["train_data_batch_*.npz"])
