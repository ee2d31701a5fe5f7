"""The letters, rendered with Matplotlib's own fonts: what the default run trains on.

The workshop paper's training set is "10 of the 26 letters" at 14x14.  Digits are never rendered, so that MNIST
stays unseen, and HELD_OUT_LETTERS are never trained on.
"""
import functools
import string

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
