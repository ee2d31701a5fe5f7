"""`python evaluate.py COMMAND`: what a learned rule is worth.

`score` measures few-shot accuracy (D11) of a base model before and after the rule was applied to
unlabelled data, beside baselines; `compare` does so for several learned rules and data sets.  A further
command is one entry of COMMANDS.
"""
import json
import os
import sys
from collections import namedtuple

if __name__ == "__main__":  # at these sizes a second BLAS thread mostly waits; set it yourself for wide models
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import unsup_meta as um
from ops.scoring.baselines import baseline_named
from ops.command_line import OneLineParser, check_outputs
from ops.errors import InputError
from ops.scoring.few_shot import few_shot_accuracy
from ops.files import write_atomically
from ops.scoring.score_options import (add_protocol_arguments, data_names, named_path, open_rules, open_theta,
                               settings_of, sizes_of)
from ops.scoring.scoring import (BATCHES, DRAWS, HIDDEN_AND_OUTPUT, PHI, REFERENCE, ScoreSettings, cell, check_score,
                         curve_steps, limit_test, print_table, protocol, row_label, summary, ways_of)
from ops.tasks import DATASETS, load_dataset
from ops.rule.theta_file import theta_dims
from ops.processes import usable_cores

DEFAULT_THETA = "runs/laptop/theta.npz"
COMPARED_WAYS, COMPARED_TEST_IMAGES = 10, 2000  # what `compare` asks of every data set


# --- Applying the rule --------------------------------------------------------------------------


def apply_rule(theta, phi, x_train, steps, lr, norm_eps, rng, on_step=None, activation="relu", source="theta"):
    """The base model after `steps` unsupervised updates (App.1-7) on batches drawn uniformly from x_train.

    theta {name: array}, tied to batches of B; phi a list of `Layer`, x_train [n, N0], all of one
    dtype; each batch holds B different rows, drawn from `rng`.  on_step(t, phi) is called after
    update t = 1..steps.  `source` names theta in messages.
    Raises InputError if n < B, if theta, phi and x_train do not fit, or once phi is not finite.
    """
    B = theta_dims(theta)["batch_size"]
    if len(x_train) < B:
        raise InputError(f"{source} needs batches of {B}, but there are only {len(x_train)} training examples; "
                         f"give more data or a theta of a smaller batch size")
    for t in range(1, steps + 1):
        x = x_train[rng.choice(len(x_train), B, replace=False)]
        phi = um.unsupervised_update(phi, x, theta, lr, norm_eps, activation)
        if not all(np.isfinite(array).all() for layer in phi for array in layer):
            raise InputError(f"{source}: the base model is NaN or infinite after inner step {t} "
                             f"(lr {lr:g}, norm_eps {norm_eps:g}); lower --lr, scale the data or use another theta")
        if on_step is not None:
            on_step(t, phi)
    return phi


def feature_accuracy(phi, dataset, settings):
    """Few-shot accuracies [draws] of phi's features (D11); phi and dataset of one dtype.

    The reference batch and the draws depend on settings.seed alone, so phis can be compared draw by draw.
    InputError as `few_shot_accuracy`.
    """
    n_reference = min(settings.batch_reference, len(dataset.x_train))
    rows = settings.stream(REFERENCE).choice(len(dataset.x_train), n_reference, replace=False)
    reference = dataset.x_train[rows]
    train, test = (um.features(phi, x, reference, settings.activation) for x in (dataset.x_train, dataset.x_test))
    return few_shot_accuracy(train, dataset.y_train, test, dataset.y_test, settings.shots, settings.draws,
                             settings.stream(DRAWS), ways=settings.ways)


def accuracy_curve(theta, dataset, sizes, settings, source="theta", on_point=None, steps=None):
    """Accuracies [points, seeds, draws] after each of `steps` (default: `curve_steps`) updates by the rule (D11).

    Each seed of phi has streams of its own for its start and its batches; all seeds and steps share
    the reference batch and the draws of labelled points, and so can be compared pair by pair.
    All of dataset's test images are used.  InputError as `apply_rule` and `few_shot_accuracy`.
    """
    dtype = theta["merge"].dtype
    dataset = dataset._replace(x_train=dataset.x_train.astype(dtype, copy=False),
                               x_test=dataset.x_test.astype(dtype, copy=False))
    steps = curve_steps(settings.inner_steps) if steps is None else steps
    values = np.empty((len(steps), settings.seeds, settings.draws))
    for k in range(settings.seeds):
        def measure(t, phi):
            if t in steps:
                values[steps.index(t), k] = feature_accuracy(phi, dataset, settings)
                if on_point is not None:
                    on_point(f"{dataset.name}: seed {k + 1} of {settings.seeds}, step {t} of {settings.inner_steps}")

        phi = um.init_phi(settings.stream(PHI, k), sizes, dtype)
        measure(0, phi)
        apply_rule(theta, phi, dataset.x_train, max(steps), settings.lr, settings.norm_eps,
                   settings.stream(BATCHES, k), measure, settings.activation, source)
    return values


