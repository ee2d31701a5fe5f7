"""What prototypical networks learn on other classes, and what is left of it once pixels are permuted (Fig. 2 right)."""
import functools
import hashlib
from dataclasses import dataclass

import numpy as np

import unsup_meta as um
from ops.data import load_dataset
from ops.data.imagenet16 import imagenet16_pool
from ops.data.places import data_dir
from ops.errors import InputError
from ops.scoring.few_shot import few_shot_accuracy
from ops.scoring.flags import counts, setting
from ops.scoring.methods import Learned, method_colour, method_label
from ops.scoring.methods.prototypical import QUERIES, WAYS, accuracy, episode, episode_rows, fitted
from ops.scoring.methods.readout import reference_batch
from ops.scoring.score import rule_at
from ops.scoring.settings import BASELINE, BATCHES, HIDDEN_AND_OUTPUT, ORDER, PHI, TEST, ScoreSettings, default_theta
from ops.scoring.tables import cell_text, summary, table
from ops.tasks.world import world_pools

LAYERS = (128, 128, 128)
TITLES = {"imagenet16": "ImageNet at 16x16", "world": "made silhouettes, 14x14 (no ImageNet needed)"}
FAMILY = "silhouettes"  # of the world of tasks
SHADES = {("prototypical", True): "#6d2f57"}
CURVE = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the episodes: when held-out accuracy is measured


@dataclass(frozen=True)
class Settings:
    """Which classes, how many labelled examples, how long."""
    data: str = setting("imagenet16", "imagenet16, trained on its training classes and tested on the 40 held-out ones, or "
                        "world: four fifths and one fifth of a made family, which needs no download",
                        choices=tuple(TITLES), quick="world")
    shots: tuple = setting((1, 2, 5, 10, 15, 20), "labelled examples per class, comma separated", parse=counts, many=True,
                           quick=(1, 5, 20))
    episodes: int = setting(10_000, "training episodes of each network", low=10, quick=1500)
    tests: int = setting(600, "test episodes", low=2, quick=200)
    rule_tests: int = setting(20, "of which the rule is applied to", low=2, quick=6)
    inner_steps: int = setting(200, "updates by the rule", low=0, quick=100)
    theta: str = setting(lambda: default_theta()[1], "the learned rule", metavar="PATH")
    seed: int = setting(0, "seed of all random numbers", low=0)
    data_dir: str = setting(None, "where data files lie; else $UNSUP_META_DATA or ~/.cache/unsup_meta", metavar="PATH")


def cells(settings):
    """A network for each number of shots, pixels intact and permuted; the rule on each of its episodes; raw inputs.

    Raises InputError for missing data or theta and for classes of too few images.
    """
    rule, shots = rule_at(settings.theta), sorted(settings.shots)
    train, test = classes_of(settings.data, settings.data_dir)
    for name, (_, per_class) in (("training", train), ("test", test)):
        if len(per_class) < WAYS or per_class.min() < shots[-1] + QUERIES:
            raise InputError(f"--shots {shots[-1]}: the {name} classes of {settings.data} are {len(per_class)}, of "
                             f"{per_class.min()} images or more; {WAYS} of {shots[-1] + QUERIES} are needed")
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(images).tobytes() for images, _ in (train, test))).hexdigest()
    common = {"data": settings.data, "data_dir": settings.data_dir, "digest": digest, "seed": settings.seed,
              "most": shots[-1]}
    found = [common | {"name": "raw inputs", "method": "raw", "permute": False, "shots": shots, "tests": settings.tests}]
    for permute in (False, True):
        word = "permuted" if permute else "intact"
        found += [common | {"name": f"network, {k} shots, {word}", "method": "prototypical", "permute": permute, "shots": k,
                            "episodes": settings.episodes, "tests": settings.tests} for k in shots]
        found += [common | {"name": f"rule, episode {e}, {word}", "method": "learned", "permute": permute, "shots": shots,
                            "episode": e, "inner_steps": settings.inner_steps, "rule": rule._asdict()}
                  for e in range(settings.rule_tests)]
    return found


@functools.lru_cache(maxsize=1)
def classes_of(name, folder):
    """((images [n, N0] float32, counts [C]) to train on, the same of held-out classes), images grouped by class."""
    if name == "imagenet16":
        pool, held_out = imagenet16_pool(data_dir(folder)), load_dataset("imagenet16-heldout", folder)
        x, y = (np.concatenate(parts) for parts in ((held_out.x_train, held_out.x_test),
                                                    (held_out.y_train, held_out.y_test)))
        return (pool.images / np.float32(255), pool.counts), (x[np.argsort(y, kind="stable")], np.bincount(y))
    pool = world_pools([FAMILY], folder)[FAMILY]
    fifth = np.arange(len(pool.counts)) % 5 == 4
    images, of_fifth = pool.images / np.float32(255), np.repeat(fifth, pool.counts)
    return (images[~of_fifth], pool.counts[~fifth]), (images[of_fifth], pool.counts[fifth])


