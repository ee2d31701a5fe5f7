"""Contact sheets: what a worker is given to learn from, one panel a kind of task (H.1).

    python evaluate.py tasks --tasks glyphs:0.5,cifar10:0.5 --picture OUT.png
    python -m figures.contact_sheet NUMBERS.json OUT.png

A line of a panel is one labelled example: the image in the pool, the same after its augmentation, the same as the
worker gets it, and the targets in words.  The words are read back from the y that the task returns, and the image
before the permutation is the x that it returns with the permutation undone.
"""
import dataclasses
import math
import os
import sys
import textwrap
import unicodedata
from typing import NamedTuple

import numpy as np

from figures import files
from ops.command_line import check_outputs
from ops.engine.config import as_json, make_config
from ops.errors import InputError
from ops.tasks.task_options import TASK_SETTINGS, task_config
from ops.tasks import Pool, Task, describe, load_glyphs, open_pools, parse_mixture, sample_task
from ops.tasks.mixture import FIXED_TYPES, SETS
from ops.data.render import SIDE

CLASSES, EXAMPLES = 3, 2  # of a panel; of a class.  Two images are what every class of a run has at least
# Probability of what comes on top -> its name, the setting of its strength, what it does.
ON_TOP = {"p_task_dropout": ("dropout, one mask a task", "dropout",
                             "{:.0%} of the inputs, about, are zero: the same in all images of the task"),
          "p_example_dropout": ("dropout, one mask an image", "dropout",
                                "{:.0%} of the inputs, about, are zero: others in each image"),
          "p_class_permutation": ("pixels in another order", "class_permutations",
                                  "all images of a class have their pixels in one of {} fixed orders"),
          "p_x_shift": ("shifted along x", "x_shift",
                        "each image also moves left or right by up to {} px; that is no target")}
TITLES = {"letters": "Letters", "glyphs": "Glyphs", "cifar10": "CIFAR-10", "imagenet16": "ImageNet"}
GROUPS = {"random": "random characters", "letters": "letters only", "maths": "mathematical symbols",
          "currency": "currency symbols"}


class Kind(NamedTuple):
    """A kind of task of a set.

    set          the name of the set in the mixture
    title        a few words
    changes      {setting: value} under which the set gives this kind, and perhaps others
    group        of glyphs: "letters", "maths" or "currency"; "random" for a random subset; None elsewhere
    probability  "" or the name of the setting ON_TOP that this panel is about
    """
    set: str
    title: str
    changes: dict = {}
    group: str = None
    probability: str = ""


class Sheet(NamedTuple):
    """numbers: plain JSON; pictures: for each panel and each of its examples, in their order, a dict of images
    [h, h, 3] uint8 under "pool", "augmented", "worker" and, of characters, "label", the class's first image."""
    numbers: dict
    pictures: list


# --- The kinds of task ----------------------------------------------------------------------------


def kinds_of(config, pools):
    """The Kinds of a run: those of each set in the mixture, then what may come on top, on the first of them.

    What comes on top is among them also where its probability is 0, unless the images are too small for it.
    """
    kinds = [kind for name, _ in parse_mixture(config.tasks) for kind in _kinds_of_set(config, name)]
    first, side = kinds[0], pool_of(kinds[0].set, pools).side
    for probability, (title, strength, _) in ON_TOP.items():
        value = getattr(config, strength)
        if value and (strength != "x_shift" or side and value < side):
            kinds.append(first._replace(title=f"On top: {title}", changes=first.changes | {probability: 1.0},
                                        probability=probability))
    return kinds


def _kinds_of_set(config, name):
    plain = dict.fromkeys(ON_TOP, 0.0) | {"tasks": name}
    if name != "glyphs":
        return [Kind(name, _title(name), plain)]
    moved = [word for word, most in (("turned", config.rotation), ("shifted", config.glyph_shift)) if most]
    moved = " and ".join(moved) or "upright"
    kinds = [("random", 0.0, "upright")] * (config.augmented < 1) + [("random", 1.0, moved)] * (config.augmented > 0)
    kinds += [(group, config.augmented, moved) for group in FIXED_TYPES]
    return [Kind(name, f"Glyphs: {GROUPS[group]}, {how}", plain | {"augmented": share}, group)
            for group, share, how in kinds]


def _title(name):
    return TITLES.get(name, os.path.basename(name))


def task_of_kind(rng, kind, config, pools):
    """The first task of this kind that `sample_task` draws from the Generator."""
    config = dataclasses.replace(config, **kind.changes)
    while True:
        task = sample_task(rng, config, pools)
        group = task.name.rpartition("-")[2]
        if kind.group in (None, "random" if group.isdecimal() else group):
            return task


