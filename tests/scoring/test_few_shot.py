"""The few-shot readout (D11), of all classes or of some, and the standard error of its accuracies."""
import numpy as np
import pytest

from ops.errors import InputError
from ops.scoring import few_shot
from ops.scoring.few_shot import RIDGES, few_shot_accuracy, mean_and_sem, tuned_ridge
from ops.scoring.settings import ScoreSettings, limit_test
from ops.data import Dataset, few_shot_draw
from small_data import rng
from small_scores import clusters
from unsup_meta import normalise_targets, solve_ridge, with_ones


@pytest.mark.parametrize("classes, ways", [(4, None), (30, 5)])
def test_separable_classes_are_all_right(classes, ways):
    x, y = clusters(0.01, classes, n=12, features=40)
    half = len(x) // 2
    assert (few_shot_accuracy(x[:half], y[:half], x[half:], y[half:], 4, 8, rng(), ways=ways) == 1).all()


@pytest.mark.parametrize("ways", [2, 5, None])
def test_noise_is_at_chance(ways):
    x, y = rng(3).normal(size=(8000, 6)).astype(np.float32), np.arange(8000) % 20
    accuracies = few_shot_accuracy(x[:4000], y[:4000], x[4000:], y[4000:], 10, 60, rng(), ways=ways)
    assert accuracies.shape == (60,) and abs(accuracies.mean() - 1 / (ways or 20)) < 0.02


@pytest.mark.parametrize("features", [6, 50])  # fewer and more than the labelled points
@pytest.mark.parametrize("ways, dtype", [(None, np.float32), (None, np.float64), (3, np.float32)])
def test_a_draw_is_the_plain_problem_of_its_classes(features, ways, dtype):
    x, y = clusters(3.0, classes=9, n=40, features=features)
    x, half = x.astype(dtype), len(x) // 2
    train, y_train, test, y_test = x[:half], y[:half], x[half:], y[half:]
    got, generator, seen = few_shot_accuracy(train, y_train, test, y_test, 4, 6, rng(7), ways=ways), rng(7), set()
    for accuracy in got:
        classes = generator.choice(9, ways, replace=False).tolist() if ways else list(range(9))
        seen.update(classes)
        mine = np.array([i for i in range(half) if y_train[i] in classes])
        labels = np.array([classes.index(y_train[i]) for i in mine])
        rows = few_shot_draw(generator, labels, 4)
        assert sorted(labels[rows]) == sorted(4 * list(range(len(classes))))
        y_hot = normalise_targets(np.eye(len(classes), dtype=dtype)[labels[rows]])
        C = solve_ridge(with_ones(train[mine[rows]]), y_hot, 0.1)
        asked = [i for i in range(half) if y_test[i] in classes]
        assert accuracy == np.mean([classes[(with_ones(test[i:i + 1]) @ C).argmax()] == y_test[i] for i in asked])
    assert len(seen) > 3  # the classes are drawn anew


def test_as_many_ways_as_classes_or_more_are_all_of_them():
    x, y = clusters(3.0, classes=4, n=40)
    scores = [few_shot_accuracy(x[:80], y[:80], x[80:], y[80:], 5, 6, rng(), ways=ways) for ways in (None, 4, 99)]
    assert np.array_equal(scores[0], scores[1]) and np.array_equal(scores[0], scores[2])


@pytest.mark.parametrize("points, features", [(30, 8), (12, 40)])
def test_predictions_for_all_ridges_are_those_of_a_readout_each(points, features):
    A, A_test, y = (rng(k).normal(size=size) for k, size in enumerate([(points, features), (9, features), (points, 3)]))
    for ridge, p in zip(RIDGES, few_shot._predictions(A, y, A_test), strict=True):
        assert np.allclose(p, A_test @ solve_ridge(A, y, ridge), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("noise, ways", [(0.5, None), (2.0, None), (0.5, 3)])
def test_a_tuned_ridge_is_about_the_best_on_data_it_never_saw(noise, ways):
    y = np.arange(2000) % 5
    x = np.hstack([3 * rng(1).normal(size=(5, 4))[y] + rng(2).normal(size=(2000, 4)),
                   noise * rng(3).normal(size=(2000, 60))]).astype(np.float32)
    on_test = lambda ridge: few_shot_accuracy(x[:1000], y[:1000], x[1000:], y[1000:], 10, 20, rng(4), ridge, ways).mean()
    chosen, of_all = tuned_ridge(x[:1000], y[:1000], 10, rng(5), ways), [on_test(ridge) for ridge in RIDGES]
    assert chosen in RIDGES and on_test(chosen) > max(of_all) - 0.01 and max(of_all) - min(of_all) > 0.03
    assert chosen == tuned_ridge(x[:1000], y[:1000], 10, rng(5), ways)


def test_a_ridge_is_tuned_where_every_example_of_a_class_may_be_labelled():
    x, y = clusters(3.0, classes=4, n=10)
    assert tuned_ridge(x, y, 10, rng()) in RIDGES
    with pytest.raises(InputError, match="2 training examples of each class"):
        tuned_ridge(x[:5], y[:5], 1, rng())


def test_what_cannot_be_scored_is_refused():
    x, y = clusters(3.0, classes=4, n=40)
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="NaN or infinity"):
            few_shot_accuracy(np.where(x > 3, np.float32(bad), x), y, x, y, 5, 2, rng())
    for words, shots, draws, ways, test in (("draws is 0", 5, 0, None, y >= 0), ("ways is 1", 5, 6, 1, y >= 0),
                                            ("no test example", 5, 30, 2, y == 0)):
        with pytest.raises(InputError, match=words):
            few_shot_accuracy(x, y, x[test], y[test], shots, draws, rng(), ways=ways)


def test_the_limit_of_test_images_is_for_the_classes_of_a_draw():
    counts = np.array([3, 40, 100, 57])
    y = rng().permutation(np.repeat(np.arange(4), counts))
    x = np.arange(200, dtype=np.float32)[:, None]
    dataset = Dataset("made", x, y, x, y, tuple("abcd"))
    limited = limit_test(dataset, ScoreSettings(test_images=20))
    assert np.bincount(limited.y_test).tolist() == [1, 4, 10, 6]  # a tenth, rounded up
    assert np.array_equal(limited.y_test, y[limited.x_test[:, 0].astype(int)]) and limited.x_train is x
    assert len(np.unique(limited.x_test)) == 21
    assert np.bincount(limit_test(dataset, ScoreSettings(test_images=20, ways=2)).y_test).tolist() == [1, 8, 20, 12]
    other = limit_test(dataset, ScoreSettings(test_images=20, seed=1))
    assert np.array_equal(limit_test(dataset, ScoreSettings(test_images=20)).x_test, limited.x_test)
    assert not np.array_equal(other.x_test, limited.x_test)
    for settings in (ScoreSettings(), ScoreSettings(test_images=200), ScoreSettings(test_images=100, ways=2)):
        assert limit_test(dataset, settings) is dataset


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
