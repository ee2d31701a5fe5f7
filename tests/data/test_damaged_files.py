"""Damaged files of every kind: read, or refused in one line, and never anything else."""
import io
import os
import shutil
import zipfile
import zlib

import numpy as np
import pytest

from ops.data import Dataset, glyphs, imdb, load_dataset
from ops.data.pool import check_pool
from ops.data.render import bundled_fonts
from ops.errors import InputError
from ops.files import load_npz
from ops.tasks.mixture import sample_task
from small_data import (make_cifar_binary, make_cifar_python, make_idx, make_imagenet, make_imagenet_train, make_imdb,
                        make_omniglot, make_user, open_tasks, refused, rng)

FONTS = {os.path.basename(path): path for path in bundled_fonts()}


def mutations(raw, g):
    """60 damaged copies: bytes changed, the end cut off, bytes put in or taken out; half near the ends."""
    for _ in range(60):
        copy, near = bytearray(raw), g.random() < 0.5
        place = int(g.integers(min(len(raw), 300))) if near else int(g.integers(len(raw)))
        place = len(raw) - 1 - place if g.random() < 0.3 else place
        kind = g.integers(4)
        if kind == 0:
            for at in (place, *g.integers(len(raw), size=g.integers(3))):
                copy[at] = g.integers(256)
        elif kind == 1:
            del copy[place:]
        elif kind == 2:
            copy[place:place] = g.bytes(int(g.integers(1, 9)))
        else:
            del copy[place:place + int(g.integers(1, 9))]
        yield bytes(copy)


def reads_of_damaged(path, g, read, named):
    """What read() gives for each damaged copy of the file; those refused, in one line with the name, are left out."""
    for content in mutations(path.read_bytes(), g):
        path.write_bytes(content)
        try:
            found = read()
        except InputError as error:
            assert "\n" not in str(error) and named in str(error), error
        else:
            yield found


FUZZED = {
    "gzipped images": (make_idx, "mnist28", "mnist/train-images-idx3-ubyte.gz"),
    "gzipped labels": (make_idx, "mnist3", "mnist/t10k-labels-idx1-ubyte.gz"),
    "images": (lambda f: make_idx(f, pack=bytes), "mnist14full", "mnist/t10k-images-idx3-ubyte"),
    "labels": (lambda f: make_idx(f, pack=bytes), "mnist14full", "mnist/train-labels-idx1-ubyte"),
    "CIFAR binary": (make_cifar_binary, "cifar10", "cifar-10-batches-bin/data_batch_1.bin"),
    "CIFAR Python 2": (lambda f: make_cifar_python(f, None), "cifar10", "cifar-10-batches-py/test_batch"),
    "CIFAR Python 3": (make_cifar_python, "cifar10", "cifar-10-batches-py/data_batch_1"),
    "CIFAR protocol 4": (lambda f: make_cifar_python(f, 4), "cifar10", "cifar-10-batches-py/data_batch_2"),
    "ImageNet": (make_imagenet, "imagenet16-heldout", "imagenet16/heldout_classes.npz"),
    "Omniglot": (lambda f: make_omniglot(f, np.savez_compressed), "omniglot", "omniglot_28.npz"),
    "review": (make_imdb, "imdb", "aclImdb/train/neg/0_1.txt"),
    "user's": (lambda f: make_user(f / "mine.npz"), None, "mine.npz"),
    "user's, compressed": (lambda f: make_user(f / "mine.npz", save=np.savez_compressed), None, "mine.npz"),
    "cache of reviews": (lambda f: make_imdb(f) or load_dataset("imdb", str(f)), "imdb", imdb.CACHE)}


@pytest.mark.parametrize("kind", FUZZED)
def test_a_damaged_file_is_read_or_refused(tmp_path, kind):
    make, name, place = FUZZED[kind]
    make(tmp_path)
    path, folder, count = tmp_path / place, str(tmp_path), 0
    whole = load_dataset(name or str(path), folder)
    for d in reads_of_damaged(path, rng(len(kind)), lambda: load_dataset(name or str(path), folder), folder):
        count += 1
        assert isinstance(d, Dataset) and d.x_train.shape[1] == whole.x_train.shape[1]
        for x, y in ((d.x_train, d.y_train), (d.x_test, d.y_test)):
            assert len(x) == len(y) and x.min() >= 0 and x.max() <= 1 and y.max() < len(d.classes)
        if kind == "cache of reviews":
            assert all(np.array_equal(a, b) for a, b in zip(whole[1:5], d[1:5]))
    assert count == 60 if kind == "cache of reviews" else count < 60 or kind == "review"


