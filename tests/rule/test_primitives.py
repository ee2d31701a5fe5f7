"""Every primitive of `ops/` against its plain NumPy form, its VJP against autograd's and finite differences."""
import autograd.numpy as anp
import numpy as np
import pytest

import plain
from checks import check_vjp, float_arrays, relative_error, run_vjp, with_scaled_gradients
from primitive_cases import CASES, channels_first, conv_bn_relu, layer_planes, plain_conv
from plain_forms import plain_compute_h_input, plain_keep_magnitude
from ops.rule import compute_h_input, conv, norm, planes, primitive, ridge

SEEDS = (0, 1)
FEW = ("conv batch, odd", "conv_bn_relu unit, odd", "compute_h_input 4 5 3", "error_signal 3 4 2 5", "batch_norm (5, 3)",
       "normalise_columns (2, 4, 3)", "merged_planes 4 3", "keep_magnitude (-1, 1)", "readouts, feed 4 5", "solve_ridge (2,)")
every_case = pytest.mark.parametrize("name", CASES)


def drawn(name, seed=0):
    """(primitive, plain form, arguments) of a case."""
    op, plain_form, make = CASES[name]
    return op, plain_form, make(np.random.default_rng(seed))


def other_rng(seed=0):
    """A stream that none of the arguments comes from."""
    return np.random.default_rng(seed + 1000)


def wanted(name, args):
    """Positions that have a gradient: every float array but the targets of the loss, which are data."""
    return [0] if name.startswith("regression_loss") else float_arrays(args)


def cotangent(op, args, seed=0):
    return np.asarray(other_rng(seed).standard_normal(np.shape(op(*args))))


def as_float(args, dtype):
    return [a.astype(dtype) if isinstance(a, np.ndarray) else a for a in args]


# --- Values and VJPs -----------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-10), (np.float32, 2e-4)])  # 4e-13 and 2e-4 measured
def test_value_and_vjp_equal_the_plain_form(name, dtype, tol):
    for seed in SEEDS:
        op, plain_form, args = drawn(name, seed)
        args = as_float(args, dtype)
        g = cotangent(op, args, seed).astype(dtype)
        value, grads = run_vjp(op, args, g, wanted(name, args))
        want, want_grads = run_vjp(plain_form, as_float(args, np.float64), g.astype(np.float64), wanted(name, args))
        assert value.dtype == dtype and all(grad.dtype == dtype for grad in grads)
        assert relative_error(op(*args), want) < tol and relative_error(value, want) < tol
        for grad, want_grad in zip(grads, want_grads):
            assert relative_error(grad, want_grad) < tol


@every_case
def test_vjp_equals_finite_differences(name):
    for seed in SEEDS:
        op, _, args = drawn(name, seed)
        check_vjp(op, args, wanted(name, args), other_rng(seed))


@every_case
def test_gradient_of_one_argument_needs_no_other(name):
    op, _, args = drawn(name)
    g = cotangent(op, args)
    positions = wanted(name, args)
    for position, want in zip(positions, run_vjp(op, args, g, positions)[1]):
        alone, = run_vjp(op, args, g, [position])[1]
        assert relative_error(alone, want) < 1e-13


@every_case
def test_memory_layout_does_not_matter(name):
    def every_other(a):
        wide = np.full(a.shape[:-1] + (2 * a.shape[-1],), np.nan)
        wide[..., ::2] = a
        return wide[..., ::2]

    op, _, args = drawn(name)
    value, grads = run_vjp(op, args, g := cotangent(op, args), wanted(name, args))
    strided = [every_other(a) if isinstance(a, np.ndarray) else a for a in args]
    fortran = [np.asfortranarray(a) if isinstance(a, np.ndarray) else a for a in args]
    for other, other_g in ((strided, every_other(g) if g.ndim else g), (fortran, np.asfortranarray(g))):
        other_value, other_grads = run_vjp(op, other, other_g, wanted(name, args))
        assert relative_error(other_value, value) < 1e-12
        assert all(relative_error(a, b) < 1e-12 for a, b in zip(other_grads, grads))


# --- Is the check able to fail? ------------------------------------------------------------------


@pytest.mark.parametrize("name", FEW)
def test_check_accepts_a_faithful_copy(name):
    op, _, args = drawn(name)
    check_vjp(with_scaled_gradients(op, lambda i: 1.0), args, wanted(name, args), other_rng())


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("factor", [1.01, 0.99, -1.0, 0.0])
def test_check_refuses_a_wrong_vjp(name, factor):
    op, _, args = drawn(name)
    with pytest.raises(AssertionError, match="finite differences"):
        check_vjp(with_scaled_gradients(op, lambda i: factor), args, wanted(name, args), other_rng())


