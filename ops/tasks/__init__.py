"""What the rule is trained on and scored on: tasks in, arrays out.

| file | holds |
|---|---|
| `task.py` | `Task`: one few-shot problem a worker unrolls on |
| `glyphs.py` | the letters, rendered with Matplotlib's own fonts, and tasks drawn from them |
| `datasets.py` | every data set to score on by name: embedded, on disk, or a user's `.npz` |
| `labelled.py` | `Dataset`: labelled examples with a train and a test split |
| `files_on_disk.py` | where data files lie, and what to say when one is missing |
| `image_sets.py` | MNIST, Fashion-MNIST, CIFAR-10, held-out ImageNet, Omniglot, stacked digits |
| `cifar.py`, `pickled.py` | CIFAR-10's binary and Python files, the latter read without running anything |
| `reviews.py` | IMDB reviews as bags of words |
| `moons.py` | two moons |
| `area.py` | area averaging, the one way images are made smaller here |
| `idx.py` | the reader of MNIST's file format |
| `make_embedded.py` | the script that made the files in `embedded/` |

Only NumPy, Matplotlib, `ops.errors` and `ops.files` are imported from outside this folder.
"""
from .datasets import (DATASETS, MORE_DATASETS, Dataset, few_shot_draw, load_dataset, read_npz,
                       require_shots)
from .glyphs import (HELD_OUT_LETTERS, GlyphSet, letters, load_glyphs, sample_letters_task)
from .idx import read_idx, read_idx_split
from .task import Task

__all__ = ["DATASETS", "Dataset", "GlyphSet", "HELD_OUT_LETTERS", "MORE_DATASETS", "Task",
           "few_shot_draw", "letters", "load_dataset", "load_glyphs", "read_idx", "read_idx_split", "read_npz",
           "require_shots", "sample_letters_task"]
