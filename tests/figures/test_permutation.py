"""`figure permutation`: an order is what `score --permute` scores; the claim is of the mean over orders."""
import json

import numpy as np

import evaluate
from figures import permutation
from ops.scoring import score
from small_data import small_theta
from small_scores import clusters
from unsup_meta import save_theta

SHORT = ["--inner-steps", "2", "--draws", "3", "--seeds", "2", "--shots", "4", "--processes", "1"]


def test_orders_are_scores_and_missing_data_is_named(tmp_path, monkeypatch):
    save_theta(tmp_path / "a.npz", small_theta(), lr=3e-2, norm_eps=1e-3)
    x, y = clusters(4.0, 3, 30, 5)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    few, theta = str(tmp_path / "few.npz"), str(tmp_path / "a.npz")
    monkeypatch.setenv("UNSUP_META_DATA", str(tmp_path / "none"))
    assert evaluate.main(["figure", "permutation", "--folder", str(tmp_path), "--theta", f"a={theta}", "--data", few, "--data",
                          "mnist28", "--orders", "3", *SHORT]) == 2
    group, missing = json.loads((tmp_path / "permutation.json").read_text())["groups"]
    assert "error" in missing and "orders" not in missing
    for found, flags in ((group["natural"]["mean"], []), (group["orders"][2], ["--permute", "2"])):
        out = tmp_path / "score.json"
        assert evaluate.main(["score", "--theta", theta, "--data", few, *SHORT, *flags, "--json", str(out)]) == 0
        assert np.isclose(found, json.loads(out.read_text())["rows"][1]["mean"])
    assert np.isclose(group["lost"]["mean"], group["natural"]["mean"] - np.mean(group["orders"]))


def test_nothing_is_lost_unless_two_standard_errors_are(monkeypatch):
    monkeypatch.setattr(score, "gathered", lambda results: found)
    rng, refused = np.random.default_rng(1), []
    for _ in range(400):  # natural order is one of eleven alike
        found = [({"data": {"data": "d"}, "order": k}, np.full((1, 1, 4, 1), 0.7 + 0.01 * rng.normal()), None)
                 for k in (None, *range(10))]
        refused.append(not permutation.numbers(permutation.Settings(), [])["groups"][0]["lost"]["holds"])
    assert np.mean(refused) < 0.08
    noise = 0.01 * np.random.default_rng(0).normal(size=(10, 1, 4))
    for loss, holds in ((0.0, True), (0.02, False), (-0.1, True)):
        found = [({"data": {"data": "d"}, "order": None}, np.full((1, 1, 4, 1), 0.7), None)]
        found += [({"data": {"data": "d"}, "order": k}, (0.7 - loss + noise[k])[None, ..., None], None) for k in range(10)]
        assert permutation.numbers(permutation.Settings(), [])["groups"][0]["lost"]["holds"] is holds
