"""Prototypical networks: the right gradient, nearest class mean without a network, episodes as asked for, learning."""
import numpy as np

from checks import check_vjp
from ops.rule.primitive import flatten
from ops.scoring.methods import prototypical
from ops.scoring.methods.network import init_layers
from small_data import refused, rng
from small_scores import clusters

IDENTITY = [(np.eye(6, dtype=np.float32), np.zeros(6, np.float32))]


def images(classes=14, per_class=30, spread=6.0):
    """Images [n, 6] grouped by class, and how many each has."""
    x, y = clusters(spread, classes, per_class, 6)
    return x[np.argsort(y, kind="stable")], np.full(classes, per_class)


def test_the_gradient_is_that_of_finite_differences():
    layers = init_layers(rng(1), [6, 8, 7, 5], np.float64)
    support, queries = rng(2).normal(size=(4, 3, 6)), rng(3).normal(size=(4, 5, 6))
    for _, b in layers:
        b += 0.3 * rng(4).normal(size=b.shape)
    *wanted, _ = range(len(flatten(layers)[0]))  # the last offset moves queries and prototypes alike
    check_vjp(lambda *layers: prototypical.loss(layers, support, queries), layers, wanted, rng(5))


def test_with_the_identity_as_embedding_it_is_nearest_class_mean():
    support, queries = prototypical.episode(rng(1), *images(spread=4.0), shots=4)
    means = support.mean(axis=1)
    distances = ((queries[:, :, None] - means) ** 2).sum(axis=-1)  # [ways, queries, ways]
    expected = (distances.argmin(axis=-1) == np.arange(10)[:, None]).mean()
    assert 0.3 < expected < 1 and prototypical.accuracy(IDENTITY, support, queries) == expected
    scores = prototypical.query_scores(IDENTITY, support, queries)
    assert np.allclose(scores, -distances.reshape(150, 10), rtol=1e-4, atol=1e-3)


def test_an_episode_has_classes_and_images_of_its_own_and_one_order_of_pixels():
    x, counts = np.arange(20 * 25 * 4).reshape(500, 4).astype(np.float32), np.full(20, 25)
    support, queries = prototypical.episode(rng(1), x, counts, 5)
    assert support.shape == (10, 5, 4) and queries.shape == (10, 15, 4)
    rows = np.concatenate([support, queries], axis=1)[..., 0] // 4
    assert len(np.unique(rows)) == 200 and (rows // 25 == rows[:, :1] // 25).all() and len(set(rows[:, 0] // 25)) == 10
    permuted = prototypical.episode(rng(1), x, counts, 5, permute=True)
    order = np.argsort(np.argsort(permuted.support[0, 0]))
    assert not np.array_equal(order, range(4))
    for one, other in zip(permuted, (support, queries)):
        assert np.array_equal(one, other[..., order])


def trained(x, counts, steps, **more):
    generator = rng(2)
    draw = lambda: prototypical.episode(generator, x, counts, 3, ways=4)
    return list(prototypical.fitted(generator, draw, [6, 16, 16, 8], steps, **more))[-1]


def test_it_learns_what_new_classes_share_and_the_seed_says_how():
    x, counts = images(classes=40, spread=1.0)
    x = np.concatenate([x, 20 * rng(7).normal(size=x.shape).astype(np.float32)], axis=1)[:, [0, 6, 1, 7, 2, 8]]
    test = [prototypical.episode(rng(k), x[600:], counts[20:], 3, ways=4) for k in range(20)]
    right = lambda layers: np.mean([prototypical.accuracy(layers, *one) for one in test])
    network = trained(x[:600], counts[:20], [300], rate=1e-2)
    assert right(network) > right(IDENTITY) + 0.2  # half of the inputs are noise
    network, again, other = (trained(x[:600], counts[:20], [20], rate=rate) for rate in (1e-2, 1e-2, 1e-3))
    assert all(np.array_equal(a, b) for a, b in zip(flatten(network)[0], flatten(again)[0]))
    assert not np.array_equal(network[0][0], other[0][0])


def test_what_diverges_is_told():
    with np.errstate(all="ignore"):
        refused(["prototypical network: NaN or infinite within 5", "learning rate"], trained, *images(), [5], rate=1e30)
