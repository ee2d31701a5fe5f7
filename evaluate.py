"""`python evaluate.py COMMAND`: what a learned rule is worth.

`score` measures few-shot accuracy (D11) of a base model before and after the rule was applied to
unlabelled data, beside baselines.  A further command is one entry of COMMANDS.
"""
import argparse
import json
import os
import sys
from collections import namedtuple
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # at these sizes a second BLAS thread mostly waits; set it yourself for wide models
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import unsup_meta as um
from ops.activations import activation_named
from ops.baselines import BASELINES, baseline_named, method_label
from ops.command_line import OneLineParser
from ops.errors import InputError
from ops.few_shot import few_shot_accuracy, mean_and_sem
from ops.files import write_atomically
from ops.tasks import DATASETS, MORE_DATASETS, load_dataset, require_shots
from ops.theta_file import load_settings
from ops.workers import usable_cores

DEFAULT_THETA = "runs/laptop/theta.npz"
HIDDEN_AND_OUTPUT = (128, 128, 128, 128, 32)  # the paper's evaluation network (Fig. 4)
CURVE_POINTS = 10
LARGEST_INPUT = 1e12
LARGEST_LAYER = 1_000_000
LONGEST_NAME = 200  # bytes of a file name; the temporary one beside it is a little longer
PHI, BATCHES, REFERENCE, DRAWS = range(4)  # what a random stream is for


class ScoreSettings(NamedTuple):
    """How a theta is scored; lr and norm_eps are what it was meta-trained with."""
    lr: float = 3e-4
    norm_eps: float = 1.0
    inner_steps: int = 200
    shots: int = 10
    draws: int = 20
    seeds: int = 3
    seed: int = 0
    batch_reference: int = 2000
    baselines: tuple = ("raw", "pca")
    activation: str = "relu"


# --- Applying the rule --------------------------------------------------------------------------


def apply_rule(theta, phi, x_train, steps, lr, norm_eps, rng, on_step=None, activation="relu", source="theta"):
    """The base model after `steps` unsupervised updates (App.1-7) on batches drawn uniformly from x_train.

    theta {name: array}, tied to batches of B; phi a list of `Layer`, x_train [n, N0], all of one
    dtype; each batch holds B different rows, drawn from `rng`.  on_step(t, phi) is called after
    update t = 1..steps.  `source` names theta in messages.
    Raises InputError if n < B, if theta, phi and x_train do not fit, or once phi is not finite.
    """
    B = theta["top_d/unit1/w"].shape[1]
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


def curve_steps(inner_steps, points=CURVE_POINTS):
    """Inner steps to measure at: 0, ..., inner_steps, denser where the rule moves fastest, the beginning."""
    return sorted({round(inner_steps * (i / points) ** 2) for i in range(points + 1)})


