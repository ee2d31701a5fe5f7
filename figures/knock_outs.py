"""What each part of a learned rule is for: accuracy with it taken out, nothing learned anew (the ablation the slides miss)."""
import textwrap
from dataclasses import dataclass

import numpy as np

from figures.comparison import TITLES
from ops.command_line import chosen_from
from ops.scoring import score
from ops.scoring.flags import setting
from ops.scoring.methods import method_colour
from ops.scoring.methods.knocked_out import PARTS
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)
from ops.scoring.settings import DataSettings, thetas_setting
from ops.scoring.tables import CLEAR, cell_text, summary, table

WHOLE, *REST = PARTS


@dataclass(frozen=True)
class Settings(DataSettings):
    """Thetas, the mean of which is drawn; which parts are taken out in turn."""
    theta: tuple = thetas_setting()
    data: tuple = setting(("mnist14", "fashion14", "cifar10", "omniglot"), "data sets, comma separated or repeated",
                          parse=lambda text: text.split(","), many=True, quick=("mnist14", "fashion14"), metavar="NAME")
    parts: tuple = setting(tuple(REST), f"what is taken out, comma separated, of: {', '.join(REST)}",
                           parse=chosen_from(REST), many=True)
    ways: int = setting(10, "classes in a draw, drawn anew for each, if there are more", low=2)
    test_images: int = setting(2000, "test images of a draw's classes, about, drawn at random once", low=1)
    seeds: int = setting(3, "base models", low=1, quick=1)


def cells(settings):
    """Every theta on every data set, whole and without each part.  InputError as `score.cells`."""
    found = []
    for name in settings.data:
        data = score.data_of(name, settings, absent=True)
        for label, rule in score.rules_of(settings.theta, settings.lr, settings.norm_eps).items():
            for part in (WHOLE, *settings.parts):
                found += [cell | {"part": part, "theta": label} for cell in score.method_cells(
                    data, settings, "knocked-out", rule._asdict() | {"part": part}, [settings.inner_steps], f"{label}, {part}")]
    return found


def numbers(settings, results):
    """{"groups": [...]}, one for each data set; beside them shots, draws, seeds, inner_steps, thetas.

    A group: "title"; "whole" {"mean", "sem", "n"}; "parts" {part: {"mean", "sem", "n"}}, changes of accuracy over common
    thetas, base models and draws, mean None where a base model became infinite; or "title" and "error".
    """
    groups, whole = {}, {}
    for cell, values, error in score.gathered(results):
        name, key = cell["data"]["data"], (cell["data"]["data"], cell["theta"])
        group = groups.setdefault(name, {"title": TITLES.get(name, name), "found": {}})
        if error and ("classes" not in cell["data"] or cell["part"] == WHOLE):
            group["error"] = error
        elif cell["part"] == WHOLE:
            whole[key] = values[0, ..., 0]
            group["found"].setdefault(WHOLE, []).append(whole[key])
        elif key in whole:
            group["found"].setdefault(cell["part"], []).append(None if error else values[0, ..., 0] - whole[key])
    for group in groups.values():
        found = group.pop("found")
        if "error" not in group:
            group |= {"whole": summary(np.concatenate(found.pop(WHOLE))),
                      "parts": {part: _change(changes) for part, changes in found.items()}}
    return {"groups": list(groups.values()), "thetas": len(settings.theta)} | {
        name: getattr(settings, name) for name in ("shots", "draws", "seeds", "inner_steps")}


def _change(changes):
    if any(change is None for change in changes):
        return {"mean": None, "sem": None, "n": 0}
    return summary(np.concatenate(changes))


def words(numbers):
    """Changes as a table, a row a part, a column a data set."""
    groups = [group for group in numbers["groups"] if "error" not in group]
    rows = {"the whole rule": [cell_text(group["whole"]) for group in groups]}
    for part in dict.fromkeys(part for group in groups for part in group["parts"]):
        rows[f"without {part}"] = [cell_text(group["parts"][part]) for group in groups]
    return "\n".join([f"accuracy, {numbers['shots']} labelled examples per class, {numbers['inner_steps']} inner steps, and its "
                      "change", table([group["title"].replace("\n", " ") for group in groups], rows),
                      *(f"{of['title']}: {of['error']}".replace("\n", " ") for of in numbers["groups"] if "error" in of)])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: a panel a data set, a bar a part."""
    from matplotlib.figure import Figure
    groups = numbers["groups"]
    figure = Figure(figsize=(2.2 + 2.3 * len(groups), 5.4), dpi=120, layout="constrained")
    parts = list(dict.fromkeys(part for group in groups for part in group.get("parts", ())))
    for axes, group in zip(figure.subplots(1, len(groups), squeeze=False, sharey=True)[0], groups):
        axes.set_title(group["title"], fontsize=9)
        if "error" in group:
            axes.text(0.5, 0.5, textwrap.fill(group["error"], 28), transform=axes.transAxes, ha="center", va="center", fontsize=7)
            continue
        for place, part in enumerate(parts):
            _bar(axes, place, group["parts"][part])
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel(f"of {group['whole']['mean']:.3f}", fontsize=8.5)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    axes = figure.get_axes()[0]
    axes.set_yticks(range(len(parts)), parts)
    axes.set_ylim(len(parts) - 0.4, -0.6)
    line = (f"change in accuracy without it, with its standard error over common draws; thetas: {numbers['thetas']}, base models of "
            f"each: {numbers['seeds']}, draws: {numbers['draws']}; grey: less than {CLEAR:.0f} standard errors")
    figure.supxlabel(textwrap.fill(line, 30 + 32 * len(groups)), fontsize=8)
    return figure


def _bar(axes, place, change):
    if change["mean"] is None:
        axes.text(0, place, " infinite", va="center", fontsize=7)
        return
    clear = abs(change["mean"]) > CLEAR * (change["sem"] or 0)
    axes.barh(place, change["mean"], 0.7, xerr=change["sem"] or 0, color=method_colour("learned" if clear else "random"),
              error_kw={"elinewidth": 1, "capsize": 2})
