"""`figure fig3`, `fig4-imdb`, `fig6-filters` and `fig6-manifold`: thetas of a run, what is measured of them, claims."""
import json

import numpy as np
import pytest

import evaluate
import unsup_meta as um
from figures import cost, fig3, fig4_imdb, fig6_filters, fig6_manifold, snapshots, w1_learning, w2_colours
from ops.data import Dataset
from ops.engine.validation import kept
from ops.scoring.methods import Learned
from ops.scoring.objective import labelled_pairs, objectives
from ops.scoring.runner import Result
from small_data import rng, small_theta
from small_scores import as_id, clusters, refused_command

STEPS = (0, 4, 10, 19, 400)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of 400 meta-steps of 36 seconds, whose second validation was its best."""
    folder = tmp_path_factory.mktemp("runs") / "r"
    (folder / "thetas").mkdir(parents=True)
    records = [{"step": step, "J": 2 - step / 400, "accuracy": 0.5, "seconds": 36 * (step + 1)} for step in range(400)]
    records += [{"step": step, "score": score} for step, score in ((99, 0.1), (199, 0.3), (299, 0.2))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "config.json").write_text(json.dumps({"tasks": [["letters", 0.5], ["world", 0.5]]}))
    for step in STEPS:
        um.save_theta(folder / f"thetas/theta-{step:09d}.npz", small_theta(step), lr=0.03, norm_eps=1e-3)
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """The path of a table of two classes."""
    path = tmp_path_factory.mktemp("data") / "few.npz"
    x, y = clusters(1.0, 2, 45, features=6)
    np.savez(path, x=x, y=y)
    return path


def made(name, folder, *flags, code=0):
    """The numbers that `figure NAME` writes."""
    assert evaluate.main(["figure", name, "--folder", str(folder), "--processes", "1", *map(str, flags)]) == code
    return json.loads((folder / f"{name}.json").read_text())


# --- Thetas of a run ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps, count, chosen", [
    ([0, 500, 1000], 8, [0, 500, 1000]), ([0, 1, 2, 3, 100], 3, [0, 1, 100]), ([0, 1, 2, 3], 2, [0, 3]),
    (list(range(0, 64001, 500)), 8, [0, 500, 1000, 2500, 5500, 12500, 28500, 64000])])
def test_thetas_are_the_first_the_last_and_geometrically_spaced_ones(steps, count, chosen):
    assert snapshots.spread(list(steps), count) == chosen


def test_a_runs_thetas_are_told_by_meta_steps_and_hours(run):
    found = snapshots.snapshots(str(run), 3)
    assert [s.step for s in found] == [0, 4, 400] and [s.hours for s in found] == pytest.approx([0, 0.04, 4])
    assert (found[1].rule.theta["merge"] == small_theta(4)["merge"]).all() and found[1].rule.lr == 0.03
    assert snapshots.chosen(str(run)) == {"step": 200, "hours": pytest.approx(2)}
    assert [kept(scores) for scores in ([0.3], [0.3, 0.292], [0.3, 0.292, 0.285], [0.1, 0.3, 0.2, 0.295, -1])] == [0, 1, 1, 3]


def test_updates_are_as_many_as_the_papers_in_inner_time():
    assert [snapshots.updates(None, 10_000, lr) for lr in (3e-4, 3e-3, 3e-2, 9)] == [10_000, 1_000, 100, 1]
    assert snapshots.updates(7, 10_000, 3e-4) == 7
    assert snapshots.in_words(100, 0.03) == "100 inner steps (x lr 0.03 = 3)"


@pytest.mark.parametrize("name", ["fig3", "fig4-imdb", "fig6-filters"])
def test_without_snapshots_it_says_what_to_run(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for flags in ([], ["--run", "nowhere"]):
        words = ["train.py", "--snapshot-steps", "--run", *flags[1:]]
        refused_command(capsys, ["figure", name, "--folder", "out", *flags], words)
    assert list(tmp_path.iterdir()) == []


# --- J on a data set ------------------------------------------------------------------------------


def labelled(spread, classes=12, features=6):
    x, y = clusters(spread, classes, 60, features)
    half = len(x) // 2
    return Dataset("d", x[:half], y[:half], x[half:], y[half:], tuple("abcdefghijkl"[:classes]))


def test_pairs_are_of_both_splits_with_ten_labelled_points_of_some_classes():
    data = labelled(1.0, classes=11)
    xa, ya, xb, yb = labelled_pairs(data, rng(), pairs=4)
    assert xa.shape == (4, 100, 6) and (ya == yb).all() and (ya.sum(axis=1) == 10).all() and ya.shape == (4, 100, 10)
    for batch, x, y in ((xa, data.x_train, data.y_train), (xb, data.x_test, data.y_test)):
        label = {row.tobytes(): c for row, c in zip(x, y)}
        labels = np.array([[label[row.tobytes()] for row in pair] for pair in batch]).reshape(4, 10, 10)
        assert (labels == labels[..., :1]).all() and all(len(set(of)) == 10 for of in labels[..., 0])
    assert len({tuple(of) for of in labels[..., 0].tolist()}) > 1
    assert labelled_pairs(labelled(1.0, classes=3), rng(), pairs=2, shots=5)[1].shape == (2, 15, 3)


def test_J_is_the_meta_objective_of_each_pair_and_low_where_classes_are_told_apart():
    phi = um.init_phi(rng(3), [6, 20, 8])
    pairs = labelled_pairs(labelled(0.5), rng(), pairs=5)
    assert objectives(phi, *pairs).mean() == pytest.approx(float(um.meta_objective(phi, *pairs)), abs=1e-5)
    raw, noise = (objectives(None, *labelled_pairs(labelled(spread, 3), rng(), pairs=5)).mean()
                  for spread in (0.1, 500.0))
    assert raw < 0.5 and noise > 1.5
    xa, ya, xb, yb = pairs
    p = um.with_ones(xb) @ um.solve_ridge(um.with_ones(xa), um.normalise_targets(ya), 0.1)
    expected = float(um.prediction_error(p, um.normalise_targets(yb)))
    assert objectives(None, *pairs).mean() == pytest.approx(expected, abs=1e-4)


# --- Filters --------------------------------------------------------------------------------------


def test_an_image_is_a_template_and_a_patch_is_local():
    images = rng().normal(size=(50, 36))
    centred = images - images.mean(axis=0)
    assert fig6_filters.template_score(np.stack([centred[3], 5 - 2 * centred[7]]), images) == pytest.approx(1)
    assert fig6_filters.template_score(np.ones((2, 36)), images + np.linspace(0, 9, 50)[:, None]) < 1e-6
    patch = np.zeros((1, 3, 9, 9))
    patch[0, :, 2:7, 3:8] = rng().normal(size=(3, 5, 5))
    assert fig6_filters.locality(patch) == pytest.approx(1)
    assert fig6_filters.locality(np.ones((4, 1, 10, 10))) == pytest.approx(0.25)
    filters = rng().normal(size=(25, 12)) * np.logspace(-3, 3, 25)[:, None]
    back = fig6_filters.unpacked(fig6_filters.packed(filters), [3, 2, 2])
    assert np.allclose(back.reshape(25, 12), filters / np.abs(filters).max(axis=1, keepdims=True), atol=1 / 127)


def test_the_inputs_order_is_undone_before_filters_are_drawn(run, tmp_path, monkeypatch):
    """A rule that gives each unit the mean of the images that it sees, whatever their pixels' order."""
    def mean_image(self, phi, x_train, *_):
        seen.append(x_train.mean(axis=0))
        return [phi[0]._replace(W=np.repeat(seen[-1][:, None], 128, axis=1)), *phi[1:]]

    seen = []
    monkeypatch.setattr(Learned, "apply", mean_image)
    found = made("fig6-filters", tmp_path, "--run", run, "--thetas", 2, "--data", "mnist14")
    assert [row["title"].split("\n")[-1] for row in found["rows"]] == ["14x14", "natural order"]
    assert not np.allclose(seen[0], seen[2]) and np.allclose(np.sort(seen[0]), np.sort(seen[2]), atol=1e-5)
    panes = [row["panes"][0] for row in found["rows"]]
    assert panes[0]["filters"] == panes[1]["filters"] and panes[0]["template"] == pytest.approx(panes[1]["template"])
    shown = fig6_filters.unpacked(panes[0]["filters"], panes[0]["shape"])[0]
    assert np.allclose(shown.ravel(), seen[2] / seen[2].max(), atol=0.01)


