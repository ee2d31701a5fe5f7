"""Accuracy of base models from shallow to deep after some updates by the rule (Fig. 5, depth)."""
import functools
from dataclasses import dataclass

from figures import architectures
from figures.architectures import ArchitectureSettings, difference, steps_of, words  # noqa: F401  (part of an experiment)
from ops.scoring.flags import counts, setting
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)


@dataclass(frozen=True)
class Settings(ArchitectureSettings):
    """Numbers of hidden layers."""
    depths: tuple = setting((1, 2, 3, 4, 5, 7, 9, 11), "hidden layers, comma separated", parse=counts, many=True)
    width: int = setting(128, "units of each hidden layer", low=1)
    trained_units: str = setting("32 to 96", "units met in meta-training")
    trained: tuple = setting((2, 5), "fewest and most hidden layers met in meta-training", parse=counts, many=True)


def cells(settings):
    """As `architectures.architecture_cells`."""
    architectures.two(settings, "trained")
    steps = steps_of(settings)
    return architectures.architecture_cells(
        settings, [(depth, (settings.width,) * depth, {}, steps) for depth in sorted(settings.depths)])


def numbers(settings, results):
    """As `architectures.architecture_numbers`, "claim": {text: `difference`}, "value" and "trained"."""
    found = architectures.by_value(results)
    last = max(settings.inner_steps)
    claim = {f"learning works with {depth} hidden layers ({last} inner steps)":
             difference(at.get(last, {}), at.get(0, {})) for depth, at in found.items() if depth > settings.trained[1]}
    return architectures.architecture_numbers(settings, results, found) | {
        "claim": claim, "value": f"hidden layers of {settings.width} units", "trained": list(settings.trained),
        "met": f"met, at {settings.trained_units} units"}


draw = functools.partial(architectures.draw_lines, scale="linear")