def accuracy_curve(theta, dataset, sizes, settings, source="theta", on_point=None):
    """Accuracies [points, seeds, draws] at the `curve_steps` of applying the rule (D11).

    Each seed of phi has streams of its own for its start and its batches; all seeds and steps share
    the reference batch and the draws of labelled points, and so can be compared pair by pair.
    InputError as `apply_rule` and `few_shot_accuracy`.
    """
    stream = lambda *key: np.random.default_rng([settings.seed, *key])
    dtype = theta["merge"].dtype
    x_train, x_test = dataset.x_train.astype(dtype), dataset.x_test.astype(dtype)
    n_reference = min(settings.batch_reference, len(x_train))
    reference = x_train[stream(REFERENCE).choice(len(x_train), n_reference, replace=False)]
    steps = curve_steps(settings.inner_steps)
    values = np.empty((len(steps), settings.seeds, settings.draws))
    for k in range(settings.seeds):
        def measure(t, phi):
            if t not in steps:
                return
            train, test = (um.features(phi, x, reference, settings.activation) for x in (x_train, x_test))
            values[steps.index(t), k] = few_shot_accuracy(
                train, dataset.y_train, test, dataset.y_test, settings.shots, settings.draws, stream(DRAWS))
            if on_point is not None:
                on_point(f"{dataset.name}: seed {k + 1} of {settings.seeds}, step {t} of {settings.inner_steps}")

        phi = um.init_phi(stream(PHI, k), sizes, dtype)
        measure(0, phi)
        apply_rule(theta, phi, x_train, settings.inner_steps, settings.lr, settings.norm_eps,
                   stream(BATCHES, k), measure, settings.activation, source)
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
    with np.errstate(all="ignore"):  # what is not finite is found and reported in words
        values = accuracy_curve(theta, dataset, sizes, settings, source, on_point)
        scored = [("random", values[0]), ("learned", values[-1])]
        for name in settings.baselines:
            draw_rng = np.random.default_rng([settings.seed, DRAWS])
            scored.append(baseline_named(name)(dataset, settings.shots, settings.draws, draw_rng))
    rows = [{"method": method} | _summary(accuracies) for method, accuracies in scored]
    points = [_summary(accuracies) for accuracies in values]
    curve = {"steps": curve_steps(settings.inner_steps), "mean": [p["mean"] for p in points],
             "sem": [p["sem"] for p in points], "seeds": values.mean(axis=2).T.tolist()}
    return rows, curve


def _summary(accuracies):
    mean, sem, n = mean_and_sem(accuracies)
    return {"mean": mean, "sem": sem if np.isfinite(sem) else None, "n": n}  # JSON has no NaN


def check_score(theta, dataset, sizes, settings, source="theta"):
    """Raise InputError unless data set, base model, theta and settings fit together; nothing is computed yet."""
    features, n = dataset.x_train.shape[1], len(dataset.x_train)
    if sizes[0] != features:
        raise InputError(f"sizes start with {sizes[0]}, but data '{dataset.name}' has {features} features; "
                         f"start --sizes with {features} or leave it out")
    largest = max(np.abs(x).max() for x in (dataset.x_train, dataset.x_test))
    if not largest < LARGEST_INPUT:
        raise InputError(f"data '{dataset.name}' reaches {largest:.1g}, whose squares overflow float32; scale the data "
                         "to about 1")
    B = theta["top_d/unit1/w"].shape[1]
    if n < B:
        raise InputError(f"{source} needs batches of {B}, but data '{dataset.name}' has only {n} training examples; "
                         "give more data or a theta of a smaller batch size")
    for name in ("shots", "draws", "seeds"):
        if getattr(settings, name) < 1:
            raise InputError(f"{name} is {getattr(settings, name)}; ask for 1 or more")
    for name in ("inner_steps", "seed"):
        if getattr(settings, name) < 0:
            raise InputError(f"{name} is {getattr(settings, name)}; ask for 0 or more")
    if settings.batch_reference < 2:
        raise InputError(f"batch_reference is {settings.batch_reference}; statistics need 2 examples or more")
    activation_named(settings.activation)
    for name in settings.baselines:
        baseline_named(name)
    require_shots(dataset, settings.shots)


def score_report(theta, settings, datasets=tuple(DATASETS), sizes=None, source="theta", stream=None, data_dir=None):
    """Score theta on each data set (names or paths of `.npz`), print the table on `stream` (standard output).

    settings: {field of ScoreSettings: value}, at least theta's lr and norm_eps.  sizes: [N0, ..., NL],
    or None for 128 x 4 + 32 behind each data set's own N0.  data_dir: where data files lie.  All is checked before anything is computed.
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
                        "n_train": len(dataset.x_train), "n_test": len(dataset.x_test),
                        "classes": list(dataset.classes)} | settings._asdict())
    _progress("")
    print_table(results, stream or sys.stdout)
    return results


def _progress(text):
    """One line on a terminal's standard error, written over by the next; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def print_table(results, stream):
    """Print results of `score_report` that share their settings: a row per method, a column per data set."""
    first = results[0]
    network = "-".join(map(str, first["sizes"][1:]))
    print(f"few-shot accuracy, mean +- standard error: {first['shots']} labelled examples per class, "
          f"{first['draws']} draws, {first['seeds']} seeds of phi, {first['inner_steps']} inner steps, "
          f"base model inputs-{network}", file=stream)
    methods = list(dict.fromkeys(row["method"] for result in results for row in result["rows"]))
    titles = [os.path.basename(result["data"]) for result in results]
    widths = [max(len(title), len("0.000 +- 0.000")) for title in titles]
    line = lambda label, cells: f"{label:<26}" + "".join(f"  {c:<{w}}" for c, w in zip(cells, widths))
    print(line("", titles).rstrip(), file=stream)
    for method in methods:
        found = [next((r for r in result["rows"] if r["method"] == method), None) for result in results]
        print(line(method_label(method), [_cell(row) for row in found]).rstrip(), file=stream)


