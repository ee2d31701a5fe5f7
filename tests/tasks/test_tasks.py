"""Letters and data sets: what is read and drawn, what is refused, and with which words."""
import gzip
import os
import struct
import sys
import zipfile

import numpy as np
import pytest


from ops.errors import InputError
from ops.tasks import (HELD_OUT_LETTERS, Dataset, few_shot_draw, letters, load_dataset,
                       load_glyphs, read_idx, read_idx_split, read_npz, require_shots,
                       sample_letters_task)
from ops.data import glyphs as glyphs_module
from ops.data import make_embedded
from ops.data.area import area_weights, halve
from small_data import refused, rng


# ---- glyphs

def test_letters_and_their_splits():
    assert len(letters()) == 52 and len(letters(case="upper")) == 26
    assert sorted(letters("train") + letters("heldout")) == sorted(letters("all"))
    assert set(letters("heldout")) == set(HELD_OUT_LETTERS)
    assert letters("heldout", "upper") == "BEGNRT"
    assert all(c.isascii() and c.isalpha() for c in letters())
    refused(["split", "'test'", "heldout"], letters, "test")
    refused(["case", "'lower'", "upper"], letters, "all", "lower")


def test_glyphs_are_neither_empty_nor_identical_and_hold_no_digit():
    g = load_glyphs()
    assert g.images.dtype == np.float32 and g.images.shape[1] == 196
    assert g.characters == tuple(letters()) and not any(c.isdigit() for c in g.characters)
    assert (g.images.max(1) > 0.5).all() and g.images.min() >= 0 and g.images.max() <= 1
    assert len(np.unique(g.images, axis=0)) == len(g.images)
    assert (np.diff(g.character) >= 0).all()
    assert np.bincount(g.character).min() >= 20  # a 10-shot pair needs 20 of each
    assert not any(name.startswith(("LastResort", "STIXSiz", "cmex")) for name in g.faces)


def test_glyphs_are_centred_in_their_box():
    images = load_glyphs().images.reshape(-1, 14, 14)
    extents = []
    for ink in (images.any(1), images.any(2)):
        first, last = ink.argmax(1), 13 - ink[:, ::-1].argmax(1)
        assert (first + last == 13).all()
        extents.append(last - first + 1)
    assert (np.maximum(*extents) == glyphs_module.BOX).all()


def test_symbol_fonts_have_no_letters():
    paths = {os.path.basename(p): p for p in glyphs_module.bundled_fonts()}
    assert glyphs_module.render_face(paths["cmex10.ttf"], letters()) == {}
    assert set(glyphs_module.render_face(paths["cmsy10.ttf"], letters())) == set(
        letters(case="upper"))  # its capitals are script letters, its lower case is arrows
    assert len(glyphs_module.render_face(paths["cmr10.ttf"], letters())) == 52


def test_the_glyph_set_is_shared_and_read_only():
    assert load_glyphs() is load_glyphs()
    with pytest.raises(ValueError):
        load_glyphs().images[0, 0] = 1


def test_equal_renderings_are_dropped():
    path = glyphs_module.bundled_fonts()[0]
    once, twice = (glyphs_module.render_glyphs([path] * k, "ab") for k in (1, 2))
    assert np.array_equal(once.images, twice.images) and len(once.images) == 2


def test_a_font_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "bad.ttf"
    path.write_bytes(b"not a font")
    refused(["bad.ttf", "cannot be read"], glyphs_module.render_glyphs, [str(path)], "ab")
    refused("none.ttf", glyphs_module.render_glyphs, [str(tmp_path / "none.ttf")], "ab")


def test_training_tasks_never_hold_a_held_out_letter():
    g, names = load_glyphs(), set()
    for seed in range(100):
        task = sample_letters_task(rng(seed), g)
        assert task.classes == 10 and len(set(task.class_names)) == 10
        names.update(task.class_names)
    assert names == set(letters("train"))


