"""What a VAE's objective has to do with the task: accuracy and ELBO while it trains (Fig. 2 left).

Trained and scored on the same images, with labels of the training split, so that over-fitting is not what is seen.
"""
import textwrap
from dataclasses import dataclass

import numpy as np

from figures.comparison import TITLES, legend
from ops.data import load_dataset
from ops.scoring.few_shot import accuracy_within, mean_and_sem
from ops.scoring.flags import data_names, positive, setting
from ops.scoring.methods import VAE, method_colour, method_label
from ops.scoring.methods.components import COMPONENTS, project_on_components
from ops.scoring.methods.readout import reference_batch, scored
from ops.scoring.methods.vae import evaluated_elbo, in_unit_range
from ops.scoring.score import data_of
from ops.scoring.settings import DRAWS, REFERENCE, TEST, DataSettings, ScoreSettings
from ops.scoring.tables import table

HIDDEN_AND_LATENTS = (128, 128, 128, 32)  # H.3.1
FIRST = 10          # updates at the first point after the untrained encoder
ELBO_IMAGES = 2000  # of each split


@dataclass(frozen=True)
class Settings:
    """Which images, for how long."""
    data: tuple = setting(("cifar10",), "data sets, comma separated or repeated, a column each", parse=data_names,
                          many=True, metavar="NAME|PATH.npz", quick=("letters",))
    images: int = setting(50_000, "training images, drawn at random; all where there are fewer", low=128, quick=3000)
    steps: int = setting(100_000, "updates of the VAE", low=FIRST, quick=8000)
    points: int = setting(25, "points of a curve, spaced geometrically", low=2, quick=12)
    seeds: int = setting(3, "VAEs", low=1, quick=2)
    shots: int = setting(10, "labelled examples per class", low=1)
    draws: int = setting(20, "draws of labelled examples", low=4)
    seed: int = setting(0, "seed of all random numbers", low=0)
    rate: float = setting(1e-4, "Adam's", parse=positive)
    data_dir: str = setting(None, "where data files lie; else $UNSUP_META_DATA or ~/.cache/unsup_meta", metavar="PATH")


def cells(settings):
    """A VAE of each seed, raw inputs and components on each data set.  InputError as `data_of`."""
    common, found = {name: getattr(settings, name) for name in ("shots", "draws", "seed")}, []
    steps = [0, *dict.fromkeys(map(round, np.geomspace(FIRST, settings.steps, settings.points).tolist()))]
    for name in settings.data:
        data = data_of(name, DataSettings(data_dir=settings.data_dir, standardise="no", **common), absent=True)
        cell = {"data": data, "images": settings.images, "settings": common}
        found += [cell | {"name": f"{name}, VAE {k}", "method": "vae", "seed": k, "steps": steps, "rate": settings.rate}
                  for k in range(settings.seeds)]
        found += [cell | {"name": f"{name}, {method}", "method": method} for method in ("raw", "pca")]
    return found


def measure(cell):
    """{"train", "test": accuracies [points][draws], "nelbo", "test_nelbo": nats per image [points], "n_train"}.

    "train" is within the training split; raw inputs and components have one point and no ELBO.
    """
    settings, data = ScoreSettings(**cell["settings"]), cell["data"]
    dataset = in_unit_range(load_dataset(data["data"], data["data_dir"]))
    rows = np.sort(settings.stream(TEST).permutation(len(dataset.x_train))[:cell["images"]])
    dataset = dataset._replace(x_train=dataset.x_train[rows], y_train=dataset.y_train[rows])
    value = {"train": [], "test": [], "nelbo": [], "test_nelbo": [], "n_train": len(rows)}

    def add(train, test):
        value["train"].append(accuracy_within(train, dataset.y_train, settings.shots, settings.draws,
                                              settings.stream(DRAWS)).tolist())
        value["test"].append(scored(train, test, dataset, settings)[:, 0].tolist())

    if cell["method"] != "vae":
        add(*(project_on_components(dataset.x_train, COMPONENTS, dataset.x_train, dataset.x_test) if cell["method"] == "pca" else
              (dataset.x_train, dataset.x_test)))
        return value
    reference, sizes = reference_batch(dataset.x_train, settings), [dataset.x_train.shape[1], *HIDDEN_AND_LATENTS]
    vae = VAE(lr=cell["rate"])
    for networks in vae.fitted(dataset.x_train, sizes, settings, cell["steps"], cell["seed"]):
        add(*(vae.encoded(networks, x, reference) for x in (dataset.x_train, dataset.x_test)))
        for name, x in (("nelbo", dataset.x_train), ("test_nelbo", dataset.x_test)):
            noise = settings.stream(REFERENCE, cell["seed"])  # the same at all points
            value[name].append(float(evaluated_elbo(networks, x[:ELBO_IMAGES], reference, noise).mean()))
    return value


# --- Numbers ------------------------------------------------------------------------------------


def numbers(settings, results):
    """{"panels": [...], "shots", "draws"}, a panel for each data set.

    A panel: "title", "steps", "curves" {"train", "test", "nelbo", "test_nelbo": {"mean", "low", "high"} [points], over
    seeds}, "lines" {method: accuracy within the training split}, "claim" as `claim_of`; or "title" and "error".
    """
    panels = {}
    for r in results:
        data = r.cell["data"]["data"]
        panel = panels.setdefault(data, {"title": TITLES.get(data, data).replace("\n", ", "), "vae": [], "lines": {}})
        if r.error:
            panel["error"] = r.error
        elif r.cell["method"] == "vae":
            panel["steps"], panel["n_train"] = r.cell["steps"], r.value["n_train"]
            panel["vae"].append(r.value)
        else:
            panel["lines"][r.cell["method"]] = float(np.mean(r.value["train"]))
    return {"panels": [_panel(panel) for panel in panels.values()], "shots": settings.shots, "draws": settings.draws}


