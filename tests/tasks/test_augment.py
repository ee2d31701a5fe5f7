"""What is done to the images that a task draws, against plain loops and NumPy's own rolls and rotations."""
import numpy as np
import pytest

from ops.data.letters import letters_pool
from ops.data.pool import Pool
from ops.tasks.augment import Augmentation, Motions, draw_images, fixed_orders, reading_order
from ops.tasks.mixture import sample_letters_task
from ops.tasks.task import Task, make_task
from small_data import rng

SIDE = 7


def random_pool(side=SIDE, channels=1, counts=(6, 5, 7), dtype=np.float32, seed=0):
    """Images without a zero, so that every zero in what is drawn was put there."""
    images = rng(seed).integers(1, 256, (sum(counts), channels * side * side)).astype(np.uint8)
    if dtype == np.float32:
        images = images / np.float32(255)
    return Pool("random", images, np.array(counts), tuple(map(str, range(len(counts)))), side, channels)


def plain_task(pool, augmentation):
    return Task("t", "", pool, range(len(pool.counts)), np.arange(pool.images.shape[1]), augmentation)


def shifted(image, dy, dx):
    """np.roll of the last two axes with zeros in place of what came round."""
    out = np.roll(image, (dy, dx), axis=(-2, -1))
    out[..., :max(dy, 0), :] = 0
    out[..., out.shape[-2] + min(dy, 0):, :] = 0
    out[..., :max(dx, 0)] = 0
    out[..., out.shape[-1] + min(dx, 0):] = 0
    return out


def rotated(image, sin, cos):
    """Bilinear rotation [side, side] about the centre, counter-clockwise, in float64 and loops; zeros outside."""
    side = len(image)
    centre, out = (side - 1) / 2, np.zeros((side, side))

    def pixel(i, j):
        return float(image[i, j]) if 0 <= i < side and 0 <= j < side else 0.0
    for i in range(side):
        for j in range(side):
            y = centre + cos * (i - centre) + sin * (j - centre)
            x = centre + cos * (j - centre) - sin * (i - centre)
            top, left = int(np.floor(y)), int(np.floor(x))
            for row, part_y in ((top, 1 - (y - top)), (top + 1, y - top)):
                for column, part_x in ((left, 1 - (x - left)), (left + 1, x - left)):
                    out[i, j] += part_y * part_x * pixel(row, column)
    return out


def moved_by(pool, rows, dy=(), dx=(), sin=(), cos=()):
    """The kernel's own output [n, channels, side, side] for motions that the test chooses."""
    features = pool.images.shape[1]
    motions = Motions(np.array(dy, np.int64), np.array(dx, np.int64), np.array(sin, np.float32),
                      np.array(cos, np.float32), np.zeros(0, np.int64), np.zeros((0, features), np.uint16))
    out = np.full((len(rows), features), np.nan, np.float32)
    images = pool.images.view()
    images.flags.writeable = False
    draw_images(images, np.array(rows), motions, np.zeros(0, np.intp), np.zeros((0, features), np.uint32),
                reading_order(np.arange(features), None), pool.side, 0,
                np.float32(255 if images.dtype == np.uint8 else 1), out)
    return out.reshape(len(rows), pool.channels, pool.side, pool.side)


# ---- shifts

