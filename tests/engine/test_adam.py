"""Adam, the clipping of gradients, and the learning-rate schedule."""
import numpy as np
import pytest

from ops.engine.adam import Adam, clip_by_global_norm, global_norm, piecewise_rate


def test_adam_equals_the_scalar_algorithm():
    rng = np.random.default_rng(0)
    theta = {"a": rng.standard_normal((2, 3)), "b": rng.standard_normal(4)}
    p, m, v = theta["a"][1, 2], 0.0, 0.0
    adam = Adam()
    for t in range(1, 6):
        grads, lr = {n: rng.standard_normal(a.shape) for n, a in theta.items()}, 0.1 / t
        g = grads["a"][1, 2]
        theta = adam.update(theta, grads, lr)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p -= lr * (m / (1 - 0.9 ** t)) / ((v / (1 - 0.999 ** t)) ** 0.5 + 1e-8)
        assert theta["a"][1, 2] == pytest.approx(p, rel=1e-12)
    assert adam.steps == 5


def test_adam_keeps_float32_and_its_argument():
    theta, grads = {"a": np.ones(3, np.float32)}, {"a": np.full(3, 2.0, np.float32)}
    new = Adam().update(theta, grads, 0.01)
    assert new["a"].dtype == np.float32 and (theta["a"] == 1).all()
    assert np.allclose(new["a"], 0.99)  # the first step is lr, whatever the gradient's length


def test_gradients_are_clipped_by_their_common_length():
    grads = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    clipped, norm = clip_by_global_norm(grads, 2.5)
    assert norm == 5.0 and global_norm(clipped) == pytest.approx(2.5) and clipped["a"][0] == pytest.approx(1.5)
    for limit, same in ((5.0, grads), (9.0, grads), (1.0, {"a": np.zeros(2)})):
        assert all(np.array_equal(clip_by_global_norm(same, limit)[0][n], same[n]) for n in same)


def test_learning_rate_changes_at_its_boundaries():
    rate = lambda step: piecewise_rate(step, (100_000, 150_000), (3e-4, 1e-4, 2e-5))
    assert [rate(s) for s in (0, 99_999, 100_000, 149_999, 150_000, 10 ** 7)] == [3e-4, 3e-4, 1e-4, 1e-4, 2e-5, 2e-5]
    assert piecewise_rate(12345, (), (7e-4,)) == 7e-4
