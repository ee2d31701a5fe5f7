"""`evaluate.py score` and its picture: right numbers, or one line that says why not."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluate
import unsup_meta as um
from ops.engine.config import make_config
from ops.rule import fast
from ops.rule.theta_file import load_settings, theta_dims
from ops.scoring import score, settings
from small_runs import ROOT
from small_data import rng, small_theta
from small_scores import as_id, clusters, refused_command
from unsup_meta import save_theta


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
            "--draws", "3", "--seeds", "2", "--processes", "1", *more]


def scored(files, tmp_path, *more, **replaced):
    out = tmp_path / "scores.json"
    assert evaluate.main(arguments(files, "--json", str(out), *more, **replaced)) == 0
    return json.loads(out.read_text())


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


def test_a_tuned_ridge_is_a_second_column(files, tmp_path, capsys):
    plain, both = scored(files, tmp_path), scored(files, tmp_path, "--tuned-ridge")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-6].split() == ["data.npz", "data.npz,", "ridge", "tuned"]
    for line, row, before in zip(lines[-5:], both["rows"], plain["rows"]):
        tuned = row.pop("tuned")
        assert row == before and tuned["n"] == row["n"]
        assert line.endswith("  ".join(f"{r['mean']:.3f} +- {r['sem']:.3f}" for r in (row, tuned)))
    assert both["tuned_ridge"] and not plain["tuned_ridge"] and both["curve"] == plain["curve"]


def test_trained_baselines_are_rows_like_others(files, tmp_path, monkeypatch, capsys):
    for method in ("vae", "beta-vae", "supervised"):
        monkeypatch.setattr(score.METHODS[method], "updates", 3)
    rows = scored(files, tmp_path, "--baselines", "supervised,vae,beta-vae", "--tuned-ridge")["rows"]
    assert [row["method"] for row in rows[2:]] == ["supervised", "vae", "beta-vae"]
    assert all(row["n"] == row["tuned"]["n"] == 6 for row in rows)
    assert {key: rows[2][key] for key in ("mean", "sem", "n")} == rows[2]["tuned"] != rows[3]["tuned"]
    out = capsys.readouterr().out
    assert all(word in out for word in ("supervised on the labelled points", "VAE", "beta-VAE"))


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


def test_the_definitions_give_the_same_scores(files, tmp_path, monkeypatch):
    monkeypatch.setenv(fast.VARIABLE, "0")
    monkeypatch.setattr(fast, "_plain", False)  # both as they are now, at the end
    kernels = scored(files, tmp_path)
    plain = scored(files, tmp_path, "--plain", "--processes", "2")
    assert fast.definitions_in_use() and os.environ[fast.VARIABLE] == "1"  # which processes inherit
    assert np.allclose(plain["curve"]["mean"], kernels["curve"]["mean"], atol=0.05)


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
    panels = json.loads((tmp_path / "curve.json").read_text())["panels"]
    for panel, result in zip(panels, results):
        assert panel["mean"] == result["curve"]["mean"] and panel["title"] == os.path.basename(result["data"])
        assert panel["lines"] == {row["method"]: row["mean"] for row in result["rows"][2:]}


def test_files_of_one_name_have_columns_of_their_own_and_a_baseline_counts_once(tmp_path, capsys):
    for folder, spread in (("a", 4.0), ("b", 0.5)):
        (tmp_path / folder).mkdir()
        x, y = clusters(spread, 3, 30, 5)
        np.savez(tmp_path / folder / "mine.npz", x=x, y=y)
    out = tmp_path / "out.json"
    assert evaluate.main(["score", "--data", f"{tmp_path}/a/mine.npz,{tmp_path}/b/mine.npz", "--inner-steps", "0", "--draws", "3",
                          "--seeds", "2", "--shots", "4", "--baselines", "raw,raw", "--json", str(out), "--processes", "1"]) == 0
    shown = capsys.readouterr().out
    assert all(shown.count(f"{tmp_path}/{folder}/mine.npz") == 1 for folder in "ab")
    assert {row["n"] for document in json.loads(out.read_text())["results"] for row in document["rows"]} == {6, 3}


def test_in_a_process_of_its_own(files, tmp_path):
    def run(*flags):
        return subprocess.run([sys.executable, "evaluate.py", *flags], cwd=ROOT, capture_output=True, text=True)

    out = tmp_path / "out.json"
    done = run(*arguments(files, "--json", str(out), "--processes", "2"))
    assert (done.returncode, done.stderr) == (0, "") and "learned rule" in done.stdout
    assert json.loads(out.read_text()) == scored(files, tmp_path)  # the same on one process and on two
    failed = run(*arguments(files, "--shots", "99"))
    assert failed.returncode == 2 and failed.stdout == "" and failed.stderr.count("\n") == 1


def test_help_lists_the_commands_and_importing_them_is_cheap(capsys):
    assert evaluate.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("score", "bench", "figure"))
    code = "import evaluate, sys; print([name for name in sys.modules if name.startswith(('matplotlib', 'figures.'))])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_the_theta_that_comes_with_the_project_is_whole_and_of_the_preset_that_it_is_said_to_be():
    told, best = json.loads((Path(settings.SHIPPED[1]).with_suffix(".json")).read_text()), make_config("best", {})
    assert told["command"] == "python train.py --preset best" and told["seed"] == best.seed
    assert told["meta_steps"] == best.steps
    assert theta_dims(um.load_theta(settings.SHIPPED[1])) == best.rule_sizes
    assert load_settings(settings.SHIPPED[1], {"lr": 9, "norm_eps": 9}) == {"lr": best.lr, "norm_eps": best.norm_eps}


def test_without_a_theta_it_is_that_of_ones_own_run_else_the_shipped_one(files, tmp_path, monkeypatch, capsys):
    shipped, own = tmp_path / "shipped.npz", tmp_path / settings.OWN[1]
    save_theta(shipped, small_theta(1), lr=1e-2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "SHIPPED", ("shipped", str(shipped)))
    command = ["score", *arguments(files)[3:]]
    for expected, lr in ((str(shipped), 1e-2), (settings.OWN[1], 3e-3)):
        out = tmp_path / "out.json"
        assert evaluate.main([*command, "--json", str(out)]) == 0
        assert f"theta: {expected}\n" in capsys.readouterr().out
        assert [json.loads(out.read_text())[key] for key in ("theta", "lr")] == [expected, lr]
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_bytes(open(files["theta"], "rb").read())


def test_columns_in_different_units_are_scored_as_standardised_ones(files, tmp_path, capsys):
    with np.load(files["data"]) as data:
        np.savez(tmp_path / "units.npz", x=data["x"] * [1e3, 1, 1, 1e-2, 0] + [0, 50, 0, 0, 7], y=data["y"])
        np.savez(tmp_path / "even.npz", x=data["x"] * [1, 1, 1, 1, 0], y=data["y"])
    score_of = lambda name, *more: scored(files, tmp_path, *more, data=str(tmp_path / name))
    units, even = score_of("units.npz"), score_of("even.npz", "--standardise", "yes")
    assert "units.npz: each column brought to mean 0" in capsys.readouterr().out
    assert units["standardised"] and even["standardised"]
    assert np.allclose(units["curve"]["mean"], even["curve"]["mean"], atol=0.01)
    assert units["rows"][2]["mean"] == pytest.approx(even["rows"][2]["mean"], abs=0.01)
    as_is, plain = score_of("units.npz", "--standardise", "no"), score_of("even.npz")
    assert "brought" not in capsys.readouterr().out and not as_is["standardised"] and not plain["standardised"]
    assert as_is["curve"] != units["curve"] and plain["curve"] != even["curve"]


@pytest.mark.parametrize("flags, words", [  # the flags and words of the message
    (["--sizes", "7,8,6"], ["7", "5 features", "--sizes"]), (["--sizes", "5,8.5,6"], ["--sizes", "5,8.5,6"]),
    (["--sizes", "5"], ["--sizes"]), (["--sizes", "5,0,6"], ["--sizes"]),
    (["--shots", "28"], ["class '2'", "27 training", "28"]), (["--shots", "0"], ["--shots is 0"]),
    (["--shots", "many"], ["--shots", "many"]), (["--draws", "0"], ["--draws is 0"]),
    (["--seeds", "0"], ["--seeds is 0"]), (["--seed", "-1"], ["--seed is -1"]),
    (["--inner-steps", "-1"], ["--inner-steps is -1"]), (["--inner-steps", "2.5"], ["--inner-steps", "2.5"]),
    (["--batch-reference", "1"], ["--batch-reference is 1"]), (["--lr", "0"], ["--lr", "positive"]),
    (["--norm-eps", "nan"], ["--norm-eps", "positive"]), (["--activation", "rlu"], ["rlu", "relu"]),
    (["--baselines", "raw,vea"], ["vea", "raw, pca"]), (["--data", "mnist15"], ["mnist15", "mnist14"]),
    (["--data", "absent.npz"], ["absent.npz"]), (["--theta", "absent.npz"], ["absent.npz", "train.py", "--theta"]),
    (["--shot", "5"], ["--shot"]), (["--picture", "curve.jpg"], ["curve.jpg", ".png"]),
    (["--picture", "scores.png"], ["scores.json", "another name"]), (["--colour"], ["--colour"]),
    (["--processes", "0"], ["--processes"])], ids=as_id)
def test_bad_input_is_one_line_and_writes_nothing(files, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    refused_command(capsys, arguments(files, "--json", "scores.json", *flags), words)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("given, words", [
    ([], ()), (["scroe"], ()), (["score", "extra"], ()), (["score"], ["runs/laptop/theta.npz", "train.py"])])
def test_unknown_commands_and_a_missing_default_theta(tmp_path, monkeypatch, capsys, given, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "SHIPPED", ("shipped", str(tmp_path / "absent.npz")))
    refused_command(capsys, given, words)


def test_bad_files_are_one_line(files, tmp_path, capsys):
    x, y = rng().normal(size=(60, 5)).astype(np.float32), np.arange(60) % 3
    theta = small_theta()
    nan_x = np.where(np.arange(60)[:, None] == 7, np.float32(np.nan), x)
    np.savez(tmp_path / "nan.npz", x=nan_x, y=y)
    np.savez(tmp_path / "huge.npz", x=x * np.float32(1e30), y=y)
    (tmp_path / "cut.npz").write_bytes(open(files["data"], "rb").read()[:300])
    wild = theta | {"bias": np.full(3, 3e38, np.float32)}
    save_theta(tmp_path / "wild.npz", wild, lr=0.5)
    bad_theta = theta | {"merge": np.full(10, np.nan, np.float32)}
    np.savez(tmp_path / "nantheta.npz", **{f"theta/{k}": a for k, a in bad_theta.items()})
    np.savez(tmp_path / "part.npz", **{f"theta/{k}": a for k, a in theta.items() if k != "merge"})
    np.savez(tmp_path / "text.npz", **{"config/lr": "fast"}, **{f"theta/{k}": a for k, a in theta.items()})
    before = sorted(os.listdir(tmp_path))
    cases = [({"theta": "text.npz"}, ["text.npz", "config/lr"]),
             ({"data": "nan.npz"}, ["nan.npz", "example 7"]),
             ({"data": "cut.npz"}, ["cut.npz"]), ({"theta": "nantheta.npz"}, ["merge", "NaN"]),
             ({"theta": "part.npz"}, ["merge", "missing"]), ({"theta": "cut.npz"}, ["cut.npz"]),
             ({"theta": "wild.npz"}, ["wild.npz", "after inner step 1", "--lr"]),
             ({"data": "huge.npz"}, ["scale the data"])]
    for replaced, words in cases:
        paths = {kind: str(tmp_path / name) for kind, name in replaced.items()}
        flags = ["--json", str(tmp_path / "out.json"), "--picture", str(tmp_path / "curve.png"), "--shots", "5"]
        refused_command(capsys, arguments(files, *flags, **paths), words)
    assert sorted(os.listdir(tmp_path)) == before


def test_outputs_are_checked_before_the_work(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(score, "measure", lambda cell: pytest.fail("the work was begun"))
    (tmp_path / "file").write_text("kept")
    for out in (str(tmp_path), str(tmp_path / "file" / "out.json"), files["theta"], files["data"],
                str(tmp_path / ("long" * 100))):
        refused_command(capsys, arguments(files, "--json", out))
    assert (tmp_path / "file").read_text() == "kept" and os.path.getsize(files["theta"]) > 1000
