"""Every `fast` function: its kernel against its definition, its VJP against autograd's and finite differences."""
import inspect
import tracemalloc

import numpy as np
import pytest
from autograd import grad

from checks import as_dtype, check_vjp, definitions, relative_error, run_vjp, um, values, with_scaled_gradients
from fast_cases import CASES
from ops.rule import conv, lateral, planes, primitive, updates
from ops.rule.fast import FAST
from ops.rule.primitive import flatten
from ops.rule.watch import watching

SEEDS = (0, 1)
LARGE = (um.embeddings, um.next_d, um.compute_delta_weight, um.top_d, um.compute_h)  # whose tapes are counted
every_case = pytest.mark.parametrize("name", CASES)


def drawn(name, seed=0):
    """(the fast function, arguments, positions of the leaves that have a gradient) of a case."""
    fun, make, data = CASES[name]
    args, wanted, start = make(np.random.default_rng(seed)), [], 0
    for position, arg in enumerate(args):
        leaves = flatten(arg)[0]
        wanted += [start + i for i, a in enumerate(leaves) if isinstance(a, np.ndarray) and position not in data]
        start += len(leaves)
    return fun, args, wanted


def other_rng(seed=0):
    """A stream that none of the arguments comes from."""
    return np.random.default_rng(seed + 1000)


def cotangents(fun, args, seed=0, dtype=np.float64):
    rng = other_rng(seed)
    return [np.asarray(rng.standard_normal(a.shape), dtype) for a in values(fun, args)]


def with_a_gradient(name, seed):
    """Leaves whose gradient is not zero for this draw: a ReLU may have cut everything off."""
    fun, args, wanted = drawn(name, seed)
    grads = run_vjp(fun.kernel, args, cotangents(fun.kernel, args, seed), wanted)[1]
    return [i for i, g in zip(wanted, grads) if np.abs(g).max() > 1e-4]


# --- Values and VJPs -----------------------------------------------------------------------------


def test_every_fast_function_has_cases():
    assert {fun for fun, _, _ in CASES.values()} == set(FAST.values())


@every_case
def test_kernels_are_called_as_their_definitions_are(name):
    fun, args, _ = drawn(name)
    parameters = inspect.signature(fun.definition).parameters
    kernel = [p for p in inspect.signature(fun.kernel).parameters.values() if p.name != "tape"]
    assert [(p.name, p.default) for p in kernel] == [(p.name, p.default) for p in parameters.values()]
    by_name = values(lambda: fun.kernel(**dict(zip(parameters, args))), [])
    assert all(np.array_equal(a, b) for a, b in zip(by_name, values(fun.kernel, args)))


@every_case
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-10), (np.float32, 1e-3)])
def test_value_and_vjp_equal_the_definition(name, dtype, tol, monkeypatch):
    precisions, pull_back = set(), primitive._pull_back

    def noted(ends, roots):
        grads = pull_back(ends, roots)
        precisions.update(g.dtype for g in grads if g is not None)
        return grads

    monkeypatch.setattr(primitive, "_pull_back", noted)  # `gradient` makes all of one precision afterwards
    for seed in SEEDS:
        fun, args, wanted = drawn(name, seed)
        narrow = as_dtype(args, dtype)
        gs = cotangents(fun.kernel, args, seed)
        outs, grads = run_vjp(fun.kernel, narrow, [g.astype(dtype) for g in gs], wanted)
        assert precisions == {np.dtype(dtype)}
        want, want_grads = run_vjp(fun.definition, args, gs, wanted)
        precisions.clear()
        alone = values(fun.kernel, narrow)
        assert len(outs) == len(want) and all(np.asarray(a).dtype == dtype for a in outs)
        for a, b, c in zip(outs, alone, want):
            assert relative_error(a, c) < tol and np.array_equal(a, b)
        for a, b in zip(grads, want_grads):  # a gradient that is zero exactly may be a rounding error here
            assert relative_error(a, b) < tol or np.abs(a - b).max() < 1e-3 * tol


@every_case
def test_definitions_keep_the_precision_that_they_are_given(name):
    fun, args, _ = drawn(name)
    assert all(a.dtype == np.float32 for a in values(fun.definition, as_dtype(args, np.float32)))


@every_case
def test_vjp_equals_finite_differences(name):
    for seed in SEEDS:
        fun, args, wanted = drawn(name, seed)
        check_vjp(fun.kernel, args, wanted, other_rng(seed))


@every_case
def test_gradient_of_one_argument_needs_no_other(name):
    fun, args, wanted = drawn(name)
    gs = cotangents(fun.kernel, args)
    for i, want in zip(wanted, run_vjp(fun.kernel, args, gs, wanted)[1]):
        assert relative_error(run_vjp(fun.kernel, args, gs, [i])[1][0], want) < 1e-13


