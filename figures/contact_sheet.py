"""Contact sheets: what a worker is given to learn from, one row a kind of task (H.1).

    python evaluate.py figure tasks --tasks glyphs:0.5,cifar10:0.5

Each labelled example is shown three times: the image in the pool, the same after its augmentation, the same as the
worker gets it, with the targets in words.  The words are read back from the y that the task returns, and the image
before the permutation is the x that it returns with the permutation undone.
"""
import dataclasses
import math
import os
import textwrap
import unicodedata
from typing import NamedTuple

import numpy as np

from ops.tasks.mixture import FIXED_TYPES, describe, sample_task

# The settings of a run of `train.py` that its tasks depend on.
TASK_SETTINGS = ("tasks", "ways", "case", "max_shift", "data_dir", "font_dir", "system_fonts", "digits", "glyph_ways",
                 "augmented", "rotation", "glyph_shift", "imagenet_ways", "image_shift", "p_task_dropout",
                 "p_example_dropout", "dropout", "p_class_permutation", "class_permutations", "p_x_shift", "x_shift",
                 "shots", "seed")
CLASSES, EXAMPLES = 3, 2  # of a row; of a class.  Two images are what every class of a run has at least
STAGES = ("in the pool", "augmented", "to the worker")
# Probability of what comes on top -> its name, the setting of its strength, what it does.
ON_TOP = {"p_task_dropout": ("dropout, one mask a task", "dropout",
                             "{:.0%} of the inputs, about, are zero: the same in all images of the task"),
          "p_example_dropout": ("dropout, one mask an image", "dropout",
                                "{:.0%} of the inputs, about, are zero: others in each image"),
          "p_class_permutation": ("pixels in another order", "class_permutations",
                                  "all images of a class have their pixels in one of {} fixed orders"),
          "p_x_shift": ("shifted along x", "x_shift",
                        "each image also moves left or right by up to {} px; that is no target")}
TITLES = {"letters": "Letters", "glyphs": "Glyphs", "cifar10": "CIFAR-10", "imagenet16": "ImageNet",
          "silhouettes": "Silhouettes", "fields": "Smooth fields", "leaves": "Dead leaves", "decoders": "Random decoders",
          "crops": "Crops of one picture a class", "restyled": "Restyled glyphs", "turned": "Turned and mirrored letters",
          "gaussians16": "Gaussians of 16 inputs", "gaussians64": "Gaussians of 64 inputs",
          "topics64": "Bags of 64 words", "topics256": "Bags of 256 words"}
GROUPS = {"": "random characters", "letters": "letters only", "maths": "mathematical symbols", "currency": "currency symbols"}
HEADING = ("Six labelled examples of a task of each kind, two each of its first, middle and last class; from the left: "
           "the image as it is stored in the pool; after all that the task does to it; to the worker, the same numbers "
           "in the task's own order of the inputs, which is all that the rule sees.  Below: what the labelled example's "
           "y says; angles are counter-clockwise (in y as sine and cosine), dx is to the right and dy down (in y as a "
           "share of the largest shift).")


class Kind(NamedTuple):
    """A kind of task of a set: the set's name in the mixture, a title, {setting: value} under which the set gives it.

    fixed        of glyphs: the group of FIXED_TYPES, "" for a random subset; None elsewhere
    probability  "" or the name of the setting ON_TOP that this row is about
    """
    set: str
    title: str
    changes: dict
    fixed: str = None
    probability: str = ""


def kinds_of(config, pools):
    """The Kinds of a run: those of each set in the mixture, then what may come on top, on the first of them.

    What comes on top is among them also where its probability is 0, unless the images are too small for it.
    """
    kinds, share = [], config.augmented
    moved = " and ".join(word for word, most in (("turned", config.rotation), ("shifted", config.glyph_shift)) if most)
    for name, _ in config.tasks:
        changes = dict.fromkeys(ON_TOP, 0.0) | {"tasks": ((name, 1.0),)}
        if name != "glyphs":
            kinds.append(Kind(name, _title(name), changes))
            continue
        found = [("", 0.0, "upright")] * (share < 1) + [("", 1.0, moved or "upright")] * (share > 0)
        found += [(group, share, moved or "upright") for group in FIXED_TYPES]
        kinds += [Kind(name, f"Glyphs: {GROUPS[fixed]}, {how}", changes | {"augmented": p}, fixed)
                  for fixed, p, how in found]
    first, side = kinds[0], pools[kinds[0].set].side
    for probability, (title, strength, _) in ON_TOP.items():
        value = getattr(config, strength)
        if value and (strength != "x_shift" or side and value < side):
            kinds.append(first._replace(title=f"On top: {title}", changes=first.changes | {probability: 1.0},
                                        probability=probability))
    return kinds


