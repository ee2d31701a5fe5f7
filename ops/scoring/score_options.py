"""The options of `evaluate.py score` and `compare`, their values, and the thetas that they name."""
import argparse
import os

import numpy as np

from ops.scoring.baselines import BASELINES
from ops.errors import InputError
from ops.scoring.scoring import LearnedRule, ScoreSettings
from ops.tasks import DATASETS, MORE_DATASETS
from ops.rule.theta_file import load_settings
from unsup_meta import load_theta

LARGEST_LAYER = 1_000_000


def add_protocol_arguments(add, ways=None, test_images=None):
    """What a score is made of; ways and test_images are the defaults, None being all."""
    default = ScoreSettings()
    add("--data", action="append", metavar="NAME|PATH.npz",
        help=f"data sets, comma separated or repeated: {', '.join(DATASETS)} (embedded, the default), "
             f"{', '.join(MORE_DATASETS)}, or an .npz with x [n, features] or images and y [n] integer labels")
    add("--data-dir", metavar="PATH", help="where data files lie (default: $UNSUP_META_DATA or ~/.cache/unsup_meta)")
    add("--shots", type=int, default=default.shots, help="labelled examples per class (default: %(default)s)")
    add("--ways", type=int, default=ways,
        help=f"classes in a draw, drawn anew for each, if there are more (default: {ways or 'all'})")
    add("--draws", type=int, default=default.draws, help="draws of labelled examples (default: %(default)s)")
    add("--test-images", type=int, default=test_images,
        help=f"test images of a draw's classes, about; drawn at random once (default: {test_images or 'all'})")
    add("--seeds", type=int, default=default.seeds, help="base models (default: %(default)s)")
    add("--seed", type=int, default=default.seed, help="seed of all random numbers (default: %(default)s)")
    add("--inner-steps", type=int, default=default.inner_steps, help="updates by the rule (default: %(default)s)")
    add("--lr", type=positive, help="inner learning rate (default: what theta was trained with)")
    add("--norm-eps", type=positive, help="e of App.60 (default: what theta was trained with)")
    add("--batch-reference", type=int, default=default.batch_reference,
        help="training examples whose batch-norm statistics are kept (default: %(default)s)")
    add("--activation", default=default.activation, help="of the base model (default: %(default)s)")
    add("--baselines", default=",".join(default.baselines),
        help=f"comma separated: {', '.join(BASELINES)}, or none (default: %(default)s)")


def settings_of(options):
    """{field of ScoreSettings: value} of the options; lr and norm_eps None where not given."""
    settings = {name: getattr(options, name) for name in ScoreSettings._fields}
    return settings | {"baselines": () if options.baselines == "none" else tuple(options.baselines.split(","))}


def data_names(given):
    """--data, repeated or comma separated -> names, each once; a file may have a comma in its name."""
    names = [n for entry in given or DATASETS for n in ([entry] if os.path.exists(entry) else entry.split(","))]
    return list(dict.fromkeys(names))


def sizes_of(text):
    """"196,128,32" -> [196, 128, 32]."""
    sizes = [int(n) if n.strip().isdecimal() else 0 for n in text.split(",")]
    if len(sizes) < 2 or min(sizes) < 1 or max(sizes) > LARGEST_LAYER:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of two or more layer sizes like 196,128,32")
    return sizes


def positive(text):
    """A positive, finite float."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value < np.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def named_path(text):
    """"NAME=PATH" -> (name, path)."""
    name, equals, path = text.partition("=")
    if not (name.strip() and name.isprintable() and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH, such as glyphs=runs/glyphs/theta.npz")
    return name.strip(), path


def open_theta(path):
    """(theta, {"lr", "norm_eps"}) from a file; where it does not say, the paper's settings.

    Raises InputError as `load_theta` and `load_settings`, and for a missing file.
    """
    if not os.path.isfile(path):
        raise InputError(f"--theta {path}: no such file; meta-train a rule with `python train.py`, "
                         "or give --theta PATH")
    defaults = {name: getattr(ScoreSettings(), name) for name in ("lr", "norm_eps")}
    return load_theta(path), load_settings(path, defaults)


def open_rules(options):
    """The `LearnedRule`s of --theta NAME=PATH; --lr and --norm-eps win over what is in the files."""
    rules = []
    for name, path in options.theta:
        if name in [rule.name for rule in rules]:
            raise InputError(f"--theta {name}: two have this name; give each NAME=PATH a name of its own")
        theta, trained_with = open_theta(path)
        rules.append(LearnedRule(name, theta, path, options.lr or trained_with["lr"],
                                 options.norm_eps or trained_with["norm_eps"]))
    return rules
