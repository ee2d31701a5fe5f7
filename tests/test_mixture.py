"""Pools to meta-train on, mixtures of them and the tasks drawn: shares, kinds, splits, and what is refused."""
import os
import sys
from collections import Counter

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from ops.config import differing_fields, make_config
from ops.errors import InputError
from ops.tasks import mixture as mixture_module
from ops.tasks import letters, load_dataset, load_glyphs, pool_arrays, pool_from, sample_letters_task
from ops.tasks.augment import Augmentation
from ops.tasks.image_pools import cifar10_pool, heldout_labels, imagenet16_pool, user_pool
from ops.tasks.mixture import (FIXED_TYPES, SETS, choose_set, describe, largest_inputs, open_pools, parse_mixture,
                               sample_task)
from ops.tasks.pool import Pool, check_pool
from test_datasets import cifar_images, make_cifar_binary, make_cifar_python, make_imagenet, rng

TOP = ("p_task_dropout", "p_example_dropout", "p_class_permutation", "p_x_shift")


def config(tasks="letters", **changes):
    return make_config("laptop", {"tasks": tasks} | changes)


def refused(words, call, *args, **kwargs):
    """The call raises InputError with one line that holds all the words."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    for word in [words] if isinstance(words, str) else words:
        assert word in text, text


def same_draws(a, b, seed=5, shots=2):
    """Whether two tasks give the same arrays."""
    (xa, ya), (xb, yb) = (task.segment(rng(seed), 2, 4, 1, shots) for task in (a, b))
    return all(np.array_equal(p, q) for p, q in zip((xa, *ya), (xb, *yb)))


# ---- makers of small sets

def glyph_like_pool(classes=120, faces=4):
    """A Pool formed as the glyphs': four groups, and the first classes alike in pairs."""
    images = rng().integers(0, 256, (classes * faces, 196)).astype(np.uint8)
    bounds = np.linspace(0, classes, 5).astype(int)
    groups = {g: tuple(range(a, b)) for g, a, b in zip((*FIXED_TYPES, "punctuation"), bounds, bounds[1:])}
    alike = {f"alike {i}": (2 * i, 2 * i + 1) for i in range(10)}
    return Pool("glyphs", images, np.full(classes, faces), tuple(chr(0x3b1 + c) for c in range(classes)), 14, 1,
                groups | alike)


def make_imagenet_train(folder, labels, name="train_data_batch_1.npz"):
    """A training file whose images begin with their label, low byte first; the rest is random."""
    os.makedirs(folder / "imagenet16", exist_ok=True)
    labels = np.array(labels)
    data = rng(len(labels)).integers(0, 256, (len(labels), 768)).astype(np.uint8)
    data[:, 0], data[:, 1] = labels % 256, labels // 256
    np.savez(folder / "imagenet16" / name, data=data, labels=labels)
    return data


def make_user(path, shape=(3, 3), n=90, classes=3, kind=np.uint8):
    y = rng(2).permutation(np.arange(n) % classes) * 10
    np.savez(path, x=rng(1).integers(0, 256, (n,) + shape).astype(kind), y=y)


# ---- mixtures

@pytest.mark.parametrize("text, expected", [
    ("letters", [("letters", 1)]),
    ("glyphs:0.5,cifar10:0.25,imagenet16:0.25", [("glyphs", 0.5), ("cifar10", 0.25), ("imagenet16", 0.25)]),
    ("glyphs:3, cifar10", [("glyphs", 0.75), ("cifar10", 0.25)]),
    ("mine.npz:1,a/b.npz:3", [("mine.npz", 0.25), ("a/b.npz", 0.75)]),
    ("C:\\x.npz", [("C:\\x.npz", 1)]), ("letters:2,cifar10:0,", [("letters", 1)])])
def test_a_mixture_is_names_and_shares(text, expected):
    assert parse_mixture(text) == expected


@pytest.mark.parametrize("text, words", [
    ("cifar11", [*SETS, ".npz", "'cifar11'"]), ("letter:0.5", ["'letter'", *SETS]), (":1", ["''", *SETS]),
    ("glyphs:-1", ["'glyphs'", "'-1'"]), ("glyphs:nan", "'nan'"), ("glyphs:inf", "'inf'"), ("glyphs:half", "'half'"),
    ("glyphs:", "''"), ("glyphs:0,cifar10:0", ["add up to 0", *SETS]), ("", ["add up to 0", ".npz"]),
    ("a.npz,a.npz:2", ["'a.npz' twice"]), ("glyphs:1e308,cifar10:1e308", "add up to inf")])
