"""Every setting of a meta-training run: one dataclass, its presets, the command line of `train.py`."""
import argparse
import dataclasses
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ops.command_line import OneLineParser, chosen_from
from ops.engine.left_out import PARTS, parts_of
from ops.errors import InputError
from ops.rule.hebbian import CHANNELS
from ops.tasks.mixture import parse_mixture
from ops.tasks.suite import SETS


def numbers(text, kind=float):
    """The numbers, separated by commas, of a flag's text; ArgumentTypeError if they are not."""
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise argparse.ArgumentTypeError(f"{text!r} is not {what} separated by commas") from error


def integers(text):
    """As `numbers`, whole ones."""
    return numbers(text, int)


def mixture(text):
    """((name, share), ...) of --tasks, shares adding up to 1; ArgumentTypeError where `parse_mixture` has its own."""
    try:
        return tuple(parse_mixture(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def written(value):
    """A setting as its flag takes it: tuples with commas, a mixture as NAME:SHARE."""
    if not isinstance(value, tuple):
        return str(value)
    return ",".join(f"{part[0]}:{part[1]:g}" if isinstance(part, tuple) else str(part) for part in value)


def setting(default, text, **extra):
    """A field with its help string.

    `choices` restricts its values; `low`, `high` and `above` bound a number, or each of several; `begins` is the
    title of the group of settings that it is the first of.
    """
    return dataclasses.field(default=default, metadata={"help": text, **extra})


@dataclass
class Config:
    """A meta-training run.  The defaults are the `laptop` preset; every field is a flag of `train.py`.

    A field's annotation makes its value from the flag's text: `integers`, `numbers` and `mixture` make tuples.
    """

    batch_size: int = setting(32, "B, unlabelled examples per inner step; theta is tied to it", low=2,
                              begins="the rule: theta's sizes")
    hdims: int = setting(16, "H, channels of the hidden states h", low=1)
    delta: int = setting(16, "channels of the error signal d", low=1)
    top: int = setting(16, "T, channels inside TopD", low=1)
    rank: int = setting(4, "R, rank of the readouts", low=1)
    lr: float = setting(3e-2, "lambda_phi_lr, inner learning rate (App.5-7)", above=0, begins="the inner loop")
    norm_eps: float = setting(1e-3, "e of App.60; 1 in the paper, small makes short inner loops move", above=0)
    min_layers: int = setting(2, "fewest hidden layers of a base model", low=0)
    max_layers: int = setting(5, "most hidden layers", low=0)
    min_units: int = setting(32, "fewest units of a hidden layer; drawn log-uniformly, one width per network", low=1)
    max_units: int = setting(96, "most units of a hidden layer", low=1)
    embedding: int = setting(32, "N^L, units of the output layer", low=1)
    objective: str = setting("cosine", "cosine: predictions scaled to norm 1 (ICLR); squared: not (workshop)",
                             choices=("cosine", "squared"), begins="the meta-objective (App.17-26)")
    ridge: float = setting(0.1, "lambda_ridge of App.23", low=0)
    pairs: int = setting(2, "M, pairs of labelled batches after each inner step", low=1)
    shots: int = setting(10, "labelled examples per class in each batch", low=1)
    ways: int = setting(10, "classes of a task; a user's file of fewer gives all it has", low=2,
                        begins="tasks (H.1)")
    case: str = setting("both", "letters to draw from: both cases, or upper case alone (workshop); those held out aside",
                        choices=("both", "upper"))
    max_shift: int = setting(1, "largest random shift of a rendered letter, pixels each way", low=0)
    tasks: mixture = setting(mixture("letters:2,world:7,restyled:1,vectors:1"), "mixture of task sets, NAME or NAME:SHARE "
                             "separated by commas; names: letters, world, vectors, glyphs, cifar10, imagenet16, the "
                             "families in ops/tasks/world/README.md, or a PATH.npz with x and y")
    data_dir: str = setting("", "folder of data sets; else UNSUP_META_DATA, else ~/.cache/unsup_meta")
    font_dir: str = setting("", "folder of fonts to render glyphs with, besides Matplotlib's own")
    system_fonts: str = setting("no", "yes: render glyphs with the system's fonts too", choices=("no", "yes"))
    digits: str = setting("no", "yes: glyphs hold digits too (MNIST is not unseen then)", choices=("no", "yes"))
    glyph_ways: integers = setting((10, 13, 14, 17, 20, 30), "classes of a task of random glyphs, one of these", low=2)
    augmented: float = setting(0.5, "share of the tasks of random glyphs that are rotated and shifted", low=0, high=1)
    rotation: float = setting(360.0, "... by an angle from 0 to this, degrees", low=0, high=360)
    glyph_shift: int = setting(5, "... and by this many pixels each way at most", low=0, high=13)
    imagenet_ways: integers = setting((10, 15, 20, 25), "classes of a task of ImageNet, one of these", low=2)
    image_shift: int = setting(1, "largest random shift of images other than glyphs, pixels each way", low=0)
    p_task_dropout: float = setting(0.0, "probability of a task whose inputs are dropped, the same in all images",
                                    low=0, high=1)
    p_example_dropout: float = setting(0.0, "probability of a task whose inputs are dropped, others in each image",
                                       low=0, high=1)
    dropout: float = setting(0.25, "share of the inputs that both kinds of dropout set to zero", low=0, high=0.9)
    p_class_permutation: float = setting(0.0, "probability of a task whose classes have their pixels permuted, each by "
                                              "one of a fixed set of permutations", low=0, high=1)
    class_permutations: int = setting(4, "size of that set", low=1, high=1000)
    p_x_shift: float = setting(0.0, "probability of a task whose images are moved along x at random", low=0, high=1)
    x_shift: int = setting(3, "... by this many pixels each way at most", low=0, high=13)
    unroll_start: integers = setting((25, 25), "U is uniform between these two at first", low=1,
                                     begins="truncated segments (App. B, H.2)")
    unroll_end: integers = setting((25, 25), "... and between these two after unroll_growth meta-steps", low=1)
    unroll_growth: int = setting(1, "meta-steps over which U grows, evenly", low=1)
    horizon_start: float = setting(100.0, "inner steps of a task: normal, mean = sd = this at first; 1 or more", low=1, high=1e9)
    horizon_end: float = setting(100.0, "... and this after horizon_growth meta-steps", low=1, high=1e9)
    horizon_growth: int = setting(1, "meta-steps over which the horizon grows, evenly", low=1)
    horizon_shape: str = setting("uniform", "... or with this mean uniform from 1 on", choices=("normal", "uniform"))
    meta_batch: int = setting(8, "gradients averaged per meta-step", low=1, begins="meta-optimisation (Alg. 1, H.2)")
    theta_delay: int = setting(1, "sync: the theta of a gradient may be this many meta-steps old (0 or 1); with 1 the "
                                  "workers go on while Adam steps, with 0 they wait", choices=(0, 1))
    live_tasks: int = setting(32, "tasks under way at once; a meta-step takes the next meta_batch of them", low=1)
    meta_lr: numbers = setting((2e-3, 1e-3, 3e-4), "Adam's learning rate, or several separated by commas", low=0)
    meta_lr_boundaries: integers = setting((40, 80), "meta-steps at which the next learning rate takes over", low=0)
    theta_decay: float = setting(0.98, "decay of theta's average, which validations score and theta.npz holds; at most "
                                       "(1 + t) / (10 + t) at step t; 0: no average", low=0, high=1)
    clip: float = setting(5.0, "largest global norm of a meta-step's gradient", above=0)
    segment_clip: float = setting(1.5, "largest norm of a segment's gradient before it is averaged; 0: none", low=0)
    steps: int = setting(1_000_000, "R, meta-steps at most", low=0)
    minutes: float = setting(4.5, "wall-clock minutes at most, this run; 0 for no limit", low=0)
    seed: int = setting(0, "every random stream is keyed by it", low=0, begins="the run")
    theta_start: str = setting("rectified", "theta of meta-step 0: random (D10), or with planes 3 and 9 set by hand to a "
                                            "rectified Hebb's rule, or 6 and 9 to Hebb's, the rest random",
                               choices=("rectified", "hebbian", "random"))
    init_theta: str = setting("", "start from the theta of this theta file or checkpoint, not a fresh one; Adam and "
                                  "the schedules start anew, --resume reads no such file")
    without: parts_of = setting((), f"parts that the run does without, comma separated, to see what they are worth: "
                                    f"{', '.join(PARTS)}")
    workers: int = setting(0, "worker processes; 0 for one per usable core", low=0)
    pool: str = setting("", "MODULE:NAME of a class like multiprocessing:Pool that has the workers, on other machines too; its "
                            "own otherwise")
    mode: str = setting("sync", "sync: same theta for any number of workers; async: workers never wait (the paper's)",
                        choices=("sync", "async"))
    staleness_limit: int = setting(20, "async: gradients of a theta older than this many meta-steps are dropped", low=1)
    checkpoint_minutes: float = setting(2.0, "minutes between checkpoints; 0: never by the clock", low=0)
    checkpoint_steps: int = setting(0, "meta-steps between checkpoints, besides; 0 for the clock alone", low=0)
    keep_checkpoints: int = setting(2, "how many checkpoints are kept", low=1)
    snapshot_steps: int = setting(2, "meta-steps from the untrained theta to the next averaged one kept in thetas/; 0 "
                                     "for none", low=0)
    snapshot_growth: float = setting(1.5, "... and from each kept theta to the next this many times as many; 1: as many",
                                     low=1, high=1e6)
    validate_steps: int = setting(15, "meta-steps between scores on the validation suite; 0 for never", low=0)
    validate_sets: chosen_from(SETS) = setting(tuple(SETS), "its sets, separated by commas; what this machine lacks is left "
                                                        "out")
    validate_tasks: int = setting(1, "tasks of each of its sets", low=1)
    validate_times: integers = setting((50, 150), "inner steps after which a task is scored, rising", low=1)
    max_failures: int = setting(50, "non-finite gradients in a row that end the run", low=1)

    @property
    def rule_sizes(self):
        """The sizes that theta's shapes follow from."""
        return {name: getattr(self, name) for name in ("batch_size", "hdims", "delta", "top", "rank")}


# Settings of a run that may differ between a run and its continuation.
OPERATIONAL = ("steps", "minutes", "workers", "pool", "checkpoint_minutes", "checkpoint_steps", "keep_checkpoints",
               "snapshot_steps", "snapshot_growth", "data_dir", "init_theta")

PAPERS = dict(  # what both papers' presets share, in sync mode; theirs is --mode async
    batch_size=128, hdims=64, delta=32, top=64, lr=3e-4, norm_eps=1.0, min_units=64, pairs=5, unroll_start=(2, 4),
    unroll_end=(8, 15), unroll_growth=50_000, horizon_start=20.0, horizon_end=20_000.0, horizon_growth=5_000,
    horizon_shape="normal", meta_batch=256, live_tasks=512, meta_lr=(3e-4, 1e-4, 2e-5),
    meta_lr_boundaries=(100_000, 150_000), theta_decay=0.0, segment_clip=0.0, theta_start="random", steps=200_000,
    minutes=0.0, checkpoint_minutes=10.0, validate_steps=200, validate_tasks=2, validate_times=(300, 1000))
PRESETS = {
    "laptop": {},
    # What figures/theta.npz was made with (figures/theta.json); seed 0.
    "best": dict(steps=75, minutes=0.0, validate_steps=75),
    # The paper gives no probabilities for what comes on top: these are ours.
    "paper": PAPERS | dict(max_layers=5, max_units=512, tasks=mixture("glyphs:0.5,cifar10:0.25,imagenet16:0.25"),
                           p_task_dropout=0.1, p_example_dropout=0.1, p_class_permutation=0.1, p_x_shift=0.1),
    "workshop": PAPERS | dict(max_layers=2, max_units=199, tasks=mixture("letters"), case="upper", objective="squared"),
}


def help_of(f):
    """What --help says of a field."""
    return f"{f.metadata['help']} [laptop: {written(f.default) or 'none'}]"


def add_flags(parser):
    """A flag, `--like-this`, for each field of `Config`; one not given keeps the preset's value."""
    group = parser
    for f in dataclasses.fields(Config):
        if "begins" in f.metadata:
            group = parser.add_argument_group(f.metadata["begins"])
        metavar = None if "choices" in f.metadata else {int: "N", float: "X"}.get(f.type, "TEXT")
        group.add_argument("--" + f.name.replace("_", "-"), type=f.type, choices=f.metadata.get("choices"), metavar=metavar,
                           default=argparse.SUPPRESS, help=help_of(f).replace("%", "%%"))


def make_config(preset, overrides):
    """The preset's Config with `overrides` {field: value, its text, or JSON's list}.  InputError for a bad one."""
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    values = PRESETS[preset] | overrides
    config = Config(**{f.name: _value(f, values[f.name]) for f in dataclasses.fields(Config) if f.name in values})
    for low, high in (("min_layers", "max_layers"), ("min_units", "max_units"), ("meta_batch", "live_tasks")):
        if getattr(config, low) > getattr(config, high):
            raise InputError(f"--{low.replace('_', '-')} {getattr(config, low)} is larger than "
                             f"--{high.replace('_', '-')} {getattr(config, high)}")
    for pair in (config.unroll_start, config.unroll_end):
        if len(pair) != 2 or pair[0] > pair[1]:
            raise InputError("--unroll-start and --unroll-end: give two numbers each, LEAST,MOST")
    if sorted(set(config.validate_times)) != list(config.validate_times):
        raise InputError("--validate-times: give rising numbers of inner steps")
    if config.hdims < CHANNELS.get(config.theta_start, 0):
        raise InputError(f"--hdims is {config.hdims}; --theta-start {config.theta_start} needs "
                         f"{CHANNELS[config.theta_start]}: give more, or --theta-start random")
    rates, boundaries = config.meta_lr, config.meta_lr_boundaries
    if len(rates) != len(boundaries) + 1 or tuple(sorted(boundaries)) != boundaries:
        raise InputError(f"--meta-lr has {len(rates)} rates for {len(boundaries)} --meta-lr-boundaries; "
                         "give one boundary, growing, between each two rates")
    return config


def _value(f, given):
    """The value of the field f: of its flag's text, or as it is.  InputError if it is out of bounds."""
    flag, low, high = f"--{f.name.replace('_', '-')}", f.metadata.get("low"), f.metadata.get("high", math.inf)
    above = f.metadata.get("above", -math.inf)
    try:
        value = f.type(given) if isinstance(given, str) else given
        if isinstance(value, list):
            value = tuple(tuple(part) if isinstance(part, list) else part for part in value)
    except argparse.ArgumentTypeError as error:
        raise InputError(f"{flag}: {error}") from error
    several = isinstance(value, tuple)
    if several and not value and f.name not in ("meta_lr_boundaries", "without"):
        raise InputError(f"{flag} is {given!r}; give one or more, separated by commas")
    if low is None and above == -math.inf:
        return value
    low = -math.inf if low is None else low
    if not all(math.isfinite(v) and low <= v <= high and v > above for v in (value if several else (value,))):
        allowed = f"more than {above}" if above > low else f"{low} or more" if high == math.inf else f"{low} to {high}"
        raise InputError(f"{flag} is {given!r}; give {allowed}{' each' * several}")
    return value


def _grown(start, end, step, growth):
    return start + (end - start) * min(1.0, step / growth)


def unroll_range(config, step):
    """(fewest, most) inner steps of a truncated segment at meta-step `step` (H.2)."""
    pairs = zip(config.unroll_start, config.unroll_end)
    return tuple(round(_grown(a, b, step, config.unroll_growth)) for a, b in pairs)


def horizon_scale(config, step):
    """Mean = standard deviation of a task's number of inner steps at meta-step `step` (H.2)."""
    return _grown(config.horizon_start, config.horizon_end, step, config.horizon_growth)


def snapshot_is_due(config, step):
    """Whether a theta is kept at meta-step `step`: one of 0, N, N + N G, N + N G + N G^2 ..., rounded."""
    gap, growth, due = config.snapshot_steps, config.snapshot_growth, 0
    if not gap:
        return False
    if growth == 1:
        return step % gap == 0
    while round(due) < step:
        due, gap = due + gap, gap * growth
    return round(due) == step


def as_json(config):
    """{field: value} as JSON gives it back: lists for tuples."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def differing_fields(config, saved):
    """{field: (value in `saved`, value in `config`)} of those that differ, operational ones aside; as JSON has them."""
    mine, saved = as_json(config), json.loads(json.dumps(saved))
    return {name: (saved.get(name), mine.get(name)) for name in sorted(mine.keys() | saved.keys())
            if name not in OPERATIONAL and mine.get(name) != saved.get(name)}


def parse(argv):
    """The command line of `train.py`: (config, run folder, options with `resume`, `no_score` and `plain`).

    Raises InputError for options that do not fit, or where a run would be overwritten.
    """
    parser = OneLineParser(prog="train.py", usage="python train.py [--preset PRESET] [--name NAME] [any setting below]",
                           description="Meta-train the unsupervised update rule (Alg. 1).")
    own = parser.add_argument_group("this run")
    own.add_argument("--preset", default="laptop", choices=PRESETS, help="where the settings start from")
    own.add_argument("--name", help="the run's folder under runs/; the preset's name if not given")
    own.add_argument("--resume", action="store_true", help="go on from runs/NAME/checkpoint.npz")
    own.add_argument("--no-score", action="store_true", help="do not score the learned theta at the end")
    own.add_argument("--plain", action="store_true", help="compute with the definitions of unsup_meta.py: slow, to be "
                                                          "read along with a debugger")
    add_flags(parser)
    options = parser.parse_args(argv)
    fields = {f.name: getattr(options, f.name) for f in dataclasses.fields(Config) if hasattr(options, f.name)}
    config = make_config(options.preset, fields)
    name = options.name or options.preset
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{,199}", name):
        raise InputError(f"run name {name!r:.60}: use up to 200 letters, digits, '.', '_' and '-', starting with a letter or digit")
    run = Path("runs") / name
    for folder in (run.parent, run):
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise InputError(f"{folder} is a file where a folder should be; move it away or start elsewhere")
    if not options.resume:
        check_new(run)
    return config, run, options


def check_new(run):
    """InputError if the folder `run` is there and holds something, or cannot be read."""
    try:
        there = os.path.isdir(run) and any(run.iterdir())
    except OSError as error:
        raise InputError(f"{run} cannot be read ({error.strerror}); start another (--name NAME) or elsewhere") from error
    if there:
        raise InputError(f"{run} already holds a run: go on with it (--resume), start another (--name NAME) or "
                         "remove it")