def test_filters_are_drawn_a_row_a_set_and_a_pane_a_theta(run, tmp_path, capsys):
    found = made("fig6-filters", tmp_path, "--run", run, "--thetas", 3, "--data", "letters,cifar10-32", "--data-dir",
                 tmp_path, "--inner-steps", 1, code=2)
    assert "data_batch_*.bin" in capsys.readouterr().err and "data_batch_*.bin" in found["rows"][1]["error"]
    assert [pane["step"] for pane in found["rows"][0]["panes"]] == [0, 4, 400] and len(found["claim"]) == 1
    figure = fig6_filters.draw(found)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["step 0\n0 h", "step 4\n0.04 h", "step 400\n4 h"]
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0, 0, 0]
    assert np.shape(figure.axes[0].images[0].get_array()) == (5 * 15 - 1, 5 * 15 - 1)
    picture = fig6_filters.mosaic(np.array([0, 1, -1]).reshape(3, 1, 1, 1) * np.ones((3, 3, 2, 2)))
    assert picture.shape == (2, 14, 3) and picture[0, [0, 2, 3, 6], 0].tolist() == [0.5, 1, 1, 0]


def test_workshop_filters_are_those_with_their_diversity(run, tmp_path):
    found = made("w4-filters", tmp_path, "--run", run, "--thetas", 2, "--inner-steps", 1)
    first, last = (found["rows"][0]["panes"][i]["diversity"] for i in (0, -1))
    claim, = found["claim"].items()
    assert claim[0].startswith("Tiny MNIST: filters become more diverse") and claim[1] == (last > first)
    axes = fig6_filters.draw(found).axes[0]
    assert axes.get_xlabel() == f"D {first:.2f}"
    filters = np.array([[1.0, 0, 0], [-2, 0, 0], [0, 3, 0]])
    assert fig6_filters.diversity(filters) == pytest.approx(2 / 3) and fig6_filters.diversity(filters[:2]) == pytest.approx(0)


