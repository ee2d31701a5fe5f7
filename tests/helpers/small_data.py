"""Small data sets in the formats of the published ones, and other things that the tests of the tasks share."""
import gzip
import os
import pickle
import struct

import numpy as np
import pytest

import unsup_meta as um
from ops.data import load_dataset
from ops.data.pool import Pool
from ops.engine.config import make_config
from ops.errors import InputError
from ops.tasks.mixture import FIXED_TYPES, open_pools

TRAIN_TEXTS = {"neg": ["Bad, BAD film.<br /><br />Don't!", "a bad end"], "pos": ["good film", "film zebra apple"]}
TEST_TEXTS = {"neg": ["unseen words unseen unseen"], "pos": ["Good"]}


def rng(seed=0):
    return np.random.default_rng(seed)


def small_theta(seed=0, batch_size=4):
    return um.init_theta(rng(seed), batch_size=batch_size, hdims=3, delta=2, top=3, rank=2)


def config(tasks="letters", **changes):
    return make_config("laptop", {"tasks": tasks} | changes)


def open_tasks(tasks="letters", **changes):
    """(config, pools) of such tasks, opened as for a run."""
    c = config(tasks, **changes)
    return c, open_pools(c.tasks, c)


def refused(words, call, *args, **kwargs):
    """The call raises InputError with one line that holds all the words."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    for word in [words] if isinstance(words, str) else words:
        assert word in text, text


def refused_data(words, folder, name):
    """`load_dataset(name, folder)` is refused with all the words."""
    refused(words, load_dataset, name, str(folder))


def same_draws(a, b, seed=5, shots=2):
    """Whether two tasks give the same arrays."""
    (xa, ya), (xb, yb) = (task.segment(rng(seed), 2, 4, 1, shots) for task in (a, b))
    return all(np.array_equal(p, q) for p, q in zip((xa, *ya), (xb, *yb)))


# ---- files of published sets

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
    """Alphabets 0, 2 and 9 of characters 0 and 1, 5 and 6, and 7."""
    arrays = {"x": rng().integers(0, 256, (34, 28, 28)).astype(np.uint8),
              "y": np.repeat([0, 1, 5, 6, 7], [6, 6, 6, 8, 8]), "alphabet": np.repeat([0, 2, 9], [12, 14, 8])}
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


# ---- pools, and files to train on

def glyph_like_pool(classes=120, faces=4):
    """A Pool formed as the glyphs': four groups, and the first classes alike in pairs."""
    images = rng().integers(0, 256, (classes * faces, 196)).astype(np.uint8)
    bounds = np.linspace(0, classes, 5).astype(int)
    groups = {g: tuple(range(a, b)) for g, a, b in zip((*FIXED_TYPES, "punctuation"), bounds, bounds[1:])}
    alike = tuple((2 * i, 2 * i + 1) for i in range(10))
    return Pool("glyphs", images, np.full(classes, faces), tuple(chr(0x3b1 + c) for c in range(classes)), 14, 1,
                groups, alike)


def make_imagenet_train(folder, labels, name="train_data_batch_1.npz"):
    """A training file whose images begin with their label, low byte first; the rest is random."""
    os.makedirs(folder / "imagenet16", exist_ok=True)
    labels = np.array(labels)
    data = rng(len(labels)).integers(0, 256, (len(labels), 768)).astype(np.uint8)
    data[:, 0], data[:, 1] = labels % 256, labels // 256
    np.savez(folder / "imagenet16" / name, data=data, labels=labels)
    return data


def make_user(path, shape=(3, 3), n=90, classes=3, kind=np.uint8, save=np.savez):
    y = rng(2).permutation(np.arange(n) % classes) * 10
    save(path, x=rng(1).integers(0, 256, (n,) + shape).astype(kind), y=y)
