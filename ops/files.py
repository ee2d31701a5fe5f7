"""`.npz` and text files that are written whole or not at all, and read with a clear word when they are not."""
import io
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ops.errors import InputError


def write_atomically(path, data):
    """Write bytes to `path`: a temporary file beside it, flushed to disk, then renamed over it.

    Raises InputError naming the path if the folder cannot be written or the disk is full; what was
    at `path` before is whole in either case.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; free space or choose another folder") from error


def save_npz(path, arrays):
    """Write {name: array} as an uncompressed `.npz`, atomically.  Raises InputError as above."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getbuffer())


def load_npz(path):
    """{name: array} of every array in a `.npz`.

    Raises InputError for a missing, unreadable, corrupt or truncated file and for pickled objects.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: a bare array, not a .npz archive; save it with numpy.savez")
        with archive:
            return {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, SyntaxError, zipfile.BadZipFile, zlib.error,
            NotImplementedError, RuntimeError, MemoryError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable .npz ({reason}); it may be corrupt or truncated") from error
