"""D11 in settings: how features are scored, from which random streams, on which test images; what fits together."""
import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ops.errors import InputError
from ops.rule.activations import activation_named
from ops.scoring.flags import data_names, named_path, positive, setting
from ops.data import DATASETS, MORE_DATASETS, require_shots

HIDDEN_AND_OUTPUT = (128, 128, 128, 128, 32)  # the paper's evaluation network (Fig. 4)
OWN = ("laptop", "runs/laptop/theta.npz")  # name and path of the theta of a run of one's own
SHIPPED = ("shipped", str(Path(__file__).resolve().parents[2] / "figures" / "theta.npz"))
CURVE_POINTS = 10
LARGEST_INPUT = 1e12
UNEVEN = 30  # times the median of columns' standard deviations: a column in another unit
PHI, BATCHES, REFERENCE, DRAWS, TEST, TUNING, ORDER, BASELINE, SEEN = range(9)  # what a random stream is for


@dataclass(frozen=True)
class ScoreSettings:
    """D11: how features are scored, and how many updates make them."""
    inner_steps: int = setting(200, "updates by the rule", low=0, quick=100)
    shots: int = setting(10, "labelled examples per class", low=1)
    ways: int = setting(None, "classes in a draw, drawn anew for each, if there are more; all where not given", low=2)
    draws: int = setting(20, "draws of labelled examples", low=1)
    test_images: int = setting(None, "test images of a draw's classes, about, drawn once; all where not given", low=1)
    seeds: int = setting(3, "base models", low=1, quick=2)
    seed: int = setting(0, "seed of all random numbers", low=0)
    unlabelled: int = setting(None, "training images that features are learned from, without their labels, drawn at random "
                              "once; all where not given.  Labelled ones are drawn from all", low=2)
    batch_reference: int = setting(2000, "training examples whose batch-norm statistics are kept", low=2)
    activation: str = setting("relu", "of base models that a rule trains; VAE and supervised networks have ReLU")
    permute: int = setting(None, "the inputs in a random order, another for each base model, as those of each task of "
                           "meta-training are: the orders' seed; in their own order where not given", low=0, metavar="SEED")
    tuned_ridge: bool = setting(False, "beside the paper's ridge of 0.1 in the readout one that is chosen on the training "
                                "split, for each method: a second column")
    objective: bool = setting(False, "beside accuracies the meta-objective of the same readouts in the workshop paper's form, "
                              "squared (1 is chance): the last column", hidden=True)

    def stream(self, *key):
        """The random generator of one purpose: PHI, BATCHES, ..., then a seed's number where each has its own."""
        return np.random.default_rng([self.seed, *key])


@dataclass(frozen=True)
class DataSettings(ScoreSettings):
    """... of which data, beside which baselines, with which inner loop."""
    data: tuple = setting(tuple(DATASETS), f"data sets, comma separated or repeated: {', '.join(DATASETS)} (embedded), "
                          f"{', '.join(MORE_DATASETS)}, or an .npz with x [n, features] or images and y [n]",
                          parse=data_names, many=True, metavar="NAME|PATH.npz")
    standardise: str = setting("auto", "bring each column to mean 0 and standard deviation 1: yes, no, or auto: where "
                               "it is an .npz with columns in different units", choices=("auto", "yes", "no"))
    data_dir: str = setting(None, "where data files lie; else $UNSUP_META_DATA or ~/.cache/unsup_meta", metavar="PATH")
    baselines: tuple = setting(("raw", "pca"), "comma separated, of those in ops/scoring/methods, or none",
                               parse=lambda text: tuple(text.split(",")))
    lr: float = setting(None, "inner learning rate, if not what theta was trained with", parse=positive)
    norm_eps: float = setting(None, "e of App.60, if not what theta was trained with", parse=positive)

    def score_settings(self):
        """{field of ScoreSettings: value}."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(ScoreSettings)}


def default_theta():
    """(name, path) of the theta where none is given: of a run of one's own if there is one, else the shipped one."""
    return SHIPPED if os.path.isfile(SHIPPED[1]) and not os.path.isfile(OWN[1]) else OWN


def thetas_setting():
    """A field of (name, path) pairs: the thetas of a figure."""
    return setting(lambda: (default_theta(),), "a learned rule and the name that it gets; repeated; else as of `score`",
                   parse=named_path, many=True, metavar="NAME=PATH")


def curve_steps(inner_steps, points=CURVE_POINTS):
    """Inner steps to measure at: 0, ..., inner_steps, denser where the rule moves fastest, the beginning."""
    return sorted({round(inner_steps * (i / points) ** 2) for i in range(points + 1)})


def ways_of(classes, settings):
    """Number of classes in a draw from a data set of `classes`."""
    return min(settings.ways or classes, classes)


def limit_test(dataset, settings):
    """The data set with fewer test images: about settings.test_images of the classes of one draw.

    Each class keeps the same share of its test images, rounded up, drawn at random once, so every
    draw of labelled points and every method is scored on the same ones.  Were the limit for the whole
    set, not for the `ways` classes of a draw, next to nothing of each of hundreds of classes would stay.
    """
    of_all = len(dataset.classes) / ways_of(len(dataset.classes), settings)
    share = (settings.test_images or np.inf) * of_all / len(dataset.x_test)
    if share >= 1:
        return dataset
    rng = settings.stream(TEST)
    rows = [rng.permutation(np.flatnonzero(dataset.y_test == c)) for c in range(len(dataset.classes))]
    rows = np.sort(np.concatenate([r[:int(np.ceil(share * len(r)))] for r in rows]))
    return dataset._replace(x_test=dataset.x_test[rows], y_test=dataset.y_test[rows])


def standardised(dataset, which):
    """(the data set, with columns of mean 0 and standard deviation 1 if it is one of `which`; has it?).

    which  "yes", "no", or "auto": if some column's standard deviation is UNEVEN times the median or more.  A table of
           columns in different units is as good as its largest column to the rule, whose first layer adds them up.
    Means and deviations are the training split's; constant columns become 0.
    """
    if which == "no":
        return dataset, False
    mean, deviation = (of(dataset.x_train, axis=0, dtype=np.float64) for of in (np.mean, np.std))
    varied = deviation[deviation > 0]
    if which == "auto" and not (len(varied) and varied.max() >= UNEVEN * np.median(varied)):
        return dataset, False
    scale = np.where(deviation > 0, deviation, 1)
    x_train, x_test = (((x - mean) / scale).astype(np.float32) for x in (dataset.x_train, dataset.x_test))
    return dataset._replace(x_train=x_train, x_test=x_test), True


def check_data(dataset, sizes, settings):
    """Raise InputError unless data set, base model and settings fit together; nothing is computed yet."""
    features = dataset.x_train.shape[1]
    if sizes[0] != features:
        raise InputError(f"sizes start with {sizes[0]}, but data '{dataset.name}' has {features} features; "
                         f"start --sizes with {features} or leave it out")
    largest = np.max([bound for x in (dataset.x_train, dataset.x_test) for bound in (x.max(), -x.min())])
    if not largest < LARGEST_INPUT:
        raise InputError(f"data '{dataset.name}' reaches {largest:.1g}, whose squares overflow float32; "
                         "scale the data to about 1")
    activation_named(settings.activation)
    require_shots(dataset, settings.shots)
