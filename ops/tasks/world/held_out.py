"""Pictures of kinds that no family to train on has: gratings, strokes and Voronoi maps.  As those of `pictures`."""
import numpy as np

from ops.tasks.augment import kernel
from ops.tasks.world.pictures import squashed, varied
from ops.tasks.world.views import CANVAS, CLASSES, VARIANTS, Style, views

POINTS = 20  # of a stroke that are joined by dots


def _grid():
    """x and y of a canvas's cells from its centre, in pixels."""
    along = ((np.arange(CANVAS) - (CANVAS - 1) / 2) / 2).astype(np.float32)
    return along, along[:, None]


def gratings(rng, strength):
    """Sums of two or three Gabor patches, or of gratings that fill the image."""
    far, n = 0.5 * strength, int(rng.integers(2, 4))
    x, y = _grid()
    turn, phase = np.pi * varied(rng, (n, 1, 1), 0.3 * far), 2 * varied(rng, (n, 1, 1), far)
    long = 2 * np.pi / (3 + 5 * squashed(varied(rng, (n, 1, 1), far)))  # radians a pixel
    dx, dy = 3 * varied(rng, (2, n, 1, 1), far).swapaxes(0, 2).swapaxes(1, 2)
    wide = rng.choice([3.0, 20.0])
    waves = np.cos(long * (np.cos(turn) * x + np.sin(turn) * y) + phase) * np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / wide ** 2)
    return views(rng, squashed(1.2 * waves.sum(axis=2)), Style(turn=10).times(strength))


def strokes(rng, strength):
    """Doodles of one to four curved strokes with a pen of one width; white on black, or the other way round."""
    far, n, width = 0.3 * strength, int(rng.integers(1, 5)), rng.uniform(1.2, 2.5)
    corners = 6 * varied(rng, (n, 4, 2), far)  # of a cubic Bezier curve, cells
    t = np.linspace(0, 1, POINTS)[:, None]
    dots = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t ** 2 * (1 - t), t ** 3], axis=1) @ (1.4 * corners)
    canvases = np.zeros((CLASSES * VARIANTS, CANVAS, CANVAS), np.float32)
    _paint_dots(np.float32(dots.reshape(len(canvases), -1, 2) + (CANVAS - 1) / 2), np.float32(width), canvases)
    canvases = canvases.reshape(CLASSES, VARIANTS, CANVAS, CANVAS)
    canvases = 1 - canvases if rng.random() < 0.3 else canvases
    return views(rng, canvases, Style(light=0.03, pivot=float(canvases[0, 0, 0, 0])).times(strength))


@kernel
def _paint_dots(dots, width, canvases):
    """Soft discs of radius `width` at dots [n, k, 2] (x, y), in cells."""
    reach = int(width) + 2
    for i in range(len(canvases)):
        for x, y in dots[i]:
            for row in range(max(int(y) - reach, 0), min(int(y) + reach + 1, CANVAS)):
                for column in range(max(int(x) - reach, 0), min(int(x) + reach + 1, CANVAS)):
                    far = np.sqrt((np.float32(column) - x) ** 2 + (np.float32(row) - y) ** 2)
                    ink = min(max(width + np.float32(0.5) - far, np.float32(0)), np.float32(1))
                    canvases[i, row, column] = max(canvases[i, row, column], ink)


def voronoi(rng, strength):
    """Maps: each cell takes the grey of the nearest of some sites, borders drawn in half of the groups."""
    far, sites, border = 0.25 * strength, int(rng.integers(6, 25)), rng.random() < 0.5
    x, y = _grid()
    at = rng.uniform(-10, 10, (CLASSES, 1, 2, sites)) + 6 * far * rng.standard_normal((CLASSES, VARIANTS, 2, sites))
    at = at.astype(np.float32)
    grey = squashed(varied(rng, (sites,), far))
    canvases = np.empty((CLASSES, VARIANTS, CANVAS, CANVAS), np.float32)
    for c in range(CLASSES):
        px, py = (at[c, :, i, :, None, None] for i in range(2))
        distance = np.sqrt((x - px) ** 2 + (y - py) ** 2)  # [VARIANTS, sites, CANVAS, CANVAS]
        nearest, second = np.partition(distance, 1, axis=1)[:, :2].swapaxes(0, 1)
        owner = distance.argmin(axis=1)
        canvases[c] = np.take_along_axis(grey[c], owner.reshape(VARIANTS, -1), axis=1).reshape(owner.shape)
        if border:
            canvases[c][second - nearest < 0.8] = 0
    return views(rng, canvases, Style().times(strength))
