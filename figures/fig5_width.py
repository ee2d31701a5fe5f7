"""Accuracy of base models from narrow to wide after some updates by the rule (Fig. 5, width)."""
import functools
from dataclasses import dataclass

from figures import architectures
from figures.architectures import ArchitectureSettings, difference, steps_of, words  # noqa: F401  (part of an experiment)
from ops.scoring.flags import counts, setting
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)

WIDE = 512  # units beyond which updates are few: they take seconds
WIDEST, WIDEST_STEPS = 10_000, 32  # units, which only --widest asks for, of a single base model; its updates at most


@dataclass(frozen=True)
class Settings(ArchitectureSettings):
    """Widths of the four hidden layers."""
    widths: tuple = setting((16, 32, 64, 128, 256, 512, 1024, 2048), "units of each hidden layer, comma separated",
                            parse=counts, many=True, quick=(16, 32, 64, 128, 256, 512, 1024))
    depth: int = setting(4, "hidden layers", low=1)
    wide_steps: int = setting(100, f"most updates of base models of more than {WIDE} units", low=1, quick=30)
    widest: bool = setting(False, f"also {WIDEST:,} units: one base model, at most {WIDEST_STEPS} updates of half a "
                           "minute or more, 8 GB; best with UNSUP_META_THREADS=2 and --processes 1")
    trained: tuple = setting((32, 96), "fewest and most units met in meta-training", parse=counts, many=True)


def cells(settings):
    """As `architectures.architecture_cells`."""
    architectures.two(settings, "trained")
    plan = [(width, steps_of(settings, settings.wide_steps if width > WIDE else float("inf")), {})
            for width in sorted(settings.widths)]
    plan += [(WIDEST, steps_of(settings, WIDEST_STEPS), {"seeds": 1})] * settings.widest
    return architectures.architecture_cells(
        settings, [(width, (width,) * settings.depth, changed, steps) for width, steps, changed in plan])


def numbers(settings, results):
    """As `architectures.architecture_numbers`, "claim": {text: `difference`}, "value" and "trained"."""
    found = architectures.by_value(results)
    found_at, (low, high) = {w: at for w, at in found.items() if at}, settings.trained
    claim, met = {}, max((width for width in found_at if low <= width <= high), default=None)
    for width, at in found_at.items():
        if width > high:
            last, common = max(at), max(set(at) & set(found_at.get(met, {})), default=0)
            claim[f"learning works at {width:,} units ({last} inner steps)"] = difference(at[last], at.get(0, {})) if last else None
            if common:
                claim[f"{width:,} units are better than {met}, which were met ({common} inner steps)"] = difference(
                    at[common], found_at[met][common])
    return architectures.architecture_numbers(settings, results, found) | {
        "claim": claim, "value": f"units of each of {settings.depth} hidden layers", "trained": list(settings.trained)}


draw = functools.partial(architectures.draw_lines, scale="log")
