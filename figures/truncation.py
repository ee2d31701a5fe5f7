"""What truncation does to a meta-gradient: short segments, and evolution strategies, against the whole unroll.

All from the same states of tasks that training draws, on the same data, by an early and a late theta.
"""
import base64
import itertools
import time
from dataclasses import dataclass

import numpy as np

from ops.engine.config import make_config
from ops.engine.live_tasks import NOISE, stream
from ops.engine.estimators import Evolution, NoiseReuse, Persistent, Truncated, UnrolledTask, cosine, told
from ops.errors import InputError
from ops.scoring.flags import counts, positive, setting
from ops.scoring.methods import Learned
from ops.scoring.score import rules_of
from ops.scoring.settings import thetas_setting
from ops.scoring.tables import table
from ops.tasks.mixture import open_pools

EVOLUTION = {"evolution strategies": Evolution, "... persistent (PES)": Persistent, "... noise-reuse (NRES)": NoiseReuse}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
USES = ("ops/engine/estimators.py", "ops/engine/live_tasks.py")  # see `ops.scoring.runner`


@dataclass(frozen=True)
class Settings:
    """Which thetas, how many states, how long."""
    theta: tuple = thetas_setting()
    states: int = setting(8, "states of tasks, drawn as `train.py` draws them", low=2, quick=3)
    warm: int = setting(100, "most updates by theta before the state", low=0, quick=30)
    whole: int = setting(100, "T, the steps of the whole unroll", low=2, quick=20)
    lengths: tuple = setting((1, 3, 10, 30), "U, comma separated", parse=counts, many=True, quick=(1, 3, 10))
    segment: int = setting(10, "U of the evolution strategies", low=1, quick=5)
    sigma: float = setting(0.003, "standard deviation of their noise", parse=positive)
    pairs: int = setting(2, "pairs of perturbed thetas in an estimate; 2 take about as long as the whole unroll's gradient", low=1)
    repeats: int = setting(16, "estimates by each of them", low=4, quick=4)
    seed: int = setting(0, "seed of all random numbers", low=0)


def cells(settings):
    """Each theta from each state.  InputError as `rules_of`, and for a length that is not below --whole."""
    if max(settings.lengths) >= settings.whole:
        raise InputError(f"--lengths {max(settings.lengths)}: not below --whole {settings.whole}; give shorter ones")
    common = {name: getattr(settings, name) for name in ("warm", "whole", "segment", "sigma", "pairs", "repeats", "seed")}
    return [common | {"name": f"{label}, state {slot}", "theta": label, "slot": slot, "rule": rule._asdict(),
                      "lengths": sorted(settings.lengths)}
            for label, rule in rules_of(settings.theta).items() for slot in range(settings.states)]


def measure(cell):
    """{"truncated": {U: gradient, packed}, "evolution": {name: `told`}, "seconds": {name: of one estimate}}.

    InputError where an estimate is 0 or not finite: nothing can be said of such a state.
    """
    config, T = make_config("laptop", {"seed": cell["seed"]}), cell["whole"]
    rule, rng = Learned(**cell["rule"]), stream(config, NOISE, cell["slot"])
    system = UnrolledTask(rule, config, open_pools(config.tasks, config), cell["slot"], cell["warm"], T)
    theta = np.concatenate([a.ravel() for a in rule.theta.values()])
    found, evolution, seconds = {}, {}, {}
    with np.errstate(all="ignore"):
        for U in (*cell["lengths"], T):
            began = time.perf_counter()
            found[U] = Truncated(U).estimate(system, theta, T)
            seconds[f"U = {U}"] = time.perf_counter() - began
        for name, kind in EVOLUTION.items():
            began, estimator = time.perf_counter(), kind(cell["segment"], cell["sigma"], cell["pairs"])
            estimates = np.array([estimator.estimate(system, theta, T, rng) for _ in range(cell["repeats"])])
            seconds[name] = (time.perf_counter() - began) / cell["repeats"]
            evolution[name] = told(estimates, found[T])
            if not all(np.isfinite(a).all() and a.any() for a in (estimates, *found.values())):
                raise InputError(f"{cell['name']}: a gradient is 0 or not finite")
    return {"truncated": {U: packed(g) for U, g in found.items()}, "evolution": evolution, "seconds": seconds}


def packed(gradient):
    """A gradient [P] as text."""
    return base64.b64encode(gradient.astype(np.float32)).decode()


def unpacked(text):
    """... and back."""
    return np.frombuffer(base64.b64decode(text), np.float32).astype(np.float64)


