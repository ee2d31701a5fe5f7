"""Where the data sets that do not come with this project lie, and how their files are opened."""
import os
from typing import NamedTuple

from ops.errors import InputError
from ops.files import load_npz

VARIABLE = "UNSUP_META_DATA"
DEFAULT_FOLDER = os.path.join("~", ".cache", "unsup_meta")


class Source(NamedTuple):
    """A public data set: its title, its place under `data_dir`, and where it is to be had."""
    title: str
    place: str
    origin: str


def data_dir(given=None):
    """The folder with the data sets: `given`, else $UNSUP_META_DATA, else ~/.cache/unsup_meta.

    A path as str, "~" expanded.  It need not exist: a reader that misses a file says so.
    """
    return os.path.expanduser(given or os.environ.get(VARIABLE) or DEFAULT_FOLDER)


def missing(path, source, file_name):
    """The InputError (to be raised) for a file or folder of `source` that is not at `path`."""
    return InputError(f"'{path}' does not exist: get {source.title}, {file_name}, from "
                      f"{source.origin}, and put it there, or name your folder of data sets with "
                      f"--data-dir or {VARIABLE}")


def place_of(folder, source, *names):
    """Path of a file of `source` under the data folder `folder`; InputError if it is not there.

    `names` are alternatives, relative to the source's place, the first found wins; none: the place
    itself.
    """
    base = os.path.join(folder, source.place)
    paths = [os.path.join(base, name) for name in names] or [base]
    for path in paths:
        if os.path.exists(path):
            return path
    raise missing(paths[0], source, " or ".join(names) or os.path.basename(base))


def read_bytes(path):
    """A file's content as bytes; InputError naming the file if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror or error}); fetch it again or "
                         "mend the path") from None


def read_npz(path, keys):
    """The named arrays of an `.npz`, as a tuple.

    Raises InputError, naming file and reason: missing, corrupt or truncated, no `.npz`, a key that
    is not there, an array of Python objects anywhere in it (never unpickled).
    """
    found = load_npz(path)
    absent = [key for key in keys if key not in found]
    if absent:
        raise InputError(f"'{path}' holds {', '.join(sorted(found)) or 'nothing'} but no '{absent[0]}'; "
                         f"write it with {', '.join(keys)}")
    return tuple(found[key] for key in keys)
