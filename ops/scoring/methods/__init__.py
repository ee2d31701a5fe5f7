"""What can be scored: ways to make features, each with the same few-shot readout (D11).

A method is a NamedTuple of what it needs, and has

    curve(dataset, sizes, settings, steps, seeds) -> accuracies [points, seeds, draws, readouts]

after each of `steps` (rising) updates of its own kind, for the base models numbered `seeds`.  A method
that is not trained gives one point, one with nothing random about its features one seed (`seeded` False);
one that is has `updates`, how many where nobody says.
All methods, seeds and steps share the reference batch and the draws of labelled points, which depend on
settings.seed alone, and so can be compared draw by draw.  All of dataset's test images are used.
There is a single readout, whose ridge is the paper's, or a second one whose ridge is tuned (settings.tuned_ridge).
"""
from ops.errors import InputError
from ops.scoring.methods.base_model import Learned, RandomStart, open_rule  # noqa: F401  (read from here)
from ops.scoring.methods.components import COMPONENTS, Components
from ops.scoring.methods.hebbian import Hebbian, RectifiedHebbian
from ops.scoring.methods.kmeans import KMeans
from ops.scoring.methods.knocked_out import KnockedOut
from ops.scoring.methods.raw import RawInputs
from ops.scoring.methods.supervised import Supervised
from ops.scoring.methods.vae import VAE, BetaVAE

METHODS = {"random": RandomStart, "learned": Learned, "knocked-out": KnockedOut, "raw": RawInputs, "pca": Components,
           "kmeans": KMeans, "hebbian": Hebbian, "rectified": RectifiedHebbian,
           "vae": VAE, "beta-vae": BetaVAE, "supervised": Supervised}
BASELINES = tuple(name for name in METHODS if name not in ("random", "learned", "knocked-out"))  # what --baselines takes
LOOKS = {  # a method's name in words and its colour, the same in all pictures
    "random": ("random start", "#999999"),
    "learned": ("learned rule", "#0072B2"),
    "raw": ("raw inputs", "#444444"),
    "pca": ("principal components", "#a0522d"),
    "kmeans": ("k-means, 32 centres", "#E69F00"),
    "hebbian": ("Hebb's rule, set by hand", "#56B4E9"),
    "rectified": ("rectified Hebb's rule, set by hand", "#332288"),
    "vae": ("VAE", "#D55E00"),
    "beta-vae": ("beta-VAE", "#882255"),
    "supervised": ("supervised on the labelled points", "#009E73"),
    "prototypical": ("prototypical networks", "#CC79A7"),  # no baseline: it wants classes to train on
}


def baselines_of(names):
    """The baselines asked for, none for ("none",); raises InputError for an unknown one."""
    for name in names:
        if name not in (*BASELINES, "none"):
            raise InputError(f"unknown baseline '{name}'; choose from {', '.join(BASELINES)}, or 'none'")
    return [name for name in dict.fromkeys(names) if name != "none"]


def row_name(method, data):
    """A method's name in JSON; that of components tells how many there are: "pca32".  data as of `score.data_of`."""
    return f"pca{min(COMPONENTS, data['sizes'][0], data['n_train'])}" if method == "pca" else method


def method_label(method):
    """A method's name in JSON -> its name in tables and pictures: "pca32" -> "32 principal components"."""
    return f"{method[len('pca'):]} {LOOKS['pca'][0]}" if method.startswith("pca") else LOOKS[method][0]


def method_colour(method):
    """A method's name in JSON -> its colour in all pictures."""
    return LOOKS["pca" if method.startswith("pca") else method][1]
