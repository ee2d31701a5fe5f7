"""Labelled examples as they are published, one file a data set; README.md says which, and in what order to read them.

This is the table of data sets that can be scored on by name.
"""
from ops.data import places
from ops.data.cifar10 import load_cifar10
from ops.data.imagenet16 import load_heldout
from ops.data.imdb import load_imdb
from ops.data.labelled import Dataset, few_shot_draw, require_shots
from ops.data.letters import load_letters
from ops.data.mnist import EMBEDDED, FULL, load_embedded, load_full, load_mnist3
from ops.data.moons import load_moons
from ops.data.omniglot import load_omniglot
from ops.data.user import is_user_file, load_user
from ops.errors import InputError

DATASETS = dict.fromkeys(EMBEDDED, load_embedded)  # name -> loader(name, folder); these come with the project
MORE_DATASETS = dict.fromkeys(FULL, load_full) | {
    "cifar10": load_cifar10, "cifar10-32": load_cifar10, "imagenet16-heldout": load_heldout, "imdb": load_imdb,
    "letters": load_letters, "omniglot": load_omniglot, "moons": load_moons, "mnist3": load_mnist3, "mnist3-14": load_mnist3}

__all__ = ["DATASETS", "Dataset", "MORE_DATASETS", "few_shot_draw", "load_dataset", "require_shots"]


def load_dataset(name_or_path, data_dir=None):
    """A name in DATASETS (embedded) or MORE_DATASETS, or the path of a user's `.npz` (see `user`) -> Dataset.

    The sets of MORE_DATASETS but "letters", "moons" and "mnist3-14" are read from `places.data_dir(data_dir)`; as float32 they
    take up to 740 MB, see their loaders.  Raises InputError for an unknown name and for everything that the loaders
    find wrong; each names the file and the mend.
    """
    loader = (DATASETS | MORE_DATASETS).get(name_or_path)
    if loader:
        return loader(name_or_path, places.data_dir(data_dir))
    if is_user_file(name_or_path):
        return load_user(name_or_path)
    raise InputError(f"data set '{name_or_path}' is unknown; give one of "
                     f"{', '.join([*DATASETS, *MORE_DATASETS])}, or the path of an .npz with x "
                     "and y")
