"""Few-shot scores, the baselines, `evaluate.py score` and its picture: right numbers, or one line that says why not."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import evaluate
import unsup_meta as um
from figures import learning_curve
from ops.scoring.baselines import principal_components, project_on_components, raw_inputs
from ops.errors import InputError
from ops.scoring.few_shot import few_shot_accuracy, mean_and_sem
from unsup_meta import normalise_targets, solve_ridge, with_ones
from ops.tasks import Dataset, few_shot_draw, load_dataset
from unsup_meta import save_theta
from small_data import rng, small_theta


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of a small theta and of small data: 3 classes of 40 points in 5 dimensions."""
    folder = tmp_path_factory.mktemp("score")
    save_theta(folder / "theta.npz", small_theta(), lr=3e-3, norm_eps=1e-3)
    y = np.repeat([2, 5, 9], 40)
    x = rng(1).normal(size=(120, 5)).astype(np.float32) + 2 * np.eye(5, dtype=np.float32)[y % 5]
    np.savez(folder / "data.npz", x=x, y=y)
    return {"theta": str(folder / "theta.npz"), "data": str(folder / "data.npz")}


def arguments(files, *more, **replaced):
    """A quick `score` command; later flags win over earlier ones."""
    paths = files | replaced
    return ["score", "--theta", paths["theta"], "--data", paths["data"], "--sizes", "5,8,6", "--inner-steps", "4",
            "--draws", "3", "--seeds", "2", *more]


def scored(files, tmp_path, *more, **replaced):
    out = str(tmp_path / "scores.json")
    assert evaluate.main(arguments(files, "--json", out, *more, **replaced)) == 0
    with open(out) as file:
        return json.load(file)


# --- The readout --------------------------------------------------------------------------------


def clusters(spread, n=60, classes=4, features=6):
    y = np.arange(n * classes) % classes
    return (3 * np.eye(classes, features)[y] + spread * rng(2).normal(size=(len(y), features))).astype(np.float32), y


def test_separable_features_are_all_right():
    x, y = clusters(spread=0.1)
    assert (few_shot_accuracy(x[:120], y[:120], x[120:], y[120:], 5, 6, rng()) == 1).all()


def test_noise_is_at_chance():
    x, y = rng(3).normal(size=(4000, 8)).astype(np.float32), np.arange(4000) % 4
    accuracies = few_shot_accuracy(x[:2000], y[:2000], x[2000:], y[2000:], 10, 30, rng())
    assert accuracies.shape == (30,) and abs(accuracies.mean() - 0.25) < 0.02


@pytest.mark.parametrize("features", [6, 50])  # fewer and more than the 20 labelled points
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batched_readout_equals_a_plain_loop(features, dtype):
    x, y = clusters(spread=2.0, features=features)
    x = x.astype(dtype)
    got = few_shot_accuracy(x[:120], y[:120], x[120:], y[120:], 5, 4, rng(7))
    generator = rng(7)
    for accuracy in got:
        rows = few_shot_draw(generator, y[:120], 5)
        C = solve_ridge(with_ones(x[rows]), normalise_targets(np.eye(4, dtype=dtype)[y[rows]]), 0.1)
        assert accuracy == np.mean((with_ones(x[120:]) @ C).argmax(1) == y[120:])


def test_huge_or_missing_features_are_refused():
    x, y = clusters(spread=1.0)
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="NaN or infinity"):
            few_shot_accuracy(np.where(x > 3, np.float32(bad), x), y, x, y, 5, 2, rng())
    with pytest.raises(InputError, match="draws is 0"):
        few_shot_accuracy(x, y, x, y, 5, 0, rng())


def test_standard_error_covers_what_it_should():
    """values = seed effect + draw effect + rest: the mean's variance over many repetitions is sem^2."""
    generator, S, D = rng(4), 5, 7
    values = (generator.normal(size=(4000, S, 1)) + 2 * generator.normal(size=(4000, 1, D))
              + 3 * generator.normal(size=(4000, S, D)))
    summaries = [mean_and_sem(v) for v in values]
    claimed = np.mean([sem**2 for _, sem, _ in summaries])
    assert abs(claimed / np.var([mean for mean, _, _ in summaries]) - 1) < 0.1
    assert summaries[0][2] == S * D and summaries[0][0] == pytest.approx(values[0].mean())


