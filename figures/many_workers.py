"""How far one main process goes: what it does for a gradient, what travels, and 1 to 4,096 workers simulated with that.

The main process is measured with workers that answer at once, in shared memory and by value; segments by themselves.
"""
import heapq
import itertools
import math
import tempfile
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

import unsup_meta as um
from ops.command_line import chosen_from
from ops.engine.config import PRESETS, make_config
from ops.engine.live_tasks import draw_task
from ops.engine.progress import Progress
from ops.scoring.flags import counts, setting
from ops.scoring.tables import table
from ops.tasks.mixture import open_pools

ALONE = True
WAYS = {"shared memory": "", "by value": "multiprocessing:Pool"}
COLOURS, LINES = ("#0072B2", "#D55E00", "#009E73"), ("-", "--")


@dataclass(frozen=True)
class Settings:
    """Which presets, how much is measured, how many workers are simulated."""
    presets: tuple = setting(("laptop", "paper"), "comma separated", parse=chosen_from(PRESETS), many=True, quick=("laptop",))
    tasks: str = setting("glyphs", "tasks of the paper's preset here, which need no download")
    segments: int = setting(64, "segments that are timed, each of another task from its first step on", low=2, quick=8)
    timed: int = setting(1024, "gradients that the main process is timed in, in meta-steps of the preset's own size", low=1)
    workers: tuple = setting(tuple(2 ** i for i in range(13)), "simulated, comma separated", parse=counts, many=True)
    gradients: int = setting(20_000, "in each simulation, at least ten a worker", low=100, quick=2000)
    seed: int = setting(0, "seed of all random numbers", low=0)


def cells(settings):
    """Of each preset its segments, and the main process either way."""
    common = {"segments": settings.segments, "timed": settings.timed, "seed": settings.seed}
    return [common | {"name": f"{preset}, {what}", "preset": preset, "what": what,
                      "tasks": {} if preset == "laptop" else {"tasks": settings.tasks}}
            for preset in settings.presets for what in ("segments", *WAYS)]