def test_colours_are_shares_of_squared_weight_with_the_inputs_order_undone(run, tmp_path, monkeypatch):
    """A rule whose units see one colour alone, whatever the order of the inputs."""
    def red(self, phi, x_train, *_):
        return [phi[0]._replace(W=np.repeat(marked[orders[-1]][:, None], 128, axis=1)), *phi[1:]]

    orders = []
    marked = np.repeat([3.0, 0, 0], 196)  # what a pixel of each colour weighs
    def ordered(dataset, settings, seed):
        rows = rng(seed).permutation(588)
        orders.append(rows)
        return dataset._replace(x_train=dataset.x_train[:, rows], x_test=dataset.x_test[:, rows])
    monkeypatch.setattr(fig6_filters, "ordered", ordered)
    monkeypatch.setattr(Learned, "apply", red)
    found = made("w2-colours", tmp_path, "--run", run, "--thetas", 2, "--seeds", 1)
    assert [t["collapse"]["mean"] for t in found["thetas"]] == [1, 1] and len(w2_colours.draw(found).axes) == 9
    assert w2_colours.words(found).count("collapse 1.000") == 2
    one_each = np.zeros((3, 3, 4))
    one_each[[0, 1, 2], [0, 1, 2]] = 1  # each filter its own colour: none is preferred
    assert w2_colours.shares(one_each.reshape(3, 12)) == {"collapse": pytest.approx(1 / 3), "own": 1}
    assert w2_colours.shares(np.ones((2, 12))) == {"collapse": pytest.approx(1 / 3), "own": pytest.approx(1 / 3)}


