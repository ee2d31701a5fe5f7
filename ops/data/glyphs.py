"""The paper's glyphs (H.1.1) as a `Pool`: 1,000 characters in every face that has them, kept on disk.

The paper does not list its characters.  Ours are in `characters.txt`; the README of this folder says by what rule
they were chosen.  Other fonts than Matplotlib's add images, never classes.
"""
import contextlib
import hashlib
import json
import os
import string
import sys
from collections import Counter

import numpy as np

from ops.data.letters import HELD_OUT_LETTERS
from ops.data.places import data_dir, read_bytes, read_npz
from ops.data.pool import Pool, check_pool
from ops.data.render import SIDE, bundled_fonts, by_class, faces_of, fonts_below, render_face
from ops.data.render import system_fonts as installed_fonts
from ops.errors import InputError
from ops.files import save_npz

HERE = os.path.dirname(os.path.abspath(__file__))
CHARACTERS = os.path.join(HERE, "characters.txt")
CODE = tuple(os.path.join(HERE, name) for name in ("glyphs.py", "letters.py", "render.py"))  # what pictures depend on
DIGITS = "0123456789"
FEWEST = 2          # images that a character needs: one for each of a pair of batches
SAME_PICTURE = 0.2  # distance of pictures that pass for each other in one face
FAINT = 64          # of 255: a picture whose brightest pixel is darker (a low line) is as good as blank
TOFU = 3            # a face that shows one picture for so many characters has none of them


def glyph_pool(font_dir=None, system_fonts=False, digits=False, cache_dir=None):
    """Pool "glyphs": the characters of `read_characters`, class by class, 14x14 uint8 (value / 255).

    font_dir      folder; all fonts in it and below are used beside Matplotlib's bundled ones
    system_fonts  whether to use the fonts installed on this system too
    digits        whether digits may be among the characters (then MNIST is no unseen test set)
    cache_dir     where the rendered pool is kept (default `data_dir()`); rendered anew if it was made from other
                  fonts, versions or options or is damaged.  If it cannot be written, nothing is kept

    `pool.groups` holds "letters", "maths", "currency", "punctuation" (and "digits"), of which every class is in
    one, and `pool.alike` the classes that are not to be put into one task; `different_classes` minds them.
    Images are ordered by class, then face; none is blank, none occurs twice, not in another class either.
    InputError: `font_dir` is no folder or holds no font, or a font in it cannot be read.  System fonts that cannot be
    read, and characters of which all fonts together give fewer than FEWEST images (none with the Matplotlib of the
    list), are left out, which is said on standard error.
    """
    asked = bundled_fonts() + (fonts_below(font_dir) if font_dir else [])
    installed = [path for path in installed_fonts() if path not in asked] if system_fonts else []
    kinds, alike = read_characters(digits)
    key = _key(asked, installed, bool(digits))
    path = os.path.join(data_dir(cache_dir), f"glyphs-{key[:16]}.npz")
    kept = _cached(path, key, len(kinds))
    if kept is None:
        kept = by_class(kinds, _render_faces(asked, installed, list(kinds), digits))
        with contextlib.suppress(InputError):  # a folder that cannot be written to: it is rendered again next time
            save_npz(path, dict(zip(("images", "counts"), kept), key=np.array(key)))
    return _pool_of(*kept, kinds, alike)


def read_characters(digits=False, path=CHARACTERS):
    """({character: its kind}, {character: the first one that looks like it}) of the list, by code point.

    Kinds are "letters", "maths", "currency", "punctuation" and, with `digits`, "digits".
    """
    kinds, alike = {}, {}
    with open(path, encoding="ascii") as file:
        for line in file:
            code, kind, which, like, *_ = line.split(maxsplit=4)
            if code != "#" and which in ("both", "digits" if digits else "plain"):
                char = chr(int(code, 16))
                kinds[char], alike[char] = kind, char if like == "-" else chr(int(like, 16))
    return kinds, alike


def _pool_of(images, counts, kinds, alike):
    """The Pool of the characters that have FEWEST images; how many have not is said on standard error."""
    enough = counts >= FEWEST
    if not enough.all():
        print(f"glyphs: {np.sum(~enough)} of {len(counts):,} characters are left out, since these fonts have fewer "
              f"than {FEWEST} pictures of each", file=sys.stderr)
    images, counts = images[np.repeat(enough, counts)], counts[enough]
    characters = [char for char, stays in zip(kinds, enough) if stays]
    groups, looks = {kind: [] for kind in sorted(set(kinds.values()))}, {}
    for c, char in enumerate(characters):
        groups[kinds[char]].append(c)
        looks.setdefault(alike[char], []).append(c)
    images.flags.writeable = counts.flags.writeable = False
    return check_pool(Pool("glyphs", images, counts, tuple(characters), SIDE, 1,
                           {kind: tuple(classes) for kind, classes in groups.items() if classes},
                           tuple(tuple(classes) for classes in looks.values() if len(classes) > 1)))


