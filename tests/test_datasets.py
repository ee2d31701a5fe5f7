"""The data sets of the experiments, on small files that the tests make: what is read, and what is refused."""
import gzip
import os
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from ops.errors import InputError
from ops.tasks import cifar, files_on_disk, reviews
from ops.tasks.datasets import DATASETS, MORE_DATASETS, load_dataset
from ops.tasks.image_sets import mean_of_2x2, read_imagenet16
from ops.tasks.labelled import Dataset
from ops.tasks.pickled import read_pickled_dict

TRAIN_TEXTS = {"neg": ["Bad, BAD film.<br /><br />Don't!", "a bad end"], "pos": ["good film", "film zebra apple"]}
TEST_TEXTS = {"neg": ["unseen words unseen unseen"], "pos": ["Good"]}


def rng(seed=0):
    return np.random.default_rng(seed)


def refused(words, folder, name):
    """load_dataset(name, folder) raises InputError with one line that holds all the words."""
    with pytest.raises(InputError) as caught:
        load_dataset(name, str(folder))
    text = str(caught.value)
    assert "\n" not in text
    for word in [words] if isinstance(words, str) else words:
        assert word in text, text


# ---- makers of small files

def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + \
        array.astype(np.uint8).tobytes()


def make_idx(folder, place="mnist", pack=gzip.compress, n=20):
    """Train and test files of n images; returns {split: (images, labels)}."""
    os.makedirs(folder / place, exist_ok=True)
    made, end = {}, ".gz" if pack is gzip.compress else ""
    for split, seed in (("train", 1), ("t10k", 2)):
        images, labels = rng(seed).integers(0, 256, (n, 28, 28)).astype(np.uint8), np.arange(n) % 10
        (folder / place / f"{split}-images-idx3-ubyte{end}").write_bytes(pack(idx_bytes(images)))
        (folder / place / f"{split}-labels-idx1-ubyte{end}").write_bytes(pack(idx_bytes(labels)))
        made[split] = images, labels
    return made


def cifar_images(n=10, seed=0):
    return rng(seed).integers(0, 256, (n, 3072)).astype(np.uint8), np.arange(n) % 10


def make_cifar_binary(folder, n=10):
    os.makedirs(folder / "cifar-10-batches-bin")
    for k, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        images, labels = cifar_images(n, k)
        records = np.concatenate([labels[:, None].astype(np.uint8), images], axis=1)
        (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())


