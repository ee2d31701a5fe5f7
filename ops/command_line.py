"""What the commands of `train.py` and `evaluate.py` have in common."""
import argparse
import contextlib
import errno
import os
import sys
from pathlib import Path

from ops.errors import InputError

LONGEST_NAME = 200  # bytes of a file name; the temporary one beside it is a little longer
CLOSED = 141  # as the shell says of a program that SIGPIPE ended


class OneLineParser(argparse.ArgumentParser):
    """A parser that complains in one line, as an InputError, and takes no abbreviated flags."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message):
        raise InputError(f"{message} (`python {self.prog} --help` lists what there is)")


def chosen_from(known):
    """The parser of comma-separated names, each one of `known`: text -> tuple; ArgumentTypeError for another."""
    def names(text):
        found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; choose from {', '.join(known)}")
        return found

    return names


def exit_code(main):
    """What main() returns; CLOSED, without a word, if what it prints is no longer read (`| head`)."""
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # which may lack characters of a file's name
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is still to be flushed
        return CLOSED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"cannot write to standard output: {error.strerror}; make room", file=sys.stderr)
        return 2


def check_outputs(options, inputs):
    """InputError, before any work is done, if --json or --picture cannot be written or would hit something else.

    `inputs` are the paths of what the command reads.  A picture's numbers go beside it, as .json.
    """
    picture = getattr(options, "picture", None)
    outputs = [Path(path) for path in (getattr(options, "json", None), picture) if path]
    if picture:
        if Path(picture).suffix != ".png":
            raise InputError(f"--picture {picture}: give a file name that ends in .png")
        outputs.append(Path(picture).with_suffix(".json"))
    taken = {os.path.realpath(path) for path in inputs}
    for path in map(Path, map(os.path.realpath, outputs)):
        if str(path) in taken:
            raise InputError(f"{path} is read from or written to already; give the output another name")
        taken.add(str(path))
        above = next(folder for folder in path.parents if os.path.exists(folder))
        too_long = len(os.fsencode(path.name)) > LONGEST_NAME
        other = os.path.exists(path) and not os.path.isfile(path)  # a folder, a device
        if too_long or other or not os.path.isdir(above) or not os.access(above, os.W_OK):
            raise InputError(f"cannot write {path}: its name is too long, no file's, or not in a folder you can "
                             "write to; choose another")
