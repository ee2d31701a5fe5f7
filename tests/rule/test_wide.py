"""Wide layers: the ten planes without lateral matrices, by blocks of columns, against the definition."""
import tracemalloc

import numpy as np
import pytest

from checks import as_dtype, check_vjp, relative_error, run_vjp, um, values
from fast_cases import CASES, cotangents, drawn, other_rng
from ops.rule import lateral, planes, updates
from ops.rule.watch import watching

SEEDS = (0, 1)
UPDATES = [name for name in CASES if name.startswith("compute_delta_weight")]


def test_the_wide_case_has_lateral_matrices_of_both_forms_on_both_sides():
    _, (phi, *_), _ = drawn("compute_delta_weight, wide, narrow, wide, wide")
    forms = [[lateral.worth_forming(2, *shape) for shape in (layer.W.shape, layer.W.shape[::-1])] for layer in phi]
    assert forms == [[False, True], [True, False], [False, False]]


@pytest.mark.parametrize("formed", [True, False])
@pytest.mark.parametrize("name", UPDATES)
def test_either_form_of_the_lateral_matrices_fits_the_definition(name, formed, monkeypatch):
    monkeypatch.setattr(lateral, "worth_forming", lambda *sizes: formed)
    for seed in SEEDS:
        fun, args, wanted = drawn(name, seed)
        gs = cotangents(fun.kernel, args, seed)
        (outs, grads), (want, want_grads) = (run_vjp(f, args, gs, wanted) for f in (fun.kernel, fun.definition))
        for a, b in zip(outs + grads, want + want_grads):
            assert relative_error(a, b) < 1e-10 or np.abs(a - b).max() < 1e-13
        check_vjp(fun.kernel, args, wanted, other_rng(seed))


def wide_update(sizes=(10, 300, 310, 5), dtype=np.float32):
    rng = np.random.default_rng(0)
    xs, hs = ([rng.standard_normal((2, n) + more).astype(dtype) for n in sizes] for more in ((), (3,)))
    theta = {n: a for n, a in um.init_theta(rng, 2, 3, 2, 2, 1).items() if n.startswith(("readout/", "merge", "bias"))}
    theta = as_dtype(theta, dtype)
    return [um.init_phi(rng, sizes, dtype), xs, hs, theta, 1.0]


def test_wide_layers_form_no_lateral_matrix_and_multiply_less():
    args = wide_update()
    with watching() as seen:
        um.compute_delta_weight(*args)
    assert not [p for p in seen.products if p[1] == p[3] and p[1] >= 300]
    assert sum(m * k * n for _, m, k, n in seen.products) < 0.1 * 4 * 300 * 310 * (300 + 310)


def test_an_update_without_gradient_takes_little_more_memory_than_two_copies_of_a_layer(monkeypatch):
    """The update itself, W and V normalised, and what goes with a block of columns."""
    args = wide_update((1200, 1200))
    monkeypatch.setattr(planes, "BLOCK_FLOATS", 2 * 1200 * 10)
    um.compute_delta_weight(*args)
    tracemalloc.start()
    try:
        um.compute_delta_weight(*args)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.4 * 2 * args[0][0].W.nbytes


def test_an_average_in_blocks_is_the_same_and_takes_no_more_memory_than_the_result(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(updates, "BLOCK_FLOATS", 1000)
    p, delta = rng.standard_normal((2, 1001, 300)).astype(np.float32)
    tracemalloc.start()
    try:
        out = um.moving_average.kernel(p, delta, 0.3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(out, um.moving_average.definition(p, delta, np.float32(0.3))) and peak < 1.1 * p.nbytes


@pytest.mark.parametrize("name", UPDATES)
def test_planes_of_a_block_of_columns_at_a_time_are_the_same(name, monkeypatch):
    fun, args, _ = drawn(name)
    whole = values(fun.kernel, args)
    monkeypatch.setattr(planes, "BLOCK_FLOATS", 20)
    for a, b in zip(values(fun.kernel, args), whole):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
