"""Pictures made from nothing: silhouettes, smooth fields, dead leaves, random decoders, and crops of all of these.

Each function draws a group: the images of CLASSES classes that share a style, [CLASSES * IMAGES, 196] uint8.  `strength`,
about 1, says how far the images of a class differ.
"""
import numpy as np

from ops.tasks.augment import kernel
from ops.tasks.world.views import CANVAS, CLASSES, VARIANTS, Style, views

ANGLES = 128       # the outline of a blob is a table of radii
WAVES = 7          # Fourier terms of an outline
LEAVES = 60        # of a picture of dead leaves
SMOOTH = np.outer([1, 2, 1], [1, 2, 1])[..., None, None] / 16


def squashed(x):
    """Any numbers -> 0..1, as float32."""
    return (0.5 + 0.5 * np.tanh(x)).astype(np.float32)


def field(rng, shape, slope, stretch=1.0, turn=0.0):
    """Gaussian fields [*shape, CANVAS, CANVAS] float32 of amplitude |f|^-slope, mean 0 and deviation 1 each.

    stretch, turn  frequencies along the direction `turn` (radians) count so many times: stripes across it
    """
    fy, fx = np.fft.fftfreq(CANVAS)[:, None], np.fft.rfftfreq(CANVAS)
    along, across = fx * np.cos(turn) + fy * np.sin(turn), fy * np.cos(turn) - fx * np.sin(turn)
    distance = np.sqrt((along / stretch) ** 2 + (across * stretch) ** 2)
    distance[0, 0] = np.inf
    white = rng.standard_normal((*shape, CANVAS, CANVAS), dtype=np.float32)
    smooth = np.fft.irfft2(np.fft.rfft2(white) * distance ** -slope, (CANVAS, CANVAS))
    return (smooth / smooth.std(axis=(-2, -1), keepdims=True)).astype(np.float32)


def varied(rng, shape, far):
    """Standard normal numbers [CLASSES, VARIANTS, *shape], those of a class alike: `far` 0 the same, 1 independent."""
    own, each = rng.standard_normal((CLASSES, 1, *shape)), rng.standard_normal((CLASSES, VARIANTS, *shape))
    return np.sqrt(1 - min(far, 1) ** 2) * own + min(far, 1) * each


# ---- silhouettes

def silhouettes(rng, strength):
    """Unions of one to three blobs with Fourier outlines, some mirror-symmetric, some with a hole; grey, shaded, rough."""
    canvases = silhouette_canvases(rng, strength)
    style = Style(pivot=float(canvases[0, 0, 0, 0]), shift=1.0, light=0.03, noise=0.06)  # the ground keeps its grey
    return views(rng, canvases, style.times(strength))


def silhouette_canvases(rng, strength):
    """Canvases [CLASSES, VARIANTS, CANVAS, CANVAS] float32 in 0..1 of `silhouettes`: shapes on one ground, VARIANTS outlines of a class."""
    blobs, far = int(rng.integers(1, 4)), 0.35 * strength
    symmetric, holes = rng.random() < 0.5, int(rng.random() < 0.4)
    rough, shade, ground = rng.choice([0.0, 0.25]), rng.uniform(0, 0.4), np.float32(rng.choice([0.0, 0.0, 0.0, 0.3, 1.0]))
    n = blobs + holes
    falling = rng.uniform(0.25, 0.5) / np.arange(1, WAVES + 1) ** rng.uniform(0.4, 1.2)
    cosines, sines = (varied(rng, (n, WAVES), far) * falling for _ in range(2))
    place, size = varied(rng, (n, 2), far), varied(rng, (n,), far)
    grey = squashed(varied(rng, (blobs,), far))
    if symmetric:  # about the vertical axis, from which angles count
        sines, place = 0 * sines, place * [0, 1]
    angles = 2 * np.pi * np.arange(ANGLES) / ANGLES * np.arange(1, WAVES + 1)[:, None]
    radii = np.exp(0.35 * size[..., None] + cosines @ np.cos(angles) + sines @ np.sin(angles))
    radii *= 10 / blobs ** 0.35
    if holes:
        radii[:, :, -1] *= 0.4
    levels = 0.6 * grey + (0.1 if ground == 1 else 0.4 + ground / 2)  # none as the ground
    levels = np.concatenate([levels, np.full((*grey.shape[:2], holes), ground)], axis=2)
    canvases = np.full((CLASSES * VARIANTS, CANVAS, CANVAS), ground, np.float32)
    _paint_blobs(*(np.float32(a.reshape(len(canvases), *a.shape[2:])) for a in (5 * place, radii, levels)), canvases)
    canvases = canvases.reshape(CLASSES, VARIANTS, CANVAS, CANVAS)
    slope = np.linspace(-1, 1, CANVAS, dtype=np.float32)
    lit = 1 + shade * rng.uniform(-1, 1) * slope + shade * rng.uniform(-1, 1) * slope[:, None]
    texture = field(rng, (CLASSES, VARIANTS), rng.uniform(1.2, 2.2)) if rough else np.float32(0)
    return np.where(canvases == ground, canvases, np.clip(canvases * (lit + rough * texture), 0, 1)).astype(np.float32)