def with_a_gradient(name, seed):
    """Positions whose gradient is not zero for this draw: a ReLU may have cut everything off."""
    op, _, args = drawn(name, seed)
    grads = run_vjp(op, args, cotangent(op, args, seed), positions := wanted(name, args))[1]
    return [i for i, grad in zip(positions, grads) if np.abs(grad).max() > 1e-4]


@every_case
@pytest.mark.parametrize("seed", SEEDS)
def test_check_refuses_one_wrong_argument_and_names_it(name, seed):
    op, _, args = drawn(name, seed)
    for wrong in with_a_gradient(name, seed):
        for factor in (1.01, 0.99):
            copy = with_scaled_gradients(op, lambda i: factor if i == wrong else 1.0)
            with pytest.raises(AssertionError, match=f"argument {wrong}: VJP"):
                check_vjp(copy, args, wanted(name, args), other_rng(seed))


def test_no_argument_of_any_primitive_escapes_that():
    primitive_of = lambda name: name.split()[0].rstrip(",")
    tried = {(primitive_of(name), i) for name in CASES for seed in SEEDS for i in with_a_gradient(name, seed)}
    assert tried == {(primitive_of(name), i) for name in CASES for i in wanted(name, drawn(name)[2])}


@pytest.mark.parametrize("name", ["conv batch, odd", "conv_bn_relu unit, odd", "matmul (4, 3) (3, 2)"])
def test_check_refuses_one_wrong_entry(name):
    op, _, args = drawn(name)
    doubled_first = lambda i: 1.0 + (np.arange(args[i].size) == 0).reshape(args[i].shape)
    with pytest.raises(AssertionError, match="finite differences"):
        check_vjp(with_scaled_gradients(op, doubled_first), args, wanted(name, args), other_rng())


# --- NaN, tiles, tapes ---------------------------------------------------------------------------


@every_case
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_in_is_nan_out(name):
    """One NaN in an argument makes the outputs NaN that it makes NaN in plain NumPy."""
    op, plain_form, args = drawn(name)
    for position in float_arrays(args):
        for index in (0, args[position].size - 1):
            bad = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
            bad[position].flat[index] = np.nan
            if name.startswith("solve_ridge"):  # LAPACK decides how far it spreads
                assert np.isnan(op(*bad)).any()
            else:
                assert np.array_equal(np.isnan(op(*bad)), np.isnan(plain_form(*bad))), (position, index)


@every_case
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_gradient_in_is_nan_out(name):
    draws = (drawn(name, seed) for seed in range(9))
    op, plain_form, args = next((case for case in draws if np.any(case[0](*case[2]))), drawn(name))
    g = cotangent(op, args)
    g.flat[np.argmax(np.abs(op(*args)))] = np.nan  # at the largest output, which no ReLU has cut off
    grads, want_grads = (run_vjp(f, args, g, wanted(name, args))[1] for f in (op, plain_form))
    for grad, want in zip(grads, want_grads):
        assert np.isnan(grad).any() == np.isnan(want).any()


@pytest.mark.parametrize("axis", [conv.BATCH, conv.UNIT])
@pytest.mark.parametrize("op, plain_form", [(conv.conv, plain_conv), (conv_bn_relu, plain.conv_bn_relu)])
@pytest.mark.parametrize("tile_floats, shape, taps", [(1, (3, 10, 23), 3), (1, (2, 3, 43), 5), (None, (64, 40, 30), 3)])
def test_convolution_of_many_tiles(monkeypatch, axis, op, plain_form, tile_floats, shape, taps):
    if tile_floats is not None:
        monkeypatch.setattr(conv, "TILE_FLOATS", tile_floats)
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(s) for s in (shape, (taps, shape[0], 5), (5,))] + [axis]
    g, plain_form = cotangent(op, args), channels_first(plain_form, 0)
    (value, grads), (want, want_grads) = run_vjp(op, args, g), run_vjp(plain_form, args, g)
    assert relative_error(value, want) < 1e-10
    assert all(relative_error(a, b) < 1e-10 for a, b in zip(grads, want_grads))


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_runs_longer_than_what_is_summed_at_once(dtype, tol):
    """A channel of 13,000 numbers is summed in pieces of 4,096, and so is the length of an update."""
    rng = np.random.default_rng(0)
    draw = lambda *shapes: as_float([rng.standard_normal(s) for s in shapes], dtype)
    W, merged = 1 + draw((2, 130, 100))[0], draw((2, 130, 100))[0]
    for op, plain_form, args in (
            (conv_bn_relu, channels_first(plain.conv_bn_relu, 0), draw((3, 50, 260), (3, 3, 2), (2,)) + [conv.UNIT]),
            (compute_h_input.compute_h_input, channels_first(plain_compute_h_input, 2),
             draw((50, 260), (50, 260), (2, 50, 260), (260, 8), (260,), (6,))),
            (norm.limit_length, lambda a, e, _: a / anp.sqrt(e + anp.mean(a ** 2, axis=(1, 2), keepdims=True)), [W, 1.0, True]),
            (planes.keep_magnitude, plain_keep_magnitude, [merged - W, W])):
        g = cotangent(op, args).astype(dtype)
        value, grads = run_vjp(op, args, g)
        want, want_grads = run_vjp(plain_form, as_float(args, np.float64), g.astype(np.float64))
        assert relative_error(value, want) < tol
        assert all(relative_error(a, b) < 30 * tol for a, b in zip(grads, want_grads)), op.__name__


