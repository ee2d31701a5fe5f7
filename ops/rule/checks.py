"""Do theta, phi and batches belong together?  The kernels trust shapes and precisions: they are checked here."""
import numpy as np

from ops.errors import InputError
from ops.rule.theta_file import theta_dims, validate_theta


def check_fit(theta, phi, x, shapes_of):
    """Raise InputError unless the batch x [B, N^0], phi and theta fit in size and dtype."""
    validate_theta(theta, shapes_of, finite=False)  # a NaN shows in J; the kernels trust shapes
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
    if len(x) == 0 or len(labelled) != 4 or np.size(labelled[0]) == 0 or any(np.ndim(a) != 4 for a in labelled):
        raise InputError(f"labelled batches have shapes {shapes} for {len(x)} unlabelled ones; want four of [U, M, K, .]")
    xa, ya, xb, yb = (a.shape for a in labelled)
    if not (xa[:3] == ya[:3] and xb[:3] == yb[:3] and xa[:2] == xb[:2] == (len(x), xb[1])
            and xa[3] == xb[3] == x.shape[-1] and ya[3] == yb[3]):
        raise InputError(f"labelled batches have shapes {shapes}; want xa, ya, xb, yb of U = {len(x)}, one M, "
                         f"{x.shape[-1]} inputs and one number of targets")
    if any(a.dtype != x.dtype for a in labelled):
        raise InputError(f"labelled batches are {', '.join(str(a.dtype) for a in labelled)}; want {x.dtype} like x")


def check_targets(centred):
    """Raise InputError where all centred targets [..., K, targets] of a batch are zero: they were equal."""
    if not centred.any(axis=(-2, -1)).all():
        raise InputError("a labelled batch has the same target everywhere; give two classes or more")
