"""What `evaluate.py bench` runs in a fresh process, since thread counts are read once: JSON in, JSON out.

    echo '{"case": {...}, "budget": 2}' | python -m figures.bench_process limit|ours|memory
"""
import functools
import json
import resource
import sys
import time
from collections import Counter

import numpy as np

from figures.bench_cases import gradient_products, problem, update_products

FUNCTIONS = {"base_model": "base model", "top_d": "TopD", "compute_h": "ComputeH", "next_delta": "error signal",
             "delta_bias": "readouts", "meta_objective": "meta-objective"}  # of unsup_meta -> the block of what they call
READOUTS = ("project", "stack_matrices", "readouts", "bias_readout", "stop_drift")  # wherever they are called


class BlockClock:
    """Seconds spent in each block's primitives, forward and backward, while `running`.

    Wraps `ops.rule.primitive.block` and so must be made before `unsup_meta` is imported.  Which block a
    primitive belongs to follows from the outermost of FUNCTIONS that called it; its backward pass finds
    the name on its tape.
    """

    def __init__(self):
        import ops.rule.primitive
        if "unsup_meta" in sys.modules:
            raise RuntimeError("make a BlockClock before unsup_meta is imported")
        self.running, self.block, self.seconds, self._called = False, None, Counter(), []
        ops.rule.primitive.block = self._timing(ops.rule.primitive.block)
        import unsup_meta
        for name, block in FUNCTIONS.items():
            setattr(unsup_meta, name, self._noting(getattr(unsup_meta, name), block))
        self.um = unsup_meta

    def _timing(self, plain):
        def block(vjp):
            def decorate(forward):
                if forward.__name__ == "once":  # a recomputed part: what runs inside has clocks of its own
                    return plain(vjp)(forward)

                @functools.wraps(forward)
                def clocked(*args, tape):
                    name = self._block_of(forward.__name__)
                    tape.update(clock=name)
                    return self._timed(name, forward, *args, tape=tape)

                return plain(lambda g, tape, wanted: self._timed(tape["clock"], vjp, g, tape, wanted))(clocked)

            return decorate

        return block

    def _noting(self, function, block):
        @functools.wraps(function)
        def noted(*args, **options):
            self._called.append(block)
            try:
                return function(*args, **options)
            finally:
                self._called.pop()

        return noted

    def _block_of(self, primitive):
        if self._called:
            return self._called[0]
        return "readouts" if primitive in READOUTS else "planes"

    def _timed(self, name, work, *args, **options):
        if not self.running:
            return work(*args, **options)
        self.block, begin = name, time.perf_counter()
        try:
            return work(*args, **options)
        finally:
            self.seconds[name] += time.perf_counter() - begin
            self.block = None

    def of(self, action):
        """(seconds, {block: seconds}) of one run of `action`."""
        self.running, self.seconds = True, Counter()
        try:
            return seconds_of(action), dict(self.seconds)
        finally:
            self.running = False


def seconds_of(action):
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def best_seconds(action, budget, least=3):
    """The fastest of as many runs as fit `budget` seconds (at least `least`), after one to warm up."""
    action()
    best, runs, start = np.inf, 0, time.perf_counter()
    while runs < least or time.perf_counter() - start < budget:
        best, runs = min(best, seconds_of(action)), runs + 1
    return best


def limit(case, budget):
    """[[M, K, N, seconds]]: what numpy needs for each distinct product of the case alone; all in `budget` seconds or so."""
    shapes = dict.fromkeys(p[1:] for p in update_products(case) + gradient_products(case))
    rng, rows = np.random.default_rng(0), []
    for m, k, n in shapes:
        a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((m, k), (k, n)))
        out = np.empty((m, n), np.float32)
        rows.append([m, k, n, best_seconds(lambda: np.matmul(a, b, out=out), budget / len(shapes))])
    return rows


def ours(case, budget):
    """Seconds of an update, and of a gradient per inner step: plain, and with the clock running, by block.

    Also the first gradient's seconds (kernels are loaded or compiled) and the peak of resident memory after it.
    """
    clock = BlockClock()
    um, U = clock.um, case["unrolls"]
    theta, phi, x, labelled = problem(um, case)
    gradient = lambda: um.meta_gradient(theta, phi, x, labelled)
    first, peak = seconds_of(gradient), peak_mb()
    plain, timed, start = [], [], time.perf_counter()
    while len(plain) < 2 or time.perf_counter() - start < budget:
        plain.append(seconds_of(gradient))
        timed.append(clock.of(gradient))
    total, blocks = min(timed, key=lambda run: run[0])
    return {"update_s": best_seconds(lambda: um.unsupervised_update(phi, x[0], theta), budget / 4),
            "gradient_s": min(plain) / U, "clocked_s": total / U, "first_call_s": first, "peak_mb": peak,
            "blocks": {name: seconds / U for name, seconds in blocks.items()}}


def memory(case, budget):
    """Seconds of one gradient per inner step and the peak of resident memory; `budget` is not used."""
    import unsup_meta as um
    theta, phi, x, labelled = problem(um, case)
    seconds = seconds_of(lambda: um.meta_gradient(theta, phi, x, labelled))
    return {"seconds": seconds / case["unrolls"], "peak_mb": peak_mb()}


def peak_mb():
    """The most memory that this process had resident so far, MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on macOS
    return peak / 1024 / (1024 if sys.platform == "darwin" else 1)


if __name__ == "__main__":
    print(json.dumps({"limit": limit, "ours": ours, "memory": memory}[sys.argv[1]](**json.load(sys.stdin))))
