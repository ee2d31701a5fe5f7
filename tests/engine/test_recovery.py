"""What a run goes on from: exact after dropped gradients, a full disk or a stop at any point; asynchronous rows."""
import math
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from ops.engine.config import make_config
from ops.engine.gathering import Gathering
from ops.engine.live_task import LiveTask
from ops.engine.progress import MetricsLog, status_line
from test_faults import faulty_program, run_faulty, steps_logged, wait_until
from test_train import assert_same_state, finish, flags, learning, metrics, start, state_of, train

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs signals and limits of Linux")
NAN_BY_DATA = """import unsup_meta
real = unsup_meta.meta_gradient
def gradient(theta, phi, x, *rest):
    J, grad, phi = real(theta, phi, x, *rest)
    return (float("nan") if int(float(x.sum()) * 1e3) % 2 else J), grad, phi
unsup_meta.meta_gradient = gradient"""


def test_a_run_goes_on_exactly_after_dropped_gradients(tmp_path):
    """With nothing from Adam theta's predecessor is theta itself, also in what a checkpoint says."""
    settings = flags(workers=1, steps=10, meta_batch=1, checkpoint_steps=1, keep_checkpoints=20, max_failures=99)
    whole = tmp_path / "whole"
    whole.mkdir()
    faulty_program(whole, NAN_BY_DATA)
    assert run_faulty(whole, *settings).returncode == 0
    records = [r for r in metrics(whole) if "segments" in r]
    assert [r["step"] for r in records] == list(range(10)) and all("grad_norm" in r for r in records if r["segments"])
    dropped = [r["step"] for r in records if r["dropped"]]
    assert all(len(records[step]["dropped_tasks"]) == 1 for step in dropped)
    ends = [step + 1 for step in dropped if step + 1 not in dropped and 0 < step < 8]
    assert ends, dropped
    for split in ends[:1]:
        again = tmp_path / str(split)
        shutil.copytree(whole, again)
        run = again / "runs/laptop"
        shutil.copyfile(run / f"checkpoint-{split:09d}.npz", run / "checkpoint.npz")
        assert run_faulty(again, *settings, "--resume").returncode == 0
        assert_same_state(state_of(again), state_of(whole))
        assert learning(metrics(again)) == learning(metrics(whole))


def test_no_room_for_the_log_keeps_the_checkpoint_before(tmp_path):
    settings = dict(workers=2, checkpoint_steps=1, validate_steps=0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, steps in ((whole, 6), (cut, 3)):
        folder.mkdir()
        train(folder, *flags(steps=steps, **settings))
    log = cut / "runs/laptop/metrics.jsonl"
    log.write_text('{"step": -1, "filling": "%s"}\n' % ("x" * 3_000_000) + log.read_text())
    limit = log.stat().st_size + len(log.read_text().splitlines()[-1]) * 5 // 2
    faulty_program(cut, "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
                   f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))")
    done = run_faulty(cut, *flags(steps=6, **settings), "--resume")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "metrics.jsonl" in done.stderr, done.stderr
    assert 3 <= state_of(cut)[1]["state"]["step"] < 6
    train(cut, *flags(steps=6, **settings), "--resume")
    assert_same_state(state_of(cut), state_of(whole))
    assert learning(metrics(cut))[1:] == learning(metrics(whole))


def test_a_stop_within_a_validation_loses_nothing(tmp_path):
    settings = dict(workers=2, steps=6, validate_steps=3, validate_data_steps=0, validate_inner_steps=80)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    train(whole, *flags(**settings))
    process = start(cut, *flags(**settings))
    wait_until(lambda: steps_logged(cut) == 3, 60, "the third meta-step")
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    finish(process, 130)
    assert not any("heldout_J" in record for record in metrics(cut))
    train(cut, *flags(**settings), "--resume")
    assert_same_state(state_of(cut), state_of(whole))
    assert learning(metrics(cut)) == learning(metrics(whole))
    assert [r["step"] for r in metrics(whole) if "heldout_J" in r] == [2, 5]


@pytest.mark.parametrize("first", [math.nan, math.inf])
def test_a_validation_that_is_not_finite_is_never_the_best(first):
    import train as program
    kept = []
    trainer = SimpleNamespace(
        config=make_config("laptop", {}), step=100, best=None, log=SimpleNamespace(write=lambda record: None),
        dispatcher=SimpleNamespace(add=lambda jobs: None, take=lambda names: [{"J": J, "accuracy": 0.5}] * len(names)),
        save_theta=lambda name: kept.append(J))
    for J in (first, 1.5, 1.2, 1.4):
        program.MetaTrainer.validate(trainer)
    assert kept == [1.5, 1.2] and trainer.best["J"] == 1.2


def test_what_json_does_not_know_is_null_in_the_log(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.write({"J": math.nan, "deep": {"a": [math.inf, 1.0]}, "word": "NaN"})
    log.close()
    assert (tmp_path / "m.jsonl").read_text() == '{"J": null, "deep": {"a": [null, 1.0]}, "word": "NaN"}\n'


def test_async_ends_when_nothing_is_finite(tmp_path):
    out, err = train(tmp_path, *flags(workers=2, mode="async", lr=1e30, max_failures=4, validate_steps=0), code=2)
    assert "not finite" in out and "segments in a row" in err and err.count("\n") == 1


def test_async_segments_under_way_never_share_a_row():
    """Also if a worker dies and another one is given its job, with the row that goes with it."""
    gathering, tasks = Gathering(SimpleNamespace(staleness_limit=1), 2), [LiveTask(slot) for slot in range(5)]
    under_way = [gathering.next_job(tasks, 0) for _ in range(2)]
    for step in range(20):
        job = under_way.pop(0) if step % 3 else under_way.pop()  # one worker's job is done again and again
        gathering.add(job, {"version": step, "finite": True}, np.ones(1), step)
        under_way.append(gathering.next_job(tasks, step))
        assert len({j["row"] for j in under_way}) == len({j["slot"] for j in under_way}) == 2
        assert all(0 <= j["row"] < 4 for j in under_way)


def test_async_logs_only_what_was_added():
    gathering = Gathering(SimpleNamespace(staleness_limit=1), 2)
    tasks = [LiveTask(slot) for slot in range(5)]
    for version in (9, 2, 8):  # the second is too old
        gathering.add(gathering.next_job(tasks, 9), {"version": version, "finite": True, "J": version}, np.ones(1), 9)
    total, replies, extra = gathering.take()
    assert total == 2 and [r["J"] for r in replies] == [9, 8]
    assert extra == {"staleness_mean": 0.5, "staleness_max": 1, "stale": 1}


def test_time_left_counts_this_sessions_meta_steps():
    record = {"J": 1, "accuracy": 1, "grad_norm": 1, "seconds": 1, "segments": 1}
    config = make_config("laptop", {"steps": 1000, "minutes": 0})
    assert "0:06 done, 16:34 left" in status_line(503, config, [record], None, 6.0, 500)


def test_a_second_interrupt_ends_at_once(tmp_path):
    """Even while the first one's save is under way."""
    faulty_program(tmp_path, "import time, ops.engine.checkpoint\nreal, calls = ops.engine.checkpoint.save_checkpoint, []\n"
                   "def slow(*args):\n    calls.append(0)\n    if len(calls) > 1: time.sleep(60)\n    real(*args)\n"
                   "ops.engine.checkpoint.save_checkpoint = slow")
    process = subprocess.Popen([sys.executable, "train.py", "--no-score", *flags(workers=2, steps=10 ** 6)], cwd=tmp_path,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: steps_logged(tmp_path) > 3, 60, "training")
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
