"""Runs an experiment: its cells on several processes, what was measured before taken from a file; then its picture.

An experiment is a module with

    Settings                     a frozen dataclass, its fields made with `setting`: they are its flags
    cells(settings)              [dict]: what is to be measured, independent of each other.  Whatever determines a
                                 cell's value is in it, arrays too (theta); "name" is for people.  Raises InputError
                                 before anything is measured
    measure(cell)                a value that JSON can hold; an InputError loses this cell alone
    numbers(settings, results)   the `Result`s of all cells, in their order -> what is drawn, a JSON-ready dict
    draw(numbers)                a Matplotlib Figure

and, where wanted, `words(numbers)`, text to be printed; USES, globs of files outside these rooms that a value depends on, besides that
of `measure`; and ALONE = True: its cells are measured in this process, one after another and anew each time (they measure
time, or take none).
"""
import dataclasses
import functools
import hashlib
import importlib
import inspect
import io
import json
import multiprocessing
import os
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from ops.command_line import check_outputs
from ops.errors import InputError
from ops.files import write_atomically
from ops.rule.fast import definitions_in_use
from ops.workers import DIED, Job, Workers

ROOT = Path(__file__).resolve().parents[2]
LINE_SECONDS = 15.0  # between lines about the progress where there is no terminal
TRIES = 2  # of a cell whose process is killed


class Outcome(NamedTuple):
    """What measuring a cell gave: a value, or None and the error in words; the seconds it took."""
    value: object
    error: str | None
    seconds: float


class Result(NamedTuple):
    """A cell, and what was measured: a value, or None and the error in words; the seconds it took."""
    cell: dict
    value: object
    error: str | None
    seconds: float


# --- Cells --------------------------------------------------------------------------------------


def run_cells(module, cells, processes=1, kept=None):
    """[Result] of the cells, in their order, the same for any number of processes; a failed one does not stop the rest.

    kept: path of a file (JSON lines) of what was measured before, to which values are added as they come; None: none.
    """
    alone = getattr(module, "ALONE", False)
    kept = None if alone else kept
    keys = [_key(module, cell) for cell in cells] if kept else []
    known = _read_kept(kept) if kept else {}
    outcomes = {i: known[key] for i, key in enumerate(keys) if key in known}
    todo = [i for i in range(len(cells)) if i not in outcomes]
    found = _measured(module, [cells[i] for i in todo], 1 if alone else processes)
    with _appending(kept) as keep, closing(Progress(len(todo))) as progress, closing(found) as new:
        for count, (number, outcome) in enumerate(new, 1):
            i = todo[number]
            text = json.dumps(outcome.value, allow_nan=False)
            outcomes[i] = outcome._replace(value=json.loads(text))  # as it would be read from a file
            if kept and outcome.error is None:
                keep({"key": keys[i], "cell": cells[i]["name"], "seconds": outcome.seconds, "value": outcomes[i].value})
            progress.show(count, cells[i]["name"])
    return [Result(cell, *outcomes[i]) for i, cell in enumerate(cells)]


def _measured(module, cells, processes):
    """Yield (number, Outcome) as they come, from `processes` processes with one BLAS and numba thread each."""
    if processes == 1 or len(cells) < 2:
        yield from ((number, outcome_of(module, cell)) for number, cell in enumerate(cells))
        return
    context = multiprocessing.context.SpawnContext()  # which passes on the environment as it is now
    arguments = {"name": module.__name__}
    with closing(Workers(context, min(processes, len(cells)), __name__, "measurer", arguments, _failed)) as workers:
        workers.add(Job(number, "measure", {"cell": cell}) for number, cell in enumerate(cells))
        left = len(cells)
        while left:
            for job, outcome in workers.receive():
                left -= 1
                yield job.name, outcome


def measurer(name):
    """What a process calls with each `Job`: the Outcome of its cell, measured by the module of this name."""
    module = importlib.import_module(name)
    return lambda job: outcome_of(module, **job.arguments)


def outcome_of(module, cell):
    """The Outcome of module.measure(cell); an InputError or too little memory is an error in words."""
    started = time.perf_counter()
    try:
        with np.errstate(all="ignore"):  # what is not finite is found and reported in words
            value, error = module.measure(cell), None
    except InputError as bad:
        value, error = None, " ".join(str(bad).split())
    except MemoryError as short:
        value, error = None, f"out of memory ({short}); use smaller settings or less data"
    return Outcome(value, error, time.perf_counter() - started)


def _failed(job, why, times):
    """A cell whose process is killed TRIES times has failed; an exception that is no InputError ends the experiment."""
    if why is not DIED:
        raise RuntimeError(why)
    return Outcome(None, f"its process was killed {TRIES} times", 0.0) if times == TRIES else None


