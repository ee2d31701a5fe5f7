"""The few-shot readout: ridge regression in closed form (App.23) and its error (App.25-26), as primitives."""
import numpy as np

from ops.rule.primitive import EPS, NO_TAPE, block


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
    """What `unsup_meta.solve_ridge` defines.

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


def _prediction_error_vjp(g, tape, wanted):
    p, y, inv = tape["p"], tape["y"], tape["inv"]
    gp = (p - y) * p.dtype.type(2 * g / (p.size // p.shape[-1]))
    if inv is not None:
        gp = inv * (gp - p * (gp * p).sum(axis=-1, keepdims=True))
    return {0: gp}


@block(vjp=_prediction_error_vjp)
def _prediction_error(p, y, cosine, *, tape=NO_TAPE):
    inv = None
    if cosine:
        inv = 1 / np.sqrt((p * p).sum(axis=-1, keepdims=True) + p.dtype.type(EPS))
        p = p * inv
    tape.update(p=p, y=y, inv=inv)
    return ((p - y) ** 2).sum(axis=-1).mean()


def prediction_error(p, y, cosine=True):
    """What `unsup_meta.prediction_error` defines.  ValueError where p and y differ in shape or precision."""
    if p.shape != y.shape or p.dtype != y.dtype:
        raise ValueError(f"prediction_error: predictions {p.shape} of {p.dtype}, targets {y.shape} of {y.dtype}; "
                         "give both the same shape and precision")
    return _prediction_error(p, y, cosine)