@pytest.mark.parametrize("max_shift", [0, 1, 2])
def test_shifts_are_rolls_with_zero_fill_each_equally_often(max_shift):
    image = rng().random((5, 5)).astype(np.float32)
    pool = Pool("one", np.stack([image, image]).reshape(2, 25), np.array((1, 1)), ("a", "b"), 5)
    drawn = plain_task(pool, Augmentation(max_shift)).unlabelled(rng(1), 2000).reshape(-1, 5, 5)
    span = range(-max_shift, max_shift + 1)
    equal = [(drawn == shifted(image, dy, dx)).all((1, 2)) for dy in span for dx in span]
    assert (np.sum(equal, axis=0) == 1).all()
    shares = np.mean(equal, axis=1) * len(equal)
    assert np.abs(shares - 1).max() < 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_shift_up_to_the_whole_width_moves_all_channels_alike(channels, dtype):
    pool = random_pool(4, channels, dtype=dtype)
    dy, dx = np.mgrid[-3:4, -3:4].reshape(2, -1)
    rows = np.arange(len(dy)) % len(pool.images)
    out = moved_by(pool, rows, dy, dx)
    images = random_pool(4, channels).images.reshape(-1, channels, 4, 4)
    for b, row in enumerate(rows):
        assert np.array_equal(out[b], shifted(images[row], dy[b], dx[b]))


# ---- rotations

@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [6, 7])
def test_quarter_turns_are_exactly_rot90(side, channels):
    pool = random_pool(side, channels)
    angles = np.pi / 2 * np.arange(4)
    for row, image in enumerate(pool.images.reshape(-1, channels, side, side)):
        out = moved_by(pool, [row] * 4, sin=np.sin(angles), cos=np.cos(angles))
        for quarters in range(4):
            assert np.abs(out[quarters] - np.rot90(image, quarters, axes=(1, 2))).max() < 1e-15


@pytest.mark.parametrize("side, channels", [(6, 1), (7, 3)])
def test_rotation_then_shift_agrees_with_plain_loops(side, channels):
    pool, g = random_pool(side, channels), rng(2)
    rows, angles = g.integers(18, size=40), g.uniform(0, 2 * np.pi, 40)
    dy, dx = g.integers(-3, 4, (2, 40))
    out = moved_by(pool, rows, dy, dx, np.sin(angles), np.cos(angles))
    images = pool.images.reshape(-1, channels, side, side)
    for b, row in enumerate(rows):
        for c in range(channels):
            plain = shifted(rotated(images[row, c], np.sin(angles[b]), np.cos(angles[b])), dy[b], dx[b])
            assert np.abs(out[b, c] - plain).max() < 1e-5


@pytest.mark.parametrize("rotation", [90.0, 360.0])
def test_angles_are_uniform_from_zero_to_the_rotation(rotation):
    task = plain_task(random_pool(3), Augmentation(rotation=rotation, targets=True))
    _, y = task.labelled(rng(), 5, 1000)
    angles = np.rad2deg(np.arctan2(y[..., 3], y[..., 4])).ravel() % 360
    assert angles.min() >= 0 and angles.max() < rotation
    shares = np.histogram(angles, 8, (0, rotation))[0] / len(angles)
    assert np.abs(shares - 1 / 8).max() < 0.015  # 5 standard errors


# ---- targets

def test_targets_follow_the_class_columns_and_say_what_was_done():
    augmentation = Augmentation(max_shift=3, rotation=180.0, targets=True)
    assert augmentation.extras == 4
    pool = random_pool(counts=(4, 4))
    xa, ya, xb, yb = plain_task(pool, augmentation).labelled_pair(rng(), 2, 20)
    assert xa.shape == (20, 4, 49) and ya.shape == yb.shape == (20, 4, 6) and ya.dtype == np.float32
    for x, y in ((xa, ya), (xb, yb)):
        assert np.array_equal(y[..., :2], np.broadcast_to(np.repeat(np.eye(2), 2, axis=0), (20, 4, 2)))
        for image, target in zip(x.reshape(-1, 49), y.reshape(-1, 6)):
            sin, cos, dx, dy = target[2:]
            assert abs(sin ** 2 + cos ** 2 - 1) < 1e-6
            assert abs(3 * dx - round(3 * dx)) < 1e-6 and abs(3 * dy - round(3 * dy)) < 1e-6
            own = range(4) if target[0] else range(4, 8)
            plain = moved_by(pool, own, [round(3 * dy)] * 4, [round(3 * dx)] * 4, [sin] * 4, [cos] * 4)
            assert np.abs(image - plain.reshape(4, 49)).max(1).min() < 1e-6


