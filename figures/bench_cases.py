"""What `evaluate.py bench` measures: the cases, and random problems of their sizes."""
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
            unrolls=15, pairs=5, per_batch=100)  # too much of it to be kept: parts are computed again
CLASSES = 10


def problem(um, case):
    """Random (theta, phi, unlabelled batches, labelled batches) of a case's sizes, float32; um: `unsup_meta`."""
    rng = np.random.default_rng(0)
    theta = um.init_theta(rng, *(case[k] for k in ("batch_size", "hdims", "delta", "top", "rank")))
    U, M, K, N0 = case["unrolls"], case["pairs"], case["per_batch"], case["sizes"][0]
    x = rng.random((U, case["batch_size"], N0), dtype=np.float32)
    xa, xb = rng.random((2, U, M, K, N0), dtype=np.float32)
    y = np.tile(np.eye(CLASSES, dtype=np.float32)[np.arange(K) % CLASSES], (U, M, 1, 1))
    return theta, um.init_phi(rng, case["sizes"]), x, (xa, y, xb, y)
