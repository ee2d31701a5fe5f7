"""Few-shot scores (D11) as an experiment: a cell is a method on a data set from one seed of phi.

`evaluate.py score` prints them; figures take cells, `measure` and `gathered` from here.
"""
import hashlib
import json
import os
from dataclasses import dataclass

import numpy as np

from ops.errors import InputError
from ops.scoring.flags import setting, sizes_of
from ops.scoring.methods import METHODS, baselines_of, method_label, open_rule, row_name
from ops.scoring.settings import (HIDDEN_AND_OUTPUT, OWN, DataSettings, ScoreSettings, check_data, curve_steps,
                                  default_theta, limit_test, standardised, ways_of)
from ops.scoring.tables import columns_of, protocol, summaries, table
from ops.data import DATASETS, MORE_DATASETS, load_dataset


@dataclass(frozen=True)
class Settings(DataSettings):
    """A theta scored on data sets."""
    theta: str = setting(lambda: default_theta()[1], f"learned rule; else {OWN[1]} if it is there, else the one "
                         "that comes with the project, figures/theta.npz", metavar="PATH")
    sizes: tuple = setting(None, "base model; else the data's N0,128,128,128,128,32", parse=sizes_of,
                           metavar="N0,...,NL")


# --- Cells --------------------------------------------------------------------------------------


def inputs(settings):
    """The files read, which no output may replace."""
    return [settings.theta, *settings.data]


def cells(settings, absent=False):
    """The rule after each of `curve_steps` from each seed, and the baselines once, on each data set.

    Raises InputError for what cannot be scored: theta, data, settings.  `absent` as in `data_of`.
    """
    rule, found = rule_at(settings.theta, settings.lr, settings.norm_eps), []
    for name in settings.data:
        data = data_of(name, settings, settings.sizes, absent)
        found += method_cells(data, settings, "learned", rule._asdict(), curve_steps(settings.inner_steps))
        for baseline in baselines_of(settings.baselines):
            found += method_cells(data, settings, baseline)
    return found


def rules_of(thetas, lr=None, norm_eps=None):
    """{name: `rule_at` path} of (name, path) pairs.  InputError for a name given twice, and as `rule_at`."""
    names = [name for name, _ in thetas]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--theta {name}: two have this name; give each NAME=PATH a name of its own")
    return {name: rule_at(path, lr, norm_eps) for name, path in thetas}


def rule_at(path, lr=None, norm_eps=None):
    """The `Learned` of a theta file, with another lr and norm_eps if given.  InputError as `open_rule`."""
    if not os.path.isfile(path):
        raise InputError(f"--theta {path}: no such file; meta-train a rule with `python train.py`, "
                         "or give --theta PATH")
    return open_rule(path, lr, norm_eps)


def data_of(name, settings, sizes=None, absent=False):
    """What cells hold of a data set: its name and folder, sizes, classes, counts and a digest of its content.

    absent: a public data set that is not there is none the less something to make cells of, which will fail.
    Raises InputError as `load_dataset` and unless data, base model and settings fit together.
    """
    known = name in DATASETS or name in MORE_DATASETS  # each of whose columns are in one unit
    which = "no" if known and settings.standardise == "auto" else settings.standardise
    place = {"data": name, "data_dir": settings.data_dir, "standardise": which}
    try:
        dataset, standard = _opened(place)
    except InputError:
        if absent and name in MORE_DATASETS:
            return place
        raise
    n_train, inputs = dataset.x_train.shape
    sizes = list(sizes or (inputs, *HIDDEN_AND_OUTPUT))
    check_data(dataset, sizes, settings)
    digest = hashlib.sha256()
    for array in dataset[1:5]:
        digest.update(np.ascontiguousarray(array))
    return place | {"sizes": sizes, "n_train": n_train, "n_test": len(limit_test(dataset, settings).x_test),
                    "classes": list(dataset.classes), "ways": ways_of(len(dataset.classes), settings),
                    "digest": digest.hexdigest(), "standardised": standard}


def _opened(place):
    return standardised(load_dataset(place["data"], place["data_dir"]), place["standardise"])


def method_cells(data, settings, method, given={}, steps=None, label=None):
    """The cells of one method: one for each seed of phi, or a single one.

    data as of `data_of`; given: the method's own fields; steps: else the method's `updates`; label: what tells it from
    others of its kind.
    """
    seeds = range(settings.seeds) if METHODS[method].seeded else [0]
    fixed = {k: v for k, v in settings.score_settings().items() if k not in ("seeds", "inner_steps")}  # seed and steps do
    common = {"data": data, "method": method, "given": given, "label": label, "settings": fixed,
              "steps": list(steps or [getattr(METHODS[method], "updates", 0)])}
    shown = f"{os.path.basename(data['data'])}, {label or method}"
    return [common | {"name": shown + f", seed {k}" * METHODS[method].seeded, "seed": k} for k in seeds]


