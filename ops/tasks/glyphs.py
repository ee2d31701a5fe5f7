"""Letters rendered with Matplotlib's own fonts, and few-shot tasks drawn from them.

The workshop paper's training set is "10 of the 26 letters" at 14x14 (spec.md section 6).  Digits
are never rendered, so that MNIST stays unseen, and HELD_OUT_LETTERS are never trained on.
"""
import functools
import os
import string
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .area import area_weights
from .task import Task

SIDE = 14           # pixels of an image's side
BOX = 10            # the ink's longer side: MNIST's digits fill 20 of 28 pixels, so 10 of 14
RENDER_PIXELS = 96  # em size a glyph is rendered at before it is averaged down
HELD_OUT_LETTERS = "BEGNRT" + "begnrt"


class GlyphSet(NamedTuple):
    """Rendered characters, grouped by character.

    images      [n, 196] float32 in [0, 1], ink bright on black
    character   [n] int, rising: the index into `characters`
    face        [n] int, the index into `faces`
    characters  tuple of one-character strings
    faces       tuple of font file names
    """
    images: np.ndarray
    character: np.ndarray
    face: np.ndarray
    characters: tuple
    faces: tuple


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


def bundled_fonts():
    """Sorted paths of Matplotlib's TTF files, without LastResort (it claims every character)."""
    import matplotlib  # here, not above: only who renders pays for the import
    folder = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))
            if name.endswith(".ttf") and not name.startswith("LastResort")]


def render_glyphs(font_paths, characters):
    """Render each character in every face that has it -> GlyphSet.

    Faces that have none are left out, and so are blank images and those equal to one of the same
    character in an earlier face.  InputError names a font that cannot be read.
    """
    faces = [(os.path.basename(path), render_face(path, characters)) for path in font_paths]
    faces = [(name, images) for name, images in faces if images]
    images, character, face = [], [], []
    for c, char in enumerate(characters):
        seen = set()
        for f, (_, rendered) in enumerate(faces):
            image = rendered.get(char)
            if image is None or image.tobytes() in seen:
                continue
            seen.add(image.tobytes())
            images.append(image)
            character.append(c)
            face.append(f)
    arrays = (np.array(images, np.float32).reshape(-1, SIDE * SIDE),
              np.array(character, np.intp), np.array(face, np.intp))
    for array in arrays:
        array.flags.writeable = False  # the set is shared by everyone in the process
    return GlyphSet(*arrays, tuple(characters), tuple(name for name, _ in faces))


def render_face(path, characters):
    """{character: [196] float32} of the characters the face truly has.

    Symbol fonts put other things at the letters' codes (cmex10, and cmsy10's lower case), so the
    glyph's own name must be the letter.  InputError names a font that cannot be read.
    """
    from matplotlib.ft2font import FT2Font, LoadFlags
    try:
        font = FT2Font(path)
        font.set_size(RENDER_PIXELS, 72)  # 72 dpi: points are pixels
        codes = font.get_charmap()
    except (OSError, RuntimeError) as error:
        raise InputError(f"font '{path}' cannot be read ({_one_line(error)}); remove it or give "
                         "another") from None
    images = {}
    for char in characters:
        glyph = codes.get(ord(char), 0)
        if not glyph or font.get_glyph_name(glyph) != char:
            continue
        font.set_text(char, 0.0, flags=LoadFlags.NO_HINTING)
        font.draw_glyphs_to_bitmap(antialiased=True)
        image = _fit(np.asarray(font.get_image()))
        if image is not None:
            images[char] = image
    return images


def _fit(bitmap):
    """uint8 bitmap -> [196] float32: ink scaled to BOX, aspect kept, its bounding box centred.

    None if there is no ink.
    """
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    if not len(rows):
        return None
    ink = bitmap[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1] / 255.0
    scale = BOX / max(ink.shape)
    down, across = (area_weights(n, SIDE, scale, (SIDE - n * scale) / 2) for n in ink.shape)
    return np.clip(down @ ink @ across.T, 0.0, 1.0).astype(np.float32).reshape(-1)


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


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
    first, end = (np.searchsorted(glyphs.character, index, side) for side in ("left", "right"))
    rows = np.concatenate([np.arange(a, b) for a, b in zip(first, end)])
    names = "".join(chosen)
    return Task(f"letters-{names}", f"glyphs 14x14, letters {names}, shifts up to {max_shift} px",
                glyphs.images[rows], end - first, rng.permutation(SIDE * SIDE), SIDE, max_shift,
                chosen)