def test_shift_targets_alone_are_whole_shares_of_the_largest_shift():
    task = plain_task(random_pool(), Augmentation(max_shift=2, targets=True))
    x, y = task.labelled(rng(), 5, 40)
    assert y.shape == (40, 15, 5) and set(np.unique(y[..., 3:])) == {-1, -0.5, 0, 0.5, 1}
    assert len(np.unique(y[..., 3:].reshape(-1, 2), axis=0)) == 25
    images = random_pool().images.reshape(-1, SIDE, SIDE)
    for image, (dx, dy) in zip(x.reshape(-1, SIDE, SIDE), y[..., 3:].reshape(-1, 2)):
        assert any(np.array_equal(image, shifted(i, int(2 * dy), int(2 * dx))) for i in images)


@pytest.mark.parametrize("augmentation", [
    Augmentation(targets=True), Augmentation(2, 90.0), Augmentation(targets=True, x_shift=2)])
def test_no_columns_but_the_classes_where_none_are_asked_for_or_nothing_is_to_be_told(augmentation):
    assert plain_task(random_pool(), augmentation).labelled(rng(), 3, 2)[1].shape == (2, 9, 3)


# ---- dropout

def test_task_dropout_is_one_mask_for_all_images_of_a_task():
    pool, zeros = random_pool(side=14), []
    for seed in range(200):
        task = make_task(rng(seed), "t", "", pool, (0, 1, 2), Augmentation(task_dropout=0.25))
        x = np.concatenate([task.unlabelled(rng(), 3), task.labelled(rng(), 2, 1)[0][0]])
        assert np.array_equal(x == 0, np.broadcast_to(x[0] == 0, x.shape))
        kept = x[0] != 0
        rows = [(pool.images[:, task.permutation][:, kept] == image[kept]).all(1).any() for image in x]
        assert all(rows)  # what is kept is not scaled
        zeros.append(~kept)
    assert abs(np.mean(zeros) - 0.25) < 0.01  # 4.6 standard errors
    assert len({mask.tobytes() for mask in zeros}) == 200
    assert np.abs(np.mean(zeros, axis=0) - 0.25).max() < 0.15  # no input is spared


def test_example_dropout_is_a_new_mask_for_each_drawn_image():
    pool = random_pool(side=14)
    task = make_task(rng(), "t", "", pool, (0, 1, 2), Augmentation(example_dropout=0.3))
    x = task.labelled(rng(1), 5, 40)[0].reshape(-1, 196)
    assert abs((x == 0).mean() - 0.3) < 0.006 and len({row.tobytes() for row in x == 0}) == len(x)  # 4.5 errors
    assert np.abs((x == 0).mean(0) - 0.3).max() < 0.1
    again = task.labelled(rng(2), 5, 40)[0].reshape(-1, 196)
    assert not np.array_equal(x == 0, again == 0)
    kept = (x[:, None] == pool.images[:, task.permutation]) | (x[:, None] == 0)
    assert (kept.all(2).sum(1) == 1).all()


# ---- orders of the pixels and x-shifts

@pytest.mark.parametrize("channels", [1, 3])
def test_all_images_of_a_class_have_its_pixels_in_one_fixed_order(channels):
    pool, seen = random_pool(5, channels), set()
    orders = fixed_orders(4, 25, channels)
    for seed in range(20):
        task = make_task(rng(seed), "t", "", pool, (0, 1, 2), Augmentation(class_permutations=4))
        x, y = task.labelled(rng(), 5, 4)
        undone = np.empty_like(x)
        undone[..., task.permutation] = x
        for c in range(3):
            images = pool.images[[slice(0, 6), slice(6, 11), slice(11, 18)][c]]
            fits = [all((images[:, order] == row).all(1).any() for row in undone[y[..., c] == 1])
                    for order in orders]
            assert sum(fits) == 1
            seen.add((c, fits.index(True)))
        u = np.empty((30, channels * 25), np.float32)
        u[:, task.permutation] = task.unlabelled(rng(1), 30)
        known = np.concatenate([pool.images[:, order] for order in orders])
        assert all((known == row).all(1).any() for row in u)
    assert len(seen) == 12  # every class had every order


