"""theta as a file, and the checks that theta, phi and a batch belong together."""
import numpy as np

from ops.errors import InputError
from ops.files import load_npz, save_npz
from ops.rule.initial import theta_shapes

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


def validate_theta(theta, source="theta", finite=True):
    """Raise InputError unless theta has every array, of one shape family, one float type, all finite."""
    wanted = theta_shapes(**theta_dims(theta, source))
    missing, extra = sorted(set(wanted) - set(theta)), sorted(set(theta) - set(wanted))
    if missing:
        raise InputError(f"{source}: array theta/{missing[0]} is missing ({len(missing)} in all); not a complete theta")
    if extra:
        raise InputError(f"{source}: array theta/{extra[0]} is not a meta-parameter; see theta_shapes in ops/initial.py")
    dtypes = {a.dtype for a in theta.values()}
    if len(dtypes) != 1 or dtypes.pop() not in FLOATS:
        raise InputError(f"{source}: arrays of theta must be all float32 or all float64")
    for name, shape in wanted.items():
        if theta[name].shape != shape:
            raise InputError(f"{source}: theta/{name} has shape {theta[name].shape}, want {shape} beside the other arrays")
        if finite and not np.isfinite(theta[name]).all():
            raise InputError(f"{source}: theta/{name} holds NaN or infinity; use an earlier checkpoint")


def load_theta(path):
    """{name: array} from a theta `.npz` (or a checkpoint that holds `theta/...`).

    Raises InputError (a ValueError) for a missing, corrupt or incomplete file, wrong shapes, NaN.
    """
    arrays = load_npz(path)
    theta = {name[len("theta/"):]: a for name, a in arrays.items() if name.startswith("theta/")}
    if not theta:
        raise InputError(f"{path}: no arrays named theta/...; is it a theta file?")
    validate_theta(theta, str(path))
    return theta


def load_settings(path, defaults):
    """{name: float} of the `config/NAME` scalars beside theta, where the file has them, else `defaults`."""
    arrays = load_npz(path)
    settings = dict(defaults)
    for name in defaults:
        value = arrays.get(f"config/{name}")
        if value is not None:
            if value.shape != () or value.dtype.kind not in "iuf" or not np.isfinite(value) or value <= 0:
                raise InputError(f"{path}: config/{name} is not a positive number; write the file again")
            settings[name] = float(value)
    return settings


def save_theta(path, theta, **config):
    """Write theta/NAME arrays and config/NAME scalars to `path`, atomically.

    Raises InputError if theta is not complete and finite or the folder cannot be written.
    """
    validate_theta(theta, "theta to be saved")
    arrays = {f"theta/{name}": a for name, a in theta.items()}
    save_npz(path, arrays | {f"config/{name}": np.float64(value) for name, value in config.items()})


def check_theta(theta, phi, x):
    """Raise InputError unless the batch x [B, N^0], phi and theta fit in size and in dtype."""
    validate_theta(theta, finite=False)  # a NaN shows in J; the kernels trust shapes
    B = theta_dims(theta)["batch_size"]
    if x.ndim != 2 or x.shape[0] != B:
        raise InputError(f"theta is tied to batches of {B} (top_d/unit1), but x has shape {tuple(x.shape)}; "
                         f"give batches of {B} or a theta meta-trained with batch size {len(x)}")
    check_phi(phi, x.shape[1])
    dtypes = {a.dtype for a in (x, theta["merge"], *(a for layer in phi for a in layer))}
    if len(dtypes) != 1:
        names = ", ".join(sorted(map(str, dtypes)))
        raise InputError(f"x, phi and theta must share one dtype, float32 or float64; got {names}")


def check_phi(phi, inputs):
    """Raise InputError unless phi's layers chain from `inputs` = N^0 on."""
    if not phi:
        raise InputError("phi has no layers; make it with init_phi(rng, [N0, ..., NL])")
    below = inputs
    for l, (W, b, V) in enumerate(phi, start=1):
        if W.ndim != 2 or W.shape[0] != below or V.shape != W.shape or b.shape != (W.shape[1],):
            raise InputError(f"layer {l} of phi has W {W.shape}, b {b.shape}, V {V.shape}; want W and V [{below}, n], b [n]")
        below = W.shape[1]


def check_labelled(labelled, x):
    """Raise InputError unless (xa, ya, xb, yb) are [U, M, K, .] batches for the U unlabelled batches x."""
    shapes = ", ".join(str(np.shape(a)) for a in labelled)
    if len(x) == 0 or len(labelled) != 4 or any(np.ndim(a) != 4 for a in labelled):
        raise InputError(f"labelled batches have shapes {shapes} for {len(x)} unlabelled ones; want four of [U, M, K, .]")
    xa, ya, xb, yb = (a.shape for a in labelled)
    if not (xa[:3] == ya[:3] and xb[:3] == yb[:3] and xa[:2] == xb[:2] == (len(x), xb[1])
            and xa[3] == xb[3] == x.shape[-1] and ya[3] == yb[3]):
        raise InputError(f"labelled batches have shapes {shapes}; want xa, ya, xb, yb of U = {len(x)}, one M, "
                         f"{x.shape[-1]} inputs and one number of targets")
    if any(a.dtype != x.dtype for a in labelled):
        raise InputError(f"labelled batches are {', '.join(str(a.dtype) for a in labelled)}; want {x.dtype} like x")
