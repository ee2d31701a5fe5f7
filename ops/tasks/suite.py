"""The validation suite: tasks that theta is chosen on, the same ones for every theta of every run.

Nothing in it is trained on, and none of it is a test split: letters, alphabets and photographs held out of
meta-training, letters in other styles, and families of pictures and vectors that no mixture offers.
`measure.py` says how a theta is scored on them.
"""
import zlib

import numpy as np

from ops.data.cifar10 import heldout_photographs
from ops.data.letters import HELD_OUT_LETTERS, letters_pool
from ops.data.omniglot import scripts_pool
from ops.data.places import data_dir
from ops.data.pool import grouped
from ops.errors import InputError
from ops.tasks.augment import Augmentation
from ops.tasks.mixture import sample_letters_task
from ops.tasks.task import make_task
from ops.tasks.world import world_pools

WAYS, SHOTS = 10, 10
SEED = 20190307  # of everything in the suite, whatever a run's own seed
CHOICE = 0  # the stream that a task is drawn from; further numbers: see `suite_stream`
VARIANTS = 60  # images of a photograph
SETS = {"heldout-letters": ("letters",), "scripts": ("scripts",), "restyled": ("restyled_letters",),
        "pictures": ("gratings", "strokes", "voronoi"), "photographs": ("photographs",), "vectors": ("warped32",)}
"""{set: the pools whose turn it is, task after task}."""
OPENERS = {"letters": lambda folder: letters_pool(),
           "scripts": lambda folder: _enough(scripts_pool(folder)),
           "photographs": lambda folder: _enough(photographs_pool(heldout_photographs(folder)))}


def open_suite(folder=None, names=tuple(SETS)):
    """({name: Pool} of these sets, [a line on each set that this machine lacks]); folder: of data sets, as --data-dir."""
    folder, wanted, lines = data_dir(folder), [(name, pool) for name in names for pool in SETS[name]], []
    pools = world_pools([pool for _, pool in wanted if pool not in OPENERS], folder)
    for name, pool in wanted:
        if pool in OPENERS:
            try:
                pools[pool] = OPENERS[pool](folder)
            except InputError as error:
                lines.append(f"validation goes on without {name}: {error}")
    return pools, lines


def _enough(pool):
    """The Pool.  InputError unless it has WAYS classes, each with images for labelled and test points."""
    if len(pool.counts) < WAYS or pool.counts.min() < 2 * SHOTS:
        raise InputError(f"{pool.name}: {len(pool.counts)} classes of {pool.counts.min()} images or more; give at least "
                         f"{WAYS} of {2 * SHOTS}")
    return pool


def sets_of(pools):
    """The sets whose pools are all there, in the order of SETS."""
    return [name for name, needed in SETS.items() if set(needed) <= set(pools)]


def suite_stream(name, index, purpose):
    """The random stream of one purpose of task `index` of a set."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode()), index, purpose])


def suite_task(name, index, pools):
    """Task number `index` of a set: WAYS classes at random, of one group where there are groups; pools {name: Pool}.

    Letters and made pictures are shifted by a pixel at most, as in training; what comes from files is as it is.
    """
    rng, pool = suite_stream(name, index, CHOICE), pools[SETS[name][index % len(SETS[name])]]
    if pool.name == "letters":
        return sample_letters_task(rng, pool, WAYS, 1, HELD_OUT_LETTERS)
    groups = list(pool.groups.values()) or [range(len(pool.counts))]
    classes = np.sort(rng.permutation(groups[rng.integers(len(groups))])[:WAYS])
    description = f"{pool.name}: {' '.join(pool.class_names[c] for c in classes)}"
    shift = 1 if pool.side and pool.name not in OPENERS else 0
    return make_task(rng, name, description, pool, classes, Augmentation(max_shift=shift))


def photographs_pool(photographs, number=120):
    """Photographs [n, 3, 32, 32] uint8 as classes of their own -> Pool "photographs", grey, 14x14.

    Each image is a crop of 18 to 26 pixels at random, brought to 14x14, with another contrast and brightness, and noise.
    """
    rng, made = np.random.default_rng([SEED, 2]), []
    for photograph in photographs[:number].mean(axis=1) / 255:
        side = rng.uniform(18, 26, (VARIANTS, 1, 1))
        top, left = (31 - side) * rng.random((2, VARIANTS, 1, 1))
        steps = (np.arange(28) + 0.5) / 28  # twice as fine, then averaged
        y, x = top + side * steps[:, None], left + side * steps
        i, j = y.astype(int), x.astype(int)
        dy, dx = y - i, x - j
        crop = ((1 - dy) * ((1 - dx) * photograph[i, j] + dx * photograph[i, j + 1])
                + dy * ((1 - dx) * photograph[i + 1, j] + dx * photograph[i + 1, j + 1]))
        crop = crop.reshape(VARIANTS, 14, 2, 14, 2).mean(axis=(2, 4))
        mean = crop.mean(axis=(1, 2), keepdims=True)
        contrast, brightness = rng.uniform(0.6, 1.4, mean.shape), rng.uniform(-0.15, 0.15, mean.shape)
        crop = mean + contrast * (crop - mean) + brightness + rng.normal(0, 0.08, crop.shape)
        made.append(crop)
    if not made:
        raise InputError("photographs: no image; fetch the data set again")
    labels = np.repeat(np.arange(len(made)), VARIANTS)
    return grouped("photographs", _bytes(np.concatenate(made)), labels, tuple(map(str, range(len(made)))), 14)


def _bytes(images):
    """Images [n, 14, 14], to be cut off at 0 and 1 -> [n, 196] uint8."""
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8).reshape(len(images), -1)