def test_mixtures_that_are_refused(text, words):
    refused(words, parse_mixture, text)
    refused(words, config, text)  # before anything is opened


def test_sets_are_chosen_by_their_shares():
    mixture = parse_mixture("glyphs:5,cifar10:3,imagenet16:2")
    g, n = rng(), 2000
    found = Counter(choose_set(g, mixture) for _ in range(n))
    assert sum((found[name] - n * p) ** 2 / (n * p) for name, p in mixture) < 13.8  # 0.1%, 2 degrees of freedom


# ---- letters

@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("case", ["both", "upper"])
def test_letters_alone_are_sample_letters_task_to_the_bit(case, split):
    c = config(case=case, ways=7)
    pools = open_pools(parse_mixture(c.tasks), c)
    a, b = rng(3), rng(3)
    task = sample_task(a, c, pools, split)
    plain = sample_letters_task(b, load_glyphs(), 7, 1, letters(split, case if split == "train" else "both"))
    assert a.bit_generator.state == b.bit_generator.state
    assert (task.name, task.description) == (plain.name, plain.description) and same_draws(task, plain)


def test_a_held_out_task_is_of_held_out_letters_whatever_is_trained_on():
    a = sample_task(rng(1), config("glyphs", p_x_shift=1.0), {"glyphs": glyph_like_pool()}, "heldout")
    assert set(a.class_names) <= set(letters("heldout")) and a.augmentation == Augmentation(1)
    assert same_draws(a, sample_task(rng(1), config(), {}, "heldout"))


# ---- glyphs

@pytest.fixture(scope="module")
def glyph_tasks():
    c, pools, g = config("glyphs", augmented=0.3), {"glyphs": glyph_like_pool()}, rng(4)
    return [sample_task(g, c, pools) for _ in range(900)]


def test_the_nine_kinds_of_glyph_tasks_are_equally_likely(glyph_tasks):
    found = Counter(task.name for task in glyph_tasks)
    assert set(found) == {f"glyphs-{k}" for k in (10, 13, 14, 17, 20, 30, *FIXED_TYPES)}
    assert sum((n - 100) ** 2 / 100 for n in found.values()) < 26.1  # 0.1%, 8 degrees of freedom
    for task in glyph_tasks:
        kind = task.name.split("-")[1]
        assert task.classes == (10 if kind in FIXED_TYPES else int(kind)) and kind in task.description


def test_a_fixed_type_is_of_its_group_and_other_tasks_of_all(glyph_tasks):
    pool, seen = glyph_like_pool(), set()
    for task in glyph_tasks:
        classes, kind = {pool.class_names.index(c) for c in task.class_names}, task.name.split("-")[1]
        if kind in FIXED_TYPES:
            assert classes <= set(pool.groups[kind])
        else:
            seen |= classes
        assert not any(classes >= set(pair) for group, pair in pool.groups.items() if group.startswith("alike"))
    assert seen == set(range(120))


def test_fixed_types_and_a_share_of_the_others_are_augmented(glyph_tasks):
    augmented = Augmentation(max_shift=5, rotation=360, targets=True)
    others = [t.augmentation for t in glyph_tasks if t.name.split("-")[1] not in FIXED_TYPES]
    assert {t.augmentation for t in glyph_tasks if t.name.split("-")[1] in FIXED_TYPES} == {augmented}
    assert set(others) == {augmented, Augmentation(max_shift=1)}
    assert abs(np.mean([a == augmented for a in others]) - 0.3) < 0.075  # four standard errors


def test_an_augmented_glyph_task_has_its_angle_and_shift_as_targets(glyph_tasks):
    for extras in (0, 4):
        task = next(t for t in glyph_tasks if t.augmentation.extras == extras)
        x, (xa, ya, xb, yb) = task.segment(rng(), 1, 8, 1, 10)  # a character has 4 faces, 10 shots need 20 images
        assert x.shape == (1, 8, 196) and ya.shape == yb.shape == (1, 1, 10 * task.classes, task.classes + extras)


