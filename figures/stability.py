"""J and accuracy of rules after few and many updates of narrow and wide base models, on sets of the validation suite."""
from dataclasses import dataclass

from ops.scoring.flags import counts, setting
from ops.scoring.on_suite import SHOWN, SuiteSettings, mean, measure, suite_cells, suite_numbers  # noqa: F401
from ops.scoring.score import rules_of
from ops.scoring.settings import thetas_setting
from ops.scoring.tables import table

COLUMNS = 5  # of panels
LINES = ("-", "--", ":", "-.")  # one a theta


@dataclass(frozen=True)
class Settings(SuiteSettings):
    """Thetas, times and widths."""
    theta: tuple = thetas_setting()
    times: tuple = setting((10, 30, 100, 300, 1000, 3000), "updates after which is measured, comma separated",
                           parse=counts, many=True, quick=(10, 30, 100))
    widths: tuple = setting((32, 64, 128, 256, 512), "units of a hidden layer, comma separated", parse=counts,
                            many=True, quick=(32, 128))
    depth: int = setting(4, "hidden layers", low=1)


def cells(settings):
    """As `suite_cells`, for each of the widths."""
    networks = {f"{width} x {settings.depth}": ((width,) * settings.depth,) for width in settings.widths}
    return suite_cells(settings, rules_of(settings.theta), sorted(settings.times), networks)


def numbers(settings, results):
    """{"times", "sets": as `suite_numbers`, "missing": [lines]}; the set "suite" is the mean over those of the suite."""
    sets, missing = suite_numbers(results)
    of_suite = [found for name, found in sets.items() if name not in SHOWN]
    if of_suite:
        curves = {}
        for curve in (curve for found in of_suite for curve in found["curves"]):
            curves.setdefault((curve["label"], curve["network"]), []).append(curve)
        average = lambda name, of: [mean(values) for values in zip(*(curve[name] for curve in of))]
        sets = {"suite": {"components": mean([found["components"] for found in of_suite]), "curves": [
            of[0] | {name: average(name, of) for name in ("J", "accuracy")}
            for of in curves.values() if len(of) == len(of_suite)]}} | sets
    return {"times": sorted(settings.times), "sets": sets, "missing": missing}


def words(numbers):
    """Accuracy and J of the first set, the mean over the suite, as a table; what is missing."""
    name, found = next(iter(numbers["sets"].items()))
    text = lambda accuracy, J: f"{accuracy:.3f} ({'no J' if J is None else f'{J:.2f}'})"
    rows = {f"{c['label']}, {c['network']}": list(map(text, c["accuracy"], c["J"])) for c in found["curves"]}
    return "\n".join([f"{name}: accuracy (J) after so many updates; 32 components with their ridge tuned: "
                      + ("failed" if found["components"] is None else f"{found['components']:.3f}"), table(list(map(str, numbers["times"])), rows), *numbers["missing"]])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: of each set accuracy above, J below, against updates."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    sets = numbers["sets"]
    columns, rows = min(len(sets), COLUMNS), -(-len(sets) // COLUMNS)
    figure = Figure(figsize=(1.2 + 2.5 * columns, 0.9 + 3.8 * rows), dpi=110, layout="constrained")
    panels = figure.subplots(2 * rows, columns, squeeze=False, sharey="row")
    for axes in panels.flat:
        axes.set_visible(False)
    labels, networks = (list(dict.fromkeys(c[key] for found in sets.values() for c in found["curves"]))
                        for key in ("label", "network"))
    for i, (name, found) in enumerate(sets.items()):
        pair = [panels[2 * (i // columns) + k, i % columns] for k in range(2)]
        pair[0].set_title(_title(name), fontsize=9)
        for axes, what in zip(pair, ("accuracy", "J")):
            axes.set_visible(True)
            for c in found["curves"]:
                color = colormaps["viridis"](networks.index(c["network"]) / max(1, len(networks) - 0.5))
                axes.plot(numbers["times"], [float("nan") if v is None else v for v in c[what]], marker=".",
                          linestyle=LINES[labels.index(c["label"]) % len(LINES)], color=color, linewidth=1.2,
                          label=f"{c['label']}, {c['network']}")
            axes.set_xscale("log")
            axes.set_xticks(numbers["times"], numbers["times"] if what == "J" else [], fontsize=8)
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            if i % columns == 0:
                axes.set_ylabel(what)
        if found["components"] is not None:
            pair[0].axhline(found["components"], color="#888888", linewidth=1, linestyle=(0, (1, 1)),
                            label="32 components, ridge tuned")
        pair[1].set_xlabel("updates")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6), fontsize=8, frameon=False)
    return figure


def _title(name):
    return f"{name}, training split\n(never to choose by)" if name in SHOWN else \
        "mean over the suite" if name == "suite" else name
