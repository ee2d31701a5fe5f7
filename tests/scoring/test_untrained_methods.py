"""k-means and the Hebbian rule: each against what it is, computed otherwise."""
import numpy as np
import pytest

import unsup_meta as um
from ops.rule.hebbian import THRESHOLD, hebbian_start, rectified_start
from ops.scoring.methods.kmeans import first_centres, lloyd, nearness, squared_distances
from small_data import rng


def test_distances_far_from_0_are_those_at_0():
    x = np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32)
    near, far = (squared_distances(x + shift, x[:4] + shift) for shift in np.float32((0, 1000)))
    assert np.abs(far - near).max() < 0.01


def test_kmeans_finds_separated_blobs():
    middles = rng(1).uniform(-50, 50, (6, 4))
    x = np.repeat(middles, 40, axis=0) + rng(2).normal(size=(240, 4))
    centres = first_centres(x, 6, rng(3))
    for _ in range(10):
        centres = lloyd(x, centres)
    nearest = squared_distances(middles, centres).argmin(axis=1)
    assert sorted(nearest) == list(range(6))
    assert np.allclose(centres[nearest], x.reshape(6, 40, 4).mean(axis=1))


def test_an_iteration_never_raises_the_mean_squared_distance_and_a_lone_centre_stays():
    x = rng(4).normal(size=(80, 5))
    centres = np.concatenate([first_centres(x, 7, rng(5)), np.full((1, 5), 99.0)])
    costs = []
    for _ in range(5):
        costs.append(squared_distances(x, centres).min(axis=1).mean())
        centres = lloyd(x, centres)
    assert costs == sorted(costs, reverse=True) and costs[-1] < costs[0] and (centres[-1] == 99).all()


def test_centres_are_different_rows_as_many_as_there_are():
    x = np.repeat(rng(6).normal(size=(3, 4)), 5, axis=0)
    centres = first_centres(x, 32, rng(7))
    assert len(np.unique(centres, axis=0)) == len(centres) == 3


def test_nearness_is_zero_beyond_the_mean_distance():
    x, centres = np.array([[0.0], [3.0]]), np.array([[0.0], [1.0], [5.0]])
    assert np.allclose(nearness(x, centres), [[2, 1, 0], [0, 1 / 3, 1 / 3]])  # distances 0 1 5 and 3 2 2


@pytest.mark.parametrize("start", [hebbian_start, rectified_start])
def test_the_rules_set_by_hand_are_hebbs_product_less_what_neighbours_respond_to(start):
    """Their update of a layer, from activities alone; h is x as it stands, wherever ReLU would have cut it.

    The rectified one takes x of all units at once, and of the upper ones what is above a threshold.
    """
    theta = start(um.init_theta(rng(7), 9, 5, 3, 4, 3, np.float64), apart=0.7)
    for name in ("lin_upper", "zero"):
        for side in ("pa", "pb"):
            theta[f"readout/{name}/{side}"][:, 1:] = 0  # what is free to learn
    theta["bias"][:] = 0
    phi, x, lr = um.init_phi(rng(8), [7, 6, 5], np.float64), rng(9).normal(size=(9, 7)), 0.1
    xs, zs, ds, hs = um.hidden_states(phi, x, theta)
    unit = [(u - u.mean()) / u.std() for u in xs]
    above = [(r - r.mean()) / r.std() for r in (np.maximum(u - THRESHOLD, 0) for u in unit)]
    for got, u, r in zip(hs, unit, above):
        assert np.allclose((got[..., 0] - got[..., 1]) / 2, u, atol=1e-4)  # but for the EPS of batch norms
        assert start is hebbian_start or np.allclose((got[..., 2] - got[..., 3]) / 2, r, atol=1e-3)
    after = um.unsupervised_update(phi, x, theta, lr, 1e-3)
    scaled = lambda p: p / np.sqrt(1 + np.mean(p ** 2, axis=0))
    for l, ((W, b, V), new, u) in enumerate(zip(phi, after, unit[1:])):
        low, high = ((a - a.mean(0)) / np.sqrt(a.var(0) + 1e-6) for a in xs[l:l + 2])
        product = low.T @ high if start is hebbian_start else unit[l].T @ above[l + 1]
        S = u.T @ u / 9 / np.sqrt(u.shape[1])
        Wn = W / np.sqrt(np.mean(W ** 2, axis=0) + 1e-6)
        lateral = (S + S.T) / np.sqrt(2) * (1 - np.eye(len(S)))
        merge = (scaled(product / 9) - 0.7 * scaled(Wn @ lateral)) / 10
        along = W / np.sqrt(np.sum(W ** 2) + 1e-6)
        orth = merge + along * max(0, -np.sum(merge * along))
        delta = orth / np.sqrt(1e-3 + np.mean(orth ** 2))
        assert np.allclose(new.W, W + lr * (delta - W), atol=1e-4) and np.abs(new.W - W).max() > 0.05
        assert np.allclose(new.b, b * (1 - lr))
