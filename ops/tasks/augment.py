"""What a task does to the images it draws (H.1), in one pass over each of them.

In this order: rotation, shift, the class's own order of the pixels, x-shift, dropout, and last the task's
permutation of the inputs.  All random numbers are drawn by NumPy beforehand (`draw_motions`), so the compiled
loops below are deterministic.
"""
import functools
from typing import NamedTuple

import numpy as np
from numba import njit

from ops.errors import InputError

kernel = functools.partial(njit, cache=True, nogil=True)
ORDERS_SEED = 20190306  # of the fixed pixel permutations, which are the same in every task and run
SIDES_OF_A_DIE = 1 << 16  # the resolution of the share of dropped inputs


class Augmentation(NamedTuple):
    """What is done to a task's images; the defaults do nothing.

    max_shift           whole pixels; y and x each uniform in -max_shift..max_shift, zeros enter.  Down and
                        right are positive.  Comes after the rotation and moves the rotated image
    rotation            degrees; the angle is uniform in [0, rotation), counter-clockwise as `np.rot90` with the
                        first row on top, about the centre (side - 1) / 2; bilinear, zeros enter
    targets             whether what was done to an image is appended to its target, after the class columns:
                        sin and cos of its angle if rotation > 0, then dx / max_shift and dy / max_shift if
                        max_shift > 0
    task_dropout        share of the inputs that are zero in every image of the task (one mask a task)
    example_dropout     share of the inputs that are zero, a new mask for each drawn image
    class_permutations  > 0: each class has its pixels in one of this many fixed orders, chosen for each class
                        when the task is made; see `fixed_orders`
    x_shift             whole pixels; each image moves by a uniform -x_shift..x_shift along x alone, right is
                        positive, zeros enter

    An input is dropped with that probability, independently of the others; those kept are not scaled up.
    """
    max_shift: int = 0
    rotation: float = 0.0
    targets: bool = False
    task_dropout: float = 0.0
    example_dropout: float = 0.0
    class_permutations: int = 0
    x_shift: int = 0

    @property
    def random(self):
        """Whether one image drawn twice comes out different."""
        return bool(self.max_shift or self.rotation or self.x_shift or self.example_dropout)

    @property
    def extras(self):
        """The number of columns that `targets` appends."""
        return 2 * self.targets * ((self.rotation > 0) + (self.max_shift > 0))

    def describe(self):
        """A few words for logs, empty where nothing is done."""
        parts = [(self.rotation, f"rotations up to {self.rotation:g} degrees"),
                 (self.max_shift, f"shifts up to {self.max_shift} px"),
                 (self.extras, "both as targets" if self.extras == 4 else "also as targets"),
                 (self.class_permutations, f"pixels in one of {self.class_permutations} orders a class"),
                 (self.x_shift, f"x-shifts up to {self.x_shift} px"),
                 (self.task_dropout, f"{self.task_dropout:g} of the inputs dropped for the task"),
                 (self.example_dropout, f"{self.example_dropout:g} of the inputs dropped for each image")]
        return ", ".join(words for done, words in parts if done)


def check_augmentation(name, augmentation, side):
    """InputError, naming the task and the argument, unless each is in range and fits images of this side."""
    a = augmentation
    moved = side is not None
    for what, value in (("max_shift", a.max_shift), ("x_shift", a.x_shift)):
        if not isinstance(value, (int, np.integer)) or not 0 <= value < (side if moved else 1):
            raise InputError(f"task '{name}': {what} {value}; give whole pixels from 0 to "
                             + (f"{side - 1}, images being {side} wide" if moved else "0, inputs being no images"))
    if not 0 <= a.rotation <= (360 if moved else 0):
        raise InputError(f"task '{name}': rotation {a.rotation}; give degrees from 0 to "
                         + ("360" if moved else "0, inputs being no images"))
    for what, value in (("task_dropout", a.task_dropout), ("example_dropout", a.example_dropout)):
        if not 0 <= value < 1:
            raise InputError(f"task '{name}': {what} {value}; give a share from 0 to below 1")
    if not isinstance(a.class_permutations, (int, np.integer)) or a.class_permutations < 0:
        raise InputError(f"task '{name}': class_permutations {a.class_permutations}; give 0 or a whole number")


