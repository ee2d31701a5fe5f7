"""What a run tells: `metrics.jsonl`, one flushed JSON object a line, and a live progress line."""
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from ops.errors import InputError
from ops.files import write_atomically


class MetricsLog:
    """Appends to `path`.  On resuming, lines of meta-step `resume_step` and later are removed first, and validations after `validated`."""

    def __init__(self, path, resume_step=None, validated=0):
        self.path = path = Path(path)
        if resume_step is None:
            write_atomically(path, b"")
        try:
            if resume_step is not None and path.exists():
                lines = path.read_text(errors="replace").splitlines(True)
                write_atomically(path, "".join(line for line in lines if _belongs(line, resume_step, validated)).encode())
            self._file = open(path, "a")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error

    def write(self, record):
        """Append {name: value} and flush it; NaN and infinity, which JSON does not know, become null.

        Raises InputError if it cannot be written.
        """
        try:
            text = json.dumps(json.loads(json.dumps(record), parse_constant=lambda name: None))
            self._file.write(text + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}; make room, then --resume") from error

    def close(self):
        """Close the file."""
        try:
            self._file.close()
        except OSError:  # what is left in the buffer was reported when it was to be written
            pass


def _belongs(line, step, validated):
    try:
        record = json.loads(line)
        return line.endswith("\n") and record["step"] < (validated if "score" in record else step)
    except (ValueError, KeyError, TypeError):  # a line cut off by a crash
        return False


def summary(replies):
    """What to log about a meta-step's segments: averages over the finite ones, some by data set, what was dropped."""
    good, bad = ([r for r in replies if r["finite"] == finite] for finite in (True, False))
    counts = {"segments": len(good), "dropped": len(bad)}
    if bad:
        counts["dropped_tasks"] = [r["task"] for r in bad]
    if not good:
        return counts
    average = lambda key: float(np.mean([r[key] for r in good]))
    sets = sorted({r["set"] for r in good})
    by_set = lambda key: {name: float(np.mean([r[key] for r in good if r["set"] == name])) for name in sets}
    return {name: average(name) for name in ("J", "accuracy", "unrolls", "phi_norm", "data_s", "unroll_s")} | {
        "J_by_data": by_set("J"), "norm_by_data": by_set("norm")} | counts


def clock(seconds):
    """1:02:03 or 2:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def status_line(step, config, recent, best, seconds, first=0):
    """The progress line: meta-step, J, accuracy, gradient norm, segments/s, best score in validation, time left.

    recent: the last metrics records; best: {"score"} of the suite or None; seconds: of this
    session, which began at meta-step `first`.
    """
    mean = lambda key: np.mean([r[key] for r in recent])
    span = recent[-1]["seconds"] - recent[0]["seconds"]
    rate = sum(r["segments"] for r in list(recent)[1:]) / max(1e-3, span)
    done = (step - first) / max(1, config.steps - first)
    if config.minutes:
        done = max(done, seconds / (60 * config.minutes))
    left = max(0.0, seconds / max(done, 1e-6) - seconds)
    validated = f"  best score {best['score']:+.3f}" if best else ""
    return (f"step {step}  J {mean('J'):.3f}  acc {mean('accuracy'):.2f}  |g| {mean('grad_norm'):.2f}  "
            f"{rate:.1f}/s{validated}  {clock(left)} left")


class Progress:
    """Rewrites one line on a terminal; elsewhere prints a line every `every` seconds."""

    def __init__(self, stream=None, every=15.0):
        self.stream, self.every = stream or sys.stdout, every
        self.live = self.stream.isatty()
        self._last = -1e9

    def show(self, text):
        """Show the newest state."""
        now = time.monotonic()
        if now - self._last < (0.2 if self.live else self.every):
            return
        self._last = now
        fits = shutil.get_terminal_size().columns - 1  # a longer line would be a new one each time
        self.stream.write(f"\r\x1b[K{text[:fits]}" if self.live else text + "\n")
        self.stream.flush()

    def say(self, text):
        """A line that stays."""
        self.stream.write(("\r\x1b[K" if self.live else "") + text + "\n")
        self.stream.flush()
