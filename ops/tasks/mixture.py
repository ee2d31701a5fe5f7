"""The mixture of task sets that theta is meta-trained on, and how a task is drawn from it (H.1).

A mixture is written "glyphs:0.5,cifar10:0.25,mine.npz:0.25".  Each set gives tasks of its own kinds; dropout, pixel
orders and x-shifts come on top, each with a probability of its own.
"""
import math
import os

import numpy as np

from ops.data.cifar10 import cifar10_pool
from ops.data.glyphs import different_classes, glyph_pool
from ops.data.imagenet16 import imagenet16_pool
from ops.data.letters import letters, letters_pool
from ops.data.places import data_dir
from ops.data.user import is_user_file, user_pool
from ops.errors import InputError
from ops.tasks.augment import Augmentation
from ops.tasks.task import log_name, make_task
from ops.tasks.world import FAMILIES, PICTURES, VECTORS, world_pools

SETS = ("letters", "glyphs", "cifar10", "imagenet16", *FAMILIES)
SHORT = {"world": tuple(PICTURES), "vectors": tuple(VECTORS)}  # names that stand for several sets, in equal shares
FIXED_TYPES = ("letters", "maths", "currency")  # groups of glyphs with a 10-way problem of their own
FIXED_WAYS = 10  # of these, and of CIFAR-10
FEW_LABELS = 8  # so many left-out labels are named in a log, more are counted


# ---- which sets

def parse_mixture(text):
    """"NAME:SHARE,NAME,..." -> [(name, share)], shares adding up to 1: `config.tasks`.

    A name is one of SETS, one of SHORT, whose share its sets get in equal parts besides what they have by themselves, or
    the path (without commas) of a file, which must exist unless it ends in .npz; a name alone has share 1, one of share 0
    is left out.  InputError for another name, a name twice, a share that is no number, negative or not finite, and shares
    that are all 0.
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, share = part.rpartition(":")
        if not colon or is_user_file(part):
            name, share = part, "1"
        if name not in (*SETS, *SHORT) and not is_user_file(name):
            raise InputError(f"--tasks: set {name!r} is unknown and no file; give {', '.join((*SETS, *SHORT))} or the path "
                             "of an .npz with x and y")
        if name in found:
            raise InputError(f"--tasks names {name!r} twice; give it once, with its whole share")
        try:
            found[name] = float(share)
        except ValueError:
            found[name] = math.nan
        if not 0 <= found[name] < math.inf:
            raise InputError(f"--tasks: the share of {name!r} is {share!r}; give a number, 0 or more")
    total = sum(found.values())
    if not 0 < total < math.inf:
        raise InputError(f"--tasks is {text!r}, whose shares add up to {total:g}; give one or more of "
                         f"{', '.join((*SETS, *SHORT))} or the path of an .npz with x and y, as NAME or NAME:SHARE")
    shares = {}
    for name, share in found.items():
        for part in SHORT.get(name, (name,)):
            shares[part] = shares.get(part, 0) + share / total / len(SHORT.get(name, (name,)))
    return [(name, share) for name, share in shares.items() if share]


def choose_set(rng, mixture):
    """The name of a set of the mixture [(name, share)], by share; of a single one without drawing."""
    if len(mixture) == 1:
        return mixture[0][0]
    ends = np.cumsum([share for _, share in mixture])
    return mixture[min(int(np.searchsorted(ends, rng.random(), side="right")), len(mixture) - 1)][0]


def open_pools(mixture, config):
    """{name: Pool} of the sets of a parsed mixture, read or rendered once.

    Whatever a task of theirs would refuse is refused here: missing data (see `places.missing`), classes
    with too few images, fewer classes than ways, shifts that images are too small for.  InputError in each case.
    A user's file gives a Pool named as the file, or, if another set is named so too, by its path as given.
    """
    folder, pools = data_dir(config.data_dir), {}
    openers = {"letters": letters_pool, "cifar10": lambda: cifar10_pool(folder),
               "imagenet16": lambda: imagenet16_pool(folder),
               "glyphs": lambda: glyph_pool(config.font_dir or None, config.system_fonts == "yes",
                                            config.digits == "yes", cache_dir=folder)}
    world = world_pools([name for name, _ in mixture if name in FAMILIES], folder)
    for name, _ in mixture:
        pools[name] = (world[name] if name in world else openers[name]() if name in openers else
                       user_pool(name, _pool_name(name, mixture)))
        _check_tasks(name, pools[name], config)
    return pools


def _pool_name(path, mixture):
    """What logs call a user's file: its name, if that tells it from the other sets of the mixture, else its path."""
    others = {log_name(os.path.basename(name)) for name, _ in mixture if name != path}
    return path if log_name(os.path.basename(path)) in others else os.path.basename(path)