# --- Scoring ------------------------------------------------------------------------------------


def score(theta, dataset, sizes, settings=ScoreSettings(), source="theta", on_point=None):
    """(rows, curve): few-shot accuracy of every method, and of the rule over inner steps (D11).

    rows  [{"method", "mean", "sem", "n"}]: "random" (phi as it starts), "learned" (after
          settings.inner_steps updates), then the baselines "raw", "pca32"; n = seeds x draws
    curve {"steps", "mean", "sem": [points], "seeds": [seeds][points], each a mean over draws}
    `sizes` = [N0, ..., NL]; `source` names theta in messages.
    Raises InputError as `check_score`, `apply_rule` and `few_shot_accuracy`.
    """
    check_score(theta, dataset, sizes, settings, source)
    dataset = limit_test(dataset, settings)
    with np.errstate(all="ignore"):  # what is not finite is found and reported in words
        values = accuracy_curve(theta, dataset, sizes, settings, source, on_point)
        scored = [("random", values[0]), ("learned", values[-1])]
        scored += [_baseline(name, dataset, settings) for name in settings.baselines]
    rows = [{"method": method} | summary(accuracies) for method, accuracies in scored]
    points = [summary(accuracies) for accuracies in values]
    curve = {"steps": curve_steps(settings.inner_steps), "mean": [p["mean"] for p in points],
             "sem": [p["sem"] for p in points], "seeds": values.mean(axis=2).T.tolist()}
    return rows, curve


def _baseline(name, dataset, settings):
    return baseline_named(name)(dataset, settings.shots, settings.draws, settings.stream(DRAWS), settings.ways)


def score_report(theta, settings, datasets=tuple(DATASETS), sizes=None, source="theta", stream=None, data_dir=None):
    """Score theta on each data set (names or paths of `.npz`), print the table on `stream` (standard output).

    settings: {field of ScoreSettings: value}, at least theta's lr and norm_eps.  sizes: [N0, ..., NL],
    or None for 128 x 4 + 32 behind each data set's own N0.  data_dir: where data files lie.  All is
    checked before anything is computed.
    Returns one JSON-ready dict per data set: "data", "rows", "curve" (see `score`) and all settings.
    """
    settings = ScoreSettings(**settings)
    jobs = []
    for name in datasets:
        dataset = load_dataset(name, data_dir)
        jobs.append((name, dataset, list(sizes or (dataset.x_train.shape[1], *HIDDEN_AND_OUTPUT))))
        check_score(theta, dataset, jobs[-1][2], settings, source)
    results = []
    for name, dataset, layer_sizes in jobs:
        rows, curve = score(theta, dataset, layer_sizes, settings, source, _progress)
        results.append({"data": name, "rows": rows, "curve": curve, "theta": source, "sizes": layer_sizes,
                        "n_train": len(dataset.x_train), "n_test": len(limit_test(dataset, settings).x_test),
                        "classes": list(dataset.classes)} | settings._asdict())
    _progress("")
    print_table(results, stream or sys.stdout)
    return results