def _key(module, cell):
    """A digest of all that a cell's value depends on: its content and the code."""
    content = {name: value for name, value in cell.items() if name != "name"}
    code = [module.__name__, _code_digest(inspect.getsourcefile(module.measure), getattr(module, "USES", ())), definitions_in_use()]
    text = json.dumps([code, content], sort_keys=True, default=_array_digest)
    return hashlib.sha256(text.encode()).hexdigest()


def _array_digest(array):
    return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]


@functools.lru_cache
def _code_digest(path, uses):
    """Digests of the rule, the data, the scores, what measures, in the file at `path`, and what that uses besides."""
    files = [ROOT / "unsup_meta.py", Path(path), *(file for name in uses for file in sorted(ROOT.glob(name)))]
    for room in ("rule", "data", "tasks", "scoring"):
        files += sorted((ROOT / "ops" / room).rglob("*.py"))
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


# --- What was measured before -------------------------------------------------------------------


def _read_kept(path):
    """{key: Outcome} of a file of results; lines that were torn or are none of ours do not count."""
    try:
        lines = Path(path).read_bytes().split(b"\n")[:-1]  # after the last newline: nothing, or a torn line
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); remove it") from error
    known = {}
    for line in lines:
        try:
            record = json.loads(line)
            known[record["key"]] = Outcome(record["value"], None, record["seconds"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return known


@contextmanager
def _appending(path):
    """A function that adds a record to the file at `path` at once, its torn last line removed; None without a path."""
    if path is None:
        yield None
        return
    with _writing(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(path, "ab+")

    def keep(record):
        with _writing(path):
            file.write((json.dumps(record) + "\n").encode())
            file.flush()

    with file:
        with _writing(path):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        yield keep


@contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write {path}: {reason}; free space or choose another folder") from error


class Progress:
    """How many cells are done and how long the others may take: a live line on a terminal, else one now and then."""

    def __init__(self, cells):
        self.cells, self.started, self.said, self.live = cells, time.monotonic(), time.monotonic(), sys.stderr.isatty()

    def show(self, done, name):
        """To be called after each cell."""
        passed = time.monotonic() - self.started
        left = _clock(passed / done * (self.cells - done))
        text = f"{done} of {self.cells} cells, {_clock(passed)} done, {left} left  {name}"[:79]
        if self.live:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.said > LINE_SECONDS:
            self.said = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def close(self):
        """Leave an empty line to what comes next."""
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


# --- The picture and its numbers ----------------------------------------------------------------


def run_experiment(name, module, settings, picture, processes):
    """Measure, write the picture (a path that ends in .png) and its numbers beside it, print what there is to say.

    What was measured goes to results/NAME.jsonl in the same folder.  The JSON holds `numbers`, and "figure",
    "settings", "seconds" (this run's) and "core_seconds" (all cells').
    Raises InputError as `cells`; if no cell succeeded, nothing being written; and at the end if some failed.
    """
    started = time.perf_counter()
    check_outputs(SimpleNamespace(picture=picture), [])
    results = run_cells(module, module.cells(settings), processes, picture.parent / "results" / f"{name}.jsonl")
    failed = [result for result in results if result.error]
    if failed and len(failed) == len(results):
        raise InputError(failed[0].error)
    numbers = {"figure": name, "settings": {key: _shown(value) for key, value in dataclasses.asdict(settings).items()},
               "core_seconds": sum(result.seconds for result in results)} | module.numbers(settings, results)
    numbers["seconds"] = time.perf_counter() - started
    write_picture(numbers, module.draw(numbers), picture)
    text = f"drawn: {picture}, its numbers beside it"
    if hasattr(module, "words"):
        text = f"{module.words(numbers)}\n{text}"
    print(text)
    if failed:
        raise InputError(f"{len(failed)} of {len(results)} cells failed, the first, {failed[0].cell['name']}: "
                         f"{failed[0].error}")


def redraw(name, module, picture):
    """Draw it again from the numbers beside it, computing nothing.  InputError if they are not those of this figure."""
    path = picture.with_suffix(".json")
    try:
        figure = module.draw(json.loads(path.read_text()))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: not the numbers of this figure ({error}); "
                         f"write them with `python evaluate.py figure {name}`") from error
    save_picture(figure, picture)


def write_picture(numbers, figure, path):
    """Write a Figure (`.png`) and its numbers beside it (`.json`), each atomically; InputError if it cannot."""
    write_json(numbers, Path(path).with_suffix(".json"))
    save_picture(figure, path)


def save_picture(figure, path):
    """Write a Matplotlib Figure to `path` as a PNG, atomically; InputError if it cannot."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def write_json(numbers, path):
    """Write numbers to `path`, atomically; InputError if it cannot."""
    write_atomically(path, (json.dumps(numbers, indent=1, allow_nan=False) + "\n").encode())


def _shown(value):
    """A setting as JSON tells it: of an absolute path its last name alone, which means something elsewhere too."""
    if isinstance(value, (list, tuple)):
        return [_shown(v) for v in value]
    return os.path.basename(os.path.normpath(value)) if isinstance(value, str) and os.path.isabs(value) else value
