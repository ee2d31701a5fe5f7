"""Every setting of a meta-training run: one dataclass, its presets, its command-line flags."""
import argparse
import dataclasses
import json
import math
import re
from dataclasses import dataclass

from ops.errors import InputError
from ops.tasks.mixture import parse_mixture


def setting(default, text, **extra):
    """A field with its help string; `choices` restricts its values, `low` and `high` bound a number."""
    return dataclasses.field(default=default, metadata={"help": text, **extra})


@dataclass
class Config:
    """A meta-training run.  The defaults are the `laptop` preset; every field is a flag of `train.py`."""

    # the rule: theta's sizes
    batch_size: int = setting(32, "B, unlabelled examples per inner step; theta is tied to it", low=2)
    hdims: int = setting(16, "H, channels of the hidden states h", low=1)
    delta: int = setting(16, "channels of the error signal d", low=1)
    top: int = setting(16, "T, channels inside TopD", low=1)
    rank: int = setting(4, "R, rank of the readouts", low=1)
    # the inner loop
    lr: float = setting(3e-3, "lambda_phi_lr, inner learning rate (App.5-7)", low=0)
    norm_eps: float = setting(1e-3, "e of App.60; 1 in the paper, small makes short inner loops move", low=0)
    min_layers: int = setting(2, "fewest hidden layers of a base model", low=0)
    max_layers: int = setting(4, "most hidden layers", low=0)
    min_units: int = setting(64, "fewest units of a hidden layer; drawn log-uniformly, one width per network", low=1)
    max_units: int = setting(64, "most units of a hidden layer", low=1)
    embedding: int = setting(32, "N^L, units of the output layer", low=1)
    # the meta-objective (App.17-26)
    objective: str = setting("cosine", "cosine: predictions scaled to norm 1 (ICLR); squared: not (workshop)",
                             choices=("cosine", "squared"))
    ridge: float = setting(0.1, "lambda_ridge of App.23", low=0)
    pairs: int = setting(3, "M, pairs of labelled batches after each inner step", low=1)
    shots: int = setting(10, "labelled examples per class in each batch", low=1)
    # tasks
    ways: int = setting(10, "classes of a task; a user's file of fewer gives all it has, held-out letters 12 at most",
                        low=2)
    case: str = setting("both", "letters to draw from: both cases, or the 26 upper-case ones (workshop)",
                        choices=("both", "upper"))
    max_shift: int = setting(1, "largest random shift of an image, pixels each way", low=0)
    tasks: str = setting("letters", "mixture of task sets, NAME or NAME:SHARE separated by commas; names: letters, "
                                    "glyphs, cifar10, imagenet16, or a PATH.npz with x and y")
    data_dir: str = setting("", "folder of data sets; else UNSUP_META_DATA, else ~/.cache/unsup_meta")
    font_dir: str = setting("", "folder of fonts to render glyphs with, besides Matplotlib's own")
    system_fonts: str = setting("no", "yes: render glyphs with the system's fonts too", choices=("no", "yes"))
    digits: str = setting("no", "yes: glyphs hold digits too (MNIST is not unseen then)", choices=("no", "yes"))
    glyph_ways: str = setting("10,13,14,17,20,30", "classes of a task of random glyphs, one of these")
    augmented: float = setting(0.5, "share of the tasks of random glyphs that are rotated and shifted", low=0, high=1)
    rotation: float = setting(360.0, "... by an angle from 0 to this, degrees", low=0, high=360)
    glyph_shift: int = setting(5, "... and by this many pixels each way at most", low=0, high=13)
    imagenet_ways: str = setting("10,15,20,25", "classes of a task of ImageNet, one of these")
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
    # truncated segments (App. B, H.2)
    unroll_start: str = setting("3,3", "U is uniform between these two at first")
    unroll_end: str = setting("3,3", "... and between these two after unroll_growth meta-steps")
    unroll_growth: int = setting(1, "meta-steps over which U grows, evenly", low=1)
    horizon_start: float = setting(100.0, "inner steps of a task: normal, mean = sd = this at first", low=1)
    horizon_end: float = setting(100.0, "... and this after horizon_growth meta-steps", low=1)
    horizon_growth: int = setting(1, "meta-steps over which the horizon grows, evenly", low=1)
    # meta-optimisation (Alg. 1, H.2)
    meta_batch: int = setting(4, "gradients averaged per meta-step", low=1)
    theta_delay: int = setting(1, "sync: the theta of a gradient may be this many meta-steps old (0 or 1); with 1 the "
                                  "workers go on while Adam steps, with 0 they wait", choices=(0, 1))
    live_tasks: int = setting(16, "tasks under way at once; a meta-step takes the next meta_batch of them", low=1)
    meta_lr: str = setting("3e-3,1e-3", "Adam's learning rate, or several separated by commas")
    meta_lr_boundaries: str = setting("700", "meta-steps at which the next learning rate takes over")
    clip: float = setting(5.0, "largest global norm of a meta-step's gradient", low=0)
    steps: int = setting(1_000_000, "R, meta-steps at most", low=0)
    minutes: float = setting(4.5, "wall-clock minutes at most, this run; 0 for no limit", low=0)
    # the run
    seed: int = setting(0, "every random stream is keyed by it", low=0)
    workers: int = setting(0, "worker processes; 0 for one per usable core", low=0)
    mode: str = setting("sync", "sync: same theta for any number of workers; async: workers never wait (the paper's)",
                        choices=("sync", "async"))
    staleness_limit: int = setting(20, "async: gradients of a theta more than this many meta-steps old are dropped", low=1)
    checkpoint_minutes: float = setting(2.0, "minutes between checkpoints", low=0)
    checkpoint_steps: int = setting(0, "meta-steps between checkpoints, besides; 0 for the clock alone", low=0)
    keep_checkpoints: int = setting(2, "how many checkpoints are kept", low=1)
    validate_steps: int = setting(100, "meta-steps between scores on held-out letters; 0 for never", low=0)
    validate_data_steps: int = setting(500, "meta-steps between scores on embedded MNIST and Fashion-MNIST, for the log "
                                            "alone; at these steps --validate-steps must fall due too", low=0)
    validate_inner_steps: int = setting(200, "inner steps before a score on held-out letters", low=1)
    max_failures: int = setting(50, "non-finite gradients in a row that end the run", low=1)

    def ways_list(self, field):
        """The numbers of classes in `glyph_ways` or `imagenet_ways`.  InputError if they are not 2 or more each."""
        flag = f"--{field.replace('_', '-')}"
        ways = numbers(getattr(self, field), int, flag)
        if min(ways, default=0) < 2:
            raise InputError(f"{flag} is {getattr(self, field)!r}; give numbers of classes, 2 or more each")
        return ways


