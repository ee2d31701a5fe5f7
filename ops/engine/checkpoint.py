"""The whole state of a run in one `.npz`: no pickle, a schema version, written atomically (see README)."""
import contextlib
import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from ops.engine.config import differing_fields
from ops.errors import InputError
from ops.files import link_atomically, load_npz, save_npz
from ops.engine.flat import flatten
from ops.engine.live_task import LiveTask

SCHEMA = 3
LARGEST = 2**53  # of a counter: exact in any number that JSON's readers know
MEND = "copy an earlier checkpoint-*.npz over checkpoint.npz, or start another run with --name"


def save_checkpoint(run, config, data, optimizer, state, phis):
    """Write `run/checkpoint.npz`; the newest `config.keep_checkpoints` stay as checkpoint-STEP.npz beside it.

    data {name: digest} of the data sets; optimizer a `MetaOptimizer`; state a JSON-able dict with "step";
    phis {slot: flat vector}.
    Raises InputError if an array is not finite or the files cannot be written; the previous checkpoint is then whole.
    """
    adam = optimizer.adam
    header = {"schema": SCHEMA, "config": dataclasses.asdict(config), "data": data, "state": state,
              "adam_steps": adam.steps}
    arrays = {"previous": optimizer.previous}
    for group, values in (("theta", optimizer.theta), ("adam/m", adam.m), ("adam/v", adam.v), ("phi", phis)):
        arrays.update({f"{group}/{name}": value for name, value in values.items()})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{Path(run) / 'checkpoint.npz'} is not written: {name} holds NaN or infinity; go on "
                             "from the last checkpoint (--resume), or start another run with a lower --meta-lr")
    arrays |= {"header": np.array(json.dumps(header)), "config/lr": np.float64(config.lr),
               "config/norm_eps": np.float64(config.norm_eps)}
    named = Path(run) / f"checkpoint-{state['step']:09d}.npz"
    save_npz(named, arrays)
    link_atomically(Path(run) / "checkpoint.npz", named)
    _remove_old(named, config.keep_checkpoints)


def _remove_old(newest, keep):
    """Remove all but the last `keep` checkpoints up to `newest`; those of later meta-steps are of a run gone back."""
    with contextlib.suppress(OSError):  # too many files do no harm
        so_far = sorted(path for path in newest.parent.glob("checkpoint-*.npz") if path.name <= newest.name)
        for old in so_far[:-keep]:
            old.unlink(missing_ok=True)


def load_checkpoint(run, config, data, optimizer):
    """(state, phis) of `run/checkpoint.npz`; fills `optimizer`, a `MetaOptimizer` of this configuration.

    Raises InputError for a missing or damaged file, another schema, a configuration that differs, its
    differing fields named with both values, data sets with other images than at the time of saving, and
    an array or a field of the state that is missing, of another size or type, or not finite.  `optimizer`
    is then as it was.
    """
    path = Path(run) / "checkpoint.npz"
    if not path.exists():
        raise InputError(f"{path}: no such file; there is nothing to resume, run without --resume")
    arrays = load_npz(path)
    header = _header(path, arrays)
    saved, saved_data, state = (_field(path, header, key, dict) for key in ("config", "data", "state"))
    if fields := differing_fields(config, saved):
        text = ", ".join(f"{f} (saved {saved.get(f)!r}, now {getattr(config, f, None)!r})" for f in sorted(fields))
        raise InputError(f"{path} is of another configuration: {text}; "
                         "resume with the saved values or use another --name")
    if changed := sorted(name for name in data if data[name] != saved_data.get(name)):
        raise InputError(f"{path}: '{changed[0]}' does not hold the images that the run was started with; "
                         "put them back or start another run with --name")
    steps = _count(path, header, "adam_steps")
    _check_state(path, state, config.live_tasks)
    floats = {task["slot"]: task["floats"] for task in state["tasks"] if task["floats"]}
    vector, dtype = optimizer.vector.shape, optimizer.vector.dtype
    take = lambda name, shape: _array(path, arrays, name, shape, dtype)
    theta = flatten([take(f"theta/{name}", shape) for name, shape in optimizer.shapes.items()])
    previous = take("previous", vector)
    m, v = ({"theta": take(f"adam/{moment}/theta", vector)} if steps else {} for moment in "mv")
    if steps and v["theta"].min() < 0:
        raise InputError(f"{path}: adam/v/theta holds numbers below 0; {MEND}")
    phis = {slot: take(f"phi/{slot}", (size,)) for slot, size in floats.items()}
    optimizer.vector, optimizer.previous = theta, previous
    optimizer.adam.m, optimizer.adam.v, optimizer.adam.steps = m, v, steps
    return state, phis


