"""The letters, rendered with Matplotlib's own fonts: what the default run trains on, and a data set to score on.

The workshop paper's training set is "10 of the 26 letters" at 14x14.  Digits are never rendered, so that MNIST
stays unseen, and HELD_OUT_LETTERS are never trained on.
"""
import functools
import string

import numpy as np

from ops.data.labelled import Dataset
from ops.data.pool import Pool, check_pool
from ops.data.render import SIDE, bundled_fonts, by_class, render_face
from ops.errors import InputError

HELD_OUT_LETTERS = "BEGNRT" + "begnrt"


def letters(split="all", case="both"):
    """The characters of a split, as a string.

    split  "train", "heldout" (HELD_OUT_LETTERS) or "all"
    case   "both" (52 letters) or "upper" (26: the workshop paper's alphabet)
    InputError for any other value.
    """
    cases = {"both": string.ascii_uppercase + string.ascii_lowercase,
             "upper": string.ascii_uppercase}
    keep = {"train": lambda c: c not in HELD_OUT_LETTERS, "heldout": HELD_OUT_LETTERS.__contains__,
            "all": lambda c: True}
    if split not in keep:
        raise InputError(f"letters: split '{split}' is unknown; give one of {', '.join(keep)}")
    if case not in cases:
        raise InputError(f"letters: case '{case}' is unknown; give one of {', '.join(cases)}")
    return "".join(filter(keep[split], cases[case]))


@functools.lru_cache(maxsize=None)
def letters_pool():
    """Pool "letters": all 52, the held-out ones among them, 14x14 float32; rendered once a process, read-only."""
    images, counts = by_class(letters(), [render_face(path, letters()) for path in bundled_fonts()])
    images.flags.writeable = counts.flags.writeable = False
    return check_pool(Pool("letters", images, counts, tuple(letters()), SIDE))


def load_letters(name="letters", folder=None):
    """All 52 letters -> Dataset, 196 inputs: every second font is the test split; `folder` is not used: nothing is read.

    No picture of the training split is in the test split.  A rule is trained on most of these letters (Alphabet, App. 2
    and 3): a score here is one of training data.
    """
    faces = [face for face in (render_face(path, letters()) for path in bundled_fonts()) if face]
    (x_train, train), (x_test, test) = (by_class(letters(), some) for some in (
        [face for i, face in enumerate(faces) if i % 2 == held] for held in (0, 1)))
    y_train, y_test = (np.repeat(np.arange(len(counts)), counts) for counts in (train, test))
    seen = {image.tobytes() for image in x_train}
    new = [image.tobytes() not in seen for image in x_test]
    return Dataset(name, x_train, y_train, x_test[new], y_test[new], tuple(letters()))
