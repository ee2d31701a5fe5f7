"""The data sets of the experiments: those that come along, and small files of the others that the tests make."""
import gzip
import os

import numpy as np
import pytest

from ops.data import (DATASETS, MORE_DATASETS, Dataset, few_shot_draw, load_dataset, make_embedded, mnist, places,
                      require_shots)
from ops.data.imagenet16 import read_imagenet16
from ops.data.labelled import mean_of_2x2, rounded_mean_of_2x2, split_rows
from ops.data.omniglot import scripts_pool
from small_data import idx_bytes, make_idx, make_imagenet, make_omniglot, refused, refused_data, rng


# ---- names and folders

def test_the_folder_is_the_argument_else_the_variable_else_the_cache(tmp_path, monkeypatch):
    make_idx(tmp_path)
    monkeypatch.setenv("UNSUP_META_DATA", str(tmp_path))
    assert places.data_dir("/here") == "/here" and load_dataset("mnist14full").x_train.shape == (20, 196)
    assert places.data_dir("~/x") == os.path.expanduser("~/x")
    for unset in (lambda: monkeypatch.setenv("UNSUP_META_DATA", ""), lambda: monkeypatch.delenv("UNSUP_META_DATA")):
        unset()
        assert places.data_dir() == os.path.expanduser("~/.cache/unsup_meta")


def test_the_embedded_sets_stay_the_default_and_an_unknown_name_lists_all():
    assert list(DATASETS) == ["mnist14", "fashion14"]
    assert set(MORE_DATASETS) == {"mnist28", "fashion28", "mnist14full", "fashion14full", "cifar10",
                                  "cifar10-32", "imagenet16-heldout", "imdb", "letters", "omniglot", "moons", "mnist3",
                                  "mnist3-14"}
    refused_data([*DATASETS, *MORE_DATASETS, "'cifar11'"], "", "cifar11")


@pytest.mark.parametrize("name, words", [
    ("mnist28", ["mnist", "MNIST", "train-images-idx3-ubyte.gz", "yann.lecun.com", "mirrors"]),
    ("fashion14full", ["Fashion-MNIST", "train-images-idx3-ubyte.gz", "zalandoresearch"]),
    ("mnist3", ["MNIST", "train-images-idx3-ubyte.gz"]),
    ("cifar10", ["cifar-10-batches-bin", "cifar-10-binary.tar.gz", "data_batch_*.bin", "kriz"]),
    ("imagenet16-heldout", ["val_data.npz", "Imagenet16_val_npz.zip", "train_data_batch_*.npz", "image-net.org"]),
    ("imdb", ["aclImdb", "aclImdb_v1.tar.gz", "ai.stanford.edu"]),
    ("omniglot", ["omniglot_28.npz", "brendenlake"])])
def test_a_missing_data_set_says_what_it_is_called_and_where_it_is_had(tmp_path, name, words):
    refused_data(words + [str(tmp_path), "does not exist", "--data-dir", "UNSUP_META_DATA"], tmp_path, name)


def test_any_file_that_is_there_is_a_users(tmp_path):
    np.savez(tmp_path / "A1.npz", x=rng().random((12, 2)), y=np.arange(12) % 2)
    os.rename(tmp_path / "A1.npz", tmp_path / "A1.bin")
    assert load_dataset(str(tmp_path / "A1.bin")).name == "A1.bin"
    refused_data(["A2.NPZ", "no such file"], "", str(tmp_path / "A2.NPZ"))
    refused_data(["A2.bin' is unknown", *DATASETS, ".npz"], "", str(tmp_path / "A2.bin"))
    refused_data("no such file", "", str(tmp_path))


def test_the_split_of_a_file_without_one_never_changes():
    """Whoever compares with yesterday's scores, or trains on a file and scores on it later, relies on these rows."""
    train, test = split_rows(np.arange(25) % 3, 3)
    assert test.tolist() == [6, 7, 10, 12, 14, 15, 23]
    assert sorted([*train, *test]) == list(range(25)) and (np.diff(train) > 0).all()


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


