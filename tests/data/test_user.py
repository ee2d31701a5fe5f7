"""A user's own `.npz`: what may be in it, how it is split, and what is refused with which words."""
import zipfile

import numpy as np
import pytest

from ops.data import load_dataset
from ops.data.user import user_pool
from small_data import refused, rng


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


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint16, np.float16])
def test_integers_and_floats_are_taken_as_the_numbers_they_are(tmp_path, kind):
    x = rng().integers(0, 100, (30, 4)).astype(kind)
    d = load_dataset(write(tmp_path, x=x, y=np.arange(30) % 2))
    assert d.x_train.dtype == d.x_test.dtype == np.float32
    assert sorted(map(tuple, np.concatenate([d.x_train, d.x_test]))) == sorted(map(tuple, x.astype(float)))


@pytest.mark.parametrize("names", [["zebra", "ant", "größe 3"], [b"zebra", b"ant", b"gr\xf6\xdfe"], ["a\nb", "c", "d"]])
def test_strings_are_class_names(tmp_path, names):
    x = np.arange(36).reshape(18, 2)
    d = load_dataset(write(tmp_path, x=x, y=np.array(names)[np.arange(18) % 3]))
    assert len(d.classes) == 3 and all(c.isprintable() for c in d.classes)
    if "zebra" in names:
        assert d.classes == ("ant", "größe 3", "zebra")
    for row, label in zip(d.x_train, d.y_train):
        name = names[int(row[0]) // 2 % 3]
        name = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
        assert d.classes[label] in (name, ascii(name))


def test_user_files_that_are_refused(tmp_path):
    x, y = rng().random((12, 4)), np.arange(12) % 3

    def bad(words, readers=(load_dataset, user_pool), **arrays):
        path = write(tmp_path, **arrays)
        for read in readers:
            refused([path, *words], read, path)
    bad(["no 'y'", "x"], x=x)
    bad(["no 'x'", "data"], data=x, y=y)
    bad(["objects"], x=np.array([{}] * 12), y=y)
    bad(["objects"], x=x, y=y.astype(object))
    bad(["[12]", "[n, features]"], x=x[:, 0], y=y)
    bad(["[12, 1, 1, 1, 4]"], x=x[:, None, None, None], y=y)
    bad(["[12, 0]"], x=x[:, :0], y=y)
    bad(["[0, 4]"], x=x[:0], y=y[:0])
    bad(["bool", "uint8"], x=x > 0.5, y=y)
    bad(["datetime64", "uint8"], x=x.astype("datetime64[s]"), y=y)
    bad(["complex128"], x=x + 1j, y=y)
    bad(["float64", "integer"], x=x, y=y + 0.5)
    bad(["bool", "integer"], x=x, y=y > 1)
    bad(["only the label ant"], x=x, y=np.array(["ant"] * 12))
    bad(["[11]", "12 examples"], x=x, y=y[:11])
    bad(["[12, 1]", "12 examples"], x=x, y=y[:, None])
    bad(["only the label 0", "2 or more"], x=x, y=y * 0)
    bad(["class '5' has 2 examples", "3 or more"], [load_dataset], x=x, y=np.array([5] * 2 + [6] * 10))
    bad(["class 'ant' has 1 examples", "3 or more"], [load_dataset], x=x, y=np.array(["ant"] + ["bee"] * 11))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_counted_and_placed(tmp_path, value):
    x = rng().random((12, 2, 2))
    x[5, 1, 0], x[7, 0, 0] = value, value
    for read in (load_dataset, user_pool):
        refused(["2 values", "NaN", "example 5, feature 2"], read, write(tmp_path, x=x, y=np.arange(12) % 3))


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "my.npz"

    def bad(*words):
        refused(["my.npz", *words], load_dataset, str(path))
    for raw in (b"", b"hello", b"PK\x03\x04", b"\x80\x04N."):
        path.write_bytes(raw)
        bad()
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    bad()
    for members, words in (((), ()), (("x", "y"), ["no array"])):
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, b"text")
        bad(*words)