def pool_of(name, pools):
    """The Pool of a set of the mixture; `open_pools` has none of the letters."""
    if name != "letters":
        return pools[name]
    glyphs = load_glyphs()
    counts = np.bincount(glyphs.character, minlength=len(glyphs.characters))
    return Pool("letters", glyphs.images, counts, glyphs.characters, SIDE)


# --- Examples and their words ---------------------------------------------------------------------


def draw_examples(task, pool, key):
    """Two labelled examples of every class of the task, as a worker draws them, by the random stream `key`.

    Returns rows [n] of the pool, before [n, N0] (augmented, the task's permutation undone), x [n, N0] and y.
    """
    classes = np.searchsorted(np.cumsum(pool.counts), task.starts, side="right")
    # A task draws which images it takes before it draws what is done to them.  So a task on the images' own
    # numbers (which float32 holds up to 16 million) tells which ones the same stream takes.
    numbers = np.arange(len(pool.images), dtype=np.float32)[:, None]
    twin = Task(task.name, "", pool._replace(images=numbers, side=None, channels=1), classes, [0])
    rows = twin.labelled(np.random.default_rng(key), EXAMPLES, 1)[0].reshape(-1).astype(int)
    x, y = (a[0] for a in task.labelled(np.random.default_rng(key), EXAMPLES, 1))
    before = np.empty_like(x)
    before[:, task.permutation] = x
    return rows, before, x, y


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
    """The lines of `read_targets` that a person reads."""
    lines = [f"class {targets['class'] + 1} of {task.classes}"]
    if "angle" in targets:
        lines.append(f"angle {targets['angle']:.1f}°")
    if "dx" in targets:
        lines += [f"{name} {targets[name]:+d} px" if targets[name] else f"{name} 0" for name in ("dx", "dy")]
    return lines


def class_label(pool, name):
    """A class's name in words: of a character, which the sheet's font may lack, its number and Unicode name."""
    if _is_character(pool):
        return f"U+{ord(name):04X} {unicodedata.name(name, 'without a name')}"
    return f"label {name}" if pool.name == "imagenet16" else name


def _is_character(pool):
    return pool.name in ("letters", "glyphs")


def as_picture(pool, vector, low=0.0, high=1.0):
    """A vector [N0] as uint8 [h, h, 3], `low` black and `high` white.

    Three channels are red, green and blue, others are averaged.  What is no image is laid out row by row, grey
    where a square has more cells.
    """
    levels = np.clip((vector.astype(np.float64) - low) / (high - low), 0, 1)
    if pool.side:
        planes = levels.reshape(pool.channels, pool.side, pool.side)
        colours = planes if pool.channels == 3 else planes.mean(axis=0, keepdims=True)
    else:
        width = math.ceil(math.sqrt(len(levels)))
        colours = np.full((1, width, width), 0.5)
        colours.reshape(-1)[:len(levels)] = levels
    return np.rint(255 * np.broadcast_to(colours, (3, *colours.shape[1:])).transpose(1, 2, 0)).astype(np.uint8)


# --- The sheet ------------------------------------------------------------------------------------


def sheet_of(config, pools):
    """The Sheet of a Config's mixture.  pools as of `open_pools`.

    Numbers: "mixture", the lines of `describe`; "settings", TASK_SETTINGS but the data folder; "panels", each with
    its "title", "note", "set", "task" (its description), "ways", "class_names", "augmentation" and "examples":
    the pool's "row", "class_name", "label", "targets" as of `read_targets` and "words".
    """
    mixture = parse_mixture(config.tasks)
    settings = {name: as_json(config)[name] for name in TASK_SETTINGS if name != "data_dir"}
    panels, pictures = [], []
    for number, kind in enumerate(kinds_of(config, pools)):
        pool = pool_of(kind.set, pools)
        task = task_of_kind(np.random.default_rng([config.seed, number, 0]), kind, config, pools)
        examples, images, shown = _examples(task, pool, [config.seed, number, 1])
        panels.append({"title": kind.title, "note": _note(kind, config, task, dict(mixture)) + shown, "set": kind.set,
                       "task": task.description, "ways": task.classes, "class_names": list(task.class_names),
                       "augmentation": task.augmentation._asdict(), "examples": examples})
        pictures.append(images)
    lines = describe(mixture, pools, config.case).splitlines()
    return Sheet({"mixture": lines, "settings": settings, "panels": panels}, pictures)


