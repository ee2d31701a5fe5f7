"""Pools and tasks: how batches are drawn, what is refused, and with which words."""
import numpy as np
import pytest

from ops.data.letters import letters_pool
from ops.data.pool import Pool, check_pool
from ops.errors import InputError
from ops.tasks.augment import Augmentation
from ops.tasks.task import Task, make_task
from small_data import refused, rng


SHIFTED = Augmentation(max_shift=1)


def numbered_pool(counts=(7, 5, 9), side=4, class_names=None):
    """Every image is constant, and its value is its number: a drawn image says who it is."""
    n = sum(counts)
    images = np.repeat(np.arange(1, n + 1, dtype=np.float32)[:, None], side * side, axis=1)
    return Pool("numbers", images, np.array(counts), class_names or tuple(map(str, range(len(counts)))), side)


def numbered_task(counts=(7, 5, 9), augmentation=Augmentation(), **kwargs):
    """A task of all classes of a `numbered_pool`."""
    pool = numbered_pool(counts, **kwargs)
    return Task("numbered", "numbers", pool, range(len(counts)), np.arange(16), augmentation)


# ---- Pool

def test_check_pool_names_what_does_not_fit():
    pool = numbered_pool(class_names=("ant", "bee", "cow"))
    check_pool(pool)
    check_pool(pool._replace(images=pool.images.astype(np.uint8), side=None))
    for images in (pool.images.astype(np.float64), pool.images[:, :, None], pool.images[:, ::2]):
        refused(["'numbers'", "images"], check_pool, pool._replace(images=images))
    for counts in ((7, 5, 8), (), (7.0, 5.0, 9.0), ((7, 5, 9),)):
        refused(["'numbers'", "counts"], check_pool, pool._replace(counts=np.array(counts)))
    refused("'bee' has 0", check_pool, pool._replace(counts=np.array((7, 0, 14))))
    refused("2 class names for 3", check_pool, pool._replace(class_names=("ant", "bee")))
    refused("1 x 5 x 5", check_pool, pool._replace(side=5))
    refused("3 x 4 x 4", check_pool, pool._replace(channels=3))
    for bad in ((0, 3), (1, 1), (-1,)):
        refused("group 'g'", check_pool, pool._replace(groups={"g": bad}))
        refused("group 'alike'", check_pool, pool._replace(alike=((0, 1), bad)))
    for value in (np.nan, np.inf):
        pool.images[8, 3] = value
        refused(["image 8", "NaN"], check_pool, pool)


# ---- Task

@pytest.mark.parametrize("augmentation, columns", [(Augmentation(1), 10), (Augmentation(2, 360.0, True), 14)])
def test_segment_has_the_shapes_and_types_of_a_segment(augmentation, columns):
    task = make_task(rng(), "t", "", letters_pool(), range(10), augmentation)
    x, batches = task.segment(rng(1), unrolls=3, batch_size=6, pairs=2, shots=4)
    assert x.shape == (3, 6, 196)
    assert [a.shape for a in batches] == [(3, 2, 40, 196), (3, 2, 40, columns)] * 2
    assert all(a.dtype == np.float32 and a.flags.c_contiguous for a in (x, *batches))
    assert all(a.min() >= 0 and a.max() <= 1 for a in (x, *batches[::2], batches[1][..., :10]))


def test_task_refuses_too_many_shots_by_name():
    task = numbered_task(class_names=("ant", "bee", "cow"))
    refused(["numbered", "'bee'", "5 images", "6 shots", "5 shots or fewer"], task.labelled, rng(), 6, 1)
    refused(["'bee'", "5 images", "3 shots needs 6", "2 shots or fewer"], task.labelled_pair, rng(), 3, 1)
    refused("'bee'", task.segment, rng(), 2, 4, 2, 3)
    refused("1 or more", task.labelled, rng(), 0, 1)
    task.labelled_pair(rng(), 2, 1)


