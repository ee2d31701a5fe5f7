"""Few-shot problems made of pools; README.md says in what order to read them."""
from ops.tasks.augment import Augmentation
from ops.tasks.mixture import (describe, largest_inputs, open_pools, parse_mixture, sample_letters_task,
                               sample_task)
from ops.tasks.task import Task, make_task

# Names of ops.data, for files that still look for them here.
from ops.data import DATASETS, MORE_DATASETS, Dataset, few_shot_draw, load_dataset, require_shots
from ops.data.letters import HELD_OUT_LETTERS, letters_pool
from ops.data.mnist import embedded_pool
from ops.data.pool import Pool, pool_arrays, pool_from

__all__ = ["Augmentation", "DATASETS", "Dataset", "HELD_OUT_LETTERS", "MORE_DATASETS", "Pool", "Task", "describe",
           "embedded_pool", "few_shot_draw", "largest_inputs", "letters_pool", "load_dataset", "make_task",
           "open_pools", "parse_mixture", "pool_arrays", "pool_from", "require_shots", "sample_letters_task",
           "sample_task"]
