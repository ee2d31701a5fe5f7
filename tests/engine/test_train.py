"""Meta-training end to end through the command line: tiny rules, real workers, real files."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ops.files import load_npz

ROOT = Path(__file__).resolve().parents[2]
TINY = {"batch-size": 8, "hdims": 4, "delta": 3, "top": 4, "rank": 2, "min-units": 9, "max-units": 12, "embedding": 8,
        "pairs": 1, "shots": 2, "unroll-start": "1,2", "unroll-end": "2,3", "unroll-growth": 4, "horizon-start": 4,
        "horizon-end": 6, "horizon-growth": 5, "meta-batch": 3, "live-tasks": 5, "steps": 6, "minutes": 0,
        "validate-steps": 3, "validate-data-steps": 3, "validate-inner-steps": 2}


def flags(**changes):
    settings = TINY | {name.replace("_", "-"): value for name, value in changes.items()}
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def start(folder, *arguments):
    return subprocess.Popen([sys.executable, str(ROOT / "train.py"), "--no-score", *arguments], cwd=folder,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, code=0):
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code, out + err
    return out, err


def train(folder, *arguments, code=0):
    return finish(start(folder, *arguments), code)


def state_of(folder, name="laptop"):
    """Every array of a run's checkpoint, and its header without the clock."""
    arrays = load_npz(folder / "runs" / name / "checkpoint.npz")
    header = json.loads(str(arrays.pop("header")))
    header["state"].pop("elapsed")
    return arrays, {k: v for k, v in header.items() if k != "config"}


def assert_same_state(a, b):
    assert a[1] == b[1]
    assert a[0].keys() == b[0].keys()
    for name in a[0]:
        np.testing.assert_array_equal(a[0][name], b[0][name], err_msg=name)