def test_learning_curves_have_both_measures_of_the_rule_before_and_after(run, few, tmp_path, capsys):
    found = made("w1-learning", tmp_path, "--run", run, "--data", few, "--inner-steps", 4, "--vae-updates", 5, "--points", 3,
                 "--supervised-updates", 5, "--baselines", "vae,supervised", "--seeds", 2, "--draws", 3, "--shots", 5)
    assert list(found["curves"]) == ["before", "after", "vae", "supervised"] and not found["failed"]
    assert found["curves"]["after"]["steps"] == [0, 1, 2, 4] and found["curves"]["vae"]["steps"] == [0, 1, 2, 5]
    assert all(0 < p["mean"] < 4 for curve in found["curves"].values() for p in curve["J"])
    out = tmp_path / "score.json"
    assert evaluate.main(["score", "--theta", str(run / "thetas/theta-000000400.npz"), "--data", str(few), "--inner-steps", "4",
                          "--seeds", "2", "--draws", "3", "--shots", "5", "--json", str(out)]) == 0
    assert found["curves"]["after"]["accuracy"][-1]["mean"] == json.loads(out.read_text())["rows"][1]["mean"]


@pytest.mark.parametrize("J, accuracy, claims", [((.5, .7), (.6, .8), [True, True]), ((.7, .5), (.8, .6), [False, False])])
def test_claims_of_the_workshop_paper(J, accuracy, claims):
    of = lambda i: {t: np.stack([np.full((2, 4), accuracy[i]), np.full((2, 4), J[i])], axis=-1) for t in (0, 4)}
    found = w1_learning._claims({"after": of(0), "vae": of(1)})
    assert [c["holds"] for text, c in found.items() if "end" in text] == claims
    assert found["it is ahead of VAE after 4 updates"]["holds"] == (not claims[1])


def test_cost_is_of_the_runs_hours_and_cores_and_of_seconds(run, few, tmp_path, capsys):
    found = made("cost", tmp_path, "--run", run, "--data", few, "--thetas", 3, "--cores", 8, "--inner-steps", 4, "--vae-updates", 5,
                 "--supervised-updates", 5, "--points", 3, "--seeds", 2, "--draws", 3, "--shots", 5)
    assert [(t["step"], t["core_hours"]) for t in found["thetas"]] == [(0, 0), (4, pytest.approx(0.32)), (400, pytest.approx(32))]
    assert list(found["curves"]) == ["learned", "vae", "supervised"] and "98,000" in capsys.readouterr().out
    for method, curve in found["curves"].items():
        assert curve["seconds"][0] == 0 and np.allclose(np.diff(curve["seconds"], 2)[:1], 0)  # of updates 0, 1, 2
        best = max(p["mean"] for p in curve["accuracy"])
        assert best >= found["target"] and found["to_target"][method] in curve["seconds"]
    assert found["thetas"][-1]["mean"] == found["curves"]["learned"]["accuracy"][-1]["mean"] and cost.draw(found)
    config = (run / "config.json").read_bytes()
    for damage in ((run / "config.json").unlink, lambda: (run / "config.json").write_text("[]")):
        damage()
        refused_command(capsys, ["figure", "cost", "--run", str(run), "--data", str(few)], ["config.json"])
    (run / "config.json").write_bytes(config)


# --- IMDB -----------------------------------------------------------------------------------------


def imdb_results(gains, runs=4):
    """Results of thetas {step: gain in accuracy of each run}; hours are hundredths of meta-steps."""
    found = [Result({"name": "", "seed": k}, [[0.6, 1.5]], None, 0) for k in range(runs)]
    for step, gain in gains.items():
        theta = {"step": step, "hours": step / 100, "times": [0, 50], "rule": {"lr": 0.03}, "data": {"classes": "ab"}}
        found += [Result({"name": "", "seed": k} | theta, [[0.5, 2.0], [0.5 + gain[k], 1.9]], None, 0)
                  for k in range(runs)]
    return found


