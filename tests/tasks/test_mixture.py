"""Mixtures of pools to meta-train on and the tasks drawn: shares, kinds, what comes on top, what is refused."""
import os
import shutil
from collections import Counter

import numpy as np
import pytest

from ops.data.letters import letters, letters_pool
from ops.engine.config import differing_fields, make_config
from ops.engine.shared_memory import SharedPools
from ops.tasks import mixture as mixture_module
from ops.tasks.augment import Augmentation
from ops.tasks.mixture import (FIXED_TYPES, SETS, choose_set, describe, largest_inputs, open_pools, parse_mixture,
                               sample_letters_task, sample_task)
from small_data import (config, glyph_like_pool, make_cifar_binary, make_imagenet_train, make_user, open_tasks,
                        refused, rng, same_draws)

TOP = ("p_task_dropout", "p_example_dropout", "p_class_permutation", "p_x_shift")


# ---- mixtures

@pytest.mark.parametrize("text, expected", [
    ("letters", [("letters", 1)]),
    ("glyphs:0.5,cifar10:0.25,imagenet16:0.25", [("glyphs", 0.5), ("cifar10", 0.25), ("imagenet16", 0.25)]),
    ("glyphs:3, cifar10", [("glyphs", 0.75), ("cifar10", 0.25)]),
    ("mine.npz:1,a/b.npz:3", [("mine.npz", 0.25), ("a/b.npz", 0.75)]),
    ("C:\\x.npz", [("C:\\x.npz", 1)]), ("letters:2,cifar10:0,", [("letters", 1)])])
def test_a_mixture_is_names_and_shares(text, expected):
    assert parse_mixture(text) == expected


def test_any_file_that_is_there_may_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_user("data.npz")
    os.rename("data.npz", "data.bin")
    os.makedirs("a:1")
    shutil.copy("data.bin", "a:1/mine")
    assert parse_mixture("data.bin:3,letters") == [("data.bin", 0.75), ("letters", 0.25)]
    assert parse_mixture("a:1/mine,data.bin") == [("a:1/mine", 0.5), ("data.bin", 0.5)]
    assert parse_mixture("a:1/mine:3,A1.NPZ") == [("a:1/mine", 0.75), ("A1.NPZ", 0.25)]
    refused(["A1.NPZ", "no such file"], open_tasks, "A1.NPZ")
    c, pools = open_tasks("data.bin")
    os.remove("data.bin")  # what was opened needs no file any more
    assert sample_task(rng(), c, pools).name == "data.bin-3"
    refused(["'data.bin' is unknown and no file", *SETS, ".npz"], parse_mixture, "data.bin")


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

@pytest.mark.parametrize("case", ["both", "upper"])
@pytest.mark.parametrize("shared", [True, False])
def test_letters_alone_are_sample_letters_task_to_the_bit(case, shared):
    c, pools = open_tasks(case=case, ways=7)
    a, b = rng(3), rng(3)
    task = sample_task(a, c, pools if shared else {})
    plain = sample_letters_task(b, letters_pool(), 7, 1, letters("train", case))
    assert a.bit_generator.state == b.bit_generator.state
    assert (task.name, task.description) == (plain.name, plain.description) and same_draws(task, plain)


@pytest.mark.parametrize("ways", [2, 12, 20])
def test_a_users_classes_give_what_they_have_to_many_ways(tmp_path, ways):
    path = str(tmp_path / "mine.npz")
    make_user(path, (3, 3), n=320, classes=15)
    c, pools = open_tasks(path, ways=ways, shots=5)
    g = rng()
    own = [sample_task(g, c, pools) for _ in range(40)]
    assert {(task.classes, task.set_name) for task in own} == {(min(ways, 15), "mine.npz")}
    assert {name for task in own for name in task.class_names} == set(map(str, range(0, 150, 10)))


def test_training_letters_are_not_fewer_than_asked_for():
    for case, most in (("both", 40), ("upper", 20)):
        open_tasks(case=case, ways=most)
        refused([f"{most + 1} ways of {most}", f"2 to {most}"], open_tasks, case=case, ways=most + 1)
    refused(["has 22 images", "12 shots"], open_tasks, max_shift=0, shots=12)