def test_the_fixed_orders_are_permutations_the_same_in_every_task_with_channels_alike():
    orders = fixed_orders(5, 9, 3)
    assert (np.sort(orders, axis=1) == np.arange(27)).all() and len(np.unique(orders, axis=0)) == 5
    assert np.array_equal(orders[:2], fixed_orders(2, 9, 3))
    assert np.array_equal(orders[:, 9:18], orders[:, :9] + 9) and np.array_equal(orders[:, 18:], orders[:, :9] + 18)
    assert np.array_equal(orders[:, :9], fixed_orders(5, 9))
    assert orders[0, :9].tolist() == rng([20190306, 9]).permutation(9).tolist()  # runs rely on these very orders


@pytest.mark.parametrize("channels", [1, 3])
def test_x_shifts_are_along_x_alone_and_each_equally_often(channels):
    pool = random_pool(SIDE, channels)
    x = plain_task(pool, Augmentation(x_shift=3)).unlabelled(rng(), 1400).reshape(-1, channels, SIDE, SIDE)
    images = pool.images.reshape(-1, channels, SIDE, SIDE)
    equal = np.array([(x == shifted(image, 0, dx)).all((1, 2, 3)) for dx in range(-3, 4) for image in images])
    assert (equal.sum(0) == 1).all()
    assert np.abs(equal.reshape(7, -1).sum(1) / 200 - 1).max() < 0.3  # 4.6 standard errors


def plainly(image, augmentation, motion, order, dropped, dice, permutation):
    """All augmentations of one image [channels, side, side], one after the other, as the module lists them."""
    dy, dx, sin, cos, slide = motion
    out = shifted(np.stack([rotated(plane, sin, cos) for plane in image]), dy, dx)
    out = out.reshape(-1)[order].reshape(image.shape)
    out = shifted(out, 0, slide).reshape(-1).copy()
    out[dropped] = 0
    out = out[permutation]
    out[dice < augmentation.example_dropout * 2 ** 16] = 0
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_everything_at_once_comes_in_the_stated_order_with_the_permutation_last(dtype):
    pool = random_pool(6, 3, counts=(4, 4), dtype=dtype)
    augmentation = Augmentation(2, 360.0, True, 0.25, 0.125, 3, 2)
    task = make_task(rng(5), "t", "", pool, (1, 0), augmentation)
    g = rng(5)  # what make_task draws, in its order
    permutation, dropped, order = g.permutation(108), g.random(108) < 0.25, g.integers(3, size=2)
    x, y = task.labelled(rng(6), 4, 3)
    g = rng(6)
    g.random((3, 2, 4), dtype=np.float32)  # the choice of images; all of a class are in its batch
    shifts, angles = 2 - g.integers(5, size=(2, 24)), np.deg2rad(360 * g.random(24))
    slides, dice = g.integers(-2, 2, endpoint=True, size=24), g.integers(1 << 16, size=(24, 108), dtype=np.uint16)
    images = random_pool(6, 3, counts=(4, 4)).images.reshape(2, 4, 3, 6, 6)[::-1]
    for b, (out, target) in enumerate(zip(x.reshape(24, 108), y.reshape(24, 6))):
        c, motion = target[:2].argmax(), (*shifts[:, b], np.sin(angles[b]), np.cos(angles[b]), slides[b])
        possible = [plainly(image, augmentation, motion, fixed_orders(3, 36, 3)[order[c]], dropped, dice[b],
                            permutation) for image in images[c]]
        assert np.abs(np.array(possible) - out).max(1).min() < 1e-5
        assert np.allclose(target[2:], [motion[2], motion[3], shifts[1, b] / 2, shifts[0, b] / 2], atol=1e-6)


