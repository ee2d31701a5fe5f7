"""`python evaluate.py COMMAND`: what a learned rule is worth, and every experiment of the project.

`score` measures few-shot accuracy (D11) of a base model before and after the rule was applied to unlabelled
data, beside baselines; `bench` measures speed; `figure NAME` runs an experiment and draws it.
"""
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from ops.processes import check_python, usable_cores

if __name__ == "__main__":
    check_python("evaluate.py")
    # At these sizes a second BLAS thread mostly waits; set it yourself for wide models.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import figures  # noqa: E402  (after the thread count is set)
from ops.command_line import OneLineParser, check_outputs, exit_code  # noqa: E402
from ops.errors import InputError  # noqa: E402
from ops.scoring import runner  # noqa: E402
from ops.scoring.flags import add_flags, count, settings_from  # noqa: E402


class Command(NamedTuple):
    """An experiment whose numbers are printed and need not be drawn: its module, the figure of --picture, a line."""
    module: str
    figure: str
    line: str


COMMANDS = {"score": Command("ops.scoring.score", "learning-curve",
                             "few-shot accuracy before and after applying the rule, with baselines"),
            "bench": Command("figures.bench", "roofline",
                             "speed of an update and a meta-gradient against sgemm; memory, start and rate of "
                             "train.py")}
FIGURE = "an experiment, measured and drawn; `figure --help` lists them"


def run_command(name, arguments):
    """`score` or `bench`.  Raises InputError before anything is measured wherever that can be known."""
    module = importlib.import_module(COMMANDS[name].module)
    parser = _parser(name, COMMANDS[name].line, module.Settings)
    parser.add_argument("--json", metavar="OUT", help="write the numbers; of several data sets: {\"results\": [...]}")
    parser.add_argument("--picture", metavar="PATH.png", help=f"draw `figure {COMMANDS[name].figure}` of the same, its "
                        "numbers beside it as .json")
    options, settings = _parsed(parser, module.Settings, arguments)
    check_outputs(options, module.inputs(settings))
    if options.picture and "steps" not in getattr(settings, "parts", ("steps",)):
        raise InputError("--picture draws inner steps; add steps to --parts")
    results = runner.run_cells(module, module.cells(settings), options.processes)
    for result in results:
        if result.error:
            raise InputError(result.error)
    numbers = module.numbers(settings, results)
    print(module.words(numbers))
    if options.json:
        runner.write_json(numbers, options.json)
    if options.picture:
        figure = figures.module_of(COMMANDS[name].figure)
        drawn = figure.numbers(settings, results)
        runner.write_picture(drawn, figure.draw(drawn), options.picture)


def run_figure(arguments):
    """`figure NAME` or `figure --all`, which goes on after one that failed.  InputError as `run_experiment`."""
    name, *more = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(figures.table())
    elif name != "--all":
        _run_one(name, more)
    else:
        failed = []
        for entry in figures.FIGURES:
            print(f"{entry.name}: {entry.line}", flush=True)
            try:
                _run_one(entry.name, more)
            except InputError as error:
                failed.append(f"{entry.name}: {error}")
        if failed:
            raise InputError("; ".join(failed))


def _run_one(name, arguments):
    module = figures.module_of(name)
    parser = _parser(f"figure {name}", module.__doc__.partition("\n")[0], module.Settings)
    parser.add_argument("--quick", action="store_true", help="the version for a laptop; settings that are given win")
    parser.add_argument("--redraw", action="store_true", help="draw again from the numbers, computing nothing")
    parser.add_argument("--folder", default=str(Path(figures.__file__).parent), metavar="PATH", help="for picture and "
                        "numbers, and results/, from which another run goes on (default: figures/)")
    parser.add_argument("--as", dest="file", default=name, metavar="FILE", help="name of both (default: %(default)s)")
    options, settings = _parsed(parser, module.Settings, arguments)
    picture = Path(options.folder) / f"{options.file}.png"
    if options.redraw:
        runner.redraw(name, module, picture)
    else:
        runner.run_experiment(name, module, settings, picture, options.processes)


def _parser(name, line, settings):
    parser = OneLineParser(prog=f"evaluate.py {name}", description=line)
    add_flags(parser.add_argument, settings)
    parser.add_argument("--processes", type=count, default=usable_cores(), metavar="N",
                        help="at work at once (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="the rule's definitions instead of its kernels: slow")
    return parser


def _parsed(parser, settings, arguments):
    options = parser.parse_args(arguments)
    if options.plain:
        from ops.rule.fast import use_definitions
        use_definitions()
    return options, settings_from(settings, options, getattr(options, "quick", False))


def main(arguments=None):
    """Run the command line; returns 0, 2 after one line on standard error for bad input, 130 if interrupted."""
    name, *more = (sys.argv[1:] if arguments is None else arguments) or [""]
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:  # what is done is kept already; an exception might be raised within a callback, which loses it
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        if name in COMMANDS:
            run_command(name, more)
        elif name == "figure":
            run_figure(more)
        elif name in ("-h", "--help"):
            lines = {command: entry.line for command, entry in COMMANDS.items()} | {"figure": FIGURE}
            print("usage: evaluate.py COMMAND ...; evaluate.py COMMAND --help tells its settings\n")
            print("\n".join(f"  {command:8} {line}" for command, line in lines.items()))
        else:
            raise InputError(f"{name or 'no command'}: give score, bench or figure (`python evaluate.py --help`)")
    except (InputError, MemoryError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError):
            text = f"out of memory ({text}); use smaller --sizes or less data"
        print(f"evaluate.py: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