def _title(name):
    return TITLES.get(name, os.path.basename(name))


def task_of_kind(rng, kind, config, pools):
    """The first task of this kind that `sample_task` draws from the Generator."""
    config, fixed = dataclasses.replace(config, **kind.changes), [f"glyphs-{group}" for group in FIXED_TYPES]
    while True:
        task = sample_task(rng, config, pools)
        if kind.fixed is None or (task.name == f"glyphs-{kind.fixed}" if kind.fixed else task.name not in fixed):
            return task


# --- Numbers --------------------------------------------------------------------------------------


def numbers_of(config, pools):
    """Plain JSON of a Config's mixture; pools as of `open_pools`.

    "mixture", the lines of `describe`; "settings", TASK_SETTINGS but the data folder; "panels", each with its "title",
    "note", "set", "task" (its description), "ways", "class_names", "augmentation", "shape" of its pictures and
    "examples": the pool's "row", "class_name", "label", "targets" as of `read_targets`, "words", and of each of
    STAGES the picture's bytes in hexadecimal.
    """
    panels = []
    for number, kind in enumerate(kinds_of(config, pools)):
        task = task_of_kind(np.random.default_rng([config.seed, number, 0]), kind, config, pools)
        shape, examples, shown = _examples(task, pools[kind.set], [config.seed, number, 1])
        panels.append({"title": kind.title, "note": _note(kind, config, task, dict(config.tasks)) + shown, "set": kind.set,
                       "task": task.description, "ways": task.classes, "class_names": list(task.class_names),
                       "augmentation": task.augmentation._asdict(), "shape": shape, "examples": examples})
    return {"mixture": describe(config.tasks, pools, config.case).splitlines(), "panels": panels,
            "settings": {name: getattr(config, name) for name in TASK_SETTINGS if name != "data_dir"}}


def _note(kind, config, task, shares):
    """A row's explanation: how often such tasks come, and what is done to their images."""
    several = len(shares) > 1
    if kind.probability:
        _, strength, does = ON_TOP[kind.probability]
        chance = getattr(config, kind.probability)
        flag = "--" + kind.probability.replace("_", "-")
        how_often = f"In {chance:.0%} of the tasks" if chance else f"Off in these settings ({flag} 0)"
        return f"{how_often}{f' (here: {_title(kind.set)})' * several}; {does.format(getattr(config, strength))}."
    share = f"{shares[kind.set]:.0%} of the tasks are of this set. " * several
    return f"{share}This one: {task.classes}-way, {task.augmentation.describe() or 'images as they are'}."


def draw_examples(task, key):
    """Two labelled examples of every class of the task, as a worker draws them, by the random stream `key`.

    Returns rows [n] of the pool, before [n, N0] (augmented, the task's permutation undone), x [n, N0] and y.
    """
    rows = task.choose(np.random.default_rng(key), EXAMPLES, 1).reshape(-1)
    x, y = (a[0] for a in task.labelled(np.random.default_rng(key), EXAMPLES, 1))
    before = np.empty_like(x)
    before[:, task.permutation] = x
    return rows, before, x, y


def _examples(task, pool, key):
    """(shape, examples, note): the pictures' shape, a few classes' examples as in the numbers, how they are shown."""
    rows, before, x, y = draw_examples(task, key)
    stored = pool.images[rows] / np.float32(255 if pool.images.dtype == np.uint8 else 1)
    low, high = min(0.0, float(stored.min())), max(1.0, float(stored.max()))
    note = "" if (low, high) == (0, 1) else f" Black is {low:g}, white {high:g}."
    if pool.side and pool.channels not in (1, 3):
        note += f" Shown is the mean of the {pool.channels} channels."
    examples, shown = [], np.linspace(0, task.classes - 1, CLASSES).round()
    for i in np.flatnonzero(np.isin(y[:, :task.classes].argmax(axis=1), shown)):
        targets = read_targets(task, y[i])
        name = task.class_names[targets["class"]]
        pictures = [as_picture(pool, image, low, high) for image in (stored[i], before[i], x[i])]
        examples.append({"row": int(rows[i]), "class_name": name, "label": class_label(pool, name), "targets": targets,
                         "words": words_of(task, targets)} | {s: p.tobytes().hex() for s, p in zip(STAGES, pictures)})
    return list(pictures[0].shape), examples, note


def read_targets(task, y):
    """What one row of y says: {"class"} and, where they are targets, "angle" [0, 360) degrees, "dx", "dy" pixels."""
    found, rest = {"class": int(y[:task.classes].argmax())}, y[task.classes:].tolist()
    if task.augmentation.targets and task.augmentation.rotation:
        sin, cos, *rest = rest
        found["angle"] = round(math.degrees(math.atan2(sin, cos)) % 360, 1) % 360
    if task.augmentation.targets and task.augmentation.max_shift:
        found["dx"], found["dy"] = (round(part * task.augmentation.max_shift) for part in rest)
    return found


