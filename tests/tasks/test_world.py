"""The world of tasks without download: in the band, the same by stream, of many kinds, nothing held out in it, its file."""
import os
from collections import Counter

import numpy as np
import pytest

from ops.data.glyphs import DIGITS, distances
from ops.data.letters import HELD_OUT_LETTERS, letters_pool
from ops.data.render import bundled_fonts, render_face
from ops.scoring.few_shot import few_shot_accuracy
from ops.scoring.methods.components import COMPONENTS, project_on_components
from ops.tasks import world
from ops.tasks.augment import Augmentation
from ops.tasks.mixture import SETS, parse_mixture, sample_task
from ops.tasks.task import make_task
from ops.tasks.world import characters
from ops.tasks.world.views import CANVAS, IMAGES, Style, views
from small_data import config, refused, rng, same_draws

EVERY = world.FAMILIES | world.HELD_OUT
STILL = Style(*[0.0] * 7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def pools(folder):
    """Three groups of every family: the first of the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        for table in ("FAMILIES", "HELD_OUT"):
            patch.setattr(world, table, {n: f._replace(groups=3) for n, f in getattr(world, table).items()})
        return world.world_pools(EVERY, folder)


@pytest.fixture
def small(monkeypatch):
    """A world of one quickly drawn family to train on and one held out; {"drawn": how often one was drawn}."""
    drawn, draw = Counter(), world._drawn
    monkeypatch.setattr(world, "FAMILIES", {"topics64": EVERY["topics64"]._replace(groups=2)})
    monkeypatch.setattr(world, "HELD_OUT", {"warped32": EVERY["warped32"]._replace(groups=1)})
    monkeypatch.setattr(world, "_drawn", lambda *args: drawn.update(["drawn"]) or draw(*args))
    return drawn


def group_task(pool, group, seed=0, ways=10):
    classes = np.sort(rng(seed).permutation(pool.groups[group])[:ways])
    return make_task(rng(seed), pool.name, "", pool, classes, Augmentation(1 if pool.side else 0))


def accuracy(task):
    """10-shot accuracy of the task's 32 leading components, as `evaluate.py score` has it."""
    xa, ya, xb, yb = (a.reshape(-1, a.shape[-1]) for a in task.labelled_pair(rng(1), 10, 5))
    train, test = project_on_components(xa, COMPONENTS, xa, xb)
    return few_shot_accuracy(train, ya.argmax(1), test, yb.argmax(1), 10, 5, rng(2)).mean()


# ---- what is drawn

@pytest.mark.parametrize("name", EVERY)
def test_ten_examples_a_class_tell_some_but_not_all_and_groups_differ(pools, name):
    found = np.array([[accuracy(group_task(pools[name], group, seed)) for seed in range(2)] for group in pools[name].groups])
    assert 0.5 < found.mean() < 0.8 and ((0.36 < found) & (found < 0.89)).all()
    assert np.ptp(found.mean(axis=1)) > 0.03


@pytest.mark.parametrize("name", EVERY)
def test_a_family_is_drawn_from_its_own_streams_alone(pools, folder, name):
    one = world._drawn(name, EVERY[name]._replace(groups=1), folder)
    assert np.array_equal(one[f"{name}-images"], pools[name].images[:len(one[f"{name}-images"])])
    first, second = (pools[name].images[IMAGES * np.array(pools[name].groups[group])[:5]] for group in "01")
    assert not (first == second).all(axis=1).any()


@pytest.mark.parametrize("name", EVERY)
def test_images_fill_their_range_and_are_all_different(pools, name):
    pool = pools[name]
    vectors = name in world.VECTORS or name == "warped32"
    assert (pool.side is None) == vectors and pool.images.dtype == (np.float32 if vectors else np.uint8)
    assert len(pool.counts) == sum(map(len, pool.groups.values())) and set(pool.counts) == {IMAGES}
    assert len(np.unique(pool.images, axis=0)) > 0.98 * len(pool.images)
    if not vectors:
        assert pool.images.min() == 0 and pool.images.max() == 255 and pool.images.std() > 40
    elif name.startswith("topics"):
        assert np.array_equal(pool.images, np.rint(pool.images)) and pool.images.min() == 0
    assert pool.images.shape[1] == (int("".join(filter(str.isdigit, name))) if vectors else 196)


def test_views_of_a_still_style_are_the_middle_of_the_canvas_and_others_move():
    canvases = rng().random((3, 2, CANVAS, CANVAS), dtype=np.float32)
    middle = canvases[:, :, 6:-6, 6:-6].reshape(6, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(6, 196)
    assert np.abs(views(rng(), canvases, STILL, count=2) / 255 - middle).max() < 0.51 / 255
    dot = np.zeros((1, 1, CANVAS, CANVAS), np.float32)
    dot[..., 18:22, 18:22] = 1
    at = np.arange(14) - 6.5
    for style, reach in ((STILL._replace(shift=2.0), 2), (STILL._replace(turn=15.0, stretch=0.2, shear=0.2), 0)):
        shown = views(rng(), dot, style, count=300).reshape(300, 14, 14) / 255
        mass = shown.sum(axis=(1, 2))
        y, x = (shown.sum(axis=2) @ at) / mass, (shown.sum(axis=1) @ at) / mass
        assert max(abs(x).max(), abs(y).max()) < reach + 0.05 and np.ptp(x) > 1.7 * reach and np.ptp(y) > 1.7 * reach
    assert np.array_equal(Style().times(2.0), [*(2 * np.array(Style()[:-1])), Style().pivot])


# ---- what is not in it

def test_no_class_passes_for_a_held_out_letter_a_digit_or_another_class(pools, folder):
    letters, faces = letters_pool(), [render_face(path, DIGITS) for path in bundled_fonts()]
    held_out = letters.images[np.isin(np.repeat(letters.class_names, letters.counts), list(HELD_OUT_LETTERS))]
    digits = np.stack([image for face in faces for image in face.values()])
    upright = [c for c in letters.class_names if c not in HELD_OUT_LETTERS]
    for source, least in ((characters.turned_letters, 0.45), (characters.training_glyphs, 0.3)):
        pool = source(folder)
        images = np.split(pool.images / np.float32(255 if pool.images.dtype == np.uint8 else 1), np.cumsum(pool.counts)[:-1])
        near = [min(distances(x, others).min(axis=1).mean() for others in (held_out, digits)) for x in images]
        assert min(near) > least and len(near) > 100
        if source is characters.turned_letters:
            between = [distances(a, np.concatenate(images[:i] + images[i + 1:])).min(axis=1).mean()
                       for i, a in enumerate(images)]
            assert min(between) > 0.2 and {name[0] for name in pool.class_names} <= set(upright)
    names = {name.split(".", 1)[1] for name in pools["restyled"].class_names}
    assert len(names) > 60 and not names & set(HELD_OUT_LETTERS + DIGITS)
    assert {name.split(".", 1)[1] for name in pools["restyled_letters"].class_names} == set(HELD_OUT_LETTERS)


def test_held_out_families_cannot_be_trained_on():
    assert not set(world.HELD_OUT) & set(SETS)
    for name in world.HELD_OUT:
        refused([f"'{name}' is unknown", "world", "vectors"], parse_mixture, name)


# ---- tasks

def test_world_and_vectors_stand_for_their_families_in_equal_shares():
    assert parse_mixture("world") == [(name, pytest.approx(1 / 7)) for name in world.PICTURES]
    assert dict(parse_mixture("letters:1,vectors:3")) == pytest.approx(
        {"letters": 0.25} | dict.fromkeys(world.VECTORS, 0.75 / len(world.VECTORS)))
    assert dict(parse_mixture("turned:0.3,world:0.7"))["turned"] == pytest.approx(0.4)
    assert parse_mixture("world:0,fields") == [("fields", 1)]
    refused("'world' twice", parse_mixture, "world,world:2")


@pytest.mark.parametrize("name", ["silhouettes", "topics64"])
def test_a_task_is_of_one_group_and_another_draw_is_another_task(pools, name):
    c, g = config(name, p_x_shift=0.5), rng()
    tasks = [sample_task(g, c, pools) for _ in range(30)]
    groups = [{class_name.split(".")[0] for class_name in task.class_names} for task in tasks]
    assert set(map(len, groups)) == {1} and set.union(*groups) == {"0", "1", "2"}
    assert len({task.class_names for task in tasks}) == 30 and {task.classes for task in tasks} == {10}
    assert not same_draws(tasks[0], tasks[1]) and same_draws(sample_task(rng(9), c, pools), sample_task(rng(9), c, pools))
    assert sample_task(rng(), config(name, ways=90), pools).classes == len(pools[name].groups["0"])


# ---- the file that it is kept in

def test_what_is_drawn_is_kept_in_one_file(small, tmp_path):
    first = world.world_pools(["topics64"], str(tmp_path))
    assert len(os.listdir(tmp_path)) == 1 and small["drawn"] == 2
    again = world.world_pools(["warped32", "topics64"], str(tmp_path))
    assert small["drawn"] == 2 and list(again) == ["warped32", "topics64"]
    assert np.array_equal(first["topics64"].images, again["topics64"].images)
    assert first["topics64"].groups == again["topics64"].groups and not again["topics64"].images.flags.writeable
    assert world.world_pools([], str(tmp_path / "none")) == {} and not (tmp_path / "none").exists()


def test_a_damaged_file_or_one_of_other_code_is_drawn_anew(small, tmp_path, monkeypatch):
    first = world.world_pools(["topics64"], str(tmp_path))["topics64"]
    path, = tmp_path.iterdir()
    whole = path.read_bytes()
    for count, damaged in enumerate((b"", whole[:len(whole) // 2], whole[:5000] + b"\xff\xff" + whole[5002:]), 2):
        path.write_bytes(damaged)
        assert np.array_equal(world.world_pools(["topics64"], str(tmp_path))["topics64"].images, first.images)
        assert small["drawn"] == 2 * count and path.read_bytes() == whole
    monkeypatch.setattr(world, "_key", lambda: path.name.split("-")[1].split(".")[0] + "other")
    world.world_pools(["topics64"], str(tmp_path))
    assert small["drawn"] == 10


def test_where_nothing_can_be_written_nothing_is_kept(small, tmp_path):
    (tmp_path / "file").write_text("")
    for count in (2, 4):
        assert len(world.world_pools(["topics64"], str(tmp_path / "file" / "below"))["topics64"].counts) == 40
        assert small["drawn"] == count


def test_a_family_that_there_is_not():
    refused(["'clouds'", "fields", "gratings"], world.world_pools, ["fields", "clouds"])
