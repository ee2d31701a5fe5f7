"""The validation suite: what is in it and what never is, the same for every theta; its measure and its yardstick."""
import sys

import numpy as np
import pytest

import unsup_meta as um
from ops.data import load_dataset
from ops.data.letters import HELD_OUT_LETTERS
from ops.tasks import measure as measuring, world
from ops.tasks.measure import components, components_accuracy, gathered, measure, problem, score, suite_score, tuned_ridge
from ops.tasks.mixture import SETS as MIXTURE_SETS
from ops.tasks.suite import SETS, SHOTS, open_suite, sets_of, suite_task
from small_data import (make_cifar_binary, make_idx, make_imagenet, make_imagenet_train, make_imdb, make_omniglot, rng,
                        small_theta)

FILES = ("scripts", "photographs")  # sets that come from files; the others are made
MADE = [name for name in SETS if name not in FILES]


@pytest.fixture(scope="module", autouse=True)
def small_world():
    """Two groups of each held-out family, and no others."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world, "FAMILIES", {})
        patched.setattr(world, "HELD_OUT", {name: family._replace(groups=2) for name, family in world.HELD_OUT.items()})
        yield


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A folder with small versions of every data set that this project knows."""
    folder = tmp_path_factory.mktemp("data")
    make_cifar_binary(folder, 100)
    make_omniglot(folder, x=rng(3).integers(0, 256, (640, 28, 28)).astype(np.uint8), y=np.repeat(np.arange(32), 20),
                  alphabet=np.repeat([0, 1, 2, 3], 160))
    make_idx(folder)
    make_idx(folder, "fashion-mnist")
    make_imagenet(folder)
    make_imagenet_train(folder, [1, 2, 3])
    make_imdb(folder)
    return folder


@pytest.fixture(scope="module")
def pools(full):
    return open_suite(str(full))[0]


opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)


def test_the_suite_opens_no_test_split_and_nothing_that_is_scored_on(full):
    del opened[:]
    found, lines = open_suite(str(full))
    names = {path[len(str(full)):] for path in opened if path.startswith(str(full)) and "world-" not in path}
    assert sets_of(found) == list(SETS) and not lines
    assert names == {"/omniglot_28.npz", "/cifar-10-batches-bin/data_batch_1.bin", "/cifar-10-batches-bin/data_batch_2.bin"}
    assert not any("mnist" in path or "embedded" in path or "aclImdb" in path for path in opened)
    scored = load_dataset("omniglot", str(full))
    assert not set(found["scripts"].class_names) & set(scored.classes)
    assert {name.split(".")[1] for name in found["restyled_letters"].class_names} <= set(HELD_OUT_LETTERS)
    assert not set(found) & set(MIXTURE_SETS) - {"letters"}


def test_sets_that_are_not_there_are_named_in_a_line_each_and_left_out(tmp_path):
    found, lines = open_suite(str(tmp_path))
    assert sets_of(found) == MADE
    said = ("without scripts", "omniglot_28.npz"), ("without photographs", "CIFAR-10")
    for line, words in zip(lines, said, strict=True):
        assert "\n" not in line and all(word in line for word in (*words, str(tmp_path), "--data-dir"))
    assert sets_of(open_suite(str(tmp_path), ["vectors"])[0]) == ["vectors"]
    make_cifar_binary(tmp_path, 20)  # four photographs are too few
    make_omniglot(tmp_path)
    found, lines = open_suite(str(tmp_path), FILES)
    assert not found and "scripts: 2 classes of 6 images" in lines[0] and "photographs: 4 classes" in lines[1]