def _note(kind, config, task, shares):
    """A panel's explanation: how often such tasks come, and what is done to their images."""
    several = len(shares) > 1
    if kind.probability:
        _, strength, does = ON_TOP[kind.probability]
        chance = getattr(config, kind.probability)
        flag = "--" + kind.probability.replace("_", "-")
        how_often = f"In {chance:.0%} of the tasks" if chance else f"Off in these settings ({flag} 0)"
        return f"{how_often}{f' (here: {_title(kind.set)})' * several}; {does.format(getattr(config, strength))}."
    share = f"{shares[kind.set]:.0%} of the tasks are of this set. " * several
    return f"{share}This one: {task.classes}-way, {task.augmentation.describe() or 'images as they are'}."


def _examples(task, pool, key):
    """(examples, pictures, note): a few classes of the task as in a panel's numbers and in a Sheet's pictures."""
    rows, before, x, y = draw_examples(task, pool, key)
    scale = np.float32(255 if pool.images.dtype == np.uint8 else 1)
    stored, firsts = pool.images[rows] / scale, pool.images[task.starts] / scale
    low, high = min(0.0, float(stored.min())), max(1.0, float(stored.max()))
    note = "" if (low, high) == (0, 1) else f" Black is {low:g}, white {high:g}."
    if pool.side and pool.channels not in (1, 3):
        note += f" Shown is the mean of the {pool.channels} channels."
    examples, pictures = [], []
    shown = np.linspace(0, task.classes - 1, CLASSES).round()
    for i in np.flatnonzero(np.isin(y[:, :task.classes].argmax(axis=1), shown)):
        targets = read_targets(task, y[i])
        name = task.class_names[targets["class"]]
        examples.append({"row": int(rows[i]), "class_name": name, "label": class_label(pool, name),
                         "targets": targets, "words": words_of(task, targets)})
        images = {"pool": stored[i], "augmented": before[i], "worker": x[i]}
        if _is_character(pool):
            images["label"] = firsts[targets["class"]]
        pictures.append({what: as_picture(pool, image, low, high) for what, image in images.items()})
    return examples, pictures, note


def in_words(numbers):
    """The mixture and the tasks of a sheet's numbers as lines of text."""
    panels = [f"{panel['title']}: {panel['task']}" for panel in numbers["panels"]]
    return "\n".join([*numbers["mixture"], *panels])


# --- The picture ----------------------------------------------------------------------------------

# Pixels.  A panel has, from the left: the class, three images, the targets.
CELL, LINE, PANEL, GAP, MARGIN, COLUMNS = 64, 71, 500, 30, 20, 3
LABEL, STEP, HEAD, TOP, DPI = 148, 84, 104, 118, 100
HEADING = ("Each line is one labelled example. In the pool: the image as it is stored. Augmented: after all that "
           "the task does to it. To the worker: the same numbers in the task's own order of the inputs, which is "
           "all that the rule sees. Targets: what the labelled example's y says; angles are counter-clockwise (in "
           "y as sine and cosine), dx is to the right and dy down (in y as a share of the largest shift).")


def draw(sheet):
    """A Sheet -> a Matplotlib Figure, 1,600 pixels wide; needs no display."""
    from matplotlib.figure import Figure
    panels = sheet.numbers["panels"]
    heights = [HEAD + LINE * max(len(panel["examples"]) for panel in panels[i:i + COLUMNS])
               for i in range(0, len(panels), COLUMNS)]
    width = 2 * MARGIN + COLUMNS * PANEL + (COLUMNS - 1) * GAP
    page = Page(Figure(figsize=(width / DPI, (TOP + sum(heights) + GAP * len(heights)) / DPI), dpi=DPI))
    title = f"What a worker is given. Tasks of: {_sets(sheet.numbers)}"
    page.text(MARGIN, 16, _clipped(title, 125), size=14, weight="bold")
    page.lines(MARGIN, 50, textwrap.wrap(HEADING, int((width - 2 * MARGIN) / 6.6)), size=9, step=18)
    for i, (panel, pictures) in enumerate(zip(panels, sheet.pictures)):
        row, column = divmod(i, COLUMNS)
        _draw_panel(page, MARGIN + column * (PANEL + GAP), TOP + sum(heights[:row]) + GAP * row, panel, pictures)
    return page.figure


def _sets(numbers):
    """The mixture in a few words: its sets with their shares, the seed."""
    mixture = parse_mixture(numbers["settings"]["tasks"])
    names = [_clipped(_title(name), 30) + f" ({share:.0%})" * (len(mixture) > 1) for name, share in mixture]
    return f"{', '.join(names)}; seed {numbers['settings']['seed']}"