# Settings of a run that may differ between a run and its continuation.
OPERATIONAL = ("steps", "minutes", "workers", "checkpoint_minutes", "checkpoint_steps", "keep_checkpoints",
               "data_dir")

PRESETS = {
    "laptop": {},
    "paper": dict(
        batch_size=128, hdims=64, delta=32, top=64, lr=3e-4, norm_eps=1.0, min_layers=2, max_layers=5,
        min_units=64, max_units=512, pairs=5, unroll_start="2,4", unroll_end="8,15", unroll_growth=50_000,
        horizon_start=20.0, horizon_end=20_000.0, horizon_growth=5_000, meta_batch=256, live_tasks=512,
        meta_lr="3e-4,1e-4,2e-5", meta_lr_boundaries="100000,150000", steps=200_000, minutes=0.0,
        checkpoint_minutes=10.0, validate_steps=200, validate_inner_steps=1000,
        # The paper gives no probabilities for what comes on top: these are ours.
        tasks="glyphs:0.5,cifar10:0.25,imagenet16:0.25", p_task_dropout=0.1, p_example_dropout=0.1,
        p_class_permutation=0.1, p_x_shift=0.1),
    "workshop": dict(
        batch_size=128, hdims=64, delta=32, top=64, lr=3e-4, norm_eps=1.0, max_layers=2, max_units=199, pairs=5, case="upper",
        objective="squared", unroll_start="2,4", unroll_end="8,15", unroll_growth=50_000, horizon_start=20.0,
        horizon_end=20_000.0, horizon_growth=5_000, meta_batch=256, live_tasks=512, meta_lr="3e-4,1e-4,2e-5",
        meta_lr_boundaries="100000,150000", steps=200_000, minutes=0.0, checkpoint_minutes=10.0,
        validate_steps=200, validate_inner_steps=1000),
}


