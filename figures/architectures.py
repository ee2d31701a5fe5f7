"""What the figures of other base models share (Fig. 5): accuracy after some updates by the rule, a row per base model."""
from dataclasses import dataclass

import numpy as np

from ops.errors import InputError
from ops.scoring import score
from ops.scoring.flags import counts, setting
from ops.scoring.methods import LOOKS, baselines_of, method_colour, method_label, row_name
from ops.scoring.settings import DataSettings, thetas_setting
from ops.scoring.tables import cell_text, summaries, summary, table
from ops.scoring.tables import difference as of_pairs

OUTPUT = 32  # units of the layer on top, which no count of layers includes


@dataclass(frozen=True)
class ArchitectureSettings(DataSettings):
    """Thetas, drawn as one method, on one data set; when accuracy is measured."""
    theta: tuple = thetas_setting()
    data: str = setting("mnist14", "the data set, as of `score`", metavar="NAME|PATH.npz")
    inner_steps: tuple = setting((30, 100, 300, 1000), "updates by the rule after which is measured, beside the start, "
                                 "comma separated", parse=counts, many=True, quick=(30, 100))
    seeds: int = setting(3, "base models", low=1, quick=1)
    tuned_ridge: bool = setting(False, "the paper's alone", hidden=True)


def two(settings, *names):
    """InputError unless each of these fields has two values."""
    for name in names:
        if len(getattr(settings, name)) != 2:
            raise InputError(f"--{name.replace('_', '-')}: give two, the fewest and the most")


def steps_of(settings, most=np.inf):
    """0 and those of settings.inner_steps up to `most`."""
    return sorted({0, *(n for n in settings.inner_steps if n <= most)})


def architecture_cells(settings, variants):
    """Cells of each theta on each of (value, hidden sizes, fields of `ScoreSettings` that change, steps).

    A cell also holds "value", what stands on the x axis, and "theta", a name.  InputError as `score.cells`.
    """
    data, found = score.data_of(settings.data, settings), []
    for baseline in baselines_of(settings.baselines):
        found += score.method_cells(data, settings, baseline)
    for name, rule in score.rules_of(settings.theta, settings.lr, settings.norm_eps).items():
        for value, hidden, changed, steps in variants:
            sizes = {"sizes": [data["sizes"][0], *hidden, OUTPUT]}
            for cell in score.method_cells(data | sizes, settings, "learned", rule._asdict(), steps, f"{name}, {value}"):
                if cell["seed"] < changed.get("seeds", settings.seeds):
                    fixed = cell["settings"] | {k: v for k, v in changed.items() if k != "seeds"}
                    found.append(cell | {"settings": fixed, "value": value, "theta": name})
    return found


def by_value(results):
    """{value: {step: {theta: accuracies [seeds, draws]}}} of the rules, {value: {}} where all failed."""
    found = {}
    for cell, values, error in score.gathered(results):
        if cell["method"] == "learned":
            at = found.setdefault(cell["value"], {})
            for step, accuracies in () if error else zip(cell["steps"], values[..., 0]):
                at.setdefault(step, {})[cell["theta"]] = accuracies
    return found


def architecture_numbers(settings, results, found):
    """{"bars", "baselines": {name: {"mean", "sem", "n"}}, "failed": [lines]} and settings; found as of `by_value`.

    bars [{"value", "steps": {step: {"mean", "sem", "n", "thetas": {name: mean}}}}]: means and standard errors over draws,
    with the base models of all thetas as seeds.
    """
    gathered = score.gathered(results)
    failed = [f"{cell['label'] or cell['method']}: {error}" for cell, _, error in gathered if error]
    baselines = {row_name(cell["method"], cell["data"]): summaries(values[0]) for cell, values, error in gathered
                 if not error and cell["method"] != "learned"}
    bars = [{"value": value, "steps": {str(step): _row(of) for step, of in at.items()}} for value, at in found.items()]
    return {"bars": bars, "baselines": baselines, "failed": failed} | {
        name: getattr(settings, name) for name in ("data", "inner_steps", "shots", "draws", "seeds")}


def _row(of):
    return summary(np.concatenate(list(of.values()))) | {"thetas": {name: float(a.mean()) for name, a in of.items()}}


