"""An experiment for the tests of the frame: numbers doubled, some of them with a mishap, all noted in a file."""
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ops.errors import InputError
from ops.scoring.flags import one, positive, setting


@dataclass(frozen=True)
class Settings:
    count: int = setting(6, "numbers", low=1, quick=2)
    scale: float = setting(2.0, "times this", parse=positive)
    mishap: str = setting("none", "fail, die, die-once, wait: what happens to number 1")
    log: str = setting("", "file that notes what was measured")
    extra: tuple = setting(("a",), "words", parse=one, many=True)


def cells(settings):
    if settings.mishap == "early":
        raise InputError("cells: not like this")
    import numpy as np
    return [{"name": f"number {i}", "i": i, "factor": np.array([settings.scale]), "log": settings.log,
             "mishap": settings.mishap if i == 1 else "none"} for i in range(settings.count)]


def measure(cell):
    first = note(cell)
    if cell["mishap"] == "fail":
        raise InputError("number 1 is\nnot to be had")
    if cell["mishap"] == "bug":
        raise KeyError("a bug")
    if cell["mishap"] == "die" or cell["mishap"] == "die-once" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    if cell["mishap"] == "wait" and first:
        time.sleep(60)
    return {"pid": os.getpid(), "value": cell["i"] * float(cell["factor"][0]),
            "threads": os.environ.get("OPENBLAS_NUM_THREADS")}


def note(cell):
    """Note a cell; whether it is the first time."""
    if not cell["log"]:
        return True
    path = Path(cell["log"])
    before = path.read_text().split() if path.exists() else []
    with path.open("a") as file:
        file.write(f"{cell['i']}\n")
    return str(cell["i"]) not in before


def numbers(settings, results):
    return {"values": [r.value and r.value["value"] for r in results]}


def draw(numbers):
    from matplotlib.figure import Figure
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([v for v in numbers["values"] if v is not None])
    return figure


def words(numbers):
    return f"values {numbers['values']}"