def python2_pickle(images, labels):
    """The bytes that Python 2 wrote for {"labels": [...], "data": array}, as in the published files."""
    content = images.tobytes()
    return (b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(" + b"".join(b"K" + bytes([c]) for c in labels) + b"eU\x04dataq\x04"
            b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85q\x07U\x01bq\x08\x87q\tRq\n"
            b"(K\x01K" + bytes([len(images)]) + b"M\x00\x0c\x86q\x0bcnumpy\ndtype\nq\x0cU\x02u1q\rK\x00K\x01\x87q\x0e"
            b"Rq\x0f(K\x03U\x01|q\x10NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x11b\x89T" +
            struct.pack("<I", len(content)) + content + b"q\x12tq\x13bu.")


def make_cifar_python(folder, protocol=2, n=10):
    """protocol None: as Python 2 wrote it."""
    os.makedirs(folder / "cifar-10-batches-py", exist_ok=True)
    for k, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        images, labels = cifar_images(n, k)
        raw = python2_pickle(images, labels) if protocol is None else pickle.dumps(
            {b"labels": labels.tolist(), b"data": images, b"batch_label": name.encode()}, protocol)
        (folder / "cifar-10-batches-py" / name).write_bytes(raw)


def make_imagenet(folder, save=np.savez, **changes):
    os.makedirs(folder / "imagenet16", exist_ok=True)
    arrays = {"data": rng().integers(0, 256, (13, 768)).astype(np.uint8), "labels": np.array([7] * 6 + [9] * 7)}
    arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
    save(folder / "imagenet16" / "heldout_classes.npz", **arrays)
    return arrays


def make_omniglot(folder, save=np.savez, **changes):
    arrays = {"x": rng().integers(0, 256, (20, 28, 28)).astype(np.uint8), "y": np.repeat([0, 1, 5], [6, 6, 8]),
              "alphabet": np.repeat([0, 2], [12, 8])}
    arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
    save(folder / "omniglot_28.npz", **arrays)
    return arrays


def make_imdb(folder, train=TRAIN_TEXTS, test=TEST_TEXTS):
    for split, texts in (("train", train), ("test", test)):
        for c in texts:
            place = folder / "aclImdb" / split / c
            place.mkdir(parents=True, exist_ok=True)
            for i, text in enumerate(texts[c]):
                (place / f"{i}_1.txt").write_text(text, encoding="utf-8")


# ---- names and folders

def test_the_folder_is_the_argument_else_the_variable_else_the_cache(monkeypatch):
    monkeypatch.setenv("UNSUP_META_DATA", "/there")
    assert files_on_disk.data_dir("/here") == "/here" and files_on_disk.data_dir() == "/there"
    assert files_on_disk.data_dir("~/x") == os.path.expanduser("~/x")
    for unset in (lambda: monkeypatch.setenv("UNSUP_META_DATA", ""), lambda: monkeypatch.delenv("UNSUP_META_DATA")):
        unset()
        assert files_on_disk.data_dir() == os.path.expanduser("~/.cache/unsup_meta")


def test_load_dataset_reads_the_folder_of_the_variable(tmp_path, monkeypatch):
    make_idx(tmp_path)
    monkeypatch.setenv("UNSUP_META_DATA", str(tmp_path))
    assert load_dataset("mnist14full").x_train.shape == (20, 196)


def test_the_embedded_sets_stay_the_default_and_an_unknown_name_lists_all():
    assert list(DATASETS) == ["mnist14", "fashion14"]
    assert set(MORE_DATASETS) == {"mnist28", "fashion28", "mnist14full", "fashion14full", "cifar10",
                                  "imagenet16-heldout", "imdb", "omniglot", "moons", "mnist3"}
    refused([*DATASETS, *MORE_DATASETS, "'cifar11'"], "", "cifar11")


@pytest.mark.parametrize("name, words", [
    ("mnist28", ["mnist", "MNIST", "train-images-idx3-ubyte.gz", "yann.lecun.com", "mirrors"]),
    ("fashion14full", ["Fashion-MNIST", "train-images-idx3-ubyte.gz", "zalandoresearch"]),
    ("mnist3", ["MNIST", "train-images-idx3-ubyte.gz"]),
    ("cifar10", ["cifar-10-batches-bin", "cifar-10-binary.tar.gz", "data_batch_*.bin", "kriz"]),
    ("imagenet16-heldout", ["heldout_classes.npz", "image-net.org"]),
    ("imdb", ["aclImdb", "aclImdb_v1.tar.gz", "ai.stanford.edu"]),
    ("omniglot", ["omniglot_28.npz", "brendenlake"])])
def test_a_missing_data_set_says_what_it_is_called_and_where_it_is_had(tmp_path, name, words):
    refused(words + [str(tmp_path), "does not exist", "--data-dir", "UNSUP_META_DATA"], tmp_path, name)


# ---- averaging

def test_area_averaging_is_the_plain_mean():
    images = rng().integers(0, 256, (3, 2, 8, 6)).astype(np.uint8)
    images[0] = 255
    x = mean_of_2x2(images)
    assert x.dtype == np.float32 and x.shape == (3, 2, 4, 3) and x.max() <= 1 and (x[0] == 1).all()
    for i, c, row, column in np.ndindex(x.shape):
        block = images[i, c, 2 * row:2 * row + 2, 2 * column:2 * column + 2]
        assert abs(x[i, c, row, column] - block.mean() / 255) < 1e-7


# ---- IDX

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
        refused([str(tmp_path), *words], tmp_path, "mnist28")
        path.write_bytes(good[path])
    plain = gzip.decompress(good[images])
    bad(images, good[images][:-9], "cannot be read", "fetch it again")
    bad(images, gzip.compress(plain[:-1]), "15679 bytes")
    bad(images, gzip.compress(b"\0\0\x0d\x03" + plain[4:]), "00000d03", "00000803")
    bad(images, good[labels], "00000801", "00000803")
    bad(images, gzip.compress(idx_bytes(np.zeros((20, 14, 14)))), "[20, 14, 14]", "28")
    bad(labels, gzip.compress(idx_bytes(np.arange(19) % 10)), "20 train images but 19 labels")
    bad(labels, gzip.compress(idx_bytes(np.arange(20))), "label 19 at index 19", "0..9")
    bad(labels, gzip.compress(idx_bytes(np.arange(20) % 9)), "class '9' has 0 training and 2 test")
    labels.unlink()
    refused(["train-labels-idx1-ubyte.gz", "does not exist"], tmp_path, "mnist28")
    os.mkdir(labels)
    refused("train-labels-idx1-ubyte", tmp_path, "mnist28")


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


# ---- CIFAR-10

@pytest.mark.parametrize("make", [make_cifar_binary, make_cifar_python, lambda f: make_cifar_python(f, None),
                                  lambda f: make_cifar_python(f, 3), lambda f: make_cifar_python(f, 4)])
def test_cifar10(tmp_path, make):
    make(tmp_path)
    d = load_dataset("cifar10", str(tmp_path))
    assert d.classes[3] == "cat" and d.x_train.shape == (20, 768) and d.x_test.shape == (10, 768)
    for x, y, seeds in ((d.x_train, d.y_train, (0, 1)), (d.x_test, d.y_test, (2,))):
        images = np.concatenate([cifar_images(10, seed)[0] for seed in seeds]) / 255
        exact = images.reshape(-1, 3, 16, 2, 16, 2).mean((3, 5)).reshape(-1, 768)  # channel first
        assert x.dtype == np.float32 and np.allclose(x, exact, atol=1e-6)
        assert np.array_equal(y, np.arange(len(x)) % 10)


def test_the_bytes_of_python_2_are_what_an_unpickler_takes_them_for():
    images, labels = cifar_images()
    batch = pickle.loads(python2_pickle(images, labels), encoding="latin1")
    assert np.array_equal(batch["data"], images) and batch["labels"] == labels.tolist()


def test_the_binary_version_goes_first(tmp_path):
    make_cifar_python(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"broken")
    refused("test_batch", tmp_path, "cifar10")
    make_cifar_binary(tmp_path)
    load_dataset("cifar10", str(tmp_path))


def test_cifar_binary_files_that_are_refused(tmp_path):
    make_cifar_binary(tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    good = path.read_bytes()
    for raw in (good[:-1], good + b"x", b""):
        path.write_bytes(raw)
        refused([str(path), f"{len(raw)} bytes", "3073"], tmp_path, "cifar10")
    path.write_bytes(good[:3073] + b"\x0a" + good[3074:])
    refused([str(path), "label 10 at index 1", "0..9"], tmp_path, "cifar10")
    path.unlink()
    os.mkdir(path)
    refused([str(path), "cannot be read"], tmp_path, "cifar10")
    os.rmdir(path)
    first = path.parent / "data_batch_1.bin"
    first.write_bytes(first.read_bytes()[3073:])
    refused("class 'airplane' has 0 training and 1 test", tmp_path, "cifar10")
    (path.parent / "test_batch.bin").unlink()
    refused(["test_batch.bin", "does not exist"], tmp_path, "cifar10")


def test_cifar_python_files_that_are_refused(tmp_path):
    make_cifar_python(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    images, labels = cifar_images()
    labels = labels.tolist()

    def bad(value, *words, protocol=2):
        path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
        refused([str(path), *words], tmp_path, "cifar10")
    bad(b"", "cifar-10-binary.tar.gz")
    bad(pickle.dumps({"data": images, "labels": labels}, 2)[:-20])
    bad([1, 2], "no dict")
    bad({1: 2}, "keys are no strings")
    bad({"data": images}, "no 'labels'")
    bad({"labels": labels}, "no 'data'")
    bad({"data": images[:, :9], "labels": labels}, "9 columns, not 3072")
    bad({"data": images.astype(np.int16), "labels": labels}, "not of uint8")
    bad({"data": np.asfortranarray(images), "labels": labels}, "not of uint8 in rows")
    bad({"data": np.array([{}] * 3), "labels": labels})
    bad({"data": [1], "labels": labels}, "no NumPy array")
    bad({"data": images, "labels": labels[:-1]}, "10 images but 9 labels")
    bad({"data": images[:0], "labels": []})
    bad({"data": images, "labels": labels[:-1] + ["9"]}, "no list of integers")
    bad({"data": images, "labels": labels[:-1] + [10]}, "label 10 at index 9")
    bad({"data": images, "labels": labels[:-1] + [-1]}, "label -1 at index 9")
    bad({"data": images, "labels": labels}, "opcode", protocol=0)
    bad({"data": images, "labels": labels}, "cifar-10-binary.tar.gz", protocol=5)


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_no_pickle_is_ever_run(tmp_path, protocol):
    make_cifar_python(tmp_path)
    path, trap = tmp_path / "cifar-10-batches-py" / "data_batch_1", tmp_path / "sprung"
    images, labels = cifar_images()
    for value in (Trap(trap), {"data": Trap(trap), "labels": labels.tolist()}, {"data": images, "labels": Trap(trap)}):
        path.write_bytes(pickle.dumps(value, protocol))
        refused(str(path), tmp_path, "cifar10")
    path.write_bytes(pickle.dumps({"data": images, "labels": labels.tolist(), "other": Trap(trap)}, protocol))
    try:
        load_dataset("cifar10", str(tmp_path))
    except InputError:
        assert protocol not in (2, 3, 4)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap), protocol))
    assert trap.exists()  # the trap works