@pytest.mark.parametrize("name", SETS)
def test_a_task_is_always_the_same_and_another_one_is_another(full, pools, name):
    again = open_suite(str(full), [name])[0]
    a, b, other = problem(name, 0, pools), problem(name, 0, again), problem(name, 1, pools)
    for field in ("xa", "ya", "xb", "yb", "reference"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert a.task.description == b.task.description and a.sizes == b.sizes
    assert not np.array_equal(a.task.permutation, other.task.permutation) and a.sizes != other.sizes
    assert a.ya.shape[:2] == (measuring.DRAWS, a.task.classes * SHOTS) and a.sizes[0] == a.task.features


@pytest.mark.parametrize("name", [*FILES, "vectors"])  # the others are shifted, so that no two images are equal
def test_labelled_and_test_points_share_no_image(pools, name):
    one = problem(name, 0, pools)
    for xa, xb in zip(one.xa, one.xb):
        labelled = {row.tobytes() for row in xa}
        assert len(labelled) == len(xa) and not labelled & {row.tobytes() for row in xb}


def test_tasks_are_of_held_out_letters_and_of_one_group_of_one_family_after_the_other(pools):
    for index in range(4):
        assert set(suite_task("heldout-letters", index, pools).class_names) <= set(HELD_OUT_LETTERS)
        task = suite_task("pictures", index, pools)
        assert task.set_name == SETS["pictures"][index % 3]
        assert len({name.split(".")[0] for name in task.class_names}) == 1 and task.classes == 10


@pytest.mark.parametrize("name", MADE)
def test_tasks_that_are_made_can_be_solved_and_are_not_solved_at_once(pools, name):
    assert 0.4 < np.mean([components_accuracy(problem(name, index, pools)) for index in range(3)]) < 0.85


# ---- the measure

def test_the_margin_of_components_is_zero(pools):
    one = problem("vectors", 0, pools)
    features = components(one)
    accuracy = score(one, features, tuned_ridge(one, features))
    found = gathered([[accuracy, accuracy]], [components_accuracy(one)])
    assert found["margin"] == [0, 0] and found["accuracy"] == [found["components"]] * 2
    assert components(one)(one.reference).var(axis=0)[0] == components(one)(one.reference).var(axis=0).max()


def test_the_ridge_is_tuned_by_leaving_points_out(pools, monkeypatch):
    whole = problem("vectors", 1, pools)
    one = whole._replace(xa=whole.xa[:2], ya=whole.ya[:2])
    monkeypatch.setattr(measuring, "RIDGES", np.array([1e-2, 1e2, 1e4]))
    right = dict.fromkeys(measuring.RIDGES, 0)
    for x, y in zip(one.xa, one.ya):
        A, target = um.with_ones(components(one)(x)), um.normalise_targets(y)
        for ridge in right:
            for i in range(len(A)):
                rest = np.arange(len(A)) != i
                right[ridge] += (A[i] @ um.solve_ridge(A[rest], target[rest], ridge)).argmax() == y[i].argmax()
    assert tuned_ridge(one, components(one)) == max(right, key=right.get) and len(set(right.values())) == 3


def test_a_theta_is_scored_on_the_way_and_with_statistics_of_the_reference(pools):
    theta, one = small_theta(), problem("vectors", 0, pools, ((9,),), 8)
    at_two, at_four = measure(theta, one, (2, 4), 3e-3, 1e-3)
    assert at_four == measure(theta, one, (4,), 3e-3, 1e-3)[0] != at_two == measure(theta, one, (2,), 3e-3, 1e-3)[0]
    half = one._replace(xb=one.xb[:, ::2], yb=one.yb[:, ::2])  # a point's feature does not depend on its neighbours
    rest = one._replace(xb=one.xb[:, 1::2], yb=one.yb[:, 1::2])
    halves = [measure(theta, part, (2,), 3e-3, 1e-3)[0][1] for part in (half, rest)]
    assert at_two[1] == pytest.approx(np.mean(halves))
    squared = measure(theta, one, (2,), 3e-3, 1e-3, cosine=False)[0]
    assert squared[1] == at_two[1] and squared[0] != at_two[0]
    still = measure(theta, one, (1, 2), 3e-3, 1e-3, update=lambda phi, x: phi)
    assert still[0] == still[1] != at_two
    broken = measure(theta | {"merge": theta["merge"] * np.nan}, one, (1, 2), 3e-3, 1e-3)
    assert np.isnan([J for J, _ in broken]).all() and [accuracy for _, accuracy in broken] == [0, 0]


def test_the_score_is_the_margin_over_times_then_sets():
    a = gathered([[(1.0, 0.5), (0.5, 0.75)], [(2.0, 0.25), (1.5, 0.5)]], [0.25, 0.25])
    assert a == {"J": [1.5, 1.0], "accuracy": [0.375, 0.625], "margin": [0.125, 0.375], "components": 0.25}
    assert suite_score({"a": a, "b": a | {"margin": [-0.25, -0.75]}}) == pytest.approx(-0.125)
