"""Where theta and phi start (D2, D10)."""
import numpy as np

READOUTS = ("zero", "rbf", "first", "lin_lower", "sqr_lower", "lin_upper", "sqr_upper")
N_PLANES = 10


def truncated_normal(rng, shape, sd, dtype):
    """Normal draws with standard deviation `sd` before cutting at 2 sd; the cut ones are drawn again."""
    draws = rng.standard_normal(shape)
    while (outside := np.abs(draws) > 2).any():
        draws[outside] = rng.standard_normal(int(outside.sum()))
    return (sd * draws).astype(dtype)


def theta_shapes(batch_size, hdims, delta, top, rank):
    """{name: shape} of every meta-parameter (App.65-104 and App.35-63)."""
    B, H, D, T, R = batch_size, hdims, delta, top, rank
    kernels = {
        "top_d/conv1": (5, 1, T), "top_d/unit1": (3, B, B), "top_d/unit2": (3, B, B),
        "top_d/conv2": (3, T, T), "top_d/conv3": (3, T, T),
        "compute_h/conv1": (3, 13 + D, H), "compute_h/unit1": (3, H, H),
        "compute_h/conv2": (3, H, H), "compute_h/unit2": (3, H, H),
    }
    shapes = {}
    for name, shape in kernels.items():
        shapes[f"{name}/w"], shapes[f"{name}/beta"] = shape, (shape[2],)
    shapes.update({"top_d/out/w": (3, T, D), "top_d/out/b": (D,), "compute_h/in/beta": (4 + D,),
                   "error/w": (H, D), "error/b": (D,), "merge": (N_PLANES,), "bias": (H,)})
    for name in READOUTS:
        shapes[f"readout/{name}/pa"] = shapes[f"readout/{name}/pb"] = (H, R)
    return shapes


def initial_theta(rng, batch_size, hdims, delta, top, rank, dtype):
    """{name: array}: weights truncated normal with sd 1 / sqrt(fan in), offsets zero, merge 0.1 (D10)."""
    theta = {}
    for name, shape in theta_shapes(batch_size, hdims, delta, top, rank).items():
        if name.endswith(("/beta", "/b")):
            theta[name] = np.zeros(shape, dtype)
        elif name == "merge":
            theta[name] = np.full(shape, 0.1, dtype)
        else:
            fan_in = shape[0] if len(shape) == 1 else int(np.prod(shape[:-1]))
            theta[name] = truncated_normal(rng, shape, 1 / np.sqrt(fan_in), dtype)
    return theta
