"""Supervised on the labelled points: the right gradient, an overfit, the same labelled points as everyone, no others."""
from dataclasses import replace

import numpy as np
import pytest

import unsup_meta as um
from checks import check_vjp
from ops.data import Dataset, few_shot_draw
from ops.rule.primitive import flatten
from ops.scoring.methods import Supervised
from ops.scoring.methods.network import batch_rows, evaluated, init_layers, trained
from ops.scoring.methods.supervised import cross_entropy
from ops.scoring.few_shot import labelled_points
from ops.scoring.settings import BASELINE, DRAWS, ScoreSettings
from small_data import refused, rng
from small_scores import clusters

SETTINGS = ScoreSettings(shots=4, draws=2, batch_reference=30)
SIZES = [6, 12, 8]


def dataset(classes=3, spread=1.0):
    x, y = clusters(spread, classes, 40, 6)
    half = len(x) // 2
    return Dataset("made", x[:half], y[:half], x[half:], y[half:], tuple(map(str, range(classes))))


def test_the_gradient_is_that_of_finite_differences():
    layers, x, y = init_layers(rng(1), [6, 8, 7, 4], np.float64), rng(2).normal(size=(10, 6)), rng(3).integers(0, 4, 10)
    for _, b in layers:
        b += 0.3 * rng(2).normal(size=b.shape)
    check_vjp(lambda *layers: cross_entropy(layers, x, y), layers, range(len(flatten(layers)[0])), rng(5))


def test_a_network_overfits_100_points_of_random_labels():
    x, y = rng(1).normal(size=(100, 20)).astype(np.float32), rng(2).integers(0, 10, 100)
    layers, generator = init_layers(rng(3), [20, 64, 64, 32, 10]), rng(4)

    def draw():
        rows = batch_rows(generator, 100, 32)
        return x[rows], y[rows]

    losses = []
    for layers in trained(cross_entropy, layers, draw, lambda t: 3e-3, [0, 800], "network"):
        losses.append(float(cross_entropy(layers, x, y)))
    assert losses[0] > 2 and losses[1] < 0.02 and (evaluated(layers, x, x).argmax(axis=1) == y).all()


def test_it_learns_from_the_labelled_points_of_all_methods_and_no_others():
    data = dataset()
    values = Supervised().curve(data, SIZES, SETTINGS, [0, 150], [0, 1])
    assert values.shape == (2, 2, 2, 1) and values[1].min() > 0.9 > values[0].mean()
    generator, drawn = rng([0, DRAWS]), set()
    for _ in range(2):
        drawn |= set(few_shot_draw(generator, data.y_train, 4).tolist())
    moved = data.x_train + 100 * ~np.isin(np.arange(len(data.x_train)), list(drawn))[:, None]
    moved = data._replace(x_train=moved.astype(np.float32))
    assert np.array_equal(Supervised().curve(moved, SIZES, SETTINGS, [0, 150], [0, 1]), values)


def test_each_draw_and_seed_has_a_network_of_its_own_and_more_draws_change_none():
    data = dataset(spread=12.0)
    values = Supervised().curve(data, SIZES, replace(SETTINGS, draws=3), [20], [0, 1])
    assert np.array_equal(values[:, 1:, :2], Supervised().curve(data, SIZES, SETTINGS, [20], [1]))
    assert len(set(values.reshape(-1).tolist())) == 6


def test_some_classes_of_many():
    data = dataset(classes=6)
    values = Supervised().curve(data, SIZES, replace(SETTINGS, ways=2), [0, 100], [0])
    assert values[1].min() > 0.9 and 0.2 < values[0].mean() < 0.8


def test_another_rate_is_another_network():
    one, other = (Supervised(lr).curve(dataset(spread=12.0), SIZES, SETTINGS, [20], [0]) for lr in (1e-4, 1e-2))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("method, changes, words", [
    (Supervised(), {"shots": 21}, ["class 0", "20", "21"]),
    (Supervised(lr=1e30), {}, ["supervised: NaN or infinite within 9 updates", "learning rate"])])
def test_what_cannot_be_done_is_told(method, changes, words):
    with np.errstate(all="ignore"):
        refused(words, method.curve, dataset(), SIZES, replace(SETTINGS, **changes), [9], [0])


def test_the_objective_is_that_of_the_outputs_below_the_head():
    """Which of an untrained network are a random start's; accuracies stay what they are."""
    data, settings = dataset(), replace(SETTINGS, objective=True, tuned_ridge=True)
    values = Supervised().curve(data, SIZES, settings, [0, 5], [0])
    plain = Supervised().curve(data, SIZES, SETTINGS, [0, 5], [0])
    assert values.shape == (2, 1, 2, 3) and np.array_equal(values[..., :1], plain) and np.array_equal(values[..., 1:2], plain)
    rows, layers = labelled_points(settings.stream(DRAWS), data.y_train, 4, None)[0], init_layers(
        settings.stream(BASELINE, 0, 0), [*SIZES, 3], np.float32)
    train, test = (um.features([(*layer, None) for layer in layers[:-1]], x, data.x_train[rows]) for x in (
        data.x_train[rows], data.x_test))
    A, y = um.with_ones(train), um.normalise_targets(np.eye(3)[data.y_train[rows]])
    p = um.with_ones(test) @ np.linalg.solve(A.T @ A + 0.1 * np.eye(A.shape[1]), A.T @ y)
    expected = ((p - um.normalise_targets(np.eye(3)[data.y_test])) ** 2).sum(axis=1).mean()
    assert values[0, 0, 0, 2] == pytest.approx(expected, rel=1e-3) and values[1, 0, 0, 2] < expected
