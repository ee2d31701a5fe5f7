"""`python evaluate.py COMMAND`: what a learned rule is worth, and every experiment of the project.

`score` measures few-shot accuracy (D11) of a base model before and after the rule was applied to unlabelled
data, beside baselines; `figure NAME` runs an experiment and draws it; `bench` measures speed.
"""
import os
import sys
from pathlib import Path

if __name__ == "__main__":  # at these sizes a second BLAS thread mostly waits; set it yourself for wide models
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import figures  # noqa: E402  (after the thread count is set)
from ops.command_line import OneLineParser, check_outputs  # noqa: E402
from ops.errors import InputError  # noqa: E402
from ops.processes import usable_cores  # noqa: E402
from ops.scoring import runner, score, tables  # noqa: E402
from ops.scoring.flags import add_flags, count, settings_from  # noqa: E402


def run_score(arguments):
    """Few-shot accuracy before and after applying the rule, with baselines."""
    parser = _parser("score", run_score)
    add_flags(parser.add_argument, score.Settings)
    _add_outputs(parser, "draw accuracy against inner steps")
    parser.add_argument("--processes", type=count, default=usable_cores(), help="at work at once (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="the rule's definitions instead of its kernels: slow")
    options = parser.parse_args(arguments)
    settings = settings_from(score.Settings, options)
    check_outputs(options, [settings.theta, *settings.data])
    if options.plain:
        from ops.rule.fast import use_definitions
        use_definitions()
    results = _all_of(runner.run_cells(score, score.cells(settings), options.processes))
    numbers = score.scores(settings, results)
    print(tables.score_table(numbers))
    if options.json:
        runner.write_json(numbers[0] if len(numbers) == 1 else {"results": numbers}, options.json)
    if options.picture:
        from figures import learning_curve
        _draw(learning_curve, settings, results, options.picture)


def run_bench(arguments):
    """Speed of an update and of a meta-gradient against sgemm on the same shapes; memory, start and rate of train.py."""
    from figures import bench, roofline
    parser = _parser("bench", run_bench)
    add_flags(parser.add_argument, bench.Settings)
    _add_outputs(parser, "draw the time of each block against sgemm's, as `figure roofline`")
    options = parser.parse_args(arguments)
    settings = settings_from(bench.Settings, options)
    if options.picture and "steps" not in settings.parts:
        raise InputError("--picture draws inner steps; add steps to --parts")
    check_outputs(options, [])
    results = _all_of(runner.run_cells(bench, bench.cells(settings)))
    numbers = bench.numbers(settings, results)
    print(bench.words(numbers))
    if options.json:
        runner.write_json(numbers, options.json)
    if options.picture:
        _draw(roofline, settings, results, options.picture)


def run_figure(arguments):
    """An experiment, computed and drawn: `figure NAME [--quick]`, `figure --all [--quick]`; `figure --help` lists them."""
    name, *more = arguments or ["--help"]
    if name in ("-h", "--help"):
        return print(figures.table())
    if name != "--all":
        return _run_figure(name, more)
    failed = []
    for entry in figures.FIGURES:
        print(f"{entry.name}: {entry.line}", flush=True)
        try:
            _run_figure(entry.name, more)
        except InputError as error:
            failed.append(f"{entry.name}: {error}")
    if failed:
        raise InputError("; ".join(failed))


def _run_figure(name, arguments):
    module = figures.module_of(name)
    parser = OneLineParser(prog=f"evaluate.py figure {name}", description=module.__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="the version for a laptop; settings that are given win")
    add("--redraw", action="store_true", help="draw again from the numbers, computing nothing")
    add("--folder", default=str(Path(figures.__file__).parent), metavar="PATH",
        help="where picture and numbers go, and what was measured, in results/, which another run goes on from "
             "(default: figures/)")
    add("--processes", type=count, default=usable_cores(), help="at work at once (default: %(default)s)")
    add_flags(add, module.Settings)
    options = parser.parse_args(arguments)
    if options.redraw:
        return runner.redraw(name, module, options.folder)
    settings = settings_from(module.Settings, options, options.quick)
    runner.run_experiment(name, module, settings, options.folder, options.processes)


def _parser(name, run):
    return OneLineParser(prog=f"evaluate.py {name}", description=run.__doc__)


def _add_outputs(parser, picture):
    parser.add_argument("--json", metavar="OUT", help="write the numbers here; score of several data sets: {\"results\": [...]}")
    parser.add_argument("--picture", metavar="PATH.png", help=f"{picture}, its numbers beside it as .json")


def _all_of(results):
    """The results.  InputError if one of them failed."""
    for result in results:
        if result.error:
            raise InputError(result.error)
    return results


def _draw(module, settings, results, path):
    numbers = module.numbers(settings, results)
    runner.write_picture(numbers, module.draw(numbers), path)


COMMANDS = {"score": run_score, "figure": run_figure, "bench": run_bench}


def main(arguments=None):
    """Run the command line; returns 0, 2 after one line on standard error for bad input, 130 if interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments[:1] in (["-h"], ["--help"]):
            lines = [f"  {name:8} {run.__doc__.partition(chr(10))[0]}" for name, run in COMMANDS.items()]
            print("\n".join(["usage: evaluate.py COMMAND ...; evaluate.py COMMAND --help tells its settings", "", *lines]))
        elif arguments[:1] and arguments[0] in COMMANDS:
            COMMANDS[arguments[0]](arguments[1:])
        else:
            raise InputError(f"give a command, one of {', '.join(COMMANDS)} (`python evaluate.py --help` tells of them)")
    except (InputError, MemoryError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError):
            text = f"out of memory ({text}); use smaller --sizes or less data"
        print(f"evaluate.py: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
