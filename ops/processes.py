"""What processes know of each other and of the machine: who lives, how many threads and cores are theirs.

Imported before NumPy is (thread counts are set in between), so it imports no module that needs NumPy.
"""
import os
import sys
from pathlib import Path, PurePosixPath

# {variable: value} for NumPy's and Numba's libraries and our own products (the last), which read it when imported.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
                            "NUMBA_NUM_THREADS", "UNSUP_META_THREADS"), "1")
OLDEST_PYTHON = (3, 11)


def check_python(program):
    """End with one line and exit code 2 if this Python is too old for what `program` is about to import."""
    if sys.version_info < OLDEST_PYTHON:
        needed, found = (".".join(map(str, version)) for version in (OLDEST_PYTHON, sys.version_info[:3]))
        print(f"{program}: needs Python {needed} or newer, this is {found}; start it with another", file=sys.stderr)
        sys.exit(2)


def alive(pid):
    """Whether process `pid` runs; one that has ended but was not yet collected (a zombie) does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, who sweeps up for himself
        return True
    except OverflowError:  # no process id is so large
        return False
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # it ended just now
        return not os.path.isdir("/proc/self")  # elsewhere than on Linux, the signal's word counts
    except (OSError, IndexError):
        return True


def usable_cores(root="/"):
    """Cores this process may use: its affinity, and the quotas of its control groups (version 2) where there are any.

    root: the folder that holds proc/self/cgroup and sys/fs/cgroup.  A quota of a part of a core counts as one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(max(1, quota // period) for quota, period in _quotas(Path(root)))])


def _quotas(root):
    """(quota, period) in microseconds of every control group that holds this process, up to the mount.

    The mount's root counts too: a container may see nothing else.
    """
    for line in ["0::/", *_read(root / "proc/self/cgroup").splitlines()]:
        number, _, path = line.partition("::")
        if number != "0" or ".." in path.split("/"):
            continue
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            try:
                quota, period = map(int, _read(root / "sys/fs/cgroup" / str(group).lstrip("/") / "cpu.max").split())
            except ValueError:  # "max": no limit, or no such file
                continue
            if quota > 0 and period > 0:
                yield quota, period


def _read(path):
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
