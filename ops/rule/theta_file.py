"""theta as a file: arrays theta/NAME and scalars config/NAME in an `.npz`; is it whole, of one family of shapes, finite?

`shapes_of` is `unsup_meta.theta_shapes`, which says what a theta of given sizes consists of.
"""
import numpy as np

from ops.errors import InputError
from ops.files import load_npz, save_npz

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def theta_dims(theta, source="theta"):
    """{batch_size, hdims, delta, top, rank} read off theta's shapes.

    Raises InputError where the array that tells is missing or has another number of axes.
    """
    tells = {"batch_size": ("top_d/unit1/w", 3, 1), "hdims": ("error/w", 2, 0), "delta": ("error/w", 2, 1),
             "top": ("top_d/conv2/w", 3, 1), "rank": ("readout/zero/pa", 2, 1)}
    dims = {}
    for dim, (name, ndim, axis) in tells.items():
        if name not in theta:
            raise InputError(f"{source}: array theta/{name} is missing; it is not a complete theta")
        if theta[name].ndim != ndim:
            raise InputError(f"{source}: theta/{name} has shape {theta[name].shape}, want {ndim} axes")
        dims[dim] = theta[name].shape[axis]
    return dims


def validate_theta(theta, shapes_of, source="theta", finite=True):
    """Raise InputError unless theta has every array, of one shape family, one float type, all finite."""
    wanted = shapes_of(**theta_dims(theta, source))
    missing, extra = sorted(set(wanted) - set(theta)), sorted(set(theta) - set(wanted))
    if missing:
        raise InputError(f"{source}: array theta/{missing[0]} is missing ({len(missing)} in all); not a complete theta")
    if extra:
        raise InputError(f"{source}: array theta/{extra[0]} is not a meta-parameter; see theta_shapes in unsup_meta.py")
    dtypes = {a.dtype for a in theta.values()}
    if len(dtypes) != 1 or dtypes.pop() not in FLOATS:
        raise InputError(f"{source}: arrays of theta must be all float32 or all float64")
    for name, shape in wanted.items():
        if theta[name].shape != shape:
            raise InputError(f"{source}: theta/{name} has shape {theta[name].shape}, want {shape} beside the other arrays")
        if finite and not np.isfinite(theta[name]).all():
            raise InputError(f"{source}: theta/{name} holds NaN or infinity; use an earlier checkpoint")


def load_theta(path, shapes_of):
    """{name: array} from a theta `.npz` (or a checkpoint that holds `theta/...`).

    Raises InputError (a ValueError) for a missing, corrupt or incomplete file, wrong shapes, NaN.
    """
    arrays = load_npz(path)
    theta = {name[len("theta/"):]: a for name, a in arrays.items() if name.startswith("theta/")}
    if not theta:
        raise InputError(f"{path}: no arrays named theta/...; is it a theta file?")
    validate_theta(theta, shapes_of, str(path))
    return theta


def load_settings(path, defaults):
    """{name: float} of the `config/NAME` scalars beside theta, where the file has them, else `defaults`."""
    arrays = load_npz(path)
    settings = dict(defaults)
    for name in defaults:
        value = arrays.get(f"config/{name}")
        if value is not None:
            if value.shape != () or value.dtype.kind not in "fiu" or not 0 < value < np.inf:
                raise InputError(f"{path}: config/{name} is not a positive number; write the file again")
            settings[name] = float(value)
    return settings


def save_theta(path, theta, shapes_of, **config):
    """Write theta/NAME arrays and config/NAME scalars to `path`, atomically.

    Raises InputError if theta is not complete and finite or the folder cannot be written.
    """
    validate_theta(theta, shapes_of, "theta to be saved")
    arrays = {f"theta/{name}": a for name, a in theta.items()}
    save_npz(path, arrays | {f"config/{name}": np.float64(value) for name, value in config.items()})
