"""The measurements of `evaluate.py bench`: inner steps against sgemm, starting time, and the whole worker loop.

Everything runs in processes of its own, with its own thread counts.  "N threads" is UNSUP_META_THREADS=N
with BLAS at one thread for our part, and OPENBLAS_NUM_THREADS=N for numpy's products alone, the limit;
both are measured in turn, several rounds, and the best of each counts.  A small product is slower on
several BLAS threads than on one, so the limit of N threads is the better of the two for each shape.
The products, and whose they are, are those that a run of its own was seen to perform (`ops/rule/watch.py`).
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figures.bench_cases import CASES, WIDE
from ops.command_line import chosen_from
from ops.errors import InputError
from ops.processes import ONE_THREAD, usable_cores
from ops.rule.threads import VARIABLE
from ops.scoring.flags import count, setting

ALONE = True  # it measures time
ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 2
LIMIT_BUDGET, OUR_BUDGET = 2.0, 3.0  # seconds a round
LOOP_SECONDS, SETTLING_SECONDS = 25.0, 4.0  # of meta-training, and how much of it does not count
START_SECONDS = 300.0  # after which a start has failed
PARTS = ("steps", "start", "loop")
REST = "tape and the rest"


# --- The experiment -------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepSettings:
    """Which inner steps to measure."""
    cases: tuple = setting(tuple(CASES), "comma separated", parse=chosen_from(CASES), quick=("laptop",))
    threads: tuple = setting(None, "thread counts, comma separated (default: 1 and all usable cores)",
                             parse=lambda text: tuple(sorted({count(part) for part in text.split(",")})))


@dataclass(frozen=True)
class Settings(StepSettings):
    """What to measure."""
    parts: tuple = setting(PARTS, "inner steps, the start of train.py, its whole loop", parse=chosen_from(PARTS))
    wide: bool = setting(False, "also the memory of one gradient of a model 512 units wide; a minute")


def inputs(settings):
    """No file is read."""
    return []


def step_cells(settings):
    """The machine; then each case with each number of threads."""
    threads = settings.threads or sorted({1, usable_cores()})
    return [{"name": "machine", "what": "machine"}] + [
        {"name": f"{case}, {n} threads", "what": "steps", "case": case, "threads": n}
        for n in threads for case in settings.cases]


def cells(settings):
    """All that is asked for."""
    found = step_cells(settings) if "steps" in settings.parts else step_cells(settings)[:1]
    if "start" in settings.parts:
        found.append({"name": "start of train.py", "what": "start"})
    if "loop" in settings.parts:
        found += [{"name": f"train.py, {n} workers", "what": "loop", "workers": n} for n in sorted({1, usable_cores()})]
    return found + [{"name": "wide model", "what": "wide"}] * settings.wide


def measure(cell):
    """The numbers of one cell.  InputError if its process fails."""
    work = {"machine": machine, "steps": measure_case, "start": measure_start, "loop": measure_loop,
            "wide": measure_wide}[cell["what"]]
    return work(**{key: value for key, value in cell.items() if key not in ("name", "what")})


def numbers(settings, results):
    """{"machine", "rows", "start", "loop", "wide"}: see `machine`, `measure_case`, `measure_start`, `loop_numbers`.

    What was not asked for is None.
    """
    found = lambda what: [r.value for r in results if r.cell["what"] == what and not r.error]
    one = lambda what: next(iter(found(what)), None)
    return {"machine": one("machine"), "rows": [row for rows in found("steps") for row in rows], "start": one("start"),
            "loop": found("loop") or None, "wide": one("wide")}


# --- Inner steps --------------------------------------------------------------------------------


def _environment(blas=1, ours=1, **more):
    """This process's environment with those thread counts."""
    counts = dict.fromkeys(ONE_THREAD, str(blas)) | {VARIABLE: str(ours), "NUMBA_NUM_THREADS": "1"}
    return os.environ | counts | more


def _in_process(what, name, environment, budget=0.0, **given):
    """What `figures.bench_process` gives for the case of that name, or what is given; InputError if it fails."""
    given = json.dumps((given or {"case": CASES[name]}) | {"budget": budget})
    done = subprocess.run([sys.executable, "-m", "figures.bench_process", what], cwd=ROOT, env=environment, input=given,
                          capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}: out of memory?"]
        raise InputError(f"bench: the process for case {name} failed ({lines[-1]}); use other --cases")
    return json.loads(done.stdout)


