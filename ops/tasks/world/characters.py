"""Families made of characters: restyled ones, and letters that are turned and mirrored."""
import numpy as np

from ops.data.glyphs import DIGITS, different_classes, distances, glyph_pool
from ops.data.letters import HELD_OUT_LETTERS, letters, letters_pool
from ops.data.pool import Pool
from ops.data.render import SIDE, bundled_fonts, render_face
from ops.tasks.world.pictures import field
from ops.tasks.world.views import CANVAS, CLASSES, VARIANTS, Style, views

FEWEST = 6               # faces that a class needs
UNLIKE_FORBIDDEN = 0.45  # a turned letter's pictures are farther than this from held-out letters and digits
UNLIKE_CLASS = 0.3       # ... and than this from every other class; glyphs' from held-out letters
UNLIKE_DIGIT = 0.36      # a glyph's pictures are farther than this from digits


# ---- which characters

def training_glyphs(folder):
    """The glyphs of FEWEST pictures or more that look neither like a digit (I, l, S do) nor like a held-out letter: a Pool."""
    pool, digits, held_out = glyph_pool(cache_dir=folder), _digits(), held_out_letters(folder).images
    starts = np.cumsum(pool.counts) - pool.counts
    images = pool.images / np.float32(255)
    return _without(pool, [c for c, (start, count) in enumerate(zip(starts, pool.counts)) if count < FEWEST
                           or _nearness(images[start:start + count], digits) <= UNLIKE_DIGIT
                           or _nearness(images[start:start + count], held_out) <= UNLIKE_CLASS])


def _digits():
    """The digits of all faces, [n, 196]: only to be told from."""
    return np.stack([image for path in bundled_fonts() for image in render_face(path, DIGITS).values()])


def held_out_letters(folder):
    """The letters that are never trained on: a Pool."""
    pool = letters_pool()
    return _without(pool, _classes(pool, letters("train")))


def turned_letters(folder):
    """Training letters in the seven symmetries of a square that are not themselves: Pool of [n, 196] float32.

    A class is left out if it passes for a held-out letter or a digit, for an upright letter or a class before it.
    """
    upright = letters_pool()
    starts = np.cumsum(upright.counts) - upright.counts
    forbidden = np.concatenate([held_out_letters(folder).images, _digits()])
    kept, names, shown = [], [], _without(upright, _classes(upright, HELD_OUT_LETTERS)).images
    for number in range(1, 8):
        for c in _classes(upright, letters("train")):
            images = _turned(upright.images[starts[c]:starts[c] + upright.counts[c]], number)
            if (_nearness(images, forbidden) > UNLIKE_FORBIDDEN and _nearness(images, shown) > UNLIKE_CLASS
                    and len(images) >= FEWEST):
                kept.append(images)
                names.append(f"{upright.class_names[c]}{'/' * (number >= 4)}{90 * (number % 4)}")
                shown = np.concatenate([shown, images])
    return Pool("turned", np.concatenate(kept), np.array([len(images) for images in kept]), tuple(names), SIDE)


def _classes(pool, names):
    return [c for c, name in enumerate(pool.class_names) if name in names]


def _nearness(images, others):
    """Mean over the images of the `distances` to the nearest of the others: 0 the same, 1 without common ink."""
    return distances(images, others).min(axis=1).mean()


def _turned(images, number):
    """images [n, 196] by symmetry `number` of the square: quarter turns 0..3, from 4 on after mirroring left to right."""
    square = images.reshape(-1, SIDE, SIDE)
    square = square[:, :, ::-1] if number >= 4 else square
    return np.rot90(square, number % 4, axes=(1, 2)).reshape(len(images), -1)


def _without(pool, classes):
    """The Pool less some classes."""
    keep = ~np.isin(np.arange(len(pool.counts)), classes)
    new = np.cumsum(keep) - 1
    alike = [tuple(int(new[c]) for c in group if keep[c]) for group in pool.alike]
    return Pool(pool.name, pool.images[np.repeat(keep, pool.counts)], pool.counts[keep],
                tuple(np.array(pool.class_names)[keep].tolist()), SIDE,
                alike=tuple(group for group in alike if len(group) > 1))


