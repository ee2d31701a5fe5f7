"""Methods: one interface, the rule applied as the paper says, features with a fixed reference, measured baselines."""
from dataclasses import replace

import numpy as np
import pytest

import unsup_meta as um
from ops.scoring.few_shot import few_shot_accuracy
from ops.scoring.methods import METHODS, VAE, Components, Learned, RandomStart, RawInputs, Supervised, readout
from ops.scoring.methods.components import project_on_components
from ops.scoring.settings import BATCHES, DRAWS, ORDER, PHI, REFERENCE, ScoreSettings, curve_steps
from ops.data import Dataset, load_dataset
from small_data import rng, small_theta

SIZES = [5, 8, 6]
SETTINGS = ScoreSettings(shots=4, draws=3, seeds=2, batch_reference=20)


@pytest.fixture
def dataset():
    x, y = rng(3).normal(size=(90, 5)).astype(np.float32), np.arange(90) % 3
    return Dataset("made", x[:60], y[:60], x[60:], y[60:], ("a", "b", "c"))


def rule(dtype=np.float32):
    return Learned({name: a.astype(dtype) for name, a in small_theta().items()}, 0.1, 1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_a_curve_is_points_by_seeds_by_draws_by_readouts(dataset, name):
    of_theta = name in ("learned", "knocked-out")
    method = METHODS[name](*rule()[:3]) if of_theta else METHODS[name]()
    values = method.curve(dataset, SIZES, SETTINGS, [0, 2, 3], [4, 7])
    trained = of_theta or hasattr(METHODS[name], "updates")
    assert values.shape == (3 if trained else 1, 2 if method.seeded else 1, 3, 1)
    both = method.curve(dataset, SIZES, replace(SETTINGS, tuned_ridge=True), [0, 2, 3], [4, 7])
    assert both.shape == (*values.shape[:3], 2) and np.array_equal(both[..., :1], values)
    assert (0 <= values).all() and (values <= 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_is_learned_after_no_steps(dataset, dtype):
    learned = rule(dtype).curve(dataset, SIZES, SETTINGS, [0], [0, 1])
    assert np.array_equal(RandomStart(np.dtype(dtype).name).curve(dataset, SIZES, SETTINGS, [0], [0, 1]), learned)


@pytest.mark.parametrize("method", [rule(), VAE(), Supervised()])
def test_seeds_and_points_do_not_depend_on_company(dataset, method):
    values = method.curve(dataset, SIZES, SETTINGS, [0, 1, 3, 6], [0, 1, 2])
    assert np.array_equal(method.curve(dataset, SIZES, SETTINGS, [3, 6], [1]), values[2:, 1:2])
    assert not np.array_equal(values[:, 0], values[:, 1])


def test_permuted_inputs_are_another_order_for_each_seed_and_leave_the_baselines_alone(dataset):
    permuted = replace(SETTINGS, permute=7)
    values = rule().curve(dataset, SIZES, permuted, [2], [0, 1])
    for k in range(2):
        order = rng([7, ORDER, k]).permutation(5)
        moved = dataset._replace(x_train=dataset.x_train[:, order], x_test=dataset.x_test[:, order])
        assert np.array_equal(values[:, k:k + 1], rule().curve(moved, SIZES, SETTINGS, [2], [k]))
    assert not np.array_equal(rng([7, ORDER, 0]).permutation(5), rng([7, ORDER, 1]).permutation(5))
    for baseline in (RawInputs(), Components()):
        assert np.array_equal(*(baseline.curve(dataset, SIZES, s, [0], [0]) for s in (SETTINGS, permuted)))


def test_apply_is_repeated_updates(dataset):
    phi = um.init_phi(rng(1), SIZES)
    got = rule().apply(phi, dataset.x_train, range(3), rng(9))
    generator = rng(9)
    for _ in range(3):
        batch = dataset.x_train[generator.choice(60, 4, replace=False)]
        phi = um.unsupervised_update(phi, batch, small_theta(), 0.1, 1e-3)
    assert all(np.array_equal(a, b) for one, other in zip(got, phi) for a, b in zip(one, other))


def test_a_batch_of_a_table_smaller_than_it_holds_every_row(dataset):
    phi, x = um.init_phi(rng(1), SIZES), dataset.x_train[:3]
    got, rows = rule().apply(phi, x, range(1), rng(9)), rng(9).permutation(3)
    expected = um.unsupervised_update(phi, x[[*rows, rows[0]]], small_theta(), 0.1, 1e-3)  # theta's B is 4
    assert all(np.array_equal(a, b) for one, other in zip(got, expected) for a, b in zip(one, other))


def test_accuracy_is_of_features_with_a_fixed_reference(dataset):
    """A point of the curve, recomputed from `features` as D11 says."""
    values = rule().curve(dataset, SIZES, SETTINGS, [0, 2], [0, 1])
    reference = dataset.x_train[rng([0, REFERENCE]).choice(60, 20, replace=False)]
    for k in range(2):
        phi = um.init_phi(rng([0, PHI, k]), SIZES)
        phi = rule().apply(phi, dataset.x_train, range(2), rng([0, BATCHES, k]))
        train, test = (um.features(phi, x, reference) for x in (dataset.x_train, dataset.x_test))
        expected = few_shot_accuracy(train, dataset.y_train, test, dataset.y_test, 4, 3, rng([0, DRAWS]))
        assert np.array_equal(values[1, k, :, 0], expected)


@pytest.mark.parametrize("inner_steps, expected", [(0, [0]), (1, [0, 1]), (4, [0, 1, 2, 3, 4]), (200, None)])
def test_curve_steps_run_from_none_to_all(inner_steps, expected):
    steps = curve_steps(inner_steps)
    assert steps[0] == 0 and steps[-1] == inner_steps and len(steps) <= 11
    assert expected is None or steps == expected


@pytest.mark.parametrize("name, raw, pca", [("mnist14", 0.58, 0.71), ("fashion14", 0.59, 0.67)])
def test_baselines_reproduce_the_measured_numbers(name, raw, pca):
    embedded, settings = load_dataset(name), ScoreSettings(draws=40)
    for method, expected in ((RawInputs(), raw), (Components(), pca)):
        accuracies = method.curve(embedded, None, settings, [0], [0])
        assert accuracies.shape == (1, 1, 40, 1) and abs(accuracies.mean() - expected) < 0.015


def test_a_ridge_tuned_on_the_training_split_reproduces_the_measured_number(dataset, monkeypatch):
    settings, seen = replace(SETTINGS, tuned_ridge=True), []
    values = Components().curve(load_dataset("mnist14"), None, ScoreSettings(tuned_ridge=True), [0], [0])
    assert np.allclose(values.mean(axis=(0, 1, 2)), [0.70, 0.74], atol=0.015)
    monkeypatch.setattr(readout, "tuned_ridge", lambda *given: seen.append(given) or 7.0)
    values = RawInputs().curve(dataset, None, settings, [0], [0])
    assert seen[0][0] is dataset.x_train and seen[0][1] is dataset.y_train
    assert np.array_equal(values[0, 0, :, 1], few_shot_accuracy(*dataset[1:5], 4, 3, rng([0, DRAWS]), 7.0))


def test_components_are_the_leading_ones():
    x = rng(6).normal(size=(50, 7)).astype(np.float32) * np.arange(1, 8, dtype=np.float32)
    train, test = project_on_components(x, 4, x, x[:3])
    expected = np.linalg.svd(x - x.mean(0), compute_uv=False)[:4]
    assert np.allclose(np.linalg.norm(train, axis=0), expected, rtol=1e-4)
    assert np.allclose(train[:3], test)
    assert project_on_components(x, 32, x)[0].shape == (50, 7)
