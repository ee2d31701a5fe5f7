"""Letters and the 1,000 characters of the glyph tasks: which they are, how they are drawn, how they are kept."""
import os
import shutil
import struct
import unicodedata

import matplotlib
import numpy as np
import pytest
from matplotlib import ft2font
from matplotlib.ft2font import FT2Font

from ops.data import glyphs
from ops.data.glyphs import DIGITS, different_classes, distances, glyph_pool, read_characters, render_honest_face
from ops.data import load_dataset
from ops.data.letters import HELD_OUT_LETTERS, letters, letters_pool
from ops.data.pool import check_pool
from ops.data.render import (BOX, area_weights, bundled_fonts, faces_of, fonts_below, open_face, render_face,
                             true_codes)
from small_data import refused

FONTS = {os.path.basename(path): path for path in bundled_fonts()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pool(folder):
    return glyph_pool(cache_dir=str(folder))


@pytest.fixture
def few(monkeypatch):
    """A list of 50 characters, quickly rendered in two faces, beside the fonts that a test adds."""
    kinds, alike = read_characters()
    chosen = list(kinds)[::20]
    listed = {c: kinds[c] for c in chosen}, {c: c for c in chosen}
    monkeypatch.setattr(glyphs, "read_characters", lambda digits: listed)
    monkeypatch.setattr(glyphs, "bundled_fonts", lambda: [FONTS["DejaVuSans.ttf"], FONTS["DejaVuSerif.ttf"]])


def images_of(pool, char):
    c = pool.class_names.index(char)
    end = pool.counts[:c + 1].sum()
    return pool.images[end - pool.counts[c]:end].reshape(-1, 14, 14)


def ascii_art(image):
    return ["".join("#" if v > 127 else "." for v in row) for row in image]


# ---- letters

def test_letters_and_their_splits():
    assert len(letters()) == 52 and len(letters(case="upper")) == 26
    assert sorted(letters("train") + letters("heldout")) == sorted(letters("all"))
    assert set(letters("heldout")) == set(HELD_OUT_LETTERS)
    assert letters("heldout", "upper") == "BEGNRT"
    assert all(c.isascii() and c.isalpha() for c in letters())
    refused(["split", "'test'", "heldout"], letters, "test")
    refused(["case", "'lower'", "upper"], letters, "all", "lower")


def test_the_pool_of_letters_is_of_all_letters_and_is_shared_and_read_only():
    pool = letters_pool()
    check_pool(pool)
    assert pool.images.dtype == np.float32 and (pool.name, pool.side, pool.channels) == ("letters", 14, 1)
    assert pool.class_names == tuple(letters())
    assert (pool.images.max(1) > 0.5).all() and pool.images.min() >= 0 and pool.images.max() <= 1
    assert len(np.unique(pool.images, axis=0)) == len(pool.images)
    assert pool.counts.min() >= 20  # a 10-shot pair needs 20 of each
    assert letters_pool() is pool
    with pytest.raises(ValueError):
        pool.images[0, 0] = 1


def test_the_letters_to_score_on_are_those_of_the_pool_split_by_font():
    data, pool = load_dataset("letters"), letters_pool()
    train, test = ({image.tobytes() for image in x} for x in (data.x_train, data.x_test))
    assert not train & test and train | test == {image.tobytes() for image in pool.images}
    assert data.classes == pool.class_names and min(map(min, map(np.bincount, (data.y_train, data.y_test)))) >= 10
    class_of = dict(zip((image.tobytes() for image in pool.images), np.repeat(np.arange(52), pool.counts)))
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert [class_of[image.tobytes()] for image in x] == y.tolist()
    of_font = {image.tobytes() for image in render_face(FONTS["DejaVuSerif-Italic.ttf"], letters()).values()}
    assert of_font <= train or of_font <= test


# ---- the list of characters

def test_the_list_is_sorted_and_says_what_unicode_says():
    listed = [line.split(maxsplit=4) for line in open(glyphs.CHARACTERS) if not line.startswith("#")]
    codes = [int(code, 16) for code, *_ in listed]
    assert codes == sorted(set(codes))
    for code, kind, which, like, name in listed:
        assert name.strip() == unicodedata.name(chr(int(code, 16))) and which in ("plain", "digits", "both")
        assert like == "-" or int(like, 16) in codes and int(like, 16) <= int(code, 16)


@pytest.mark.parametrize("digits", [False, True])
def test_there_are_a_thousand_characters_and_digits_only_when_asked_for(digits):
    kinds, alike = read_characters(digits)
    assert len(kinds) == 1000 and set(alike) == set(kinds)
    assert sorted(set(kinds.values())) == ["currency", *["digits"] * digits, "letters", "maths", "punctuation"]
    assert (set(DIGITS) <= set(kinds)) == digits and ("\u00bd" in kinds) == digits
    assert not set(HELD_OUT_LETTERS) & set(kinds) and set(letters("train")) <= set(kinds)


def test_no_digit_no_held_out_letter_and_nothing_that_looks_like_one_is_listed():
    listed = set(read_characters()[0])
    for char in listed:
        assert not any(unicodedata.category(c) in ("Nd", "No", "Nl") or c.isnumeric() or c in HELD_OUT_LETTERS
                       for c in char + unicodedata.normalize("NFKD", char))
        assert "DIGIT" not in unicodedata.name(char)
    assert not set("\u01bb\u01bc\u01bd\u0417\u0437\u0431") & listed  # 2 with stroke, ze, be ...
    look_alikes = "\u0392\u0395\u039d\u03a4\u0412\u0415\u0422\u0435\u0432\u0442\u043f\u0578\u0581\u050c\u22a4\u05d7"
    variants = "\u0388\u0401\u0400\u0451\u1f18\u04ac\u00c9\u00d1\u01e6\u0158\u0164\u20a6\u20ae\u0e3f"
    assert not set(look_alikes + variants) & listed
    for same in ("A\u0391\u0410", "O\u039f\u041e", "a\u0430", "\u2206\u0394"):  # Latin, Greek and Cyrillic A ...
        assert len(set(same) & listed) == 1, same


# ---- the pool

def test_the_pool_fits_together_and_has_a_thousand_classes(pool):
    check_pool(pool)
    assert pool.name == "glyphs" and pool.images.dtype == np.uint8 and pool.side == 14 and pool.channels == 1
    assert set(pool.class_names) <= set(read_characters()[0]) and 950 < len(pool.counts) <= 1000  # by Matplotlib
    assert list(pool.class_names) == sorted(set(pool.class_names))
    assert pool.counts.min() >= 2 and np.median(pool.counts) >= 10  # a pair of batches needs two
    assert (pool.images.max(1) >= 64).all()
    assert len(np.unique(pool.images, axis=0)) == len(pool.images)


def test_the_groups_are_what_their_names_say_and_hold_every_class_once(pool):
    names = list(pool.groups)
    assert names == ["currency", "letters", "maths", "punctuation"]
    assert sorted(c for name in names for c in pool.groups[name]) == list(range(len(pool.counts)))
    category = [unicodedata.category(c) for c in pool.class_names]
    for name, first in (("letters", "L"), ("punctuation", "P"), ("currency", "Sc")):
        assert all(category[c].startswith(first) for c in pool.groups[name])
    assert {category[c] for c in pool.groups["maths"]} <= {"Sm", "So"}
    assert all(len(pool.groups[name]) >= 20 for name in names)  # a 10-way problem of each has a choice
    scripts = {unicodedata.name(pool.class_names[c]).split()[0] for c in pool.groups["letters"]}
    assert {"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN", "HEBREW", "ARABIC"} <= scripts
    assert any(unicodedata.decomposition(c) for c in pool.class_names if "LATIN" in unicodedata.name(c))


@pytest.mark.parametrize("name", ["DejaVuSans.ttf", "DejaVuSerif-Italic.ttf", "STIXGeneral.ttf"])
def test_no_image_passes_for_a_held_out_letter_or_a_digit_of_its_face(pool, name):
    """The pool's own images, found again as this face's, against the face's held-out letters and digits."""
    drawn = render_face(FONTS[name], pool.class_names)
    kept = [c for c in drawn if (images_of(pool, c).reshape(-1, 196) == np.rint(255 * drawn[c])).all(1).any()]
    assert len(kept) > 300
    for targets, tested in ((HELD_OUT_LETTERS, kept), (DIGITS, [c for c in kept if not c.isascii()])):
        others = render_face(FONTS[name], targets)
        far = distances(np.array([drawn[c] for c in tested]), np.array(list(others.values())))
        assert far.min() > 0.2


def test_the_italic_pe_which_is_an_n_is_left_out_and_the_upright_el_stays():
    shown = render_honest_face(FONTS["DejaVuSerif-Italic.ttf"], "\u043f\u043b")
    assert list(shown) == ["\u043b"]
    assert "3" not in render_honest_face(FONTS["DejaVuSans.ttf"], "3a")
    assert "3" in render_honest_face(FONTS["DejaVuSans.ttf"], "3a", digits=True)


# ---- how they are drawn

def test_images_are_centred_and_fill_their_box(pool):
    for images, loss in ((letters_pool().images, 0), (pool.images, 1)):  # of whole grey levels a faint edge may be 0
        extents = []
        for ink in (images.reshape(-1, 14, 14).any(1), images.reshape(-1, 14, 14).any(2)):
            first, last = ink.argmax(1), 13 - ink[:, ::-1].argmax(1)
            assert np.abs(first + last - 13).max() <= loss
            extents.append(last - first + 1)
        longest = np.maximum(*extents)
        assert longest.max() == BOX and longest.min() >= BOX - loss


def test_what_is_drawn_is_the_character(pool):
    plus, arrow = (ascii_art(images_of(pool, c)[0]) for c in "+\u2190")
    assert plus == plus[::-1] == [row[::-1] for row in plus] and "#" * 10 in plus[6] + plus[7]
    assert arrow == arrow[::-1] and arrow != [row[::-1] for row in arrow]
    first = [row.index("#") for row in arrow if "#" in row]
    assert max(first) > min(first) == 2  # the tip is in the middle row


def test_symbol_fonts_are_not_misread():
    def codes(name):
        return "".join(sorted(map(chr, true_codes(open_face(FONTS[name]))))).strip()
    assert codes("cmex10.ttf") == ""  # brackets at the codes of digits and letters
    assert render_face(FONTS["cmex10.ttf"], letters()) == {}
    assert codes("cmsy10.ttf") == letters(case="upper")  # script capitals; arrows at the lower case's codes
    assert "<" not in codes("cmr10.ttf") and {"(", "A", "z", "!"} < set(codes("cmr10.ttf"))
    assert all(c.isascii() for c in codes("cmmi10.ttf"))  # Greek letters at Latin-1's codes
    assert len(codes("DejaVuSans.ttf")) > 5000 and len(codes("STIXGeneral.ttf")) > 3000


def test_a_face_that_shows_one_box_for_many_characters_has_none_of_them(monkeypatch):
    box, other = np.ones(196, np.float32), np.eye(14, dtype=np.float32).ravel()
    face = {"a": box, "c": box, "d": box, "f": other}
    monkeypatch.setattr(glyphs, "render_face", lambda path, characters, index: face)
    assert list(render_honest_face("x.ttf", "acdf")) == ["f"]


def test_distances_of_pictures():
    a, b = np.zeros((2, 196), np.float32), np.zeros((1, 196), np.float32)
    a[0, :4], a[1, 4:8], b[0, :4] = 1, 1, 1
    assert distances(a, b).tolist() == [[0], [1]]


def test_area_weights_average_exactly():
    w = area_weights(6, 3, 0.5, 0.0)
    assert np.allclose(w @ np.arange(6.0), [0.5, 2.5, 4.5])
    assert np.allclose(area_weights(7, 5, 0.37, 1.1).sum(0), 0.37)  # all ink arrives


# ---- the user's fonts


def test_fonts_of_a_folder_add_the_images_that_are_new(few, tmp_path, capsys):
    fonts = tmp_path / "fonts"
    (fonts / "deep").mkdir(parents=True)
    shutil.copy(FONTS["DejaVuSans.ttf"], fonts / "deep" / "Mine.TTF")
    (fonts / "readme.txt").write_text("no font")
    assert fonts_below(fonts) == [str(fonts / "deep" / "Mine.TTF")]
    without = glyph_pool(cache_dir=str(tmp_path))
    assert "are left out" in capsys.readouterr().err
    same = glyph_pool(font_dir=str(fonts), cache_dir=str(tmp_path))
    assert np.array_equal(same.images, without.images) and same.class_names == without.class_names
    shutil.copy(FONTS["STIXGeneral.ttf"], fonts / "a.ttf")
    with_it = glyph_pool(font_dir=str(fonts), cache_dir=str(tmp_path))
    assert set(without.class_names) <= set(with_it.class_names) and len(with_it.images) > len(without.images) + 10
    assert set(map(bytes, without.images)) < set(map(bytes, with_it.images))


def test_characters_with_too_few_images_are_left_out_and_counted(tmp_path, monkeypatch, capsys):
    a, b, c, d, e = np.arange(1, 6, dtype=np.uint8)[:, None] * np.ones(196, np.uint8)
    faces = [{"A": a, "C": b, "H": c}, {"A": d, "C": a, "H": e}, {"A": a, "C": b}]  # an image that was there: none
    monkeypatch.setattr(glyphs, "_render_faces", lambda *args: faces)
    monkeypatch.setattr(glyphs, "read_characters", lambda digits: (
        {"A": "letters", "C": "letters", "D": "maths", "H": "letters"}, {"A": "A", "C": "A", "D": "D", "H": "A"}))
    for _ in range(2):  # rendered, then read
        pool = glyph_pool(cache_dir=str(tmp_path))
        assert pool.class_names == ("A", "H") and pool.groups == {"letters": (0, 1)} and pool.alike == ((0, 1),)
        assert np.array_equal(pool.images, [a, d, c, e]) and pool.counts.tolist() == [2, 2]
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "2 of 4 characters are left out" in said and "fewer than 2" in said


def test_folders_and_fonts_that_cannot_be_used_are_named(tmp_path):
    cache = str(tmp_path / "cache")
    refused(["nowhere", "--font-dir"], glyph_pool, font_dir=str(tmp_path / "nowhere"), cache_dir=cache)
    refused([str(tmp_path), "no font", ".otf"], glyph_pool, font_dir=str(tmp_path), cache_dir=cache)
    (tmp_path / "bad.otf").write_bytes(b"not a font")
    refused(["bad.otf", "cannot be read", "remove it"], glyph_pool, font_dir=str(tmp_path), cache_dir=cache)
    (tmp_path / "bad.otf").write_bytes(open(FONTS["cmr10.ttf"], "rb").read()[:3000])
    refused(["bad.otf", "cannot be read"], glyph_pool, font_dir=str(tmp_path), cache_dir=cache)
    assert not os.path.exists(cache)


def collection(paths):
    """The bytes of a `.ttc` of TTF files: a header, then the files, with their tables' places moved on."""
    files = [bytearray(open(path, "rb").read()) for path in paths]
    starts = np.cumsum([12 + 4 * len(files)] + [len(f) + -len(f) % 4 for f in files])
    for file, start in zip(files, starts):
        for table in range(struct.unpack_from(">H", file, 4)[0]):
            place = 12 + 16 * table + 8
            struct.pack_into(">I", file, place, struct.unpack_from(">I", file, place)[0] + int(start))
        file.extend(bytes(-len(file) % 4))
    return struct.pack(f">4sII{len(files)}I", b"ttcf", 0x10000, len(files), *map(int, starts[:-1])) + b"".join(files)


@pytest.mark.skipif(not hasattr(FT2Font, "face_index"), reason="this Matplotlib opens a collection's first face only")
def test_every_face_of_a_collection_is_used(tmp_path):
    paths = [FONTS["cmr10.ttf"], FONTS["cmtt10.ttf"]]
    (tmp_path / "two.ttc").write_bytes(collection(paths))
    faces = faces_of(str(tmp_path / "two.ttc"))
    assert [index for _, index in faces] == [0, 1]
    for (path, index), single in zip(faces, paths):
        mine, its = render_face(path, "Ag@", index), render_face(single, "Ag@")
        assert list(mine) == list("Ag@") and all(np.array_equal(mine[c], its[c]) for c in "Ag@")


def test_last_resort_fonts_have_no_faces_under_any_file_name(tmp_path):
    folder = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
    source = [name for name in os.listdir(folder) if name.startswith("LastResort")]
    assert source
    shutil.copy(os.path.join(folder, source[0]), tmp_path / "Mine.ttf")
    assert faces_of(str(tmp_path / "Mine.ttf")) == [] and len(faces_of(FONTS["cmr10.ttf"])) == 1


def test_unreadable_system_fonts_are_counted_and_left_out(few, tmp_path, monkeypatch, capsys):
    for name in ("one.ttf", "two.ttf"):
        (tmp_path / name).write_bytes(b"not a font")
    paths = [str(tmp_path / "one.ttf"), str(tmp_path / "two.ttf"), str(tmp_path / "gone.ttf"), FONTS["cmr10.ttf"]]
    monkeypatch.setattr(glyphs, "installed_fonts", lambda: paths)
    glyph_pool(system_fonts=True, cache_dir=str(tmp_path))
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("glyphs: 3 system fonts cannot be read") and "2: " in said[0]


# ---- the file

def test_the_file_is_used_and_what_it_holds_is_read_only(pool, folder, monkeypatch):
    assert len(os.listdir(folder)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(glyphs, "_render_faces", None)  # not called
        again = glyph_pool(cache_dir=str(folder))
    assert np.array_equal(again.images, pool.images) and np.array_equal(again.counts, pool.counts)
    assert again[3:] == pool[3:]
    for array in (again.images, again.counts, pool.images):
        with pytest.raises(ValueError):
            array[0] = 1


def test_other_options_fonts_versions_and_lists_have_another_file(tmp_path, monkeypatch):
    for place, source in (("a", "cmr10.ttf"), ("b", "cmr10.ttf"), ("c", "cmtt10.ttf")):
        (tmp_path / place).mkdir()
        shutil.copy(FONTS[source], tmp_path / place / "Mine.ttf")
    a, b, c = (glyphs._key([str(tmp_path / place / "Mine.ttf")], [], False) for place in "abc")
    assert a == b != c
    system, keys = str(tmp_path / "c" / "Mine.ttf"), set()
    for size, time in ((5, 1), (6, 1), (6, 2)):  # an installed font is told by its size and time of change
        (tmp_path / "c" / "Mine.ttf").write_bytes(bytes(size))
        os.utime(system, (time, time))
        keys.add(glyphs._key([], [system], False))
    assert len(keys) == 3
    plain, font = glyphs._key([], [], False), FONTS["cmr10.ttf"]
    assert len({plain, glyphs._key([], [], True), glyphs._key([font], [], False), glyphs._key([], [font], False)}) == 4
    for module, name, other in ((glyphs, "CODE", (font,)), (matplotlib, "__version__", "other"),
                                (ft2font, "__freetype_version__", "other"), (glyphs, "CHARACTERS", font)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, other)
            assert glyphs._key([], [], False) != plain, name
    assert glyphs._key([], [], False) == plain


def test_a_damaged_or_foreign_file_is_made_anew(few, tmp_path):
    first = glyph_pool(cache_dir=str(tmp_path))
    (name,) = os.listdir(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    good = dict(np.load(path))

    def check():
        again = glyph_pool(cache_dir=str(tmp_path))
        assert np.array_equal(again.images, first.images) and again[3:] == first[3:]
        assert {k: v.tobytes() for k, v in np.load(path).items()} == {k: v.tobytes() for k, v in good.items()}
    for damaged in (b"", whole[:len(whole) // 2], whole[:5000] + b"\xff\xff" + whole[5002:]):
        path.write_bytes(damaged)
        check()
    for name, other in (("key", np.array("else")), ("counts", np.array({}, object)), ("counts", good["counts"][1:]),
                        ("images", good["images"][1:]), ("images", good["images"][:, 1:])):
        np.savez(path, **good | {name: other})
        check()
    np.savez(path, key=good["key"])
    check()


def test_a_folder_that_cannot_be_written_is_no_error(few, tmp_path):
    (tmp_path / "file").write_text("")
    assert len(glyph_pool(cache_dir=str(tmp_path / "file" / "below")).counts) > 30


# ---- classes for a task

def test_a_task_never_holds_two_classes_that_look_alike(pool):
    label = np.arange(len(pool.counts))
    for classes in pool.alike:
        label[list(classes)] = classes[0]
    for pair in ("Cc", "Oo", "Ss", "Xx", "K\u041a"):
        assert len(set(label[[pool.class_names.index(c) for c in pair if c in pool.class_names]])) == 1, pair
    assert label[pool.class_names.index("A")] != label[pool.class_names.index("D")]
    drawn, groups = set(), list(pool.groups)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        classes = different_classes(rng, pool, 30)
        assert len(set(classes)) == len(set(label[classes])) == 30 and (np.diff(classes) > 0).all()
        assert set(different_classes(rng, pool, 10, groups[seed % 4])) <= set(pool.groups[groups[seed % 4]])
        drawn.update(classes)
    assert len(drawn) > 0.99 * len(pool.counts)
    one, again, other = (different_classes(np.random.default_rng(s), pool, 20) for s in (5, 5, 6))
    assert (one == again).all() and not (one == other).all()


def test_classes_that_are_not_to_be_had_are_refused(pool):
    rng, most = np.random.default_rng(0), len(pool.counts) - sum(len(classes) - 1 for classes in pool.alike)
    refused(["no group 'digits'", "maths"], different_classes, rng, pool, 5, "digits")
    refused([f"{most + 1} ways of {most} different"], different_classes, rng, pool, most + 1)
    refused(["of currency"], different_classes, rng, pool, 100, "currency")
    refused(["0 ways"], different_classes, rng, pool, 0)