# --- Cells --------------------------------------------------------------------------------------


def measure(cell):
    """Accuracies: of a network {"accuracies": [tests], "curve": [of CURVE]}, of the rule and raw inputs {shots: [.]}."""
    train, (images, per_class) = classes_of(cell["data"], cell["data_dir"])
    settings = ScoreSettings(seed=cell["seed"])
    if cell["method"] == "prototypical":
        return _network(cell, settings, train, (images, per_class))
    if cell["method"] == "learned":
        right = _rule(cell, settings, images, per_class)
        return {str(k): [value] for k, value in zip(cell["shots"], right)}
    of_all = [_readout(*_test(settings, cell, images, per_class, e), cell["shots"]) for e in range(cell["tests"])]
    return {str(k): list(values) for k, values in zip(cell["shots"], zip(*of_all))}


def _network(cell, settings, train, test):
    k, permute = cell["shots"], cell["permute"]
    rng = settings.stream(BASELINE, k, int(permute))
    draw = lambda: episode(rng, *train, k, permute=permute)
    episodes = [_test(settings, cell, *test, e) for e in range(cell["tests"])]
    curve = []
    for layers in fitted(rng, draw, [train[0].shape[1], *LAYERS], [round(part * cell["episodes"]) for part in CURVE]):
        right = [accuracy(layers, support[:, :k], queries) for support, queries in episodes]
        curve.append(float(np.mean(right)))
    return {"accuracies": right, "curve": curve}


def _test(settings, cell, images, per_class, number):
    """A test episode, (support, queries): the same rows for all methods, the same order of pixels for all that permute."""
    x = images[_test_rows(settings, cell, per_class, number)]
    return np.split(x[..., _order(settings, cell, x.shape[-1], number)], [cell["most"]], axis=1)


def _test_rows(settings, cell, per_class, number):
    return episode_rows(settings.stream(TEST, number), per_class, WAYS, cell["most"] + QUERIES)


def _order(settings, cell, n, number):
    return settings.stream(ORDER, number).permutation(n) if cell["permute"] else np.arange(n)


def _rule(cell, settings, images, per_class):
    """Accuracies [shots] of a base model that saw all images of the episode's classes but the queries, without labels."""
    number, rule = cell["episode"], Learned(**cell["rule"])
    rows, ends = _test_rows(settings, cell, per_class, number), np.cumsum(per_class)
    of_classes = np.isin(np.searchsorted(ends, np.arange(len(images)), side="right"),
                         np.searchsorted(ends, rows[:, 0], side="right"))
    seen = np.setdiff1d(np.flatnonzero(of_classes), rows[:, cell["most"]:])
    dtype, order = rule.theta["merge"].dtype, _order(settings, cell, images.shape[1], number)
    unlabelled, support, queries = (images[r][..., order].astype(dtype) for r in (seen, rows[:, :cell["most"]],
                                                                                rows[:, cell["most"]:]))
    phi = um.init_phi(settings.stream(PHI, number), [images.shape[1], *HIDDEN_AND_OUTPUT], dtype)
    with np.errstate(all="ignore"):  # what is not finite is found and reported in words
        phi = rule.apply(phi, unlabelled, range(cell["inner_steps"]), settings.stream(BATCHES, number))
    reference = reference_batch(unlabelled, settings)
    of = lambda x: um.features(phi, x.reshape(-1, x.shape[-1]), reference).reshape(*x.shape[:2], -1)
    return _readout(of(support), of(queries), cell["shots"])


def _readout(support, queries, shots):
    """Accuracies [shots] of the ridge readout fitted on so many of support [ways, most, F], on queries [ways, ., F]."""
    labels = lambda x: np.repeat(np.arange(WAYS), x.shape[1])
    flat = lambda x: x.reshape(-1, x.shape[-1])
    of = lambda few: few_shot_accuracy(flat(few), labels(few), flat(queries), labels(queries), few.shape[1], 1,
                                       np.random.default_rng(0))  # which draws all of them
    return [float(of(support[:, :k])[0]) for k in shots]


# --- Numbers ------------------------------------------------------------------------------------


