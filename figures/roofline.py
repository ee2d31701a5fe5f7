"""How fast an inner step is, against the matrix products it is made of (`evaluate.py bench`).

Every matrix product of an update is listed by shape; its GFLOP are counted from there, and numpy's
own product is timed on the same shapes in the same run: that is the limit.  Each thread count and
case runs in a fresh process, since BLAS reads its thread count once.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CASES = {
    "laptop": dict(batch_size=32, hdims=16, delta=16, top=16, rank=4, sizes=[196, 64, 64, 32],
                   unrolls=3, pairs=3, per_batch=100),
    "paper": dict(batch_size=128, hdims=64, delta=32, top=64, rank=4, sizes=[196, 128, 128, 128, 128, 32],
                  unrolls=3, pairs=5, per_batch=100),
}
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def conv_products(batch_size, hdims, delta, top, sizes, **_):
    """[(block, M, K, N)]: each convolution of an update as rows [M, K] times taps side by side [K, N]."""
    B, H, D, T, out = batch_size, hdims, delta, top, sizes[-1]
    products = [("TopD", B * out, 5, T), ("TopD", out * T, 3 * B, B), ("TopD", out * T, 3 * B, B),
                ("TopD", B * out, 3 * T, T), ("TopD", B * out, 3 * T, T), ("TopD", B * out, 3 * T, D)]
    for n in sizes:
        products += [("ComputeH", B * n, 3 * (13 + D), H)] + [("ComputeH", B * n, 3 * H, H)] * 3
    return products


def other_products(batch_size, hdims, delta, rank, sizes, **_):
    """[(block, M, K, N)] of the base model, the error signal, the readouts and the planes."""
    B, H, D, R = batch_size, hdims, delta, rank
    products = []
    for i, j in zip(sizes[:-1], sizes[1:]):
        products += [("base model", B, i, j), ("error signal", B * j, H, D), ("error signal", i, j, B * D)]
        products += [("readouts", B * i, H, 7 * R), ("readouts", B * j, H, 7 * R)]
        products += [("readouts", i, B * R, j)] * 3 + [("readouts", i, B * R, i)] * 2 + [("readouts", j, B * R, j)] * 2
        products += [("planes", i, B, j)] + [("planes", i, i, j)] * 4 + [("planes", i, j, j)] * 4
    return products


def objective_products(sizes, pairs, per_batch, **_):
    """[(block, M, K, N)] of the base model's passes over the labelled batches of one new state."""
    return [("meta-objective", 2 * pairs * per_batch, i, j) for i, j in zip(sizes[:-1], sizes[1:])]


def with_backward(products):
    """The products of the backward pass as well: for [M, K] [K, N], those of both gradients."""
    return [p for block, m, k, n in products
            for p in ((block, m, k, n), (block, m, n, k), (block, k, m, n))]


def gflop(products):
    """GFLOP of the products, two per multiply-add."""
    return sum(2 * m * k * n for _, m, k, n in products) / 1e9


def best_seconds(action, budget=2.0, least=3):
    """The fastest of as many runs as fit `budget` seconds (at least `least`), after one to warm up."""
    action()
    best, runs, start = np.inf, 0, time.perf_counter()
    while runs < least or time.perf_counter() - start < budget:
        begin = time.perf_counter()
        action()
        best, runs = min(best, time.perf_counter() - begin), runs + 1
    return best


def sgemm_seconds(products):
    """What numpy needs for the products alone: each distinct shape timed, then multiplied out."""
    rng, seconds, total = np.random.default_rng(0), {}, 0.0
    for _, m, k, n in products:
        if (m, k, n) not in seconds:
            a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
            out = np.empty((m, n), np.float32)
            seconds[m, k, n] = best_seconds(lambda: np.matmul(a, b, out=out), budget=0.05)
        total += seconds[m, k, n]
    return total


def problem(case):
    """Random theta, phi, unlabelled and labelled batches of a case's sizes."""
    import unsup_meta as um
    rng, c = np.random.default_rng(0), CASES[case]
    theta = um.init_theta(rng, *(c[k] for k in ("batch_size", "hdims", "delta", "top", "rank")))
    phi = um.init_phi(rng, c["sizes"])
    U, M, K, N0 = c["unrolls"], c["pairs"], c["per_batch"], c["sizes"][0]
    x = rng.random((U, c["batch_size"], N0), dtype=np.float32)
    xa, xb = rng.random((2, U, M, K, N0), dtype=np.float32)
    y = np.tile(np.eye(10, dtype=np.float32)[np.arange(K) % 10], (U, M, 1, 1))
    return theta, phi, x, (xa, y, xb, y)


def measure(case):
    """Rows of one case in this process: update only and with gradient, seconds per inner step against sgemm."""
    import unsup_meta as um
    cold = time.perf_counter()
    theta, phi, x, labelled = problem(case)
    um.meta_gradient(theta, phi, x, labelled)
    first = time.perf_counter() - cold
    c = CASES[case]
    update = conv_products(**c) + other_products(**c)
    actions = {"update": (update, lambda: um.unsupervised_update(phi, x[0], theta), 1),
               "gradient": (with_backward(update + objective_products(**c)),
                            lambda: um.meta_gradient(theta, phi, x, labelled), c["unrolls"])}
    rows = []
    for name, (products, action, steps) in actions.items():
        limit = sgemm_seconds(products)
        seconds = best_seconds(action) / steps
        rows.append({"case": case, "what": name, "seconds": seconds, "gflop": gflop(products),
                     "gflops": gflop(products) / seconds, "sgemm_gflops": gflop(products) / limit,
                     "fraction": limit / seconds, "first_call_s": first,
                     "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
    return rows


def measure_all(cases, threads):
    """Rows of every case and thread count, each in a process of its own."""
    rows = []
    for count in threads:
        environment = os.environ | {name: str(count) for name in THREAD_VARIABLES}
        for case in cases:
            done = subprocess.run([sys.executable, "-m", "figures.roofline", case], env=environment, check=True,
                                  cwd=Path(__file__).resolve().parent.parent, stdout=subprocess.PIPE, text=True)
            rows += [{"threads": count} | row for row in json.loads(done.stdout)]
    return rows


def table(rows):
    """The rows as lines of text."""
    head = f"{'case':8} {'threads':>7} {'inner step':10} {'ms':>8} {'GFLOP':>7} {'GFLOP/s':>8} {'sgemm':>7} {'share':>6} {'peak MB':>8}"
    return "\n".join([head] + [
        f"{r['case']:8} {r['threads']:7d} {r['what']:10} {1e3 * r['seconds']:8.2f} {r['gflop']:7.2f} {r['gflops']:8.1f} "
        f"{r['sgemm_gflops']:7.1f} {r['fraction']:6.0%} {r['peak_mb']:8.0f}" for r in rows])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    print(json.dumps(measure(parser.parse_args().case)))
