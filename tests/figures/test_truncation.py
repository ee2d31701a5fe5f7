"""`figure truncation`: a task as a system has the gradient of its losses; what is told of estimates; the numbers drawn."""
import numpy as np

import unsup_meta as um
from figures import truncation
from ops.engine.estimators import Truncated, UnrolledTask, cosine, told
from ops.scoring.methods import Learned
from ops.scoring.runner import Result
from small_data import open_tasks, refused, rng, small_theta


def test_a_task_is_a_system_with_the_gradient_of_its_losses():
    c, pools = open_tasks("letters", batch_size=8, pairs=1, shots=2, min_units=6, max_units=8, max_layers=2, embedding=5)
    theta = um.init_theta(rng(0), batch_size=8, hdims=4, delta=2, top=3, rank=2, dtype=np.float64)
    system = UnrolledTask(Learned(theta, 0.05, 1e-2), c, pools, 3, 4, 3)
    flat = np.concatenate([a.ravel() for a in theta.values()])
    gradient = Truncated(3).estimate(system, flat, 3)
    losses, phi = system.advance(flat, system.start(), range(3))
    J, _, after = system.gradient(flat, system.start(), range(3))
    assert np.isclose(losses.mean(), J) and all(np.allclose(a.W, b.W) for a, b in zip(phi, after))
    for seed in range(3):
        direction = rng(seed).normal(size=flat.shape)
        up, down = (system.advance(flat + sign * 1e-8 * direction, system.start(), range(3))[0].mean() for sign in (1, -1))
        assert abs((up - down) / 2e-8 - gradient @ direction) < 1e-4 * np.abs(gradient * direction).sum()
    assert np.abs(Truncated(1).estimate(system, flat, 3) - gradient).max() > 1e-3 * np.abs(gradient).max()


def test_bias_variance_and_cosines_of_estimates_that_are_known():
    whole, noise = np.array([3.0, 4.0, 0, 0]), rng(1).normal(size=(4000, 4))
    found = told(whole + [0, 0, 2.5, 0] + 0.5 * noise, whole)
    assert abs(found["bias"] - 0.25) < 0.01 and abs(found["variance"] - 4 * 0.25 / 25) < 0.004
    assert abs(found["cosines"][64] - 1 / np.sqrt(1.25)) < 0.01 and found["cosines"][1] < found["cosines"][16]


def test_numbers_are_of_gradients_and_can_be_drawn():
    whole = rng(2).normal(size=(5, 9)).astype(np.float32)
    pack = lambda g: truncation.packed(g)
    evolution = {name: {"bias": 0.1, "variance": 9.0, "cosines": {"1": 0.1, "4": 0.2}} for name in truncation.EVOLUTION}
    seconds = {"U = 1": 1.0, "U = 8": 1.0} | dict.fromkeys(truncation.EVOLUTION, 2.0)
    results = [Result({"theta": "a"}, {"truncated": {"1": pack(0.5 * g), "8": pack(g)}, "evolution": evolution, "seconds": seconds},
                      None, 1.0) for g in whole] + [Result({"theta": "a"}, None, "a, state 5: not finite", 1.0)]
    found = truncation.numbers(truncation.Settings(whole=8, lengths=(1,)), results)
    short = found["thetas"]["a"]["truncated"][1]
    assert np.isclose(short["cosine"], 1) and np.isclose(short["ratio"], 0.5) and 0.9 < short["of_mean"] <= 1 + 1e-9
    pairs = [cosine(a, b) for i, a in enumerate(whole) for b in whole[:i]]  # whose mean is that of all five
    assert np.isclose(short["between"], np.mean(pairs)) and np.isclose(short["worst"], 1)
    assert np.isclose(found["thetas"]["a"]["longest"], np.linalg.norm(whole, axis=1).max())
    assert truncation.draw(found) and "persistent" in truncation.words(found) and "state 5" in truncation.words(found)
    none = truncation.numbers(truncation.Settings(), results[-1:])
    assert truncation.draw(none) and truncation.words(none) == "a, state 5: not finite"


def test_a_state_whose_gradient_is_not_finite_is_lost_alone(monkeypatch):
    class Exploding:
        start = lambda self: 0.0
        advance = lambda self, theta, state, steps: (np.full(len(steps), np.inf), state)
        gradient = lambda self, theta, state, steps: (np.inf, np.full(theta.shape, np.nan), state)

    monkeypatch.setattr(truncation, "UnrolledTask", lambda *_: Exploding())
    monkeypatch.setattr(truncation, "open_pools", lambda *_: {})
    cell = {"name": "a, state 0", "slot": 0, "seed": 0, "warm": 0, "whole": 4, "segment": 2, "sigma": 0.1, "pairs": 1, "repeats": 4,
            "lengths": [1], "rule": Learned(small_theta(), 0.1, 1e-3)._asdict()}
    refused(["a, state 0", "not finite"], truncation.measure, cell)
    refused(["--lengths 20", "--whole 20"], truncation.cells, truncation.Settings(whole=20, lengths=(1, 20)))