def test_standard_error_of_one_seed_or_one_draw():
    v = rng(5).random(9)
    for shape in ((1, 9), (9, 1)):
        assert mean_and_sem(v.reshape(shape))[1:] == (pytest.approx(v.std(ddof=1) / 3), 9)
    assert np.isnan(mean_and_sem([[0.5]])[1])


# --- The baselines ------------------------------------------------------------------------------


@pytest.mark.parametrize("name, raw, pca", [("mnist14", 0.58, 0.71), ("fashion14", 0.59, 0.67)])
def test_baselines_reproduce_the_measured_numbers(name, raw, pca):
    dataset = load_dataset(name)
    for baseline, method, expected in ((raw_inputs, "raw", raw), (principal_components, "pca32", pca)):
        found, accuracies = baseline(dataset, 10, 40, rng())
        assert found == method and accuracies.shape == (1, 40)
        assert abs(accuracies.mean() - expected) < 0.015


def test_components_are_the_leading_ones():
    x = rng(6).normal(size=(50, 7)).astype(np.float32) * np.arange(1, 8, dtype=np.float32)
    train, test = project_on_components(x, x[:3], 4)
    expected = np.linalg.svd(x - x.mean(0), compute_uv=False)[:4]
    assert np.allclose(np.linalg.norm(train, axis=0), expected, rtol=1e-4)
    assert np.allclose(train[:3], test)
    assert project_on_components(x, x, 32)[0].shape == (50, 7)


# --- Applying the rule --------------------------------------------------------------------------


def test_apply_rule_is_repeated_updates():
    theta, phi, x = small_theta(), um.init_phi(rng(1), [5, 8, 6]), rng(2).normal(size=(30, 5)).astype(np.float32)
    seen = []
    got = evaluate.apply_rule(theta, phi, x, 3, 0.1, 1e-3, rng(9), lambda t, phi: seen.append(t))
    generator = rng(9)
    for _ in range(3):
        phi = um.unsupervised_update(phi, x[generator.choice(30, 4, replace=False)], theta, 0.1, 1e-3)
    assert seen == [1, 2, 3]
    assert all(np.array_equal(a, b) for one, other in zip(got, phi) for a, b in zip(one, other))


def test_accuracy_is_of_features_with_a_fixed_reference():
    """The first point of the curve, recomputed from `features` as D11 says."""
    x = rng(3).normal(size=(90, 5)).astype(np.float32)
    y = np.arange(90) % 3
    dataset = Dataset("made", x[:60], y[:60], x[60:], y[60:], ("a", "b", "c"))
    settings = evaluate.ScoreSettings(inner_steps=0, shots=4, draws=3, seeds=2, batch_reference=20)
    values = evaluate.accuracy_curve(small_theta(), dataset, [5, 8, 6], settings)
    reference = x[rng([0, evaluate.REFERENCE]).choice(60, 20, replace=False)]
    for k in range(2):
        phi = um.init_phi(rng([0, evaluate.PHI, k]), [5, 8, 6])
        train, test = um.features(phi, x[:60], reference), um.features(phi, x[60:], reference)
        expected = few_shot_accuracy(train, y[:60], test, y[60:], 4, 3, rng([0, evaluate.DRAWS]))
        assert np.array_equal(values[0, k], expected)


@pytest.mark.parametrize("inner_steps, expected", [(0, [0]), (1, [0, 1]), (4, [0, 1, 2, 3, 4]), (200, None)])
def test_curve_steps_run_from_none_to_all(inner_steps, expected):
    steps = evaluate.curve_steps(inner_steps)
    assert steps[0] == 0 and steps[-1] == inner_steps and len(steps) <= 11
    assert expected is None or steps == expected


# --- The command --------------------------------------------------------------------------------


def test_score_writes_what_api_promises(files, tmp_path, capsys):
    result = scored(files, tmp_path)
    assert result["data"] == files["data"] and result["sizes"] == [5, 8, 6]
    assert (result["lr"], result["norm_eps"]) == (3e-3, 1e-3)  # from the theta file
    assert [row["method"] for row in result["rows"]] == ["random", "learned", "raw", "pca5"]
    assert [row["n"] for row in result["rows"]] == [6, 6, 3, 3]
    for row in result["rows"]:
        assert set(row) == {"method", "mean", "sem", "n"} and 0 <= row["mean"] <= 1 and row["sem"] >= 0
    curve = result["curve"]
    assert curve["steps"] == [0, 1, 2, 3, 4] and np.shape(curve["seeds"]) == (2, 5)
    assert curve["mean"][0] == result["rows"][0]["mean"] and curve["mean"][-1] == result["rows"][1]["mean"]
    assert np.allclose(np.mean(curve["seeds"], axis=0), curve["mean"])
    table, errors = capsys.readouterr()
    assert errors == "" and "10 labelled examples per class, 3 draws, 2 seeds of phi, 4 inner steps" in table
    assert "base model inputs-8-6" in table
    for word in ("random start", "learned rule", "raw inputs", "5 principal components", "data.npz"):
        assert word in table