def test_a_letters_task_holds_the_images_of_its_letters():
    g = load_glyphs()
    task = sample_letters_task(rng(), g, ways=6, max_shift=0, characters=letters("heldout"))
    assert set(task.class_names) <= set(HELD_OUT_LETTERS)
    x, y = task.labelled(rng(1), 20, 1)
    undone = x[0][:, np.argsort(task.permutation)]
    for image, row in zip(undone, y[0]):
        match = np.flatnonzero((g.images == image).all(1))
        assert g.characters[g.character[match[0]]] == task.class_names[row.argmax()]


def test_letters_task_refuses():
    g = load_glyphs()
    refused(["'7'", "not in the rendered set"], sample_letters_task, rng(), g, 2, 1, "ab7")
    refused("twice", sample_letters_task, rng(), g, 2, 1, "aab")
    refused(["10 ways", "2 to 6"], sample_letters_task, rng(), g, 10, 1,
            letters("heldout", "upper"))
    refused("1 ways", sample_letters_task, rng(), g, 1)


# ---- area averaging and IDX

def test_area_weights_average_exactly():
    w = area_weights(6, 3, 0.5, 0.0)
    assert np.allclose(w @ np.arange(6.0), [0.5, 2.5, 4.5])
    assert np.allclose(area_weights(7, 5, 0.37, 1.1).sum(0), 0.37)  # all ink arrives


def test_halve_is_the_rounded_mean_of_four():
    blocks = np.array([[[1, 2, 255, 255], [3, 4, 255, 254], [0, 0, 0, 1], [0, 1, 1, 0]]], np.uint8)
    assert halve(blocks).tolist() == [[[3, 255], [0, 1]]]  # 2.5, 254.75, 0.25, 0.5


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + \
        array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_idx_reads_what_was_written(tmp_path, pack):
    images, labels = rng().integers(0, 256, (5, 4, 4)), np.arange(5)
    end = ".gz" if pack is gzip.compress else ""
    (tmp_path / f"train-images-idx3-ubyte{end}").write_bytes(pack(idx_bytes(images)))
    (tmp_path / f"train-labels-idx1-ubyte{end}").write_bytes(pack(idx_bytes(labels)))
    x, y = read_idx_split(str(tmp_path), "train")
    assert x.dtype == np.uint8 and np.array_equal(x, images) and np.array_equal(y, labels)
    exact = images.reshape(5, 2, 2, 2, 2).mean((2, 4))
    assert np.abs(halve(x) - exact).max() <= 0.5


def test_idx_refuses_bad_files(tmp_path):
    good = idx_bytes(np.arange(12).reshape(3, 2, 2))
    path = tmp_path / "f"

    def bad(raw, *words):
        path.write_bytes(raw)
        refused([str(path), *words], read_idx, str(path), 3)
    refused("does not exist", read_idx, str(tmp_path / "none"), 3)
    refused("cannot be read", read_idx, str(tmp_path), 3)
    bad(b"", "cut short")
    bad(good[:10], "cut short")
    bad(b"\0\0\x08\x01" + good[4:], "00000801", "00000803")
    bad(good[:-1], "11 bytes", "3x2x2 = 12")
    bad(good + b"x", "13 bytes")
    packed = gzip.compress(good)
    for length in range(2, len(packed)):
        bad(packed[:length])
    bad(packed[:12] + bytes([packed[12] ^ 0xFF]) + packed[13:], "cannot be read")


def test_idx_split_refuses_what_does_not_agree(tmp_path):
    folder = str(tmp_path)
    refused(["neither", "t10k-images-idx3-ubyte.gz"], read_idx_split, folder, "t10k")
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((3, 2, 2), int)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(4)))
    refused("3 t10k images but 4 labels", read_idx_split, folder, "t10k")
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([1, 10, 2])))
    refused("label 10 at index 1", read_idx_split, folder, "t10k")