# ---- pools

def make_fonts(folder):
    (folder / "fonts").mkdir()
    shutil.copy(FONTS["cmtt10.ttf"], folder / "fonts" / "mine.ttf")


POOLS = {
    "font": (make_fonts, "glyphs", "fonts/mine.ttf"),
    "cache of glyphs": (make_fonts, "glyphs", "glyphs-*.npz"),
    "ImageNet to train on": (lambda f: make_imagenet_train(f, np.repeat([5, 6, 9, 700], 4)), "imagenet16",
                             "imagenet16/train_data_batch_1.npz"),
    "user's bytes": (lambda f: make_user(f / "mine.npz"), "mine.npz", "mine.npz"),
    "user's floats": (lambda f: make_user(f / "mine.npz", kind=np.float64), "mine.npz", "mine.npz")}


@pytest.fixture
def few_glyphs(monkeypatch):
    """Glyph pools of 36 letters in two small bundled fonts, quick to render; a third of them passes for currency."""
    kinds = dict(zip("ACDFHIJKLMOPQSUVWXYZacdfhijkmopqsuvw", ("letters", "maths", "currency") * 12))
    monkeypatch.setattr(glyphs, "bundled_fonts", lambda: [FONTS["cmr10.ttf"], FONTS["cmss10.ttf"]])
    monkeypatch.setattr(glyphs, "read_characters", lambda digits: (kinds, {char: char for char in kinds}))


@pytest.mark.parametrize("kind", POOLS)
def test_a_pool_of_a_damaged_file_is_opened_or_refused(tmp_path, monkeypatch, few_glyphs, kind):
    make, tasks, place = POOLS[kind]
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    options = {"data_dir": str(tmp_path), "font_dir": str(tmp_path / "fonts") if tasks == "glyphs" else "",
               "shots": 1, "glyph_ways": "10", "imagenet_ways": "2"}
    pool, g, opened = open_tasks(tasks, **options)[1][tasks], rng(len(kind)), 0
    (path,) = tmp_path.glob(place)
    for c, pools in reads_of_damaged(path, g, lambda: open_tasks(tasks, **options), path.name):
        opened += 1
        check_pool(pools[tasks])
        assert pools[tasks].images.shape[1] == pool.images.shape[1] and pools[tasks].images.dtype == pool.images.dtype
        x, _ = sample_task(g, c, pools).segment(g, 1, 20, 1, 1)
        assert np.isfinite(x).all()
        if kind == "cache of glyphs":
            assert np.array_equal(pools[tasks].images, pool.images) and pools[tasks].groups == pool.groups
    assert opened == 60 if kind == "cache of glyphs" else opened < 60


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_header_that_asks_for_fewer_rows_is_refused(tmp_path, method):
    path = make_rows(tmp_path / "a.npz", method, 4999, 4999)
    assert load_npz(path)["x"].shape == (4999, 7)
    path = make_rows(tmp_path / "b.npz", method, 4999, 4099)
    refused([str(path), "not a readable .npz", "CRC"], load_npz, path)


def make_rows(path, method, rows, asked):
    """An `.npz` of x [rows, 7] whose header says `asked` rows, as after damage: its checksum is of what was there."""
    content = io.BytesIO()
    np.save(content, rng(1).integers(256, size=(rows, 7), dtype=np.uint8))
    damaged = content.getvalue().replace(f"({rows}, 7)".encode(), f"({asked}, 7)".encode())
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", damaged)
    checksums = [zlib.crc32(each).to_bytes(4, "little") for each in (damaged, content.getvalue())]
    assert path.read_bytes().count(checksums[0]) == 2  # beside the member and in the directory
    path.write_bytes(path.read_bytes().replace(*checksums))
    return path
