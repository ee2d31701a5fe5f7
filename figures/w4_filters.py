"""First-layer filters on 14x14 MNIST over meta-training, and how different they are (workshop Fig. 4): Fig. 6's panes."""
from dataclasses import dataclass

from figures import fig6_filters
from figures.fig6_filters import cells, measure  # noqa: F401  (parts of an experiment)
from ops.scoring.flags import data_names, setting

NUMBER = {"diversity": "D: mean of 1 - |cosine| of two filters"}


@dataclass(frozen=True)
class Settings(fig6_filters.Settings):
    """A run and its thetas; that of the workshop paper is of `--preset workshop`."""
    data: tuple = setting(("mnist14",), "data sets of images, as of `fig6-filters`", parse=data_names, many=True)


def numbers(settings, results):
    """As `fig6_filters.numbers`, with the workshop paper's claim."""
    found = fig6_filters.numbers(settings, results)
    rows = [row for row in found["rows"] if "error" not in row and "natural" not in row["title"]]
    return found | {"numbers": NUMBER, "claim": {
        f"{row['title'].splitlines()[0]}: filters become more diverse from the first theta to the last":
        row["panes"][-1]["diversity"] > row["panes"][0]["diversity"] for row in rows}}


words, draw = fig6_filters.words, fig6_filters.draw
