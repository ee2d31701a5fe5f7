"""Where it fails: which classes a rule's features confuse."""
import os
import textwrap
from dataclasses import dataclass

import numpy as np

import unsup_meta as um
from figures.comparison import TITLES
from ops.scoring import score
from ops.scoring.few_shot import few_shot_confusion
from ops.scoring.flags import setting
from ops.scoring.methods import Learned
from ops.scoring.methods.base_model import ordered
from ops.scoring.methods.readout import reference_batch, seen
from ops.scoring.settings import BATCHES, DRAWS, PHI, DataSettings, ScoreSettings, thetas_setting

NAMED = 3  # pairs of classes that are told in words
SHOWN = 0.05  # the smallest share that is written into its square


@dataclass(frozen=True)
class Settings(DataSettings):
    """Thetas, the mean of which is drawn."""
    theta: tuple = thetas_setting()
    seeds: int = setting(3, "base models", low=1, quick=1)
    ways: int = setting(None, "all classes", hidden=True)
    test_images: int = setting(None, "all test images", hidden=True)


def cells(settings):
    """Every theta on every data set.  InputError as `score.cells`."""
    found = []
    for name in settings.data:
        data = score.data_of(name, settings, absent=True)
        for label, rule in score.rules_of(settings.theta, settings.lr, settings.norm_eps).items():
            found += score.method_cells(data, settings, "learned", rule._asdict(), [settings.inner_steps], label)
    return found


def measure(cell):
    """[classes, classes], `few_shot_confusion` of one base model.  InputError as `load_dataset` and the rule's `apply`."""
    settings, rule, data = ScoreSettings(**cell["settings"]), Learned(**cell["given"]), cell["data"]
    dataset, dtype = ordered(score.loaded(data), settings, cell["seed"]), rule.theta["merge"].dtype
    x_train, x_test = (x.astype(dtype, copy=False) for x in (dataset.x_train, dataset.x_test))
    phi = um.init_phi(settings.stream(PHI, cell["seed"]), data["sizes"], dtype)
    phi = rule.apply(phi, seen(x_train, settings), range(cell["steps"][0]), settings.stream(BATCHES, cell["seed"]),
                     settings.activation)
    train, test = (um.features(phi, x, reference_batch(x_train, settings), settings.activation) for x in (x_train, x_test))
    return few_shot_confusion(train, dataset.y_train, test, dataset.y_test, settings.shots, settings.draws,
                              settings.stream(DRAWS)).tolist()


def numbers(settings, results):
    """{"panels": [{"title", "classes", "shares" [C, C], "accuracy"}, or "title" and "error"]}; shares are means over thetas, base
    models and draws, rows true classes, "accuracy" the mean of their diagonal."""
    found = {}
    for r in results:
        found.setdefault(r.cell["data"]["data"], []).append(r)
    panels = []
    for name, of in found.items():
        panel, error = {"title": TITLES.get(name, os.path.basename(name)).replace("\n", " ")}, next(
            (r.error for r in of if r.error), None)
        if not error:
            shares = np.mean([r.value for r in of], axis=0)
            panel |= {"classes": list(map(str, of[0].cell["data"]["classes"])), "shares": shares.tolist(),
                      "accuracy": float(np.diag(shares).mean())}
        panels.append(panel | ({"error": error} if error else {}))
    return {"panels": panels} | {name: getattr(settings, name) for name in ("shots", "draws", "seeds", "inner_steps")}


def words(numbers):
    """The worst confusions of each data set, a line each."""
    lines = []
    for panel in numbers["panels"]:
        if "error" in panel:
            lines.append(f"{panel['title']}: {panel['error']}")
            continue
        wrong = np.array(panel["shares"]) * (1 - np.eye(len(panel["classes"])))
        worst = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None)[:NAMED]]
        told = ", ".join(f"{panel['classes'][a]} for {panel['classes'][b]} {wrong[a, b]:.2f}" for a, b in worst)
        lines.append(f"{panel['title']}: mean over classes {panel['accuracy']:.3f}; most often taken: {told}")
    return "\n".join(lines)


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: a matrix a data set, rows true classes."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(4.5 * len(numbers["panels"]), 5.0), dpi=120, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(numbers["panels"]), squeeze=False)[0], numbers["panels"]):
        if "error" in panel:
            axes.text(0.5, 0.5, textwrap.fill(panel["error"], 40), ha="center", va="center", fontsize=7)
            axes.set_title(panel["title"], fontsize=9.5)
            continue
        shares, classes = np.array(panel["shares"]), panel["classes"]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for a, b in zip(*np.nonzero(shares >= SHOWN)):
            axes.text(b, a, f"{100 * shares[a, b]:.0f}", ha="center", va="center", fontsize=7,
                      color="white" if shares[a, b] > 0.5 else "black")
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(len(classes)), classes, fontsize=7)
        axes.set_xlabel("taken for", fontsize=9)
        axes.set_ylabel(f"is; percent, those of {100 * SHOWN:.0f} or more", fontsize=9)
        axes.set_title(f"{panel['title']}: {panel['accuracy']:.3f}", fontsize=9.5)
    figure.suptitle(f"{numbers['inner_steps']} updates by the rule, {numbers['shots']} labelled examples per class; "
                    f"base models: {numbers['seeds']}, draws: {numbers['draws']}", fontsize=8.5)
    return figure