def test_a_pickle_of_nested_tuples_or_far_memos_costs_nothing(tmp_path):
    doubled = b"\x80\x02}(U\x01a" + b"K\x01" + b"".join(
        b"q\x00h\x00\x86" for _ in range(200)) + b"u."  # 2^200 leaves, shared
    assert list(read_pickled_dict(doubled)) == ["a"]
    with pytest.raises(ValueError):
        read_pickled_dict(b"\x80\x02}(K\x01" + b"q\x00h\x00\x86" * 200 + b"K\x01u.")  # as a key it would be hashed
    assert read_pickled_dict(b"\x80\x02}r\xff\xff\xff\xff.") == {}  # a memo of 4 billion places


# ---- npz

def test_imagenet16(tmp_path):
    arrays = make_imagenet(tmp_path)
    d = load_dataset("imagenet16-heldout", str(tmp_path))
    assert d.classes == ("7", "9") and d.x_train.shape == (9, 768)
    assert np.bincount(d.y_test).tolist() == [2, 2] and np.bincount(d.y_train).tolist() == [4, 5]
    rows = {tuple(np.rint(x * 255)): d.classes[y] for x, y in zip(np.concatenate([d.x_train, d.x_test]),
                                                                 np.concatenate([d.y_train, d.y_test]))}
    assert rows == {tuple(x): str(y) for x, y in zip(arrays["data"].astype(float), arrays["labels"])}
    data, values, labels = read_imagenet16(tmp_path / "imagenet16" / "heldout_classes.npz")
    assert np.array_equal(data, arrays["data"]) and np.array_equal(values[labels], arrays["labels"])