def _cell(row):
    if row is None:
        return "-"
    return f"{row['mean']:.3f}" + ("" if row["sem"] is None else f" +- {row['sem']:.3f}")


# --- The command line ---------------------------------------------------------------------------


def _add_score_arguments(add):
    default = ScoreSettings()
    add("--theta", default=DEFAULT_THETA, metavar="PATH", help="learned rule (default: %(default)s)")
    add("--data", action="append", metavar="NAME|PATH.npz",
        help=f"data sets, comma separated or repeated: {', '.join(DATASETS)} (embedded, the default), "
             f"{', '.join(MORE_DATASETS)}, or an .npz with x [n, features] or images and y [n] integer labels")
    add("--data-dir", metavar="PATH", help="where data files lie (default: $UNSUP_META_DATA or ~/.cache/unsup_meta)")
    add("--sizes", type=_sizes, metavar="N0,...,NL", help="base model (default: the data's N0,128,128,128,128,32)")
    add("--shots", type=int, default=default.shots, help="labelled examples per class (default: %(default)s)")
    add("--draws", type=int, default=default.draws, help="draws of labelled examples (default: %(default)s)")
    add("--seeds", type=int, default=default.seeds, help="base models (default: %(default)s)")
    add("--seed", type=int, default=default.seed, help="seed of all random numbers (default: %(default)s)")
    add("--inner-steps", type=int, default=default.inner_steps, help="updates by the rule (default: %(default)s)")
    add("--lr", type=_positive, help="inner learning rate (default: what theta was trained with)")
    add("--norm-eps", type=_positive, help="e of App.60 (default: what theta was trained with)")
    add("--batch-reference", type=int, default=default.batch_reference,
        help="training examples whose batch-norm statistics are kept (default: %(default)s)")
    add("--activation", default=default.activation, help="of the base model (default: %(default)s)")
    add("--baselines", default=",".join(default.baselines),
        help=f"comma separated: {', '.join(BASELINES)}, or none (default: %(default)s)")
    add("--json", metavar="OUT", help="write the numbers here; several data sets become {\"results\": [...]}")
    add("--picture", metavar="PATH.png", help="draw accuracy against inner steps, its numbers beside it as .json")


