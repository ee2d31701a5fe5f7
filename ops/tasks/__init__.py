"""What the rule is trained on and scored on: tasks in, arrays out.

| file | holds |
|---|---|
| `pool.py` | `Pool`: labelled images that tasks are made of, and its two halves that go to workers |
| `task.py` | `Task`: one few-shot problem a worker unrolls on, made of some classes of a pool |
| `augment.py` | `Augmentation`: rotations, shifts, dropout and more of the images a task draws |
| `glyphs.py` | the letters, rendered with Matplotlib's own fonts, and tasks drawn from them |
| `characters.py` | which 1,000 characters the paper's glyph tasks are made of |
| `render.py` | faces of fonts, which characters they truly have, and these as 14x14 images |
| `glyph_pool.py` | the 1,000 characters in every face as a pool, kept on disk; which classes look alike |
| `datasets.py` | every data set to score on by name: embedded, on disk, or a user's `.npz` |
| `labelled.py` | `Dataset`: labelled examples with a train and a test split |
| `files_on_disk.py` | where data files lie, and what to say when one is missing |
| `image_sets.py` | MNIST, Fashion-MNIST, CIFAR-10, held-out ImageNet, Omniglot, stacked digits |
| `image_pools.py` | CIFAR-10, ImageNet and a user's `.npz` as pools to meta-train on |
| `mixture.py` | the mixture of pools a run is trained on, and the tasks drawn from it |
| `cifar.py`, `pickled.py` | CIFAR-10's binary and Python files, the latter read without running anything |
| `reviews.py` | IMDB reviews as bags of words |
| `moons.py` | two moons |
| `area.py` | area averaging, the one way images are made smaller here |
| `idx.py` | the reader of MNIST's file format |
| `make_embedded.py` | the script that made the files in `embedded/` |

Only NumPy, Numba, Matplotlib, `ops.errors` and `ops.files` are imported from outside this folder.
"""
from ops.tasks.augment import Augmentation
from ops.data.datasets import (DATASETS, MORE_DATASETS, Dataset, few_shot_draw, load_dataset, read_npz,
                       require_shots)
from ops.data.glyph_pool import different_classes, glyph_pool, glyph_statistics
from ops.data.glyphs import (HELD_OUT_LETTERS, GlyphSet, letters, load_glyphs, sample_letters_task)
from ops.data.idx import read_idx, read_idx_split
from ops.data.image_pools import cifar10_pool, embedded_pool, imagenet16_pool, user_pool
from ops.data.image_sets import heldout_labels
from ops.tasks.mixture import describe, largest_inputs, letters_pool, open_pools, parse_mixture, sample_task
from ops.data.pool import Pool, check_pool, pool_arrays, pool_from
from ops.tasks.task import Task, make_task

__all__ = ["Augmentation", "DATASETS", "Dataset", "GlyphSet", "HELD_OUT_LETTERS", "MORE_DATASETS", "Pool", "Task",
           "check_pool", "cifar10_pool", "describe", "different_classes", "few_shot_draw", "embedded_pool",
           "glyph_pool", "glyph_statistics", "heldout_labels", "imagenet16_pool", "largest_inputs", "letters",
           "letters_pool", "load_dataset", "load_glyphs", "make_task", "open_pools", "parse_mixture", "pool_arrays",
           "pool_from", "read_idx", "read_idx_split", "read_npz", "require_shots", "sample_letters_task", "sample_task",
           "user_pool"]