@pytest.mark.parametrize("offset", [10.0, 1000.0])
def test_batch_norm_in_float32_survives_a_large_mean(offset):
    """A channel whose mean is `offset` deviations away keeps float32's precision, less that factor."""
    rng = np.random.default_rng(0)
    x = (offset + rng.standard_normal((1, 8, 20))).astype(np.float32)
    args = [x, np.ones((1, 1, 1), np.float32), np.zeros(1, np.float32), conv.BATCH]
    tol = 1e-6 * offset
    plain_form = channels_first(plain.conv_bn_relu, 0)
    assert relative_error(conv_bn_relu(*args), plain_form(*as_float(args, np.float64))) < tol
    b = np.zeros(20, np.float32)
    assert relative_error(norm.batch_norm(x[0], b), plain.batch_norm(x[0].astype(np.float64), 0)) < tol


def test_convolution_refuses_channels_that_do_not_fit():
    for op in (conv.conv, conv_bn_relu):
        with pytest.raises(ValueError, match=r"\(5, 2, 3\).*\(3, 6, 4\)"):
            op(np.zeros((5, 2, 3)), np.zeros((3, 6, 4)), np.zeros(4), conv.UNIT)
        with pytest.raises(ValueError, match=r"\(3,\).*\(3, 5, 4\)"):
            op(np.zeros((5, 2, 3)), np.zeros((3, 5, 4)), np.zeros(3), conv.UNIT)


def test_tape_is_kept_only_while_tracing():
    tapes = []

    @primitive.block(vjp=lambda g, tape, wanted: {0: 2 * g * tape["x"]})
    def square(x, *, tape):
        tape.update(x=x)
        tapes.append(dict(tape))
        return x * x

    square(x := np.arange(3.0))
    assert tapes.pop() == {}
    _, grads = run_vjp(square, [x], np.ones(3))
    assert np.array_equal(tapes.pop()["x"], x) and np.array_equal(grads[0], 2 * x)


@every_case
def test_untraced_primitive_leaves_nothing_behind(name):
    op, _, args = drawn(name)
    op(*args)
    assert not primitive.NO_TAPE


def test_planes_of_a_block_of_columns_at_a_time_are_the_same(monkeypatch):
    args = layer_planes(5, 7)(np.random.default_rng(0))
    whole = planes.merged_planes(*args)
    monkeypatch.setattr(planes, "BLOCK_FLOATS", 20)
    np.testing.assert_allclose(planes.merged_planes(*args), whole, rtol=1e-12, atol=1e-14)


def test_gradients_of_many_values_at_once():
    def objective(values):
        return anp.sum(values[0] * values[1]) + anp.sum(values[0])

    a, b, c = np.arange(3.0), np.ones(3), np.ones(2)
    value, grads = primitive.value_and_gradients(objective, [a, b, c])
    assert value == 6
    for grad, expected in zip(grads, (b + 1, a, np.zeros(2))):
        np.testing.assert_array_equal(grad, expected)


def test_targets_are_centred_and_scaled():
    """Mean of all entries 0 and mean square row length 1, for each batch by itself (App.20-21)."""
    y = np.random.default_rng(0).standard_normal((2, 3, 6, 4)) + 5
    for out in ridge.normalise_targets(y).reshape(-1, 6, 4):
        assert abs(out.mean()) < 1e-14 and abs((out ** 2).sum(axis=1).mean() - 1) < 1e-14