def _panel(panel):
    if "error" in panel or not panel["vae"]:
        return {"title": panel["title"], "error": panel.get("error", "no VAE")}
    values = panel.pop("vae")
    by_seed = {name: np.array([value[name] for value in values]) for name in ("train", "test", "nelbo", "test_nelbo")}
    claim = claim_of(panel["steps"], by_seed["train"], by_seed["nelbo"])
    by_seed |= {name: by_seed[name].mean(axis=2) for name in ("train", "test")}
    return panel | {"seeds": len(values), "claim": claim, "curves": {
        name: {"mean": of.mean(axis=0).tolist(), "low": of.min(axis=0).tolist(), "high": of.max(axis=0).tolist()}
        for name, of in by_seed.items()}}


def claim_of(steps, accuracies, nelbo):
    """The paper's claim, of accuracies [seeds, points, draws] and negative ELBO [seeds, points] on the training images.

    "holds" if accuracy falls from its best point to the last by more than 3 standard errors of that difference, crossed
    seeds and draws, and the ELBO is best at the last; JSON-ready, with what it rests on.  Every second draw says which point
    is best, the others how good it is.
    """
    best, of_elbo = int(accuracies[..., ::2].mean(axis=(0, 2)).argmax()), int(nelbo.mean(axis=0).argmin())
    accuracies = accuracies[..., 1::2]
    drop, sem, n = mean_and_sem(accuracies[:, best] - accuracies[:, -1])
    falls = bool(drop > 3 * sem)
    return {"best_step": steps[best], "best": float(accuracies[:, best].mean()), "last": float(accuracies[:, -1].mean()),
            "drop": drop, "sem": sem, "n": n, "accuracy_falls": falls, "elbo_best_step": steps[of_elbo],
            "elbo_best_at_the_end": of_elbo == len(steps) - 1, "holds": falls and of_elbo == len(steps) - 1}


def words(numbers):
    """Both curves as a table, and the claim."""
    text = []
    for panel in numbers["panels"]:
        if "error" in panel:
            text.append(f"{panel['title']}: {panel['error']}")
            continue
        rows = {name: [f"{v:.{digits}f}" for v in panel["curves"][key]["mean"]] for key, name, digits in (
            ("train", "accuracy, training", 3), ("test", "accuracy, test", 3), ("nelbo", "-ELBO, training", 0))}
        c = panel["claim"]
        text += [f"{panel['title']}, {panel['n_train']:,} images, mean of {panel['seeds']} VAEs", table(
            list(map(str, panel["steps"])), rows), f"accuracy falls by {c['drop']:.3f} +- {c['sem']:.3f} from update "
            f"{c['best_step']:,} to the last, the ELBO is best at {c['elbo_best_step']:,}: the paper's claim "
            f"{'holds' if c['holds'] else 'does not hold'}"]
    return "\n".join(text)


# --- Picture ------------------------------------------------------------------------------------


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: accuracy above, negative ELBO below, against updates."""
    from matplotlib.figure import Figure
    panels = numbers["panels"]
    figure = Figure(figsize=(1.2 + 5.2 * len(panels), 6.4), dpi=110, layout="constrained")
    grid = figure.subplots(2, len(panels), squeeze=False, sharex="col")
    for (above, below), panel in zip(grid.T, panels):
        above.set_title(panel["title"] + (f"\n{panel['n_train']:,} training images, VAEs: {panel['seeds']}"
                                          if "n_train" in panel else ""))
        if "error" in panel:
            above.text(0.5, 0.5, textwrap.fill(panel["error"], 40), transform=above.transAxes, ha="center", va="center",
                       fontsize=9)
            continue
        _draw_panel(above, below, panel)
    grid[0, 0].set_ylabel(f"accuracy,\n{numbers['shots']} labelled examples per class")
    grid[1, 0].set_ylabel("negative ELBO,\nnats per image")
    legend(figure, 2)
    return figure


def _draw_panel(above, below, panel):
    steps = panel["steps"]
    x, colour, curves = [max(step, FIRST / 3) for step in steps], method_colour("vae"), panel["curves"]
    for axes, own, other in ((above, "train", "test"), (below, "nelbo", "test_nelbo")):
        axes.fill_between(x, curves[own]["low"], curves[own]["high"], color=colour, alpha=0.25, linewidth=0,
                          label="VAE: lowest to highest")
        axes.plot(x, curves[own]["mean"], color=colour, marker="o", markersize=4, linewidth=2,
                  label="VAE, on its training images")
        axes.plot(x, curves[other]["mean"], color=colour, linewidth=1, linestyle=(0, (4, 1.5)), label="VAE, on test images")
        axes.axvline(max(panel["claim"]["best_step"], x[0]), color="black", linestyle="--", linewidth=1,
                     label="best accuracy")
        axes.set_xscale("log")
        axes.grid(alpha=0.3)
    for method, mean in panel["lines"].items():
        above.axhline(mean, color=method_colour(method), linestyle=":" if method == "raw" else "-.", linewidth=1.2,
                      label=method_label(method if method == "raw" else f"pca{COMPONENTS}") + ", on training images")
    ticks = [10 ** k for k in range(1, 7) if 10 ** k <= steps[-1]]
    below.set_xticks([x[0], *ticks], ["none", *(f"{t:,}" for t in ticks)])
    below.minorticks_off()
    below.set_xlabel("updates of the VAE")
