"""What processes know of each other: who lives, who ends with whom, how many cores are theirs.

Imported before NumPy is (thread counts are set in between), so it imports no module that needs NumPy.
"""
import os
import signal
from pathlib import Path, PurePosixPath

try:
    import fcntl
except ImportError:  # not on this system
    fcntl = None

PREFIX = "unsup_meta"  # of names that outlive a process that is killed: shared memory, semaphores


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


def end_with_parent(parent):
    """Have the system end this process the moment `parent`, a `multiprocessing.parent_process()`, ends.

    The parent alone holds the other end of the sentinel, a pipe; when that closes, the system sends SIGIO, which
    ends a process on Linux even in the middle of a long computation.  (PR_SET_PDEATHSIG would wait for the
    fork server instead, which lives as long as any process it made.)  Elsewhere than on Linux nothing happens.
    """
    if parent is None:
        return
    if fcntl is not None and hasattr(os, "O_ASYNC"):
        try:
            signal.signal(signal.SIGIO, signal.SIG_DFL)
            fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | os.O_ASYNC)
        except (OSError, AttributeError):
            pass
    if not parent.is_alive():  # it may have ended before we asked
        os._exit(1)


def usable_cores(root="/"):
    """Cores this process may use: its affinity, and the quotas of its control groups where there are any.

    root: the folder that holds proc/self/cgroup and sys/fs/cgroup.  A quota of a part of a core counts as one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(max(1, quota // period) for quota, period in _quotas(Path(root)))])


def _quotas(root):
    """(quota, period) in microseconds of every control group that holds this process."""
    for folder in _groups(root):
        texts = [_read(folder / name) for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")]
        for text in (texts[0], f"{texts[1]} {texts[2]}"):  # versions 2 and 1
            try:
                quota, period = map(int, text.split())  # "max" or -1: no limit
            except ValueError:
                continue
            if quota > 0 and period > 0:
                yield quota, period


def _groups(root):
    """Folders of this process's control groups with their parents up to the mount: version 2's, and 1's for "cpu"."""
    mounts = root / "sys/fs/cgroup"
    for line in ["0::/", *_read(root / "proc/self/cgroup").splitlines()]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = {controllers, "cpu", "cpu,cpuacct", "cpuacct,cpu"} if controllers else {"", "unified"}
        path = PurePosixPath("/") if ".." in path.split("/") else PurePosixPath(path or "/")
        for name in sorted(names):
            for group in (path, *path.parents):  # the mount's root too: a container may see nothing else
                yield mounts / name / str(group).lstrip("/")


def _read(path):
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
