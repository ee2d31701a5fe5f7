"""Accuracy of base models with other activation functions after some updates by the rule (Fig. 5, activations)."""
from dataclasses import dataclass

from figures import architectures
from figures.architectures import (ArchitectureSettings, colours, difference, step_label, steps_in, steps_of,  # noqa: F401
                                   words)
from ops.command_line import chosen_from
from ops.rule.activations import ACTIVATIONS
from ops.scoring.flags import setting
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)
from ops.scoring.settings import HIDDEN_AND_OUTPUT

TITLES = {"relu": "ReLU", "leaky_relu": "leaky\nReLU 0.2", "elu": "ELU"}
KEPT = 0.02  # of accuracy: so much less than ReLU's is little


@dataclass(frozen=True)
class Settings(ArchitectureSettings):
    """Activation functions."""
    activation: str = setting("relu", "each in turn", hidden=True)
    activations: tuple = setting(tuple(ACTIVATIONS), "activation functions, comma separated",
                                 parse=chosen_from(ACTIVATIONS), many=True)


def cells(settings):
    """As `architectures.architecture_cells`."""
    return architectures.architecture_cells(settings, [
        (name, HIDDEN_AND_OUTPUT[:-1], {"activation": name}, steps_of(settings)) for name in settings.activations])


def numbers(settings, results):
    """As `architectures.architecture_numbers`, "claim": {text: `difference`} and "value".

    The last claim has "ratio" beside it: accuracy over random start's.
    """
    found = architectures.by_value(results)
    last = max(settings.inner_steps)
    ends = {name: (at.get(last, {}), at.get(0, {})) for name, at in found.items()}
    claim = {f"{name} gains on its random start ({last} inner steps)": difference(*pair) for name, pair in ends.items()}
    for name in ("leaky_relu", "swish"):
        if name in ends and "relu" in ends:
            against = difference(ends[name][0], ends["relu"][0])
            claim[f"{name} loses no more than {KEPT} against relu"] = against and against | {
                "holds": against["difference"] >= -KEPT}
    if ends.get("step", ({}, {}))[0]:
        after, before = (sum(a.mean() for a in of.values()) / len(of) for of in ends["step"])
        claim["step reaches twice its random start"] = {"ratio": float(after / before),
                                                         "holds": bool(after >= 2 * before)}
    return architectures.architecture_numbers(settings, results, found) | {"claim": claim, "value": "activation function"}


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: a bar per inner step for each function."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(8.4, 4.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    steps = steps_in(numbers)
    for i, (step, colour) in enumerate(colours(steps).items()):
        at = [(x, bar["steps"][step]) for x, bar in enumerate(numbers["bars"]) if step in bar["steps"]]
        width = 0.84 / max(1, len(steps))
        axes.bar([x + (i + 0.5) * width - 0.42 for x, _ in at], [p["mean"] for _, p in at], width * 0.95, color=colour,
                 yerr=[p["sem"] or 0 for _, p in at], error_kw={"elinewidth": 0.9, "capsize": 1.5},
                 label=step_label(step))
    names = [bar["value"] for bar in numbers["bars"]]
    axes.set_xticks(range(len(names)), [TITLES.get(name, name) for name in names])
    architectures.dress(axes, numbers)
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=max(1, len(steps)), fontsize=8.5, frameon=False)
    return figure