def _check_tasks(name, pool, config):
    """InputError for tasks that `sample_task` could not make of the pool."""
    every, rng, kinds = range(len(pool.counts)), np.random.default_rng(0), [_shifted(config, pool)]
    if name == "letters":
        characters = letters("train", config.case)
        sample_letters_task(rng, pool, config.ways, config.max_shift, characters)
        every, kinds = [pool.class_names.index(c) for c in characters], [Augmentation(config.max_shift)]
    elif name == "imagenet16" and max(ways := config.imagenet_ways) > len(every):
        raise InputError(f"--imagenet-ways is {','.join(map(str, ways))}, but there are {len(every)} classes to "
                         "meta-train on; ask for fewer or add files")
    elif name == "glyphs":
        for group, ways in [(None, max(config.glyph_ways)), *((g, FIXED_WAYS) for g in FIXED_TYPES)]:
            different_classes(rng, pool, ways, group)
        kinds = [_glyph_augmentation(config, augmented) for augmented in (False, True)]
    top = {field: value for field, (probability, value) in _top_fields(config, pool).items() if probability}
    for kind in kinds:
        make_task(rng, name, "", pool, every, kind).check_pairs(config.shots)
        make_task(rng, name, "", pool, every, kind._replace(**top))


def describe(mixture, pools, case="both"):
    """A line for a log on each set of the mixture: share, images, classes, inputs, megabytes.

    That of ImageNet ends with the labels that are left out since they are held out, or with their number.

    pools  as of `open_pools`; case  of the letters, as config.case
    """
    lines = []
    for name, share in mixture:
        pool = pools[name]
        counts = pool.counts
        if name == "letters":
            counts = counts[[c in letters("train", case) for c in pool.class_names]]
        lines.append(f"{name}: {share:.1%} of the tasks, {counts.sum():,} images of {len(counts):,} classes "
                     f"({counts.min():,} to {counts.max():,} each), {pool.images.shape[1]} inputs, "
                     f"{pool.images.nbytes / 1e6:.1f} MB{_left_out(pool) if name == 'imagenet16' else ''}")
    return "\n".join(lines)


def _left_out(pool):
    """", labels 18 and 79 left out: held out", the end of ImageNet's line."""
    labels = [str(label) for label in pool.left_out]
    if not labels:
        return ", no label held out"
    if len(labels) > FEW_LABELS:
        return f", {len(labels)} labels held out"
    listed = " and ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))
    return f", label{'s' * (len(labels) > 1)} {listed} left out: held out"


def largest_inputs(pools):
    """The largest N0 of the tasks of a run."""
    return max(pool.images.shape[1] for pool in pools.values())


# ---- a task

def sample_task(rng, config, pools):
    """A Task of the mixture config.tasks.

    rng     numpy Generator; the task depends on nothing else.  Drawn first to last: the set, what comes on top
            of it, the kind of task, the classes, what `make_task` draws.  A single set, and anything on top
            whose probability is 0, take no draw
    config  the settings under "tasks" in ops/engine/config.py; config.ways at most: a user's file of fewer classes
            gives what it has
    pools   {name: Pool} of `open_pools`, in any order; letters are rendered if they are not among them
    """
    name = choose_set(rng, config.tasks)
    pool = letters_pool() if name == "letters" and name not in pools else pools[name]
    top = {field: value for field, (p, value) in _top_fields(config, pool).items() if p and rng.random() < p}
    if name == "letters":
        return sample_letters_task(rng, pool, config.ways, config.max_shift, letters("train", config.case), top)
    if name == "glyphs":
        return _glyphs_task(rng, config, pool, top)
    return _images_task(rng, config, name, pool, top)