def test_training_tasks_never_hold_a_held_out_letter_and_both_cases_only_where_they_must():
    names = set()
    for seed in range(100):
        task = sample_letters_task(rng(seed), letters_pool())
        assert task.classes == len(set(task.class_names)) == len({c.lower() for c in task.class_names}) == 10
        assert task.set_name == "letters"
        names.update(task.class_names)
    assert names == set(letters("train"))
    assert len({c.lower() for c in sample_letters_task(rng(), letters_pool(), 30).class_names}) == 20


def test_letters_tasks_that_are_refused():
    pool = letters_pool()
    refused(["'7'", "not among"], sample_letters_task, rng(), pool, 2, 1, "ab7")
    refused("twice", sample_letters_task, rng(), pool, 2, 1, "aab")
    refused(["10 ways", "2 to 6"], sample_letters_task, rng(), pool, 10, 1, letters("heldout", "upper"))
    refused("1 ways", sample_letters_task, rng(), pool, 1)


# ---- glyphs

@pytest.fixture(scope="module")
def glyph_tasks():
    c, pools, g = config("glyphs", augmented=0.3), {"glyphs": glyph_like_pool()}, rng(4)
    return [sample_task(g, c, pools) for _ in range(900)]


def kind_of(task):
    return task.name.removeprefix("glyphs-")


def test_the_nine_kinds_of_glyph_tasks_are_equally_likely(glyph_tasks):
    found = Counter(task.name for task in glyph_tasks)
    assert set(found) == {f"glyphs-{k}" for k in (10, 13, 14, 17, 20, 30, *FIXED_TYPES)}
    assert sum((n - 100) ** 2 / 100 for n in found.values()) < 26.1  # 0.1%, 8 degrees of freedom


def test_a_fixed_type_is_ten_of_its_group_and_another_task_as_many_of_all_as_it_says(glyph_tasks):
    pool, seen = glyph_like_pool(), set()
    for task in glyph_tasks:
        classes, kind = {pool.class_names.index(c) for c in task.class_names}, kind_of(task)
        assert task.classes == (10 if kind in FIXED_TYPES else int(kind)) and kind in task.description
        assert not any(classes >= set(pair) for pair in pool.alike)
        if kind in FIXED_TYPES:
            assert classes <= set(pool.groups[kind])
        else:
            seen |= classes
    assert seen == set(range(120))


def test_fixed_types_and_a_share_of_the_others_are_augmented(glyph_tasks):
    augmented = Augmentation(max_shift=5, rotation=360, targets=True)
    others = [t.augmentation for t in glyph_tasks if kind_of(t) not in FIXED_TYPES]
    assert {t.augmentation for t in glyph_tasks if kind_of(t) in FIXED_TYPES} == {augmented}
    assert set(others) == {augmented, Augmentation(max_shift=1)}
    assert abs(np.mean([a == augmented for a in others]) - 0.3) < 0.075  # four standard errors


def test_an_augmented_glyph_task_has_its_angle_and_shift_as_targets(glyph_tasks):
    for extras in (0, 4):
        task = next(t for t in glyph_tasks if t.augmentation.extras == extras)
        x, (xa, ya, xb, yb) = task.segment(rng(), 1, 8, 1, 10)  # a character has 4 faces, 10 shots need 20 images
        assert x.shape == (1, 8, 196) and ya.shape == yb.shape == (1, 1, 10 * task.classes, task.classes + extras)


