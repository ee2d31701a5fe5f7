"""`figure fig2-vae`: the method's own curves, both splits, the claim in numbers, what is missing."""
import json

import numpy as np
import pytest

import evaluate
from figures import fig2_vae
from ops.data import load_dataset
from ops.scoring.few_shot import accuracy_within
from ops.scoring.methods import VAE, RawInputs
from ops.scoring.settings import DRAWS, ScoreSettings
from small_data import rng
from small_scores import as_id, clusters, refused_command


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Path of overlapping clusters: 3 classes, 80 training points each, in 6 dimensions."""
    path = tmp_path_factory.mktemp("fig2") / "few.npz"
    x, y = clusters(12.0, 3, 120, 6)
    np.savez(path, x=(x - x.min()) / (x.max() - x.min()), y=y)
    return str(path)


def arguments(folder, data, *more):
    return ["figure", "fig2-vae", "--folder", str(folder), "--data", data, "--steps", "60", "--points", "3", "--seeds", "2",
            "--draws", "4", "--shots", "5", "--processes", "1", *more]


def numbers_of(folder):
    return json.loads((folder / "fig2-vae.json").read_text())


def test_curves_are_the_method_s_on_both_splits_beside_raw_inputs_and_components(few, tmp_path, capsys):
    assert evaluate.main(arguments(tmp_path, few)) == 0
    found, out = numbers_of(tmp_path), capsys.readouterr().out
    panel, = found["panels"]
    assert panel["steps"] == [0, 10, 24, 60] and panel["n_train"] == 240 and panel["seeds"] == 2
    data, settings = load_dataset(few), ScoreSettings(shots=5, draws=4)
    by_seed = VAE().curve(data, [6, 128, 128, 128, 32], settings, panel["steps"], [0, 1]).mean(axis=(2, 3))
    test = panel["curves"]["test"]
    for name, of in (("mean", np.mean), ("low", np.min), ("high", np.max)):
        assert np.allclose(test[name], of(by_seed, axis=1))
    raw = accuracy_within(data.x_train, data.y_train, 5, 4, rng([0, DRAWS])).mean()
    assert panel["lines"]["raw"] == pytest.approx(raw) and raw != RawInputs().curve(data, None, settings, [0], [0]).mean()
    nelbo = panel["curves"]["nelbo"]["mean"]
    assert nelbo[-1] < nelbo[0] and panel["curves"]["train"]["mean"] != test["mean"]
    c = panel["claim"]
    assert c["drop"] == pytest.approx(c["best"] - c["last"])
    assert f"{c['drop']:.3f}" in out and f"{test['mean'][2]:.3f}" in out and "240 images" in out


def test_few_images_are_a_random_part_of_the_training_split(few, tmp_path):
    assert evaluate.main(arguments(tmp_path, few, "--images", "150")) == 0
    panel, = numbers_of(tmp_path)["panels"]
    assert panel["n_train"] == 150 and "150 training images" in fig2_vae.draw(numbers_of(tmp_path)).axes[0].get_title()


def made(accuracy, nelbo, spread=0.01):
    """`claim_of` mean accuracies and negative ELBO at 1, 2, 3 ... updates, of 3 seeds and 5 draws."""
    accuracy = np.array(accuracy)[None, :, None] + spread * rng(1).normal(size=(3, len(accuracy), 5))
    return fig2_vae.claim_of(list(range(1, len(nelbo) + 1)), accuracy, np.array([nelbo] * 3, float))


def test_the_claim_wants_a_fall_beyond_its_error_and_the_best_objective_at_the_end():
    found = made([0.2, 0.5, 0.4, 0.3], [9, 8, 7, 6])
    assert found["holds"] and found["best_step"] == 2 and abs(found["drop"] - 0.2) < 0.02
    assert not made([0.2, 0.5, 0.4, 0.3], [9, 8, 6, 7])["holds"]
    assert not made([0.2, 0.3, 0.4, 0.5], [9, 8, 7, 6])["accuracy_falls"]
    assert not made([0.2, 0.5, 0.4, 0.3], [9, 8, 7, 6], spread=0.5)["accuracy_falls"]


def test_a_point_that_is_best_on_the_draws_that_choose_it_alone_is_no_fall():
    accuracy = 0.5 + 0.01 * rng(2).normal(size=(3, 4, 8))
    accuracy[:, 1, ::2] += 0.3
    found = fig2_vae.claim_of([1, 2, 3, 4], accuracy, np.array([[9.0, 8, 7, 6]] * 3))
    assert found["best_step"] == 2 and abs(found["drop"]) < 0.02 and not found["accuracy_falls"]


def test_the_picture_shows_the_numbers_and_what_is_missing(few, tmp_path, capsys):
    data_dir = tmp_path / "empty"
    data_dir.mkdir()
    assert evaluate.main(arguments(tmp_path, few, "--data", "cifar10", "--data-dir", str(data_dir))) == 2
    assert "cifar-10" in capsys.readouterr().err
    found = numbers_of(tmp_path)
    axes = fig2_vae.draw(found).axes
    drawn = {line.get_label(): list(line.get_ydata()) for a in axes[:3:2] for line in a.lines}
    assert drawn["VAE, on test images"] in [found["panels"][0]["curves"][key]["mean"] for key in ("test", "test_nelbo")]
    lines = [list(line.get_ydata()) for a in axes for line in a.lines]
    for key in ("train", "test", "nelbo", "test_nelbo"):
        assert found["panels"][0]["curves"][key]["mean"] in lines
    assert any("cifar-10" in text.get_text().replace("\n", "") for a in axes for text in a.texts)


@pytest.mark.parametrize("flags, words", [
    (["--data", "mnist15"], ["mnist15", "mnist14"]), (["--images", "10"], ["--images is 10"]),
    (["--steps", "9"], ["--steps is 9"]), (["--shots", "81"], ["class", "81"]), (["--rate", "0"], ["--rate"])], ids=as_id)
def test_bad_settings_are_one_line(few, tmp_path, capsys, flags, words):
    refused_command(capsys, arguments(tmp_path / "out", few, *flags), words)
    assert not list(tmp_path.glob("out/*.*"))
