"""Adam, theta's average, the clipping of gradients, and the learning-rate schedule."""
import numpy as np
import pytest

from ops.engine.meta_optimizer import MetaOptimizer, clipped, length, piecewise_rate
from ops.engine.shared_memory import views
from unsup_meta import init_theta, load_theta


def optimizer(rates=(0.1,), boundaries=(), clip=1e9, decay=0.25, dtype=np.float64):
    theta = init_theta(np.random.default_rng(0), batch_size=4, hdims=3, delta=2, top=3, rank=2, dtype=dtype)
    return MetaOptimizer(theta, boundaries, rates, clip, decay), theta


def test_adam_and_the_average_equal_the_scalar_algorithm():
    rng, (adam, _) = np.random.default_rng(0), optimizer((0.1, 0.05, 0.02, 0.01, 0.005), (1, 2, 3, 4))
    p, m, v, average = adam.theta[7], 0.0, 0.0, adam.theta[7]
    for t, lr in enumerate((0.1, 0.05, 0.02, 0.01, 0.005), start=1):
        gradient = rng.standard_normal(adam.theta.size)
        g, before = gradient[7], adam.theta.copy()
        told = adam.step(gradient, t - 1)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p -= lr * (m / (1 - 0.9 ** t)) / ((v / (1 - 0.999 ** t)) ** 0.5 + 1e-8)
        kept = (2 / 11, 0.25, 0.25, 0.25, 0.25)[t - 1]  # (1 + t) / (10 + t), the decay at most
        average = kept * average + (1 - kept) * p
        assert adam.averaged[7] == pytest.approx(average, rel=1e-12)
        assert adam.theta[7] == pytest.approx(p, rel=1e-12) and (adam.previous == before).all()
        assert told["meta_lr"] == lr and told["grad_norm"] == pytest.approx(np.linalg.norm(gradient))
        assert told["update_ratio"] == pytest.approx(np.linalg.norm(adam.theta - before) / np.linalg.norm(before))
    assert adam.steps == 5


def test_adam_keeps_float32_and_norms_by_block_make_up_the_whole():
    adam, theta = optimizer((0.01,), dtype=np.float32)
    before, gradient = adam.theta, np.full(adam.theta.size, 2.0, np.float32)
    told = adam.step(gradient, 0)
    assert adam.theta.dtype == adam.m.dtype == adam.v.dtype == adam.averaged.dtype == np.float32
    assert np.allclose(before - adam.theta, 0.01, atol=1e-6)  # the first step is lr, whatever the gradient's length
    assert sum(norm ** 2 for norm in told["block_grad_norm"].values()) == pytest.approx(4.0 * gradient.size)
    assert told["block_grad_norm"]["merge"] == pytest.approx(2 * 10 ** 0.5) and len(told["merge"]) == 10
    averaged = adam.averaged
    adam.skip()
    assert adam.previous is adam.theta and adam.averaged is averaged and adam.steps == 1


def test_what_it_keeps_comes_back_under_the_names_of_a_theta_file(tmp_path):
    adam, theta = optimizer(dtype=np.float32)
    adam.step(np.ones_like(adam.theta), 0)
    arrays, (other, _) = adam.arrays(), optimizer(dtype=np.float32)
    np.savez(tmp_path / "theta.npz", **arrays)
    loaded = load_theta(tmp_path / "theta.npz")
    assert loaded.keys() == theta.keys() and (loaded["merge"] != views(adam.theta, adam.shapes)["merge"]).all()
    other.restore(arrays, adam.steps)
    for one in (adam, other):
        one.step(np.ones_like(adam.theta), 1)
    for name in ("theta", "previous", "averaged", "m", "v"):
        np.testing.assert_array_equal(getattr(adam, name), getattr(other, name))


def test_gradients_are_clipped_by_their_length():
    gradient = np.array([3.0, 0.0, 4.0])
    short, norm = clipped(gradient, 2.5)
    assert norm == 5.0 and length(short) == pytest.approx(2.5) and short[0] == pytest.approx(1.5)
    for limit, same in ((5.0, gradient), (9.0, gradient), (1.0, np.zeros(2))):
        assert np.array_equal(clipped(same, limit)[0], same)


def test_learning_rate_changes_at_its_boundaries():
    rate = lambda step: piecewise_rate(step, (100_000, 150_000), (3e-4, 1e-4, 2e-5))
    assert [rate(s) for s in (0, 99_999, 100_000, 149_999, 150_000, 10 ** 7)] == [3e-4, 3e-4, 1e-4, 1e-4, 2e-5, 2e-5]
    assert piecewise_rate(12345, (), (7e-4,)) == 7e-4