def difference(after, before):
    """`tables.difference` of {theta: accuracies [seeds, draws]} over common thetas and seeds; None where there are none."""
    common = [(after[name], before[name]) for name in after if name in before]
    return of_pairs([(a[:len(b)], b[:len(a)]) for a, b in common]) if common else None


def claim_words(claim):
    """A line for each claim of {text: `difference` or None}."""
    says = lambda c: "not measured" if c is None else f"{'holds' if c['holds'] else 'does NOT hold'} (" + ", ".join(
        f"{name} {c[name]:.3f}" for name in c if name != "holds" and c[name] is not None) + ")"
    return [f"{text}: {says(c)}" for text, c in claim.items()]


def words(numbers):
    """The numbers as a table, a row per base model; the paper's claims; what failed."""
    steps = steps_in(numbers)
    rows = {str(bar["value"]): [cell_text(bar["steps"][s]) if s in bar["steps"] else "-" for s in steps]
            for bar in numbers["bars"]}
    rows |= {method_label(name): [cell_text(row)] + [""] * (len(steps) - 1) for name, row in numbers["baselines"].items()}
    first = f"{numbers['data']}, {numbers['shots']} labelled examples per class; {numbers['value']}, after inner steps:"
    return "\n".join([first, table(steps, rows), *claim_words(numbers["claim"]), *numbers["failed"]])


def steps_in(numbers):
    """The steps measured, as keys of JSON, rising."""
    return sorted({s for bar in numbers["bars"] for s in bar["steps"]}, key=int)


def colours(steps):
    """{step: colour}: the start's is that of random start, the others go from pale to the learned rule's and to black."""
    from matplotlib.colors import LinearSegmentedColormap
    shade = LinearSegmentedColormap.from_list("rule", ("#b8d8f0", LOOKS["learned"][1], "#00243b"))
    rest = [s for s in steps if s != "0"]
    return {"0": LOOKS["random"][1]} | {s: shade((i + 0.5) / len(rest)) for i, s in enumerate(rest)}


def step_label(step):
    """A line's name."""
    return LOOKS["random"][0] if step == "0" else f"{int(step):,} inner steps"


def draw_lines(numbers, scale):
    """A Matplotlib Figure: a line per inner step against the value, the range met in meta-training shaded."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(6.4, 4.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.axvspan(*numbers["trained"], color="#f0e442", alpha=0.25, linewidth=0, label=numbers.get("met", "met in meta-training"))
    steps = steps_in(numbers)
    for step, colour in colours(steps).items():
        at = [(bar["value"], bar["steps"][step]) for bar in numbers["bars"] if step in bar["steps"]]
        axes.errorbar([v for v, _ in at], [p["mean"] for _, p in at], [p["sem"] or 0 for _, p in at], color=colour,
                      marker="o", markersize=4.5, linewidth=1.6, elinewidth=1, capsize=2, label=step_label(step))
        if steps and step == steps[-1] and any(len(p["thetas"]) > 1 for _, p in at):
            dots = [(v, mean) for v, p in at for mean in p["thetas"].values()]
            axes.plot(*zip(*dots), "o", color=colour, markersize=3, markerfacecolor="white", label="each theta")
    axes.set_xscale(scale)
    values = [bar["value"] for bar in numbers["bars"]]
    axes.set_xticks(values, [f"{v:,}" for v in values], rotation=45 if max(values, default=0) >= 1000 else 0)
    axes.minorticks_off()
    axes.set_xlabel(numbers["value"])
    dress(axes, numbers)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    return figure


def dress(axes, numbers):
    """The baselines, the y axis and the title."""
    for i, (name, row) in enumerate(numbers["baselines"].items()):
        axes.axhline(row["mean"], color=method_colour(name), linewidth=1.1, linestyle=("--", ":", "-.")[i % 3],
                     label=method_label(name))
    axes.set_ylim(0, 1)
    name = "14x14 MNIST" if numbers["data"] == "mnist14" else numbers["data"].rsplit("/", 1)[-1]
    axes.set_ylabel(f"{name} accuracy, {numbers['shots']} labelled a class")
    count = max((len(p["thetas"]) for bar in numbers["bars"] for p in bar["steps"].values()), default=0)
    axes.set_title(f"mean and standard error; thetas: {count}, base models of each: {numbers['seeds']}, draws: "
                   f"{numbers['draws']}", fontsize=8.5)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
