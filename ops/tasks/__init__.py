"""What the rule is trained on and scored on: tasks in, arrays out.

| file | holds |
|---|---|
| `task.py` | `Task`: one few-shot problem a worker unrolls on |
| `glyphs.py` | the letters, rendered with Matplotlib's own fonts, and tasks drawn from them |
| `datasets.py` | `Dataset`: labelled images to score on, embedded or a user's `.npz` |
| `area.py` | area averaging, the one way images are made smaller here |
| `idx.py` | the reader of MNIST's file format |
| `make_embedded.py` | the script that made the files in `embedded/` |

Only NumPy, Matplotlib and `ops.errors` are imported from outside this folder.
"""
from .datasets import (DATASETS, Dataset, few_shot_draw, load_dataset, read_npz, require_shots)
from .glyphs import (HELD_OUT_LETTERS, GlyphSet, letters, load_glyphs, sample_letters_task)
from .idx import read_idx, read_idx_split
from .task import Task

__all__ = ["DATASETS", "Dataset", "GlyphSet", "HELD_OUT_LETTERS", "Task", "few_shot_draw",
           "letters", "load_dataset", "load_glyphs", "read_idx", "read_idx_split", "read_npz",
           "require_shots", "sample_letters_task"]
