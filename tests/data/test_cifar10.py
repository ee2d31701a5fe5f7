"""CIFAR-10 in both its published forms: read alike, damaged and hostile files refused, no pickle ever run."""
import os
import pickle

import numpy as np
import pytest

from ops.data import load_dataset
from small_data import cifar_images, make_cifar_binary, make_cifar_python, python2_pickle, refused_data


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
    whole = load_dataset("cifar10-32", str(tmp_path))
    assert np.array_equal(np.round(whole.x_test * 255), cifar_images(10, 2)[0]) and whole.x_train.shape == (20, 3072)
    assert np.array_equal(whole.y_train, d.y_train) and whole.x_test.max() <= 1


def test_the_binary_version_goes_first(tmp_path):
    make_cifar_python(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"broken")
    refused_data("test_batch", tmp_path, "cifar10")
    make_cifar_binary(tmp_path)
    load_dataset("cifar10", str(tmp_path))


def test_cifar_binary_files_that_are_refused(tmp_path):
    make_cifar_binary(tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    good = path.read_bytes()
    for raw in (good[:-1], good + b"x", b""):
        path.write_bytes(raw)
        refused_data([str(path), f"{len(raw)} bytes", "3073"], tmp_path, "cifar10")
    path.write_bytes(good[:3073] + b"\x0a" + good[3074:])
    refused_data([str(path), "label 10 at index 1", "0..9"], tmp_path, "cifar10")
    path.unlink()
    os.mkdir(path)
    refused_data([str(path), "cannot be read"], tmp_path, "cifar10")
    os.rmdir(path)
    first = path.parent / "data_batch_1.bin"
    first.write_bytes(first.read_bytes()[3073:])
    refused_data("class 'airplane' has 0 training and 1 test", tmp_path, "cifar10")
    (path.parent / "test_batch.bin").unlink()
    refused_data(["test_batch.bin", "does not exist"], tmp_path, "cifar10")


def test_cifar_python_files_that_are_refused(tmp_path):
    make_cifar_python(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    images, labels = cifar_images()
    labels = labels.tolist()

    def bad(value, *words, protocol=2):
        path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
        refused_data([str(path), *words], tmp_path, "cifar10")
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
    path.unlink()
    path.mkdir()
    refused_data([str(path), "cannot be read"], tmp_path, "cifar10")
    path.rmdir()
    for protocol in (0, 1, 5):
        bad({"data": images, "labels": labels}, "cifar-10-binary.tar.gz", protocol=protocol)
    batch = pickle.loads(python2_pickle(*cifar_images()), encoding="latin1")  # what the tests make is what Python 2 did
    assert np.array_equal(batch["data"], images) and batch["labels"] == labels


class Trap:
    """Unpickled, it calls a function with some arguments."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def traps(folder):
    """Values that would make a folder, or take hold of a numpy name that is not needed, if they were unpickled."""
    sprung = str(folder / "sprung")
    return (Trap(os.mkdir, sprung), Trap(os.system, f"mkdir {sprung}"), Trap(exec, f"import os; os.mkdir({sprung!r})"),
            Trap(np.fromfile, __file__), Trap(np.zeros, 10 ** 13), Trap(getattr, np.ndarray, "tofile"))


@pytest.mark.parametrize("protocol", range(6))
def test_no_pickle_is_ever_run(tmp_path, protocol):
    make_cifar_python(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    images, labels = cifar_images()
    good = {"data": images, "labels": labels.tolist()}
    for trap in traps(tmp_path):
        for value in (trap, good | {"data": trap}, good | {"labels": trap}, good | {"other": [trap]}):
            path.write_bytes(pickle.dumps(value, protocol))
            refused_data([str(path), "asks for"] if protocol in (2, 3, 4) else str(path), tmp_path, "cifar10")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(traps(tmp_path)[protocol % 3], protocol))
    assert (tmp_path / "sprung").exists()  # the traps work


GLOBAL = b"c%s\n%s\n"
ARRAY = GLOBAL % (b"numpy.core.multiarray", b"_reconstruct") + GLOBAL % (b"numpy", b"ndarray") + b"K\x00\x85U\x01b\x87R"
TYPE = GLOBAL % (b"numpy", b"dtype") + b"U\x02%sK\x00K\x01\x87R"


@pytest.mark.parametrize("raw", [
    GLOBAL % (b"numpy.testing._private.utils", b"runstring") + b"(U\x03a=1}tR.",  # runs its text
    b"}(U\x01a" + b"K\x01" + b"q\x00h\x00\x86" * 200 + b"u.",  # 2^200 leaves, shared
    b"}(K\x01" + b"q\x00h\x00\x86" * 200 + b"K\x01u.", b"}K\x01" + b"q\x00h\x00\x86" * 200 + b"K\x01s.",  # as keys
    b"(K\x01" + b"q\x00h\x00\x86" * 200 + b"K\x01d.", b"\x8f(K\x01" + b"q\x00h\x00\x86" * 200 + b"\x90.",
    b"}r\xff\xff\xff\xff.",  # a memo of 4 billion places
    b"B\xff\xff\xff\x7fabc", b"\x8e" + b"\xff" * 7 + b"\x0fabc", b"\x96" + b"\xff" * 5 + b"\0\0\0.",
    b"\x95" + b"\xff" * 8,
    ARRAY + b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86" + TYPE % b"u1" + b"\x89U\x01atb.",  # 4 EB of images
    ARRAY + b"(K\x01K\x01K\x01\x86" + TYPE % b"O8" + b"\x89]K\x01atb.",  # of objects
    GLOBAL % (b"numpy", b"ndarray") + b"J\xff\xff\xff\x7f\x85\x85R.",  # made at that size
    GLOBAL % (b"_codecs", b"encode") + b"}U\x08__code__K\x01s\x86b.",  # a stand-in's own parts set
    GLOBAL % (b"_codecs", b"encode") + b"N}U\x07__new__K\x01s\x86b.", ARRAY + b"N}U\x04rowsK\x01s\x86b.",
    GLOBAL % (b"_codecs", b"encode") + b"X\x01\0\0\0aU\x05rot13\x86R.", b"\x80\x02",
    b"\x80\x09N.", b"P1\n.", b"\x82\x01."])
def test_hostile_pickles_cost_nothing(tmp_path, raw):
    make_cifar_python(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    whole = path.read_bytes()
    path.write_bytes(b"\x80\x02" + raw)
    refused_data([str(path), "no batch of CIFAR-10"], tmp_path, "cifar10")
    path.write_bytes(whole)
    assert load_dataset("cifar10", str(tmp_path)).x_train.shape == (20, 768)  # nothing was broken by it
