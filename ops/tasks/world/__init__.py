"""A world of tasks that needs no download: families of procedural pictures and vectors, each a Pool.

Everything is drawn from fixed random streams, so that it is the same everywhere (but for the last bit of a sum), and kept in
one file beside the data sets.  The README of this folder has a table of the families.
"""
import contextlib
import hashlib
import os
import zlib
from functools import partial
from typing import Callable, NamedTuple, Optional

import numpy as np

from ops.data import glyphs
from ops.data.places import data_dir, read_bytes, read_npz
from ops.data.pool import Pool, check_pool
from ops.errors import InputError
from ops.files import save_npz
from ops.tasks.world import characters, held_out, pictures, vectors
from ops.tasks.world.views import IMAGES, SIDE

SEED = 20190306  # of the streams, besides the family's name and the group's number
GROUPS = 10      # of a family; tasks are made of classes of one group


class Family(NamedTuple):
    """How a family is drawn.

    draw      (rng, strength) -> images of a group, class by class, IMAGES each: uint8 [., 196] or float32 vectors; with a
              source (rng, strength, Pool) -> (images, names of the classes)
    strength  (least, most): how far the images of a class differ, even over the groups.  Chosen so that a readout of 10
              examples of each of 10 classes on 32 components gets 0.4 to 0.85 right
    source    folder of data -> the Pool of characters that it is made of
    groups    how many
    """
    draw: Callable
    strength: tuple
    source: Optional[Callable] = None
    groups: int = GROUPS


PICTURES = {"silhouettes": Family(pictures.silhouettes, (0.6, 1.15)),
            "fields": Family(pictures.fields, (0.6, 0.95)),
            "leaves": Family(pictures.leaves, (0.75, 1.3)),
            "decoders": Family(pictures.decoders, (0.75, 1.15)),
            "crops": Family(pictures.crops, (0.5, 0.9)),
            "restyled": Family(characters.restyled, (0.2, 0.7), characters.training_glyphs),
            "turned": Family(characters.turned, (0.25, 0.9), characters.turned_letters)}
VECTORS = {"gaussians16": Family(partial(vectors.gaussians, 16), (0.7, 1.3)),
           "gaussians64": Family(partial(vectors.gaussians, 64), (0.65, 1.1)),
           "topics64": Family(partial(vectors.topics, 64), (0.1, 0.6)),
           "topics256": Family(partial(vectors.topics, 256), (0.9, 1.8))}
FAMILIES = PICTURES | VECTORS  # to meta-train on
HELD_OUT = {"gratings": Family(held_out.gratings, (0.2, 0.5)),  # never trained on: theta is chosen on them
            "strokes": Family(held_out.strokes, (0.5, 0.95)),
            "voronoi": Family(held_out.voronoi, (0.6, 0.95)),
            "restyled_letters": Family(characters.restyled, (0.1, 0.5), characters.held_out_letters),
            "warped32": Family(partial(vectors.warped, 32), (0.55, 1.0))}


def world_pools(names, cache_dir=None):
    """{name: Pool} of families in FAMILIES or HELD_OUT; a task is to be made of classes of one of `pool.groups`.

    cache_dir  where all families are kept once they are drawn (default `data_dir()`); drawn anew if that file was made by
               other versions or is damaged.  If it cannot be written, nothing is kept
    InputError for an unknown name.
    """
    families = FAMILIES | HELD_OUT
    for name in names:
        if name not in families:
            raise InputError(f"the world has no family '{name}'; give some of {', '.join(families)}")
    if not names:
        return {}
    key = _key()
    path = os.path.join(data_dir(cache_dir), f"world-{key[:16]}.npz")
    kept = _kept(path, key, families)
    if kept is None:
        kept = {}
        for name, family in families.items():
            kept |= _drawn(name, family, data_dir(cache_dir))
        with contextlib.suppress(InputError):  # a folder that cannot be written to: it is drawn again next time
            save_npz(path, kept | {"key": np.array(key)})
    return {name: _pool(name, kept) for name in names}


def _drawn(name, family, folder):
    """{"NAME-images", "NAME-names", "NAME-groups" (classes of each)} of a family."""
    images, names, groups = [], [], []
    source = [family.source(folder)] if family.source else []
    for group in range(family.groups):
        rng = np.random.default_rng([SEED, zlib.crc32(name.encode()), group])
        drawn = family.draw(rng, rng.uniform(*family.strength), *source)
        drawn, called = drawn if source else (drawn, range(len(drawn) // IMAGES))
        images.append(drawn)
        names += [f"{group}.{c}" for c in called]
        groups.append(len(called))
    return {f"{name}-images": np.concatenate(images), f"{name}-names": np.array(names), f"{name}-groups": np.array(groups)}


def _pool(name, kept):
    images, names, groups = (kept[f"{name}-{part}"] for part in ("images", "names", "groups"))
    counts, ends = np.full(len(names), IMAGES), np.cumsum(groups)
    images.flags.writeable = counts.flags.writeable = False
    side = SIDE if images.dtype == np.uint8 else None
    return check_pool(Pool(name, images, counts, tuple(names.tolist()), side, groups={
        str(g): tuple(range(end - size, end)) for g, (end, size) in enumerate(zip(ends.tolist(), groups.tolist()))}))


def _key():
    """Hex digest of all that the pools depend on: this code, that of letters and glyphs, and the versions of what draws with it."""
    import matplotlib
    from matplotlib import ft2font
    here = os.path.dirname(os.path.abspath(__file__))
    parts = [read_bytes(os.path.join(here, file)) for file in sorted(os.listdir(here)) if file.endswith(".py")]
    parts += [read_bytes(path) for path in (glyphs.CHARACTERS, *glyphs.CODE)]
    parts += [version.encode() for version in (np.__version__, matplotlib.__version__, ft2font.__freetype_version__)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _kept(path, key, families):
    """The arrays kept at `path`; None if there are none, or the file is damaged or has another key."""
    members = [f"{name}-{part}" for name in families for part in ("images", "names", "groups")]
    try:
        *arrays, found = read_npz(path, (*members, "key"))
    except InputError:
        return None
    kept = dict(zip(members, arrays))
    fits = all(kept[f"{name}-images"].shape[:1] == (IMAGES * len(kept[f"{name}-names"]),)
               and kept[f"{name}-groups"].sum() == len(kept[f"{name}-names"]) for name in families)
    return kept if fits and str(found) == key else None
