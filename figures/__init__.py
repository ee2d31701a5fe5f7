"""Every experiment by its name, a module each, as `ops.scoring.runner` wants it: `python evaluate.py figure NAME`."""
import importlib
from typing import NamedTuple

from ops.errors import InputError


class Entry(NamedTuple):
    """name on the command line, of the files too; module here; figure of a paper, "" for none; a line about it."""
    name: str
    module: str
    source: str
    line: str


FIGURES = (
    Entry("fig2-vae", "fig2_vae", "Fig. 2 left", "accuracy of a VAE's latents, and its ELBO, while it trains"),
    Entry("fig2-protonets", "fig2_protonets", "Fig. 2 right", "prototypical networks and a rule, pixels intact and permuted"),
    Entry("training-curves", "training_curves", "Fig. 3", "J and accuracy over meta-training, from the logs of runs"),
    Entry("fig4-datasets", "fig4_datasets", "Fig. 4 left", "accuracy on data sets never met, beside VAE and supervised"),
    Entry("comparison", "comparison", "Fig. 4 left", "accuracy of several rules and baselines on several data sets"),
    Entry("learning-curve", "learning_curve", "workshop 1", "accuracy against inner steps of a rule, with baselines"),
    Entry("fig3", "fig3", "Fig. 3, App. 3", "J over hours of meta-training, and of thetas of a run on single data sets"),
    Entry("fig4-imdb", "fig4_imdb", "Fig. 4 right", "from images to text: accuracy and J on IMDB, early and late thetas"),
    Entry("fig5-width", "fig5_width", "Fig. 5", "accuracy of base models of 16 to 2,048 units, 10,000 with --widest"),
    Entry("fig5-depth", "fig5_depth", "Fig. 5", "accuracy of base models of 1 to 11 hidden layers"),
    Entry("fig5-activations", "fig5_activations", "Fig. 5", "accuracy of base models with other activation functions"),
    Entry("fig6-filters", "fig6_filters", "Fig. 6 left", "first-layer filters over meta-training, for thetas of a run"),
    Entry("fig6-manifold", "fig6_manifold", "Fig. 6 right", "outputs before and after the rule, the dimensions they fill"),
    Entry("w1-learning", "w1_learning", "workshop 1", "objective and accuracy against updates, of a rule and trained baselines"),
    Entry("w2-colours", "w2_colours", "workshop 2", "three digits as colours: whether filters fall for one of them"),
    Entry("w3-architectures", "w3_architectures", "workshop 3", "accuracy against inner steps of other widths and depths"),
    Entry("w4-filters", "w4_filters", "workshop 4", "first-layer filters over meta-training, and their diversity"),
    Entry("knock-outs", "knock_outs", "", "what each part of a learned rule is for: accuracy without it"),
    Entry("shots", "shots", "", "accuracy against labelled and unlabelled examples and classes"),
    Entry("permutation", "permutation", "", "natural order of the inputs against random ones"),
    Entry("confusion", "confusion", "", "which classes a rule's features confuse"),
    Entry("ablation", "ablation", "", "rules meta-trained without one trick after another; hours"),
    Entry("truncation", "truncation", "", "gradients of short segments and evolution strategies against the whole unroll's"),
    Entry("cost", "cost", "", "accuracy against meta-training core-hours; seconds of a base model to be as good"),
    Entry("many-workers", "many_workers", "", "what the main process does for a gradient; 1 to 4,096 workers simulated"),
    Entry("stability", "stability", "", "J and accuracy after 10 to 3,000 updates of narrow and wide base models"),
    Entry("suite-ranking", "suite_ranking", "", "how each set of the validation suite ranks thetas of several runs"),
    Entry("experiments", "experiments", "", "the log of meta-training runs, with their scores; adds runs to it"),
    Entry("roofline", "roofline", "", "time of each block of an inner step against sgemm's; a part of `bench`"),
    Entry("tasks", "tasks", "", "what a worker of train.py is given: a contact sheet of the tasks of a mixture"),
)


def module_of(name):
    """The module of a figure, imported now.  InputError for an unknown name."""
    for entry in FIGURES:
        if entry.name == name:
            return importlib.import_module(f"figures.{entry.module}")
    raise InputError(f"figure {name}: unknown; choose from {', '.join(entry.name for entry in FIGURES)}, or --all")


def table():
    """What `figure --help` prints."""
    line = lambda entry: f"  {entry.name:16}  {entry.source:12}  {entry.line}"
    return "\n".join([
        "usage: evaluate.py figure NAME [--quick] [--redraw] [settings], or figure --all [--quick]",
        "figure NAME --help tells the settings.  NAME.png and its numbers, NAME.json, go to figures/.", "",
        "Experiments of the papers:", *(line(entry) for entry in FIGURES if entry.source),
        "What the papers do not show:", *(line(entry) for entry in FIGURES if not entry.source)])
