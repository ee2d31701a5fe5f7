"""`.npz` and text files that are written whole or not at all, and read with a clear word when they are not."""
import contextlib
import fcntl
import io
import os
import re
import tempfile
import time
from pathlib import Path

import numpy as np

from ops.errors import InputError
from ops.processes import alive

TEMPORARY = re.compile(r"\..+\.(\d+)\.[a-z0-9_]{8}")  # .NAME.PID.RANDOM, beside what it is to become


def write_atomically(path, data):
    """Write bytes to `path`: a temporary file beside it, flushed to disk, then renamed over it.

    Raises InputError naming the path if the folder cannot be written or the disk is full; what was
    at `path` before is whole in either case.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{os.getpid()}.")
        try:
            with os.fdopen(descriptor, "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            with contextlib.suppress(OSError):  # some file systems know no modes
                os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # what went wrong first is to be told
                os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; free space or choose another folder") from error


def link_atomically(path, target):
    """Make `path` another name of the file `target` or, where the file system has no links, a copy; atomically.

    Raises InputError as `write_atomically`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}._linking")  # as TEMPORARY
    try:
        try:
            temporary.unlink(missing_ok=True)
            os.link(target, temporary)
            os.replace(temporary, path)
            return
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)  # still there after an error, or if path was this file before
    except OSError:
        pass
    try:
        data = Path(target).read_bytes()
    except OSError as error:
        raise InputError(f"cannot write {path}: {target} cannot be read ({error.strerror or error})") from error
    write_atomically(path, data)


def sweep_temporary(folder):
    """Remove what processes killed in the middle of `write_atomically` left in `folder`; returns the names."""
    removed = []
    with contextlib.suppress(OSError):
        for path in sorted(Path(folder).iterdir()):
            match = TEMPORARY.fullmatch(path.name)
            if match and not alive(int(match[1])):
                with contextlib.suppress(OSError):
                    path.unlink()
                    removed.append(path.name)
    return removed


@contextlib.contextmanager
def held(folder, seconds=5.0):
    """Keep other processes that would hold `folder` out of it for as long as this lasts; it is made, and goes if it stays empty.

    Raises InputError if one has it for so long, or it cannot be made.
    """
    made = [path for path in (Path(folder), *Path(folder).parents) if not path.exists()]
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; choose another folder") from error
    try:
        until = time.monotonic() + seconds  # workers of a killed process may have it for a moment
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise InputError(f"{folder}: another process is at work there; wait for its end or choose another") from None
                time.sleep(0.1)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):  # not empty
            for path in made:
                path.rmdir()


def save_npz(path, arrays):
    """Write {name: array} as an uncompressed `.npz`, atomically.  Raises InputError as above."""
    write_atomically(path, npz_content(arrays).getbuffer())


def npz_content(arrays):
    """An uncompressed `.npz` of {name: array}: a BytesIO."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer


def load_npz(path):
    """{name: array} of every array in a `.npz`.

    Each is read whole, so that the zip's checksum is compared, whatever number of bytes the array's header asks for.
    Raises InputError for a missing, unreadable, corrupt or truncated file, for pickled objects and members that are no array.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: a bare array, not a .npz archive; save it with numpy.savez")
        with archive:
            return {name.removesuffix(".npy"): _array(archive.zip.read(name)) for name in archive.zip.namelist()}
    except InputError:
        raise
    except Exception as error:  # a damaged archive or array header raises about anything: zlib's, tokenize's, struct's
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if "allow_pickle" in reason:  # NumPy's advice, which is not to be followed
            reason = "it holds Python objects, or is no archive"
        raise InputError(f"{path}: not a readable .npz ({reason}); it may be corrupt or truncated") from error


def _array(content):
    if not content.startswith(np.lib.format.MAGIC_PREFIX):
        raise ValueError("a member is no array")
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
