"""`figure knock-outs`: changes are differences of scores over common draws; what is unknown or missing is said."""
import json

import numpy as np

import evaluate
from small_data import small_theta
from small_scores import clusters, refused_command
from unsup_meta import save_theta


def arguments(folder, *more):
    save_theta(folder / "a.npz", small_theta(0), lr=3e-2, norm_eps=1e-3)
    without = small_theta(0)
    without["merge"][2] = 0
    save_theta(folder / "b.npz", without, lr=3e-2, norm_eps=1e-3)
    x, y = clusters(4.0, 3, 30, 5)
    np.savez(folder / "few.npz", x=x, y=y)
    return ["figure", "knock-outs", "--folder", str(folder), "--theta", f"a={folder}/a.npz", "--data", str(folder / "few.npz"),
            "--inner-steps", "3", "--draws", "3", "--seeds", "2", "--shots", "5", "--processes", "1", *more]


def test_a_change_is_a_score_less_that_of_the_whole_rule(tmp_path, capsys):
    assert evaluate.main(arguments(tmp_path, "--parts", "plane 3,d^L")) == 0
    assert (tmp_path / "knock-outs.png").read_bytes()[:4] == b"\x89PNG" and "without plane 3" in capsys.readouterr().out
    group, = json.loads((tmp_path / "knock-outs.json").read_text())["groups"]
    means = []
    for name in "ab":
        out = tmp_path / "score.json"
        assert evaluate.main(["score", "--theta", f"{tmp_path}/{name}.npz", *arguments(tmp_path)[6:], "--json", str(out)]) == 0
        means.append(json.loads(out.read_text())["rows"][1]["mean"])
    assert list(group["parts"]) == ["plane 3", "d^L"] and np.isclose(group["whole"]["mean"], means[0])
    change = group["parts"]["plane 3"]
    assert np.isclose(change["mean"], means[1] - means[0]) and change["n"] == 6 and change["sem"] > 0


def test_an_unknown_part_and_a_missing_data_set_are_named(tmp_path, monkeypatch, capsys):
    refused_command(capsys, arguments(tmp_path, "--parts", "plane 3,plane 11"), ["plane 11", "App.59"])
    monkeypatch.setenv("UNSUP_META_DATA", str(tmp_path / "none"))
    assert evaluate.main(arguments(tmp_path, "--data", "mnist28", "--parts", "plane 3")) == 2
    assert ["error" in group for group in json.loads((tmp_path / "knock-outs.json").read_text())["groups"]] == [False, True]
