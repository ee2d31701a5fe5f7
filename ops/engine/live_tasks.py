"""The random streams of a run, what is drawn from them, and the tasks that are under way."""
from dataclasses import dataclass

import numpy as np

from ops.tasks.mixture import sample_task
from ops.engine import config as settings
from ops.engine.shared_memory import phi_floats

TASK, SEGMENT, CHECK, THETA, NOISE = range(5)  # the random streams' families; the last is of experiments


def stream(config, *key):
    """The random stream of (seed, *key)."""
    return np.random.default_rng([config.seed, *key])


def draw_task(config, pools, slot, generation, born):
    """Where Alg. 1 samples a task and K: (task, layer sizes, inner steps, Generator for phi_0) of a slot's next task.

    generation: how many tasks the slot has had.  born: the meta-step at which this one starts; the number of inner
    steps grows with it (H.2).  It is rounded and at least 1; if normal a sixth of the draws, those below, become a
    single step (D12).  The first tasks of all end somewhere inside their horizon, so that slots do not run in step.
    """
    rng = stream(config, TASK, slot, generation)
    task = sample_task(rng, config, pools)
    if "order" in config.without:
        task = task.in_natural_order()
    units = round(np.exp(rng.uniform(np.log(config.min_units), np.log(config.max_units))))
    hidden = int(rng.integers(config.min_layers, config.max_layers + 1))
    sizes = [task.features] + [units] * hidden + [config.embedding]
    scale = settings.horizon_scale(config, born)
    if config.horizon_shape == "normal":
        steps = rng.normal(scale, scale)
    else:
        steps = rng.uniform(1, 2 * scale - 1)
    horizon = max(1, round(steps))
    if generation == 0:
        horizon = max(1, round(horizon * rng.uniform()))
    return task, sizes, horizon, rng


@dataclass
class LiveTask:
    """The state of a slot's task between two segments, but for phi; any worker can go on with it from here.

    phi lies at [slot, parity] in shared memory; a segment writes phi_(t+U) at [slot, 1 - parity], so that a
    worker that dies half way leaves the task as it was.
    """

    slot: int
    generation: int = 0  # tasks this slot has finished
    born: int = 0        # meta-step at which the task started
    t: int = 0           # inner steps done
    parity: int = 0
    floats: int = 0      # of phi; 0 before the first segment

    def advance(self, reply, step):
        """Take over what a segment returned: go on from phi_U, or start a new task."""
        self.t, self.parity, self.floats = self.t + reply["unrolls"], 1 - self.parity, phi_floats(reply["sizes"])
        if self.t >= reply["horizon"] or not reply["finite"]:
            self.generation, self.born, self.t, self.floats = self.generation + 1, step, 0, 0
