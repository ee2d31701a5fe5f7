"""The whole state of a run in one `.npz`: no pickle, a schema version, a digest of all bytes, written atomically."""
import contextlib
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from ops.engine.config import as_json, differing_fields
from ops.errors import InputError
from ops.files import link_atomically, load_npz, npz_content, write_atomically

SCHEMA = 5
DIGEST = 64  # characters of a SHA-256, which are the archive's comment and so its last bytes
MEND = "copy an earlier checkpoint-*.npz over checkpoint.npz, or start another run with --name"


def digests(pools):
    """{name: SHA-256 of all arrays} of {name: Pool}: what a run may be resumed with."""
    found = {}
    for name, pool in pools.items():
        sha = hashlib.sha256()
        for array in (pool.images, pool.counts):
            sha.update(f"{array.shape} {array.dtype.str}".encode())
            sha.update(np.ascontiguousarray(array).data)
        found[name] = sha.hexdigest()
    return found


def save_checkpoint(run, config, data, state, arrays):
    """Write `run/checkpoint.npz`; the newest `config.keep_checkpoints` stay as checkpoint-STEP.npz beside it.

    data {name: digest} of the pools; state a JSON-able dict with "step"; arrays {name: array}.
    Raises InputError if an array is not finite or the files cannot be written; the previous checkpoint is then whole.
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{Path(run) / 'checkpoint.npz'} is not written: {name} holds NaN or infinity; go on "
                             "from the last checkpoint (--resume), or start another run with a lower --meta-lr")
    header = {"schema": SCHEMA, "config": as_json(config), "data": data, "state": state}
    arrays = arrays | {"header": np.array(json.dumps(header)), "config/lr": np.float64(config.lr),
                       "config/norm_eps": np.float64(config.norm_eps)}  # so that it is a theta file too
    named = Path(run) / f"checkpoint-{state['step']:09d}.npz"
    write_atomically(named, _sealed(npz_content(arrays)).getbuffer())
    link_atomically(Path(run) / "checkpoint.npz", named)
    with contextlib.suppress(OSError):  # too many files do no harm
        so_far = sorted(path for path in named.parent.glob("checkpoint-*.npz") if path.name <= named.name)
        for old in so_far[:-config.keep_checkpoints]:  # those of later meta-steps are of a run gone back
            old.unlink(missing_ok=True)


def _sealed(archive):
    """A zip archive, a BytesIO, with a comment: the digest of all bytes before it, its own length included."""
    archive.seek(-2, io.SEEK_END)  # it ends in the length of its comment
    archive.write(DIGEST.to_bytes(2, "little"))
    archive.write(hashlib.sha256(archive.getbuffer()).hexdigest().encode())
    return archive


def load_checkpoint(run, config, data):
    """(state, arrays) of `run/checkpoint.npz`, as they were given to `save_checkpoint`.

    Raises InputError for a missing file, another schema, one of whose bytes any is not as it was written, a
    configuration that differs, its differing fields named with both values, and other data sets, or sets with other
    images, than at the time of saving.
    """
    path = Path(run) / "checkpoint.npz"
    if not path.exists():
        raise InputError(f"{path}: no such file; there is nothing to resume, run without --resume")
    try:
        arrays, content = load_npz(path), memoryview(path.read_bytes())
        header = json.loads(str(arrays.pop("header")))
        schema = header["schema"]
    except (InputError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: damaged, or no checkpoint of this program ({str(error)[:80]}); {MEND}") from error
    if schema != SCHEMA:
        raise InputError(f"{path}: checkpoint schema {schema!r:.60}, this program reads {SCHEMA}; "
                         "use the version that wrote it")
    if hashlib.sha256(content[:-DIGEST]).hexdigest().encode() != content[-DIGEST:]:
        raise InputError(f"{path}: damaged, its digest is not that of its content; {MEND}")
    if fields := differing_fields(config, header["config"]):
        text = ", ".join(f"{name} (saved {saved!r}, now {now!r})" for name, (saved, now) in fields.items())
        raise InputError(f"{path} is of another configuration: {text}; "
                         "resume with the saved values or use another --name")
    saved = header["data"]
    if changed := sorted(name for name in data | saved if data.get(name) != saved.get(name)):
        name, start = changed[0], "or start another run with --name"
        if name in data and name in saved:
            raise InputError(f"{path}: '{name}' does not hold the images that the run was started with; put them back "
                             + start)
        raise InputError(f"{path}: '{name}' was {'not ' * (name in data)}there when the run was started; "
                         f"{'take it away' if name in data else 'put it back'} {start}")
    return header["state"], {name: array for name, array in arrays.items() if not name.startswith("config/")}