def measure_case(case, threads):
    """Two rows, "update" and "gradient", of the case of that name; all times are per inner step, in seconds.

    Each: case, threads, what, seconds, gflop, gflops, sgemm_gflops and fraction, the share of sgemm's rate
    that is achieved; limit_s, what sgemm would need; first_call_s, peak_mb.  The gradient's also clocked_s
    with "blocks" [{"block", "seconds", "gflop", "limit_s", "fraction"}], of runs that were watched, the last
    being what is left for REST.
    """
    products, limits, runs = _in_process("products", case, _environment()), [], []
    products = {what: Counter((block, tuple(shape)) for block, *shape in listed) for what, listed in products.items()}
    shapes = sorted({shape for counted in products.values() for _, shape in counted})
    for _ in range(ROUNDS):
        limits += [_in_process("limit", case, _environment(blas=n), LIMIT_BUDGET, shapes=shapes) for n in {1, threads}]
        runs.append(_in_process("ours", case, _environment(ours=threads), OUR_BUDGET))
    sgemm, U = dict(zip(shapes, map(min, zip(*limits)))), CASES[case]["unrolls"]
    best = lambda key: min(run[key] for run in runs)
    common = {"case": case, "threads": threads, "first_call_s": best("first_call_s"),
              "peak_mb": max(run["peak_mb"] for run in runs)}
    clocked, blocks = min(runs, key=lambda run: run["clocked_s"]), []
    seconds = clocked["blocks"] | {REST: clocked["clocked_s"] - sum(clocked["blocks"].values())}
    for name in seconds:
        own = {key: n for key, n in products["gradient"].items() if (key[0] if key[0] in seconds else REST) == name}
        rates = _rates(own, U, sgemm, seconds[name])
        blocks.append({"block": name} | {key: rates[key] for key in ("seconds", "gflop", "limit_s", "fraction")})
    return [common | {"what": "update"} | _rates(products["update"], 1, sgemm, best("update_s")),
            common | {"what": "gradient"} | _rates(products["gradient"], U, sgemm, best("gradient_s")) | {
                "clocked_s": clocked["clocked_s"], "blocks": blocks}]


def _rates(products, steps, sgemm, seconds):
    """GFLOP of an inner step, rates, and the share of sgemm's, None where there is no product.

    products {(block, shape): how many in `steps` inner steps}; sgemm {shape: seconds}.
    """
    gflop = sum(2e-9 * m * k * n * many for (_, (m, k, n)), many in products.items()) / steps
    least = sum(sgemm[shape] * many for (_, shape), many in products.items()) / steps
    return {"seconds": seconds, "gflop": gflop, "gflops": gflop / seconds, "limit_s": least or None,
            "sgemm_gflops": gflop / least if least else None, "fraction": least / seconds if least else None}


# --- Starting, and the whole loop ---------------------------------------------------------------


def _train(folder, options, environment):
    """A process that meta-trains in `folder`, without validation or score."""
    command = [sys.executable, str(ROOT / "train.py"), "--no-score", "--validate-steps", "0", *options]
    with open(folder / "errors.txt", "wb") as errors:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors)


def _ended(process, folder):
    """Wait for it.  InputError with its last line if it failed."""
    if process.wait():
        lines = (folder / "errors.txt").read_text().strip().splitlines() or [f"exit code {process.returncode}"]
        raise InputError(f"bench: train.py failed ({lines[-1]}); run it by itself to see more")


def _stop(process):
    """Have a run that is still going end, and wait for its workers."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait()


def start_seconds(cache=None):
    """Seconds from starting `python train.py` to the first line of its metrics.jsonl: one meta-step is done.

    cache: the folder in which numba keeps compiled kernels, None for its own place.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, begin = Path(name), time.perf_counter()
        metrics = folder / "runs/laptop/metrics.jsonl"
        environment = _environment(**({"NUMBA_CACHE_DIR": str(cache)} if cache else {}))
        process = _train(folder, ["--steps", "1", "--minutes", "0"], environment)
        try:
            while not (metrics.exists() and b"\n" in metrics.read_bytes()):
                if process.poll():
                    _ended(process, folder)
                if time.perf_counter() - begin > START_SECONDS:
                    raise InputError(f"bench: train.py did no meta-step in {START_SECONDS:.0f} s; run it by itself")
                time.sleep(0.005)
            seconds = time.perf_counter() - begin
            _ended(process, folder)
        finally:
            _stop(process)
    return seconds


def measure_start():
    """{"cold_s", "warm_s"}: `start_seconds` with no kernel compiled yet, and the best of two with all of them."""
    with tempfile.TemporaryDirectory() as cache:
        cold = start_seconds(cache)
        return {"cold_s": cold, "warm_s": min(start_seconds(cache) for _ in range(2))}


