"""Does the order of the inputs matter?  Natural order against ten random ones, on the same base models, batches and draws.

Meta-training gives every task an order of its own; the paper's claim is that the rule loses nothing by it (Fig. 2 right).
"""
import dataclasses
import textwrap
from dataclasses import dataclass

import numpy as np

from figures.comparison import TITLES, legend
from ops.scoring import score
from ops.scoring.flags import setting
from ops.scoring.methods import method_colour
from ops.scoring.score import measure  # noqa: F401  (part of an experiment)
from ops.scoring.settings import DataSettings, thetas_setting
from ops.scoring.tables import CLEAR, cell_text, summary, table


@dataclass(frozen=True)
class Settings(DataSettings):
    """Thetas, the mean of which is drawn."""
    theta: tuple = thetas_setting()
    permute: int = setting(None, "each order in turn", hidden=True)
    orders: int = setting(10, "random orders of the inputs", low=2, quick=5)
    seeds: int = setting(3, "base models", low=1, quick=1)


def cells(settings):
    """Every theta on every data set, in natural order and in each random one.  InputError as `score.cells`."""
    rules, found = score.rules_of(settings.theta, settings.lr, settings.norm_eps), []
    for name in settings.data:
        data = score.data_of(name, settings, absent=True)
        for order in (None, *range(settings.orders)):
            of = dataclasses.replace(settings, permute=order)
            for label, rule in rules.items():
                found += [cell | {"order": order} for cell in score.method_cells(
                    data, of, "learned", rule._asdict(), [settings.inner_steps], f"{label}, order {order}")]
    return found


def numbers(settings, results):
    """{"groups": [...]}, one for each data set; beside them shots, draws, seeds, orders, inner_steps, thetas.

    A group: "title"; "natural" {"mean", "sem", "n"}; "orders" [mean of each]; "lost" {"mean", "sem", "holds"}: natural order less
    the random ones; its standard error is that of one order less the mean of n, from their spread; holds: less than CLEAR of
    them.  Or "title" and "error".
    """
    found = {}
    for cell, values, error in score.gathered(results):
        group = found.setdefault(cell["data"]["data"], {})
        if error:
            group["error"] = error
        else:
            group.setdefault(cell["order"], []).append(values[0, ..., 0])
    groups = []
    for name, of in found.items():
        group = {"title": TITLES.get(name, name)}
        if "error" not in of:
            natural, *orders = (np.concatenate(of[key]) for key in (None, *range(settings.orders)))
            lost = [float((natural - order).mean()) for order in orders]
            mean, sem = float(np.mean(lost)), float(np.std(lost, ddof=1) * (1 + 1 / len(lost)) ** 0.5)
            group |= {"natural": summary(natural), "orders": [float(order.mean()) for order in orders],
                      "lost": {"mean": mean, "sem": sem, "holds": bool(mean < CLEAR * sem)}}
        groups.append(group | ({"error": of["error"]} if "error" in of else {}))
    return {"groups": groups, "thetas": len(settings.theta)} | {
        name: getattr(settings, name) for name in ("shots", "draws", "seeds", "orders", "inner_steps")}


def words(numbers):
    """A row a data set; what is missing."""
    rows = {g["title"].replace("\n", " "): [cell_text(g["natural"]), f"{np.mean(g['orders']):.3f}", cell_text(g["lost"]),
                                            "holds" if g["lost"]["holds"] else "does NOT hold"]
            for g in numbers["groups"] if "error" not in g}
    lines = [f"{g['title']}: {g['error']}".replace("\n", " ") for g in numbers["groups"] if "error" in g]
    return "\n".join([table(["natural order", f"{numbers['orders']} random ones", "lost", "the rule loses nothing"], rows), *lines])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: natural order a bar, each random one a dot."""
    from matplotlib.figure import Figure
    groups = numbers["groups"]
    figure = Figure(figsize=(2.4 + 1.6 * len(groups), 4.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for x, group in enumerate(groups):
        if "error" in group:
            axes.text(x, 0.5, textwrap.fill(group["error"], 22), ha="center", va="center", fontsize=7)
            continue
        axes.bar(x, group["natural"]["mean"], 0.5, color=method_colour("learned"), alpha=0.85, yerr=group["natural"]["sem"] or 0,
                 error_kw={"elinewidth": 1, "capsize": 2}, label="natural order")
        places = x + np.linspace(-0.2, 0.2, len(group["orders"]))
        axes.plot(places, group["orders"], "o", markersize=4.5, color="white", markeredgecolor="black", label="a random order")
    axes.set_xticks(range(len(groups)), [group["title"] for group in groups])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(0, 1)
    axes.set_ylabel(f"accuracy, {numbers['shots']} labelled examples per class")
    axes.set_title(f"thetas: {numbers['thetas']}, base models: {numbers['seeds']}, draws: {numbers['draws']}; "
                   f"{numbers['inner_steps']} inner steps", fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    legend(figure, 2, fontsize=8.5)
    return figure