@pytest.mark.parametrize("augmentation", [
    Augmentation(), Augmentation(1), Augmentation(3, 360.0, True), Augmentation(x_shift=3),
    Augmentation(2, 90.0, True, 0.2, 0.2, 4, 3)])
def test_tasks_depend_on_the_generator_alone_and_uint8_and_float32_pools_give_the_same_bits(augmentation):
    def segment(seed, dtype=np.float32):
        g, pool = rng(seed), random_pool(channels=3, dtype=dtype)
        x, batches = make_task(g, "t", "", pool, (2, 0), augmentation).segment(g, 2, 5, 2, 3)
        return [x, *batches]
    one, again, of_bytes, other = segment(3), segment(3), segment(3, np.uint8), segment(4)
    assert all(map(np.array_equal, one, again)) and all(map(np.array_equal, one, of_bytes))
    assert not np.array_equal(one[0], other[0])


def test_plain_vectors_need_no_side_and_take_dropout_and_orders():
    pool = random_pool()._replace(side=None)
    task = make_task(rng(), "t", "", pool, (0, 1), Augmentation(task_dropout=0.2, class_permutations=2))
    x = task.labelled(rng(), 3, 2)[0]
    assert x.shape == (2, 6, 49) and 0 < (x[0, 0] == 0).sum() < 49
    plain = plain_task(pool, Augmentation()).unlabelled(rng(), 4)
    assert all((pool.images == row).all(1).any() for row in plain)


def test_tasks_of_letters_are_as_ever():
    """The default training draws these very numbers: checkpoints and figures rest on them."""
    pool = letters_pool()
    task = sample_letters_task(rng(0), pool)
    g = rng(1)
    x, (xa, ya, xb, yb) = task.segment(g, 1, 8, 1, 3)
    # By hand, from the generator: images, then shifts, of the batch; keys, then shifts, of the pair.
    h = rng(0)
    h.permutation(40)  # of the training letters
    assert np.array_equal(task.permutation, h.permutation(196))
    h = rng(1)
    owners = np.repeat(pool.class_names, pool.counts)
    rows = np.concatenate([np.flatnonzero(owners == c) for c in task.class_names])
    numbers = h.integers(len(rows), size=8)
    down, right = h.integers(3, size=(2, 8))
    for image, number, y, z in zip(x[0], numbers, down, right):
        plain = shifted(pool.images[rows[number]].reshape(14, 14), 1 - y, 1 - z)
        assert np.array_equal(image, plain.reshape(-1)[task.permutation])
    assert np.array_equal(ya.argmax(3), yb.argmax(3)) and (ya[0, 0].argmax(1) == np.repeat(range(10), 3)).all()
    counts = [np.sum(owners == c) for c in task.class_names]
    keys = h.random((1, 10, max(counts)), dtype=np.float32)[0]
    starts = np.cumsum(counts) - counts
    taken = [rows[starts[c] + np.argsort(keys[c, :counts[c]])[first:first + 3]] for first in (0, 3) for c in range(10)]
    down, right = h.integers(3, size=(2, 60))
    for b, image in enumerate(np.concatenate([xa[0, 0], xb[0, 0]])):
        plain = [shifted(pool.images[row].reshape(14, 14), 1 - down[b], 1 - right[b]).reshape(-1)
                 for row in taken[b // 3]]
        assert (np.array(plain)[:, task.permutation] == image).all(1).any()
    assert g.random() == h.random()


def test_an_augmentation_says_what_it_does():
    assert Augmentation().describe() == "" and not Augmentation(task_dropout=0.5, class_permutations=3).random
    words = Augmentation(2, 90.0, True, 0.25, 0.5, 4, 3).describe()
    for part in ("90 degrees", "2 px", "targets", "0.25 of the inputs", "0.5 of the inputs", "4 orders", "x-shifts"):
        assert part in words
