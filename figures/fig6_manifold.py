"""What happens to a manifold (Fig. 6 right): outputs before and after the rule, how many dimensions they fill."""
import textwrap
from dataclasses import dataclass

import numpy as np

import unsup_meta as um
from figures.snapshots import in_words, updates
from ops.data import load_dataset
from ops.scoring.flags import setting
from ops.scoring.methods import Learned
from ops.scoring.methods.base_model import feature_accuracy
from ops.scoring.score import rule_at
from ops.scoring.settings import BATCHES, HIDDEN_AND_OUTPUT, PHI, REFERENCE, TEST, ScoreSettings, default_theta
from ops.scoring.tables import summary

PAPERS_STEPS = 10_000
SETS = {"moons": ("two moons", "#d62728"), "mnist14": ("MNIST, 14x14", "#1f77b4")}
MOST, FEW = 0.95, 16  # the share of variance that counts as most of it; far fewer than the 32 outputs


@dataclass(frozen=True)
class Settings:
    """A theta and how long it is applied."""
    theta: str = setting(lambda: default_theta()[1], "learned rule; else as of `score`", metavar="PATH")
    inner_steps: int = setting(None, f"updates; else the paper's {PAPERS_STEPS:,} in inner time, steps x lr", low=1)
    points: int = setting(1000, "test points drawn, and whose variance is taken", low=33)
    seeds: int = setting(3, "base models of the accuracies; the first is drawn", low=1)
    seed: int = setting(0, "seed of all random numbers", low=0)


def cells(settings):
    """A data set each."""
    rule = rule_at(settings.theta)
    steps = updates(settings.inner_steps, PAPERS_STEPS, rule.lr)
    return [{"name": name, "data": name, "rule": rule._asdict(), "steps": steps, "points": settings.points,
             "seeds": settings.seeds, "seed": settings.seed} for name in SETS]


def measure(cell):
    """{"labels" [n], "raw", "before", "after": {"shares" [32], "components"}, the last two with more}.

    That is "points" [n, 3] on the first three principal components of the n test points' own outputs, and "accuracies"
    [seeds, draws].  Shares of variance are cumulative; "components" is how many have MOST of it.
    """
    rule, settings, data = Learned(**cell["rule"]), ScoreSettings(seed=cell["seed"]), load_dataset(cell["data"])
    dtype = rule.theta["merge"].dtype
    data = data._replace(x_train=data.x_train.astype(dtype), x_test=data.x_test.astype(dtype))
    draw = lambda what, n, among: np.sort(settings.stream(what).permutation(among)[:n])
    reference = data.x_train[draw(REFERENCE, settings.batch_reference, len(data.x_train))]
    rows = draw(TEST, cell["points"], len(data.x_test))
    found = {"labels": data.y_test[rows].tolist(), "raw": principal(data.x_test[rows])[1]}
    accuracies = {"before": [], "after": []}
    for seed in range(cell["seeds"]):
        phi = um.init_phi(settings.stream(PHI, seed), [data.x_train.shape[1], *HIDDEN_AND_OUTPUT], dtype)
        for when, steps in (("before", 0), ("after", cell["steps"])):
            phi = rule.apply(phi, data.x_train, range(steps), settings.stream(BATCHES, seed))
            accuracies[when].append(feature_accuracy(phi, data, settings)[:, 0].tolist())
            if seed == 0:
                points, shares = principal(um.features(phi, data.x_test[rows], reference))
                found[when] = shares | {"points": np.round(points[:, :3], 3).tolist()}
    for when, of in accuracies.items():
        found[when]["accuracies"] = of
    return found


def principal(x):
    """x [n, F] -> (its projections on its principal components [n, F], {"shares", "components"} as of `measure`)."""
    centred = (x - x.mean(axis=0)).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    values = np.maximum(values[::-1], 0)
    shares = np.cumsum(values) / max(values.sum(), 1e-30)
    return centred @ vectors[:, ::-1], {"shares": shares[:HIDDEN_AND_OUTPUT[-1]].round(5).tolist(),
                                        "components": 1 + int(np.searchsorted(shares, MOST))}


