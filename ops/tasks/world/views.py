"""Views: the one way in which every picture of the world becomes images of a class.

A canvas shows more than an image does, so that a view may turn, scale and shift it without showing what lies beyond.
"""
from typing import NamedTuple

import numpy as np

from ops.tasks.augment import kernel

SIDE = 14    # pixels of an image's side
CANVAS = 40  # cells of a canvas's side, two a pixel: an image shows its middle 28 x 28
CLASSES, IMAGES, VARIANTS = 40, 40, 10  # of a group; of a class; canvases of a class that varies by itself


class Style(NamedTuple):
    """How far views of one class differ: each value is the largest change either way, evenly drawn.

    turn         degrees
    stretch      of the logarithm of each side's length
    shear        share of the other coordinate that is added to x
    shift        pixels, along each axis
    gain         of the logarithm of the contrast about `pivot`
    light        added to every pixel; white is 1
    noise        standard deviation of the noise of each pixel; each image has its own share of it
    pivot        the grey that a change of contrast leaves: 0 keeps a black ground black
    """
    turn: float = 15.0
    stretch: float = 0.15
    shear: float = 0.15
    shift: float = 1.5
    gain: float = 0.3
    light: float = 0.1
    noise: float = 0.1
    pivot: float = 0.5

    def times(self, strength):
        """The Style with every change that much stronger."""
        return Style(*(strength * np.array(self[:-1])), self.pivot)


def views(rng, canvases, style, count=IMAGES):
    """`count` views of each class, drawn from its canvases in turn.

    canvases [classes, variants, CANVAS, CANVAS] float32 0..1 -> images [classes * count, 196] uint8, class by class.
    """
    classes, variants = canvases.shape[:2]
    n = classes * count
    which = (np.arange(classes)[:, None] * variants + np.arange(count) % variants).reshape(-1)
    turn, *rest = rng.uniform(-1, 1, (8, n)) * np.array([np.pi / 180 * style.turn, style.stretch, style.stretch,
                                                         style.shear, style.shift, style.shift, style.gain,
                                                         style.light])[:, None]
    log_x, log_y, shear, dx, dy, gain, light = rest
    cos, sin = np.cos(turn), np.sin(turn)
    maps = np.stack([np.exp(log_x) * cos, np.exp(log_x) * (shear * cos - sin), dx,
                     np.exp(log_y) * sin, np.exp(log_y) * (shear * sin + cos), dy, np.exp(gain), light], axis=1)
    noise = rng.standard_normal((n, SIDE * SIDE), dtype=np.float32)
    noise *= (style.noise * rng.random((n, 1))).astype(np.float32)
    images = np.empty((n, SIDE * SIDE), np.uint8)
    _view(canvases.reshape(-1, CANVAS, CANVAS), which, maps.astype(np.float32), np.float32(style.pivot), noise, images)
    return images


@kernel
def _view(canvases, which, maps, pivot, noise, images):
    """images [n, 196] uint8 of canvases [m, CANVAS, CANVAS]: pixel (x, y) is the mean of four cells about it, read
    bilinearly at maps[:, :6] (x, y, 1) from the centre; then contrast maps[:, 6] about `pivot`, light maps[:, 7], noise.
    """
    quarter, half, two, last = np.float32(0.25), np.float32(0.5), np.float32(2), np.float32(CANVAS - 1.001)
    middle = np.float32((SIDE - 1) / 2)
    centre = np.float32((CANVAS - 1) / 2)
    for i in range(len(which)):
        canvas, (a, b, dx, c, d, dy, gain, light) = canvases[which[i]], maps[i]
        for y in range(SIDE):
            for x in range(SIDE):
                total = np.float32(0)
                for part in range(4):
                    u = np.float32(x) - middle + (quarter if part & 1 else -quarter)
                    v = np.float32(y) - middle + (quarter if part & 2 else -quarter)
                    column = min(max(two * (a * u + b * v + dx) + centre, np.float32(0)), last)
                    row = min(max(two * (c * u + d * v + dy) + centre, np.float32(0)), last)
                    j, k = int(row), int(column)
                    down, right = row - np.float32(j), column - np.float32(k)
                    upper = canvas[j, k] + right * (canvas[j, k + 1] - canvas[j, k])
                    lower = canvas[j + 1, k] + right * (canvas[j + 1, k + 1] - canvas[j + 1, k])
                    total += quarter * (upper + down * (lower - upper))
                value = pivot + gain * (total - pivot) + light + noise[i, y * SIDE + x]
                images[i, y * SIDE + x] = np.uint8(np.float32(255) * min(max(value, np.float32(0)), np.float32(1)) + half)