def run_score(options):
    """The command `score`.  Raises InputError before anything is computed wherever that can be known."""
    names = _data_names(options.data)
    _check_outputs(options, [options.theta, *names])
    if not os.path.isfile(options.theta):
        raise InputError(f"--theta {options.theta}: no such file; meta-train a rule with `python train.py`, "
                         "or give --theta PATH")
    theta = um.load_theta(options.theta)
    settings = {name: getattr(options, name) for name in ScoreSettings._fields if name != "baselines"}
    trained_with = load_settings(options.theta, {"lr": ScoreSettings().lr, "norm_eps": ScoreSettings().norm_eps})
    settings |= {name: value for name, value in trained_with.items() if settings[name] is None}
    settings["baselines"] = () if options.baselines == "none" else tuple(options.baselines.split(","))
    results = score_report(theta, settings, names, options.sizes, options.theta, data_dir=options.data_dir)
    if options.json:
        document = results[0] if len(results) == 1 else {"results": results}
        write_atomically(options.json, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    if options.picture:
        from figures import learning_curve  # Matplotlib is slow to load and seldom wanted
        learning_curve.write(learning_curve.numbers_of(results), options.picture)


def _data_names(given):
    """--data, repeated or comma separated -> names, each once; a file may have a comma in its name."""
    names = [n for entry in given or DATASETS for n in ([entry] if os.path.exists(entry) else entry.split(","))]
    return list(dict.fromkeys(names))


def _sizes(text):
    sizes = [int(n) if n.strip().isdecimal() else 0 for n in text.split(",")]
    if len(sizes) < 2 or min(sizes) < 1 or max(sizes) > LARGEST_LAYER:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of two or more layer sizes like 196,128,32")
    return sizes


def _positive(text):
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value < np.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _check_outputs(options, inputs):
    """InputError, before any work is done, if --json or --picture cannot be written or would hit something else."""
    picture = getattr(options, "picture", None)
    outputs = [Path(path) for path in (getattr(options, "json", None), picture) if path]
    if picture:
        if Path(picture).suffix != ".png":
            raise InputError(f"--picture {picture}: give a file name that ends in .png")
        outputs.append(Path(picture).with_suffix(".json"))
    taken = {Path(path).absolute() for path in inputs}
    for path in map(Path.absolute, outputs):
        if path in taken:
            raise InputError(f"{path} is read from or written to already; give the output another name")
        taken.add(path)
        above = next(folder for folder in path.parents if os.path.exists(folder))
        too_long = len(os.fsencode(path.name)) > LONGEST_NAME
        if too_long or os.path.isdir(path) or not os.path.isdir(above) or not os.access(above, os.W_OK):
            raise InputError(f"cannot write {path}: its name is too long, a folder's, or not in a folder you can "
                             "write to; choose another")


def _add_bench_arguments(add):
    from figures import roofline
    add("--cases", default=",".join(roofline.CASES), help="comma separated (default: %(default)s)")
    add("--threads", help="thread counts, comma separated (default: 1 and all usable cores)")
    add("--json", metavar="OUT", help="write the numbers here")


def run_bench(options):
    """The command `bench`: seconds, GFLOP and the share of sgemm's rate of an inner step."""
    from figures import roofline
    cases = options.cases.split(",")
    if unknown := set(cases) - set(roofline.CASES):
        raise InputError(f"--cases {sorted(unknown)[0]}: unknown; choose from {', '.join(roofline.CASES)}")
    texts = options.threads.split(",") if options.threads else ["1", str(usable_cores())]
    if not all(text.isdecimal() and int(text) > 0 for text in texts):
        raise InputError(f"--threads {options.threads}: give thread counts of 1 or more, comma separated")
    _check_outputs(options, [])
    rows = roofline.measure_all(cases, sorted({int(text) for text in texts}))
    print(roofline.table(rows))
    if options.json:
        write_atomically(options.json, (json.dumps({"rows": rows}, indent=1) + "\n").encode())


def _add_curves_arguments(add):
    add("runs", nargs="+", metavar="RUN", help="folders of meta-training runs, as runs/laptop")
    add("--picture", metavar="PATH.png", default="figures/meta_training_curves.png", help="(default: %(default)s)")


def run_curves(options):
    """The command `curves`: J and accuracy over meta-training, from the logs alone (Fig. 3)."""
    from figures import meta_training_curves
    _check_outputs(options, [])
    meta_training_curves.write(options.runs, options.picture)
    print(f"drawn: {options.picture}, its numbers beside it")


Command = namedtuple("Command", "help add_arguments run")
COMMANDS = {
    "score": Command("few-shot accuracy before and after applying the rule, with baselines", _add_score_arguments,
                     run_score),
    "bench": Command("speed of an update and of a meta-gradient against sgemm on the same shapes",
                     _add_bench_arguments, run_bench),
    "curves": Command("meta-training curves of one or several runs (Fig. 3)", _add_curves_arguments, run_curves),
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