def test_imagenet16_files_that_are_refused(tmp_path):
    data, labels = np.zeros((13, 768), np.uint8), np.array([7] * 6 + [9] * 7)

    def bad(words, **changes):
        make_imagenet(tmp_path, **changes)
        refused(["heldout_classes.npz"] + words, tmp_path, "imagenet16-heldout")
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
    bad(["class '3' has 2 training and 0 test"], labels=np.array([3] * 2 + [9] * 11))


def test_omniglot_is_split_by_class(tmp_path):
    make_omniglot(tmp_path)
    d = load_dataset("omniglot", str(tmp_path))
    assert d.classes == ("0-0", "0-1", "2-5") and d.x_train.shape == (14, 784) and d.x_train.max() <= 1
    assert np.bincount(d.y_train).tolist() == [4, 4, 6] and np.bincount(d.y_test).tolist() == [2, 2, 2]


def test_omniglot_files_that_are_refused(tmp_path):
    y = np.repeat([0, 1, 5], [6, 6, 8])

    def bad(words, **changes):
        make_omniglot(tmp_path, **changes)
        refused(["omniglot_28.npz"] + words, tmp_path, "omniglot")
    for key in ("x", "y", "alphabet"):
        bad([f"no '{key}'"], **{key: None})
    bad(["[20, 784]"], x=np.zeros((20, 784), np.uint8))
    bad(["float32"], x=np.zeros((20, 28, 28), np.float32))
    bad(["[0, 28, 28]"], x=np.zeros((0, 28, 28), np.uint8))
    bad(["[19]", "20 examples"], y=y[:19])
    bad(["y is float64"], y=y + 0.5)
    bad(["alphabet is int64 [3]"], alphabet=np.arange(3))
    bad(["alphabet is <U1"], alphabet=np.array(["a"] * 20))
    bad(["character 0", "alphabets 0 and 1"], alphabet=np.arange(20))
    bad(["class '1-1' has 2 training and 0 test"], y=np.repeat([0, 1], [18, 2]), alphabet=np.repeat([0, 1], [18, 2]))
    bad(["objects"], y=y.astype(object))