def test_glyphs_are_opened_with_the_runs_options_and_checked(monkeypatch):
    asked = []

    def opener(*args, **kwargs):
        asked.append((args, kwargs))
        return glyph_like_pool()
    monkeypatch.setattr(mixture_module, "glyph_pool", opener)
    open_tasks("glyphs", data_dir="here")
    open_tasks("glyphs", data_dir="here", font_dir="fonts", system_fonts="yes", digits="yes")
    assert asked == [((None, False, False), {"cache_dir": "here"}), (("fonts", True, True), {"cache_dir": "here"})]
    refused("111 ways of 110", open_tasks, "glyphs", glyph_ways="10,111")
    refused("has 4 images", open_tasks, "glyphs", max_shift=0)  # not augmented, always the same
    open_tasks("glyphs", max_shift=0, shots=2)
    small = glyph_like_pool(classes=36)  # 9 of each group
    monkeypatch.setattr(mixture_module, "glyph_pool", lambda *args, **kwargs: small)
    refused(["10 ways", "letters"], open_tasks, "glyphs", glyph_ways="10")


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
    task = sample_task(rng(), *open_tasks(path if shape else "letters", **dict.fromkeys(TOP, 1.0)))
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
    make_cifar_binary(folder, 15)
    make_imagenet_train(folder, np.tile(np.arange(100, 140), 3))
    make_user(folder / "mine.npz", (30, 30))
    c = config(f"glyphs,cifar10,imagenet16,letters,{folder / 'mine.npz'}", data_dir=str(folder), shots=3,
               **dict.fromkeys(TOP, 0.3))
    return c, {"glyphs": glyph_like_pool()} | open_pools(c.tasks[1:], c)


def test_a_task_depends_on_the_generator_and_the_pools_content_alone(opened):
    c, pools = opened
    copied, names = SharedPools({name: pools[name] for name in reversed(pools)}), set()
    rebuilt = copied.pools()
    for seed in range(40):
        a, b = sample_task(rng(seed), c, pools), sample_task(rng(seed), c, rebuilt)
        assert (a.name, a.description, a.augmentation) == (b.name, b.description, b.augmentation)
        assert same_draws(a, b)
        assert a.set_name == b.set_name
        names.add(a.set_name)
    assert names == {"glyphs", "cifar10", "imagenet16", "letters", "mine.npz"}
    assert not same_draws(sample_task(rng(0), config(), {}), sample_task(rng(1), config(), {}))


def test_the_log_says_what_is_in_the_pools(opened):
    c, pools = opened
    lines = describe(c.tasks, pools).splitlines()
    assert len(lines) == 5 and all("20.0%" in line for line in lines)
    assert all(word in lines[1] for word in ("cifar10", "27 images", "10 classes", "768 inputs"))
    assert all(word in lines[3] for word in ("letters", "40 classes", "196 inputs"))
    assert "20 classes" in describe(parse_mixture("letters"), pools, "upper")
    assert largest_inputs(pools) == 900 and largest_inputs({"letters": letters_pool()}) == 196


def test_settings_of_tasks():
    assert make_config("paper", {}).tasks == (("glyphs", 0.5), ("cifar10", 0.25), ("imagenet16", 0.25))
    assert [getattr(make_config("paper", {}), name) for name in TOP] == [0.1] * 4
    laptop, workshop = (make_config(preset, {}) for preset in ("laptop", "workshop"))
    assert {"letters", "silhouettes", "topics64"} < set(dict(laptop.tasks)) and workshop.tasks == (("letters", 1.0),)
    assert not any(getattr(c, name) for name in TOP for c in (laptop, workshop))
    for changes, words in (({"augmented": 1.5}, ["--augmented", "0 to 1"]), ({"p_x_shift": -0.1}, "--p-x-shift"),
                           ({"p_task_dropout": float("nan")}, "--p-task-dropout"), ({"dropout": 1.0}, "--dropout"),
                           ({"glyph_ways": "10,1"}, ["--glyph-ways", "'10,1'"]), ({"imagenet_ways": ""}, "--imagenet"),
                           ({"imagenet_ways": "ten"}, ["--imagenet-ways", "'ten'"]), ({"rotation": 361.0}, "--rot"),
                           ({"class_permutations": 1001}, ["--class-permutations", "1 to 1000"])):
        refused(words, make_config, "laptop", changes)
    saved = vars(config(data_dir="/there"))
    assert not differing_fields(config(data_dir="/here"), saved)
    assert list(differing_fields(config("glyphs"), saved)) == ["tasks"]