@functools.lru_cache(maxsize=8)
def fixed_orders(count, pixels, channels=1):
    """The fixed pixel permutations: [count, channels * pixels] uint32, read-only.

    Row r of an image x is x[orders[r]].  The same for every task of every run, and the first ones do not depend
    on `count`.  The channels of a pixel stay together.  The identity is not made to be among them: the inputs of
    a task are permuted anyway, so no order of the pixels is special.
    """
    rng = np.random.default_rng([ORDERS_SEED, pixels])
    orders = np.stack([rng.permutation(pixels) for _ in range(count)])
    orders = np.concatenate([orders + c * pixels for c in range(channels)], axis=1).astype(np.uint32)
    orders.flags.writeable = False
    return orders


class Motions(NamedTuple):
    """What is done to each of n drawn images; an array is empty where that is not done at all.

    dy, dx    [n] int, pixels down and right
    sin, cos  [n] float32, of the angle
    slides    [n] int, pixels along x, after the class's order of the pixels
    dice      [n, N0] uint16, in the permuted order: an input is dropped where below example_dropout * 2**16
    """
    dy: np.ndarray
    dx: np.ndarray
    sin: np.ndarray
    cos: np.ndarray
    slides: np.ndarray
    dice: np.ndarray


def draw_motions(rng, augmentation, n, features):
    """The Motions of n images of N0 = `features` inputs, drawn from the Generator."""
    a, nothing = augmentation, np.zeros(0, np.int64)
    dy = dx = slides = nothing
    sin = cos = np.zeros(0, np.float32)
    dice = np.zeros((0, features), np.uint16)
    if a.max_shift:
        dy, dx = a.max_shift - rng.integers(2 * a.max_shift + 1, size=(2, n))
    if a.rotation:
        angles = np.deg2rad(a.rotation * rng.random(n))
        sin, cos = np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)
    if a.x_shift:
        slides = rng.integers(-a.x_shift, a.x_shift, endpoint=True, size=n)
    if a.example_dropout:
        dice = rng.integers(SIDES_OF_A_DIE, size=(n, features), dtype=np.uint16)
    return Motions(dy, dx, sin, cos, slides, dice)


def motion_targets(augmentation, motions):
    """[n, augmentation.extras] float32 in [-1, 1]: the columns that `Augmentation.targets` describes."""
    columns = []
    if augmentation.rotation:
        columns += [motions.sin, motions.cos]
    if augmentation.max_shift:
        columns += [motions.dx / augmentation.max_shift, motions.dy / augmentation.max_shift]
    return np.stack(columns, axis=1).astype(np.float32)


def reading_order(permutation, dropped):
    """Where each input of a task is read from in an image with a zero after its N0 cells: [N0] uint32.

    permutation [N0], dropped [N0] bool or None: inputs that are read from that zero.
    """
    if dropped is not None:
        permutation = np.where(dropped[permutation], len(permutation), permutation)
    return permutation.astype(np.uint32)


