"""Which gradients a meta-step is made of, and where they lie meanwhile."""
import math
from types import SimpleNamespace

import numpy as np
import pytest

from ops.engine.accumulator import AsTheyCome, InStep, sum_rows
from ops.engine.live_tasks import LiveTask

P = 3


def settings(**changes):
    return SimpleNamespace(**{"meta_batch": 4, "staleness_limit": 1, "theta_delay": 1, "steps": 100,
                              "segment_clip": 0.0} | changes)


def memory(rows, thetas):
    return {"grads": np.zeros((rows, 16), np.float32), "theta": np.zeros((thetas, 16), np.float32)}


def reply(**changes):
    return {"finite": True, "unrolls": 1, "horizon": 9, "sizes": [3, 2], "J": 0.0, "norm": 1.0, "set": "a"} | changes


class AtOnce:
    """Workers that answer every job when asked: `of(job)` is the gradient, or NaN; at most `count` at a time."""

    def __init__(self, count, grads, of):
        self.count, self.grads, self.of, self.jobs, self.all = count, grads, of, [], []

    @property
    def idle(self):
        return self.count - len(self.jobs)

    def add(self, jobs):
        self.jobs.extend(jobs)
        self.all.extend(jobs)

    def answer(self, job):
        gradient = self.of(job)
        self.grads[job.where["gradient"]] = gradient
        return reply(finite=math.isfinite(gradient), J=gradient, norm=4 * gradient,  # of 16 numbers
                     set="ab"[job.arguments["slot"] % 2])

    def receive(self):
        jobs, self.jobs = self.jobs, []
        return [(job, self.answer(job)) for job in jobs]

    def take(self, names):
        found = {job.name: job for job in self.jobs if job.name in names}
        self.jobs = [job for job in self.jobs if job.name not in found]
        return [self.answer(found[name]) for name in names]


def accumulator(kind, workers, rows, live, of, **changes):
    arrays = memory(rows, 2 if kind is InStep else rows)
    noted = []
    made = kind(settings(**changes), AtOnce(workers, arrays["grads"], of), arrays,
                [LiveTask(slot) for slot in range(live)], noted.append)
    made.publish(0, np.zeros(P, np.float32))
    return made, noted


def never():
    return False


def test_more_gradients_than_asked_for_are_averaged_not_only_summed():
    async_, _ = accumulator(AsTheyCome, 7, 14, 10, lambda job: 1.0)
    gradient, replies, _ = async_.collect(0, never)
    assert len(replies) == 7 and (gradient == 1).all()
    sync, _ = accumulator(InStep, 7, 8, 10, lambda job: float(job.name))
    assert (sync.collect(0, never)[0] == np.mean(range(4))).all()


KINDS = pytest.mark.parametrize("kind", [InStep, AsTheyCome])


@KINDS
def test_a_segments_gradient_is_clipped_before_it_is_averaged(kind):
    made, _ = accumulator(kind, 4, 8, 8, lambda job: 1.0 + 9.0 * (job.arguments["slot"] % 4 == 3), segment_clip=8.0)
    gradient, replies, _ = made.collect(0, never)
    assert gradient == pytest.approx((1 + 1 + 1 + 2) / 4) and len(replies) == 4


def test_gradients_that_are_not_finite_are_left_out_and_noted():
    sync, noted = accumulator(InStep, 2, 8, 10, lambda job: math.nan if job.name % 4 == 1 else 6.0)
    gradient, replies, _ = sync.collect(0, never)
    assert (gradient == 6).all() and len(replies) == 4 == len(noted) and sync.live[1].generation == 1
    sync.of = sync.workers.of = lambda job: math.inf
    assert sync.collect(1, never)[0] is None
    async_, noted = accumulator(AsTheyCome, 2, 4, 10, lambda job: math.nan)
    assert async_.collect(0, lambda: len(noted) >= 6) is None and len(noted) == 6


def test_a_sync_gradient_is_of_the_theta_one_meta_step_before_and_reads_it_where_it_lies():
    for delay in (1, 0):
        sync, _ = accumulator(InStep, 2, 8, 10, lambda job: 1.0, theta_delay=delay)
        for step in range(6):
            sync.collect(step, never)
            sync.publish(step + 1, np.full(P, step + 1, np.float32))
            for job in sync.workers.jobs:  # begun ahead: what they read stays until they are done
                version = job.where["version"]
                assert version == step and (sync.memory["theta"][job.where["theta"], :P] == version).all()
        versions = [(job.arguments["step"], job.where["version"]) for job in sync.workers.all]
        assert all(version == max(0, step - delay) for step, version in versions)
        assert (sync.memory["theta"][0, :P] == 6).all()


def test_sync_segments_under_way_never_share_a_row_or_a_slot():
    sync, _ = accumulator(InStep, 2, 8, 6, lambda job: 1.0)  # six slots: a meta-step shares two with the next
    for step in range(9):
        before = list(sync.workers.jobs)
        sync.collect(step, never)
        of_step = [job for job in before + sync.workers.all[-4:] if job.arguments["step"] == step]
        rows = lambda jobs: {job.where["gradient"] for job in jobs}
        assert of_step and len(rows(of_step)) == len(of_step)
        ahead = sync.workers.jobs
        assert len({job.arguments["slot"] for job in ahead}) == len(ahead) == len(rows(ahead)) == 2
    names = [job.name for job in sync.workers.all]
    assert sorted(names)[:36] == list(range(36)) and len(set(names)) == len(names)


def test_async_segments_under_way_never_share_a_row():
    """Also if a worker dies and another one is given its job, with the row that goes with it."""
    async_, _ = accumulator(AsTheyCome, 2, 4, 5, None)
    under_way = [async_.next_job(0) for _ in range(2)]
    for step in range(20):
        job = under_way.pop(0) if step % 3 else under_way.pop()  # one worker's job is done again and again
        async_.add(job, reply(), step)
        under_way.append(async_.next_job(step))
        rows = [j.where["gradient"] for j in under_way]
        assert len(set(rows)) == len({j.arguments["slot"] for j in under_way}) == 2 and max(rows) < 4


def test_an_async_worker_reads_a_theta_that_nobody_writes_to():
    async_, _ = accumulator(AsTheyCome, 2, 4, 5, None)
    first = async_.next_job(0)
    for step in range(1, 9):
        async_.publish(step, np.full(P, step, np.float32))
        job = async_.next_job(step)
        assert job.where["version"] == step and job.where["theta"] != first.where["theta"]
        assert (async_.memory["theta"][job.where["theta"], :P] == step).all()
        assert (async_.memory["theta"][first.where["theta"], :P] == 0).all()
        async_.add(job, reply(), step)


def test_async_adds_and_logs_only_what_is_not_too_old():
    async_, noted = accumulator(AsTheyCome, 3, 6, 5, None, meta_batch=2)
    async_.memory["grads"][:] = 1.0
    for version in (9, 2, 8):  # the second is too old
        async_.add(async_.next_job(version), reply(J=version), 9)
    gradient, replies, extra = async_.collect(9, never)
    assert (gradient == 1).all() and [r["J"] for r in replies] == [9, 8] and len(noted) == 3
    assert extra == {"staleness_mean": 0.5, "staleness_max": 1, "stale": 1}


def test_rows_are_summed_in_their_order():
    rows = np.array([[1e8], [1.0], [-1e8], [1.0]], np.float32)
    assert sum_rows(list(rows)) == [1.0] and sum_rows(list(rows[[0, 2, 1, 3]])) == [2.0] and rows[0] == 1e8
