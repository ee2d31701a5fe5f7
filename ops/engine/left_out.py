"""Parts that a run does without (`--without`), to see what they are worth: weights of theta that are 0 and stay so, and others."""
import numpy as np

from ops.command_line import chosen_from

PARTS = {"lateral": "planes 7 to 10", "conv-unit": "what the unit convolutions take from neighbours",
         "conv-batch": "what the batch convolutions take from neighbours",
         "v": "a V of its own: V starts as W and then stays it", "order": "the random order of a task's inputs"}


def parts_of(text):
    """Names of PARTS, comma separated, or none; ArgumentTypeError for others."""
    return chosen_from(PARTS)(text) if text.strip() else ()


def free_weights(shapes, parts):
    """{name: float32 array}, 1 where theta, of `shapes` {name: shape}, is learned, 0 where `parts` leave a weight out."""
    free = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    if "lateral" in parts:
        free["merge"][6:] = 0
    for name, array in free.items():
        kind = name.split("/")[1][:4] if name.endswith("/w") else ""  # a kernel [K, C, S]: conv1, unit2, out
        if (kind == "unit" and "conv-unit" in parts) or (kind in ("conv", "out") and "conv-batch" in parts):
            middle = (array.shape[0] - 1) // 2
            array[:middle], array[middle + 1:] = 0, 0
    return free
