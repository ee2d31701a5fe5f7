"""Several threads share the rows of large blocks: the same numbers, up to the order of sums."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from checks import relative_error
from ops.rule import threads
from ops.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys; sys.path.insert(0, sys.argv[1])
import numpy as np, unsup_meta as um
from ops.rule import threads, conv, lateral, planes
threads.WORTH_SHARING, conv.TILE_FLOATS, planes.BLOCK_FLOATS = 100, 3000, 100
seen = set()
def noted(work, n, cost, plain=threads.in_parts):
    parts = []
    result = plain(lambda i, k: (parts.append((i, k)), work(i, k))[1], n, cost)
    assert sorted(parts)[0][0] == 0 and sorted(parts)[-1][1] == n
    seen.add(len(parts))
    return result
conv.in_parts = noted
rng = np.random.default_rng(0)
theta, phi = um.init_theta(rng, 8, 6, 5, 7, 2, np.float64), um.init_phi(rng, [30, 11, 9], np.float64)
x, xa, xb = rng.random((2, 8, 30)), rng.random((2, 1, 12, 30)), rng.random((2, 1, 12, 30))
y = np.tile(np.eye(3)[np.arange(12) % 3], (2, 1, 1, 1))
J, grad, end = um.meta_gradient(theta, phi, x, (xa, y, xb, y), 0.1, 1e-3)
applied = um.unsupervised_update(phi, x[0], theta, 0.1, 1e-3)  # without gradient: blocks of columns
lateral.worth_forming = lambda *sizes: False
in_factors = um.unsupervised_update(phi, x[0], theta, 0.1, 1e-3)
assert max(np.abs(a - b).max() for p, q in zip(applied, in_factors) for a, b in zip(p, q)) < 1e-12
np.savez(sys.argv[2], J=J, W=end[0].W, applied=applied[0].W, in_factors=in_factors[1].V, most=max(seen), **grad)
"""


def results(folder, count):
    out = folder / f"{count}.npz"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(ROOT), str(out)], capture_output=True, text=True, timeout=120,
                          env=os.environ | {"UNSUP_META_THREADS": str(count), "UNSUP_META_PLAIN": "0"})
    assert done.returncode == 0, done.stderr
    with np.load(out) as arrays:
        return dict(arrays)


def test_three_threads_give_the_gradient_of_one(tmp_path):
    one, three = results(tmp_path, 1), results(tmp_path, 3)
    assert (one.pop("most"), three.pop("most")) == (1, 3)
    for name in one:
        assert relative_error(three[name], one[name]) < 1e-9, name


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5"])
def test_a_number_of_threads_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv(threads.VARIABLE, text)
    threads.thread_count.cache_clear()
    try:
        with pytest.raises(InputError, match=threads.VARIABLE):
            threads.thread_count()
    finally:
        threads.thread_count.cache_clear()


FAILING = """
import sys; sys.path.insert(0, sys.argv[1])
from ops.rule import threads
for where in (0, 5):                      # in the main thread's part, in the other's
    def work(first, end):
        if first == where:
            raise OSError(f"part {first}")
        return first, end
    try:
        threads.in_parts(work, 10, 1e9)
    except OSError as error:
        print(error, end=" ")
    print(threads.in_parts(lambda first, end: (first, end), 10, 1e9))
"""


LATE = """
import sys; sys.path.insert(0, sys.argv[1])
import threading, time
import numpy as np
from ops.rule import memory, threads
buffer = memory.scratch("x", (10,), np.dtype("f8"))
def late(first, end):
    if first == 0:
        raise KeyboardInterrupt
    time.sleep(0.3)
    buffer[first:end] = -1
for _ in range(4):
    try:
        threads.in_parts(late, 10, 1e9)
    except KeyboardInterrupt:
        pass
mine = memory.scratch("x", (10,), np.dtype("f8"))
mine[:] = 5
time.sleep(1)
print(set(mine.tolist()), threading.active_count() <= 2)
"""


def test_what_an_interrupted_call_left_at_work_harms_nobody():
    """Another thread writes on after the main thread has given up: not to memory that is used again; no thread is lost."""
    done = subprocess.run([sys.executable, "-c", LATE, str(ROOT)], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"UNSUP_META_THREADS": "2"})
    assert done.stdout == "{5.0} True\n", done.stdout + done.stderr


def test_an_error_in_any_thread_is_raised_and_the_next_call_works():
    done = subprocess.run([sys.executable, "-c", FAILING, str(ROOT)], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"UNSUP_META_THREADS": "2"})
    assert done.stdout == "part 0 [(0, 5), (5, 10)]\npart 5 [(0, 5), (5, 10)]\n", done.stderr
