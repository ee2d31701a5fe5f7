"""Which characters the glyph tasks are made of: 1,000 of Matplotlib's bundled fonts, chosen by rule.

The paper's Appendix H.1.1 trains on 1,000 rendered characters and does not list them.  Ours, in this order:

1. Candidates are letters of the scripts in QUOTAS, mathematical symbols and arrows, currency signs and
   punctuation that MIN_FACES of the bundled faces have, as they are encoded: no font variants, superscripts,
   full-width or presentation forms, which are the same picture again.
2. No digits, unless asked for: no character of the categories Nd, No and Nl, none that decomposes to one or
   has one in its name, and none that is drawn nearly like one (see DIGIT_LIKE).
3. No held-out letter (they choose theta), none that decomposes to one or is one with a stroke, hook or the
   like, none that is drawn nearly like one upright (HELD_OUT_LIKE): Greek and Cyrillic B, E, N, T ..., and no
   variant of such a one (Cyrillic E with diaeresis).
4. Of characters that are nearly the same picture (REPEATED) the one that more faces have stays, of equals the
   one of the lower code point: of Latin, Greek and Cyrillic A the Latin one.
5. Of each kind as many as its quota says, those that more faces have first, ties by code point; what a kind
   lacks is made up for by the others in the same order.

Pictures are compared as rendered, after the scaling to a box, in REFERENCE_FACES; the distance of two is
|a - b| / sqrt(|a|^2 + |b|^2), 0 for equal and 1 for disjoint ones, its mean over the faces that have both.
The choice depends on the bundled fonts alone, so that other fonts add images, never classes.
"""
import functools
import os
import re
import unicodedata
from typing import NamedTuple

import numpy as np

from ops.errors import InputError
from ops.data.render import SIDE, bundled_fonts, open_face, render_face, true_codes

HELD_OUT_LETTERS = "BEGNRT" + "begnrt"
DIGITS = "0123456789"
COUNT = 1000
QUOTAS = {"LATIN": 160, "LATIN accented": 100, "GREEK": 80, "CYRILLIC": 100, "ARMENIAN": 50, "GEORGIAN": 50,
          "HEBREW": 22, "ARABIC": 28, "LAO": 20, "CANADIAN": 30,               # 640 letters
          "maths": 210, "maths arrows": 40, "punctuation": 85, "currency": 25}  # adds up to COUNT
DIGITS_QUOTA = 40   # taken from the others in proportion
MIN_FACES = 4
REFERENCE_FACES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf",
                   "STIXGeneral.ttf")
HELD_OUT_LIKE = 0.28  # T and the tack are 0.27 apart, e and a barred o too
DIGIT_LIKE = 0.32     # 3 and the Cyrillic ze 0.17 to 0.31; I, l and O are farther from 1 and 0
REPEATED = 0.16       # A with diaeresis and A with tilde 0.08, with grave and with circumflex 0.14
ALIKE = 0.2           # I and l 0.21
EQUAL = 0.02          # what is left when one outline is drawn at two places
CASES_ALIKE = 0.42    # S and s 0.18, C and c 0.28, U and u 0.40; K and k 0.60
HELD_OUT_SIGNS = "\u0e3f\u20a6\u20ae\u20b2\u20b8"  # currency signs: B, N, T and G with strokes, T with a bar
BRACKET_PIECES = range(0x2320, 0x23E2)  # parts that tall brackets and integrals are put together from
DIGIT_WORDS = re.compile(r"\b(DIGIT|NUMBER|NUMERAL|FRACTION|TRESILLO|CUATRILLO|TONE (TWO|FIVE|SIX)|TWO WITH STROKE|"
                         r"DECIMAL EXPONENT)\b")


class Characters(NamedTuple):
    """Chosen characters, by code point.

    characters  tuple of C one-character strings
    groups      group name ("letters", "maths", "currency", "punctuation"; "digits" where asked for) -> tuple of
                indices into `characters`; together they are all of them
    alike       [C] int: characters with the same number should not be in one task, see `alike_labels`
    """
    characters: tuple
    groups: dict
    alike: np.ndarray


