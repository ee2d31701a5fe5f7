"""The paper's glyphs (Appendix H.1.1) as a `Pool`: 1,000 characters in every face that has them, kept on disk."""
import hashlib
import json
import os
import string
import sys
import unicodedata
from collections import Counter

import numpy as np

from ops.errors import InputError
from ops.files import load_npz, save_npz
from ops.data.characters import COUNT, DIGITS, HELD_OUT_LETTERS, choose_characters, distances
from ops.data.files_on_disk import data_dir, read_bytes
from ops.data.pool import Pool, check_pool
from ops.data.render import SIDE, bundled_fonts, faces_of, fonts_below, render_face, system_fonts as installed_fonts

RENDERING = 1       # to be raised when the same fonts give other pictures or characters: caches are made anew
SAME_PICTURE = 0.2  # distance (`characters.distances`) of pictures that pass for each other in one face
FAINT = 64          # of 255: a picture whose brightest pixel is darker (a low line) is as good as blank
TOFU = 3            # a face that shows one picture for so many characters has none of them
ALIKE = "alike "    # how the names of the groups of classes begin that must not be in one task


def glyph_pool(font_dir=None, system_fonts=False, digits=False, count=COUNT, cache_dir=None):
    """Pool "glyphs": the characters of `choose_characters`, class by class, 14x14 uint8 (value / 255).

    font_dir      folder; all fonts in it and below are used beside Matplotlib's bundled ones
    system_fonts  whether to use the fonts installed on this system too
    digits        whether digits may be among the characters (then MNIST is no unseen test set)
    count         how many characters
    cache_dir     where the rendered pool is kept (default `data_dir()`); rendered anew if it was made from other
                  fonts, versions or options or is damaged.  If it cannot be written, nothing is kept

    `pool.groups` holds "letters", "maths", "currency", "punctuation" (and "digits"), of which every class is in
    one, and groups "alike Cc" of classes not to be put into one task; `different_classes` minds them.
    Images are ordered by class, then face; none is blank, none occurs twice, not in another class either.
    InputError: `font_dir` is no folder or holds no font, a font in it cannot be read, `count` too small or large.
    System fonts that cannot be read are left out, which is said on standard error.
    """
    asked = bundled_fonts() + (fonts_below(font_dir) if font_dir else [])
    installed = [path for path in installed_fonts() if path not in asked] if system_fonts else []
    key = _key(asked, installed, bool(digits), int(count))
    path = os.path.join(data_dir(cache_dir), f"glyphs-{key[:16]}.npz")
    pool = _cached(path, key)
    if pool is None:
        chosen = choose_characters(count, digits)
        pool = _as_pool(_render_faces(asked, installed, chosen.characters, digits), chosen)
        try:
            save_npz(path, {"images": pool.images, "counts": pool.counts, "class_names": np.array(pool.class_names),
                            "groups": np.array(json.dumps(pool.groups)), "key": np.array(key)})
        except InputError:  # a folder that cannot be written to: it is rendered again next time
            pass
    pool.images.flags.writeable = pool.counts.flags.writeable = False
    return pool


def different_classes(rng, pool, ways, group=None):
    """[ways] rising class indices of `pool` at random, of its group `group` or of all, no two of them alike.

    InputError if the group does not exist or has too few different classes.
    """
    if group is not None and group not in pool.groups:
        raise InputError(f"pool '{pool.name}' has no group '{group}'; give one of {', '.join(kinds_in(pool))}")
    classes = np.arange(len(pool.counts)) if group is None else np.array(pool.groups[group])
    order = rng.permutation(classes)
    _, first = np.unique(alike(pool)[order], return_index=True)
    if not 1 <= ways <= len(first):
        raise InputError(f"pool '{pool.name}': {ways} ways of {len(first)} different classes"
                         f"{f' of {group}' if group else ''}; ask for 1 to {len(first)}")
    return np.sort(order[np.sort(first)[:ways]])


def alike(pool):
    """[C] int: classes with the same number must not be in one task; the lowest class of those that are alike."""
    label = np.arange(len(pool.counts))
    for name, classes in pool.groups.items():
        if name.startswith(ALIKE):
            label[list(classes)] = min(classes)
    return label


