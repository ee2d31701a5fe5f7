"""A dataclass whose fields are the flags of a command: what a score or a figure can be asked for."""
import argparse
import dataclasses
import os

import numpy as np

from ops.errors import InputError

LARGEST_LAYER = 1_000_000


def setting(default, text, **extra):
    """A field with its help text; default is its value or makes it.  More about it, by name:

    quick       its value under --quick
    low         the smallest value allowed; None is always
    parse       text -> value, if not the field's own type
    many        the flag is repeated and parse gives several values each time; the field is a tuple of all
    hidden      no flag: what a figure sets itself
    positional  no flag, but what stands on the command line by itself; implies many
    choices     the values allowed
    metavar     what the help calls a value
    """
    return dataclasses.field(**{"default_factory" if callable(default) else "default": default},
                             metadata={"help": text, **extra})


def add_flags(add, settings):
    """A flag for each field of the dataclass `settings`; one that is not given leaves nothing in the options."""
    for f in dataclasses.fields(settings):
        m, flag = f.metadata, "--" + f.name.replace("_", "-")
        if m.get("hidden"):
            continue
        if f.type is bool:
            add(flag, action="store_true", default=argparse.SUPPRESS, help=m["help"])
            continue
        text = m["help"] + ("" if f.default in (None, "", dataclasses.MISSING) else f" (default: {_as_text(f.default)})")
        options = {"type": m.get("parse", f.type), "default": argparse.SUPPRESS, "metavar": m.get("metavar"),
                   "choices": m.get("choices"), "help": text.replace("%", "%%")}
        if m.get("positional"):
            add(f.name, nargs="*", **options)
        else:
            add(flag, action="append" if m.get("many") else "store", **options)


def _as_text(value):
    """A default as it would be given; pairs, of names and paths, with an equals sign."""
    if isinstance(value, tuple):
        return ",".join("=".join(v) if isinstance(v, tuple) else str(v) for v in value)
    return str(value)


def settings_from(settings, options, quick=False):
    """The dataclass `settings` made from parsed options; where one was not given, its default or quick value.

    Raises InputError for a number below its field's `low`.
    """
    given = {}
    for f in dataclasses.fields(settings):
        if hasattr(options, f.name):
            value = getattr(options, f.name)
            if f.metadata.get("many") or f.metadata.get("positional"):
                value = tuple(dict.fromkeys(v for several in value for v in several)) or f.default
            given[f.name] = value
        elif quick and "quick" in f.metadata:
            given[f.name] = f.metadata["quick"]
        value, low = given.get(f.name), f.metadata.get("low")
        if value is not None and low is not None and value < low:
            raise InputError(f"--{f.name.replace('_', '-')} is {value}; give {low} or more")
    return settings(**given)


def one(text):
    """A value by itself, for settings of many."""
    return [text]


def data_names(text):
    """Names of data sets, comma separated; a file may have a comma in its name."""
    return [text] if os.path.exists(text) else text.split(",")


def sizes_of(text):
    """"196,128,32" -> (196, 128, 32)."""
    sizes = tuple(int(n) if n.strip().isdecimal() else 0 for n in text.split(","))
    if len(sizes) < 2 or min(sizes) < 1 or max(sizes) > LARGEST_LAYER:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of two or more layer sizes like 196,128,32")
    return sizes


def positive(text):
    """A positive, finite float."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value < np.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def named_path(text):
    """"NAME=PATH" -> [(name, path)]."""
    name, equals, path = text.partition("=")
    if not (name.strip() and name.isprintable() and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH, such as glyphs=runs/glyphs/theta.npz")
    return [(name.strip(), path)]


def counts(text):
    """"10,30" -> [10, 30], each as `count`."""
    return [count(part) for part in text.split(",")]


def count(text):
    """An integer of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
