"""What a run keeps in shared memory: theta and its predecessor, a row for each gradient, phi of each live task."""
import math

from ops.engine.flat import phi_shapes
from unsup_meta import theta_shapes


def rule_sizes(config):
    """The sizes that theta's shapes follow from."""
    return {name: getattr(config, name) for name in ("batch_size", "hdims", "delta", "top", "rank")}


def run_arrays(config, inputs, workers):
    """{name: (shape, dtype)} of a run whose tasks have at most `inputs` inputs.

    theta [2, P], by meta-step modulo 2; grads [rows, P], twice what can be under way, since one is written
    while another is read; phi [live_tasks, 2, floats], see `LiveTask`.
    """
    widest = [inputs] + [config.max_units] * config.max_layers + [config.embedding]
    shapes = theta_shapes(**rule_sizes(config))
    floats, size = (sum(math.prod(s) for s in group) for group in (phi_shapes(widest), shapes.values()))
    rows = 2 * (config.meta_batch if config.mode == "sync" else workers)
    return {"version": ((1,), "int64"), "theta": ((2, size), "float32"), "grads": ((rows, size), "float32"),
            "phi": ((config.live_tasks, 2, floats), "float32")}
