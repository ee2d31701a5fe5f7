"""What a run goes on from: exact after dropped gradients, a full disk or a stop at any point; what it says."""
import io
import math
import shutil
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from ops.engine.config import make_config
from ops.engine.progress import MetricsLog, Progress, status_line
from ops.engine.validation import Validation, open_validation
from small_runs import (assert_same_run, assert_same_state, faulty, finish, flags, learning, metrics, one_line, start,
                  state_of, train)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs signals and limits of Linux")
NAN_BY_DATA = """import unsup_meta
real = unsup_meta.meta_gradient
def gradient(theta, phi, x, *rest):
    J, grad, phi = real(theta, phi, x, *rest)
    return (float("nan") if int(float(x.sum()) * 1e3) % 2 else J), grad, phi
unsup_meta.meta_gradient = gradient"""


@pytest.mark.slow
def test_a_run_goes_on_exactly_after_dropped_gradients(tmp_path):
    """With nothing from Adam theta's predecessor is theta itself, also in what a checkpoint says."""
    settings = flags(workers=1, steps=10, meta_batch=1, checkpoint_steps=1, keep_checkpoints=20, max_failures=99)
    whole = tmp_path / "whole"
    train(whole, *settings, program=faulty(whole, NAN_BY_DATA))
    records = [r for r in metrics(whole) if "segments" in r]
    assert [r["step"] for r in records] == list(range(10)) and all("grad_norm" in r for r in records if r["segments"])
    dropped = [r["step"] for r in records if r["dropped"]]
    assert all(len(records[step]["dropped_tasks"]) == 1 for step in dropped)
    split = next(step + 1 for step in dropped if step + 1 not in dropped and 0 < step < 8)
    again = tmp_path / "again"
    shutil.copytree(whole, again)
    run = again / "runs/laptop"
    shutil.copyfile(run / f"checkpoint-{split:09d}.npz", run / "checkpoint.npz")
    train(again, *settings, "--resume", program=again / "train.py")
    assert_same_run(again, whole)


@pytest.mark.slow
def test_no_room_for_the_log_keeps_the_checkpoint_before(tmp_path):
    settings = dict(workers=2, checkpoint_steps=1, validate_steps=0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, steps in ((whole, 6), (cut, 3)):
        train(folder, *flags(steps=steps, **settings))
    log = cut / "runs/laptop/metrics.jsonl"
    log.write_text('{"step": -1, "filling": "%s"}\n' % ("x" * 3_000_000) + log.read_text())
    limit = log.stat().st_size + len(log.read_text().splitlines()[-1]) * 5 // 2
    program = faulty(cut, "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
                   f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))")
    _, error = train(cut, *flags(steps=6, **settings), "--resume", program=program, code=2)
    one_line(error, "metrics.jsonl")
    assert 3 <= state_of(cut)[1]["state"]["step"] < 6
    train(cut, *flags(steps=6, **settings), "--resume")
    assert_same_state(state_of(cut), state_of(whole))
    assert learning(metrics(cut))[1:] == learning(metrics(whole))


@pytest.mark.slow
def test_a_stop_within_a_validation_loses_nothing(tmp_path):
    settings = dict(workers=2, steps=6, validate_steps=3, validate_times="200")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, *flags(**settings))
    process = start(cut, *flags(**settings), after=2)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    finish(process, 130)
    assert not any("heldout_J" in record for record in metrics(cut))
    train(cut, *flags(**settings), "--resume")
    assert_same_run(cut, whole)
    assert [r["step"] for r in metrics(whole) if "heldout_J" in r] == [2, 5]


def test_the_last_theta_within_a_point_of_the_best_is_kept_and_components_are_measured_once():
    import train as program
    config = make_config("laptop", {"validate_sets": "vectors,restyled", "validate_tasks": 2})
    pools, asked, written = open_validation(config)[0], [], []
    trainer = SimpleNamespace(
        config=config, step=100, best=None, log=SimpleNamespace(write=written.append), memory={"theta": np.zeros((3, 16))},
        optimizer=SimpleNamespace(averaged=None), accumulator=SimpleNamespace(drain=lambda step: None),
        validation=Validation(config, pools), workers=SimpleNamespace(add=asked.extend))
    for J, accuracy in ((math.nan, 0.0), (1.5, 0.25), (1.6, 0.75), (1.6, 0.745), (1.6, 0.738), (0.5, 0.5)):
        trainer.optimizer.averaged = np.array([accuracy])
        trainer.workers.take = lambda names: [
            {"theta": [(J, accuracy), (J, accuracy)], "components": 0.5 if job.arguments["baseline"] else None}
            for job in asked[-len(names):]]
        program.MetaTrainer.validate(trainer)
    assert trainer.best_theta == 0.745 and trainer.best == {"score": 0.25, "step": 100}
    assert [record["score"] for record in written] == pytest.approx([-0.5, -0.25, 0.25, 0.245, 0.238, 0])
    assert [job.arguments["baseline"] for job in asked] == [True] * 4 + [False] * 20
    assert {(job.arguments["name"], job.arguments["index"]) for job in asked} == {
        (name, index) for name in ("vectors", "restyled") for index in (0, 1)}


def test_what_json_does_not_know_is_null_in_the_log(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.write({"J": math.nan, "deep": {"a": [math.inf, 1.0]}, "word": "NaN"})
    log.close()
    assert (tmp_path / "m.jsonl").read_text() == '{"J": null, "deep": {"a": [null, 1.0]}, "word": "NaN"}\n'


def test_time_left_counts_this_sessions_meta_steps():
    record = {"J": 1, "accuracy": 1, "grad_norm": 1, "seconds": 1, "segments": 1}
    config = make_config("laptop", {"steps": 1000, "minutes": 0})
    assert "/s  16:34 left" in status_line(503, config, [record], None, 6.0, 500)
    assert "/s  best score -0.012  16:34 left" in status_line(503, config, [record], {"score": -0.0123}, 6.0, 500)


def test_the_live_line_is_never_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    Progress(terminal).show("x" * 110)
    Progress(terminal, every=0).say("y" * 110)
    assert terminal.getvalue() == f"\r\x1b[K{'x' * 79}\r\x1b[K{'y' * 110}\n"
    paper = io.StringIO()
    Progress(paper).show("x" * 110)
    assert paper.getvalue() == "x" * 110 + "\n"


def test_a_second_interrupt_ends_at_once(tmp_path):
    """Even while the first one's save is under way."""
    program = faulty(tmp_path, "import time, ops.engine.checkpoint as of\nreal, calls = of.save_checkpoint, []\n"
                     "def slow(*args):\n    calls.append(0)\n    if len(calls) > 1: time.sleep(60)\n    real(*args)\n"
                     "of.save_checkpoint = slow")
    process = start(tmp_path, *flags(workers=2, steps=10 ** 6), program=program, after=3)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    finish(process, 130)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("wait", [0.3, 0.9])
def test_an_interrupt_while_starting_says_nothing(tmp_path, wait):
    process = start(tmp_path, *flags(workers=2, steps=10 ** 6))
    time.sleep(wait)
    process.send_signal(signal.SIGINT)
    _, error = finish(process, 130)
    assert "Traceback" not in error
