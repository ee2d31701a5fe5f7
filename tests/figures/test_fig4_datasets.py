"""`figure fig4-datasets`: all the bars, the claim over common draws, a data set that is not there."""
import json

import numpy as np

import evaluate
from figures import fig4_datasets
from ops.scoring import score
from ops.scoring.tables import difference
from small_data import small_theta
from small_scores import clusters
from unsup_meta import save_theta


def run(folder, *more, code=0):
    for seed in (0, 1):
        save_theta(folder / f"{seed}.npz", small_theta(seed), lr=3e-3, norm_eps=1e-3)
    x, y = clusters(4.0, 3, 30, 5)
    np.savez(folder / "few.npz", x=x, y=y)
    thetas = [flag for seed in (0, 1) for flag in ("--theta", f"s{seed}={folder}/{seed}.npz")]
    assert evaluate.main(["figure", "fig4-datasets", "--folder", str(folder), *thetas, "--data", str(folder / "few.npz"),
                          "--inner-steps", "2", "--draws", "3", "--seeds", "2", "--shots", "5", "--processes", "1",
                          "--baselines", "raw", *more]) == code
    return json.loads((folder / "fig4-datasets.json").read_text())["groups"]


def test_thetas_are_one_method_and_dots_and_numbers_are_scores(tmp_path, capsys):
    group, = run(tmp_path)
    assert (tmp_path / "fig4-datasets.png").read_bytes()[:4] == b"\x89PNG"
    assert list(group["methods"]) == ["random", "raw", "learned"] and group["methods"]["learned"]["n"] == 2 * 2 * 3
    assert "tuned" in group["methods"]["raw"] and "random start (" in capsys.readouterr().out
    means = []
    for seed in (0, 1):
        out = tmp_path / "score.json"
        assert evaluate.main(["score", "--theta", f"{tmp_path}/{seed}.npz", "--data", str(tmp_path / "few.npz"), "--json",
                              str(out), "--inner-steps", "2", "--draws", "3", "--seeds", "2", "--shots", "5"]) == 0
        means.append(json.loads(out.read_text())["rows"][1]["mean"])
        assert group["thetas"][f"s{seed}"]["mean"] == means[-1]
    assert np.isclose(group["methods"]["learned"]["mean"], np.mean(means))


def test_a_missing_data_set_is_named_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSUP_META_DATA", str(tmp_path / "none"))
    few, missing = run(tmp_path, "--data", "mnist28", code=2)
    assert "claim" in few and "error" in missing and missing["methods"] == {}


def test_the_claim_wants_two_standard_errors_of_the_difference(monkeypatch):
    draws = np.linspace(0.4, 0.8, 20)  # which is all the spread there is: the same in both
    noise = 0.01 * np.random.default_rng(0).normal(size=(2, 20))
    for gain, holds in ((0.05, True), (0.0005, False), (-0.05, False)):
        found = [({"data": {"data": "d", "sizes": [9], "n_train": 9}, "method": method, "label": None},
                  values[None, ..., None], None) for method, values in
                 (("random", draws + np.zeros((2, 1))), ("learned", draws + gain + noise))]
        monkeypatch.setattr(score, "gathered", lambda results: found)
        claim = fig4_datasets.numbers(fig4_datasets.Settings(), [])["groups"][0]["claim"]["random"]
        assert claim["holds"] is holds and abs(claim["difference"] - gain) < 0.01


def test_a_difference_has_the_noise_of_the_seeds_of_both():
    rng, clear = np.random.default_rng(1), []
    for _ in range(400):  # the second varies from seed to seed, and there is no difference
        a, b = (0.5 + sd * rng.normal(size=(3, 1)) + 0.005 * rng.normal(size=(3, 20)) for sd in (0.003, 0.02))
        clear += [[difference([pair])["holds"] for pair in ((a, b), (b, a))]]
    assert np.mean(clear, axis=0).max() < 0.15
    several = difference([(a + theta, b) for theta in (0.1, 0.0)])  # thetas, whose phis are no more of them
    assert np.isclose(several["difference"], (a - b).mean() + 0.05) and several["sem"] > 0.045
    one = difference([(a, b[:1])])  # a method without a seed
    assert np.isclose(one["difference"], (a - b[0]).mean()) and difference([(a[:1, :1], b[:1, :1])])["sem"] is None
