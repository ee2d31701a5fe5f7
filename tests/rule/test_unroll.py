"""The unroll: what it refuses, and that recomputing steps in the backward pass changes nothing."""
import numpy as np
import pytest

from checks import as_dtype, random_problem, relative_error, um


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
@pytest.mark.parametrize("wide", [0, 1 << 40])
def test_recomputing_each_step_in_the_backward_pass_changes_nothing(monkeypatch, dtype, wide):
    monkeypatch.setattr(um, "WIDE", wide)  # whether blocks of a step are computed again as well
    theta, phi, x, labelled = as_dtype(random_problem(0, [7, 6, 4], 5), dtype)
    reports = {}, {}
    kept, again = (um.meta_gradient(theta, phi, x, labelled, 1e-2, report=report, recompute=recompute)
                   for recompute, report in zip((False, True), reports))
    assert kept[0] == again[0] and reports[0] == reports[1]
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for name in theta:
        assert relative_error(again[1][name], kept[1][name]) < tolerance, name
    for a, b in zip(kept[2], again[2]):
        assert all(np.array_equal(u, v) for u, v in zip(a, b))