@functools.lru_cache(maxsize=None)
def choose_characters(count=COUNT, digits=False):
    """Characters: `count` of those of the bundled fonts by the module's rule, digits among them only if asked for.

    InputError if that is fewer than 2, or more than there are, naming how many there are.
    """
    if count < 2:
        raise InputError(f"glyphs: {count} characters make no task; ask for 2 or more")
    faces = _faces_per_character()
    kinds = {char: kind_of(char, digits) for char, number in faces.items() if number >= MIN_FACES}
    order = sorted((char for char, kind in kinds.items() if kind), key=lambda c: (-faces[c], ord(c)))
    pictures = _reference_pictures(order)
    refused = _like(order, pictures, HELD_OUT_LETTERS, HELD_OUT_LIKE)
    if not digits:
        refused |= _like(order, pictures, DIGITS, DIGIT_LIKE)
    kept = _without_repeats(pictures, [i for i, char in enumerate(order) if char not in refused])
    if count > len(kept):
        raise InputError(f"glyphs: {count} characters are not to be had; ask for 2 to {len(kept)}")
    chosen = _by_quota([(i, kinds[order[i]]) for i in kept], count, digits)
    chosen.sort(key=lambda i: ord(order[i]))
    characters = tuple(order[i] for i in chosen)
    groups = {}
    for index, char in enumerate(characters):
        groups.setdefault(group_of(kinds[char]), []).append(index)
    return Characters(characters, {name: tuple(rows) for name, rows in sorted(groups.items())},
                      alike_labels(characters, pictures[:, chosen]))


def group_of(kind):
    """The group of a kind of QUOTAS: its first word, or "letters" for a script."""
    return "letters" if kind.split()[0].isupper() else kind.split()[0]


def kind_of(char, digits=False):
    """The key of QUOTAS (or "digits") a character counts under, by its Unicode data; None if it is not to be used."""
    category, name = unicodedata.category(char), unicodedata.name(char, "")
    decomposition = unicodedata.decomposition(char)
    if holds_held_out_letter(char):
        return None
    if holds_digit(char):
        plain = not decomposition or decomposition.startswith(("<fraction>", "<circle>"))
        return "digits" if digits and category in ("Nd", "No", "Nl") and plain else None
    if category == "Sc":
        return "currency"
    if decomposition.startswith("<") and not (decomposition.startswith("<compat>") and category[0] == "P"):
        return None
    if category in ("Lu", "Ll", "Lt", "Lo"):
        script = name.split()[0] if name else ""
        if script == "LATIN" and decomposition:
            return "LATIN accented"
        return script if script in QUOTAS else None
    if category in ("Sm", "So") and 0x2190 <= ord(char) <= 0x21FF:  # Unicode's block of arrows
        return "maths arrows"
    if category == "Sm" and ord(char) not in BRACKET_PIECES:
        return "maths"
    return "punctuation" if category[0] == "P" else None


def holds_digit(char):
    """Whether a character is, contains or is named after a digit (0-9 of any script, fractions, numerals)."""
    return any(unicodedata.category(c) in ("Nd", "No", "Nl") for c in char + unicodedata.normalize("NFKD", char)) \
        or bool(DIGIT_WORDS.search(unicodedata.name(char, "")))


def holds_held_out_letter(char):
    """Whether a character is, decomposes to or is named as a variant of one of HELD_OUT_LETTERS.

    So are N with tilde, the ligature NJ, script E, circled T, B with hook and the small capital R; "turned" and
    "reversed" letters are other pictures, and are not.
    """
    if any(c in HELD_OUT_LETTERS + HELD_OUT_SIGNS for c in unicodedata.normalize("NFKD", char)):
        return True
    named = re.match(r"LATIN (?:CAPITAL |SMALL )?LETTER (?:SMALL CAPITAL |SCRIPT |BARRED )?([A-Z])(?: WITH .*)?$",
                     unicodedata.name(char, ""))
    return bool(named) and named[1] in HELD_OUT_LETTERS


# ---- comparing pictures

def _faces_per_character():
    """{character: the number of bundled faces that truly have it}."""
    faces = {}
    for path in bundled_fonts():
        for code in true_codes(open_face(path)):
            faces[chr(code)] = faces.get(chr(code), 0) + 1
    return faces