# ---- IMDB

def test_words_of_a_review():
    assert reviews.words_of("Don't  STOP<br />me--now, 'quoted' A.B.C. über_all 10/10<br>!") == [
        "don't", "stop", "me", "now", "quoted", "a", "b", "c", "über", "all", "10", "10"]
    assert reviews.words_of(" <br /> ...") == []


def test_imdb_is_a_bag_of_the_training_words(tmp_path):
    make_imdb(tmp_path)
    d = load_dataset("imdb", str(tmp_path))
    assert d.classes == ("negative", "positive")
    assert d.x_train.shape == (4, 1003) and d.x_test.shape == (2, 1003) and d.x_train.dtype == np.float32
    assert d.y_train.tolist() == [0, 0, 1, 1] and d.y_test.tolist() == [0, 1]
    words = ["bad", "film", "a", "apple", "don't", "end", "good", "zebra"]  # 3 each, then ties by name
    bags = [{"bad", "film", "don't"}, {"a", "bad", "end"}, {"good", "film"}, {"film", "zebra", "apple"}]
    for row, bag in zip(d.x_train, bags):
        assert {words[i] for i in np.flatnonzero(row[:1000])} == bag and row[1000:].tolist() == [0, 1, 1]
    assert np.flatnonzero(d.x_test[0]).tolist() == [1000, 1001, 1002]  # nothing of the test split is a word
    assert np.flatnonzero(d.x_test[1]).tolist() == [words.index("good"), 1001, 1002]
    assert set(np.unique(d.x_train)) == {0, 1}


def test_the_vocabulary_ends_at_a_thousand_and_its_ties_are_by_name():
    words = [f"w{i:04}" for i in range(1200)]
    vocabulary = reviews.vocabulary_of([list(rng().permutation(words)), ["w1199"]])
    assert list(vocabulary) == ["w1199"] + words[:999] and list(vocabulary.values()) == list(range(1000))
    row = reviews.bag_of_words([["w0998", "w0999"]], vocabulary)[0]
    assert np.flatnonzero(row).tolist() == [999, 1000, 1001, 1002]


