"""`Pool`: the labelled images that tasks are made of, and how it travels between processes."""
from typing import NamedTuple, Optional

import numpy as np

from ops.errors import InputError


class Pool(NamedTuple):
    """Labelled images, grouped by class.

    name         str
    images       [n, N0] uint8 (meaning value / 255) or float32: all of class 0, then of class 1 ...
    counts       [C] int, how many images each class has; they add up to n
    class_names  tuple of C strings
    side         images are channels x side x side, channel first (N0 = channels * side * side);
                 None: plain vectors
    channels     int
    groups       {name of a group of classes: tuple of class indices}
    alike        tuple of tuples of class indices: classes that look alike, so that no task holds two of them
    left_out     tuple of ints: labels of the data set that are no classes here since they are held out
    """
    name: str
    images: np.ndarray
    counts: np.ndarray
    class_names: tuple
    side: Optional[int]
    channels: int = 1
    groups: dict = {}
    alike: tuple = ()
    left_out: tuple = ()


def grouped(name, images, labels, class_names, side, channels=1, **more):
    """Images [n, N0] in any order with labels [n] int 0..C-1 -> a Pool that `check_pool` let pass."""
    counts = np.bincount(labels, minlength=len(class_names))
    order = np.argsort(labels, kind="stable")
    return check_pool(Pool(name, images[order], counts, class_names, side, channels, **more))


def check_pool(pool):
    """The Pool, or InputError that names it and what does not fit, unless all its parts fit together.

    Reads every value of float32 images: to be called once, where a pool is opened.
    """
    check_form(pool)
    if pool.images.dtype == np.float32 and not np.isfinite(pool.images.sum(dtype=np.float64)):
        row = np.flatnonzero(~np.isfinite(pool.images).all(axis=1))[0]
        raise InputError(f"pool '{pool.name}': image {row} holds NaN or infinity; remove or replace it")
    for group, classes in [*pool.groups.items(), *(("alike", classes) for classes in pool.alike)]:
        if len(set(classes)) < len(classes) or not set(classes) <= set(range(len(pool.counts))):
            raise InputError(f"pool '{pool.name}': group '{group}' does not hold different class numbers of "
                             f"0..{len(pool.counts) - 1}; give it such")
    return pool


def check_form(pool):
    """The checks of `check_pool` that take microseconds: types, shapes and counts."""
    images, counts = pool.images, pool.counts
    if images.ndim != 2 or images.dtype not in (np.uint8, np.float32) or not images.flags.c_contiguous:
        raise InputError(f"pool '{pool.name}': images are {images.dtype} {list(images.shape)}; "
                         "give contiguous uint8 or float32 [n, N0]")
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or not len(counts) or counts.sum() != len(images):
        raise InputError(f"pool '{pool.name}': counts {list(counts.shape)} of {counts.dtype} do not describe "
                         f"{len(images)} images; give integers that add up to it")
    if len(pool.class_names) != len(counts):
        raise InputError(f"pool '{pool.name}': {len(pool.class_names)} class names for {len(counts)} classes; "
                         "give one each")
    if counts.min() < 1:
        raise InputError(f"pool '{pool.name}': class '{pool.class_names[counts.argmin()]}' has "
                         f"{counts.min()} images; leave it out or give some")
    if pool.side is not None and pool.channels * pool.side ** 2 != images.shape[1]:
        raise InputError(f"pool '{pool.name}': {pool.channels} x {pool.side} x {pool.side} pixels are not "
                         f"{images.shape[1]} inputs; give the channels and side that they have")