def numbers(settings, results):
    """{"title", "shots", "curves": [{"method", "permuted", "points": [{"mean", "sem", "n"}]}], "training", "claim"}.

    training  held-out accuracy of each network after each of "parts" of its episodes, to see whether it has flattened
    claim     as `claim_of`, None where a cell failed
    """
    shots, found, training = sorted(settings.shots), {}, []
    for r in results:
        if r.error:
            continue
        cell, value = r.cell, r.value
        by_shots = found.setdefault((cell["method"], cell["permute"]), {k: [] for k in shots})
        if cell["method"] == "prototypical":
            by_shots[cell["shots"]] = value["accuracies"]
            training.append({"shots": cell["shots"], "permuted": cell["permute"], "accuracy": value["curve"]})
        else:
            for k in shots:
                by_shots[k] += value[str(k)]
    curves = [{"method": method, "permuted": permuted, "points": [_row(by_shots[k]) for k in shots]}
              for (method, permuted), by_shots in found.items()]
    whole = not any(r.error for r in results)
    return {"title": TITLES[settings.data], "data": settings.data, "shots": shots, "curves": curves,
            "training": {"parts": list(CURVE), "curves": training}, "claim": claim_of(found, shots) if whole else None}


def _row(values):
    return summary(np.array([values])) if values else {"mean": None, "sem": None, "n": 0}


def claim_of(found, shots):
    """The paper's claim, of {(method, permuted): {shots: accuracies [episodes]}}: JSON-ready.

    lost           for each number of shots, the share of the networks' gain over chance that permuting costs
    lost_over_raw  ... of their gain over raw inputs, None where there is none
    rule           intact less permuted of the rule, mean over shots of the same episodes: {"mean", "sem", "n"}
    Holds if the mean of `lost` is more than a half, and the rule loses less than 2 standard errors.
    """
    mean = {key: np.array([np.mean(by_shots[k]) for k in shots]) for key, by_shots in found.items()}
    intact, permuted = mean["prototypical", False], mean["prototypical", True]
    lost = (intact - permuted) / np.maximum(intact - 1 / WAYS, 1e-9)
    over_raw = [float((a - b) / (a - raw)) if a > raw else None for a, b, raw in zip(intact, permuted, mean["raw", False])]
    of_rule = [np.mean([found["learned", p][k] for k in shots], axis=0) for p in (False, True)]
    rule = _row(list(of_rule[0] - of_rule[1]))
    network_loses, rule_keeps = bool(lost.mean() > 0.5), bool(rule["mean"] < 2 * rule["sem"])
    return {"lost": lost.tolist(), "lost_over_raw": over_raw, "mean_lost": float(lost.mean()), "rule": rule,
            "network_loses_most": network_loses, "rule_loses_nothing": rule_keeps, "holds": network_loses and rule_keeps}


def words(numbers):
    """The curves as a table, and the claim."""
    rows = {_label(c["method"], c["permuted"]): [cell_text(p) for p in c["points"]] for c in numbers["curves"]}
    text, c = [f"{WAYS}-way accuracy on held-out classes, {numbers['title']}; labelled examples per class:",
               table(list(map(str, numbers["shots"])), rows)], numbers["claim"]
    if c:
        over = ", ".join("no gain" if share is None else f"{share:.0%}" for share in c["lost_over_raw"])
        text.append(f"permuting costs the networks {c['mean_lost']:.0%} of their gain over chance ({over} over raw inputs), "
                    f"the rule {c['rule']['mean']:.3f} +- {c['rule']['sem']:.3f} of accuracy: the paper's claim "
                    f"{'holds' if c['holds'] else 'does not hold'}")
    return "\n".join(text)


def _label(method, permuted):
    name = method_label(method)
    return name if method == "raw" else f"{name}, pixels {'permuted' if permuted else 'intact'}"


# --- Picture ------------------------------------------------------------------------------------


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: accuracy against labelled examples; bars are one standard error."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(6.6, 5.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for c in numbers["curves"]:
        shown = [(k, p["mean"], p["sem"] or 0) for k, p in zip(numbers["shots"], c["points"]) if p["mean"] is not None]
        if shown:
            network = c["method"] == "prototypical"
            axes.errorbar(*zip(*shown), color=SHADES.get((c["method"], c["permuted"]), method_colour(c["method"])),
                          linestyle="-" if network or c["permuted"] else ":" if c["method"] == "raw" else "--",
                          marker="s" if c["permuted"] else "o", markersize=5, linewidth=2 if network else 1.4, capsize=2.5,
                          label=_label(c["method"], c["permuted"]))
    axes.axhline(1 / WAYS, color="#999999", linestyle=":", label="chance")
    axes.set_title(f"k-shot image classification (prototypical networks)\n{numbers['title']}", fontsize=11)
    axes.set_xlabel("k, labelled examples per class")
    axes.set_ylabel(f"accuracy, {WAYS}-way, held-out classes")
    axes.set_xticks(numbers["shots"])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure
