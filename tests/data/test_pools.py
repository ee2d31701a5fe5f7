"""Pools to meta-train on: CIFAR-10, ImageNet without its held-out classes, a user's own file."""
import os
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from ops.data import load_dataset
from ops.data.cifar10 import cifar10_pool, heldout_photographs
from ops.data.imagenet16 import heldout_labels, imagenet16_pool
from ops.data.pool import Pool, check_pool
from ops.data.user import user_pool
from ops.tasks import mixture as mixture_module
from ops.tasks.augment import Augmentation
from ops.tasks.mixture import describe, sample_task
from small_data import (cifar_images, config, make_cifar_binary, make_cifar_python, make_imagenet, make_imagenet_train,
                        make_user, open_tasks, refused, rng)


# ---- CIFAR-10

@pytest.mark.parametrize("make", [make_cifar_binary, make_cifar_python])
def test_the_pool_of_cifar10_leaves_the_last_tenth_to_the_validation_suite(tmp_path, make):
    make(tmp_path)
    pool = cifar10_pool(str(tmp_path))
    assert pool.images.dtype == np.uint8 and (pool.side, pool.channels) == (16, 3)
    assert pool.counts.tolist() == [2] * 8 + [1] * 2 and pool.class_names[3] == "cat"
    images = np.concatenate([cifar_images(10, seed)[0] for seed in (0, 1)])  # class c: row c of each
    means = images.reshape(-1, 3, 16, 2, 16, 2).mean((3, 5)).reshape(20, 768)
    nearest = np.floor(means + 0.5)
    rows = np.arange(20).reshape(2, 10).T.reshape(-1)
    assert np.array_equal(pool.images, nearest[rows[rows < 18]])
    assert np.array_equal(heldout_photographs(str(tmp_path)).reshape(2, -1), images[18:])
    task = sample_task(rng(), config("cifar10"), {"cifar10": pool})
    assert task.classes == 10 and task.features == 768 and task.augmentation == Augmentation(max_shift=1)


# ---- ImageNet

def test_the_pool_of_imagenet_is_all_its_files_without_the_held_out_classes(tmp_path):
    first = make_imagenet_train(tmp_path, [8, 26, 300, 8, 300])  # 9 and 26 are held out
    second = make_imagenet_train(tmp_path, [9, 300, 1, 1, 8, 26, 1000], "train_data_batch_10.npz")
    pool = imagenet16_pool(str(tmp_path))
    check_pool(pool)
    assert pool.class_names == ("1", "8", "300", "1000") and pool.counts.tolist() == [2, 3, 3, 1]
    expected = [second[2], second[3], first[0], first[3], second[4], first[2], first[4], second[1], second[6]]
    assert np.array_equal(pool.images, expected) and (pool.side, pool.channels) == (16, 3)


def test_without_a_file_of_held_out_classes_forty_drawn_ones_are(tmp_path):
    drawn = heldout_labels(str(tmp_path))
    assert drawn.tolist() == [9, 26, 37, 82, 145, 159, 163, 165, 202, 207, 210, 223, 265, 326, 330, 351, 381, 389, 392,
                              460, 468, 495, 510, 512, 519, 583, 584, 585, 652, 653, 675, 684, 712, 735, 769, 814, 815,
                              891, 946, 971]
    make_imagenet_train(tmp_path, np.arange(1, 1001))
    trained = set(map(int, imagenet16_pool(str(tmp_path)).class_names))
    assert trained == set(range(1, 1001)) - set(drawn.tolist())
    make_imagenet(tmp_path)  # a file of held-out classes: 7 and 9, of which 7 is none of the forty
    assert heldout_labels(str(tmp_path)).tolist() == []
    assert len(imagenet16_pool(str(tmp_path)).class_names) == 1000


@pytest.mark.parametrize("labels", [[9, 971], [971], None])
def test_a_file_made_of_drawn_classes_takes_all_forty_out_of_training(tmp_path, labels):
    """Its numbering is the training files', and so its classes are not trained on, though they share no image."""
    drawn = heldout_labels()
    make_imagenet_train(tmp_path, np.arange(1, 1001))
    labels = np.resize(drawn if labels is None else labels, 120)
    if len(set(labels)) == 1:
        labels[:60] = 9
    make_imagenet(tmp_path, data=rng(5).integers(0, 256, (120, 768)).astype(np.uint8), labels=labels)
    assert np.array_equal(heldout_labels(str(tmp_path)), drawn)
    pool = imagenet16_pool(str(tmp_path))
    assert set(map(int, pool.class_names)) == set(range(1, 1001)) - set(drawn.tolist())
    assert pool.left_out == tuple(drawn)
    assert set(map(int, load_dataset("imagenet16-heldout", str(tmp_path)).classes)) == set(labels.tolist())


