"""The command line of `train.py`."""
from pathlib import Path

from ops.engine import config as settings
from ops.command_line import OneLineParser
from ops.errors import InputError


def parse(argv):
    """(config, run folder, resume, whether to score at the end) from the command line.

    Raises InputError for options that do not fit, or where a run would be overwritten.
    """
    parser = OneLineParser(prog="train.py", description="Meta-train the unsupervised update rule (Alg. 1).")
    parser.add_argument("--preset", default="laptop", choices=settings.PRESETS, help="where the settings start from")
    parser.add_argument("--name", default=None, help="the run's folder under runs/; the preset's name if not given")
    parser.add_argument("--resume", action="store_true", help="go on from runs/NAME/checkpoint.npz")
    parser.add_argument("--no-score", action="store_true", help="do not score the learned theta at the end")
    settings.add_flags(parser)
    args = vars(parser.parse_args(argv))
    preset, name, resume, no_score = (args.pop(k) for k in ("preset", "name", "resume", "no_score"))
    config = settings.make_config(preset, args)
    run = Path("runs") / settings.run_name(name or preset)
    if not resume and run.exists() and any(run.iterdir()):
        raise InputError(f"{run} already holds a run: go on with it (--resume), start another (--name NAME) or remove it")
    return config, run, resume, not no_score
