"""Meta-training end to end through the command line: tiny rules, real workers, real files."""
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import unsup_meta as um
from ops.engine.config import (Config, as_json, differing_fields, horizon_scale, make_config, parse, snapshot_is_due,
                               unroll_range)
from ops.engine.live_tasks import THETA, stream
from ops.errors import InputError
from ops.files import load_npz
from ops.rule.hebbian import STARTS
from small_runs import ROOT, assert_same_run, assert_same_state, flags, metrics, one_line, state_of, train
from small_data import config, make_omniglot, make_user


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of six meta-steps with two workers."""
    folder = tmp_path_factory.mktemp("undisturbed")
    out, _ = train(folder, *flags(workers=2))
    return folder, out


def test_a_run_writes_what_it_says_and_its_theta_can_be_scored(undisturbed):
    folder, out = undisturbed
    run = folder / "runs" / "laptop"
    assert {"config.json", "metrics.jsonl", "theta.npz", "checkpoint.npz"} <= {p.name for p in run.iterdir()}
    steps = [r["step"] for r in metrics(folder) if "J" in r]
    assert steps == list(range(6)) and "6 meta-steps" in out and " MB of shared memory" in out
    written = json.loads((run / "config.json").read_text())
    assert differing_fields(make_config("laptop", {}), written)["hdims"] == (4, 16)
    validations = [r for r in metrics(folder) if "J" not in r]
    assert [r["step"] for r in validations] == [2, 5]
    for record in validations:
        assert record.keys() == {"step", "score", "heldout_J", "heldout_accuracy", "validation"}
        assert {name: len(found["margin"]) for name, found in record["validation"].items()} == {"heldout-letters": 2}
    theta = load_npz(run / "theta.npz")
    assert theta["config/lr"] == 3e-3 and theta["theta/merge"].shape == (10,)
    scored = subprocess.run(
        [sys.executable, str(ROOT / "evaluate.py"), "score", "--theta", str(run / "theta.npz"), "--data", "mnist14",
         "--sizes", "196,12,8", "--inner-steps", "3", "--seeds", "1", "--draws", "2", "--json",
         str(folder / "score.json")],
        capture_output=True, text=True, timeout=120)
    assert scored.returncode == 0, scored.stderr
    rows = json.loads((folder / "score.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"random", "learned", "raw", "pca32"}


@pytest.mark.parametrize("workers", [1, 3])
def test_theta_is_the_same_to_the_bit_for_any_number_of_workers(undisturbed, tmp_path, workers):
    train(tmp_path, *flags(workers=workers))
    assert_same_run(tmp_path, undisturbed[0])


def test_three_steps_and_three_resumed_are_six(undisturbed, tmp_path):
    train(tmp_path, *flags(workers=2, steps=3))
    train(tmp_path, *flags(workers=1, steps=6), "--resume")
    assert_same_run(tmp_path, undisturbed[0])


def test_a_checkpoint_alone_is_enough_to_go_on_from_and_knows_the_best_theta(undisturbed, tmp_path):
    """It was at meta-step 3 that theta did best; the run is there again, and later, with nothing else to go by.

    Averaged thetas are kept on the way, and once more where the run went back.
    """
    train(tmp_path, *flags(workers=1, checkpoint_steps=1, keep_checkpoints=9, snapshot_steps=2))
    run, copy = tmp_path / "runs/laptop", tmp_path / "runs/copy"
    best = state_of(tmp_path)[1]["state"]["best"]["step"]
    copy.mkdir()
    shutil.copyfile(run / "checkpoint-000000004.npz", copy / "checkpoint.npz")
    train(tmp_path, *flags(workers=1, steps=4), "--resume", "--name", "copy")
    at_three = load_npz(run / "checkpoint-000000003.npz")
    for name, array in load_npz(copy / "theta.npz").items():
        assert (array == at_three[name]).all(), name
    (copy / "thetas").mkdir()
    (copy / "thetas/theta-000000006.npz").write_text("of the run before")
    train(tmp_path, *flags(workers=1, snapshot_steps=2), "--resume", "--name", "copy")
    for folder, steps in ((run, (0, 2, 4, 6)), (copy, (4, 6))):
        assert sorted(path.name for path in (folder / "thetas").iterdir()) == [f"theta-{n:09d}.npz" for n in steps]
        for step in steps:
            at_step = load_npz(run / f"checkpoint-{step:09d}.npz")
            for name, array in load_npz(folder / f"thetas/theta-{step:09d}.npz").items():
                assert (array == at_step[name]).all(), name
    assert_same_state(state_of(tmp_path, "copy"), state_of(undisturbed[0]))
    of_best = load_npz(run / f"checkpoint-{best:09d}.npz")
    for name, array in load_npz(copy / "theta.npz").items():
        assert (array == of_best[name]).all(), name
    assert {"config.json", "metrics.jsonl"} <= {path.name for path in copy.iterdir()}


@pytest.mark.parametrize("gap, growth, due", [(0, 2, []), (3, 1, [0, 3, 6, 9, 12]), (2, 1.5, [0, 2, 5, 10]),
                                              (1, 2.0, [0, 1, 3, 7]), (1, 1.1, [0, 1, 2, 3, 5, 6, 8, 9, 11])])
def test_the_gaps_between_snapshots_are_even_or_grow_whatever_step_a_run_goes_on_from(gap, growth, due):
    c = make_config("laptop", {"snapshot_steps": gap, "snapshot_growth": growth})
    assert [step for step in range(13) if snapshot_is_due(c, step)] == due


def test_averaging_changes_what_is_scored_and_kept_and_not_what_is_learned(undisturbed, tmp_path):
    train(tmp_path, *flags(workers=1, theta_decay=0))
    (a, _), (b, _) = state_of(undisturbed[0]), state_of(tmp_path)
    assert (a["running"] == b["running"]).all() and not np.allclose(a["theta/merge"], b["theta/merge"])
    theta = np.concatenate([array.ravel() for name, array in b.items() if name.startswith("theta/")])
    assert (theta == b["running"]).all()
    scores = [[record["heldout_J"] for record in metrics(f) if "J" not in record] for f in (undisturbed[0], tmp_path)]
    assert len(scores[0]) == 2 and not set(scores[0]) & set(scores[1])


def test_theta_moves_and_another_seed_moves_it_elsewhere(undisturbed, tmp_path):
    train(tmp_path, *flags(workers=2, seed=1))
    a, b = state_of(undisturbed[0])[0], state_of(tmp_path)[0]
    assert not np.allclose(a["running"], b["running"])


def test_theta_starts_from_a_rule_set_by_hand_or_at_random(tmp_path):
    """D10's draws; what is set by hand is two planes of ten, the others' merge weights 0."""
    for start, planes in (("random", list(range(10))), ("hebbian", [5, 8]), ("rectified", [2, 8])):
        train(tmp_path / start, *flags(workers=1, steps=0, theta_start=start))
        found, c = load_npz(tmp_path / start / "runs/laptop/theta.npz"), config(batch_size=8, hdims=4, delta=3, top=4, rank=2)
        drawn = um.init_theta(stream(c, THETA), **c.rule_sizes)
        expected = drawn if start == "random" else STARTS[start](drawn)
        assert all(np.array_equal(found[f"theta/{name}"], array) for name, array in expected.items())
        assert np.flatnonzero(found["theta/merge"]).tolist() == planes


def test_networks_without_a_hidden_layer_may_be_the_largest(tmp_path):
    train(tmp_path, *flags(steps=3, validate_steps=0), "--min-layers", "0", "--max-layers", "1", "--embedding", "32")
    assert len(metrics(tmp_path)) == 3 and all(record["dropped"] == 0 for record in metrics(tmp_path))


def test_a_run_begins_with_a_theta_that_is_given(undisturbed, tmp_path):
    checkpoint = undisturbed[0] / "runs/laptop/checkpoint.npz"
    given, shuffled = load_npz(checkpoint), tmp_path / "shuffled.npz"
    theta = {name: array for name, array in given.items() if name.startswith("theta/")}
    np.savez(shuffled, **{name: array.astype(float) for name, array in reversed(theta.items())})
    for path, folder in ((checkpoint, tmp_path / "a"), (shuffled, tmp_path / "b")):
        out, _ = train(folder, *flags(workers=1, steps=0, lr=0.001), "--init-theta", str(path))
        assert ("was learned with lr 0.003, this run has 0.001" in out) == (path == checkpoint)
        written = load_npz(folder / "runs/laptop/theta.npz")
        assert all((written[name] == array).all() for name, array in theta.items()) and written["config/lr"] == 0.001
        assert json.loads((folder / "runs/laptop/config.json").read_text())["init_theta"] == str(path)
    shuffled.unlink()
    for more in ([], ["--init-theta", str(shuffled)]):  # what it began with is not needed any more
        train(folder, *flags(workers=1, steps=2, lr=0.001), "--resume", *more)
    train(tmp_path / "a", *flags(workers=2, steps=2, lr=0.001), "--resume")
    assert_same_state(state_of(folder), state_of(tmp_path / "a"))


def test_a_theta_that_does_not_fit_is_told_with_the_mend_and_nothing_is_written(undisturbed, tmp_path):
    theta = str(undisturbed[0] / "runs/laptop/theta.npz")
    _, error = train(tmp_path, *flags(hdims=5, rank=3), "--init-theta", theta, code=2)
    one_line(error, f"{theta} has hdims 4, rank 2, this run hdims 5, rank 3; add --hdims 4 --rank 2")
    one_line(train(tmp_path, *flags(), "--init-theta", "none.npz", code=2)[1], "none.npz: no such file")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments, word", [
    (["--preset", "pocket"], "preset"), (["--no-such-flag"], "--no-such-flag"), (["--hdims", "many"], "--hdims"), (["--horizon-start", "1e308"], "1000000000"),
    (["--hdims", "3"], "--theta-start rectified needs 4"), (["--hdims", "1", "--theta-start", "hebbian"], "hebbian needs 2"),
    (["--batch-size", "1"], "--batch-size"), (["--min-layers", "3", "--max-layers", "2"], "--max-layers"),
    (["--unroll-start", "5"], "--unroll-start"), (["--meta-lr", "1e-3,1e-4"], "--meta-lr"),
    (["--name", "../x"], "name"), (["--lr", "nan"], "--lr"), (["--lr", "0"], "--lr"),
    (["--clip", "0"], "--clip"), (["--norm-eps", "0"], "--norm-eps"),
    (["--glyph-ways", "3,x"], "--glyph-ways"), (["--max-units", "10000000"], "MB of shared memory"),
    (["--ways", "99"], "ways"), (["--tasks", "pictures"], "pictures"),
    (["--tasks", "cifar10", "--data-dir", "nowhere"], "cifar-10"),
    (["--p-x-shift", "2"], "--p-x-shift"), (["--shots", "40", "--max-shift", "0"], "shots"), (["--resume"], "resume")])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, word):
    one_line(train(tmp_path, *arguments, code=2)[1], word)
    assert not (tmp_path / "runs").exists()


def test_a_run_is_not_overwritten_and_a_changed_setting_is_named(undisturbed):
    folder, _ = undisturbed
    before = (folder / "runs/laptop/checkpoint.npz").read_bytes()
    assert "--resume" in train(folder, *flags(), code=2)[1]
    _, err = train(folder, *flags(hdims=5, lr=0.01), "--resume", code=2)
    one_line(err, "hdims", "lr")
    assert "batch_size" not in err
    assert (folder / "runs/laptop/checkpoint.npz").read_bytes() == before


@pytest.mark.parametrize("name", ["runs", "runs/laptop"])
@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_file_where_a_folder_should_be_is_one_line(tmp_path, monkeypatch, name, more):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"^{name} is a file where a folder should be") as caught:
        parse(more)
    assert "\n" not in str(caught.value) and (tmp_path / name).read_text() == "mine"


def test_help_has_every_setting_in_a_group(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')} " in text for name in vars(Config()))
    places = [text.index(part) for part in ("the inner loop:", "--norm-eps X", "tasks (H.1):", "--ways N", "the run:")]
    assert places == sorted(places)
    assert "[laptop: letters:0.181818,silhouettes:" in text and "[laptop: 25,25]" in text


def test_settings_of_several_values_are_tuples_and_compare_with_what_json_makes_of_them():
    c = make_config("laptop", {"unroll_start": "1,2", "meta_lr": "1e-3", "meta_lr_boundaries": "",
                               "tasks": "letters:3"})
    assert (c.unroll_start, c.meta_lr, c.meta_lr_boundaries, c.tasks) == ((1, 2), (1e-3,), (), (("letters", 1.0),))
    saved = json.loads(json.dumps(as_json(c)))
    assert differing_fields(c, saved) == {} and make_config("laptop", saved) == c
    assert differing_fields(make_config("laptop", {"minutes": 1.0}), saved).keys() == {
        "unroll_start", "meta_lr", "meta_lr_boundaries", "tasks"}


def test_presets_are_the_papers():
    paper, workshop, laptop = (make_config(name, {}) for name in ("paper", "workshop", "laptop"))
    assert tuple(paper.rule_sizes.values()) == (128, 64, 32, 64, 4) and (paper.lr, paper.norm_eps) == (3e-4, 1)
    sizes = paper.min_layers, paper.max_layers, paper.min_units, paper.max_units, paper.embedding
    assert sizes == (2, 5, 64, 512, 32)
    assert all((p.horizon_shape, p.theta_decay, p.min_units) == ("normal", 0, 64) for p in (paper, workshop))
    assert (paper.meta_batch, paper.clip, paper.pairs, paper.ridge) == (256, 5, 5, 0.1)
    assert unroll_range(paper, 0) == (2, 4) and unroll_range(paper, 50_000) == unroll_range(paper, 10 ** 6) == (8, 15)
    assert (horizon_scale(paper, 0), horizon_scale(paper, 5_000)) == (20, 20_000)
    assert (paper.meta_lr_boundaries, paper.meta_lr) == ((100_000, 150_000), (3e-4, 1e-4, 2e-5))
    assert (workshop.objective, workshop.max_layers, workshop.max_units, workshop.case) == ("squared", 2, 199, "upper")
    assert laptop.minutes <= 5


@pytest.mark.slow
def test_a_users_own_data_are_shared_by_any_number_of_workers_and_others_are_not_gone_on_with(tmp_path):
    data, folders = tmp_path / "mine.npz", (tmp_path / "1", tmp_path / "2")
    settings = flags(tasks=f"{data}:3,letters", ways=4, segment_clip=1, horizon_shape="normal")
    make_user(data, (6, 6), n=60, classes=5)
    out, _ = train(folders[0], *settings, "--workers", "1")
    assert "40 images of 5 classes" in out and "letters: 25.0% of the tasks" in out
    for more in (["--steps", "3"], ["--resume"]):
        train(folders[1], *settings, "--workers", "2", *more)
    before = state_of(folders[0])
    assert_same_state(before, state_of(folders[1]))
    sets = {name for record in metrics(folders[0]) if "J" in record for name in record["J_by_data"]}
    assert sets == {"mine.npz", "letters"}
    make_user(data, (9, 9), n=60, classes=5)
    one_line(train(folders[0], *settings, "--resume", code=2)[1], "mine.npz", "does not hold the images")
    make_user(data, (6, 6), n=60, classes=5)
    train(folders[0], *settings, "--resume")
    assert_same_state(state_of(folders[0]), before)


@pytest.mark.slow
def test_validation_is_by_the_objective_that_is_trained_on(tmp_path):
    scores = []
    for objective in ("cosine", "squared"):
        train(tmp_path / objective, *flags(workers=1, steps=1, validate_steps=1, meta_lr=0, meta_lr_boundaries="",
                                           objective=objective))
        scores.append(metrics(tmp_path / objective)[1])
    assert scores[0]["heldout_accuracy"] == scores[1]["heldout_accuracy"]  # the same theta
    assert scores[0]["heldout_J"] != scores[1]["heldout_J"]


@pytest.mark.slow
def test_the_suite_is_what_the_machine_has_and_is_not_gone_on_with_by_another_one(tmp_path):
    """A set that is missing is said and left out; with it, or without one that was there, a run is not gone on with."""
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    make_omniglot(tmp_path / "with", x=np.zeros((800, 28, 28), np.uint8) + np.arange(28, dtype=np.uint8),
                  y=np.repeat(np.arange(40), 20), alphabet=np.repeat([0, 1], 400))
    settings = flags(workers=1, steps=3, validate_sets="heldout-letters,scripts")
    for name, other, words in (("with", "without", ["'validation scripts' was there", "put it back"]),
                               ("without", "with", ["'validation scripts' was not there", "take it away"])):
        folder = tmp_path / f"run {name}"
        out, _ = train(folder, *settings, "--data-dir", str(tmp_path / name))
        last = metrics(folder)[-1]
        assert set(last["validation"]) == {"heldout-letters"} | ({"scripts"} if name == "with" else set())
        assert ("validation goes on without scripts: " in out) == (name == "without")
        assert last["score"] == pytest.approx(np.mean([found["margin"] for found in last["validation"].values()]))
        _, error = train(folder, *settings, "--data-dir", str(tmp_path / other), "--resume", code=2)
        one_line(error, *words)
    _, error = train(tmp_path / "none", *flags(validate_sets="scripts", data_dir=tmp_path), code=2)
    one_line(error, "--validate-sets", "scripts", "omniglot_28.npz")


def test_plain_definitions_train_to_nearly_the_same_theta(undisturbed, tmp_path):
    train(tmp_path, *flags(workers=2, steps=1, validate_steps=0), "--plain", program=ROOT / "train.py")
    fast, plain = (metrics(folder)[0] for folder in (undisturbed[0], tmp_path))
    assert fast["J"] != plain["J"] and fast["J"] == pytest.approx(plain["J"], rel=1e-4)
    assert fast["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-2)
