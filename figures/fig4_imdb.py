"""From images to text (Fig. 4 right): accuracy and J on IMDB against inner steps, of early and late thetas of a run."""
import textwrap
from dataclasses import dataclass

import numpy as np

import unsup_meta as um
from figures.snapshots import in_words, run_setting, snapshots, updates
from ops.data import MORE_DATASETS, few_shot_draw
from ops.errors import InputError
from ops.scoring.few_shot import RIDGE, few_shot_accuracy
from ops.scoring.flags import setting
from ops.scoring.methods import LOOKS, Learned
from ops.scoring.objective import labelled_pairs, objectives
from ops.scoring.score import data_of, loaded
from ops.scoring.settings import BATCHES, DRAWS, PHI, REFERENCE, DataSettings, ScoreSettings, limit_test

PAPERS_STEPS = 5_000
EARLY = 0.15  # of the last theta's hours: 30 of the paper's 200
POINTS = 10  # of a curve, besides the start
COLOURS = {"early": "#7b3294", "late": "#d7191c"}  # the paper's purple and red


@dataclass(frozen=True)
class Settings:
    """A run, its thetas, and runs of each on the reviews."""
    run: str = run_setting()
    thetas: int = setting(8, "how many of its thetas", low=3, quick=3)
    inner_steps: int = setting(None, f"updates; else the paper's {PAPERS_STEPS:,} in inner time, steps x lr", low=1)
    runs: int = setting(10, "runs of each theta: phi, batches and labelled points anew", low=2, quick=3)
    data: str = setting("imdb", "the data set", metavar="NAME|PATH.npz")
    shots: int = setting(10, "labelled examples per class", low=1)
    test_images: int = setting(2000, "reviews of the test split, drawn for each run", low=1)
    seed: int = setting(0, "seed of all random numbers; run k has the k-th after it", low=0)
    data_dir: str = setting(None, "where data files lie; else $UNSUP_META_DATA or ~/.cache/unsup_meta", metavar="PATH")


def cells(settings):
    """Each theta's runs, those of raw inputs too; where the public data are not there a cell that says so.

    InputError as `snapshots` and `score.data_of`.
    """
    thetas = snapshots(settings.run, settings.thetas)
    of_data = DataSettings(shots=settings.shots, test_images=settings.test_images, data_dir=settings.data_dir)
    try:
        data = data_of(settings.data, of_data)
    except InputError as error:
        if settings.data in MORE_DATASETS:
            return [{"name": settings.data, "missing": str(error)}]
        raise
    common = {"data": data, "shots": settings.shots, "test_images": settings.test_images}
    found = [common | {"name": f"raw inputs, run {k}", "seed": settings.seed + k} for k in range(settings.runs)]
    for theta in thetas:
        steps = updates(settings.inner_steps, PAPERS_STEPS, theta.rule.lr)
        times = sorted({round(steps * i / POINTS) for i in range(POINTS + 1)})
        found += [common | theta.fields() | {"name": f"theta {theta.step}, run {k}", "seed": settings.seed + k,
                                             "times": times} for k in range(settings.runs)]
    return found


def measure(cell):
    """[[accuracy, J]] after each of the times; of raw inputs a single one; None: missing."""
    if "missing" in cell:
        return None
    settings = ScoreSettings(seed=cell["seed"], shots=cell["shots"], test_images=cell["test_images"])
    rule = Learned(**cell["rule"]) if "rule" in cell else None
    dtype = rule.theta["merge"].dtype if rule else np.dtype("float32")
    data = limit_test(loaded(cell["data"]), settings)
    data = data._replace(x_train=data.x_train.astype(dtype, copy=False), x_test=data.x_test.astype(dtype, copy=False))
    rng = settings.stream(DRAWS)
    labelled, pairs = few_shot_draw(rng, data.y_train, settings.shots), labelled_pairs(data, rng, shots=settings.shots)
    rows = settings.stream(REFERENCE).permutation(len(data.x_train))[:settings.batch_reference]

    def scores(phi):
        outputs = (lambda x: x) if phi is None else lambda x: um.features(phi, x, data.x_train[rows])
        accuracy = few_shot_accuracy(outputs(data.x_train[labelled]), data.y_train[labelled], outputs(data.x_test),
                                     data.y_test, settings.shots, 1, settings.stream(DRAWS), RIDGE)
        return [float(accuracy[0]), float(objectives(phi, *pairs).mean())]

    if rule is None:
        return [scores(None)]
    phi, batches, found = um.init_phi(settings.stream(PHI), cell["data"]["sizes"], dtype), settings.stream(BATCHES), []
    for before, time in zip((0, *cell["times"]), cell["times"]):
        phi = rule.apply(phi, data.x_train, range(before, time), batches)
        found.append(scores(phi))
    return found