@kernel
def _paint_blobs(places, radii, levels, canvases):
    """Blobs one over the other: places [n, k, 2] cells from the centre, radii [n, k, ANGLES], levels [n, k]."""
    per_radian = np.float32(ANGLES / (2 * np.pi))
    for i in range(len(canvases)):
        for k in range(places.shape[1]):
            for y in range(CANVAS):
                down = np.float32(y) - np.float32((CANVAS - 1) / 2) - places[i, k, 1]
                for x in range(CANVAS):
                    right = np.float32(x) - np.float32((CANVAS - 1) / 2) - places[i, k, 0]
                    angle = int(np.arctan2(right, down) * per_radian + np.float32(ANGLES)) % ANGLES
                    if right * right + down * down < radii[i, k, angle] ** 2:
                        canvases[i, y, x] = levels[i, k]


# ---- fields, leaves

def fields(rng, strength):
    """Smooth random fields, of one spectrum and one curve from height to grey a group."""
    return views(rng, field_canvases(rng, strength), Style().times(strength))


def field_canvases(rng, strength):
    """Canvases [CLASSES, VARIANTS, CANVAS, CANVAS] float32 in 0..1 of `fields`."""
    slope, stretch, turn, far = rng.uniform(1.3, 3.0), rng.uniform(1, 1.7), rng.uniform(0, np.pi), 0.6 * strength
    far = min(far, 1)
    own, each = field(rng, (CLASSES, 1), slope, stretch, turn), field(rng, (CLASSES, VARIANTS), slope, stretch, turn)
    height = np.sqrt(1 - far ** 2) * own + far * each
    curve = rng.integers(4)
    if curve == 1:
        height = np.abs(height) * 2 - 1.5   # ridges
    elif curve == 2:
        height = 4 * height                 # nearly black and white
    elif curve == 3:
        height = np.sin(2.5 * height)       # bands
    return squashed(height)


def leaves(rng, strength):
    """Dead leaves: ellipses and boxes of all sizes, each hiding what lies below it."""
    return views(rng, leaf_canvases(rng, strength), Style().times(strength))


