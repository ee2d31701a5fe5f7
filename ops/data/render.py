"""Characters of fonts as 14x14 images: which faces there are, which characters they truly have, how they are drawn.

A face is a (path, index) pair: the font file and the face's number in it (0 but for collections, `.ttc`).
Everything is drawn by the FreeType in Matplotlib, so a set depends on the fonts and on its version alone.
"""
import functools
import os
import re
import string

import numpy as np

from ops.errors import InputError

SIDE = 14           # pixels of an image's side
BOX = 10            # the ink's longer side: MNIST's digits fill 20 of 28 pixels, so 10 of 14
RENDER_PIXELS = 96  # em size a glyph is rendered at before it is averaged down
FONT_ENDINGS = (".ttf", ".otf", ".ttc")
LAST_RESORT = ("lastresort", "adobeblank", "unicodebmpfallback")  # fonts that claim every character
ASCII_NAMES = dict(zip(" !\"#$%&'()*+,-./0123456789:;<=>?@[\\]^_`{|}~", """
    space exclam quotedbl numbersign dollar percent ampersand quotesingle parenleft parenright asterisk plus comma
    hyphen period slash zero one two three four five six seven eight nine colon semicolon less equal greater
    question at bracketleft backslash bracketright asciicircum underscore grave braceleft bar braceright
    asciitilde""".split()))
ASCII_NAMES.update(zip(string.ascii_letters, string.ascii_letters))  # PostScript's names of the glyphs


# ---- which faces

def bundled_fonts():
    """Sorted paths of Matplotlib's TTF files, without LastResort (it claims every character)."""
    import matplotlib  # here, not above: only who renders pays for the import
    folder = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))
            if name.endswith(".ttf") and not name.startswith("LastResort")]


def fonts_below(folder):
    """Sorted paths of all .ttf, .otf and .ttc files in `folder` and the folders in it.

    InputError if it is no folder or holds none.
    """
    folder = os.path.expanduser(folder)
    if not os.path.isdir(folder):
        raise InputError(f"font folder '{folder}' does not exist or is no folder; mend --font-dir")
    paths = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names
             if name.lower().endswith(FONT_ENDINGS)]
    if not paths:
        raise InputError(f"font folder '{folder}' holds no font ({', '.join(FONT_ENDINGS)}); mend --font-dir")
    return sorted(paths)


def system_fonts():
    """Sorted paths of the fonts installed on this system, as Matplotlib finds them."""
    from matplotlib.font_manager import findSystemFonts
    paths = findSystemFonts(fontext="ttf") + findSystemFonts(fontext="otf")
    return sorted({path for path in paths if path.lower().endswith(FONT_ENDINGS)})


def faces_of(path):
    """The faces (path, index) in a font file; none if it is a last-resort font.  InputError as `open_face`."""
    from matplotlib.ft2font import FT2Font
    font = open_face(path)
    if _family(font).startswith(LAST_RESORT):
        return []
    can_choose = hasattr(FT2Font, "face_index")  # older Matplotlib opens a collection's first face only
    return [(path, index) for index in range(font.num_faces if can_choose else 1)]


def open_face(path, index=0):
    """Matplotlib's FT2Font of a face, set to RENDER_PIXELS.  InputError names a font that cannot be read."""
    from matplotlib.ft2font import FT2Font
    try:
        font = FT2Font(path, face_index=index) if index else FT2Font(path)
        font.set_size(RENDER_PIXELS, 72)  # 72 dpi: points are pixels
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"font '{path}' cannot be read ({_one_line(error)}); remove it or give "
                         "another") from None
    return font


def _family(font):
    return re.sub("[^a-z]", "", (font.family_name or "").lower())


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


# ---- which characters a face truly has

