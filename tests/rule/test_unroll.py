"""The unroll: what it refuses, and that recomputing steps in the backward pass changes nothing."""
import tracemalloc

import numpy as np
import pytest

from checks import as_dtype, random_problem, relative_error, um
from ops.rule import compute_h, conv, primitive


def test_theta_whose_arrays_do_not_fit_is_refused_before_a_kernel_sees_it():
    theta, phi, x, labelled = random_problem(0, [7, 6, 4], 5)
    for name in ("compute_h/conv1/beta", "top_d/conv2/beta", "compute_h/in/beta", "merge"):
        for broken in ({**theta, name: np.zeros(2)}, {k: v for k, v in theta.items() if k != name}):
            with pytest.raises(ValueError, match=name):
                um.meta_gradient(broken, phi, x, labelled)
            with pytest.raises(ValueError, match=name):
                um.unsupervised_update(phi, x[0], broken)


@pytest.mark.parametrize("spoil", [
    lambda xa, ya, xb, yb: (xa[:, :1], ya, xb, yb), lambda xa, ya, xb, yb: (xa, ya, xb, yb[..., :1]),
    lambda xa, ya, xb, yb: (xa[:0], ya[:0], xb[:0], yb[:0]), lambda xa, ya, xb, yb: (xa, ya, xb[..., 1:], yb),
    lambda xa, ya, xb, yb: (xa, ya, xb.astype("f"), yb), lambda xa, ya, xb, yb: (xa, ya, xb)])
def test_labelled_batches_that_do_not_fit_are_refused(spoil):
    theta, phi, x, labelled = random_problem(0, [7, 6, 4], 5)
    with pytest.raises(ValueError, match="labelled"):
        um.meta_gradient(theta, phi, x, spoil(*labelled))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("budget", [0, 20_000, 60_000])
def test_recomputing_in_the_backward_pass_changes_nothing(kernels, monkeypatch, dtype, budget):
    """Whatever is forgotten, steps or single blocks: the same J and phi, and gradients up to the order of sums."""
    theta, phi, x, labelled = as_dtype(random_problem(0, [7, 6, 4], 5), dtype)
    kept = um.meta_gradient(theta, phi, x, labelled, 1e-2)
    runs, update = [], um.unsupervised_update
    monkeypatch.setattr(primitive, "BUDGET", budget)
    monkeypatch.setattr(um, "unsupervised_update", lambda *args: (runs.append(1), update(*args))[1])
    again = um.meta_gradient(theta, phi, x, labelled, 1e-2)
    assert len(runs) > len(x)  # steps were forgotten, and run again
    assert kept[0] == again[0]
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for name in theta:
        assert relative_error(again[1][name], kept[1][name]) < tolerance, name
    for a, b in zip(kept[2], again[2]):
        assert all(np.array_equal(u, v) for u, v in zip(a, b))


def test_a_step_that_was_forgotten_runs_twice_not_thrice(kernels, monkeypatch):
    """Its blocks keep their tapes when it runs again; and all that tapes held is released in the end."""
    theta, phi, x, labelled = random_problem(0, [7, 6, 4], 5, U=6)
    runs, of = [], conv.chain
    monkeypatch.setattr(compute_h, "chain", lambda *args: (runs.append(1), of(*args))[1])
    um.meta_gradient(theta, phi, x, labelled)
    once = len(runs)
    monkeypatch.setattr(primitive, "BUDGET", 250_000)  # three steps; a third of it is more than one
    um.meta_gradient(theta, phi, x, labelled)
    assert once < len(runs) - once < 1.6 * once
    assert primitive._held < 10_000  # of blocks that J does not depend on


def test_memory_of_an_unroll_does_not_grow_beyond_the_budget(kernels, monkeypatch):
    """What tapes hold at their fullest, by their own account and by Python's: of 24 steps no more than of a few."""
    most = {}
    for U in (3, 24):
        problem = random_problem(0, [20, 16, 16, 8], 16, U=U, hdims=8, delta=8, top=8)
        um.meta_gradient(*problem)  # buffers that are used again are there
        monkeypatch.setattr(primitive, "BUDGET", 1 << 20)
        tracemalloc.start()
        um.meta_gradient(*problem)
        most[U] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        monkeypatch.undo()
        phi_bytes = sum(a.nbytes for layer in problem[1] for a in layer)
        assert most[U] < (1 << 20) + 30 * U * phi_bytes + (1 << 20), most
    assert most[24] < 2 * most[3]