def measure(cell):
    """Accuracies [points][draws][readouts] of a cell.  InputError as the method's `curve`."""
    settings, data = ScoreSettings(**cell["settings"]), cell["data"]
    dataset = limit_test(loaded(data), settings)
    method = METHODS[cell["method"]](**cell["given"])
    return method.curve(dataset, data["sizes"], settings, cell["steps"], [cell["seed"]])[:, 0].tolist()


_held = {}  # one data set is in memory at a time


def loaded(data):
    """The data set that a cell's "data" says.  InputError as `load_dataset`, and if it was not there when cells were made."""
    key = json.dumps(data)
    if key not in _held:
        _held.clear()
        found, _ = _opened(data)
        if "sizes" not in data:
            raise InputError(f"{data['data']}: it came while the experiment ran; run it again")
        _held[key] = found
    return _held[key]


# --- Numbers ------------------------------------------------------------------------------------


def gathered(results):
    """[(a cell, accuracies [points, seeds, draws, readouts] or None, error or None)] for each method on each data set."""
    groups = {}
    for r in results:
        groups.setdefault((r.cell["data"]["data"], r.cell["method"], r.cell["label"]), []).append(r)
    errors = [next((r.error for r in group if r.error), None) for group in groups.values()]
    return [(group[0].cell, None if error else np.stack([r.value for r in group], axis=1), error)
            for group, error in zip(groups.values(), errors)]


def scores(settings, results):
    """One JSON-ready dict per data set: "data", "rows", "curve" and all settings; or "data" and "error".

    rows  [{"method", "mean", "sem", "n"}]: "random" (phi as it starts), "learned" (after settings.inner_steps updates),
          then the baselines "raw", "pca32"; n = seeds x draws.  Of a tuned ridge: "tuned": {"mean", "sem", "n"}
    curve {"steps", "mean", "sem": [points], "seeds": [seeds][points], each a mean over draws}
    """
    documents = {}
    for cell, values, error in gathered(results):
        data = cell["data"]
        document = documents.setdefault(data["data"], {"data": data["data"], "rows": []})
        if error or "error" in document:
            documents[data["data"]] = {"data": data["data"], "error": document.get("error", error)}
        elif cell["method"] == "learned":
            points = [summaries(accuracies) for accuracies in values]
            document["rows"] += [{"method": "random"} | points[0], {"method": "learned"} | points[-1]]
            document["curve"] = {"steps": cell["steps"], "mean": [p["mean"] for p in points],
                                 "sem": [p["sem"] for p in points], "seeds": values[..., 0].mean(axis=2).T.tolist()}
            document |= {key: data[key] for key in ("sizes", "n_train", "n_test", "classes", "standardised")}
            document |= settings.score_settings()
            document |= {key: cell["given"][key] for key in ("lr", "norm_eps")}
            document |= {"theta": settings.theta, "baselines": baselines_of(settings.baselines)}
        else:
            document["rows"].append({"method": row_name(cell["method"], data)} | summaries(values[0]))
    return list(documents.values())


def numbers(settings, results):
    """What `score --json` holds: `scores` of one data set, or of several under "results"."""
    documents = scores(settings, results)
    return documents[0] if len(documents) == 1 else {"results": documents}


def words(numbers):
    """... as a table: a row per method, a column per data set; below, the theta and whose columns were scaled."""
    documents = numbers.get("results", [numbers])
    methods = dict.fromkeys(row["method"] for document in documents for row in document["rows"])
    columns, names = {}, [os.path.basename(d["data"]) for d in documents]
    names = [name if names.count(name) == 1 else d["data"] for name, d in zip(names, documents)]
    for name, d in zip(names, documents):
        columns |= columns_of(name, {row["method"]: row for row in d["rows"]})
    rows = {method_label(m): [column.get(m, "-") for column in columns.values()] for m in methods}
    notes = [f"{name}: each column brought to mean 0 and standard deviation 1 (--standardise no: as they are)"
             for name, document in zip(names, documents) if document["standardised"]]
    return "\n".join([protocol(documents[0], documents[0]["sizes"]), table(list(columns), rows),
                      f"theta: {documents[0]['theta']}", *notes])