def test_classes_may_be_any_of_the_pool_in_any_order_and_labels_are_one_hot_and_true():
    pool = numbered_pool((3, 4, 5, 6), class_names=("ant", "bee", "cow", "dog"))
    task = Task("some", "", pool, (3, 1), np.arange(16))
    assert (task.classes, task.n_images, task.features, task.class_names) == (2, 10, 16, ("dog", "bee"))
    x, y = task.labelled(rng(), 4, 300)
    assert set(np.unique(y)) == {0, 1} and (y.sum(2) == 1).all() and (y.sum(1) == 4).all()
    owner = np.where(x[:, :, 0] >= 13, 0, 1)
    assert np.array_equal(owner, y.argmax(2)) and set(np.unique(x)) == {4, 5, 6, 7, 13, 14, 15, 16, 17, 18}
    drawn = task.unlabelled(rng(), 10000)[:, 0].astype(int)
    shares = np.bincount(drawn, minlength=19)[[4, 5, 6, 7, 13, 14, 15, 16, 17, 18]]
    assert shares.sum() == 10000 and np.abs(shares / 1000 - 1).max() < 0.15


def test_a_task_copies_no_image():
    pool = numbered_pool()
    task = Task("live", "", pool, (0, 1, 2), np.arange(16))
    pool.images[:] = 99
    assert (task.unlabelled(rng(), 5) == 99).all() and pool.images.flags.writeable


@pytest.mark.parametrize("counts", [(30, 20), (300, 25)])
def test_draws_are_uniform_over_a_class_in_both_halves_which_share_no_image(counts):
    """Both ways to draw, for classes of few and of many images."""
    shots, draws = 10, 6000
    xa, ya, xb, yb = numbered_task(counts).labelled_pair(rng(), shots, draws)
    assert np.array_equal(ya, yb)
    for x in (xa, xb):
        frequency = np.bincount(x[:, :, 0].astype(int).ravel(), minlength=sum(counts) + 1)[1:] / draws
        expected = np.repeat([shots / n for n in counts], counts)
        assert np.abs(frequency - expected).max() < 0.03  # 4.6 standard errors of a share of 0.5
    both = np.concatenate([xa, xb], axis=1)[:, :, 0]
    assert all(len(set(row)) == 40 for row in both)


def test_pairs_of_images_are_drawn_alike_often():
    """Of a class of many images, any two are as likely to come together in a batch as any other two."""
    x, _ = numbered_task((6, 300)).labelled(rng(), 2, 30000)
    low, high = np.sort(x[:, :2, 0].astype(int) - 1, axis=1).T
    together = np.bincount(low * 6 + high, minlength=36).reshape(6, 6)[np.triu_indices(6, 1)]
    assert together.sum() == 30000 and np.abs(together / 2000 - 1).max() < 0.1  # 4.6 standard errors


# ---- classes with fewer images than a pair of batches needs

@pytest.mark.parametrize("counts", [(6, 4), (3, 9), (1, 9), (2, 2)])
@pytest.mark.parametrize("augmentation", [Augmentation(), SHIFTED])
def test_check_pairs_raises_what_a_pair_of_batches_would(counts, augmentation):
    task = numbered_task(counts, augmentation)
    for shots in range(5):
        raised = []
        for call in (lambda: task.check_pairs(shots), lambda: task.labelled_pair(rng(), shots, 1)):
            try:
                call()
                raised.append(None)
            except InputError as error:
                raised.append(str(error))
        assert raised[0] == raised[1] and (raised[0] is not None) >= (shots == 0)


def who(x):
    """The numbers of drawn `numbered_pool` images; a shift leaves the middle as it was."""
    return x[..., 5].astype(int)


def test_a_short_class_is_split_and_repeated_no_more_than_needed():
    xa, ya, xb, _ = numbered_task((7, 5, 40), SHIFTED).labelled_pair(rng(), shots=6, draws=200)
    assert (ya.sum(1) == 6).all()
    for a, b in zip(who(xa).reshape(-1, 3, 6), who(xb).reshape(-1, 3, 6)):
        for c, (in_train, in_test) in enumerate([(4, 3), (3, 2), (6, 6)]):
            assert len(set(a[c])) == in_train and len(set(b[c])) == in_test and not set(a[c]) & set(b[c])
            for part, size in ((a[c], in_train), (b[c], in_test)):
                times = np.unique(part, return_counts=True)[1]
                assert times.max() - times.min() <= 1


def test_a_short_class_uses_all_its_images_alike_often_and_splits_anew():
    xa, _, xb, _ = numbered_task((5, 5), SHIFTED).labelled_pair(rng(), shots=4, draws=6000)
    for x, share in ((xa, 3), (xb, 2)):
        images = who(x).reshape(-1, 2, 4)[:, 0]
        times = np.bincount(images.ravel(), minlength=6)[1:] / 6000
        assert np.abs(times - 4 / 5).max() < 0.05
        splits = {frozenset(row) for row in images}
        assert len(splits) == 10 and all(len(s) == share for s in splits)  # "5 choose 2", all of them


