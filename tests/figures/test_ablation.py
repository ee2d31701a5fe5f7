"""`figure ablation`: a cell is a run of train.py without something, scored; medians, ranges and changes of meta-seeds."""
import functools
import json

import numpy as np
import pytest

import evaluate
from figures import ablation
from ops.engine.config import parse
from ops.scoring.runner import Result
from ops.tasks.measure import suite_scores
from small_runs import flags
from small_scores import refused_command

NO_RUN = [name.replace("_", "-") for name in ("validate_steps", "snapshot_steps", "steps", "minutes")]


def test_a_cell_is_a_run_and_a_failed_one_is_told(tmp_path, monkeypatch, capsys):
    given = flags(theta_start="random")
    pairs = [pair for pair in zip(given[::2], given[1::2]) if pair[0][2:] not in NO_RUN]
    monkeypatch.setattr(ablation, "TIMES", (1, 2))
    monkeypatch.setattr(ablation, "suite_scores", functools.partial(suite_scores, sets=("heldout-letters",)))
    monkeypatch.setitem(ablation.VARIANTS, "broken", ("--without", "everything"))
    assert evaluate.main(["figure", "ablation", "--folder", str(tmp_path), "--variants", "M = 1,broken",
                          "--meta-steps", "2", "--meta-seeds", "1", "--tasks", "1", "--data", "mnist14", "--inner-steps", "2", "--draws", "2",
                          "--processes", "1", f"--flags={' '.join(part for pair in pairs for part in pair)}"]) == 2
    found = json.loads((tmp_path / "ablation.json").read_text())
    assert (tmp_path / "ablation.png").read_bytes()[:4] == b"\x89PNG" and "'everything'" in found["failed"][0]
    assert list(found["variants"]) == ["M = 1"]
    assert all(0 < of["mnist14"]["median"] < 1 and of["suite"]["median"] < 0 for of in found["variants"].values())
    capsys.readouterr()
    refused_command(capsys, ["figure", "ablation", "--variants", "no planes"], ["no planes 7 to 10"])


def test_medians_ranges_and_changes_are_of_meta_seeds():
    values = {ablation.WHOLE: (0.5, 0.6, 0.4), "M = 1": (0.4, 0.6, 0.1)}
    results = [Result({"variant": name, "meta_seed": k}, {"suite": value, "data": {}}, None, 1.0)
               for name, of in values.items() for k, value in enumerate(of)]
    found = ablation.numbers(ablation.Settings(), results)["variants"]["M = 1"]["suite"]
    assert found == {"median": 0.4, "low": 0.1, "high": 0.6, "values": [0.4, 0.6, 0.1], "change": pytest.approx(-0.1)}
    assert ablation.draw({"variants": {}, "meta_steps": 1, "meta_seeds": 1, "failed": []}) and np.isfinite(found["change"])


def test_what_lies_outside_the_picture_is_told_as_a_number():
    spread = lambda value: {"suite": {"median": value, "values": [value], "change": None}}
    values = {ablation.WHOLE: spread(0.02), "near": spread(-0.03), "below": spread(-0.269), "above": spread(0.5)}
    axes, = ablation.draw({"variants": values, "meta_steps": 1, "meta_seeds": 1}).axes
    assert [text.get_text() for text in axes.texts] == ["-0.269", "0.500"] and axes.get_xlim()[0] < -0.03


@pytest.mark.parametrize("name", ablation.VARIANTS)
def test_every_variant_is_a_run_that_train_accepts_and_differs(name):
    config = lambda arguments: parse(["--name", "none-such", *arguments])[0]
    assert name == ablation.WHOLE or config(ablation.VARIANTS[name]) != config(())
