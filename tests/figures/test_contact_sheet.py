"""Contact sheets: the words are what was done, every kind of task is there, `figure tasks` and its files."""
import io
import json
import os
import sys

import numpy as np
import pytest

import evaluate
from figures import contact_sheet, tasks
from figures.contact_sheet import (STAGES, as_picture, class_label, draw_examples, kinds_of, numbers_of, picture_of,
                                   read_targets, task_of_kind, words_of)
from ops.command_line import exit_code
from ops.data.pool import Pool
from ops.tasks.augment import Augmentation
from ops.tasks.mixture import open_pools
from ops.tasks.task import make_task
from small_data import config, glyph_like_pool, make_user, rng
from small_scores import as_id, refused_command

MIXTURE = "glyphs:0.5,cifar10:0.25,imagenet16:0.25"
EACH_ON_TOP = ["On top: dropout, one mask a task", "On top: dropout, one mask an image",
               "On top: pixels in another order", "On top: shifted along x"]


def made_pool(name="made", classes=6, n=5, side=8, channels=1, kind=np.uint8):
    images = rng(3).integers(0, 256, (classes * n, channels * side * side)).astype(kind)
    images = images if kind == np.uint8 else images / 128 - 1
    return Pool(name, images, np.full(classes, n), tuple(f"c{i}" for i in range(classes)), side, channels)


def smooth_pool(side=14):
    """Images of three soft spots each, so that a small error of an angle is a small error of an image."""
    v, u = np.mgrid[:side, :side]
    centres = rng(5).uniform(3, side - 4, (12, 3, 2))
    spots = [sum(np.exp(-((v - y) ** 2 + (u - x) ** 2) / 6) for y, x in three) for three in centres]
    images = np.array(spots, np.float32).reshape(12, -1) / 2
    return Pool("smooth", images, np.full(3, 4), ("a", "b", "c"), side)


