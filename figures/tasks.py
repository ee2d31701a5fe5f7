"""What a worker of `train.py` is given to learn from, as a contact sheet: one row a kind of task (H.1)."""
import dataclasses

from figures import contact_sheet
from figures.contact_sheet import TASK_SETTINGS, draw  # noqa: F401  (draw: part of an experiment)
from ops.engine.config import PRESETS, Config, help_of, make_config
from ops.scoring.flags import setting
from ops.tasks.mixture import open_pools

ALONE = True  # a sheet is made in one piece


def _fields():
    """The preset, and each of TASK_SETTINGS as `train.py` has it; None for the preset's value."""
    yield "preset", str, setting("laptop", "settings to start from", choices=tuple(PRESETS))
    for f in dataclasses.fields(Config):
        if f.name in TASK_SETTINGS:
            kind = f.type if f.type in (int, float) else str  # `make_config` makes what is more than a number
            yield f.name, kind, setting(None, help_of(f), choices=f.metadata.get("choices"))


Settings = dataclasses.make_dataclass("Settings", _fields(), frozen=True)


def cells(settings):
    """The sheet.  InputError as `make_config`."""
    given = {name: value for name, value in dataclasses.asdict(settings).items() if value is not None}
    make_config(given.pop("preset"), given)
    return [{"name": "sheet", "preset": settings.preset, "given": given}]


def measure(cell):
    """The numbers of the sheet: the tasks, their images and targets."""
    config = make_config(cell["preset"], cell["given"])
    return contact_sheet.numbers_of(config, open_pools(config.tasks, config))


def numbers(settings, results):
    """The numbers of the sheet."""
    result, = results
    return result.value


def words(numbers):
    """The mixture and the tasks as text."""
    return "\n".join([*numbers["mixture"], *(f"{panel['title']}: {panel['task']}" for panel in numbers["panels"])])
