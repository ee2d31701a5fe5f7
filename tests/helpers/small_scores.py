"""What the tests of scores, comparisons and figures share."""
import numpy as np

import evaluate
from small_data import rng


def clusters(spread, classes, n, features=12):
    """Points [n * classes, features] about one centre a class, labels in turn."""
    y = np.arange(n * classes) % classes
    x = 5 * rng(1).normal(size=(classes, features))[y] + spread * rng(2).normal(size=(len(y), features))
    return x.astype(np.float32), y


def refused_command(capsys, arguments, words=()):
    """`evaluate.py` with these arguments ends with code 2 and one line, which holds all the words; returns it."""
    assert evaluate.main(arguments) == 2, arguments
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("evaluate.py: "), err
    assert all(word in err for word in words), err
    return err


def as_id(value):
    """The id of a flag's case; none for the words of its message."""
    return "=".join(value) if value[0].startswith("-") else ""