def test_the_early_theta_is_that_of_15_percent_and_gains_are_over_random_start():
    gains = {0: [0] * 4, 40: [0] * 4, 160: [0.06, 0.05, 0.05, 0.04], 400: [0] * 4, 1000: [0.01, -0.01] * 2}
    results = imdb_results(gains)
    found = fig4_imdb.numbers(fig4_imdb.Settings(runs=4), results)
    bold = {theta["step"]: theta["bold"] for theta in found["thetas"]}
    assert bold == {0: None, 40: None, 160: "early", 400: None, 1000: "late"}
    early = found["claim"]["gain of the early theta"]
    assert early["points"] == pytest.approx(0.05) and early["relative"] == pytest.approx(0.1)
    assert early["sem"] == pytest.approx(np.std([0.06, 0.05, 0.05, 0.04], ddof=1) / 2)
    assert found["claim"]["the early theta learns something"] and found["claim"]["the late one falls behind"]
    json.dumps(found)
    reverse = fig4_imdb.numbers(fig4_imdb.Settings(runs=4), imdb_results({0: [0] * 4, 160: [0] * 4, 1000: [0.1] * 4}))
    assert not reverse["claim"]["the late one falls behind"]
    lines = {line.get_label(): line for line in fig4_imdb.draw(found).axes[0].lines}
    assert list(lines["raw inputs"].get_ydata()) == [0.6, 0.6]


def test_runs_differ_and_start_alike_for_every_theta(run, few, tmp_path, capsys):
    found = made("fig4-imdb", tmp_path, "--run", run, "--thetas", 3, "--data", few, "--runs", 2, "--inner-steps", 4)
    assert found["thetas"][0]["times"] == [0, 1, 2, 3, 4] and "0.03" in found["time"]
    for what in ("accuracy", "J"):
        assert len({theta[what]["mean"][0] for theta in found["thetas"]}) == 1
        assert len({theta[what]["mean"][-1] for theta in found["thetas"]}) > 1
    assert found["thetas"][0]["J"]["sem"][0] > 0 and "gain of the early theta" in capsys.readouterr().out


def test_reviews_that_are_not_there_are_named(run, tmp_path, capsys):
    found = made("fig4-imdb", tmp_path, "--run", run, "--runs", 2, "--data-dir", tmp_path)
    assert "aclImdb" in found["error"] and "aclImdb" in capsys.readouterr().out
    assert all("aclImdb" in axes.texts[0].get_text() for axes in fig4_imdb.draw(found).axes)


# --- Meta-training curves -------------------------------------------------------------------------


def test_J_of_thetas_is_set_against_hours_beside_the_log(run, tmp_path):
    found = made("fig3", tmp_path, "--run", run, "--thetas", 3, "--data", "letters,mnist14", "--inner-steps", 1,
                 "--seeds", 1)
    assert found["chosen"]["step"] == 200 and found["chosen"]["hours"] == pytest.approx(2)
    assert [panel["trained"] for panel in found["panels"]] == [True, False]
    assert all(panel["hours"] == pytest.approx([0, 0.04, 4]) and len(panel["J"]) == 3 for panel in found["panels"])
    assert found["claim"]["training J still falls in the second half of the run (by 2 standard errors)"]
    figure = fig3.draw(found)
    for axes in figure.axes:
        assert found["chosen"]["hours"] in [line.get_xdata()[0] for line in axes.lines]
    for axes, panel in zip(figure.axes[1:], found["panels"]):
        assert list(axes.lines[0].get_ydata()) == panel["J"]


def test_noise_and_another_phi_are_no_rise_and_no_fall():
    rng, log = np.random.default_rng(0), {"hours": np.linspace(0.1, 4, 40).tolist()}
    fall = [fig3._claim(log | {"J": (1 + 0.05 * rng.normal(size=40)).tolist()}, []).popitem()[1] for _ in range(300)]
    assert np.mean(fall) < 0.08
    assert not fig3._claim({"hours": [0.1, 0.2], "J": [2.0, 1.0]}, [])  # too few to tell
    cell = lambda step, seed: {"data": {"data": "mnist14"}, "step": step, "hours": step / 10, "seed": seed}
    one = rng.normal(size=50)
    values = {0: (2.0, 2.0), 1: (1.0, 1.0), 2: (1.01, 1.06)}  # the second phi alone is worse
    results = [Result(cell(step, k), (J + 0.1 * one + 0.001 * rng.normal(size=50)).tolist(), None, 1) for step, of in values.items()
               for k, J in enumerate(of)]
    panel, = fig3.panels_of(results, [])
    assert panel["above"] == pytest.approx(0.035, abs=1e-3) and panel["sem"] > 0.02 and not panel["turned"]