def words_of(task, targets):
    """The words for `read_targets` that a person reads, a list."""
    words = [f"class {targets['class'] + 1} of {task.classes}"]
    if "angle" in targets:
        words.append(f"angle {targets['angle']:.1f}°")
    if "dx" in targets:
        words += [f"{name} {targets[name]:+d} px" if targets[name] else f"{name} 0" for name in ("dx", "dy")]
    return words


def class_label(pool, name):
    """A class's name in words: of a character, which the sheet's font may lack, its number and Unicode name."""
    if pool.name in ("letters", "glyphs"):
        return f"U+{ord(name):04X} {unicodedata.name(name, 'without a name')}"
    if pool.name == "restyled":
        group, char = name.split(".", 1)
        return f"{group}. U+{ord(char):04X} {unicodedata.name(char, 'without a name')}"
    return f"label {name}" if pool.name == "imagenet16" else name


def as_picture(pool, vector, low=0.0, high=1.0):
    """A vector [N0] as uint8 [h, h] or, of three channels (red, green, blue), [h, h, 3]; `low` black, `high` white.

    Other channels are averaged.  What is no image is laid out row by row, grey where a square has more cells.
    """
    levels = np.clip((vector.astype(np.float64) - low) / (high - low), 0, 1)
    if pool.side:
        planes = levels.reshape(pool.channels, pool.side, pool.side)
        picture = planes.transpose(1, 2, 0) if pool.channels == 3 else planes.mean(axis=0)
    else:
        width = math.ceil(math.sqrt(len(levels)))
        picture = np.full(width * width, 0.5)
        picture[:len(levels)] = levels
        picture = picture.reshape(width, width)
    return np.rint(255 * picture).astype(np.uint8)


def picture_of(panel, example, stage):
    """The picture of one of STAGES from the numbers, see `as_picture`."""
    return np.frombuffer(bytes.fromhex(example[stage]), np.uint8).reshape(panel["shape"])


# --- The picture ----------------------------------------------------------------------------------


def draw(numbers):
    """What `numbers_of` gives -> a Matplotlib Figure, 1,600 pixels wide; needs no display."""
    from matplotlib.figure import Figure
    panels, settings = numbers["panels"], numbers["settings"]
    sets = ", ".join(_title(name) + f" ({share:.0%})" * (len(settings["tasks"]) > 1) for name, share in settings["tasks"])
    height = 1.42 * len(panels) + 0.95  # inches
    figure = Figure(figsize=(16, height), dpi=100)
    axes = figure.subplots(len(panels), 1 + CLASSES * EXAMPLES, squeeze=False, gridspec_kw={
        "width_ratios": [1.25] + [1] * CLASSES * EXAMPLES, "left": 0.012, "right": 0.98, "wspace": 0.22, "hspace": 0,
        "top": 1 - 0.95 / height, "bottom": 0})

    plain = {"va": "top", "parse_math": False}
    title = f"What a worker is given. Tasks of: {sets}; seed {settings['seed']}"
    figure.text(0.012, 1 - 0.14 / height, _wrapped(title, 130, 1), fontsize=14, weight="bold", **plain)
    figure.text(0.012, 1 - 0.42 / height, _wrapped(HEADING, 230), fontsize=9, linespacing=1.3, **plain)
    for ax in axes.flat:
        ax.axis("off")
        ax.set_anchor("NW")
    for panel, (left, *row) in zip(panels, axes):
        title = _wrapped(panel["title"], 30, 2)
        left.text(0, 1, title, fontsize=10, weight="bold", transform=left.transAxes, **plain)
        left.text(0, 0.84 - 0.12 * title.count("\n"), _wrapped(panel["note"], 44), fontsize=7.5, color="#444444",
                  transform=left.transAxes, **plain)
        for ax, example in zip(row, panel["examples"]):
            pictures = [picture_of(panel, example, stage) for stage in STAGES]
            gap = np.full_like(pictures[0][:, :1], 255)
            ax.imshow(np.hstack([pictures[0], gap, pictures[1], gap, pictures[2]]), cmap="gray", vmin=0, vmax=255,
                      interpolation="nearest")
            words = ", ".join(word.replace(" ", "\xa0") for word in example["words"])
            ax.text(0, -0.08, f"{_wrapped(example['label'], 33, 2)}\n{_wrapped(words, 33)}", fontsize=7.5,
                    transform=ax.transAxes, **plain)
    return figure


def _wrapped(text, width, lines=5):
    return textwrap.fill(text, width, break_on_hyphens=False, max_lines=lines, placeholder=" ...")