def test_glyphs_are_opened_with_the_runs_options_and_checked(monkeypatch):
    asked, mixture = [], parse_mixture("glyphs")

    def opener(*args, **kwargs):
        asked.append((args, kwargs))
        return glyph_like_pool()
    monkeypatch.setattr(mixture_module, "glyph_pool", opener)
    open_pools(mixture, config("glyphs", data_dir="here"))
    open_pools(mixture, config("glyphs", data_dir="here", font_dir="fonts", system_fonts="yes", digits="yes"))
    assert asked == [((None, False, False), {"cache_dir": "here"}), (("fonts", True, True), {"cache_dir": "here"})]
    refused("111 ways of 110", open_pools, mixture, config("glyphs", glyph_ways="10,111"))
    refused("has 4 images", open_pools, mixture, config("glyphs", max_shift=0))  # not augmented, always the same
    open_pools(mixture, config("glyphs", max_shift=0, shots=2))
    small = glyph_like_pool(classes=36)  # 9 of each group
    monkeypatch.setattr(mixture_module, "glyph_pool", lambda *args, **kwargs: small)
    refused(["10 ways", "letters"], open_pools, mixture, config("glyphs", glyph_ways="10"))


# ---- CIFAR-10

@pytest.mark.parametrize("make", [make_cifar_binary, make_cifar_python])
def test_the_pool_of_cifar10(tmp_path, make):
    make(tmp_path)
    pool = cifar10_pool(str(tmp_path))
    assert pool.images.dtype == np.uint8 and (pool.side, pool.channels) == (16, 3)
    assert pool.counts.tolist() == [2] * 10 and pool.class_names[3] == "cat"
    images = np.concatenate([cifar_images(10, seed)[0] for seed in (0, 1)])  # class c: row c of each
    means = images.reshape(-1, 3, 16, 2, 16, 2).mean((3, 5)).reshape(20, 768)
    nearest = np.floor(means + 0.5)
    assert np.array_equal(pool.images, nearest[np.arange(20).reshape(2, 10).T.reshape(-1)])
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
    make_imagenet(tmp_path)  # a file of held-out classes: other ones, counted on their own
    assert heldout_labels(str(tmp_path)).tolist() == []
    assert len(imagenet16_pool(str(tmp_path)).class_names) == 1000


def test_a_training_class_that_shares_an_image_with_the_held_out_ones_is_left_out(tmp_path):
    make_imagenet_train(tmp_path, np.repeat([5, 6, 8], 4))
    with np.load(tmp_path / "imagenet16" / "train_data_batch_1.npz") as batch:
        twice = batch["data"][5]
    make_imagenet(tmp_path, data=np.repeat(twice[None], 6, axis=0), labels=np.repeat([1, 2], 3))
    assert imagenet16_pool(str(tmp_path)).class_names == ("5", "8")


def test_imagenet_tasks_have_each_number_of_ways(tmp_path):
    make_imagenet_train(tmp_path, np.tile(np.arange(100, 140), 4))
    c = config("imagenet16", data_dir=str(tmp_path), image_shift=2)
    pools, g = open_pools(parse_mixture(c.tasks), c), rng()
    tasks = [sample_task(g, c, pools) for _ in range(400)]
    found = Counter(t.classes for t in tasks)
    assert set(found) == {10, 15, 20, 25} and sum((n - 100) ** 2 / 100 for n in found.values()) < 16.3  # 0.1%
    assert {t.augmentation for t in tasks} == {Augmentation(max_shift=2)}
    assert {name for t in tasks for name in t.class_names} == set(pools["imagenet16"].class_names)


def test_imagenet_files_that_are_refused(tmp_path):
    c, mixture = config("imagenet16", data_dir=str(tmp_path)), parse_mixture("imagenet16")
    make_imagenet_train(tmp_path, [26, 9, 26, 11])  # 9 and 26 are held out
    refused(["imagenet16", "1 classes are left"], open_pools, mixture, c)
    make_imagenet_train(tmp_path, np.repeat(np.arange(1, 27), 2))
    refused(["--imagenet-ways", "10,15,20,25", "24 classes"], open_pools, mixture, c)
    (tmp_path / "imagenet16" / "train_data_batch_1.npz").write_bytes(b"PK")
    refused(["train_data_batch_1.npz", "cannot be read"], open_pools, mixture, c)
    make_imagenet_train(tmp_path, [0, 1])
    refused(["label 0 is not 1..1000"], open_pools, mixture, c)


@pytest.mark.parametrize("tasks, words", [
    ("cifar10", ["cifar-10-binary.tar.gz", "data_batch_*.bin", "kriz"]),
    ("letters,imagenet16", ["train_data_batch_*.npz", "Imagenet16_train_npz.zip", "image-net.org"])])
def test_missing_data_say_how_they_are_had(tmp_path, tasks, words):
    refused([*words, str(tmp_path), "does not exist", "--data-dir"], open_pools, parse_mixture(tasks),
            config(tasks, data_dir=str(tmp_path)))


# ---- a user's own