def test_same_seed_same_numbers_other_seed_others(files, tmp_path):
    one, two = scored(files, tmp_path), scored(files, tmp_path)
    other = scored(files, tmp_path, "--seed", "1")
    assert one == two and one["curve"] != other["curve"]


def test_learned_is_random_after_no_steps(files, tmp_path):
    rows = scored(files, tmp_path, "--inner-steps", "0", "--baselines", "none")["rows"]
    assert [row.pop("method") for row in rows] == ["random", "learned"] and rows[0] == rows[1]


def test_other_settings_reach_the_rule(files, tmp_path):
    plain = scored(files, tmp_path)
    for more in (["--lr", "0.3"], ["--norm-eps", "1"], ["--activation", "tanh"], ["--batch-reference", "5"]):
        assert scored(files, tmp_path, *more)["curve"]["seeds"] != plain["curve"]["seeds"], more


def test_a_float64_theta_and_one_of_everything(files, tmp_path):
    theta = {name: a.astype(np.float64) for name, a in small_theta().items()}
    save_theta(tmp_path / "theta64.npz", theta)  # no config scalars: the paper's settings
    result = scored(files, tmp_path, "--draws", "1", "--seeds", "1", theta=str(tmp_path / "theta64.npz"))
    assert (result["lr"], result["norm_eps"]) == (3e-4, 1.0)
    assert [row["sem"] for row in result["rows"]] == [None] * 4


def test_several_data_sets_and_the_picture(files, tmp_path, capsys):
    twin = tmp_path / "twin.npz"
    twin.write_bytes(open(files["data"], "rb").read())
    picture = tmp_path / "curve.png"
    results = scored(files, tmp_path, "--data", str(twin), "--picture", str(picture))["results"]
    assert [result["data"] for result in results] == [files["data"], str(twin)]
    assert results[0]["rows"] == results[1]["rows"]  # streams do not depend on the order
    assert "data.npz" in capsys.readouterr().out.splitlines()[1]
    assert picture.read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "curve.json").read_text())
    assert numbers == json.loads(json.dumps(learning_curve.numbers_of(results)))
    again = tmp_path / "again.png"
    assert learning_curve.main([str(tmp_path / "curve.json"), str(again)]) == 0
    assert again.read_bytes() == picture.read_bytes()