def test_make_embedded_makes_the_files_or_says_why_not(tmp_path, capsys):
    for name in ("mnist", "fashion-mnist"):
        (tmp_path / name).mkdir()
        for split, n in make_embedded.KEPT.items():
            images, labels = np.zeros((n + 1, 28, 28), np.uint8), np.arange(n + 1) % 10
            images[:, ::2, ::2] = labels[:, None, None] * 4  # so that an image's mean is its label
            (tmp_path / name / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(images))
            (tmp_path / name / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    command = [str(tmp_path), "--out", str(tmp_path)]
    assert make_embedded.main(command) == 0
    x, y, source = read_npz(str(tmp_path / "mnist_14x14.npz"), ("x_train", "y_train", "source"))
    assert x.shape == (6000, 196) and (x == y[:, None]).all() and "CC BY-SA 3.0" in str(source)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    capsys.readouterr()
    assert make_embedded.main(command) == 2
    assert "t10k-labels" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.part"))


# ---- data sets

@pytest.mark.parametrize("name, licence", [("mnist14", "CC BY-SA 3.0"), ("fashion14", "MIT")])
def test_embedded_sets(name, licence):
    d = load_dataset(name)
    assert d.name == name and len(d.classes) == 10
    assert d.x_train.shape == (6000, 196) and d.x_test.shape == (2000, 196)
    assert d.x_train.dtype == d.x_test.dtype == np.float32
    assert d.x_train.min() == 0 and 0.95 < d.x_train.max() <= 1
    for y, n in ((d.y_train, 6000), (d.y_test, 2000)):
        assert y.shape == (n,)
        share = np.bincount(y, minlength=10) / n
        assert share.min() > 0.08 and share.max() < 0.12
    assert len(np.unique(d.x_test, axis=0)) > 1990  # drawn without replacement
    from ops.data.datasets import DATASETS, EMBEDDED_FOLDER
    (source,) = read_npz(os.path.join(EMBEDDED_FOLDER, DATASETS[name][0]), ("source",))
    assert licence in str(source)
    require_shots(d, 400, held_out=100)


def write(tmp_path, **arrays):
    path = str(tmp_path / "my.npz")
    np.savez_compressed(path, **arrays)
    return path


def test_user_file_of_images_and_of_vectors(tmp_path):
    y = np.repeat([-5, 7, 1000], [9, 6, 10])
    images = rng().integers(0, 256, (25, 4, 3, 2)).astype(np.uint8)
    d = load_dataset(write(tmp_path, x=images, y=y))
    assert d.name == "my.npz" and d.classes == ("-5", "7", "1000")
    assert np.bincount(d.y_test).tolist() == [3, 2, 3]
    assert np.bincount(d.y_train).tolist() == [6, 4, 7]
    flat = images.reshape(25, 24) / 255
    everything = np.concatenate([d.x_train, d.x_test])
    assert everything.dtype == np.float32
    assert np.allclose(np.sort(everything, axis=0), np.sort(flat, axis=0), atol=1e-6)
    vectors = rng().normal(size=(25, 5)) * 9
    d = load_dataset(write(tmp_path, x=vectors, y=y.astype(np.int32)))
    for x, labels in ((d.x_train, d.y_train), (d.x_test, d.y_test)):
        for row, label in zip(x, labels):  # kept as they are, and with their own labels
            match = np.flatnonzero(np.abs(vectors - row).max(1) < 1e-5)
            assert str(y[match[0]]) == d.classes[label]


def test_user_split_is_always_the_same(tmp_path):
    path = write(tmp_path, x=rng().normal(size=(40, 3)), y=np.arange(40) % 4)
    a, b = load_dataset(path), load_dataset(path)
    assert all(map(np.array_equal, a[1:5], b[1:5]))


def test_unknown_and_missing_data(tmp_path):
    refused(["'mnist'", "mnist14", "fashion14", ".npz"], load_dataset, "mnist")
    refused(["none.npz", "does not exist"], load_dataset, str(tmp_path / "none.npz"))
    refused("no file", load_dataset, str(tmp_path))


def test_user_files_that_are_refused(tmp_path):
    x, y = rng().random((12, 4)), np.arange(12) % 3

    def bad(words, **arrays):
        refused(["my.npz"] + words, load_dataset, write(tmp_path, **arrays))
    bad(["no 'y'", "x"], x=x)
    bad(["no 'x'", "data"], data=x, y=y)
    bad(["objects"], x=np.array([{}] * 12), y=y)
    bad(["objects"], x=x, y=y.astype(object))
    bad(["[12]", "[n, features]"], x=x[:, 0], y=y)
    bad(["[12, 0]"], x=x[:, :0], y=y)
    bad(["[0, 4]"], x=x[:0], y=y[:0])
    bad(["int64", "uint8"], x=(x * 9).astype(np.int64), y=y)
    bad(["complex128"], x=x + 1j, y=y)
    bad(["float64", "integer"], x=x, y=y + 0.5)
    bad(["<U", "integer"], x=x, y=y.astype(str))
    bad(["[11]", "12 examples"], x=x, y=y[:11])
    bad(["[12, 1]", "12 examples"], x=x, y=y[:, None])
    bad(["only the label 0", "2 or more"], x=x, y=y * 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_counted_and_placed(tmp_path, value):
    x = rng().random((12, 2, 2))
    x[5, 1, 0], x[7, 0, 0] = value, value
    refused(["2 values", "example 5, feature 2"], load_dataset,
            write(tmp_path, x=x, y=np.arange(12) % 3))


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "my.npz"

    def bad():
        refused(["my.npz"], load_dataset, str(path))
    for raw in (b"", b"hello", b"PK\x03\x04", b"\x80\x04N."):
        path.write_bytes(raw)
        bad()
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    bad()
    with zipfile.ZipFile(path, "w"):
        pass
    bad()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"text")
        archive.writestr("y", b"text")
    bad()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz_is_read_or_refused(tmp_path, save):
    """Cut at many lengths, and with bytes changed, a file gives data or an InputError."""
    path = tmp_path / "my.npz"
    save(path, x=rng().integers(0, 256, (30, 5)).astype(np.uint8), y=np.arange(30) % 3)
    raw, g = path.read_bytes(), rng(1)
    cut = [raw[:n] for n in range(0, len(raw), max(1, len(raw) // 150))]
    changed = []
    for _ in range(300):
        copy = bytearray(raw)
        for place in g.integers(len(raw), size=g.integers(1, 4)):
            copy[place] = g.integers(256)
        changed.append(bytes(copy))
    results = []
    for content in cut + changed:
        path.write_bytes(content)
        try:
            results.append(isinstance(load_dataset(str(path)), Dataset))
        except InputError as error:
            assert "\n" not in str(error) and "my.npz" in str(error)
            results.append(False)
    assert not any(results[:len(cut)])


def test_require_shots_names_the_class_and_what_it_needs():
    y_train, y_test = np.repeat([0, 1], [10, 4]), np.repeat([0, 1], [5, 2])
    d = Dataset("mine", np.zeros((14, 3), np.float32), y_train, np.zeros((7, 3), np.float32),
                y_test, ("cat", "dog"))
    require_shots(d, 4, held_out=2)
    refused(["mine", "'dog'", "4 training", "2 test", "5 shots need 5 and 1"], require_shots, d, 5)
    refused(["'dog'", "4 shots need 4 and 3"], require_shots, d, 4, held_out=3)
    refused("1 or more", require_shots, d, 0)


def test_few_shot_draw():
    labels = rng().permutation(np.repeat([0, 1, 2], [6, 9, 5]))
    index = few_shot_draw(rng(1), labels, 5)
    assert len(set(index)) == 15 and labels[index].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert np.array_equal(index, few_shot_draw(rng(1), labels, 5))
    assert not np.array_equal(index, few_shot_draw(rng(2), labels, 5))
    refused(["class 2", "5 examples", "6 shots"], few_shot_draw, rng(), labels, 6)
    refused("0 shots", few_shot_draw, rng(), labels, 0)
    refused("class 0", few_shot_draw, rng(), np.zeros(0, int), 1)