def numbers(settings, results):
    """{theta: {"truncated": {U: {"cosine", "worst", "low", "high", "ratio", "of_mean", "between"}}, "evolution": {name: ...},
    "length", "longest": of whole gradients, "seconds"}}.

    Medians over states, "low" and "high" quartiles.  Of gradients brought to length 1, so that none outweighs the others: "of_mean",
    the cosine of their means over states; "between", the mean cosine of two states.  "bias" and "variance" are in units of the
    whole gradient's squared length.
    """
    thetas = {}
    for label in dict.fromkeys(r.cell["theta"] for r in results if not r.error):
        values = [r.value for r in results if r.cell["theta"] == label and not r.error]
        median = lambda what: float(np.median([what(v) for v in values]))
        g = {int(U): np.stack([unpacked(v["truncated"][U]) for v in values]) for U in values[0]["truncated"]}
        length = {U: np.linalg.norm(of, axis=1) for U, of in g.items()}
        whole = settings.whole
        mean, n, truncated = {U: (of / length[U][:, None]).mean(axis=0) for U, of in g.items()}, len(values), {}
        for U, of in g.items():
            worst, low, middle, high = np.quantile(list(map(cosine, of, g[whole])), (0, 0.25, 0.5, 0.75)).tolist()
            truncated[U] = {"worst": worst, "low": low, "cosine": middle, "high": high, "ratio": float(np.median(length[U] / length[whole])),
                            "of_mean": cosine(mean[U], mean[whole]), "between": float((n * mean[U] @ mean[U] - 1) / max(1, n - 1))}
        evolution = {name: {what: median(lambda v: v["evolution"][name][what]) for what in ("bias", "variance")} | {"cosines": {
            k: median(lambda v: v["evolution"][name]["cosines"][k]) for k in values[0]["evolution"][name]["cosines"]}}
            for name in EVOLUTION}
        thetas[label] = {"truncated": truncated, "evolution": evolution, "states": n,
                         "length": float(np.median(length[whole])), "longest": float(length[whole].max()),
                         "seconds": {name: median(lambda v: v["seconds"][name]) for name in values[0]["seconds"]}}
    return {"thetas": thetas, "failed": [r.error for r in results if r.error]} | {
        name: getattr(settings, name) for name in ("whole", "segment", "sigma", "pairs")}


def words(numbers):
    """Two tables for each theta."""
    lines = list(numbers["failed"])
    for label, found in numbers["thetas"].items():
        rows = {f"U = {U}": [f"{v['cosine']:+.2f} ({v['low']:+.2f} to {v['high']:+.2f})", f"{v['ratio']:.2g}", f"{v['of_mean']:+.2f}",
                             f"{v['between']:+.2f}", f"{found['seconds'][f'U = {U}']:.1f}"] for U, v in found["truncated"].items()}
        lines += [f"{label}: against U = {numbers['whole']}, of length {found['length']:.3g} (longest {found['longest']:.3g}); medians of {found['states']} states",
                  table(["cosine (quartiles)", "length ratio", "of the means", "of two states", "seconds"], rows)]
        counts = list(next(iter(found["evolution"].values()))["cosines"])
        rows = {name: [*(f"{v['cosines'][k]:+.3f}" for k in counts), f"{v['bias']:.2g}", f"{v['variance']:.2g}",
                       f"{found['seconds'][name]:.1f}"] for name, v in found["evolution"].items()}
        lines.append(table([*(f"cosine of {k}" for k in counts), "bias^2", "variance", "seconds"], rows))
    return "\n".join(lines)


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: cosine and length against U; cosine of a mean of evolution's estimates."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(12.0, 4.4), dpi=120, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for colour, (label, found) in zip(itertools.cycle(COLOURS), numbers["thetas"].items()):
        U, of = list(map(int, found["truncated"])), list(found["truncated"].values())
        left.plot(U, [v["cosine"] for v in of], "o-", color=colour, markersize=4, label=f"{label}, median of a state's")
        left.fill_between(U, [v["low"] for v in of], [v["high"] for v in of], color=colour, alpha=0.15, linewidth=0)
        left.plot(U, [v["of_mean"] for v in of], "s:", color=colour, markersize=3.5, label=f"{label}, mean of {found['states']} states")
        middle.plot(U, [v["ratio"] for v in of], "o-", color=colour, markersize=4)
        for line, (name, v) in zip(("--", "-", ":"), found["evolution"].items()):
            right.plot(list(map(int, v["cosines"])), list(v["cosines"].values()), "o", linestyle=line, color=colour, markersize=4,
                       label=f"{label}: {name.strip('. ')}")
    for axes, text in ((left, f"cosine with the gradient of U = {numbers['whole']}"), (middle, "length, as a share of its length")):
        axes.set_xlabel("U, steps differentiated through")
        axes.set_ylabel(text)
    right.set_xlabel(f"estimates averaged, each of {numbers['pairs']} pairs,\nU = {numbers['segment']}, sigma = {numbers['sigma']:g}")
    right.set_ylabel(f"cosine with the gradient of U = {numbers['whole']}")
    middle.set_yscale("log")
    for axes in (left, middle, right):
        axes.set_xscale("log")
        ticks = sorted({int(x) for line in axes.lines for x in line.get_xdata()})
        axes.set_xticks(ticks, list(map(str, ticks)))
        axes.minorticks_off()
        axes.axhline(1 if axes is middle else 0, color="black", linewidth=0.8)
        axes.grid(alpha=0.3)
    for axes in (left, right) if numbers["thetas"] else ():
        axes.legend(fontsize=7, framealpha=1, edgecolor="none")
    return figure
