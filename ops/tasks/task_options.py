"""The options of `evaluate.py tasks`: the settings of a run of `train.py` that its tasks depend on."""
import argparse
import dataclasses

from ops.engine.config import PRESETS, Config, make_config

TASK_SETTINGS = ("tasks", "ways", "case", "max_shift", "data_dir", "font_dir", "system_fonts", "digits", "glyph_ways",
                 "augmented", "rotation", "glyph_shift", "imagenet_ways", "image_shift", "p_task_dropout",
                 "p_example_dropout", "dropout", "p_class_permutation", "class_permutations", "p_x_shift", "x_shift",
                 "shots", "seed")


def add_task_arguments(add):
    """--preset and a flag for each of TASK_SETTINGS, as `train.py` has them."""
    add("--preset", choices=PRESETS, default="laptop", help="settings to start from (default: %(default)s)")
    fields = {f.name: f for f in dataclasses.fields(Config)}
    for name in TASK_SETTINGS:
        f = fields[name]
        add("--" + name.replace("_", "-"), type=f.type, choices=f.metadata.get("choices"), default=argparse.SUPPRESS,
            help=f"{f.metadata['help']} [laptop: {'none' if f.default == '' else f.default}]".replace("%", "%%"))


def task_config(options):
    """The Config of the options.  InputError as `make_config`."""
    given = {name: value for name, value in vars(options).items() if name in TASK_SETTINGS}
    return make_config(options.preset, given)