def test_a_picture_needs_its_numbers(tmp_path, capsys):
    (tmp_path / "bad.json").write_text('{"panels": []}')
    for given in (["bad.json", "out.png"], ["none.json", "out.png"], ["bad.json"]):
        assert learning_curve.main([str(tmp_path / name) for name in given]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_in_a_process_of_its_own(files, tmp_path):
    def run(*flags):
        return subprocess.run([sys.executable, "evaluate.py", *flags], cwd=ROOT, capture_output=True, text=True)

    done = run(*arguments(files, "--json", str(tmp_path / "out.json")))
    assert (done.returncode, done.stderr) == (0, "") and "learned rule" in done.stdout
    assert json.loads((tmp_path / "out.json").read_text()) == scored(files, tmp_path)
    failed = run(*arguments(files, "--shots", "99"))
    assert failed.returncode == 2 and failed.stdout == "" and failed.stderr.count("\n") == 1


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as left:
        evaluate.main(["--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and all(name in shown for name in evaluate.COMMANDS)


REFUSED = [  # flags, words of the message
    (["--sizes", "7,8,6"], ["7", "5 features", "--sizes"]),
    (["--sizes", "5,8.5,6"], ["--sizes", "5,8.5,6"]),
    (["--sizes", "5"], ["--sizes"]),
    (["--sizes", "5,0,6"], ["--sizes"]),
    (["--shots", "28"], ["class '2'", "27 training", "28"]),
    (["--shots", "0"], ["shots is 0"]),
    (["--shots", "many"], ["--shots", "many"]),
    (["--draws", "0"], ["draws is 0"]),
    (["--seeds", "0"], ["seeds is 0"]),
    (["--seed", "-1"], ["seed is -1"]),
    (["--inner-steps", "-1"], ["inner_steps is -1"]),
    (["--inner-steps", "2.5"], ["--inner-steps", "2.5"]),
    (["--batch-reference", "1"], ["batch_reference is 1"]),
    (["--lr", "0"], ["--lr", "positive"]),
    (["--norm-eps", "nan"], ["--norm-eps", "positive"]),
    (["--activation", "rlu"], ["rlu", "relu"]),
    (["--baselines", "raw,vea"], ["vea", "raw, pca"]),
    (["--data", "mnist15"], ["mnist15", "mnist14"]),
    (["--data", "absent.npz"], ["absent.npz"]),
    (["--theta", "absent.npz"], ["absent.npz", "train.py", "--theta"]),
    (["--shot", "5"], ["--shot"]),
    (["--picture", "curve.jpg"], ["curve.jpg", ".png"]),
    (["--picture", "scores.png"], ["scores.json", "another name"]),
    (["--colour"], ["--colour"]),
]


@pytest.mark.parametrize("flags, words", REFUSED, ids=lambda value: "=".join(value) if value[0][0] == "-" else "")
def test_bad_input_is_one_line_and_writes_nothing(files, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    assert evaluate.main(arguments(files, "--json", "scores.json", *flags)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("evaluate.py: "), err
    assert all(word in err for word in words), err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("given", [[], ["scroe"], ["score", "extra"]])
def test_unknown_commands(given, capsys):
    assert evaluate.main(given) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_bad_files_are_one_line(files, tmp_path, capsys):
    x, y = rng().normal(size=(60, 5)).astype(np.float32), np.arange(60) % 3
    theta = small_theta()
    nan_x = np.where(np.arange(60)[:, None] == 7, np.float32(np.nan), x)
    np.savez(tmp_path / "nan.npz", x=nan_x, y=y)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    np.savez(tmp_path / "huge.npz", x=x * np.float32(1e30), y=y)
    (tmp_path / "cut.npz").write_bytes(open(files["data"], "rb").read()[:300])
    save_theta(tmp_path / "b43.npz", small_theta(batch_size=43))
    wild = theta | {"bias": np.full(3, 3e38, np.float32)}
    save_theta(tmp_path / "wild.npz", wild, lr=0.5)
    bad_theta = theta | {"merge": np.full(10, np.nan, np.float32)}
    np.savez(tmp_path / "nantheta.npz", **{f"theta/{k}": a for k, a in bad_theta.items()})
    np.savez(tmp_path / "part.npz", **{f"theta/{k}": a for k, a in theta.items() if k != "merge"})
    before = sorted(os.listdir(tmp_path))
    cases = [({"data": "nan.npz"}, ["nan.npz", "example 7"]), ({"data": "few.npz", "theta": "b43.npz"}, ["43", "42"]),
             ({"data": "cut.npz"}, ["cut.npz"]), ({"theta": "nantheta.npz"}, ["merge", "NaN"]),
             ({"theta": "part.npz"}, ["merge", "missing"]), ({"theta": "cut.npz"}, ["cut.npz"]),
             ({"theta": "wild.npz"}, ["wild.npz", "after inner step 1", "--lr"]),
             ({"data": "huge.npz"}, ["scale the data"])]
    for replaced, words in cases:
        paths = {kind: str(tmp_path / name) for kind, name in replaced.items()}
        flags = ["--json", str(tmp_path / "out.json"), "--picture", str(tmp_path / "curve.png"), "--shots", "5"]
        assert evaluate.main(arguments(files, *flags, **paths)) == 2, replaced
        out, err = capsys.readouterr()
        assert err.count("\n") == 1 and all(word in err for word in words), err
    assert sorted(os.listdir(tmp_path)) == before


def test_outputs_are_checked_before_the_work(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "score", lambda *given: pytest.fail("the work was begun"))
    (tmp_path / "file").write_text("kept")
    for out in (str(tmp_path), str(tmp_path / "file" / "out.json"), files["theta"], files["data"],
                str(tmp_path / ("long" * 100))):
        assert evaluate.main(arguments(files, "--json", out)) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "kept" and os.path.getsize(files["theta"]) > 1000


def test_a_missing_default_theta_says_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate.main(["score"]) == 2
    err = capsys.readouterr().err
    assert "runs/laptop/theta.npz" in err and "train.py" in err and err.count("\n") == 1
