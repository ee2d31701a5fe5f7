"""Estimators of a meta-gradient against a quadratic unroll whose gradient is known."""
import numpy as np
import pytest

from ops.engine.estimators import Evolution, NoiseReuse, Persistent, Truncated, segments

T, P, S = 12, 5, 3
rng = np.random.default_rng(0)
A, B = 0.8 * np.linalg.qr(rng.normal(size=(S, S)))[0], rng.normal(size=(S, P))
C, START = rng.normal(size=(T, S)), rng.normal(size=S)
THETA = rng.normal(size=P)


class Quadratic:
    """s <- A s + B theta, loss (s - c_t)^2 / 2: quadratic in theta, so that a pair of perturbations is exact on average."""

    def start(self):
        return START

    def advance(self, theta, s, steps):
        losses = []
        for t in steps:
            s = A @ s + B @ theta
            losses.append(((s - C[t]) ** 2).sum() / 2)
        return np.array(losses), s

    def gradient(self, theta, s, steps):
        J, total, loss = np.zeros((S, P)), np.zeros(P), 0.0
        for t in steps:
            s, J = A @ s + B @ theta, A @ J + B
            total += J.T @ (s - C[t]) / len(steps)
            loss += ((s - C[t]) ** 2).sum() / 2 / len(steps)
        return loss, total, s


def full():
    """d/dtheta of the mean loss, written out: s_t = A^t s_0 + (A^(t-1) + ... + 1) B theta."""
    total, power, sums = np.zeros(P), np.eye(S), np.zeros((S, S))
    for t in range(T):
        sums, power = sums + power, A @ power
        total += (sums @ B).T @ (power @ START + sums @ B @ THETA - C[t]) / T
    return total


def truncated(U):
    total, s = np.zeros(P), START
    for steps in segments(T, U):
        _, g, s = Quadratic().gradient(THETA, s, steps)
        total += g * len(steps) / T
    return total


def estimates(estimator, n, seed):
    rng = np.random.default_rng(seed)
    return np.array([estimator.estimate(Quadratic(), THETA, T, rng) for _ in range(n)])


def test_the_whole_unroll_is_exact_and_a_shorter_one_is_not():
    assert np.allclose(Truncated(T).estimate(Quadratic(), THETA, T), full())
    for U in (1, 5):
        found = Truncated(U).estimate(Quadratic(), THETA, T)
        assert np.allclose(found, truncated(U)) and np.linalg.norm(found - full()) > 0.1 * np.linalg.norm(full())


@pytest.mark.parametrize("kind, U, expected", [(Evolution, 5, "truncated"), (Evolution, T, "full"), (Persistent, 5, "full"),
                                               (Persistent, T, "full"), (NoiseReuse, 5, "full"), (NoiseReuse, T, "full")])
def test_the_mean_of_many_is_what_it_should_be(kind, U, expected):
    """Within 4 standard errors in each of its directions; of a truncated one that is not the whole gradient."""
    found = estimates(kind(U, 0.3, 1), 2000, 1)
    off = (found.mean(0) - (full() if expected == "full" else truncated(U))) / (found.std(0) / len(found) ** 0.5)
    assert np.abs(off).max() < 4, off
    if expected == "truncated":
        assert np.abs((found.mean(0) - full()) / (found.std(0) / len(found) ** 0.5)).max() > 8


def test_more_pairs_have_less_variance_and_reused_noise_less_than_fresh(monkeypatch):
    """The latter where segments pull different ways; where all pull alike, fresh noise averages over them and has less."""
    spread = lambda estimator: estimates(estimator, 500, 2).var(0).sum()
    assert 0.2 < spread(Persistent(3, 0.3, 4)) / spread(Persistent(3, 0.3, 1)) < 0.32
    for name, value, less in (("C", 9 * C, True), ("C", np.full((T, S), 9.0), False)):
        monkeypatch.setitem(globals(), "A", np.zeros((S, S)))
        monkeypatch.setitem(globals(), name, value)
        assert (spread(NoiseReuse(1, 0.3, 1)) < 0.7 * spread(Persistent(1, 0.3, 1))) == less


def test_segments_make_up_all_steps():
    assert [list(s) for s in segments(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