def add_flags(parser):
    """A flag for every field of `Config`, `--like-this`; one not given keeps the preset's value."""
    for f in dataclasses.fields(Config):
        parser.add_argument("--" + f.name.replace("_", "-"), type=f.type, choices=f.metadata.get("choices"),
                            default=argparse.SUPPRESS, help=f"{f.metadata['help']} [laptop: {f.default}]")


def make_config(preset, overrides):
    """The preset's Config with `overrides` {field: value}.  InputError for an unknown name or a bad value."""
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    config = Config(**(PRESETS[preset] | overrides))
    for f in dataclasses.fields(Config):
        value, low, high = getattr(config, f.name), f.metadata.get("low"), f.metadata.get("high", math.inf)
        if low is not None and not (math.isfinite(value) and low <= value <= high):
            allowed = f"{low} or more" if high == math.inf else f"{low} to {high}"
            raise InputError(f"--{f.name.replace('_', '-')} is {value}; give {allowed}")
    for low, high in (("min_layers", "max_layers"), ("min_units", "max_units"), ("meta_batch", "live_tasks")):
        if getattr(config, low) > getattr(config, high):
            raise InputError(f"--{low.replace('_', '-')} {getattr(config, low)} is larger than "
                             f"--{high.replace('_', '-')} {getattr(config, high)}")
    unroll_range(config, 0)
    rates(config)
    parse_mixture(config.tasks)
    for field in ("glyph_ways", "imagenet_ways"):
        config.ways_list(field)
    return config


def numbers(text, kind, flag):
    """The comma-separated numbers of a flag.  InputError if they are not."""
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"{flag} is {text!r}; give numbers separated by commas") from error


def _grown(start, end, step, growth):
    return start + (end - start) * min(1.0, step / growth)


def unroll_range(config, step):
    """(fewest, most) inner steps of a truncated segment at meta-step `step` (H.2)."""
    start = numbers(config.unroll_start, int, "--unroll-start")
    end = numbers(config.unroll_end, int, "--unroll-end")
    if len(start) != 2 or len(end) != 2 or not 1 <= start[0] <= start[1] or not 1 <= end[0] <= end[1]:
        raise InputError("--unroll-start and --unroll-end: give two numbers each, LEAST,MOST, 1 or more")
    return tuple(round(_grown(a, b, step, config.unroll_growth)) for a, b in zip(start, end))


def horizon_scale(config, step):
    """Mean = standard deviation of a task's number of inner steps at meta-step `step` (H.2)."""
    return _grown(config.horizon_start, config.horizon_end, step, config.horizon_growth)


def rates(config):
    """(boundaries, learning rates) of the meta-optimiser.  InputError if they do not fit."""
    values = numbers(config.meta_lr, float, "--meta-lr")
    boundaries = numbers(config.meta_lr_boundaries, int, "--meta-lr-boundaries")
    if len(values) != len(boundaries) + 1 or sorted(boundaries) != boundaries or min(values, default=-1) < 0:
        raise InputError(f"--meta-lr has {len(values)} rates for {len(boundaries)} --meta-lr-boundaries; "
                         "give one boundary, growing, between each two rates")
    return boundaries, values


def to_json(config):
    """The configuration as JSON text."""
    return json.dumps(dataclasses.asdict(config), indent=1)


def differing_fields(config, saved):
    """Names of the fields in which `config` is not the `saved` {field: value}, operational ones aside."""
    mine = dataclasses.asdict(config)
    return [name for name in mine.keys() | saved.keys()
            if name not in OPERATIONAL and mine.get(name) != saved.get(name)]


def run_name(name):
    """`name` if it can be a folder under runs/, else InputError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"run name {name!r}: use letters, digits, '.', '_' and '-', starting with a letter or digit")
    return name