# ---- how they are drawn

def turned(rng, strength, pool):
    """Images as they are, their faces varied a little more."""
    canvases, names = character_canvases(rng, pool, 1.0)
    return views(rng, canvases, Style(pivot=0.0, light=0.0, noise=0.05).times(strength)), names


def restyled(rng, strength, pool):
    """Characters in one style a group: thick, filled, in outline or blurred; grey, shaded, on texture, inverted."""
    canvases, names = character_canvases(rng, pool, rng.uniform(1.0, 1.35))
    style = rng.choice(["plain", "thick", "filled", "outline", "blurred"])
    if style in ("thick", "outline"):
        thick = _spread(canvases, int(rng.integers(1, 3)) + (style == "outline"))
        canvases = thick - canvases if style == "outline" else thick
    elif style == "filled":
        canvases = np.maximum(canvases, _inside(canvases > 0.4))
    elif style == "blurred":
        for _ in range(rng.integers(2, 6)):
            canvases = _blurred(canvases)
        canvases = np.minimum(1.5 * canvases, 1)
    ink, ground = _surface(rng, canvases.shape, rng.uniform(0.7, 1.0)), 0.0
    if (on := rng.random()) < 0.7:
        ground = _surface(rng, canvases.shape, rng.uniform(0.1, 0.3))
    canvases = ground + canvases * (ink - ground)
    canvases = 1 - canvases if rng.random() < 0.4 else canvases
    pivot = 0.0 if on >= 0.7 else 0.5
    return views(rng, np.float32(canvases), Style(pivot=pivot, light=0.05).times(strength)), names


def character_canvases(rng, pool, zoom):
    """(canvases [classes, VARIANTS, CANVAS, CANVAS] of faces of up to CLASSES different characters, names)."""
    starts = np.cumsum(pool.counts) - pool.counts
    alike = {c for group in pool.alike for c in group}
    different = len(pool.counts) - len(alike) + len(pool.alike)
    classes = different_classes(rng, pool, min(CLASSES, different))
    rows = np.stack([starts[c] + np.arange(VARIANTS) % pool.counts[c] if pool.counts[c] < VARIANTS else
                     starts[c] + rng.permutation(pool.counts[c])[:VARIANTS] for c in classes])
    images = pool.images[rows.reshape(-1)].reshape(-1, SIDE, SIDE)
    images = images / np.float32(255 if images.dtype == np.uint8 else 1)
    # Bilinear from the middle of the canvas outwards; black beyond the image.
    at = (np.arange(CANVAS) - (CANVAS - 1) / 2) / (2 * zoom) + (SIDE - 1) / 2
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(SIDE)), 0).astype(np.float32)
    canvases = weights @ images @ weights.T
    return canvases.reshape(*rows.shape, CANVAS, CANVAS), tuple(pool.class_names[c] for c in classes)


def _surface(rng, shape, level):
    """A grey, plain or rough, for each canvas: [classes, variants, 1 or CANVAS, 1 or CANVAS]."""
    if rng.random() < 0.4:
        return np.float32(level)
    return np.clip(level + 0.15 * field(rng, shape[:2], rng.uniform(0.8, 2.0)), 0, 1)


def _neighbours(x):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return [padded[..., 1 + i:1 + i + CANVAS, 1 + j:1 + j + CANVAS] for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0))]


def _spread(x, times):
    """Each cell the lightest of itself and its four neighbours, so many times."""
    for _ in range(times):
        x = np.maximum.reduce([x, *_neighbours(x)])
    return x


def _blurred(x):
    return (x + sum(_neighbours(x))) / 5


def _inside(ink):
    """What of bool canvases cannot be reached from their border without crossing ink."""
    outside = np.zeros_like(ink)
    outside[..., 0, :] = outside[..., -1, :] = outside[..., 0] = outside[..., -1] = True
    while True:
        more = (outside | np.logical_or.reduce(_neighbours(outside))) & ~ink
        if (more == outside).all():
            return ~outside
        outside = more
