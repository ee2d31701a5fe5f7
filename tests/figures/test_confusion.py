"""`figure confusion`: shares of each class, whose diagonal is the score; `few_shot_confusion` on classes that overlap."""
import json

import numpy as np

import evaluate
from ops.scoring.few_shot import few_shot_accuracy, few_shot_confusion
from small_data import rng, small_theta
from small_scores import clusters
from unsup_meta import save_theta


def test_the_diagonal_is_the_score(tmp_path, capsys, monkeypatch):
    save_theta(tmp_path / "a.npz", small_theta(), lr=3e-2, norm_eps=1e-3)
    x, y = clusters(4.0, 3, 30, 5)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    monkeypatch.setenv("UNSUP_META_DATA", str(tmp_path / "none"))
    short = ["--inner-steps", "2", "--draws", "3", "--seeds", "2", "--shots", "4", "--processes", "1"]
    theta, few = str(tmp_path / "a.npz"), str(tmp_path / "few.npz")
    assert evaluate.main(["figure", "confusion", "--folder", str(tmp_path), "--theta", f"a={theta}", "--data", few, "--data",
                          "mnist28", *short]) == 2
    assert (tmp_path / "confusion.png").read_bytes()[:4] == b"\x89PNG" and "most often taken" in capsys.readouterr().out
    found, missing = json.loads((tmp_path / "confusion.json").read_text())["panels"]
    assert "error" in missing and np.allclose(np.sum(found["shares"], axis=1), 1) and len(found["classes"]) == 3
    out = tmp_path / "score.json"
    assert evaluate.main(["score", "--theta", theta, "--data", few, *short, "--json", str(out)]) == 0
    assert np.isclose(found["accuracy"], json.loads(out.read_text())["rows"][1]["mean"])  # classes are equally large


def test_settings_of_scores_are_those_of_confusions(tmp_path):
    save_theta(tmp_path / "a.npz", small_theta(), lr=3e-2, norm_eps=1e-3)
    x, y = clusters(4.0, 3, 30, 5)
    np.savez(tmp_path / "few.npz", x=x * [1, 1, 1, 100, 0.01], y=y)
    for flags in ([], ["--permute", "3"], ["--activation", "tanh"], ["--unlabelled", "12"], ["--standardise", "no"]):
        of = ["--data", f"{tmp_path}/few.npz", "--inner-steps", "2", "--draws", "3", "--seeds", "2",
              "--shots", "4", "--processes", "1", *flags]
        assert evaluate.main(["figure", "confusion", "--folder", str(tmp_path), "--theta", f"a={tmp_path}/a.npz", *of]) == 0
        assert evaluate.main(["score", "--theta", f"{tmp_path}/a.npz", *of, "--json", f"{tmp_path}/score.json"]) == 0
        panel, = json.loads((tmp_path / "confusion.json").read_text())["panels"]
        assert np.isclose(panel["accuracy"], json.loads((tmp_path / "score.json").read_text())["rows"][1]["mean"]), flags


def test_classes_that_are_the_same_are_confused_and_no_others():
    x, y = clusters(0.1, 3, 40, 8)
    y = np.where(y == 2, 2 + rng(0).integers(0, 2, len(y)), y)  # the third cluster is two classes at random
    found = few_shot_confusion(x[:80], y[:80], x[80:], y[80:], 5, 10, rng(1))
    assert np.allclose(found[:2, :2], np.eye(2)) and np.allclose(found[2:, :2], 0)
    assert (found[2:, 2:] > 0.05).all() and np.allclose(found.sum(axis=1), 1)
    right = few_shot_accuracy(x[:80], y[:80], x[80:], y[80:], 5, 10, rng(1)).mean()
    assert np.isclose(right, (np.diag(found) * np.bincount(y[80:]) / 40).sum())
