"""The random streams of a run, and what is drawn from them: tasks, architectures, numbers of inner steps."""
import numpy as np

from ops.engine import config as settings
from ops import tasks

TASK, SEGMENT, VALIDATE, THETA = range(4)  # the random streams' families


def stream(config, *key):
    """The random stream of (seed, *key)."""
    return np.random.default_rng([config.seed, *key])


def draw_task(config, pools, slot, generation, born):
    """Where Alg. 1 samples a task and K: (task, layer sizes, inner steps, Generator for phi_0) of a slot's `generation`-th task.

    `born` is the meta-step at which it starts; the horizon grows with it (H.2).  The first tasks of
    all start somewhere inside their horizon, so that slots do not run in step.
    """
    rng = stream(config, TASK, slot, generation)
    task = tasks.sample_task(rng, config, pools)
    units = round(np.exp(rng.uniform(np.log(config.min_units), np.log(config.max_units))))
    hidden = int(rng.integers(config.min_layers, config.max_layers + 1))
    sizes = [task.features] + [units] * hidden + [config.embedding]
    scale = settings.horizon_scale(config, born)
    horizon = max(1, round(rng.normal(scale, scale)))
    if generation == 0:
        horizon = max(1, round(horizon * rng.uniform()))
    return task, sizes, horizon, rng


def validation_task(config, what, index, pools):
    """The task that "letters" (held-out ones) or an embedded data set gives for validation, always the same.

    pools: {name: Pool}, whose letters are taken if it has them.
    """
    rng = stream(config, VALIDATE, index, 0)
    if what == "letters":
        return tasks.sample_task(rng, config, pools, split="heldout")
    pool = tasks.embedded_pool(what)
    return tasks.make_task(rng, what, what, pool, range(len(pool.counts)))
