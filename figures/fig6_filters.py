"""First-layer filters over meta-training (Fig. 6 left, App. 2): a row a data set, a pane a theta, later and later."""
import base64
import textwrap
from dataclasses import dataclass

import numpy as np

import unsup_meta as um
from figures.snapshots import in_words, run_setting, snapshots, updates
from ops.errors import InputError
from ops.scoring.flags import data_names, setting
from ops.scoring.methods import Learned
from ops.scoring.methods.base_model import ordered
from ops.scoring.score import data_of, loaded
from ops.scoring.settings import BATCHES, HIDDEN_AND_OUTPUT, PHI, REFERENCE, DataSettings, ScoreSettings

PAPERS_STEPS = 10_000
TITLES = {"mnist28": "MNIST\n28x28", "mnist14": "Tiny MNIST\n14x14", "letters": "Alphabet\n14x14",
          "cifar10-32": "CIFAR-10\n32x32", "cifar10": "Mini CIFAR-10\n16x16"}
NATURAL = "mnist14"  # seen once more with its inputs in their own order
ROWS = 5  # of filters in a pane, and as many columns
WINDOW, IMAGES = 5, 2000  # pixels, of the locality; training images, of the template score
NUMBERS = {"template": "T: largest |cosine| with a training image",
           "locality": f"L: share of squared weight in the best {WINDOW}x{WINDOW} window"}


@dataclass(frozen=True)
class Settings:
    """A run, its thetas and the data sets."""
    run: str = run_setting()
    thetas: int = setting(8, "how many of its thetas", low=2)
    data: tuple = setting(tuple(TITLES), f"data sets of images, comma separated: {', '.join(TITLES)}", parse=data_names,
                          many=True, quick=("mnist14", "letters"))
    inner_steps: int = setting(None, f"updates; else the paper's {PAPERS_STEPS:,} in inner time, steps x lr", low=1)
    permute: int = setting(0, "seed of the inputs' order, which is undone before filters are drawn", low=0)
    seed: int = setting(0, "seed of all random numbers", low=0)
    data_dir: str = setting(None, "where data files lie; else $UNSUP_META_DATA or ~/.cache/unsup_meta", metavar="PATH")


def cells(settings):
    """Each theta on each data set.  InputError as `snapshots`, and for data that is none of TITLES."""
    if unknown := [name for name in settings.data if name not in TITLES]:
        raise InputError(f"--data {unknown[0]}: no images here; choose from {', '.join(TITLES)}")
    thetas, found = snapshots(settings.run, settings.thetas), []
    rows = [(name, settings.permute) for name in settings.data] + [(NATURAL, None)] * (NATURAL in settings.data)
    data = {name: data_of(name, DataSettings(data_dir=settings.data_dir), absent=True) for name in settings.data}
    for name, permute in rows:
        for theta in thetas:
            steps = updates(settings.inner_steps, PAPERS_STEPS, theta.rule.lr)
            found.append(theta.fields() | {"name": f"{name}{', natural order' * (permute is None)}, theta {theta.step}",
                                           "data": data[name], "permute": permute, "seed": settings.seed, "updates": steps})
    return found


def measure(cell):
    """{"filters": `packed` of the first ones, "shape" [c, h, w], "template", "locality", "diversity": means over all filters}."""
    settings, dataset = ScoreSettings(seed=cell["seed"], permute=cell["permute"]), loaded(cell["data"])
    filters, inputs = first_filters(cell, settings, dataset, 0, HIDDEN_AND_OUTPUT), dataset.x_train.shape[1]
    images = dataset.x_train[settings.stream(REFERENCE).permutation(len(dataset.x_train))[:IMAGES]]
    channels = 3 if inputs in (3 * 16 ** 2, 3 * 32 ** 2) else 1
    side = round((inputs / channels) ** 0.5)
    shape = [channels, side, side]
    return {"filters": packed(filters[:ROWS ** 2]), "shape": shape, "template": template_score(filters, images),
            "locality": locality(filters.reshape(-1, *shape)), "diversity": diversity(filters)}


def first_filters(cell, settings, dataset, seed, layers):
    """W^1 of a base model after the cell's updates by its rule, as filters [units, N0] in the inputs' own order."""
    rule, inputs = Learned(**cell["rule"]), dataset.x_train.shape[1]
    dtype = rule.theta["merge"].dtype
    phi = um.init_phi(settings.stream(PHI, seed), [inputs, *layers], dtype)
    phi = rule.apply(phi, ordered(dataset, settings, seed).x_train.astype(dtype), range(cell["updates"]), settings.stream(BATCHES, seed))
    marked = dataset._replace(x_train=np.arange(inputs)[None], x_test=np.arange(inputs)[None])
    filters = np.empty((len(phi[0].b), inputs))
    filters[:, ordered(marked, settings, seed).x_train[0]] = phi[0].W.T
    return filters


def packed(filters):
    """Filters [n, N0] as text: bytes 128 + 127 w / max |w|, each filter by its own maximum, in base 64."""
    scaled = filters / np.maximum(np.abs(filters).max(axis=1, keepdims=True), 1e-30)
    return base64.b64encode(np.round(128 + 127 * scaled).astype(np.uint8).tobytes()).decode()


