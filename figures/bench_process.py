"""What `evaluate.py bench` runs in a fresh process, since thread counts are read once: JSON in, JSON out.

    echo '{"case": {...}, "budget": 2}' | python -m figures.bench_process products|limit|ours|memory
"""
import json
import resource
import sys
import time

import numpy as np

from figures.bench_cases import problem


def seconds_of(action):
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def best_seconds(action, budget):
    """The fastest of as many runs as fit `budget` seconds (at least 3), after one to warm up."""
    action()
    best, runs, start = np.inf, 0, time.perf_counter()
    while runs < 3 or time.perf_counter() - start < budget:
        best, runs = min(best, seconds_of(action)), runs + 1
    return best


def steps_of(case):
    """(update, gradient): functions that do one of a random problem of the case's sizes."""
    import unsup_meta as um  # not for `limit`
    theta, phi, x, labelled = problem(um, case)
    return (lambda: um.unsupervised_update(phi, x[0], theta)), (lambda: um.meta_gradient(theta, phi, x, labelled))


def watching():
    """What an action does, by function of `unsup_meta`; what the meta-objective calls is its own."""
    import unsup_meta as um
    from ops.rule import watch
    return watch.watching(um, "meta_objective")


def products(case, budget):
    """{"update", "gradient"}: [[block, M, K, N]] of the matrix products performed, the gradient's of all its steps."""
    performed = []
    for action in steps_of(case):
        with watching() as seen:
            action()
        performed.append([list(product) for product in seen.products])
    return dict(zip(("update", "gradient"), performed))


def limit(shapes, budget):
    """[seconds]: what numpy needs for a float32 product of each of the shapes [M, K, N]; `budget` is for them all."""
    rng, found = np.random.default_rng(0), []
    for m, k, n in shapes:
        a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((m, k), (k, n)))
        out = np.empty((m, n), np.float32)
        found.append(best_seconds(lambda: np.matmul(a, b, out=out), budget / len(shapes)))
    return found


def ours(case, budget):
    """Seconds of an update, and of a gradient per inner step: unwatched, and watched, by block.

    Also the first gradient's seconds (kernels are loaded or compiled) and the peak of resident memory after it.
    """
    U, (update, gradient) = case["unrolls"], steps_of(case)
    first, peak = seconds_of(gradient), peak_mb()
    plain, watched, start = [], [], time.perf_counter()
    while len(plain) < 2 or time.perf_counter() - start < budget:
        plain.append(seconds_of(gradient))
        with watching() as seen:
            seconds = seconds_of(gradient)
        watched.append((seconds, seen.seconds))
    total, blocks = min(watched, key=lambda run: run[0])
    return {"update_s": best_seconds(update, budget / 4), "gradient_s": min(plain) / U, "clocked_s": total / U,
            "first_call_s": first, "peak_mb": peak, "blocks": {name: s / U for name, s in blocks.items()}}


def memory(case, budget):
    """Seconds of one gradient per inner step and the peak of resident memory; `budget` is not used."""
    _, gradient = steps_of(case)
    return {"seconds": seconds_of(gradient) / case["unrolls"], "peak_mb": peak_mb()}


def peak_mb():
    """The most memory that this process had resident so far, MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on macOS
    return peak / 1024 / (1024 if sys.platform == "darwin" else 1)


if __name__ == "__main__":
    work = {"products": products, "limit": limit, "ours": ours, "memory": memory}[sys.argv[1]]
    print(json.dumps(work(**json.load(sys.stdin))))
