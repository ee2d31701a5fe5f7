"""Arguments for each `fast` function of unsup_meta.py: CASES = {name: (function, maker of arguments, data)}.

`data`: positions of arguments that are never differentiated, such as labels.
"""
import numpy as np

from checks import random_phi, random_theta, um, values
from ops.rule.primitive import flatten


def normal(*shapes, scale=1.0):
    """A maker of standard normal arrays of the given shapes; what is not a shape is passed on."""
    return lambda rng: [scale * rng.standard_normal(s) if isinstance(s, tuple) else s for s in shapes]


def part_of_theta(rng, B, *beginnings, **dims):
    theta = random_theta(rng, B, **dims)
    return {name: a for name, a in theta.items() if name.startswith(beginnings)}


def base_cases():
    for shape in ((4, 3), (5,)):
        yield f"moving_average {shape}", um.moving_average, normal(shape, shape, 0.3), ()
    for x, W, scale in (((2, 3, 6, 4), (4, 5), 1), ((5, 2), (2, 2), 1), ((6, 3), (3, 1), 1), ((2, 3), (3, 4), 1e-3)):
        yield f"base_layer {x} {W}", um.base_layer, normal(x, W, W[1:], scale=scale), ()


def objective_cases():
    for xa, xb in (((2, 3, 7, 5), (2, 3, 7, 5)), ((7, 5), (7, 5)), ((2, 7, 5), (2, 4, 5))):
        make = lambda rng, xa=xa, xb=xb: [random_phi(rng, [5, 4, 3]), *normal(xa, xb)(rng)]
        yield f"embeddings {xa} {xb}", um.embeddings, make, (1, 2)
    for lead in ((), (2,), (2, 3)):
        yield f"solve_ridge {lead}", um.solve_ridge, normal(lead + (6, 4), lead + (6, 3), 0.1), ()
    yield "solve_ridge, fewer points", um.solve_ridge, normal((2, 5), (2, 1), 0.1), ()
    for cosine in (True, False):
        make = lambda rng, cosine=cosine: [*normal((2, 4, 3), (2, 4, 3))(rng), cosine]
        yield f"prediction_error {cosine}", um.prediction_error, make, (1,)


def backward_cases():
    for B, N, M, H, D in ((3, 4, 5, 5, 2), (3, 1, 3, 1, 2), (4, 3, 1, 2, 3)):
        make = lambda rng, B=B, N=N, M=M, H=H, D=D: [
            *normal((B, N, D), (B, N), (B, N, H), (M, N))(rng), part_of_theta(rng, B, "error/", hdims=H, delta=D)]
        yield f"next_d {B} {N} {M} {H} {D}", um.next_d, make, ()


def update_cases():
    for name, sizes, B, H, R, e in (("two layers", [4, 5, 3], 3, 4, 2, 1.0), ("one layer", [3, 2], 4, 3, 1, 1e-3),
                                    ("units of one", [1, 2, 1], 3, 2, 2, 1.0),
                                    ("wide, narrow, wide, wide", [30, 3, 25, 20], 2, 3, 1, 1.0)):
        def make(rng, sizes=sizes, B=B, H=H, R=R, e=e):
            xs, hs = ([rng.standard_normal((B, n) + more) for n in sizes] for more in ((), (H,)))
            theta = part_of_theta(rng, B, "readout/", "merge", "bias", hdims=H, rank=R)
            return [random_phi(rng, sizes), xs, hs, theta, e]
        yield f"compute_delta_weight, {name}", um.compute_delta_weight, make, ()

    def turned_against(rng):
        """Every plane against W (App.59 projects), and biases that drift (App.62)."""
        phi, xs, hs, theta, e = make(rng, [4, 5, 3], 3, 4, 2, 1.0)
        theta["merge"][0], theta["bias"] = -5.0, np.abs(theta["bias"])
        return [phi, xs, [np.abs(h) for h in hs], theta, e]
    yield "compute_delta_weight, against W", um.compute_delta_weight, turned_against, ()


def convolution_cases():
    for B, N, T, D in ((5, 4, 3, 2), (2, 6, 4, 3), (3, 3, 1, 1)):
        make = lambda rng, B=B, N=N, T=T, D=D: [rng.standard_normal((B, N)), part_of_theta(rng, B, "top_d/", top=T, delta=D)]
        yield f"top_d {B} {N} {T}", um.top_d, make, ()
    for name, B, N, D, H, below, above in (("both", 4, 5, 3, 4, 3, 2), ("no W", 3, 4, 2, 3, None, 5), ("no W above", 5, 3, 1, 2, 4, None),
                                           ("two in a batch", 2, 5, 2, 1, 1, 1), ("three units", 4, 3, 2, 2, 2, 1)):
        def make(rng, B=B, N=N, D=D, H=H, below=below, above=above):
            W, W_above = (None if n is None else rng.standard_normal(s) for n, s in ((below, (below, N)), (above, (N, above))))
            return [*normal((B, N, D), (B, N), (B, N))(rng), W, W_above, rng.standard_normal(N),
                    part_of_theta(rng, B, "compute_h/", hdims=H, delta=D)]
        yield f"compute_h, {name}", um.compute_h, make, ()


GROUPS = (base_cases, objective_cases, backward_cases, update_cases, convolution_cases)
CASES = {name: case for group in GROUPS for name, *case in group()}


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
