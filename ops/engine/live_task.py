"""The state of a slot's task between two truncated segments: everything but phi, which is in shared memory."""
import math
from dataclasses import dataclass

from ops.engine.flat import phi_shapes


@dataclass
class LiveTask:
    """A slot's task; any worker can go on with it from here, and a checkpoint holds it.

    phi lies at [slot, parity] in shared memory; a segment writes phi_(t+U) at [slot, 1 - parity], so
    that a worker that dies half way leaves the task as it was.
    """

    slot: int
    generation: int = 0  # tasks this slot has finished
    born: int = 0        # meta-step at which the task started
    t: int = 0           # inner steps done
    parity: int = 0
    floats: int = 0      # of phi

    def job(self, job, row, step, version=None):
        """The message that asks for its next segment with theta `version` (None: the newest), the gradient to `row`."""
        return {"job": job, "row": row, "step": step, "version": version, "slot": self.slot, "generation": self.generation,
                "born": self.born, "t": self.t, "parity": self.parity, "floats": self.floats}

    def advance(self, reply, step):
        """Take over what a segment returned: go on from phi_U, or start a new task."""
        self.t, self.parity = self.t + reply["unrolls"], 1 - self.parity
        self.floats = sum(math.prod(shape) for shape in phi_shapes(reply["sizes"]))
        if self.t >= reply["horizon"] or not reply["finite"]:
            self.generation, self.born, self.t, self.floats = self.generation + 1, step, 0, 0