def _header(path, arrays):
    """The header, once its schema is known to be this program's: another's may hold anything else."""
    try:
        header = json.loads(str(arrays["header"]))
        schema = header["schema"]
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: no readable header, damaged or no checkpoint of this program; {MEND}") from error
    if type(schema) is not int or schema != SCHEMA:
        raise InputError(f"{path}: checkpoint schema {schema!r:.60}, this program reads {SCHEMA}; "
                         "use the version that wrote it")
    return header


def _field(path, fields, key, kind):
    """fields[key], which is to be of type `kind`."""
    value = fields.get(key)
    if type(value) is not kind:
        raise InputError(f"{path}: '{key}' is {_said(fields, key)}, want {_NAMES[kind]}; {MEND}")
    return value


_NAMES = {dict: "an object", list: "a list"}


def _said(fields, key):
    """What is there instead, short enough for a line."""
    return f"{fields[key]!r:.60}" if key in fields else "missing"


def _count(path, fields, key, low=0, high=LARGEST, of=""):
    """fields[key], which is to be a whole number of low..high."""
    value = fields.get(key)
    if type(value) is not int or not low <= value <= high:
        limit = "or more" if high == LARGEST else f"to {high}"
        raise InputError(f"{path}: '{key}'{of} is {_said(fields, key)}, want a whole number, {low} {limit}; {MEND}")
    return value


def _number(path, fields, key, of=""):
    """fields[key], which is to be a finite number."""
    value = fields.get(key)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{path}: '{key}'{of} is {_said(fields, key)}, want a finite number; {MEND}")
    return value


def _check_state(path, state, live_tasks):
    """InputError unless what the main process reads of the state is there and of its type."""
    for key in ("step", "failures", "validated"):
        _count(path, state, key)
    if _number(path, state, "elapsed") < 0:
        raise InputError(f"{path}: 'elapsed' is {state['elapsed']}, want seconds, 0 or more; {MEND}")
    if "best" not in state or state["best"] is not None:
        best = _field(path, state, "best", dict)
        for key in ("J", "accuracy"):
            _number(path, best, key, " of the best theta")
        _count(path, best, "step", of=" of the best theta")
    tasks = _field(path, state, "tasks", list)
    if len(tasks) != live_tasks:
        raise InputError(f"{path}: 'tasks' has {len(tasks)} of them, want --live-tasks = {live_tasks}; {MEND}")
    names = [field.name for field in dataclasses.fields(LiveTask)]
    for slot, task in enumerate(tasks):
        of = f" of live task {slot}"
        if type(task) is not dict or sorted(task) != sorted(names):
            raise InputError(f"{path}: live task {slot} is not of the fields {', '.join(names)}; {MEND}")
        for name in names:
            low, high = {"slot": (slot, slot), "parity": (0, 1)}.get(name, (0, LARGEST))
            _count(path, task, name, low, high, of)


def _array(path, arrays, name, shape, dtype):
    """arrays[name], which is to be of this shape and dtype and finite."""
    if name not in arrays:
        raise InputError(f"{path}: array {name} is missing; {MEND}")
    array = arrays[name]
    if array.shape != tuple(shape) or array.dtype != dtype:
        raise InputError(f"{path}: array {name} is {array.dtype} {array.shape}, want {dtype} {tuple(shape)}; {MEND}")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: array {name} holds NaN or infinity; {MEND}")
    return array