def test_a_batch_alone_repeats_only_where_a_class_is_short_for_it():
    x, _ = numbered_task((5, 9), SHIFTED).labelled(rng(), shots=8, draws=100)
    for row in who(x).reshape(-1, 2, 8):
        assert set(row[0]) == {1, 2, 3, 4, 5} and len(set(row[1])) == 8


@pytest.mark.parametrize("augmentation", [Augmentation(rotation=90.0), Augmentation(x_shift=1),
                                          Augmentation(example_dropout=0.1), SHIFTED])
def test_short_classes_are_taken_if_images_differ_from_draw_to_draw(augmentation):
    numbered_task((3, 3), augmentation).labelled_pair(rng(), 5, 2)


def test_short_classes_are_refused_where_a_repeated_image_would_be_the_same():
    pool = numbered_pool((3, 30), class_names=("ant", "bee"))
    same = make_task(rng(), "same", "", pool, (0, 1), Augmentation(task_dropout=0.2, class_permutations=2))
    refused(["'ant'", "3 images", "needs 10"], same.labelled_pair, rng(), 5, 2)
    single = Task("one", "", numbered_pool((1, 30), class_names=("ant", "bee")), (0, 1), np.arange(16), SHIFTED)
    refused(["'ant'", "1 images", "needs 2", "more images"], single.labelled_pair, rng(), 5, 2)
    assert set(who(single.labelled(rng(), 5, 1)[0])[0, :5]) == {1}


# ---- what a task refuses

def test_task_refuses_arguments_that_do_not_fit():
    pool, order = numbered_pool(), np.arange(16)
    refused("float64", Task, "t", "", pool._replace(images=pool.images.astype(np.float64)), (0, 1), order)
    refused("counts", Task, "t", "", pool._replace(counts=np.array((7, 5, 10))), (0, 1), order)
    for classes in ((0,), (0, 0), (0, 3), (-1, 0), (0.0, 1.0), ()):
        refused(["task 't'", "classes", "'numbers'"], Task, "t", "", pool, classes, order)
    refused("permutation", Task, "t", "", pool, (0, 1), np.zeros(16, int))
    refused("permutation", Task, "t", "", pool, (0, 1), np.arange(15))
    vectors = pool._replace(side=None)
    for bad in (Augmentation(max_shift=1), Augmentation(rotation=9.0), Augmentation(x_shift=1)):
        refused("no images", Task, "t", "", vectors, (0, 1), order, bad)
        refused("no images", make_task, rng(), "t", "", vectors, (0, 1), bad)


@pytest.mark.parametrize("words, values", [
    ("max_shift", {"max_shift": -1}), ("max_shift", {"max_shift": 4}), ("max_shift", {"max_shift": 0.5}),
    ("x_shift", {"x_shift": -1}), ("x_shift", {"x_shift": 4}), ("rotation", {"rotation": -1}),
    ("rotation", {"rotation": 361.0}), ("rotation", {"rotation": float("nan")}),
    ("task_dropout", {"task_dropout": 1.0}), ("task_dropout", {"task_dropout": -0.1}),
    ("example_dropout", {"example_dropout": 1.5}), ("example_dropout", {"example_dropout": float("nan")}),
    ("class_permutations", {"class_permutations": -1})])
def test_task_refuses_augmentations_out_of_range(words, values):
    refused(["task 't'", words], make_task, rng(), "t", "", numbered_pool(), (0, 1), Augmentation(**values))


def test_task_refuses_masks_and_orders_that_do_not_fit():
    pool, order = numbered_pool(), np.arange(16)
    dropout, orders = Augmentation(task_dropout=0.5), Augmentation(class_permutations=2)
    for augmentation, dropped in ((dropout, None), (dropout, np.zeros(15, bool)), (SHIFTED, np.zeros(16, bool))):
        refused("task_dropout", Task, "t", "", pool, (0, 1), order, augmentation, dropped)
    for augmentation, given in ((orders, None), (orders, (0, 2)), (orders, (0,)), (orders, (-1, 0)),
                                (SHIFTED, (0, 1))):
        refused("class_permutations", Task, "t", "", pool, (0, 1), order, augmentation, None, given)
