"""The few-shot readout: ridge regression in closed form (App.22-23), its VJP, and its inputs and outputs."""
import numpy as np

from ops.errors import InputError
from ops.rule.primitive import EPS, NO_TAPE, block


def normalise_targets(y):
    """Centre by the mean of all entries, then scale rows to a mean square norm of 1 (App.20-21).

    y [..., K, targets]; leading axes are separate batches.  Raises InputError where all targets are equal.
    """
    y = y - y.mean(axis=(-2, -1), keepdims=True)
    if not y.any(axis=(-2, -1)).all():
        raise InputError("a labelled batch has the same target everywhere; give two classes or more")
    return y / np.sqrt((y * y).sum(axis=-1, keepdims=True).mean(axis=-2, keepdims=True))


def _with_ones_vjp(g, tape, wanted):
    return {0: g[..., :-1]}


@block(vjp=_with_ones_vjp)
def with_ones(x, *, tape=NO_TAPE):
    """A = [x; 1] (App.22): x [..., K, F] -> [..., K, F + 1]."""
    return np.concatenate([x, np.ones(x.shape[:-1] + (1,), x.dtype)], axis=-1)


def _transpose(a):
    return a.swapaxes(-1, -2)


def _solve(gram, right):
    """gram^-1 right [..., F, T]; NaN where a matrix is singular."""
    try:
        return np.linalg.solve(gram, right)
    except np.linalg.LinAlgError:
        return np.full(right.shape, np.nan)


def _solve_ridge_vjp(g, tape, wanted):
    A, y, C, gram = (tape[k] for k in ("A", "y", "C", "gram"))
    Q = _solve(gram, g.astype(np.float64)).astype(A.dtype)
    residual = y - np.matmul(A, C)
    return {0: np.matmul(residual, _transpose(Q)) - np.matmul(np.matmul(A, Q), _transpose(C)), 1: np.matmul(A, Q)}


@block(vjp=_solve_ridge_vjp)
def solve_ridge(A, y, ridge, *, tape=NO_TAPE):
    """C = (A'A + ridge I)^-1 A' y (App.23): A [..., K, F], y [..., K, T] -> [..., F, T].

    Solved in float64 whatever the precision of A: the matrix is ill-conditioned where features repeat.
    All NaN, like what else overflows, where features are so large that the ridge is lost and a matrix singular.
    """
    if A.shape[:-1] != y.shape[:-1]:
        raise ValueError(f"solve_ridge: features {A.shape} and targets {y.shape} are not of the same points")
    A64 = A.astype(np.float64)
    gram = np.matmul(_transpose(A64), A64) + ridge * np.eye(A.shape[-1])
    C = _solve(gram, np.matmul(_transpose(A64), y.astype(np.float64))).astype(A.dtype)
    tape.update(A=A, y=y, C=C, gram=gram)
    return C


def _regression_loss_vjp(g, tape, wanted):
    p, y, inv, cosine = (tape[k] for k in ("p", "y", "inv", "cosine"))
    gp = (p - y) * p.dtype.type(2 * g / (p.size // p.shape[-1]))
    if cosine:
        gp = inv * (gp - p * (gp * p).sum(axis=-1, keepdims=True))
    return {0: gp}


@block(vjp=_regression_loss_vjp)
def regression_loss(p, y, cosine, *, tape=NO_TAPE):
    """Mean over rows of ||p_row / ||p_row|| - y_row||^2 (App.25-26), or without the row scaling (workshop).

    p, y [..., K, T]; the norm is sqrt(||p||^2 + 1e-6).  Averages over leading axes too.
    """
    if p.shape != y.shape or p.dtype != y.dtype:
        raise ValueError(f"regression_loss: predictions {p.shape} of {p.dtype}, targets {y.shape} of {y.dtype}; "
                         "give both the same shape and precision")
    inv = None
    if cosine:
        inv = 1 / np.sqrt((p * p).sum(axis=-1, keepdims=True) + p.dtype.type(EPS))
        p = p * inv
    tape.update(p=p, y=y, inv=inv, cosine=cosine)
    return ((p - y) ** 2).sum(axis=-1).mean()