@every_case
def test_memory_layout_does_not_matter(name):
    def every_other(a):
        wide = np.full(a.shape[:-1] + (2 * a.shape[-1],), np.nan)
        wide[..., ::2] = a
        return wide[..., ::2]

    fun, args, wanted = drawn(name)
    gs = cotangents(fun.kernel, args)
    outs, grads = run_vjp(fun.kernel, args, gs, wanted)
    leaves, rebuild = flatten(args)
    for form in (every_other, np.asfortranarray):
        other = rebuild([form(a) if isinstance(a, np.ndarray) else a for a in leaves])
        other_outs, other_grads = run_vjp(fun.kernel, other, [form(g) if g.ndim else g for g in gs], wanted)
        assert all(relative_error(a, b) < 1e-12 for a, b in zip(other_outs + other_grads, outs + grads))


# --- Is the check able to fail? ------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("factor", [1.01, 0.99])
def test_check_refuses_one_wrong_leaf_and_names_it(name, factor):
    fun, args, wanted = drawn(name)
    check_vjp(with_scaled_gradients(fun.kernel, lambda i: 1.0), args, wanted[:1], other_rng())
    for wrong in with_a_gradient(name, 0):
        copy = with_scaled_gradients(fun.kernel, lambda i: factor if i == wrong else 1.0)
        with pytest.raises(AssertionError, match=f"leaf {wrong}: VJP"):
            check_vjp(copy, args, [wrong], other_rng())


@pytest.mark.parametrize("name", ["top_d 5 4 3", "compute_h, both", "next_d 3 4 5 5 2", "compute_delta_weight, two layers"])
def test_check_refuses_one_wrong_entry(name):
    fun, args, wanted = drawn(name)
    shapes = [np.shape(a) for a in flatten(args)[0]]
    doubled_first = lambda i: 1.0 + (np.arange(np.prod(shapes[i], dtype=int)) == 0).reshape(shapes[i])
    with pytest.raises(AssertionError, match="finite differences"):
        check_vjp(with_scaled_gradients(fun.kernel, doubled_first), args, wanted, other_rng())


def test_no_argument_of_any_function_escapes_that():
    """Every array has a gradient in one of its function's cases, but for those that the function does not read."""
    def named(name, positions):
        fun, args, _ = drawn(name)
        return {(fun.__name__, path) for i, path in enumerate(paths(args)) if i in positions}

    tried = set().union(*(named(name, with_a_gradient(name, 0)) for name in CASES))
    every = set().union(*(named(name, drawn(name)[2]) for name in CASES))
    assert {path for path in every - tried } == {
        ("compute_delta_weight", "phi b"), ("embeddings", "phi V")}


def paths(args):
    """A name for each leaf: its position, and its name in theta or phi."""
    found = []
    for position, arg in enumerate(args):
        if isinstance(arg, dict):
            found += list(arg)
        elif isinstance(arg, list) and arg and isinstance(arg[0], um.Layer):
            found += [f"phi {part}" for _ in arg for part in "WbV"]
        else:
            found += [str(position)] * len(flatten(arg)[0])
    return found


# --- NaN, tiles, long runs, large means ----------------------------------------------------------


@every_case
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_in_is_nan_out(name):
    """One NaN in an argument makes the outputs NaN that it makes NaN in plain NumPy."""
    fun, args, wanted = drawn(name)
    leaves, rebuild = flatten(args)
    for i in wanted:
        bad = leaves[i].copy()
        bad.flat[-1] = np.nan
        spoilt = rebuild(leaves[:i] + [bad] + leaves[i + 1:])
        outs, want = values(fun.kernel, spoilt), values(fun.definition, spoilt)
        if fun is um.solve_ridge:  # LAPACK decides how far it spreads
            assert np.isnan(outs[0]).any()
        else:
            assert all(np.array_equal(np.isnan(a), np.isnan(b)) for a, b in zip(outs, want)), i


@every_case
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_gradient_in_is_nan_out(name):
    fun, args, wanted = drawn(name)
    outs, gs = values(fun.kernel, args), cotangents(fun.kernel, args)
    for out, g in zip(outs, gs):
        g.flat[np.argmax(np.abs(out))] = np.nan  # at the largest output, which no ReLU has cut off
    grads, want = (run_vjp(f, args, gs, wanted)[1] for f in (fun.kernel, fun.definition))
    assert all(np.isnan(a).any() or not np.isnan(b).any() for a, b in zip(grads, want))


