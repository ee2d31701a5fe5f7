"""The whole state of a run in one `.npz`: no pickle, a schema version, written atomically (see README)."""
import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from ops.config import differing_fields
from ops.errors import InputError
from ops.files import load_npz, save_npz
from ops.flat import flatten

SCHEMA = 2


def save_checkpoint(run, config, optimizer, state, phis):
    """Write `run/checkpoint.npz`; the newest `config.keep_checkpoints` stay as checkpoint-STEP.npz beside it.

    optimizer a `MetaOptimizer`; state a JSON-able dict with "step"; phis {slot: flat vector}.
    Raises InputError if it cannot be written; the previous checkpoint is then whole.
    """
    adam = optimizer.adam
    header = {"schema": SCHEMA, "config": dataclasses.asdict(config), "state": state, "adam_steps": adam.steps}
    arrays = {"header": np.array(json.dumps(header))}
    arrays |= {"previous": optimizer.previous}
    for group, values in (("theta", optimizer.theta), ("adam/m", adam.m), ("adam/v", adam.v), ("phi", phis)):
        arrays.update({f"{group}/{name}": value for name, value in values.items()})
    arrays |= {"config/lr": np.float64(config.lr), "config/norm_eps": np.float64(config.norm_eps)}
    named = Path(run) / f"checkpoint-{state['step']:09d}.npz"
    save_npz(named, arrays)
    _point_to(Path(run) / "checkpoint.npz", named)
    for old in sorted(Path(run).glob("checkpoint-*.npz"))[:-config.keep_checkpoints]:
        old.unlink(missing_ok=True)


def _point_to(link, target):
    """Make `link` another name of `target`, atomically."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    os.link(target, temporary)
    os.replace(temporary, link)


def load_checkpoint(run, config, optimizer):
    """(state, phis) of `run/checkpoint.npz`; fills `optimizer`, a `MetaOptimizer` of this configuration.

    Raises InputError for a missing or damaged file, another schema, or a configuration that differs:
    then the differing fields are named with both values.
    """
    path = Path(run) / "checkpoint.npz"
    if not path.exists():
        raise InputError(f"{path}: no such file; there is nothing to resume, run without --resume")
    arrays = load_npz(path)
    try:
        header = json.loads(str(arrays["header"]))
        schema, saved, state = header["schema"], header["config"], header["state"]
        optimizer.adam.steps = header["adam_steps"]
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: no readable header; it is not a checkpoint of this program") from error
    if schema != SCHEMA:
        raise InputError(f"{path}: checkpoint schema {schema}, this program reads {SCHEMA}; use the version that wrote it")
    if fields := differing_fields(config, saved):
        text = ", ".join(f"{f} (saved {saved.get(f)!r}, now {getattr(config, f, None)!r})" for f in sorted(fields))
        raise InputError(f"{path} is of another configuration: {text}; resume with the saved values or use another --name")
    group = lambda prefix: {n[len(prefix):]: a for n, a in arrays.items() if n.startswith(prefix)}
    theta = group("theta/")
    optimizer.vector, optimizer.previous = flatten(theta[name] for name in optimizer.shapes), arrays["previous"]
    optimizer.adam.m, optimizer.adam.v = group("adam/m/"), group("adam/v/")
    return state, {int(slot): phi for slot, phi in group("phi/").items()}