@pytest.mark.parametrize("names", [["val_data.npz"], ["train_data_batch_1.npz", "train_data_batch_2.npz"]])
def test_without_a_file_of_their_own_the_held_out_classes_come_from_the_public_files(tmp_path, names):
    every = np.repeat([8, 9, 26, 300, 971], 6)
    made = [make_imagenet_train(tmp_path, every[k::len(names)], name) for k, name in enumerate(names)]
    if len(names) == 1:  # the validation images go before the training ones, which have other labels here
        make_imagenet_train(tmp_path, [8, 9, 37, 300])
    data, labels = np.concatenate(made), np.concatenate([every[k::len(names)] for k in range(len(names))])
    d = load_dataset("imagenet16-heldout", str(tmp_path))
    assert d.classes == ("9", "26", "971") and d.x_train.shape == (12, 768) and d.x_test.shape == (6, 768)
    found = {(x.tobytes(), d.classes[y]) for x, y in zip(np.rint(255 * np.concatenate([d.x_train, d.x_test])),
                                                         np.concatenate([d.y_train, d.y_test]))}
    assert found == {(x.astype(np.float32).tobytes(), str(y)) for x, y in zip(data, labels) if y in (9, 26, 971)}
    trained = imagenet16_pool(str(tmp_path))
    assert trained.class_names == ("8", "300")


def test_public_files_with_too_few_held_out_classes_are_refused(tmp_path):
    make_imagenet_train(tmp_path, [8, 9, 9, 9, 10])
    refused(["train_data_batch_1.npz", "has 1 of the 40 held-out labels 9, 26 ... 971", "val_data.npz"], load_dataset,
            "imagenet16-heldout", str(tmp_path))
    make_imagenet_train(tmp_path, [8, 8, 300], "val_data.npz")
    refused(["val_data.npz", "has 0 of", "image-net.org"], load_dataset, "imagenet16-heldout", str(tmp_path))
    make_imagenet_train(tmp_path, [9, 9, 26, 26], "val_data.npz")
    refused(["val_data.npz", "class '9' has 2 examples"], load_dataset, "imagenet16-heldout", str(tmp_path))


@pytest.mark.parametrize("trained, words", [
    ([5, 6], "no label held out"), ([5, 6, 9], "label 9 left out: held out"),
    ([5, 6, 971, 9, 37], "labels 9, 37 and 971 left out: held out"), (range(1, 1001), "40 labels held out")])
def test_the_log_names_the_held_out_labels_that_are_left_out(tmp_path, trained, words):
    make_imagenet_train(tmp_path, np.array(trained))
    pool = imagenet16_pool(str(tmp_path))
    check_pool(pool)
    assert describe([("imagenet16", 1)], {"imagenet16": pool}).endswith(f" MB, {words}")


def test_a_training_class_that_shares_an_image_with_the_held_out_ones_is_left_out(tmp_path):
    make_imagenet_train(tmp_path, np.repeat([5, 6, 8], 4))
    with np.load(tmp_path / "imagenet16" / "train_data_batch_1.npz") as batch:
        twice = batch["data"][5]
    make_imagenet(tmp_path, data=np.repeat(twice[None], 6, axis=0), labels=np.repeat([1, 2], 3))
    pool = imagenet16_pool(str(tmp_path))
    assert pool.class_names == ("5", "8") and pool.left_out == (6,)


def test_imagenet_tasks_have_each_number_of_ways(tmp_path):
    make_imagenet_train(tmp_path, np.tile(np.arange(100, 140), 4))
    (c, pools), g = open_tasks("imagenet16", data_dir=str(tmp_path), image_shift=2), rng()
    tasks = [sample_task(g, c, pools) for _ in range(400)]
    found = Counter(t.classes for t in tasks)
    assert set(found) == {10, 15, 20, 25} and sum((n - 100) ** 2 / 100 for n in found.values()) < 16.3  # 0.1%
    assert {t.augmentation for t in tasks} == {Augmentation(max_shift=2)}
    assert {name for t in tasks for name in t.class_names} == set(pools["imagenet16"].class_names)


def test_imagenet_files_that_are_refused(tmp_path):
    def bad(*words):
        refused(words, open_tasks, "imagenet16", data_dir=str(tmp_path))
    make_imagenet_train(tmp_path, [26, 9, 26, 11])  # 9 and 26 are held out
    bad("imagenet16", "1 classes are left")
    make_imagenet_train(tmp_path, np.repeat(np.arange(1, 27), 2))
    bad("--imagenet-ways", "10,15,20,25", "24 classes")
    (tmp_path / "imagenet16" / "train_data_batch_1.npz").write_bytes(b"PK")
    bad("train_data_batch_1.npz", "not a readable")
    make_imagenet_train(tmp_path, [0, 1])
    bad("label 0 is not 1..1000")