def true_codes(font):
    """{code point: glyph index} of the characters that a face shows at their own code points.

    Old symbol and TeX fonts put other things at ASCII's codes (cmex10; cmsy10's lower case; "<" of cmr10 is
    an inverted exclamation mark).  The names of the glyphs tell: where one is an ASCII code's glyph by another
    plain name, the face's encoding is its own, and only ASCII glyphs of the right name are taken.  A face
    without such a contradiction (DejaVu, STIX, any font with a Unicode encoding) is taken at its word.
    """
    codes = {code: glyph for code, glyph in font.get_charmap().items() if glyph}  # glyph 0 is "not there"
    names = {char: font.get_glyph_name(codes[ord(char)]) for char in ASCII_NAMES if ord(char) in codes}
    if any(_contradicts(char, name) for char, name in names.items()):
        return {ord(char): codes[ord(char)] for char, name in names.items() if name == ASCII_NAMES[char]}
    return codes


def _contradicts(char, name):
    """Whether a glyph's name is a word, and not the character's ("uni0041", "glyph12", "a.alt" say nothing)."""
    accepted = {"-": ("hyphenminus", "minus"), " ": ("nbspace", "nonbreakingspace", "spacehackarabic")}
    return bool(re.fullmatch("[A-Za-z]+", name)) and name != ASCII_NAMES[char] and name not in accepted.get(char, ())


# ---- drawing

def render_face(path, characters, index=0):
    """{character: [196] float32} of the characters that face `index` of a font truly has, see `true_codes`.

    Blank ones are left out.  InputError names a font that cannot be read.
    """
    from matplotlib.ft2font import LoadFlags
    font = open_face(path, index)
    try:
        codes = true_codes(font)
        images = {}
        for char in characters:
            if ord(char) not in codes:
                continue
            font.set_text(char, 0.0, flags=LoadFlags.NO_HINTING)
            font.draw_glyphs_to_bitmap(antialiased=True)
            image = _fit(np.asarray(font.get_image()))
            if image is not None:
                images[char] = image
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"font '{path}' cannot be read ({_one_line(error)}); remove it or give "
                         "another") from None
    return images


def _fit(bitmap):
    """uint8 bitmap -> [196] float32: ink scaled to BOX, aspect kept, its bounding box centred.

    None if there is no ink.
    """
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    if not len(rows):
        return None
    ink = bitmap[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1] / 255.0
    down, across = (_weights(n, max(ink.shape)) for n in ink.shape)
    return np.clip(down @ ink @ across.T, 0.0, 1.0).astype(np.float32).reshape(-1)


def by_class(characters, faces):
    """(images [n, 196], counts [C]): each character's pictures in `faces`, [{character: image}], class by class.

    No picture comes twice, in another class neither.
    """
    images, counts, seen = [], [], set()
    for char in characters:
        before = len(images)
        for face in faces:
            image = face.get(char)
            if image is not None and image.tobytes() not in seen:
                seen.add(image.tobytes())
                images.append(image)
        counts.append(len(images) - before)
    return np.array(images).reshape(-1, SIDE * SIDE), np.array(counts)


def area_weights(n_in, n_out, scale, start):
    """One axis of an exact area resampling, as a matrix: an output pixel is the mean of what it covers, by area.

    Input pixel i, of width `scale` (in output pixels), lies at [start + i scale, start + (i+1)
    scale) on the output's axis.  Returns [n_out, n_in] float64: the length of each output pixel
    [o, o+1) that each input pixel covers.  `weights_y @ image @ weights_x.T` is the resampled
    image; what falls outside is cut, what is not covered is zero.
    """
    left = start + scale * np.arange(n_in)
    out = np.arange(n_out)[:, None]
    overlap = np.minimum(left + scale, out + 1) - np.maximum(left, out)
    return np.where(overlap > 1e-9, overlap, 0.0)  # a rounding error is no overlap


@functools.lru_cache(maxsize=4096)
def _weights(n, longest):
    """The area weights [SIDE, n] of an axis with n pixels of ink, where the longer axis has `longest`."""
    scale = BOX / longest
    return area_weights(n, SIDE, scale, (SIDE - n * scale) / 2)