def numbers(settings, results):
    """{"time": words, "panels": [...], "claim": {...}}.

    A panel: "title", "colour", "labels", "raw", "before", "after" as of `measure`, but "accuracy" {"mean", "sem", "n"},
    and its "gain"; or "title" and "error".
    """
    panels = []
    for result in results:
        title, colour = SETS[result.cell["data"]]
        panel = {"title": title, "colour": colour}
        if result.error:
            panels.append(panel | {"error": result.error})
            continue
        panel |= {"gain": summary(np.subtract(*(result.value[when]["accuracies"] for when in ("after", "before"))))}
        for when in ("before", "after"):
            of = dict(result.value[when])
            accuracy = summary(np.array(of.pop("accuracies")))
            panel[when] = of | {"accuracy": accuracy}
        panels.append(panel | {key: result.value[key] for key in ("labels", "raw")})
    cell = results[0].cell
    found = {"time": in_words(cell["steps"], cell["rule"]["lr"]), "panels": panels}
    if not any("error" in panel for panel in panels):
        moons, mnist = (panel["after"]["components"] for panel in panels)
        found["claim"] = {"moons need few components, MNIST more, both far fewer than 32": moons < mnist <= FEW}
    found.setdefault("claim", {}).update(
        {f"{panel['title']}: accuracy rises by more than 2 standard errors":
         panel["gain"]["mean"] > 2 * panel["gain"]["sem"] for panel in panels if "error" not in panel})
    return found


def words(numbers):
    """Components and accuracies, before and after; the paper's claims."""
    lines = [f"after {numbers['time']}"]
    for panel in (panel for panel in numbers["panels"] if "error" not in panel):
        text = [f"{when}: {panel[when]['components']} components for {MOST:.0%} of variance, 10-shot accuracy "
                f"{panel[when]['accuracy']['mean']:.3f}" for when in ("before", "after")]
        lines.append(f"{panel['title']}: {'; '.join(text)}; raw inputs: "
                     f"{panel['raw']['components']} components")
    return "\n".join(lines + [f"{claim}: {'holds' if holds else 'does not hold'}"
                              for claim, holds in numbers["claim"].items()])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: a row of scatter plots for each set, at the right variance curves."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(12.5, 6.4), dpi=120, layout="constrained")
    grid = figure.add_gridspec(2, 4)
    right = figure.add_subplot(grid[:, 2:])
    for row, panel in enumerate(numbers["panels"]):
        for column, when in enumerate(("before", "after")):
            if "error" in panel:
                axes = figure.add_subplot(grid[row, column])
                axes.set_axis_off()
                axes.text(0.5, 0.5, textwrap.fill(panel["error"], 32), ha="center", va="center", fontsize=8)
                continue
            axes = figure.add_subplot(grid[row, column], projection="3d")
            _scatter(axes, panel, when)
        if "error" not in panel:
            _curves(right, panel)
    right.axhline(MOST, color="#bbbbbb", linewidth=0.8)
    right.set(xlabel="principal components", ylabel="cumulative share of variance", ylim=(0, 1.02), xlim=(0.5, 32.5))
    right.set_xticks([1, 4, 8, 16, 24, 32])
    right.grid(alpha=0.3)
    right.legend(fontsize=10, loc="lower right")
    figure.suptitle(f"outputs of the base model on test points, before and after {numbers['time']}", fontsize=11)
    return figure


def _scatter(axes, panel, when):
    points, labels = np.array(panel[when]["points"]), np.array(panel["labels"])
    colours = ("#d62728", "#1f77b4") if labels.max() < 2 else [f"C{digit}" for digit in range(10)]
    axes.scatter(*points.T, c=[colours[label] for label in labels], s=5, linewidths=0, alpha=0.8, depthshade=False)
    accuracy = panel[when]["accuracy"]["mean"]
    axes.set_title(f"{panel['title']}, {when} the rule\n10-shot accuracy {accuracy:.2f}", fontsize=10)
    axes.set(xticklabels=[], yticklabels=[], zticklabels=[])
    axes.set_xlabel("PC 1", labelpad=-12, fontsize=8)
    axes.set_ylabel("PC 2", labelpad=-12, fontsize=8)
    axes.set_zlabel("PC 3", labelpad=-12, fontsize=8)


def _curves(axes, panel):
    for key, name, style in (("after", "after the rule", {"linestyle": "-", "linewidth": 2.2, "marker": "."}),
                             ("before", "before the rule", {"linestyle": ":", "linewidth": 1.6}),
                             ("raw", "raw inputs", {"linestyle": (0, (1, 3)), "linewidth": 1.2})):
        shares = panel[key]["shares"]
        axes.plot(range(1, len(shares) + 1), shares, color=panel["colour"], **style,
                  label=f"{panel['title']}, {name} ({panel[key]['components']} for {MOST:.0%})")