def test_imdb_is_cached_and_made_anew_when_the_tree_changes(tmp_path, monkeypatch):
    make_imdb(tmp_path)
    first = load_dataset("imdb", str(tmp_path))
    cache = tmp_path / reviews.CACHE
    assert cache.is_file()
    with monkeypatch.context() as patch:
        patch.setattr(reviews, "_read_text", None)  # not a file is opened again
        second = load_dataset("imdb", str(tmp_path))
    assert all(np.array_equal(a, b) for a, b in zip(first[1:5], second[1:5]))
    review = tmp_path / "aclImdb" / "test" / "pos" / "0_1.txt"
    review.write_text("a zebra")
    assert np.flatnonzero(load_dataset("imdb", str(tmp_path)).x_test[1]).size == 4
    status = review.stat()
    review.write_text("a apple")  # as long as it was, a second later
    os.utime(review, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert load_dataset("imdb", str(tmp_path)).x_test[1, 3] == 1
    cache.write_bytes(cache.read_bytes()[:-50])
    assert load_dataset("imdb", str(tmp_path)).x_test[1, 3] == 1
    monkeypatch.setattr(reviews, "VERSION", reviews.VERSION + 1)
    before = cache.read_bytes()
    load_dataset("imdb", str(tmp_path))
    assert cache.read_bytes() != before


def test_imdb_needs_no_writable_folder(tmp_path):
    make_imdb(tmp_path)
    os.mkdir(tmp_path / reviews.CACHE)  # nothing can be written there
    assert load_dataset("imdb", str(tmp_path)).x_train.shape == (4, 1003)
    assert not list(tmp_path.glob(".*"))


def test_imdb_trees_that_are_refused(tmp_path):
    make_imdb(tmp_path)
    review = tmp_path / "aclImdb" / "train" / "pos" / "1_1.txt"
    review.write_bytes(b"caf\xe9 film")
    refused([str(review), "UTF-8", "byte 3"], tmp_path, "imdb")
    review.unlink()
    (review.parent / "0_1.txt").unlink()
    refused([str(review.parent), "'positive' is empty"], tmp_path, "imdb")
    os.rmdir(review.parent)
    refused([str(review.parent), "cannot be listed"], tmp_path, "imdb")


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


# ---- fuzz

def mutations(raw, g, n):
    """n damaged copies: bytes changed, the end cut off, bytes put in or taken out; half near the ends."""
    for _ in range(n):
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
    "cache of reviews": (lambda f: make_imdb(f) or load_dataset("imdb", str(f)), "imdb", reviews.CACHE)}


@pytest.mark.parametrize("kind", FUZZED)
def test_a_damaged_file_is_read_or_refused(tmp_path, kind):
    make, name, place = FUZZED[kind]
    make(tmp_path)
    path, g, read = tmp_path / place, rng(len(kind)), 0
    whole = load_dataset(name, str(tmp_path))
    for content in mutations(path.read_bytes(), g, 60):
        path.write_bytes(content)
        try:
            d = load_dataset(name, str(tmp_path))
        except InputError as error:
            text = str(error)
            assert "\n" not in text and str(tmp_path) in text and kind != "cache of reviews"
            continue
        read += 1
        assert isinstance(d, Dataset) and d.x_train.shape[1] == whole.x_train.shape[1]
        for x, y in ((d.x_train, d.y_train), (d.x_test, d.y_test)):
            assert len(x) == len(y) and x.min() >= 0 and x.max() <= 1 and y.max() < len(d.classes)
        if kind == "cache of reviews":
            assert all(np.array_equal(a, b) for a, b in zip(whole[1:5], d[1:5]))
    assert read < 60 or kind in ("cache of reviews", "review")


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "omniglot_28.npz", "w") as archive:
        for key in ("x", "y", "alphabet"):
            archive.writestr(key, b"text")
    refused(["omniglot_28.npz", "no arrays"], tmp_path, "omniglot")


def test_read_batch_alone_names_a_missing_file(tmp_path):
    for read in (cifar.read_binary_batch, cifar.read_python_batch):
        with pytest.raises(InputError, match="none.*cannot be read"):
            read(str(tmp_path / "none"))