@pytest.mark.parametrize("tile_floats", [1, 3000])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("top_d", "compute_h"))])
def test_convolution_of_many_tiles(monkeypatch, tile_floats, name):
    """At least 64 columns make a tile: the case's batch is repeated until there are several."""
    monkeypatch.setattr(conv, "TILE_FLOATS", tile_floats)
    rng = np.random.default_rng(0)
    for axis, shape, taps in ((conv.BATCH, (10, 23), 3), (conv.UNIT, (10, 23), 3), (conv.UNIT, (3, 43), 5), (conv.BATCH, (40, 30), 4)):
        m, w, g = (rng.standard_normal(s) for s in (shape + (6,), (taps, 6, 5), shape + (5,)))
        runs, of_out, out = conv.channels_first(m), conv.channels_first(g), np.empty((5, m.shape[0] * m.shape[1]))
        conv.convolve(runs, w, shape, axis, out)
        gx, gw = conv.convolve_vjp(of_out, lambda i, n: runs[:, i:i + n], w, shape, axis, True)
        (want,), (want_x, want_w) = run_vjp(lambda m, w: um.conv(m, w, axis), [m, w], [g], [0, 1])
        for a, b in ((conv.channels_last(out, shape), want), (conv.channels_last(gx, shape), want_x), (gw, want_w)):
            assert relative_error(a, b) < 1e-10


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_runs_longer_than_what_is_summed_at_once(dtype, tol):
    """A channel of 13,000 numbers is summed in pieces of 4,096, and so is the length of an update."""
    rng = np.random.default_rng(0)
    theta = {n: a for n, a in CASES["compute_h, no W"][1](rng)[-1].items()}
    d, x, z, b = (rng.standard_normal(s) for s in ((50, 260, 2), (50, 260), (50, 260), (260,)))
    args = [d, x, z, None, rng.standard_normal((260, 5)), b, theta]
    assert relative_error(um.compute_h.kernel(*as_dtype(args, dtype)), um.compute_h.definition(*args)) < tol
    merged, W = rng.standard_normal((2, 1 << 20)), 1 + rng.standard_normal((2, 1 << 20))
    delta = np.empty(W.shape, dtype)
    for i in range(2):
        planes.finish(merged[i].astype(dtype), W[i].astype(dtype), 1e-3, delta[i], np.empty(3, dtype))
        Wu = W[i] / np.sqrt((W[i] ** 2).sum() + 1e-6)
        orth = merged[i] + Wu * max(-(merged[i] * Wu).sum(), 0)
        assert relative_error(delta[i], orth / np.sqrt(1e-3 + (orth ** 2).mean())) < (1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("offset", [10.0, 1000.0])
def test_batch_norm_in_float32_survives_a_large_mean(offset):
    """A column or channel whose mean is `offset` deviations away keeps float32's precision, less that factor."""
    rng = np.random.default_rng(0)
    x, tol = (offset + rng.standard_normal((1, 8 * 20))).astype(np.float32), 1e-6 * offset
    want = um.batch_norm(x.astype(np.float64), 1)
    u, out = x.copy(), np.empty_like(x)
    conv.batch_norm_runs(u, np.zeros(1, np.float32), -np.inf, out)
    assert relative_error(out, want) < tol
    assert relative_error(um.base_layer(x.T, np.ones((1, 1), "f"), np.zeros(1, "f")), want.T) < tol


# --- Wide layers ---------------------------------------------------------------------------------

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
    theta = as_dtype({n: a for n, a in um.init_theta(rng, 2, 3, 2, 2, 1).items() if n.startswith(("readout/", "merge", "bias"))}, dtype)
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


# --- What does not fit, and calls within calls ----------------------------------------------------


@pytest.mark.parametrize("name, position, cut", [
    ("top_d 5 4 3", 0, lambda xL: np.repeat(xL, 40, axis=0)), ("compute_h, both", 0, lambda d: d[..., 1:]),
    ("compute_h, both", 3, lambda W: W[:, 1:]), ("compute_h, both", 5, lambda b: b[1:]),
    ("next_d 3 4 5 5 2", 2, lambda h: h[..., 1:]), ("next_d 3 4 5 5 2", 3, lambda V: V[:, 1:]),
    ("next_d 3 4 5 5 2", 4, lambda theta: theta | {"error/b": theta["error/b"][1:]}),
    ("compute_h, both", 6, lambda theta: theta | {"compute_h/unit1/beta": theta["compute_h/unit1/beta"][1:]}),
    ("compute_h, both", 6, lambda theta: theta | {"compute_h/conv1/w": theta["compute_h/conv1/w"][:, 1:]}),
    ("compute_delta_weight, two layers", 1, lambda xs: [xs[0], xs[1][:, 1:], xs[2]]),
    ("compute_delta_weight, two layers", 3, lambda theta: theta | {"merge": theta["merge"][1:]})])
def test_arguments_that_do_not_fit_reach_no_kernel(name, position, cut):
    fun, args, _ = drawn(name)
    args[position] = cut(args[position])
    with pytest.raises(ValueError, match="fit|batches of 5"):
        fun.kernel(*args)


def test_a_gradient_of_a_gradient_is_refused():
    inner = lambda p: grad(lambda q: um.np.sum(um.moving_average.kernel(p, q, 0.3) ** 2))(np.ones(3))
    with pytest.raises(ValueError, match="gradients of gradients"):
        grad(lambda p: um.np.sum(inner(p)))(np.ones(3))


# --- Tapes ---------------------------------------------------------------------------------------


def test_tape_is_kept_only_while_tracing():
    tapes = []

    @primitive.block(vjp=lambda g, tape, wanted: {0: 2 * g * tape["x"]})
    def square(x, *, tape):
        tape.update(x=x)
        tapes.append(dict(tape))
        return x * x

    square(x := np.arange(3.0))
    assert tapes.pop() == {}
    _, grads = run_vjp(square, [x], [np.ones(3)], [0])
    assert np.array_equal(tapes.pop()["x"], x) and np.array_equal(grads[0], 2 * x)


@every_case
def test_untraced_function_leaves_nothing_behind(name):
    fun, args, _ = drawn(name)
    fun.kernel(*args)
    assert not primitive.NO_TAPE


@every_case
def test_a_forgotten_tape_changes_nothing(name, monkeypatch):
    """With no memory for tapes at all, a block computes again what it needs in its backward pass."""
    fun, args, wanted = drawn(name)
    gs = cotangents(fun.kernel, args)
    kept = run_vjp(fun.kernel, args, gs, wanted)
    forgotten, of = [], primitive._kept
    monkeypatch.setattr(primitive, "BUDGET", 0)
    monkeypatch.setattr(primitive, "_kept", lambda *a: (forgotten.append((result := of(*a))[0]), result)[1])
    again = run_vjp(fun.kernel, args, gs, wanted)
    assert not any(forgotten) and bool(forgotten) == (fun in LARGE)
    assert all(np.array_equal(a, b) for a, b in zip(flatten(again)[0], flatten(kept)[0]))


def test_gradients_of_a_tree_with_what_else_the_function_returns():
    a, b, c = np.arange(3.0), np.ones(3), np.ones(2)
    objective = lambda tree: (um.np.sum(tree["a"] * tree["rest"][0]) + um.np.sum(tree["a"]), [2 * tree["a"]])
    value, grads, other = primitive.gradient(objective, {"a": a, "rest": (b, c)})
    assert value == 6 and np.array_equal(other[0], 2 * a)
    for got, want in zip(flatten(grads)[0], (b + 1, a, np.zeros(2))):
        np.testing.assert_array_equal(got, want)


# --- The readout ---------------------------------------------------------------------------------


def test_targets_are_centred_and_scaled():
    """Mean of all entries 0 and mean square row length 1, for each batch by itself (App.20-21)."""
    y = np.random.default_rng(0).standard_normal((2, 3, 6, 4)) + 5
    for out in um.normalise_targets(y).reshape(-1, 6, 4):
        assert abs(out.mean()) < 1e-14 and abs((out ** 2).sum(axis=1).mean() - 1) < 1e-14


@pytest.mark.parametrize("dtype, scale", [(np.float32, 2.0**50), (np.float64, 2.0**400)])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_a_singular_matrix_gives_nan_forward_and_backward(kernels, dtype, scale, lead):
    """Points that are all alike: only the ridge makes the matrix regular, and a large scale swallows it."""
    x, y = np.full(lead + (6, 3), scale, dtype), np.ones(lead + (6, 2), dtype)
    with pytest.raises(np.linalg.LinAlgError), definitions():  # the case is what it is meant to be
        um.solve_ridge(x.astype(np.float64), y.astype(np.float64), 0.1)
    C = um.solve_ridge(x, y, 0.1)
    assert C.shape == lead + (3, 2) and C.dtype == dtype and np.isnan(C).all()
    for argnum, like in ((0, x), (1, y)):
        gradient = grad(lambda *args: um.solve_ridge(*args, 0.1).sum(), argnum)(x, y)
        assert gradient.shape == like.shape and gradient.dtype == dtype and np.isnan(gradient).all()


def test_a_matrix_of_equal_features_of_an_ordinary_size_is_solved():
    C = um.solve_ridge(np.ones((6, 3)), np.ones((6, 2)), 0.1)
    np.testing.assert_allclose(C, np.full((3, 2), 6 / (18 + 0.1)))