class Page:
    """A Figure written on in pixels from its upper left corner."""

    def __init__(self, figure):
        self.figure = figure
        self.width, self.height = (round(float(size) * figure.dpi) for size in figure.get_size_inches())

    def text(self, x, y, text, size=8, **style):
        """A line of text whose upper left corner is at x, y."""
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, va="top", parse_math=False,
                         **style)

    def lines(self, x, y, lines, size=8, step=14, **style):
        """Lines of text below each other."""
        for i, line in enumerate(lines):
            self.text(x, y + i * step, line, size, **style)

    def image(self, x, y, picture, size=CELL):
        """A square picture [h, h, 3], each pixel a square of whole pixels if `size` has room, centred in `size`."""
        side = len(picture)
        edge = size // side * side or size
        nearest = np.arange(edge) * side // edge
        x, y = x + (size - edge) // 2, y + (size - edge) // 2
        self.figure.figimage(picture[nearest][:, nearest], x, self.height - y - edge, origin="upper")

    def rule(self, x, y, length, colour="#bbbbbb"):
        """A horizontal line."""
        from matplotlib.lines import Line2D
        ends = [x / self.width, (x + length) / self.width]
        self.figure.add_artist(Line2D(ends, [1 - y / self.height] * 2, color=colour, linewidth=0.8))


def _draw_panel(page, x, y, panel, pictures):
    page.rule(x, y, PANEL, "#444444")
    page.text(x, y + 8, _clipped(panel["title"], 60), size=11, weight="bold")
    page.lines(x, y + 30, textwrap.wrap(panel["note"], 88)[:3], color="#444444")
    for i, head in enumerate(("in the pool", "augmented", "to the worker")):
        page.text(x + LABEL + i * STEP + CELL / 2, y + HEAD - 21, head, color="#777777", ha="center")
    page.text(x, y + HEAD - 21, "class", color="#777777")
    page.text(x + LABEL + 3 * STEP + 6, y + HEAD - 21, "targets", color="#777777")
    before = None
    for i, (example, images) in enumerate(zip(panel["examples"], pictures)):
        top = y + HEAD + i * LINE
        if example["class_name"] != before:
            if i:
                page.rule(x, top - 4, PANEL, "#dddddd")
            _draw_class(page, x, top, example["label"], images.get("label"))
        before = example["class_name"]
        for k, what in enumerate(("pool", "augmented", "worker")):
            page.image(x + LABEL + k * STEP, top, images[what])
        page.lines(x + LABEL + 3 * STEP + 6, top + 3, example["words"], size=9, step=15)


def _draw_class(page, x, y, label, picture):
    """A class's own rendering, if there is one, and its name, broken into lines."""
    if picture is not None:
        page.image(x, y + 3, picture, size=28)
        number, _, label = label.partition(" ")
        page.text(x + 36, y + 11, number, size=8)
    page.lines(x, y + 38 if picture is not None else y + 3, textwrap.wrap(_clipped(label, 90), 23)[:6],
               size=7.5 if picture is not None else 9, step=14)


def _clipped(text, length):
    """The text, its middle left out if it is longer."""
    half = (length - 3) // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"


# --- The command and the files --------------------------------------------------------------------


def run(options):
    """`evaluate.py tasks`: the picture with its numbers, and the tasks in words on standard output.

    options  those of `add_task_arguments`, and picture
    InputError as `make_config`, `open_pools` and `check_outputs`.
    """
    config = task_config(options)
    mixture = parse_mixture(config.tasks)
    check_outputs(options, [name for name, _ in mixture if name not in SETS])
    sheet = sheet_of(config, open_pools(mixture, config))
    write(sheet, options.picture)
    text = f"{in_words(sheet.numbers)}\ndrawn: {options.picture}, its numbers beside it"
    encoding = sys.stdout.encoding or "utf-8"  # which may have no such characters
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def write(sheet, path):
    """Write the picture (`.png`) and its numbers beside it (`.json`), each atomically; InputError if it cannot."""
    files.write_picture(sheet.numbers, draw(sheet), path)


def redraw(numbers):
    """The Figure of a sheet's numbers.  InputError if the data or fonts at hand give other ones, or are missing."""
    config = make_config("laptop", {name: value for name, value in numbers["settings"].items() if name != "data_dir"})
    sheet = sheet_of(config, open_pools(parse_mixture(config.tasks), config))
    if sheet.numbers != numbers:
        raise InputError("the data sets or fonts are not those that these numbers are of; "
                         "write them anew with `python evaluate.py tasks`")
    return draw(sheet)


def main(arguments=None):
    """The command: draw again from the numbers and the data; returns 0, or 2 after one line on standard error."""
    return files.main("contact_sheet", redraw, "python evaluate.py tasks", arguments)


if __name__ == "__main__":
    sys.exit(main())