@kernel
def draw_images(images, rows, motions, owners, orders, reading, side, threshold, scale, out):
    """images[rows], with all that is done to them, into out [n, N0] float32.

    images     [., N0] uint8 or float32, divided by `scale` (float32) as they are read
    rows       [n] int
    motions    Motions of n images
    owners     [n] int, the row of `orders` that each image's class uses; empty if there are no orders
    orders     [., N0] uint32
    reading    [N0] uint32, see `reading_order`
    side       pixels, 0 for plain vectors
    threshold  int, example_dropout * 2**16
    """
    n, features = out.shape
    turned, moved, slid = len(motions.sin) > 0, len(motions.dy) > 0, len(motions.slides) > 0
    ordered, dropped = len(owners) > 0, len(motions.dice) > 0
    # The one cell more than an image has is the zero that the task's dropped inputs are read from.
    first, second = np.zeros(features + 1, np.float32), np.zeros(features + 1, np.float32)
    bordered = np.zeros((side + 3, side + 3), np.float32)
    cells, down, right = (np.zeros((side, side), np.uint32), np.zeros((side, side), np.float32),
                          np.zeros((side, side), np.float32))
    for b in range(n):
        source, image, other = images[rows[b]], first, second
        dy, dx = (motions.dy[b], motions.dx[b]) if moved else (0, 0)
        if turned:
            _rotate(source, scale, side, motions.sin[b], motions.cos[b], bordered, cells, down, right, other)
            _shift(other, np.float32(1), side, dy, dx, image)
        elif moved:
            _shift(source, scale, side, dy, dx, image)
        else:
            for i in range(features):
                image[i] = source[i] / scale
        if ordered:
            _gather(image, orders[owners[b]], other)
            image, other = other, image
        if slid:
            _shift(image, np.float32(1), side, 0, motions.slides[b], other)
            image, other = other, image
        _gather(image, reading, out[b])
        if dropped:
            for i in range(features):
                if motions.dice[b, i] < threshold:
                    out[b, i] = 0


@kernel
def _gather(values, places, target):
    """target[i] = values[places[i]] for all places."""
    for i in range(len(places)):
        target[i] = values[places[i]]


@kernel
def _shift(source, scale, side, dy, dx, image):
    """source [N0] / scale moved down by dy and right by dx, into image [N0 + 1]; zeros enter."""
    pixels, by = side * side, dy * side + dx
    for top in range(0, len(image) - 1, pixels):
        # All rows move as one, which lets pixels of the rows beside enter; they are wiped out after.
        # Slices, as an index that might be negative is checked for it each time.
        to = image[top + max(by, 0):top + pixels + min(by, 0)]
        start = source[top + max(-by, 0):]
        for i in range(len(to)):
            to[i] = start[i] / scale
        for i in range(max(dy, 0) * side):
            image[top + i] = 0
        for i in range((side + min(dy, 0)) * side, pixels):
            image[top + i] = 0
        for row in range(top, top + pixels, side):
            for x in range(max(dx, 0)):
                image[row + x] = 0
            for x in range(side + min(dx, 0), side):
                image[row + x] = 0


@kernel
def _rotate(source, scale, side, sin, cos, bordered, cells, down, right, image):
    """source [N0] / scale rotated about its centre, into image [N0 + 1]; zeros enter.

    bordered [side + 3, side + 3] holds one channel from cell (1, 1) on, zeros around it; in cells, down and
    right [side, side] lie the cell each pixel is read from and how far on towards the next ones.
    """
    centre, last, zero = np.float32((side - 1) / 2), np.float32(side + 1), np.float32(0)
    for y in range(side):
        v = np.float32(y) - centre
        for x in range(side):
            u = np.float32(x) - centre
            # Cells of the bordered image; whatever is outside of it is as its border.
            from_y = min(max(cos * v + sin * u + (centre + np.float32(1)), zero), last)
            from_x = min(max(cos * u - sin * v + (centre + np.float32(1)), zero), last)
            row, column = np.int32(from_y), np.int32(from_x)
            down[y, x], right[y, x] = from_y - np.float32(row), from_x - np.float32(column)
            cells[y, x] = row * np.int32(side + 3) + column
    values, width, pixels = bordered.reshape(-1), np.uint64(side + 3), side * side
    flat_cells, flat_down, flat_right = cells.reshape(-1), down.reshape(-1), right.reshape(-1)
    for top in range(0, len(image) - 1, pixels):
        plane, to = source[top:top + pixels], image[top:top + pixels]
        for y in range(side):
            for x in range(side):
                bordered[y + 1, x + 1] = plane[y * side + x] / scale
        for i in range(pixels):
            cell = np.uint64(flat_cells[i])
            a, b = values[cell], values[cell + width]
            a += flat_right[i] * (values[cell + np.uint64(1)] - a)
            b += flat_right[i] * (values[cell + width + np.uint64(1)] - b)
            to[i] = a + flat_down[i] * (b - a)