def different_classes(rng, pool, ways, group=None):
    """[ways] rising class indices of `pool` at random, of its group `group` or of all, no two of them alike.

    InputError if the group does not exist or has too few different classes.
    """
    if group is not None and group not in pool.groups:
        raise InputError(f"pool '{pool.name}' has no group '{group}'; give one of {', '.join(pool.groups)}")
    first_alike = np.arange(len(pool.counts))
    for classes in pool.alike:
        first_alike[list(classes)] = min(classes)
    order = rng.permutation(np.arange(len(pool.counts)) if group is None else np.array(pool.groups[group]))
    _, first = np.unique(first_alike[order], return_index=True)
    if not 1 <= ways <= len(first):
        raise InputError(f"pool '{pool.name}': {ways} ways of {len(first)} different classes"
                         f"{f' of {group}' if group else ''}; ask for 1 to {len(first)}")
    return np.sort(order[np.sort(first)[:ways]])


# ---- rendering

def _render_faces(asked, installed, characters, digits):
    """[{character: image}] of every face; of `installed` those that can be read, else a line on standard error."""
    def render(faces):
        return [render_honest_face(path, characters, index, digits) for path, index in faces]

    rendered = render([face for path in asked for face in faces_of(path)])  # opened first: errors come at once
    left_out = Counter()
    for path in installed:
        try:
            rendered += render(faces_of(path))
        except InputError as error:
            left_out[str(error).split("cannot be read (")[-1].split(");")[0]] += 1
    if left_out:
        reasons = "; ".join(f"{number}: {reason}" for reason, number in left_out.most_common())
        print(f"glyphs: {sum(left_out.values())} system fonts cannot be read and are left out ({reasons})",
              file=sys.stderr)
    return rendered


def render_honest_face(path, characters, index=0, digits=False):
    """{character: [196] uint8} of a face, less the pictures that would show what is not to be seen.

    Left out are pictures that pass for a held-out letter of the same face (the Cyrillic pe is n in italics) or,
    unless `digits`, for one of its digits (Latin letters excepted: O, l and I are what they are), FAINT ones, and
    what the face shows for TOFU or more characters.
    """
    drawn = render_face(path, "".join(dict.fromkeys([*characters, *HELD_OUT_LETTERS, *DIGITS])), index)
    images = {char: drawn[char] for char in characters if char in drawn}
    for others, spared in ((HELD_OUT_LETTERS, ""), ("" if digits else DIGITS, string.ascii_letters)):
        others = [drawn[char] for char in others if char in drawn]
        tested = [char for char in images if char not in spared]
        if others and tested:
            near = distances(np.array([images[char] for char in tested]), np.array(others)).min(axis=1) <= SAME_PICTURE
            for char in np.array(tested)[near]:
                del images[char]
    images = {char: np.rint(image * 255).astype(np.uint8) for char, image in images.items()}
    shown = Counter(image.tobytes() for image in images.values())
    return {char: image for char, image in images.items() if image.max() >= FAINT and shown[image.tobytes()] < TOFU}


def distances(a, b):
    """[A, B]: |a - b| / sqrt(|a|^2 + |b|^2) of pictures a [A, 196] and b [B, 196], 0 for equal, 1 for disjoint ones."""
    squares_a, squares_b = (np.einsum("ci,ci->c", x, x) for x in (a, b))
    length = np.maximum(squares_a[:, None] + squares_b, 1e-9)
    return np.sqrt(np.maximum(1 - 2 * (a @ b.T) / length, 0))


# ---- the file it is kept in

def _key(asked, installed, digits):
    """Hex digest of all that the pool depends on: this code, versions, options, the list, the fonts' names and contents.

    The content of an installed font, of which there may be gigabytes, is told by its size and time of change.
    """
    import matplotlib
    from matplotlib import ft2font
    parts = [[matplotlib.__version__, ft2font.__freetype_version__], digits]
    parts += [(os.path.basename(path), hashlib.sha256(read_bytes(path)).hexdigest()) for path in (CHARACTERS, *CODE, *asked)]
    for path in installed:
        try:
            status = os.stat(path)
            parts.append((os.path.basename(path), status.st_size, status.st_mtime_ns))
        except OSError:  # it will be left out
            parts.append((os.path.basename(path), None))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _cached(path, key, characters):
    """(images, counts) of so many characters kept at `path`; None if there is none, or it is damaged or has another key."""
    try:
        images, counts, found = read_npz(path, ("images", "counts", "key"))
    except InputError:
        return None
    # The zip's sums guard what is read, but a header that is damaged may ask for less.
    fits = counts.shape == (characters,) and images.shape == (counts.sum(), SIDE * SIDE)
    return (images, counts) if fits and str(found) == key else None
