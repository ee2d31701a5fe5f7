"""The ridge readout where its features have blown up: NaN, which the caller counts, and no exception."""
import numpy as np
import pytest
from autograd import grad

from ops.rule.ridge import solve_ridge


def features(scale, dtype, lead=()):
    """Points that are all alike: only the ridge makes the matrix regular, and a large scale swallows it."""
    return np.full(lead + (6, 3), scale, dtype)


@pytest.mark.parametrize("dtype, scale", [(np.float32, 2.0**50), (np.float64, 2.0**400)])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_a_singular_matrix_gives_nan_forward_and_backward(dtype, scale, lead):
    x, y = features(scale, dtype, lead), np.ones(lead + (6, 2), dtype)
    with pytest.raises(np.linalg.LinAlgError):  # the case is what it is meant to be
        a = x.astype(np.float64)
        np.linalg.solve(a.swapaxes(-1, -2) @ a + 0.1 * np.eye(3), np.ones(lead + (3, 2)))
    C = solve_ridge(x, y, 0.1)
    assert C.shape == lead + (3, 2) and C.dtype == dtype and np.isnan(C).all()
    for argnum, like in ((0, x), (1, y)):
        gradient = grad(lambda *args: solve_ridge(*args, 0.1).sum(), argnum)(x, y)
        assert gradient.shape == like.shape and gradient.dtype == dtype and np.isnan(gradient).all()


def test_the_same_features_of_an_ordinary_size_are_solved():
    x, y = features(1.0, np.float64), np.ones((6, 2))
    np.testing.assert_allclose(solve_ridge(x, y, 0.1), np.full((3, 2), 6 / (18 + 0.1)))
    assert np.isfinite(grad(lambda a: solve_ridge(a, y, 0.1).sum())(x)).all()
