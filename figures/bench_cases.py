"""What `evaluate.py bench` measures: the cases, and every matrix product of them, by block of the paper.

A product is (block, M, K, N): [M, K] times [K, N], 2 M K N operations.  Listed are the products that an
update and its backward pass perform, apart from two kinds: those with a vector, and the ridge solution's
in float64.  An input that theta has no influence on needs no gradient: the images, and at the first
inner step of an unroll phi itself.
"""
import numpy as np

CASES = {
    "laptop": dict(batch_size=32, hdims=16, delta=16, top=16, rank=4, sizes=[196, 64, 64, 32],
                   unrolls=3, pairs=3, per_batch=100),
    "paper": dict(batch_size=128, hdims=64, delta=32, top=64, rank=4, sizes=[196, 128, 128, 128, 128, 32],
                  unrolls=3, pairs=5, per_batch=100),
    "paper-3": dict(batch_size=128, hdims=64, delta=32, top=64, rank=4, sizes=[196, 128, 128, 128, 32],
                    unrolls=3, pairs=1, per_batch=100),
}
WIDE = dict(batch_size=128, hdims=64, delta=32, top=64, rank=4, sizes=[196, 512, 512, 512, 512, 512, 32],
            unrolls=15, pairs=5, per_batch=100)  # its unroll is too long to be kept: steps are recomputed
BLOCKS = ("base model", "TopD", "ComputeH", "error signal", "readouts", "planes", "meta-objective")
REST = "tape and the rest"
CLASSES = 10
PROJECTIONS = 7  # of h as a lower, and as many as an upper layer (App.37)


def convolutions(case):
    """[(block, rows, taps, channels in, channels out)] of an update, App.65-104."""
    B, H, D, T, out = (case[k] for k in ("batch_size", "hdims", "delta", "top", "sizes"))
    out = out[-1]
    found = [("TopD", B * out, 5, 1, T), ("TopD", out * T, 3, B, B), ("TopD", out * T, 3, B, B),
             ("TopD", B * out, 3, T, T), ("TopD", B * out, 3, T, T), ("TopD", B * out, 3, T, D)]
    for n in case["sizes"]:
        found += [("ComputeH", B * n, 3, 13 + D, H)] + [("ComputeH", B * n, 3, H, H)] * 3
    return found


def _layers(case):
    """(I, J, is it the first) of each weight matrix."""
    sizes = case["sizes"]
    return [(i, j, l == 0) for l, (i, j) in enumerate(zip(sizes[:-1], sizes[1:]))]


def _projections(case):
    """(rows of h, projections read from it) of each layer: both ends of the network serve one matrix only."""
    B, R, last = case["batch_size"], case["rank"], len(case["sizes"]) - 1
    return [(B * n, PROJECTIONS * R * (1 if l in (0, last) else 2)) for l, n in enumerate(case["sizes"])]


def update_products(case):
    """The products of one update."""
    B, H, D, R = (case[k] for k in ("batch_size", "hdims", "delta", "rank"))
    products = [(block, S, taps * C, rows) for block, rows, taps, C, S in convolutions(case)]
    products += [("readouts", m, H, rows) for rows, m in _projections(case)]
    for i, j, _ in _layers(case):
        products += [("base model", B, i, j), ("error signal", D, H, B * j), ("error signal", B * D, j, i)]
        products += [("readouts", i, R * B, j)] * 3 + [("readouts", i, R * B, i)] * 2 + [("readouts", j, R * B, j)] * 2
        products += [("planes", i, B, j)] + [("planes", i, i, j)] * 4 + [("planes", i, j, j)] * 4
    return products


def objective_products(case):
    """The products of the MetaObjective of one new state: base model on labelled batches, and the readout."""
    M, K, F = case["pairs"], case["per_batch"], case["sizes"][-1] + 1
    return ([("meta-objective", 2 * M * K, i, j) for i, j, _ in _layers(case)]
            + [("meta-objective", K, F, CLASSES)] * M)


def _update_backward(case, first):
    """The products of an update's backward pass; `first`: phi is where the unroll starts."""
    B, H, D, R = (case[k] for k in ("batch_size", "hdims", "delta", "rank"))
    products = []
    for number, (block, rows, taps, C, S) in enumerate(convolutions(case)):
        products += [(block, C, rows, taps * S)]
        products += [] if first and number == 0 else [(block, C, taps * S, rows)]  # TopD's first one reads x^L
    for rows, m in _projections(case):
        products += [("readouts", H, m, rows), ("readouts", m, rows, H)]
    for i, j, bottom in _layers(case):
        products += [("error signal", H, D, B * j), ("error signal", H, B * j, D), ("error signal", B * D, i, j)]
        products += [("readouts", R * B, i, j), ("readouts", R * B, j, i)] * 3
        products += [("readouts", R * B, i, i), ("readouts", R * B, j, j)] * 4
        products += [("planes", i, i, j)] * 4 + [("planes", i, j, j)] * 4
        products += [("planes", i, j, i)] * 4 + [("planes", j, 2 * i, j)] * 2
        if not first:
            products += [("error signal", i, B * D, j), ("base model", i, B, j), ("planes", B, i, j)]
            products += [] if bottom else [("base model", B, j, i), ("planes", i, j, B)]
    return products


def _objective_backward(case):
    M, K, F, rows = case["pairs"], case["per_batch"], case["sizes"][-1] + 1, 2 * case["pairs"] * case["per_batch"]
    products = [("meta-objective", K, F, CLASSES)] * 3 * M + [("meta-objective", K, CLASSES, F)] * 3 * M
    products += [("meta-objective", F, K, CLASSES)] * M
    for i, j, bottom in _layers(case):
        products += [("meta-objective", i, rows, j)] + ([] if bottom else [("meta-objective", rows, j, i)])
    return products


def gradient_products(case):
    """The products of a meta-gradient through all `unrolls` inner steps."""
    products = []
    for u in range(case["unrolls"]):
        products += update_products(case) + objective_products(case)
        products += _update_backward(case, u == 0) + _objective_backward(case)
    return products


def gflop(products):
    """GFLOP of the products, two operations a multiply-add."""
    return sum(2 * m * k * n for _, m, k, n in products) / 1e9


def conv_gflop(case):
    """{"TopD", "ComputeH"}: GFLOP of the convolutions alone of an update with its gradient, three products each."""
    total = lambda name: sum(6 * rows * taps * C * S for block, rows, taps, C, S in convolutions(case) if block == name)
    return {name: total(name) / 1e9 for name in ("TopD", "ComputeH")}


def problem(um, case):
    """Random (theta, phi, unlabelled batches, labelled batches) of a case's sizes, float32; um: `unsup_meta`."""
    rng = np.random.default_rng(0)
    theta = um.init_theta(rng, *(case[k] for k in ("batch_size", "hdims", "delta", "top", "rank")))
    U, M, K, N0 = case["unrolls"], case["pairs"], case["per_batch"], case["sizes"][0]
    x = rng.random((U, case["batch_size"], N0), dtype=np.float32)
    xa, xb = rng.random((2, U, M, K, N0), dtype=np.float32)
    y = np.tile(np.eye(CLASSES, dtype=np.float32)[np.arange(K) % CLASSES], (U, M, 1, 1))
    return theta, um.init_phi(rng, case["sizes"]), x, (xa, y, xb, y)
