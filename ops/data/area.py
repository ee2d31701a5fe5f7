"""Area averaging: an output pixel is the mean of what it covers, weighted by the covered area."""
import numpy as np


def area_weights(n_in, n_out, scale, start):
    """One axis of an exact area resampling, as a matrix.

    Input pixel i, of width `scale` (in output pixels), lies at [start + i scale, start + (i+1)
    scale) on the output's axis.  Returns [n_out, n_in] float64: the length of each output pixel
    [o, o+1) that each input pixel covers.  `weights_y @ image @ weights_x.T` is the resampled
    image; what falls outside is cut, what is not covered is zero.
    """
    left = start + scale * np.arange(n_in)
    out = np.arange(n_out)[:, None]
    overlap = np.minimum(left + scale, out + 1) - np.maximum(left, out)
    return np.where(overlap > 1e-9, overlap, 0.0)  # a rounding error is no overlap


def halve(images):
    """[n, 2h, 2w] uint8 -> [n, h, w] uint8: the mean of each 2x2 block, rounded (halves up)."""
    n, height, width = images.shape
    blocks = images.reshape(n, height // 2, 2, width // 2, 2).astype(np.uint16)
    return ((blocks.sum(axis=(2, 4)) + 2) // 4).astype(np.uint8)