def test_other_images_of_a_name_are_other_cells(run, tmp_path, monkeypatch):
    cells = lambda name: fig6_filters.cells(fig6_filters.Settings(run=str(run), data=("mnist14",)))
    monkeypatch.setattr(fig6_filters, "data_of", lambda *_, **__: {"digest": "a"})
    assert {cell["data"]["digest"] for cell in cells("a")} == {"a"}


def test_J_turns_where_the_last_theta_is_clearly_above_the_lowest(run):
    cell = {"rule": {"lr": 0.03}, "updates": 30}
    results = []
    for name, levels in (("mnist14", (2, 1.5, 1.2)), ("imdb", (2, 1.7, 1.9)), ("cifar10", (2, 1.9, 1.8))):
        for i, level in enumerate(levels):
            mine = cell | {"data": {"data": name}, "step": 10 * i, "hours": i, "number": 0}
            results.append(Result(mine, list(level + 0.05 * rng(i).normal(size=50)), None, 0))
    results[-1] = results[-1]._replace(value=None, error="no such file")
    found = fig3.numbers(fig3.Settings(run=str(run)), results)
    assert found["claim"]["IMDB: J turns and rises"]
    assert next(holds for claim, holds in found["claim"].items() if "Tiny MNIST" in claim)
    assert found["panels"][1]["lowest"] == 1 and found["panels"][2]["error"] == "no such file"
    assert "no such" in fig3.draw(found).axes[3].texts[0].get_text()


# --- A manifold -----------------------------------------------------------------------------------


def test_shares_of_variance_are_those_of_principal_components():
    x = rng().normal(size=(4000, 5)) * [4, 2, 1, 0, 0] @ np.linalg.qr(rng(1).normal(size=(5, 5)))[0]
    points, found = fig6_manifold.principal(x)
    assert np.allclose(found["shares"], [16 / 21, 20 / 21, 1, 1, 1], atol=0.02) and found["components"] == 2
    assert np.allclose(points.std(axis=0), [4, 2, 1, 0, 0], atol=0.1)


def test_the_manifold_before_and_after_the_rule(run, tmp_path, capsys):
    theta = run / "thetas/theta-000000004.npz"
    found = made("fig6-manifold", tmp_path, "--theta", theta, "--inner-steps", 2, "--seeds", 2, "--points", 60)
    assert [panel["title"] for panel in found["panels"]] == ["two moons", "MNIST, 14x14"]
    assert "2 inner steps" in found["time"]
    for panel in found["panels"]:
        assert np.shape(panel["after"]["points"]) == (60, 3) and len(panel["labels"]) == 60
        assert panel["before"]["shares"] != panel["after"]["shares"] and panel["after"]["accuracy"]["n"] == 40
        before, after = (panel[when]["accuracy"]["mean"] for when in ("before", "after"))
        assert panel["gain"]["mean"] == pytest.approx(after - before)
    assert len(found["claim"]) == 3 and "components for 95%" in capsys.readouterr().out
    figure = fig6_manifold.draw(found)
    assert len(figure.axes) == 5 and sum(len(line.get_xdata()) == 32 for line in figure.axes[0].lines) == 5


@pytest.mark.parametrize("flags, words", [
    (["--data", "imdb"], ["imdb", "no images"]), (["--thetas", "1"], ["--thetas is 1"]),
    (["--inner-steps", "0"], ["--inner-steps is 0"])], ids=as_id)
def test_what_filters_cannot_do_is_one_line(run, tmp_path, capsys, flags, words):
    refused_command(capsys, ["figure", "fig6-filters", "--run", str(run), "--folder", str(tmp_path), *flags], words)