def metrics(folder, name="laptop"):
    lines = (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def learning(records):
    """What the metrics say of learning, without the times."""
    return [{k: v for k, v in r.items() if not k.endswith("_s") and k not in ("seconds", "restarts")} for r in records]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of six meta-steps with two workers."""
    folder = tmp_path_factory.mktemp("undisturbed")
    out, _ = train(folder, *flags(workers=2))
    return folder, out


def test_a_run_writes_what_it_says_and_its_theta_can_be_scored(undisturbed):
    folder, out = undisturbed
    run = folder / "runs" / "laptop"
    assert {"config.json", "metrics.jsonl", "theta.npz", "theta_best.npz", "checkpoint.npz"} <= {p.name for p in run.iterdir()}
    steps = [r["step"] for r in metrics(folder) if "J" in r]
    assert steps == list(range(6)) and "6 meta-steps" in out
    validations = [r for r in metrics(folder) if "J" not in r]
    names = {f"{what}_{score}" for what in ("heldout", "mnist14", "fashion14") for score in ("J", "accuracy")}
    assert [r["step"] for r in validations] == [2, 5] and all(r.keys() == names | {"step"} for r in validations)
    theta = load_npz(run / "theta.npz")
    assert theta["config/lr"] == 3e-3 and theta["theta/merge"].shape == (10,)
    scored = subprocess.run(
        [sys.executable, str(ROOT / "evaluate.py"), "score", "--theta", str(run / "theta.npz"), "--data", "mnist14", "--sizes",
         "196,12,8", "--inner-steps", "3", "--seeds", "1", "--draws", "2", "--json", str(folder / "score.json")],
        capture_output=True, text=True, timeout=120)
    assert scored.returncode == 0, scored.stderr
    assert {r["method"] for r in json.loads((folder / "score.json").read_text())["rows"]} == {"random", "learned", "raw", "pca32"}


@pytest.mark.parametrize("workers", [1, 3])
def test_theta_is_the_same_to_the_bit_for_any_number_of_workers(undisturbed, tmp_path, workers):
    train(tmp_path, *flags(workers=workers))
    assert_same_state(state_of(tmp_path), state_of(undisturbed[0]))
    assert learning(metrics(tmp_path)) == learning(metrics(undisturbed[0]))


def test_three_steps_and_three_resumed_are_six(undisturbed, tmp_path):
    train(tmp_path, *flags(workers=2, steps=3))
    train(tmp_path, *flags(workers=1, steps=6), "--resume")
    assert_same_state(state_of(tmp_path), state_of(undisturbed[0]))
    assert learning(metrics(tmp_path)) == learning(metrics(undisturbed[0]))


def test_theta_moves_and_another_seed_moves_it_elsewhere(undisturbed, tmp_path):
    train(tmp_path, *flags(workers=2, seed=1))
    a, b = state_of(undisturbed[0])[0], state_of(tmp_path)[0]
    assert not np.allclose(a["theta/error/w"], b["theta/error/w"])


@pytest.mark.parametrize("arguments, word", [
    (["--preset", "pocket"], "preset"), (["--no-such-flag"], "--no-such-flag"), (["--hdims", "many"], "--hdims"),
    (["--batch-size", "1"], "--batch-size"), (["--min-layers", "3", "--max-layers", "2"], "--max-layers"),
    (["--unroll-start", "5"], "--unroll-start"), (["--meta-lr", "1e-3,1e-4,1e-5"], "--meta-lr"), (["--name", "../x"], "name"),
    (["--lr", "nan"], "--lr"), (["--ways", "99"], "ways"), (["--tasks", "pictures"], "pictures"), (["--tasks", "cifar10", "--data-dir", "nowhere"], "cifar-10"),
    (["--p-x-shift", "2"], "--p-x-shift"), (["--shots", "40", "--max-shift", "0"], "shots"), (["--resume"], "resume")])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, word):
    _, err = train(tmp_path, *arguments, code=2)
    assert word in err and len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "runs").exists()


def test_a_run_is_not_overwritten_and_a_changed_setting_is_named(undisturbed):
    folder, _ = undisturbed
    before = (folder / "runs/laptop/checkpoint.npz").read_bytes()
    assert "--resume" in train(folder, *flags(), code=2)[1]
    _, err = train(folder, *flags(hdims=5, lr=0.01), "--resume", code=2)
    assert "hdims" in err and "lr" in err and "batch_size" not in err and len(err.strip().splitlines()) == 1
    assert (folder / "runs/laptop/checkpoint.npz").read_bytes() == before


def test_presets_are_the_papers():
    from ops.engine.config import horizon_scale, make_config, rates, unroll_range
    paper, workshop, laptop = (make_config(name, {}) for name in ("paper", "workshop", "laptop"))
    assert (paper.batch_size, paper.hdims, paper.delta, paper.top, paper.rank, paper.lr, paper.norm_eps) == (128, 64, 32, 64, 4, 3e-4, 1)
    assert (paper.min_layers, paper.max_layers, paper.min_units, paper.max_units, paper.embedding) == (2, 5, 64, 512, 32)
    assert (paper.meta_batch, paper.clip, paper.pairs, paper.ridge) == (256, 5, 5, 0.1)
    assert unroll_range(paper, 0) == (2, 4) and unroll_range(paper, 50_000) == unroll_range(paper, 10 ** 6) == (8, 15)
    assert (horizon_scale(paper, 0), horizon_scale(paper, 5_000)) == (20, 20_000)
    assert rates(paper) == ([100_000, 150_000], [3e-4, 1e-4, 2e-5])
    assert (workshop.objective, workshop.max_layers, workshop.max_units, workshop.case) == ("squared", 2, 199, "upper")
    assert laptop.minutes <= 5


def test_a_users_own_data_are_shared_by_any_number_of_workers(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.integers(0, 256, (60, 6, 6)).astype(np.uint8), y=np.arange(60) % 5)
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        out, _ = train(folder, *flags(workers=workers, tasks=f"{tmp_path / 'mine.npz'}:3,letters", ways=4))
        assert "40 images of 5 classes" in out and "letters: 25.0% of the tasks" in out
    assert_same_state(state_of(tmp_path / "1"), state_of(tmp_path / "2"))
    sets = {name for record in metrics(tmp_path / "1") if "J" in record for name in record["J_by_data"]}
    assert sets == {"mine.npz", "letters"}


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    def write(side, seed):
        rng = np.random.default_rng(seed)
        np.savez(tmp_path / "mine.npz", x=rng.integers(0, 256, (60, side, side)).astype(np.uint8), y=np.arange(60) % 5)

    options = flags(steps=1, tasks="mine.npz", ways=4, workers=1)
    write(5, 0)
    train(tmp_path, *options)
    before = state_of(tmp_path)
    write(9, 1)
    _, error = train(tmp_path, *options, "--resume", code=2)
    assert error.count("\n") == 1 and "mine.npz" in error and "does not hold the images" in error
    write(5, 0)
    train(tmp_path, *options, "--resume")
    assert_same_state(state_of(tmp_path), before)


def test_a_worker_reads_pools_where_they_lie():
    from ops.engine.shared_pools import attach_pools, share_pools
    from ops.tasks import Pool
    pool = Pool("p", np.arange(24, dtype=np.uint8).reshape(6, 4), np.array([2, 4]), ("a", "b"), 2, 1, {"g": (1,)})
    owner, handle = share_pools({"folder/a|b.npz": pool})
    try:
        other, pools = attach_pools(json.loads(json.dumps(handle)))
        again = pools["folder/a|b.npz"]
        assert again.class_names == ("a", "b") and again.groups == {"g": (1,)} and again.counts.tolist() == [2, 4]
        owner["folder/a|b.npz|images"][0, 0] = 99
        assert again.images[0, 0] == 99 and not again.images.flags.writeable
        del pools, again
        other.close()
    finally:
        owner.close()