@pytest.mark.parametrize("tasks, words", [
    ("cifar10", ["cifar-10-binary.tar.gz", "data_batch_*.bin", "kriz"]),
    ("letters,imagenet16", ["train_data_batch_*.npz", "Imagenet16_train_npz.zip", "image-net.org"])])
def test_missing_data_say_how_they_are_had(tmp_path, tasks, words):
    refused([*words, str(tmp_path), "does not exist", "--data-dir"], open_tasks, tasks, data_dir=str(tmp_path))


# ---- a user's own

@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float64])
@pytest.mark.parametrize("shape, side, channels", [((5,), None, 1), ((4, 4), 4, 1), ((4, 3), None, 1),
                                                   ((4, 4, 3), 4, 3), ((4, 2, 3), None, 1)])
def test_a_users_pool_is_the_training_split_of_load_dataset(tmp_path, shape, side, channels, kind):
    path = str(tmp_path / "my-data.npz")
    make_user(path, shape, kind=kind)
    pool, dataset = user_pool(path), load_dataset(path)
    check_pool(pool)
    assert (pool.side, pool.channels, pool.class_names) == (side, channels, dataset.classes)
    assert pool.images.dtype == {np.uint8: np.uint8}.get(kind, np.float32)
    assert pool.counts.tolist() == np.bincount(dataset.y_train).tolist()
    x = pool.images
    if len(shape) == 3 and side:  # back to channels last
        x = x.reshape(-1, 3, 4, 4).transpose(0, 2, 3, 1).reshape(len(x), -1)
    x = x / np.float32(255) if kind is np.uint8 else x
    assert np.array_equal(x, dataset.x_train[np.argsort(dataset.y_train, kind="stable")])
    task = sample_task(rng(), *open_tasks(path))
    assert task.name == "my_data.npz-3" and task.augmentation == Augmentation(max_shift=1 if side else 0)


def peak_memory(call, *args):
    """(what the call returns, bytes that were allocated at its peak)."""
    tracemalloc.start()
    try:
        return call(*args), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bytes_are_not_made_floats_on_their_way_into_a_pool(tmp_path):
    path = str(tmp_path / "mine.npz")
    for shape in ((40, 40), (40, 40, 3)):
        make_user(path, shape, n=900)
        size = 900 * int(np.prod(shape))
        pool, peak = peak_memory(user_pool, path)
        assert pool.images.nbytes == 600 * int(np.prod(shape)) and peak < 3.5 * size  # as float32 they alone take 4


def test_a_pool_of_many_classes_is_checked_without_drawing_from_them_all():
    classes = 1500
    pool = Pool("many", np.zeros((3 * classes, 9), np.uint8), np.full(classes, 3), tuple(map(str, range(classes))), 3)
    _, peak = peak_memory(mixture_module._check_tasks, "many", pool, config())
    assert peak < 5e6  # the targets of a pair of batches of all classes take 180 MB


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path):
    paths = {}
    for place in ("a/mine.npz", "b/mine.npz", "b/other-one.npz", "b/letters"):
        os.makedirs(tmp_path / os.path.dirname(place), exist_ok=True)
        paths[place] = str(tmp_path / place)
        with open(paths[place], "wb") as file:
            make_user(file)
    (c, pools), g = open_tasks(",".join(["letters", *paths.values()])), rng()
    assert [pools[path].name for path in paths.values()] == [*list(paths.values())[:2], "other-one.npz",
                                                             paths["b/letters"]]
    names = {sample_task(g, c, pools).set_name for _ in range(80)}
    assert names == {"letters", "other_one.npz"} | {paths[p].replace("-", "_") for p in paths if "other" not in p}


def test_classes_and_images_too_small_for_the_tasks_are_refused_when_opened(tmp_path):
    path = str(tmp_path / "mine.npz")
    make_user(path, (5,), n=60)  # 20 of each class, 14 of them for training; plain vectors come out the same each time
    refused(["'0' has 14 images", "20"], open_tasks, path)
    open_tasks(path, shots=7)
    make_user(path, (5, 5), n=60)  # these are shifted
    open_tasks(path)
    refused("'0' has 14 images", open_tasks, path, image_shift=0)
    refused(["max_shift 5", "5 wide"], open_tasks, path, image_shift=5)
    refused(["x_shift 6", "5 wide"], open_tasks, path, p_x_shift=0.1, x_shift=6)
