"""`figure shots`: points are scores with so many labelled or unlabelled examples, which no method exceeds."""
import json

import numpy as np

import evaluate
from ops.data import load_dataset
from ops.scoring.methods.readout import reference_batch, seen
from ops.scoring.settings import ScoreSettings
from small_data import small_theta
from small_scores import clusters, refused_command
from unsup_meta import save_theta

SHORT = ["--inner-steps", "2", "--draws", "3", "--seeds", "2", "--processes", "1"]


def test_points_are_scores(tmp_path, capsys):
    save_theta(tmp_path / "a.npz", small_theta(), lr=3e-2, norm_eps=1e-3)
    x, y = clusters(4.0, 3, 30, 5)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    few, theta = str(tmp_path / "few.npz"), str(tmp_path / "a.npz")
    assert evaluate.main(["figure", "shots", "--folder", str(tmp_path), "--theta", f"a={theta}", "--data", few, *SHORT, "--shots",
                          "4", "--labels", "2,5", "--images", "8,20", "--many", few, "--classes", "2,3", "--baselines",
                          "raw,pca,kmeans"]) == 0
    assert (tmp_path / "shots.png").read_bytes()[:4] == b"\x89PNG" and "unlabelled images" in capsys.readouterr().out
    found = json.loads((tmp_path / "shots.json").read_text())["panels"]
    for panel, value, flags in (("shots", 5, ["--shots", "5"]), ("unlabelled", 8, ["--shots", "4", "--unlabelled", "8"]),
                                ("ways", 2, ["--shots", "4", "--ways", "2"]), ("ways of one", 3, ["--shots", "1"])):
        out = tmp_path / "score.json"
        assert evaluate.main(["score", "--theta", theta, "--data", few, *SHORT, *flags, "--baselines", "raw,pca,kmeans", "--json",
                              str(out)]) == 0
        rows = {row["method"]: row["mean"] for row in json.loads(out.read_text())["rows"]}
        for method, curve in found[panel].items():
            point, = (p for p in curve if p["value"] == value)
            assert point["mean"] == rows[method], (panel, method)
    by_images = {method: [p["mean"] for p in curve] for method, curve in found["unlabelled"].items()}
    assert by_images["raw"][0] == by_images["raw"][1] and by_images["kmeans"][0] != by_images["kmeans"][1]


def test_more_than_there_is_is_refused_and_a_missing_set_of_many_classes_is_told(tmp_path, monkeypatch, capsys):
    x, y = clusters(4.0, 3, 30, 5)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    few = ["figure", "shots", "--folder", str(tmp_path), "--data", str(tmp_path / "few.npz"), *SHORT, "--shots", "4", "--labels", "2",
           "--baselines", "raw", "--inner-steps", "0"]
    for flags, words in ((["--images", "8,1000"], "--images 1000"), (["--images", "1"], "--images 1"),
                         (["--images", "8", "--many", str(tmp_path / "few.npz"), "--classes", "2,4"], "--classes 4")):
        refused_command(capsys, few + flags, [words])
    monkeypatch.setenv("UNSUP_META_DATA", str(tmp_path / "none"))
    assert evaluate.main([*few, "--images", "8", "--classes", "2"]) == 2
    out, err = capsys.readouterr()
    assert "omniglot" in out and "cells failed" in err and "Traceback" not in err


def test_what_is_seen_is_a_part_of_the_training_images_the_same_for_all(tmp_path):
    x = load_dataset("mnist14").x_train[:50]
    few, all_ = (seen(x, ScoreSettings(unlabelled=n)) for n in (7, None))
    rows = [np.flatnonzero((x == row).all(axis=1)) for row in few]
    assert all_ is x and len({int(row[0]) for row in rows}) == 7
    reference = reference_batch(x, ScoreSettings(unlabelled=7, batch_reference=5))
    assert all((few == row).all(axis=1).any() for row in reference) and len(reference) == 5