def numbers(settings, results):
    """{"time": words, "data", "thetas": [...], "raw": {what: mean}, "claim"}, or "error" and no thetas.

    A theta: "step", "hours", "times", "accuracy" and "J" {"mean", "sem": [times]} over runs, "bold" "early", "late" or
    None.  In the claim: what early and late theta gain in accuracy over random start, in itself and relative to it.
    """
    cell, found = results[-1].cell, {"data": settings.data, "runs": settings.runs, "thetas": []}
    if error := next((result.error for result in results if result.error), cell.get("missing")):
        return found | {"error": error}
    found |= {"shots": settings.shots, "ways": len(cell["data"]["classes"])}
    found["time"] = in_words(cell["times"][-1], cell["rule"]["lr"])
    values = {}
    for result in results:
        values.setdefault(result.cell.get("step"), []).append(result.value)
    values = {step: np.array(of) for step, of in values.items()}  # [runs, times, 2]
    raw = values.pop(None).mean(axis=(0, 1))
    hours = {result.cell["step"]: result.cell["hours"] for result in results if "step" in result.cell}
    late = max(hours)
    early = min(list(hours)[1:], key=lambda step: abs(hours[step] - EARLY * hours[late]))
    for step, of in values.items():
        curve = {what: {"mean": of[..., i].mean(axis=0).tolist(), "sem": _sem(of[..., i]).tolist()}
                 for i, what in enumerate(("accuracy", "J"))}
        times = next(result.cell["times"] for result in results if result.cell.get("step") == step)
        found["thetas"].append({"step": step, "hours": hours[step], "times": times} | curve | {
            "bold": "late" if step == late else "early" if step == early else None})
    gains = {name: values[step][:, -1, 0] - values[step][:, 0, 0] for name, step in (("early", early), ("late", late))}
    start = values[late][:, 0, 0].mean()
    claim = {f"gain of the {name} theta": {"points": gain.mean(), "relative": gain.mean() / start, "sem": _sem(gain)}
             for name, gain in gains.items()}
    ahead = gains["early"] - gains["late"]
    claim |= {"the early theta learns something": gains["early"].mean() > 2 * _sem(gains["early"]),
              "the late one falls behind": ahead.mean() > 2 * _sem(ahead)}
    return found | {"raw": {"accuracy": raw[0], "J": raw[1]}, "random start": start, "claim": _plain(claim)}


def _sem(values):
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _plain(value):
    """NumPy's numbers within dicts as Python's."""
    return {key: _plain(of) for key, of in value.items()} if isinstance(value, dict) else \
        bool(value) if isinstance(value, np.bool_) else float(value)


def words(numbers):
    """What early and late thetas gain, and the claims."""
    if "error" in numbers:
        return numbers["error"]
    lines = [f"after {numbers['time']}: random start {numbers['random start']:.3f}, "
             f"raw inputs {numbers['raw']['accuracy']:.3f}"]
    for name, found in numbers["claim"].items():
        lines.append(f"{name}: " + (f"{100 * found['points']:+.1f} +- {100 * found['sem']:.1f} points of accuracy, "
                                    f"{found['relative']:+.1%} of random start's" if isinstance(found, dict) else
                                    "holds" if found else "does not hold"))
    return "\n".join(lines)


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: accuracy and J against inner steps; bars are standard errors."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 4.4), dpi=120, layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("accuracy", "J")):
        if "error" in numbers:
            axes.text(0.5, 0.5, textwrap.fill(numbers["error"], 45), ha="center", va="center", fontsize=9)
            axes.set(xticks=[], yticks=[])
            continue
        for theta in sorted(numbers["thetas"], key=lambda theta: bool(theta["bold"])):
            bold, curve = theta["bold"], theta[what]
            label = f"{bold} theta: {theta['hours']:.2g} h, {theta['step']:,} meta-steps" if bold else (
                "other thetas of the run" if theta is numbers["thetas"][0] else None)
            style = {"color": COLOURS[bold], "linewidth": 2.2, "capsize": 3} if bold else {
                "color": "#aaaaaa", "linewidth": 0.9, "elinewidth": 0}
            axes.errorbar(theta["times"], curve["mean"], curve["sem"], label=label, **style)
        axes.axhline(numbers["raw"][what], color=LOOKS["raw"][1], linestyle="--", linewidth=1.2, label=LOOKS["raw"][0])
        axes.set_xlabel("inner steps of the rule (0: random start)", fontsize=11)
        axes.set_ylabel(f"{numbers.get('ways', 2)}-way accuracy, {numbers.get('shots', 10)} labelled examples per class" if what == "accuracy" else "meta-objective J",
                        fontsize=11)
        axes.grid(alpha=0.3)
    if "error" not in numbers:
        figure.axes[0].axhline(1 / numbers.get("ways", 2), color="black", linestyle=":", linewidth=1, label="chance")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=10, frameon=False)
    figure.suptitle(f"{numbers['data'].upper()}, {numbers.get('time', 'not here')}; "
                    f"mean and standard error of {numbers['runs']} runs", fontsize=11)
    return figure