def moved(image, angle, dx, dy):
    """A plain rotation by `angle` degrees counter-clockwise, then a move right by dx and down by dy; zeros enter."""
    side, a = len(image), np.deg2rad(angle)
    centre, padded, (y, x) = (side - 1) / 2, np.pad(image, 2 * side), np.mgrid[:side, :side]
    u, up = x - dx - centre, centre - (y - dy)
    right, above = u * np.cos(a) + up * np.sin(a), up * np.cos(a) - u * np.sin(a)  # turned back
    row, column = centre - above + 2 * side, centre + right + 2 * side
    r, c = row.astype(int), column.astype(int)
    out = sum(padded[i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
              for i, j in ((r, c), (r, c + 1), (r + 1, c), (r + 1, c + 1)))
    return np.where(np.maximum(abs(u), abs(up)) > centre, 0, out)


# --- Examples and their words -------------------------------------------------------------------


def test_the_words_are_what_was_done():
    pool = smooth_pool()
    task = make_task(rng(1), "t", "", pool, [2, 0, 1], Augmentation(max_shift=4, rotation=360, targets=True))
    rows, before, _, y = draw_examples(task, [7])
    seen = set()
    for row, image, target in zip(rows, before, y):
        found = read_targets(task, target)
        named, turned, right, down = words_of(task, found)
        angle = float(turned.removeprefix("angle ").removesuffix("°"))
        dx, dy = (int(word.split()[1]) for word in (right, down))
        assert (found["angle"], found["dx"], found["dy"]) == (angle, dx, dy)
        assert named == f"class {found['class'] + 1} of 3" and [2, 0, 1][found["class"]] == row // 4
        original, image = pool.images[row].reshape(14, 14), image.reshape(14, 14)
        assert np.abs(moved(original, angle, dx, dy) - image).max() < 0.01
        for wrong in ((-angle, dx, dy), (angle + 5, dx, dy), (angle, dx + 1, dy), (angle, dx, dy - 1)):
            assert np.abs(moved(original, *wrong) - image).max() > 0.02
        seen |= {dx < 0, dy < 0, angle > 180}
    assert seen == {True, False}


def test_words_say_only_what_is_a_target():
    pool = smooth_pool()
    expected = [(Augmentation(max_shift=4, rotation=90), {"class"}),
                (Augmentation(4, 0.0, True), {"class", "dx", "dy"}),
                (Augmentation(0, 90.0, True), {"class", "angle"})]
    for augmentation, keys in expected:
        task = make_task(rng(), "t", "", pool, [0, 1], augmentation)
        for target in draw_examples(task, [1])[3]:
            found = read_targets(task, target)
            assert set(found) == keys and len(words_of(task, found)) == len(keys)
            assert 0 <= found.get("angle", 0) <= 90
    task = make_task(rng(), "t", "", pool, [0, 1], Augmentation(5, 360.0, True))
    found = read_targets(task, np.array([0, 1, -1e-5, 1, -1, 0.2], np.float32))
    assert found == {"class": 1, "angle": 0, "dx": -5, "dy": 1}
    assert words_of(task, found | {"dy": 0}) == ["class 2 of 2", "angle 0.0°", "dx -5 px", "dy 0"]


@pytest.mark.parametrize("pool", [made_pool(), made_pool(channels=3), made_pool(kind=np.float32),
                                  made_pool()._replace(side=None)], ids=["grey", "colour", "float", "vectors"])
def test_the_permutation_undone_gives_the_pools_image(pool):
    task = make_task(rng(2), "t", "", pool, [4, 1, 3])
    rows, before, x, y = draw_examples(task, [3, 1])
    scale = np.float32(255 if pool.images.dtype == np.uint8 else 1)
    assert np.array_equal(before, pool.images[rows] / scale)
    assert np.array_equal(x, before[:, task.permutation]) and not np.array_equal(x, before)
    assert len(set(rows)) == 6 and [[4, 1, 3][c] for c in y.argmax(axis=1)] == (rows // 5).tolist()


def test_pictures_of_grey_colour_and_vectors():
    grey, colour = made_pool(side=2), made_pool(side=2, channels=3)
    assert as_picture(grey, np.array([0, 1, 0.2, 2])).tolist() == [[0, 255], [51, 255]]
    picture = as_picture(colour, np.arange(12) / 255)
    assert picture[0, 1].tolist() == [1, 5, 9] and picture[1, 0].tolist() == [2, 6, 10]
    vectors = as_picture(grey._replace(side=None), np.array([-1.0, 0, 1, 3, 3]), low=-1, high=3)
    assert vectors.tolist() == [[0, 64, 128], [255, 255, 128], [128, 128, 128]]
    many = as_picture(made_pool(side=2, channels=2), np.array([0, 0, 0.4, 1, 0.4, 0, 0.4, 1]))
    assert many.tolist() == [[51, 0], [102, 255]]


def test_labels_name_characters_by_number():
    assert class_label(glyph_like_pool(), "α") == "U+03B1 GREEK SMALL LETTER ALPHA"
    assert class_label(made_pool("imagenet16"), "387") == "label 387" and class_label(made_pool(), "7") == "7"


# --- The sheet ----------------------------------------------------------------------------------


def mixture_pools():
    return {"glyphs": glyph_like_pool(), "cifar10": made_pool("cifar10", 10, side=16, channels=3),
            "imagenet16": made_pool("imagenet16", 30, side=16, channels=3)}


@pytest.fixture(scope="module")
def sheet():
    return numbers_of(config(MIXTURE, p_x_shift=0.1, seed=3), mixture_pools())


def test_every_kind_has_a_panel_of_its_kind(sheet):
    panels = {panel["title"]: panel for panel in sheet["panels"]}
    assert list(panels) == [
        "Glyphs: random characters, upright", "Glyphs: random characters, turned and shifted",
        "Glyphs: letters only, turned and shifted", "Glyphs: mathematical symbols, turned and shifted",
        "Glyphs: currency symbols, turned and shifted", "CIFAR-10", "ImageNet", *EACH_ON_TOP]
    pool = glyph_like_pool()
    done = {title: {name for name, value in panel["augmentation"].items() if value}
            for title, panel in panels.items()}
    for title, group in zip(list(panels)[2:5], ("letters", "maths", "currency")):
        allowed = {pool.class_names[c] for c in pool.groups[group]}
        assert panels[title]["ways"] == 10 and set(panels[title]["class_names"]) <= allowed
    for title in list(panels)[1:5]:
        assert done[title] == {"max_shift", "rotation", "targets"}
        assert all({"angle", "dx", "dy"} < set(example["targets"]) for example in panels[title]["examples"])
    for title in ("Glyphs: random characters, upright", "CIFAR-10", "ImageNet"):
        assert done[title] == {"max_shift"}
    extras = ("task_dropout", "example_dropout", "class_permutations", "x_shift")
    for title, extra in zip(EACH_ON_TOP, extras):
        assert done[title] == {"max_shift", extra} and panels[title]["set"] == "glyphs"
    assert "In 10% of the tasks" in panels[EACH_ON_TOP[3]]["note"]
    assert "Off in these settings (--p-task-dropout 0)" in panels[EACH_ON_TOP[0]]["note"]
    assert [panels[title]["note"][:16] for title in ("CIFAR-10", "ImageNet")] == ["25% of the tasks"] * 2


def test_examples_are_what_the_numbers_say(sheet):
    pools = mixture_pools()
    for panel in sheet["panels"]:
        pool, ends = pools[panel["set"]], np.cumsum(pools[panel["set"]].counts)
        assert len(panel["examples"]) == 6
        for example in panel["examples"]:
            stored, augmented, worker = (picture_of(panel, example, stage) for stage in STAGES)
            assert np.array_equal(stored, as_picture(pool, pool.images[example["row"]] / 255))
            owner = int(np.searchsorted(ends, example["row"], side="right"))
            assert pool.class_names[owner] == example["class_name"]
            assert panel["class_names"][example["targets"]["class"]] == example["class_name"]
            assert np.array_equal(np.sort(augmented, axis=None), np.sort(worker, axis=None))  # in another order
            assert not np.array_equal(augmented, worker)


def test_dropout_is_seen_in_the_pictures(sheet):
    panels = {panel["title"]: panel for panel in sheet["panels"]}
    for title, same in zip(EACH_ON_TOP, (True, False)):
        dropped = [picture_of(panels[title], example, "augmented")[2:-2, 2:-2] == 0  # shifts enter no further
                   for example in panels[title]["examples"]]
        always = np.mean(np.logical_and.reduce(dropped))
        assert 0.1 < np.mean(dropped) < 0.4 and (always > 0.1 if same else always < 0.1)


def test_settings_change_the_kinds():
    titles = lambda pools, **changes: [kind.title for kind in kinds_of(config("glyphs", **changes), pools)]
    pools = mixture_pools()
    assert "Glyphs: random characters, upright" not in titles(pools, augmented=1.0)
    assert titles(pools, augmented=0.0)[:2] == ["Glyphs: random characters, upright",
                                                "Glyphs: letters only, turned and shifted"]
    assert "Glyphs: random characters, shifted" in titles(pools, rotation=0.0)
    assert titles(pools, dropout=0.0, x_shift=0)[-1] == EACH_ON_TOP[2]
    assert titles(pools)[-4:] == EACH_ON_TOP
    small, vectors = made_pool(side=3), made_pool()._replace(side=None)
    for pool in (small, vectors):
        kinds = kinds_of(config("a/mine.npz"), {"a/mine.npz": pool})
        assert [kind.title for kind in kinds] == ["mine.npz", *EACH_ON_TOP[:3]]
    c, pools = config("a/mine.npz", x_shift=2), {"a/mine.npz": small}
    last = kinds_of(c, pools)[-1]
    assert last.title == EACH_ON_TOP[3] and task_of_kind(rng(), last, c, pools).augmentation.x_shift == 2


def test_a_sheet_depends_on_the_seed(sheet):
    again = numbers_of(config(MIXTURE, p_x_shift=0.1, seed=3), mixture_pools())
    other = numbers_of(config(MIXTURE, p_x_shift=0.1, seed=4), mixture_pools())
    assert again == sheet != other


def test_values_outside_0_to_1_are_scaled_and_said_so():
    panel = numbers_of(config("m.npz", ways=3), {"m.npz": made_pool(kind=np.float32)})["panels"][0]
    picture = picture_of(panel, panel["examples"][0], STAGES[0])
    assert "Black is -1" in panel["note"] and picture.min() < 20 and picture.max() > 235


def test_the_picture_shows_images_and_words(sheet):
    figure = contact_sheet.draw(json.loads(json.dumps(sheet)))
    texts = [*figure.texts, *(text for ax in figure.axes for text in ax.texts)]
    shown = [" ".join(text.get_text().split()) for text in texts]  # \xa0 is a blank here too
    drawn = [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]
    assert len(drawn) == 6 * len(sheet["panels"])
    for picture, (panel, example) in zip(drawn, [(p, e) for p in sheet["panels"] for e in p["examples"]]):
        side = len(picture)
        for k, stage in enumerate(STAGES):
            assert np.array_equal(picture[:, k * (side + 1):][:, :side], picture_of(panel, example, stage))
    for panel in sheet["panels"]:
        assert panel["title"] in shown and panel["note"] in shown
        for example in panel["examples"]:
            assert f"{example['label']} {', '.join(example['words'])}" in shown
    assert not any("α" <= char <= "ϐ" for text in shown for char in text)  # the font may lack them
    assert figure.get_size_inches()[0] * figure.dpi <= 1600


# --- The command and its files ------------------------------------------------------------------


def figure(folder, *flags):
    return evaluate.main(["figure", "tasks", "--folder", str(folder), *flags])


def test_the_command_prints_words_and_writes_numbers_beside_the_picture(tmp_path, capsys):
    data, out = tmp_path / "mine.npz", tmp_path / "out"
    make_user(data, (6, 6, 3), n=150)
    assert figure(out, "--tasks", f"letters:3,{data}:1", "--seed", "5", "--p-x-shift", "0.2", "--image-shift", "2") == 0
    text = capsys.readouterr().out
    numbers = json.loads((out / "tasks.json").read_text())
    c = config(f"letters:3,{data}:1", seed=5, p_x_shift=0.2, image_shift=2)
    expected = json.loads(json.dumps(numbers_of(c, open_pools(c.tasks, c))))
    assert {key: numbers[key] for key in expected} == expected and "data_dir" not in numbers["settings"]
    assert [panel["title"] for panel in numbers["panels"]] == ["Letters", "mine.npz", *EACH_ON_TOP]
    for words in ("letters: 75.0% of the tasks, 900 images of 40 classes", "of 3 classes", "drawn: ",
                  *(panel["task"] for panel in numbers["panels"])):
        assert words in text
    before = (out / "tasks.png").read_bytes()
    assert before.startswith(b"\x89PNG") and not (out / "results").exists()
    data.unlink()  # the numbers are enough
    assert figure(out, "--redraw") == 0 and (out / "tasks.png").read_bytes() == before


def test_letters_need_no_data(tmp_path, capsys):
    assert figure(tmp_path, "--tasks", "letters", "--data-dir", str(tmp_path / "none")) == 0
    assert "glyphs 14x14, letters" in capsys.readouterr().out


def test_a_terminal_without_the_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "open_pools", lambda mixture, config: {"glyphs": glyph_like_pool()})
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert exit_code(lambda: figure(tmp_path, "--tasks", "glyphs")) == 0
    assert b"\\u03" in stream.buffer.getvalue()


@pytest.mark.parametrize("flags, words", [
    (["--tasks", "cifar10"], ["CIFAR-10", "does not exist", "--data-dir"]),
    (["--tasks", "letters,imagenet16"], ["ImageNet", "does not exist"]),
    (["--tasks", "absent.npz"], ["absent.npz", "no such file"]), (["--tasks", "cifar11"], ["'cifar11'", "letters"]),
    (["--tasks", "glyphs", "--font-dir", "nowhere"], ["nowhere"]), (["--glyph-ways", "1"], ["--glyph-ways"]),
    (["--rotation", "400"], ["--rotation"]), (["--tasks", "letters", "--ways", "99"], ["99 ways"]), (["--case", "odd"], ["--case"]),
    (["--preset", "huge"], ["--preset"])],
    ids=as_id)
def test_bad_input_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    refused_command(capsys, ["figure", "tasks", "--folder", str(tmp_path), "--data-dir", "empty", *flags], words)
    assert os.listdir(tmp_path) == []