def sample_letters_task(rng, pool, ways=10, max_shift=1, characters=None, top={}):
    """A few-shot task of letters: `ways` of the characters at random, in one case each as far as that goes.

    C and c, O and o, S and s ... differ by size alone, which scaling to a box removes: no readout can tell them apart.

    rng         numpy Generator; the task depends on nothing else
    pool        Pool of `letters_pool`
    ways        number of classes
    max_shift   pixels, see Augmentation
    characters  the characters to choose from, in a string (default: letters("train"))
    top         {field of Augmentation: value}, what comes on top
    InputError if a character is not in the pool, is named twice, or there are fewer than `ways`.
    """
    characters = letters("train") if characters is None else characters
    unknown = [c for c in characters if c not in pool.class_names]
    if unknown:
        raise InputError(f"letters: '{unknown[0]}' is not among {''.join(pool.class_names)}; choose from these")
    if len(set(characters)) < len(characters):
        raise InputError(f"letters: '{characters}' names one twice; name each once")
    if not 2 <= ways <= len(characters):
        raise InputError(f"letters: {ways} ways of {len(characters)} characters; ask for 2 to {len(characters)}")
    shuffled = [str(c) for c in rng.permutation(list(characters))]
    folded = [c.lower() for c in shuffled]
    one_case_first = sorted(range(len(shuffled)), key=lambda i: folded[i] in folded[:i])
    names = "".join(sorted(shuffled[i] for i in one_case_first[:ways]))
    if top:
        rng.permutation(pool.images.shape[1])  # not used: so it was once, and a seed's tasks are to stay what they are
    augmentation = Augmentation(max_shift, **top)
    description = f"glyphs 14x14, letters {names}, {augmentation.describe() or 'as they are'}"
    classes = [pool.class_names.index(c) for c in names]
    return make_task(rng, f"letters-{names}", description, pool, classes, augmentation)


def _glyphs_task(rng, config, pool, top):
    """One of the paper's kinds, all alike likely: a random subset of so many ways, or a fixed type of character."""
    choices = config.glyph_ways
    kind = int(rng.integers(len(choices) + len(FIXED_TYPES)))
    if kind < len(choices):
        group, ways, augmented = None, choices[kind], bool(rng.random() < config.augmented)
    else:
        group, ways, augmented = FIXED_TYPES[kind - len(choices)], FIXED_WAYS, True
    classes = different_classes(rng, pool, ways, group)
    augmentation = _glyph_augmentation(config, augmented)._replace(**top)
    names = "".join(pool.class_names[c] for c in classes)
    return make_task(rng, f"glyphs-{group or ways}", f"glyphs 14x14, {ways} of {group or 'all'}: {names}, "
                     f"{augmentation.describe() or 'as they are'}", pool, classes, augmentation)


def _glyph_augmentation(config, augmented):
    """Augmented tasks turn and shift, and that is to be predicted too; the others shift a little.

    A character has fewer faces than a pair of batches needs images, so that each must differ from draw to draw.
    """
    if augmented:
        return Augmentation(max_shift=config.glyph_shift, rotation=config.rotation, targets=True)
    return Augmentation(max_shift=config.max_shift)


def _images_task(rng, config, name, pool, top):
    among = np.arange(len(pool.counts))
    if name == "imagenet16":
        ways = int(rng.choice(config.imagenet_ways))
    elif name in FAMILIES:  # classes of one style
        among = np.array(pool.groups[str(rng.integers(len(pool.groups)))])
        ways = min(config.ways, len(among))
    else:
        ways = FIXED_WAYS if name == "cifar10" else min(config.ways, len(among))
    classes, count = np.sort(rng.permutation(among)[:ways]), len(among)
    augmentation = _shifted(config, pool)._replace(**top)
    size = f"{pool.side}x{pool.side}" if pool.side else f"{pool.images.shape[1]} inputs"
    names = " ".join(pool.class_names[c] for c in classes)
    return make_task(rng, f"{log_name(pool.name)}-{ways}", f"{pool.name} {size}, {ways} of {count}: {names}, "
                     f"{augmentation.describe() or 'as they are'}", pool, classes, augmentation)


def _shifted(config, pool):
    """What is done to images other than glyphs."""
    return Augmentation(max_shift=config.image_shift if pool.side else 0)


def _top_fields(config, pool):
    """{field of Augmentation: (probability, value)} of what may come on top; plain vectors are not shifted."""
    return {"task_dropout": (config.p_task_dropout, config.dropout),
            "example_dropout": (config.p_example_dropout, config.dropout),
            "class_permutations": (config.p_class_permutation, config.class_permutations),
            "x_shift": (config.p_x_shift, config.x_shift if pool.side else 0)}