def leaf_canvases(rng, strength):
    """Canvases [CLASSES, VARIANTS, CANVAS, CANVAS] float32 in 0..1 of `leaves`."""
    far, least = 0.3 * strength, rng.uniform(2.0, 4.0)
    n, boxes = CLASSES * VARIANTS, rng.choice([0.0, 0.5, 1.0])
    place = rng.uniform(0, CANVAS, (CLASSES, 1, LEAVES, 2)) + 4 * far * rng.standard_normal((CLASSES, VARIANTS, LEAVES, 2))
    size = least / rng.uniform(0.06, 1, (CLASSES, 1, LEAVES, 1)) ** 0.5  # a power law, up to four times the least
    sides = size * np.exp(0.3 * varied(rng, (LEAVES, 2), far))
    box = np.broadcast_to(rng.random((CLASSES, 1, LEAVES)) < boxes, (CLASSES, VARIANTS, LEAVES))
    turns, grey = np.pi * varied(rng, (LEAVES,), 0.2 * far), squashed(1.2 * varied(rng, (LEAVES,), far))
    numbers = np.concatenate([place, sides, np.cos(turns)[..., None], np.sin(turns)[..., None], grey[..., None],
                              box[..., None]], axis=3).astype(np.float32)
    canvases = np.full((n, CANVAS, CANVAS), 0.5, np.float32)
    _paint_leaves(numbers.reshape(n, LEAVES, 8), canvases)
    return canvases.reshape(CLASSES, VARIANTS, CANVAS, CANVAS)


@kernel
def _paint_leaves(leaves, canvases):
    """leaves [n, LEAVES, 8]: x, y, half sides along u and v, cos and sin of the turn, grey, whether a box."""
    for i in range(len(canvases)):
        for x, y, long, short, cos, sin, grey, box in leaves[i]:
            reach = np.float32(1.5) * max(long, short)
            for row in range(max(int(y - reach), 0), min(int(y + reach) + 2, CANVAS)):
                for column in range(max(int(x - reach), 0), min(int(x + reach) + 2, CANVAS)):
                    right, down = np.float32(column) - x, np.float32(row) - y
                    u, v = (cos * right + sin * down) / long, (cos * down - sin * right) / short
                    if (max(abs(u), abs(v)) if box else u * u + v * v) < 1:
                        canvases[i, row, column] = grey


# ---- decoders, crops

def decoders(rng, strength):
    """Random convolutional decoders, one a group: a class is a region of its latent space."""
    return views(rng, decoder_canvases(rng, strength), Style().times(0.7 * strength))


def decoder_canvases(rng, strength):
    """Canvases [CLASSES, VARIANTS, CANVAS, CANVAS] float32 in 0..1 of `decoders`."""
    latent, wide = int(rng.integers(6, 25)), int(rng.integers(6, 13))
    bend = (np.tanh, np.sin, lambda x: np.maximum(x, 0))[rng.integers(3)]
    x = varied(rng, (latent,), 0.45 * strength).reshape(-1, latent) @ rng.standard_normal((latent, 25 * wide))
    x = _standard(x.reshape(-1, 5, 5, wide).astype(np.float32))
    fall = rng.uniform(0.0, 0.5) ** np.array([[2, 1, 2], [1, 0, 1], [2, 1, 2]])[..., None, None]
    for out in (wide, wide, 1):
        x = bend(1.5 * x).repeat(2, axis=1).repeat(2, axis=2)
        x = _convolved(x, fall * rng.standard_normal((3, 3, x.shape[3], out)))
        x = _standard(_convolved(x, SMOOTH * np.eye(out)))
    return squashed(rng.uniform(0.6, 1.5) * x).reshape(CLASSES, VARIANTS, CANVAS, CANVAS)


def _standard(x):
    """Mean 0 and deviation 1 of each channel over the group."""
    return (x - x.mean(axis=(0, 1, 2))) / (x.std(axis=(0, 1, 2)) + np.float32(1e-6))


def _convolved(x, weights):
    """x [n, h, w, in] float32 with weights [3, 3, in, out], the border repeated."""
    weights = weights.astype(np.float32)
    h, w = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    return sum(padded[:, i:i + h, j:j + w] @ weights[i, j] for i in range(3) for j in range(3))


CANVASES = (silhouette_canvases, field_canvases, leaf_canvases, decoder_canvases)


def crops(rng, strength):
    """One picture of another family a class; its images are crops that are shifted, lit and noisy more than elsewhere."""
    canvases = CANVASES[rng.integers(len(CANVASES))](rng, 0.0)[:, :1]
    return views(rng, np.ascontiguousarray(canvases), Style(10, 0.25, 0.1, 3.0, 0.7, 0.2, 0.2).times(strength))