def loop_numbers(records, settling=SETTLING_SECONDS):
    """Of the records of metrics.jsonl, those of the first `settling` seconds aside: gradients per second, and
    data_share, the part of a worker's time that goes into drawing data.  InputError if fewer than 3 are left.
    """
    records = [r for r in records if r["seconds"] >= records[0]["seconds"] + settling]
    if len(records) < 3:
        raise InputError("bench: too few meta-steps were done to tell a rate; try again on a machine that is less busy")
    span = records[-1]["seconds"] - records[0]["seconds"]
    data, unroll = (sum(r[key] * r["segments"] for r in records) for key in ("data_s", "unroll_s"))
    return {"gradients_per_s": sum(r["segments"] for r in records[1:]) / span, "data_share": data / (data + unroll),
            "seconds": span}


def measure_loop(workers):
    """`loop_numbers` of LOOP_SECONDS of meta-training with the default settings, and "workers"."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ["--workers", str(workers), "--minutes", str(LOOP_SECONDS / 60), "--checkpoint-minutes", "0"]
        process = _train(folder, options, _environment())
        try:
            _ended(process, folder)
        finally:
            _stop(process)
        lines = (folder / "runs/laptop/metrics.jsonl").read_text().splitlines()
    return {"workers": workers} | loop_numbers([json.loads(line) for line in lines])


# --- Wide models, and what it all ran on -----------------------------------------------------------


def measure_wide():
    """Memory and time of one gradient of bench_cases.WIDE on all usable cores."""
    cores = usable_cores()
    return {"threads": cores} | WIDE | _in_process("memory", "wide", _environment(ours=cores), case=WIDE)


def machine():
    """{"processor", "cores", "numpy", "load"}: what it runs on, and how busy it was in the minute before."""
    return {"processor": _processor(), "cores": usable_cores(), "numpy": np.__version__, "load": os.getloadavg()[0]}


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


# --- As text ------------------------------------------------------------------------------------


def words(result):
    """The `numbers` as lines of text."""
    m = result["machine"]
    lines = [f"{m['processor']}, {m['cores']} usable cores, numpy {m['numpy']}; load before: {m['load']:.2f}"
             + (" (others were at work: the numbers are disturbed)" if m["load"] > 0.5 else "")]
    if result["rows"]:
        lines += ["", *_step_lines(result["rows"])]
    for row in result["rows"]:
        if row["what"] == "gradient":
            lines += ["", *_block_lines(row)]
    if result["start"]:
        cold, warm = result["start"]["cold_s"], result["start"]["warm_s"]
        lines += ["", f"train.py, from its start to the first meta-step: {cold:.1f} s with no kernel compiled, "
                      f"{warm:.1f} s with all of them"]
    for loop in result["loop"] or []:
        lines.append(f"train.py with {loop['workers']} worker(s): {loop['gradients_per_s']:.1f} gradients/s, "
                     f"{loop['data_share']:.1%} of a worker's time spent on drawing data")
    if wide := result["wide"]:
        sizes = ", ".join(map(str, wide["sizes"]))
        lines.append(f"[{sizes}], U = {wide['unrolls']}, M = {wide['pairs']}, {wide['threads']} threads: gradient of "
                     f"{wide['peak_mb']:.0f} MB at most, {wide['seconds']:.2f} s per inner step")
    return "\n".join(lines)


def _step_lines(rows):
    head = (f"{'case':8} {'threads':>7} {'inner step':10} {'ms':>9} {'GFLOP':>7} {'GFLOP/s':>8} {'sgemm':>7} "
            f"{'share':>6} {'peak MB':>8} {'first s':>8}")
    return [head] + [
        f"{r['case']:8} {r['threads']:7d} {r['what']:10} {1e3 * r['seconds']:9.2f} {r['gflop']:7.2f} "
        f"{r['gflops']:8.1f} "
        f"{r['sgemm_gflops']:7.1f} {r['fraction']:6.0%} {r['peak_mb']:8.0f} {r['first_call_s']:8.2f}" for r in rows]


def _block_lines(row):
    lines = [f"{row['case']}, {row['threads']} thread(s): ms per inner step, forward and backward",
             f"  {'block':20} {'ms':>9} {'sgemm ms':>9} {'share':>6} {'GFLOP':>7}"]
    for b in row["blocks"]:
        limit = f"{1e3 * b['limit_s']:9.3f} {b['fraction']:6.0%}" if b["limit_s"] is not None else f"{'':16}"
        lines.append(f"  {b['block']:20} {1e3 * b['seconds']:9.3f} {limit} {b['gflop']:7.3f}")
    return lines + [f"  {'all':20} {1e3 * row['clocked_s']:9.3f}"]