def unpacked(text, shape):
    """`packed` text -> filters [n, c, h, w] in -1 ... 1."""
    return (np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, *shape).astype(float) - 128) / 127


def template_score(filters, images):
    """Largest absolute cosine of a filter [n, N0] with any of the images [m, N0], centred; mean over filters.

    Images are less their mean image, then they and the filters less their own mean: an even filter is no template.
    """
    def unit(x):
        x = x - x.mean(axis=1, keepdims=True)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)

    centred = images - images.mean(axis=0, dtype=np.float64)
    return float(np.abs(unit(filters) @ unit(centred).T).max(axis=1).mean())


def locality(filters):
    """Share of a filter's squared weight in its best WINDOW x WINDOW window; mean over filters [n, c, h, w]."""
    squares = (np.asarray(filters, np.float64) ** 2).sum(axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(squares, (WINDOW, WINDOW), axis=(1, 2)).sum(axis=(3, 4))
    return float((windows.max(axis=(1, 2)) / np.maximum(squares.sum(axis=(1, 2)), 1e-30)).mean())


def diversity(filters):
    """1 - |cosine| of two filters [n, N0], a mean over all pairs of them: 0 where all are alike but for their sign."""
    unit = filters / np.maximum(np.linalg.norm(filters, axis=1, keepdims=True), 1e-30)
    n = len(unit)
    return float(1 - (np.abs(unit @ unit.T).sum() - n) / (n * (n - 1)))


def numbers(settings, results):
    """{"time": words, "numbers": {name: what it is}, "rows": [...], "claim"}.

    A row: "title" and "panes" [as `measure`, "step", "hours"], or "title" and "error".
    """
    rows = {}
    for result in results:
        cell, name = result.cell, result.cell["data"]["data"]
        natural = "\nnatural order" * (cell["permute"] is None)
        row = rows.setdefault((name, cell["permute"]), {"title": TITLES[name] + natural, "panes": []})
        if result.error:
            row["error"] = result.error
        else:
            row["panes"].append(result.value | {"step": cell["step"], "hours": cell["hours"]})
    claim = {}
    for (name, permute), row in rows.items():
        if "error" not in row and permute is not None:
            first, second, last = (row["panes"][i] for i in (0, 1, -1))
            if "CIFAR" in row["title"]:
                claim[f"{name}: filters become more local from the first trained theta to the last"] = (
                    last["locality"] > second["locality"])
            else:
                claim[f"{name}: filters become template-like from the first theta to the last"] = (
                    last["template"] > first["template"])
    return {"time": in_words(results[0].cell["updates"], results[0].cell["rule"]["lr"]), "numbers": NUMBERS,
            "rows": list(rows.values()), "claim": claim}


def words(numbers):
    """The numbers of each pane; the paper's claims."""
    lines = []
    for row in numbers["rows"]:
        title = row["title"].replace("\n", " ")
        for what in numbers["numbers"]:
            values = " ".join(f"{pane[what]:.2f}" for pane in row["panes"])
            lines.append(f"{title}: {row['error'] if 'error' in row else f'{what} {values}'}")
    return "\n".join(lines + [f"{claim}: {'holds' if holds else 'does not hold'}"
                              for claim, holds in numbers["claim"].items()])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: rows of panes of ROWS x ROWS filters, two numbers under each."""
    from matplotlib.figure import Figure
    rows = numbers["rows"]
    columns = max(1, *(len(row["panes"]) for row in rows))
    figure = Figure(figsize=(1.0 + 1.55 * columns, 0.9 + 1.95 * len(rows)), dpi=120, layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    titled = next((row["panes"] for row in rows if row["panes"]), [])
    for panes, row in zip(panels, rows):
        for axes in panes:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        panes[0].set_ylabel(row["title"], fontsize=11)
        if "error" in row:
            panes[columns // 2].text(0.5, 0.5, textwrap.fill(row["error"], 70), ha="center", va="center", fontsize=8,
                                     transform=panes[columns // 2].transAxes)
            continue
        for axes, pane in zip(panes, row["panes"]):
            axes.imshow(mosaic(unpacked(pane["filters"], pane["shape"])), cmap="gray", vmin=0, vmax=1,
                        interpolation="nearest")
            axes.set_xlabel("  ".join(f"{what[0].upper()} {pane[what]:.2f}" for what in numbers["numbers"]), fontsize=11)
    for axes, pane in zip(panels[0], titled):
        axes.set_title(f"step {pane['step']:,}\n{pane['hours']:.2g} h", fontsize=11)
    figure.suptitle(f"filters of the first layer, units 1 to {ROWS ** 2}, after {numbers['time']} by later and later "
                    "thetas;\n" + "; ".join(numbers["numbers"].values()), fontsize=11)
    return figure


def mosaic(filters):
    """Filters [n, c, h, w] in -1 ... 1 -> one picture of ROWS columns, with white lines between: grey or colour."""
    n, c, h, w = filters.shape
    rows = -(-n // ROWS)
    picture = np.ones((rows * (h + 1) - 1, ROWS * (w + 1) - 1, c))
    for i, image in enumerate(filters):
        top, left = i // ROWS * (h + 1), i % ROWS * (w + 1)
        picture[top:top + h, left:left + w] = 0.5 + 0.5 * np.clip(image, -1, 1).transpose(1, 2, 0)
    return picture[..., 0] if c == 1 else picture