def _progress(text):
    """One line on a terminal's standard error, written over by the next; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# --- Comparing several rules --------------------------------------------------------------------


def compare_report(rules, settings, datasets=tuple(DATASETS), stream=None, data_dir=None, on_result=None):
    """Score `LearnedRule`s on each data set beside what they start from; prints on `stream` row by row.

    settings: a ScoreSettings, whose lr and norm_eps are replaced by each rule's; the base model is 128 x 4
    + 32 behind each data set's own N0.  One data set is in memory at a time.  on_result(results) is called
    after each, with one JSON-ready dict per data set done: "data", "classes" (their number), "ways",
    "chance", "sizes", "n_train", "n_test" and "rows" [{"method", "mean", "sem", "n"}]: "random", the
    baselines, then "learned" with "theta", the rule's name.  A rule that fails on a data set, its base
    model growing beyond bounds, has mean None and "error", the reason, in its row; the rest goes on.
    Raises InputError, before anything is computed, as `load_dataset` and `check_score`.  Returns the results.
    """
    stream = stream or sys.stdout
    for name in datasets:
        _check_comparison(rules, settings, load_dataset(name, data_dir))
    print(protocol(settings._asdict(), (None, *HIDDEN_AND_OUTPUT)), file=stream, flush=True)
    results = []
    for name in datasets:
        results.append({"data": name} | _compared(rules, settings, load_dataset(name, data_dir), stream))
        if on_result is not None:
            on_result(results)
    return results


def _check_comparison(rules, settings, dataset):
    for rule in rules:
        check_score(rule.theta, dataset, [dataset.x_train.shape[1], *HIDDEN_AND_OUTPUT], settings, rule.source)


def _compared(rules, settings, dataset, stream):
    """The result of one data set, see `compare_report`; each row is printed when it is there."""
    C, ways, n_train, inputs = len(dataset.classes), ways_of(dataset, settings), *dataset.x_train.shape
    dataset = limit_test(dataset, settings)
    result = {"classes": C, "ways": ways, "chance": 1 / ways, "sizes": [inputs, *HIDDEN_AND_OUTPUT],
              "n_train": n_train, "n_test": len(dataset.x_test), "rows": []}
    print(f"{dataset.name}: {ways} of {C} classes, chance {1 / ways:.3f}, {inputs} inputs, {n_train} training and "
          f"{result['n_test']} test examples", file=stream, flush=True)
    with np.errstate(all="ignore"):  # what is not finite is found and reported in words
        for row in _compared_rows(rules, settings, dataset, result["sizes"]):
            result["rows"].append(row)
            _progress("")
            print(f"  {row_label(row):<30}  {cell(row)}", file=stream, flush=True)
    return result


def _compared_rows(rules, settings, dataset, sizes):
    """The rows of one data set, one by one."""
    start = accuracy_curve(rules[0].theta, dataset, sizes, settings, steps=[0])
    yield {"method": "random"} | summary(start[0])
    for name in settings.baselines:
        method, accuracies = _baseline(name, dataset, settings)
        yield {"method": method} | summary(accuracies)
    for rule in rules:
        own, row = settings._replace(lr=rule.lr, norm_eps=rule.norm_eps), {"method": "learned", "theta": rule.name}
        try:
            values = accuracy_curve(rule.theta, dataset, sizes, own, rule.source, _progress, [own.inner_steps])
            yield row | summary(values[0])
        except InputError as error:
            yield row | {"mean": None, "sem": None, "n": 0, "error": str(error)}


# --- The command line ---------------------------------------------------------------------------


def _add_score_arguments(add):
    add("--theta", default=DEFAULT_THETA, metavar="PATH", help="learned rule (default: %(default)s)")
    add("--sizes", type=sizes_of, metavar="N0,...,NL",
        help="base model (default: the data's N0,128,128,128,128,32)")
    add_protocol_arguments(add)
    add("--json", metavar="OUT", help="write the numbers here; several data sets become {\"results\": [...]}")
    add("--picture", metavar="PATH.png", help="draw accuracy against inner steps, its numbers beside it as .json")


def run_score(options):
    """The command `score`.  Raises InputError before anything is computed wherever that can be known."""
    names = data_names(options.data)
    check_outputs(options, [options.theta, *names])
    theta, trained_with = open_theta(options.theta)
    settings = settings_of(options)
    settings |= {name: value for name, value in trained_with.items() if settings[name] is None}
    results = score_report(theta, settings, names, options.sizes, options.theta, data_dir=options.data_dir)
    if options.json:
        document = results[0] if len(results) == 1 else {"results": results}
        write_atomically(options.json, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    if options.picture:
        from figures import learning_curve  # Matplotlib is slow to load and seldom wanted
        learning_curve.write(learning_curve.numbers_of(results), options.picture)


def _add_compare_arguments(add):
    add("--theta", action="append", type=named_path, required=True, metavar="NAME=PATH",
        help="a learned rule and the name that it gets; repeated")
    add_protocol_arguments(add, COMPARED_WAYS, COMPARED_TEST_IMAGES)
    add("--json", metavar="OUT", help="write the numbers here, after each data set")
    add("--picture", metavar="PATH.png", help="draw the comparison, its numbers beside it as .json")


def run_compare(options):
    """The command `compare`.  InputError for bad input before the work, for rules that failed after it."""
    names = data_names(options.data)
    check_outputs(options, [*(path for _, path in options.theta), *names])
    rules = open_rules(options)
    settings = ScoreSettings(**settings_of(options))
    document = {name: value for name, value in settings._asdict().items() if name not in ("lr", "norm_eps")}
    document["thetas"] = {r.name: {"path": r.source, "lr": r.lr, "norm_eps": r.norm_eps} for r in rules}

    def keep(results):  # what is done is kept if a later data set is interrupted
        document["results"] = results
        if options.json:
            write_atomically(options.json, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())

    results = compare_report(rules, settings, names, data_dir=options.data_dir, on_result=keep)
    if options.picture:
        from figures import comparison  # Matplotlib is slow to load and seldom wanted
        comparison.write(comparison.numbers_of(document), options.picture)
    failed = [(result["data"], row["error"]) for result in results for row in result["rows"] if "error" in row]
    if failed:
        raise InputError(f"{len(failed)} score(s) failed, the first on data '{failed[0][0]}': {failed[0][1]}")


def _add_bench_arguments(add):
    from figures import bench
    add("--cases", default=",".join(bench.bench_cases.CASES), help="comma separated (default: %(default)s)")
    add("--threads", help="thread counts, comma separated (default: 1 and all usable cores)")
    add("--parts", default=",".join(bench.PARTS), help="what to measure, comma separated: inner steps, the start of "
        "train.py, its whole loop (default: %(default)s)")
    add("--wide", action="store_true", help="also the memory of one gradient of a model 512 units wide; a minute")
    add("--json", metavar="OUT", help="write the numbers here")
    add("--picture", metavar="PATH.png", help="draw the time of each block against sgemm's, numbers beside it as .json")


def run_bench(options):
    """The command `bench`: an inner step against sgemm on the same shapes, memory, start and the whole loop.

    Raises InputError before anything is measured for what is not known, or cannot be written.
    """
    from figures import bench
    cases, parts = _chosen("--cases", options.cases, bench.bench_cases.CASES), _chosen("--parts", options.parts, bench.PARTS)
    cores = usable_cores()
    texts = ["1", str(cores)] if options.threads is None else options.threads.split(",")
    if not all(text.isdecimal() and int(text) > 0 for text in texts):
        raise InputError(f"--threads {options.threads}: give thread counts of 1 or more, comma separated")
    if options.picture and "steps" not in parts:
        raise InputError("--picture draws inner steps; add steps to --parts")
    check_outputs(options, [])
    result = bench.measure_all(cases, sorted({int(text) for text in texts}), cores, parts, options.wide, _progress)
    _progress("")
    print(bench.table(result))
    if options.json:
        write_atomically(options.json, (json.dumps(result, indent=1) + "\n").encode())
    if options.picture:
        from figures import roofline  # Matplotlib is slow to load and seldom wanted
        roofline.write(roofline.numbers_of(result), options.picture)


def _chosen(flag, text, known):
    """The comma-separated names of a flag, each once.  InputError for one that is not known."""
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise InputError(f"{flag} {name}: unknown; choose from {', '.join(known)}")
    return names


def _add_curves_arguments(add):
    add("runs", nargs="+", metavar="RUN", help="folders of meta-training runs, as runs/laptop")
    add("--picture", metavar="PATH.png", default="figures/meta_training_curves.png", help="(default: %(default)s)")


def run_curves(options):
    """The command `curves`: J and accuracy over meta-training, from the logs alone (Fig. 3)."""
    from figures import meta_training_curves
    check_outputs(options, [])
    meta_training_curves.write(options.runs, options.picture)
    print(f"drawn: {options.picture}, its numbers beside it")


def _add_tasks_arguments(add):
    from figures.contact_sheet import add_task_arguments
    add_task_arguments(add)
    add("--picture", metavar="PATH.png", default="runs/contact_sheet.png", help="(default: %(default)s)")


def run_tasks(options):
    """The command `tasks`: what a worker is given, in words and as a contact sheet."""
    from figures import contact_sheet
    contact_sheet.run(options)


Command = namedtuple("Command", "help add_arguments run")
COMMANDS = {
    "score": Command("few-shot accuracy before and after applying the rule, with baselines", _add_score_arguments,
                     run_score),
    "compare": Command("few-shot accuracy of several learned rules on several data sets, with baselines",
                       _add_compare_arguments, run_compare),
    "bench": Command("speed of an update and of a meta-gradient against sgemm on the same shapes",
                     _add_bench_arguments, run_bench),
    "curves": Command("meta-training curves of one or several runs (Fig. 3)", _add_curves_arguments, run_curves),
    "tasks": Command("what a worker of train.py is given: a contact sheet of the tasks of a mixture",
                     _add_tasks_arguments, run_tasks),
}


def parser():
    """The argument parser of all COMMANDS."""
    top = OneLineParser(prog="evaluate.py", description="Measure a learned unsupervised update rule.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help).add_argument)
    return top


def main(arguments=None):
    """Run the command line; returns 0, 2 after one line on standard error for bad input, 130 if interrupted."""
    try:
        options = parser().parse_args(arguments)
        COMMANDS[options.command].run(options)
    except (InputError, MemoryError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError):
            text = f"out of memory ({text}); use smaller --sizes or less data"
        _progress("")
        print(f"evaluate.py: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        _progress("")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
