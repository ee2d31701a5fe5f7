"""What the tests of scores and comparisons share."""
import numpy as np

from small_data import rng


def clusters(spread, classes, n, features=12):
    """Points [n * classes, features] about one centre a class, labels in turn."""
    y = np.arange(n * classes) % classes
    x = 5 * rng(1).normal(size=(classes, features))[y] + spread * rng(2).normal(size=(len(y), features))
    return x.astype(np.float32), y