@pytest.mark.parametrize("kind", [np.uint8, np.float64])
@pytest.mark.parametrize("shape, side, channels", [((5,), None, 1), ((4, 4), 4, 1), ((4, 3), None, 1),
                                                   ((4, 4, 3), 4, 3), ((4, 2, 3), None, 1)])
def test_a_users_pool_is_the_training_split_of_load_dataset(tmp_path, shape, side, channels, kind):
    path = str(tmp_path / "my-data.npz")
    make_user(path, shape, kind=kind)
    pool, dataset = user_pool(path), load_dataset(path)
    check_pool(pool)
    assert (pool.side, pool.channels, pool.class_names) == (side, channels, dataset.classes)
    assert pool.images.dtype == {np.uint8: np.uint8, np.float64: np.float32}[kind]
    assert pool.counts.tolist() == np.bincount(dataset.y_train).tolist()
    x = pool.images
    if len(shape) == 3 and side:  # back to channels last
        x = x.reshape(-1, 3, 4, 4).transpose(0, 2, 3, 1).reshape(len(x), -1)
    x = x / np.float32(255) if kind is np.uint8 else x
    assert np.array_equal(x, dataset.x_train[np.argsort(dataset.y_train, kind="stable")])
    c = config(path)
    task = sample_task(rng(), c, open_pools(parse_mixture(c.tasks), c))
    assert task.name == "my_data.npz-3" and task.augmentation == Augmentation(max_shift=1 if side else 0)


def test_a_users_set_has_as_many_ways_as_asked_for_or_there_are(tmp_path):
    path = str(tmp_path / "mine.npz")
    make_user(path, n=600, classes=20)
    for ways, expected in ((4, 4), (30, 20)):
        c = config(path, ways=ways)
        pools, g = open_pools(parse_mixture(path), c), rng()
        tasks = [sample_task(g, c, pools) for _ in range(40)]
        assert {t.classes for t in tasks} == {expected}
        assert {name for t in tasks for name in t.class_names} == set(map(str, range(0, 200, 10)))


def test_users_files_that_are_refused(tmp_path):
    path = str(tmp_path / "mine.npz")
    c, mixture = config(path), parse_mixture(path)
    refused([path, "does not exist"], open_pools, mixture, c)
    x, y = np.zeros((60, 4, 4), np.uint8), np.arange(60) % 3
    for words, arrays in ((["no 'y'"], {"x": x}), (["[60, 2, 2, 2, 2]"], {"x": x.reshape(60, 2, 2, 2, 2), "y": y}),
                          (["x is int64"], {"x": x.astype(int), "y": y}), (["[59]"], {"x": x, "y": y[1:]}),
                          (["only the label 0"], {"x": x, "y": y * 0}), (["objects"], {"x": x, "y": y.astype(object)}),
                          (["NaN", "example 0"], {"x": x * np.nan, "y": y})):
        np.savez(path, **arrays)
        refused([path, *words], open_pools, mixture, c)


def test_classes_and_images_too_small_for_the_tasks_are_refused_when_opened(tmp_path):
    path = str(tmp_path / "mine.npz")
    make_user(path, (5,), n=60)  # 20 of each class, 14 of them for training; plain vectors come out the same each time
    refused(["'0' has 14 images", "20"], open_pools, parse_mixture(path), config(path))
    open_pools(parse_mixture(path), config(path, shots=7))
    make_user(path, (5, 5), n=60)  # these are shifted
    open_pools(parse_mixture(path), config(path))
    refused("'0' has 14 images", open_pools, parse_mixture(path), config(path, image_shift=0))
    refused(["max_shift 5", "5 wide"], open_pools, parse_mixture(path), config(path, image_shift=5))
    refused(["x_shift 6", "5 wide"], open_pools, parse_mixture(path), config(path, p_x_shift=0.1, x_shift=6))


# ---- what comes on top

def test_each_augmentation_on_top_comes_with_its_own_probability():
    c = config("glyphs", p_task_dropout=0.1, p_example_dropout=0.3, p_class_permutation=0.5, p_x_shift=0.7,
               dropout=0.2, class_permutations=6, x_shift=2)
    pools, g = {"glyphs": glyph_like_pool()}, rng(8)
    found = [sample_task(g, c, pools).augmentation for _ in range(600)]
    come = np.array([[a.task_dropout == 0.2, a.example_dropout == 0.2, a.class_permutations == 6, a.x_shift == 2]
                     for a in found])
    none = [[a.task_dropout == 0, a.example_dropout == 0, a.class_permutations == 0, a.x_shift == 0] for a in found]
    assert np.array_equal(come, ~np.array(none))
    p = np.array([0.1, 0.3, 0.5, 0.7])
    assert (np.abs(come.mean(0) - p) < 4 * np.sqrt(p * (1 - p) / 600)).all()
    both = (come[:, :, None] & come[:, None, :]).mean(0) - np.outer(p, p)  # independent of one another
    assert np.abs(both[~np.eye(4, dtype=bool)]).max() < 0.08
    assert {a.max_shift for a in found} == {1, 5}  # besides what the kind of task does itself


