"""What a run draws for a slot's next task: the task, the network's width and depth, the number of inner steps."""
import math

import numpy as np
import pytest

from ops.engine import config as settings
from ops.engine.live_tasks import draw_task, stream
from small_data import config, same_draws

N = 600
CRITICAL = 1.95 / math.sqrt(N)  # of the Kolmogorov-Smirnov distance of N draws: 0.1%
CHANGES = dict(min_units=32, max_units=1024, min_layers=2, max_layers=5, embedding=24, horizon_start=40.0,
               horizon_end=400.0, horizon_growth=1000, horizon_shape="normal")


def distance(drawn, cdf):
    """The largest distance of the drawn whole numbers' distribution from that of a rounded variable.

    drawn  [n] int; cdf(x): the probability that the variable, before it is rounded, is at most x
    """
    drawn = np.sort(drawn)
    at = np.unique(drawn)
    below, upto = np.searchsorted(drawn, at) / len(drawn), np.searchsorted(drawn, at, side="right") / len(drawn)
    low, high = (np.array([cdf(x) for x in at + half]) for half in (-0.5, 0.5))
    low[at == 1] = 0.0  # what is less than 1 becomes 1
    return max(np.abs(below - low).max(), np.abs(upto - high).max())


def normal_cdf(x, scale):
    """Of a normal variable with mean = standard deviation = scale."""
    return 0.5 * (1 + math.erf((x - scale) / scale / math.sqrt(2)))


def begun_cdf(scale):
    """Of a whole number of inner steps, 1 or more, times a uniform share, which is what the first tasks of all get."""
    whole = np.arange(1, int(8 * scale))
    likely = np.diff([normal_cdf(k + 0.5, scale) for k in whole], prepend=0.0)
    return lambda x: float(likely @ np.clip(x / whole, 0, 1))


@pytest.fixture(scope="module")
def later():
    """N later tasks, all begun at meta-step 500: (task, sizes, horizon, Generator) each."""
    return [draw_task(config(**CHANGES), {}, i % 30, 1 + i // 30, 500) for i in range(N)]


def test_widths_are_log_uniform_and_one_a_network(later):
    units = []
    for task, sizes, _, _ in later:
        assert sizes[0] == task.features == 196 and sizes[-1] == 24 and len(set(sizes[1:-1])) == 1
        units.append(sizes[1])
    span = math.log(1024 / 32)
    assert min(units) >= 32 and max(units) <= 1024
    assert distance(units, lambda x: np.clip(math.log(x / 32) / span, 0, 1)) < CRITICAL
    assert distance(units, lambda x: np.clip((x - 32) / (1024 - 32), 0, 1)) > 5 * CRITICAL  # the test can fail
    equal = [draw_task(config(min_units=50, max_units=50), {}, slot, 1, 0)[1] for slot in range(5)]
    assert {sizes[1] for sizes in equal} == {50}


def test_each_number_of_layers_is_alike_likely(later):
    counts = np.bincount([len(sizes) - 2 for _, sizes, _, _ in later], minlength=6)
    assert counts[:2].sum() == 0 and len(counts) == 6 and ((counts[2:] - N / 4) ** 2 / (N / 4)).sum() < 16.3  # 0.1%
    none = draw_task(config(min_layers=0, max_layers=0), {}, 0, 1, 0)[1]
    assert none == [196, 32]


def test_width_depth_and_horizon_do_not_depend_on_one_another(later):
    drawn = np.array([(math.log(sizes[1]), len(sizes), horizon) for _, sizes, horizon, _ in later])
    assert np.abs(np.corrcoef(drawn.T)[~np.eye(3, dtype=bool)]).max() < 4 / math.sqrt(N)


def test_inner_steps_are_normal_with_mean_and_deviation_growing(later):
    c = config(**CHANGES)
    assert settings.horizon_scale(c, 500) == 220
    horizons = [horizon for _, _, horizon, _ in later]
    assert all(isinstance(h, int) for h in horizons) and min(horizons) == 1
    assert distance(horizons, lambda x: normal_cdf(x, 220)) < CRITICAL
    for born, scale in ((0, 40), (10_000, 400)):
        drawn = [draw_task(c, {}, slot, 1, born)[2] for slot in range(N)]
        assert distance(drawn, lambda x: normal_cdf(x, scale)) < CRITICAL


def test_inner_steps_of_the_uniform_shape_have_the_same_mean():
    drawn = [draw_task(config(**CHANGES | {"horizon_shape": "uniform"}), {}, i % 30, 1 + i // 30, 500)[2] for i in range(N)]
    assert distance(drawn, lambda x: np.clip((x - 1) / 438, 0, 1)) < CRITICAL  # from 1 to 439: 220


def test_the_first_tasks_of_all_begin_somewhere_inside_their_horizon():
    c = config(**CHANGES)
    drawn = [draw_task(c, {}, slot, 0, 500)[2] for slot in range(N)]
    assert min(drawn) == 1 and distance(drawn, begun_cdf(220)) < CRITICAL
    assert distance(drawn, lambda x: normal_cdf(x, 220)) > 3 * CRITICAL


def test_the_same_key_gives_the_same_task_and_any_other_key_another():
    def drawn(seed=0, slot=3, generation=2, born=7):
        return draw_task(config(seed=seed, **CHANGES), {}, slot, generation, born)

    def same(a, b):
        return a[0].description == b[0].description and same_draws(a[0], b[0]) and a[1] == b[1]
    first, again = drawn(), drawn()
    assert same(first, again) and first[2] == again[2] and first[3].random() == again[3].random()
    others = [drawn(seed=1), drawn(slot=4), drawn(generation=3), drawn(slot=2, generation=3), drawn(generation=0)]
    for i, other in enumerate(others):
        for one in [first, *others[:i]]:
            assert one[0].permutation.tolist() != other[0].permutation.tolist()
            assert one[3].random() != other[3].random()
    late = drawn(born=999)  # only the number of inner steps depends on when it is
    assert same(first, late) and late[2] > first[2]


def test_streams_differ_by_family():
    c = config()
    keys = [(family, slot, generation) for family in range(4) for slot in (0, 1) for generation in (0, 1)]
    assert len({stream(c, *key).random() for key in keys}) == len(keys)
    assert stream(c, 1, 2).random() == stream(config(workers=3), 1, 2).random() != stream(config(seed=1), 1, 2).random()
