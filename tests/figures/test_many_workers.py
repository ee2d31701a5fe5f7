"""`figure many-workers`: simulations whose outcome is known; what is measured is of real runs' sizes."""
import numpy as np
import pytest

from figures import many_workers
from ops.engine.config import make_config
from ops.scoring.runner import Result
from small_data import rng
from small_scores import refused_command


@pytest.mark.parametrize("workers, main_s, rate", [(1, 0.0, 0.5), (50, 0.0, 25), (50, 0.01, 50 / 2.01), (1000, 0.01, 100)])
def test_workers_are_as_fast_as_they_are_many_until_the_main_process_is_the_bottleneck(workers, main_s, rate):
    found = many_workers.simulated(workers, [2.0], main_s, 256, 1000, 4000, rng(0))
    assert found["rate"] == pytest.approx(rate, rel=0.05) and found["dropped"] == 0


def test_age_is_the_meta_steps_that_others_make_meanwhile_and_old_gradients_do_not_count():
    found = many_workers.simulated(64, [1.0], 0.0, 8, 1000, 20_000, rng(0))
    assert found["staleness"] == pytest.approx(8, rel=0.02) and found["dropped"] == 0
    slow = many_workers.simulated(64, [1.0, 10.0], 0.0, 8, 10, 20_000, rng(0))
    assert slow["dropped"] > 0.01 and slow["staleness"] <= 10
    assert slow["rate"] < many_workers.simulated(64, [1.0, 10.0], 0.0, 8, 1000, 20_000, rng(0))["rate"]


def test_what_is_measured_is_a_run_with_its_arrays(monkeypatch, capsys):
    monkeypatch.setattr(many_workers, "make_config", lambda preset, changes: make_config(preset, changes | {
        "tasks": "letters", "meta_batch": 4, "live_tasks": 8}))
    settings = many_workers.Settings(presets=("laptop",), segments=2, timed=20, workers=(1, 64), gradients=200)
    results = [Result(cell, many_workers.measure(cell), None, 1.0) for cell in many_workers.cells(settings)]
    of = results[0].value
    assert len(of["seconds"]) == 2 and all(0 < a - 4 * 13_000 < 4e6 for a in of["bytes"]) and of["bytes"] == of["back"]
    found = many_workers.numbers(settings, results)
    assert set(found["presets"]["laptop"]["ways"]) == set(many_workers.WAYS)
    for way in found["presets"]["laptop"]["ways"].values():
        assert 0 < way["main_ms"] < 1000 and np.all(np.array(way["rate"]) > 0) and len(way["staleness"]) == 2
    assert many_workers.draw(found) and "by value" in many_workers.words(found)
    refused_command(capsys, ["figure", "many-workers", "--presets", "pocket"], ["pocket", "laptop"])
    nothing = many_workers.numbers(settings, [Result(results[0].cell, None, "no data", 1.0)])
    assert many_workers.draw(nothing) and many_workers.words(nothing).endswith("no data")