def kinds_in(pool):
    """The names of the pool's groups of one kind of character ("letters" ...), those of alike classes left out."""
    return [name for name in pool.groups if not name.startswith(ALIKE)]


def glyph_statistics(pool):
    """What a glyph pool holds, as a dict that JSON can hold.

    characters, images, different   classes; images; classes that may be in one task together at most
    per_character                   {"min", "median", "max"} images of a character
    groups, scripts                 {name: {"characters", "images"}}, scripts being those of the letters
    """
    def part(classes):
        return {"characters": len(classes), "images": int(pool.counts[list(classes)].sum())}

    scripts = {}
    for c in pool.groups.get("letters", ()):
        scripts.setdefault(unicodedata.name(pool.class_names[c]).split()[0].capitalize(), []).append(c)
    return {"characters": len(pool.counts), "images": len(pool.images), "different": len(set(alike(pool))),
            "per_character": {"min": int(pool.counts.min()), "median": float(np.median(pool.counts)),
                              "max": int(pool.counts.max())},
            "groups": {name: part(pool.groups[name]) for name in kinds_in(pool)},
            "scripts": {name: part(classes) for name, classes in
                        sorted(scripts.items(), key=lambda item: -len(item[1]))}}


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


def _as_pool(rendered, chosen):
    """The Pool of the chosen Characters, from what `_render_faces` gives."""
    images, counts, seen = [], [], set()
    for char in chosen.characters:
        before = len(images)
        for face in rendered:
            image = face.get(char)
            if image is not None and image.tobytes() not in seen:
                seen.add(image.tobytes())
                images.append(image)
        counts.append(len(images) - before)
    groups = dict(chosen.groups)
    for label in np.flatnonzero(np.bincount(chosen.alike) > 1):
        classes = tuple(int(c) for c in np.flatnonzero(chosen.alike == label))
        groups[ALIKE + "".join(chosen.characters[c] for c in classes)] = classes
    pool = Pool("glyphs", np.array(images, np.uint8).reshape(-1, SIDE * SIDE), np.array(counts), chosen.characters,
                SIDE, 1, groups)
    check_pool(pool)
    return pool


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
            pictures = np.array([images[char] for char in tested])
            near = distances(pictures[None], np.array(others)[None]).min(axis=1) <= SAME_PICTURE
            for char in np.array(tested)[near]:
                del images[char]
    images = {char: np.rint(image * 255).astype(np.uint8) for char, image in images.items()}
    shown = Counter(image.tobytes() for image in images.values())
    return {char: image for char, image in images.items() if image.max() >= FAINT and shown[image.tobytes()] < TOFU}


# ---- the file it is kept in

def _key(asked, installed, digits, count):
    """Hex digest of all that the pool depends on: versions, options, the fonts' names and contents.

    The content of an installed font, of which there may be gigabytes, is told by its size and time of change.
    """
    import matplotlib
    from matplotlib import ft2font
    versions = [RENDERING, matplotlib.__version__, ft2font.__freetype_version__, unicodedata.unidata_version]
    parts = [versions, digits, count]
    parts += [(os.path.basename(path), hashlib.sha256(read_bytes(path)).hexdigest()) for path in asked]
    for path in installed:
        try:
            status = os.stat(path)
            parts.append((os.path.basename(path), status.st_size, status.st_mtime_ns))
        except OSError:  # it will be left out
            parts.append((os.path.basename(path), None))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _cached(path, key):
    """The Pool kept at `path`; None if there is none, or it is damaged, foreign or made from something else."""
    try:
        kept = load_npz(path)
        if str(kept["key"]) != key:
            return None
        groups = {name: tuple(classes) for name, classes in json.loads(str(kept["groups"])).items()}
        pool = Pool("glyphs", kept["images"], kept["counts"], tuple(kept["class_names"].tolist()), SIDE, 1, groups)
        check_pool(pool)
        return pool if pool.images.dtype == np.uint8 else None
    except (InputError, KeyError, ValueError, AttributeError, TypeError, IndexError):
        return None