def measure(cell):
    """{"seconds", "bytes", "back"}: lists over segments; or {"main_s"}: seconds of the main process's time a gradient."""
    import train
    changes = cell["tasks"] | {"seed": cell["seed"], "mode": "async", "validate_steps": 0, "snapshot_steps": 0, "live_tasks": 512,
                                "workers": 2, "pool": WAYS.get(cell["what"], "")}
    config = make_config(cell["preset"], changes)
    pools = open_pools(config.tasks, config)
    if cell["what"] == "segments":
        worker, theta = train.Worker(config, pools), um.init_theta(np.random.default_rng(cell["seed"]), **config.rule_sizes)
        theta = np.concatenate([a.ravel() for a in theta.values()])
        found = {"seconds": [], "bytes": [], "back": []}
        for slot in range(-1, cell["segments"]):  # the first one loads kernels
            began = time.perf_counter()
            with np.errstate(all="ignore"):
                _, gradient, phi = worker.segment(theta, None, slot=slot % config.live_tasks, generation=0, born=0, t=0, step=0)
            for name, value in zip(found, (time.perf_counter() - began, theta.nbytes + phi.nbytes, gradient.nbytes + phi.nbytes)):
                found[name] += [value] * (slot >= 0)
        return found
    with tempfile.TemporaryDirectory() as folder:
        trainer = train.MetaTrainer(config, Path(folder), False, Progress(StringIO()), pools, (__name__, "AtOnce"))
        try:
            trainer.meta_step()  # workers start
            began, count = time.process_time(), -(-cell["timed"] // config.meta_batch)
            for _ in range(count):
                trainer.meta_step()
            return {"main_s": (time.process_time() - began) / (count * config.meta_batch)}
        finally:
            trainer.close()


class AtOnce:
    """A worker that computes nothing: a segment is answered with a made-up gradient and phi of the right sizes."""

    def __init__(self, config, pools):
        self.config, self.pools, self.answers = config, pools, {}
        self.gradient = np.full(sum(map(math.prod, um.theta_shapes(**config.rule_sizes).values())), 1e-3, np.float32)

    def __call__(self, job):
        key = job.arguments["slot"] % 16  # as many sizes of phi will do
        if key not in self.answers:
            task, sizes, _, rng = draw_task(self.config, self.pools, key, 0, 0)
            phi = np.concatenate([a.ravel() for layer in um.init_phi(rng, sizes) for a in layer])
            self.answers[key] = {
                "J": 1.0, "accuracy": 0.5, "finite": True, "norm": 1.0, "unrolls": 3, "horizon": 10 ** 9, "sizes": sizes,
                "set": task.set_name, "task": task.description, "phi_norm": 1.0, "data_s": 0.0, "unroll_s": 0.0}, phi
        reply, phi = self.answers[key]
        return reply, self.gradient, phi


def simulated(workers, seconds, main_s, meta_batch, limit, gradients, rng):
    """{"rate": gradients a second that count, "staleness": mean age in meta-steps, "dropped": share of too old ones}.

    Async: a worker's segment takes one of `seconds`; the main process, one gradient after another, main_s for each, after which
    that worker begins the next one at the theta of then.  The first tenth is left out.
    """
    done = [(rng.choice(seconds) * rng.uniform(), 0) for _ in range(workers)]  # (when it is done, the version of its theta)
    heapq.heapify(done)
    now, version, fresh, ages, dropped, began = 0.0, 0, 0, [], 0, 0.0
    for n in range(gradients):
        if n == gradients // 10:
            ages.clear()
            dropped, began = 0, now
        at, of = heapq.heappop(done)
        now = max(now, at) + main_s
        if version - of <= limit:
            ages.append(version - of)
            fresh += 1
        else:
            dropped += 1
        if fresh == meta_batch:
            version, fresh = version + 1, 0
        heapq.heappush(done, (now + rng.choice(seconds), version))
    return {"rate": len(ages) / (now - began), "staleness": float(np.mean(ages)) if ages else None,
            "dropped": dropped / (len(ages) + dropped)}


def numbers(settings, results):
    """{"presets": {preset: {"seconds", "bytes", "back", "ways": {way: what was measured and simulated}}}, "workers", "failed"}.

    Means over segments; of a way "main_ms", "saturates", the workers that keep it busy, and lists of what `simulated` gives.
    """
    found, values = {}, {(r.cell["preset"], r.cell["what"]): r.value for r in results if not r.error}
    for preset in settings.presets:
        if of := values.get((preset, "segments")):
            config, ways = make_config(preset, {}), {}
            for way in (way for way in WAYS if (preset, way) in values):
                main_s, rng = values[preset, way]["main_s"], np.random.default_rng(settings.seed)
                runs = [simulated(W, of["seconds"], main_s, config.meta_batch, config.staleness_limit,
                                  max(settings.gradients, 10 * W), rng) for W in settings.workers]
                ways[way] = {"main_ms": 1000 * main_s, "saturates": float(np.mean(of["seconds"])) / main_s} | {
                    key: [run[key] for run in runs] for key in runs[0]}
            found[preset] = {key: float(np.mean(of[key])) for key in of} | {"ways": ways}
    return {"workers": list(settings.workers), "presets": found, "failed": [r.error for r in results if r.error]}


def words(numbers):
    """What was measured, and the number of workers at which the main process has no time left."""
    rows = {f"{preset}, {way}": [*(f"{of[key] / unit:.2f}" for key, unit in (("seconds", 1), ("bytes", 1e6), ("back", 1e6))),
                                 f"{v['main_ms']:.2f}", f"{v['saturates']:,.0f}", f"{v['rate'][-1]:,.0f}"]
            for preset, of in numbers["presets"].items() for way, v in of["ways"].items()}
    heads = ["segment, s", "MB to it", "MB back", "main process, ms", "saturated at",
             f"gradients/s of {numbers['workers'][-1]:,}"]
    return "\n".join(([table(heads, rows)] if rows else []) + numbers["failed"])


def draw(numbers):
    """What `numbers` gives -> a Matplotlib Figure: gradients a second, and how old they are, against workers."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10.0, 4.2), dpi=120, layout="constrained")
    rates, ages = figure.subplots(1, 2)
    for colour, (preset, of) in zip(itertools.cycle(COLOURS), numbers["presets"].items()):
        rates.plot(numbers["workers"], [W / of["seconds"] for W in numbers["workers"]], ":", color=colour, linewidth=1,
                   label=f"{preset}: a worker's rate times their number")
        for line, (way, v) in zip(LINES, of["ways"].items()):
            for axes, what in ((rates, v["rate"]), (ages, v["staleness"])):
                axes.plot(numbers["workers"], [float("nan") if a is None else a for a in what], line, marker=".", color=colour,
                          label=f"{preset}, {way}: {v['main_ms']:.2g} ms a gradient")
    for axes, text in ((rates, "gradients a second that are used"), (ages, "their age, meta-steps")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(numbers["workers"], [f"{W:,}" for W in numbers["workers"]], rotation=45, fontsize=8)
        axes.set_xlabel("workers (simulated)")
        axes.set_ylabel(text)
        axes.grid(alpha=0.3)
    rates.set_yscale("log")
    if numbers["presets"]:
        rates.legend(fontsize=7, frameon=False, handlelength=4)
    return figure
