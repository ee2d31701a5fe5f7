"""What the tests of the engine share: tiny runs of `train.py` as processes, their files, and faults put into them."""
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ops.errors import InputError
from ops.files import load_npz
from ops.processes import alive

ROOT = Path(__file__).resolve().parents[2]
TINY = {"tasks": "letters", "batch-size": 8, "hdims": 4, "delta": 3, "top": 4, "rank": 2, "min-units": 9,
        "max-units": 12, "max-layers": 4, "embedding": 8, "pairs": 1, "shots": 2, "unroll-start": "1,2",
        "unroll-end": "2,3", "unroll-growth": 4, "horizon-start": 4, "horizon-end": 6, "horizon-growth": 5,
        "horizon-shape": "normal", "lr": 3e-3, "meta-batch": 3, "live-tasks": 5, "steps": 6, "minutes": 0,
        "validate-steps": 3, "validate-sets": "heldout-letters", "validate-times": "1,2",
        "snapshot-steps": 0, "snapshot-growth": 1}
LONG = dict(steps=30, validate_steps=0, live_tasks=6, pairs=2)
ENDLESS = LONG | dict(steps=10 ** 6)


# --- Starting and waiting -------------------------------------------------------------------------


def flags(**changes):
    settings = TINY | {name.replace("_", "-"): value for name, value in changes.items()}
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def start(folder, *arguments, program=ROOT / "train.py", after=0, **options):
    """A run in this folder, which is made; once it has logged more than `after` records where that is not 0."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, str(program), "--no-score", *arguments], cwd=folder,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if after:
        wait_until(lambda: steps_logged(folder) > after, 60, "training")
    return process


def finish(process, code=0):
    """What the process says, (output, errors), once it has ended with this exit code."""
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code, out + err
    return out, err


def train(folder, *arguments, code=0, program=None):
    """(output, errors) of a run to its end, in this process where no other program is given: its workers alone start."""
    if program:
        return finish(start(folder, *arguments, program=program), code)
    import train
    folder.mkdir(exist_ok=True)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = train.main(["--no-score", *arguments])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert found == code, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


def faulty(folder, fault):
    """`folder/train.py`: the real program with a fault put in before it starts, in every process of the run."""
    folder.mkdir(exist_ok=True)
    path = folder / "train.py"
    path.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{fault}\n"
                    f"exec(open({str(ROOT / 'train.py')!r}).read())\n")
    return path


def one_line(error, *words):
    """These errors are one line, which holds all the words."""
    assert error.count("\n") == 1 and all(word in error for word in words), error


def wait_until(condition, seconds=30, what="the condition"):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true within {seconds} s"
        time.sleep(0.02)


# --- A run's files --------------------------------------------------------------------------------


def state_of(folder, name="laptop"):
    """Every array of a run's checkpoint, and its header without the clock."""
    arrays = load_npz(folder / "runs" / name / "checkpoint.npz")
    header = json.loads(str(arrays.pop("header")))
    header["state"].pop("elapsed")
    return arrays, {k: v for k, v in header.items() if k != "config"}


def assert_same_state(a, b):
    assert a[1] == b[1]
    assert a[0].keys() == b[0].keys()
    for name in a[0]:
        np.testing.assert_array_equal(a[0][name], b[0][name], err_msg=name)


def metrics(folder, name="laptop"):
    lines = (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def learning(records):
    """What the metrics say of learning, without the times."""
    return [{k: v for k, v in r.items() if not k.endswith("_s") and k not in ("seconds", "restarts")} for r in records]


def assert_same_run(folder, other):
    assert_same_state(state_of(folder), state_of(other))
    assert learning(metrics(folder)) == learning(metrics(other))


def steps_logged(folder):
    try:
        return len((folder / "runs/laptop/metrics.jsonl").read_text().splitlines())
    except OSError:
        return 0


# --- A run's processes ----------------------------------------------------------------------------


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(c) for c in found]


def descendants(pid):
    """Process ids below `pid`, workers last."""
    return children(pid) + [d for c in children(pid) for d in descendants(c)]


def fork_server_of(process):
    """The child of the run that has its workers for children; [] or its process id in a list."""
    return [c for c in children(process.pid) if children(c)]


def workers_of(process):
    """Processes that were forked by the run's fork server."""
    return [worker for server in fork_server_of(process) for worker in children(server)]


def any_alive(pids):
    return [pid for pid in pids if alive(pid)]


def shared_memory_of(pid):
    """What the process has mapped of /dev/shm: (without a name there, with one), lists of lines of /proc/PID/maps."""
    lines = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/dev/shm/" in line]
    unnamed = [line for line in lines if line.endswith("(deleted)")]
    return unnamed, [line for line in lines if line not in unnamed]


def assert_nothing_has_a_name(pids):
    """No shared memory and no semaphore of these processes is to be seen by others, so that none can be left behind."""
    held = [shared_memory_of(pid) for pid in pids]
    assert not [line for _, named in held for line in named]
    assert any(unnamed for unnamed, _ in held)


# --- What workers do in tests of workers ----------------------------------------------------------


class Handler:
    """Answers jobs by the name of the work."""

    def __init__(self, **arguments):
        self.arguments = arguments

    def __call__(self, job):
        return getattr(self, job.work)(**job.arguments)

    def compute(self, file):
        """For a minute or so, in a single call of a compiled kernel such as the rule's; its process id is in `file`."""
        import numba

        @numba.njit(nogil=True)
        def spin(n):
            total = 0.0
            for i in range(n):
                total += (i % 7) ** 0.5
            return total

        spin(10)
        Path(file).write_text(str(os.getpid()))
        return {"total": spin(10 ** 11)}

    def refuse(self):
        """What the user is to mend."""
        raise InputError("no such data here")

    def threads(self):
        """What the environment says of them."""
        return os.environ.get("NUMBA_NUM_THREADS")

    def change(self, value):
        """Set the first number of the shared array that this was made with; returns what was there."""
        before = float(self.arguments["memory"]["a"][0])
        self.arguments["memory"]["a"][0] = value
        return {"before": before, "pid": os.getpid()}
