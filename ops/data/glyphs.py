"""Letters rendered with Matplotlib's own fonts, and few-shot tasks drawn from them.

The workshop paper's training set is "10 of the 26 letters" at 14x14.  Digits
are never rendered, so that MNIST stays unseen, and HELD_OUT_LETTERS are never trained on.
"""
import functools
import string

import numpy as np

from ops.errors import InputError
from ops.tasks.augment import Augmentation
from ops.data.characters import HELD_OUT_LETTERS
from ops.data.pool import Pool
from ops.data.render import BOX, SIDE, GlyphSet, bundled_fonts, render_face, render_glyphs  # noqa: F401  (offered here too)
from ops.tasks.task import make_task


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
def load_glyphs():
    """The GlyphSet of all 52 letters in Matplotlib's fonts; rendered once a process, read-only."""
    return render_glyphs(bundled_fonts(), letters("all"))


def _one_case_each(characters):
    """The characters in order, but those whose other case came earlier at the end.

    C and c, O and o, S and s ... differ by size alone, which scaling to a box removes: no readout
    can tell them apart, so a task holds both cases of a letter only where it must.
    """
    seen, first, rest = set(), [], []
    for char in characters:
        (rest if char.lower() in seen else first).append(str(char))
        seen.add(char.lower())
    return first + rest


def sample_letters_task(rng, glyphs, ways=10, max_shift=1, characters=None):
    """A few-shot task: `ways` of the characters at random, and a new permutation of the pixels.

    rng         numpy Generator; the task depends on nothing else
    glyphs      GlyphSet
    ways        number of classes
    max_shift   pixels, see Task
    characters  the characters to choose from, in a string (default: letters("train"))
    InputError if a character is not in the set, is named twice, or there are fewer than `ways`.
    """
    characters = letters("train") if characters is None else characters
    unknown = [c for c in characters if c not in glyphs.characters]
    if unknown:
        raise InputError(f"glyphs: character '{unknown[0]}' is not in the rendered set; choose "
                         f"from {''.join(glyphs.characters)}")
    if len(set(characters)) < len(characters):
        raise InputError(f"glyphs: characters '{characters}' name one twice; name each once")
    if not 2 <= ways <= len(characters):
        raise InputError(f"glyphs: {ways} ways of {len(characters)} characters; ask for 2 to "
                         f"{len(characters)}")
    chosen = sorted(_one_case_each(rng.permutation(list(characters)))[:ways])
    index = [glyphs.characters.index(c) for c in chosen]
    pool = Pool("letters", glyphs.images, np.bincount(glyphs.character, minlength=len(glyphs.characters)),
                glyphs.characters, SIDE)
    names = "".join(chosen)
    return make_task(rng, f"letters-{names}", f"glyphs 14x14, letters {names}, shifts up to {max_shift} px", pool,
                     index, Augmentation(max_shift))