@pytest.mark.parametrize("shape", [(5, 8, 6), (3, 2, 4, 4)])
def test_images_are_made_smaller_by_the_mean_of_2x2_blocks(shape):
    images = rng().integers(0, 256, shape).astype(np.uint8)
    images[0] = 255
    *n, height, width = shape
    plain = images.reshape(*n, height // 2, 2, width // 2, 2).mean((-3, -1))
    exact, rounded = mean_of_2x2(images), rounded_mean_of_2x2(images)
    assert exact.dtype == np.float32 and exact.max() == 1 and np.abs(exact - plain / 255).max() < 1e-7
    assert rounded.dtype == np.uint8 and np.array_equal(rounded, np.floor(plain + 0.5))  # halves up


# ---- MNIST

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
    with np.load(os.path.join(mnist.EMBEDDED_FOLDER, mnist.EMBEDDED[name][0])) as arrays:
        assert licence in str(arrays["source"])
    require_shots(d, 400, held_out=100)


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
    with np.load(tmp_path / "mnist_14x14.npz") as made:
        x, y, source = (made[name] for name in ("x_train", "y_train", "source"))
    assert x.shape == (6000, 196) and (x == y[:, None]).all() and "CC BY-SA 3.0" in str(source)
    assert x.dtype == y.dtype == np.uint8
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    capsys.readouterr()
    assert make_embedded.main(command) == 2
    assert "t10k-labels" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
@pytest.mark.parametrize("name, place", [("mnist28", "mnist"), ("fashion28", "fashion-mnist"),
                                         ("mnist14full", "mnist"), ("fashion14full", "fashion-mnist")])
def test_idx_sets(tmp_path, name, place, pack):
    made = make_idx(tmp_path, place, pack)
    d = load_dataset(name, str(tmp_path))
    assert d.name == name and len(d.classes) == 10
    for split, x, y in (("train", d.x_train, d.y_train), ("t10k", d.x_test, d.y_test)):
        images, labels = made[split]
        exact = images / 255
        if "14" in name:
            exact = exact.reshape(-1, 14, 2, 14, 2).mean((2, 4))
        assert x.dtype == np.float32 and np.allclose(x, exact.reshape(20, -1), atol=1e-6)
        assert np.array_equal(y, labels)


def test_idx_files_that_are_refused(tmp_path):
    make_idx(tmp_path)
    images, labels = (tmp_path / "mnist" / f"train-{part}-ubyte.gz" for part in ("images-idx3", "labels-idx1"))
    good = {path: path.read_bytes() for path in (images, labels)}

    def bad(path, raw, *words):
        path.write_bytes(raw)
        refused_data([str(tmp_path), *words], tmp_path, "mnist28")
        path.write_bytes(good[path])
    plain, packed = gzip.decompress(good[images]), good[labels]
    bad(images, b"", "cut short")
    bad(images, plain[:10], "cut short")
    bad(images, good[images][:-9], "cannot be read", "fetch it again")
    bad(images, gzip.compress(plain[:-1]), "15679 bytes", "20x28x28 = 15680")
    bad(images, plain + b"x", "15681 bytes")
    bad(images, gzip.compress(b"\0\0\x0d\x03" + plain[4:]), "00000d03", "00000803")
    bad(images, good[labels], "00000801", "00000803")
    bad(images, gzip.compress(idx_bytes(np.zeros((20, 14, 14)))), "[20, 14, 14]", "28")
    for length in range(2, len(packed)):
        bad(labels, packed[:length])
    bad(labels, packed[:12] + bytes([packed[12] ^ 0xFF]) + packed[13:], "cannot be read")
    bad(labels, gzip.compress(idx_bytes(np.arange(19) % 10)), "20 train images but 19 labels")
    bad(labels, gzip.compress(idx_bytes(np.arange(20))), "label 19 at index 19", "0..9")
    bad(labels, gzip.compress(idx_bytes(np.arange(20) % 9)), "class '9' has 0 training and 2 test")
    labels.unlink()
    refused_data(["train-labels-idx1-ubyte.gz", "does not exist"], tmp_path, "mnist28")
    os.mkdir(labels)
    refused_data(["train-labels-idx1-ubyte", "cannot be read"], tmp_path, "mnist28")


def test_mnist3_stacks_three_digits_and_is_labelled_by_the_first(tmp_path):
    made = make_idx(tmp_path)
    d, again = (load_dataset("mnist3", str(tmp_path)) for _ in range(2))
    assert d.x_train.shape == d.x_test.shape == (20, 2352)
    assert np.array_equal(d.x_train, again.x_train)
    for split, x, y in (("train", d.x_train, d.y_train), ("t10k", d.x_test, d.y_test)):
        images, labels = made[split]
        planes = np.rint(x * 255).reshape(20, 3, 28, 28)
        rows = np.array([[np.flatnonzero((images == p).all((1, 2)))[0] for p in stack] for stack in planes])
        assert np.array_equal(labels[rows[:, 0]], y)
        assert (np.sort(rows, axis=0) == np.arange(20)[:, None]).all()  # each digit once a channel
        assert not (rows[:, 0] == rows[:, 1]).all() and not (rows[:, 1] == rows[:, 2]).all()


def test_small_stacks_are_of_the_embedded_digits_and_need_no_file(tmp_path):
    d, digits = load_dataset("mnist3-14", str(tmp_path)), load_dataset("mnist14")
    assert d.x_train.shape == (6000, 588) and d.x_test.shape == (2000, 588)
    planes = d.x_test.reshape(2000, 3, 196)
    place = {image.tobytes(): i for i, image in enumerate(digits.x_test)}
    rows = np.array([[place[p.tobytes()] for p in stack] for stack in planes])
    assert np.array_equal(digits.y_test[rows[:, 0]], d.y_test) and not (rows[:, 0] == rows[:, 1]).all()


# ---- npz

def test_imagenet16(tmp_path):
    arrays = make_imagenet(tmp_path)
    d = load_dataset("imagenet16-heldout", str(tmp_path))
    assert d.classes == ("7", "9") and d.x_train.shape == (9, 768)
    assert np.bincount(d.y_test).tolist() == [2, 2] and np.bincount(d.y_train).tolist() == [4, 5]
    rows = {tuple(np.rint(x * 255)): d.classes[y] for x, y in zip(np.concatenate([d.x_train, d.x_test]),
                                                                 np.concatenate([d.y_train, d.y_test]))}
    assert rows == {tuple(x): str(y) for x, y in zip(arrays["data"].astype(float), arrays["labels"])}
    path = tmp_path / "imagenet16" / "heldout_classes.npz"
    for among, rows in ((None, slice(None)), ([9, 5], slice(6, None))):
        data, labels = read_imagenet16(path, among)
        assert np.array_equal(data, arrays["data"][rows]) and np.array_equal(labels, arrays["labels"][rows])


def test_imagenet16_files_that_are_refused(tmp_path):
    data, labels = np.zeros((13, 768), np.uint8), np.array([7] * 6 + [9] * 7)

    def bad(words, **changes):
        make_imagenet(tmp_path, **changes)
        refused_data(["heldout_classes.npz"] + words, tmp_path, "imagenet16-heldout")
    bad(["no 'data'"], data=None)
    bad(["no 'labels'"], labels=None)
    bad(["objects"], labels=labels.astype(object))
    bad(["objects"], data=np.array([{}] * 13))
    bad(["float64"], data=data / 255)
    bad(["[13, 3072]"], data=np.zeros((13, 3072), np.uint8))
    bad(["[0, 768]"], data=data[:0], labels=labels[:0])
    bad(["[12]", "13 examples"], labels=labels[:12])
    bad(["labels is float64"], labels=labels + 0.5)
    bad(["label 0 is not 1..1000"], labels=labels - 7)
    bad(["label 1002 is not 1..1000"], labels=labels + 993)
    bad(["only the label 7"], labels=labels * 0 + 7)
    bad(["class '3' has 2 examples", "3 or more"], labels=np.array([3] * 2 + [9] * 11))


def test_every_second_alphabet_of_omniglot_is_scored_on_and_split_by_class(tmp_path):
    x = make_omniglot(tmp_path)["x"]
    d = load_dataset("omniglot", str(tmp_path))
    assert d.classes == ("0-0", "0-1", "9-7") and d.x_train.shape == (14, 784) and d.x_train.max() <= 1
    assert np.bincount(d.y_train).tolist() == [4, 4, 6] and np.bincount(d.y_test).tolist() == [2, 2, 2]
    scored = np.concatenate([d.x_train, d.x_test]) * 255
    rows = np.concatenate([x[:12], x[26:]]).reshape(20, 784)
    assert sorted(map(tuple, np.rint(scored).astype(int))) == sorted(map(tuple, rows))


def test_the_other_alphabets_are_the_scripts_that_theta_is_chosen_on(tmp_path):
    x = make_omniglot(tmp_path)["x"]
    pool = scripts_pool(str(tmp_path))
    assert pool.class_names == ("2-5", "2-6") and pool.counts.tolist() == [6, 8] and pool.side == 14
    means = x[12:26].reshape(14, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(14, 196)
    assert np.array_equal(pool.images, np.floor(means + 0.5))
    make_omniglot(tmp_path, alphabet=np.zeros(34, int))
    refused(["omniglot_28.npz", "0 characters", "alphabets"], scripts_pool, str(tmp_path))


def test_omniglot_files_that_are_refused(tmp_path):
    y = np.repeat([0, 1, 5, 6, 7], [6, 6, 6, 8, 8])

    def bad(words, **changes):
        make_omniglot(tmp_path, **changes)
        refused_data(["omniglot_28.npz"] + words, tmp_path, "omniglot")
    for key in ("x", "y", "alphabet"):
        bad([f"no '{key}'"], **{key: None})
    bad(["[34, 784]"], x=np.zeros((34, 784), np.uint8))
    bad(["float32"], x=np.zeros((34, 28, 28), np.float32))
    bad(["[0, 28, 28]"], x=np.zeros((0, 28, 28), np.uint8))
    bad(["[33]", "34 examples"], y=y[:33])
    bad(["y is float64"], y=y + 0.5)
    bad(["alphabet is int64 [3]"], alphabet=np.arange(3))
    bad(["alphabet is <U1"], alphabet=np.array(["a"] * 34))
    bad(["character 0", "alphabets 0 and 1"], alphabet=np.arange(34))
    bad(["class '0-1' has 2 examples", "3 or more"], y=np.repeat([0, 1], [32, 2]), alphabet=np.zeros(34, int))
    bad(["1 characters", "alphabets"], y=np.repeat([0, 1], 17), alphabet=np.repeat([0, 1], 17))
    bad(["objects"], y=y.astype(object))


# ---- two moons

def test_two_moons_are_two_half_circles_and_always_the_same():
    d, again = load_dataset("moons"), load_dataset("moons", "/nowhere")
    assert all(np.array_equal(a, b) for a, b in zip(d[1:5], again[1:5]))
    assert d.x_train.shape == (2000, 2) and d.x_test.shape == (1000, 2) and d.x_train.dtype == np.float32
    assert np.bincount(d.y_train).tolist() == [1000, 1000] and np.bincount(d.y_test).tolist() == [500, 500]
    assert d.x_train.min() > 0 and d.x_train.max() < 1  # none clipped
    points = d.x_train * 4 - (1.5, 1.75)
    for label, centre, sign in ((0, (0, 0), 1), (1, (1, 0.5), -1)):
        offset = points[d.y_train == label] - centre
        radius = np.linalg.norm(offset, axis=1)
        assert abs(radius.mean() - 1) < 0.02 and abs(radius.std() - 0.1) < 0.02
        assert (sign * offset[:, 1] > -0.5).all()
    assert not np.isin(d.x_test, d.x_train).all(1).any()