def _reference_pictures(characters):
    """[faces, C, 196] float32 in REFERENCE_FACES; NaN where the face lacks the character."""
    paths = {os.path.basename(path): path for path in bundled_fonts()}
    pictures = np.full((len(REFERENCE_FACES), len(characters), SIDE * SIDE), np.nan, np.float32)
    index = {char: i for i, char in enumerate(characters)}
    for f, name in enumerate(REFERENCE_FACES):
        for char, image in render_face(paths[name], characters).items():
            pictures[f, index[char]] = image
    return pictures


def distances(a, b):
    """[A, B] mean distance of pictures a [faces, A, 196] and b [faces, B, 196]; inf where no face has both."""
    has_a, has_b = (~np.isnan(x[:, :, :1]) for x in (a, b))
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    squares_a, squares_b = (np.einsum("fci,fci->fc", x, x)[:, :, None] for x in (a, b))
    out = np.empty((a.shape[1], b.shape[1]), np.float32)
    for start in range(0, len(out), 256):  # blocks that fit into a cache
        rows = np.s_[:, start:start + 256]
        length = np.maximum(squares_a[rows] + squares_b.transpose(0, 2, 1), 1e-9)
        squared = 1 - 2 * (a[rows] @ b.transpose(0, 2, 1)) / length
        both = has_a[rows] & has_b.transpose(0, 2, 1)
        total = np.where(both, np.sqrt(np.maximum(squared, 0)), 0).sum(axis=0)
        shared = both.sum(axis=0)
        out[start:start + 256] = np.where(shared > 0, total / np.maximum(shared, 1), np.inf)
    return out


def _like(characters, pictures, others, limit):
    """The set of `characters` that are drawn nearly like one of `others`, and of the variants of such ones."""
    near = distances(pictures, _reference_pictures(others)).min(axis=1) <= limit
    like = {char for char, is_near in zip(characters, near) if is_near}
    return like | {char for char in characters if not like.isdisjoint(bases_of(char))}


def bases_of(char):
    """What a character is a variant of: the characters it decomposes to and, of "X WITH Y", the X."""
    bases = set(unicodedata.normalize("NFD", char)) - {char}
    name = unicodedata.name(char, "").split(" WITH ")
    if len(name) > 1:
        try:
            bases.add(unicodedata.lookup(name[0]))
        except KeyError:  # an X that does not exist alone
            pass
    return bases


def _without_repeats(pictures, rows):
    """Those of `rows` (indices of pictures) that are not nearly the picture of an earlier one that stays."""
    near = distances(pictures[:, rows], pictures[:, rows]) <= REPEATED
    stays = np.zeros(len(rows), bool)
    for i in range(len(rows)):
        stays[i] = not (near[i] & stays).any()
    return [row for row, kept in zip(rows, stays) if kept]


def _by_quota(candidates, count, digits):
    """`count` of the candidates [(index, kind)]: the first of each kind up to its share, then of the rest."""
    quotas = dict(QUOTAS, digits=DIGITS_QUOTA) if digits else QUOTAS
    share = {kind: quota * count // sum(quotas.values()) for kind, quota in quotas.items()}
    chosen, rest = [], []
    for index, kind in candidates:
        (chosen if share[kind] else rest).append(index)
        share[kind] -= share[kind] > 0
    return chosen + rest[:count - len(chosen)]


def alike_labels(characters, pictures):
    """[C] int: equal for characters that a task should not hold together; the lowest index of those that are alike.

    Alike are pictures no farther apart than ALIKE (the two cases of a letter: CASES_ALIKE, since scaling to a box
    removes what tells C from c) or EQUAL in one face (Latin and Cyrillic K), and those that a third is alike to.
    """
    label = np.arange(len(characters))
    folded = np.array([c.casefold() for c in characters])
    limit = np.where(folded[:, None] == folded, CASES_ALIKE, ALIKE)
    alike = distances(pictures, pictures) <= limit
    for face in pictures:
        alike |= distances(face[None], face[None]) <= EQUAL
    for i, j in np.argwhere(np.triu(alike, 1)):
        if label[i] != label[j]:
            low, high = sorted((label[i], label[j]))
            label[label == high] = low
    return label
