"""Accuracy against inner steps of base models of other widths and depths (workshop Fig. 3): Fig. 5's numbers, turned."""
from dataclasses import dataclass

from figures import architectures
from figures.architectures import ArchitectureSettings, difference, words  # noqa: F401  (words: part of an experiment)
from ops.scoring.flags import counts, setting
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)
from ops.scoring.settings import curve_steps

WIDE, DEEP = "width", "depth"


@dataclass(frozen=True)
class Settings(ArchitectureSettings):
    """Widths at one depth, depths at one width."""
    widths: tuple = setting((16, 32, 64, 128, 256, 512), "units of each of --depth hidden layers, comma separated", parse=counts,
                            many=True, quick=(16, 64, 256))
    depths: tuple = setting((1, 2, 3, 4, 6, 8), "hidden layers of --width units, comma separated", parse=counts, many=True,
                            quick=(1, 2, 4, 8))
    width: int = setting(128, "units", low=1)
    depth: int = setting(2, "hidden layers", low=1)
    inner_steps: tuple = setting((300,), "updates by the rule", parse=counts, many=True, quick=(100,))
    trained_widths: tuple = setting((32, 96), "fewest and most units met in meta-training", parse=counts, many=True)
    trained_depths: tuple = setting((2, 5), "fewest and most hidden layers met there", parse=counts, many=True)


def cells(settings):
    """As `architectures.architecture_cells`; a value is "width 64" or "depth 3"."""
    architectures.two(settings, "trained_widths", "trained_depths")
    steps = curve_steps(max(settings.inner_steps))
    variants = [(f"{WIDE} {n}", (n,) * settings.depth, {}, steps) for n in sorted(settings.widths)]
    variants += [(f"{DEEP} {n}", (settings.width,) * n, {}, steps) for n in sorted(settings.depths)]
    return architectures.architecture_cells(settings, variants)


def numbers(settings, results):
    """As `architectures.architecture_numbers`, "claim", and "trained" {what: fewest and most}."""
    found = architectures.by_value(results)
    last, high = max(settings.inner_steps), max(settings.trained_widths)
    ends = {value: (at.get(last, {}), at.get(0, {})) for value, at in found.items()}
    claim = {f"learning works with {value} ({last} inner steps)": difference(*pair) for value, pair in ends.items()
             if not _met(value, settings.width, settings.depth, settings.trained_widths, settings.trained_depths)}
    met = max((n for n in settings.widths if min(settings.trained_widths) <= n <= high), default=None)
    for n in settings.widths:
        if met is not None and n > high:
            claim[f"{n} units are better than {met}, which were met ({last} inner steps)"] = difference(
                ends[f"{WIDE} {n}"][0], ends[f"{WIDE} {met}"][0])
    return architectures.architecture_numbers(settings, results, found) | {
        "claim": claim, "value": f"{settings.depth} layers of so many units; so many layers of {settings.width}",
        "width": settings.width, "depth": settings.depth,
        "trained": {WIDE: list(settings.trained_widths), DEEP: list(settings.trained_depths)}}


def _met(value, width, depth, widths, depths):
    """Whether meta-training met base models of this width and this depth."""
    what, n = value.split()
    of = {WIDE: width, DEEP: depth} | {what: int(n)}
    return widths[0] <= of[WIDE] <= widths[1] and depths[0] <= of[DEEP] <= depths[1]


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: a line per base model, solid where meta-training met its size."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10.4, 4.8), dpi=120, layout="constrained")
    steps = list(map(int, architectures.steps_in(numbers)))
    shown = [s for s in steps if s == steps[-1] or s <= steps[-1] / 4]  # those between would lie on each other
    for axes, what in zip(figure.subplots(1, 2, sharey=True), (WIDE, DEEP)):
        bars = [bar for bar in numbers["bars"] if bar["value"].startswith(what)]
        for i, bar in enumerate(bars):
            at = [(s, bar["steps"][str(s)]) for s in steps if str(s) in bar["steps"]]
            solid = _met(bar["value"], numbers["width"], numbers["depth"], numbers["trained"][WIDE], numbers["trained"][DEEP])
            axes.errorbar([s for s, _ in at], [p["mean"] for _, p in at], [p["sem"] or 0 for _, p in at],
                          color=colormaps["viridis"](0.9 * i / max(1, len(bars) - 1)), linestyle="-" if solid else "--",
                          marker="o", markersize=3.5, capsize=2, elinewidth=0.8, label=bar["value"])
        axes.set_xscale("symlog", linthresh=max([1, *steps[1:2]]))
        axes.set_xticks(shown, [f"{s:,}" for s in shown])
        axes.minorticks_off()
        axes.set_xlabel("inner steps")
        architectures.dress(axes, numbers)
        axes.legend(fontsize=8, frameon=False, loc="lower right", title="solid: met in meta-training", title_fontsize=7.5)
    figure.get_axes()[1].set_ylabel("")
    return figure