@pytest.mark.parametrize("shape, kept", [((4, 4), 3), ((7,), 0), (None, 3)])
def test_on_top_of_letters_and_of_a_users_set(tmp_path, shape, kept):
    path = str(tmp_path / "mine.npz")
    if shape:
        make_user(path, shape)
    c = config(path if shape else "letters", **dict.fromkeys(TOP, 1.0))
    task = sample_task(rng(), c, open_pools(parse_mixture(c.tasks), c))
    shift = 0 if shape == (7,) else 1
    assert task.augmentation == Augmentation(shift, task_dropout=0.25, example_dropout=0.25, class_permutations=4,
                                             x_shift=kept)
    x, _ = task.segment(rng(), 1, 50, 1, 10)
    assert np.isfinite(x).all()
    assert shape or "dropped" in task.description and set(task.class_names) <= set(letters("train"))


# ---- the whole

@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_cifar_binary(folder)
    make_imagenet_train(folder, np.tile(np.arange(100, 140), 3))
    make_user(folder / "mine.npz", (30, 30))
    c = config(f"glyphs,cifar10,imagenet16,letters,{folder / 'mine.npz'}", data_dir=str(folder), shots=3,
               **dict.fromkeys(TOP, 0.3))
    return c, {"glyphs": glyph_like_pool()} | open_pools(parse_mixture(c.tasks)[1:], c)


def test_a_task_depends_on_the_generator_and_the_pools_content_alone(opened):
    c, pools = opened
    halves, names = {name: pool_arrays(pools[name]) for name in reversed(pools)}, set()
    rebuilt = {name: pool_from({key: array.copy() for key, array in arrays.items()}, meta)
               for name, (arrays, meta) in halves.items()}
    for seed in range(40):
        a, b = sample_task(rng(seed), c, pools), sample_task(rng(seed), c, rebuilt)
        assert (a.name, a.description, a.augmentation) == (b.name, b.description, b.augmentation)
        assert same_draws(a, b)
        names.add(a.name.split("-")[0])
    assert names == {"glyphs", "cifar10", "imagenet16", "letters", "mine.npz"}
    assert not same_draws(sample_task(rng(0), config(), {}), sample_task(rng(1), config(), {}))


def test_the_log_says_what_is_in_the_pools(opened):
    c, pools = opened
    lines = describe(parse_mixture(c.tasks), pools).splitlines()
    assert len(lines) == 5 and all("20.0%" in line for line in lines)
    assert all(word in lines[1] for word in ("cifar10", "20 images", "10 classes", "768 inputs"))
    assert all(word in lines[3] for word in ("letters", "40 classes", "196 inputs"))
    assert "20 classes" in describe(parse_mixture("letters"), {}, "upper")
    assert largest_inputs(c, pools) == 900 and largest_inputs(c, {}) == 196


def test_settings_of_tasks():
    assert make_config("paper", {}).tasks == "glyphs:0.5,cifar10:0.25,imagenet16:0.25"
    assert [getattr(make_config("paper", {}), name) for name in TOP] == [0.1] * 4
    for preset in ("laptop", "workshop"):
        c = make_config(preset, {})
        assert c.tasks == "letters" and not any(getattr(c, name) for name in TOP)
    for changes, words in (({"augmented": 1.5}, ["--augmented", "0 to 1"]), ({"p_x_shift": -0.1}, "--p-x-shift"),
                           ({"p_task_dropout": float("nan")}, "--p-task-dropout"), ({"dropout": 1.0}, "--dropout"),
                           ({"glyph_ways": "10,1"}, ["--glyph-ways", "'10,1'"]), ({"imagenet_ways": ""}, "--imagenet"),
                           ({"imagenet_ways": "ten"}, ["--imagenet-ways", "'ten'"]), ({"rotation": 361.0}, "--rot")):
        refused(words, make_config, "laptop", changes)
    saved = vars(config(data_dir="/there"))
    assert differing_fields(config(data_dir="/here"), saved) == []
    assert differing_fields(config("glyphs"), saved) == ["tasks"]
