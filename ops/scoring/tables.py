"""Accuracies as rows {"method", "mean", "sem", "n"}, and rows as text."""
import numpy as np

from ops.scoring.few_shot import mean_and_sem

CLEAR = 2.0  # standard errors of a difference that make it one


def summary(accuracies):
    """{"mean", "sem", "n"} of accuracies [seeds, draws], JSON-ready: no standard error is None, not NaN."""
    mean, sem, n = mean_and_sem(accuracies)
    return {"mean": mean, "sem": sem if np.isfinite(sem) else None, "n": n}


def summaries(accuracies):
    """... of accuracies [seeds, draws, readouts]; "tuned" holds those of the second readout where there is one."""
    first, *second = (summary(of_one) for of_one in np.moveaxis(accuracies, 2, 0))
    return first | ({"tuned": second[0]} if second else {})


def difference(pairs):
    """{"difference", "sem", "holds"} of [(a, b)], accuracies [seeds, draws] each, over common seeds and draws: is a clearly above b?

    One row, where there is no seed, stands for any number.  Of several pairs, thetas, each is one row, its seeds' mean.
    """
    rows = [a - b if len(pairs) == 1 else (a - b).mean(axis=0, keepdims=True) for a, b in pairs]
    mean, sem, _ = mean_and_sem(np.concatenate(rows))
    return {"difference": mean, "sem": None if np.isnan(sem) else sem, "holds": bool(mean > CLEAR * np.nan_to_num(sem))}


def columns_of(title, rows):
    """{title: {label: text}} of rows {label: row of `summaries`}: a column, a second one if some hold "tuned"."""
    found = {title: {label: cell_text(row) for label, row in rows.items()}}
    tuned = {label: cell_text(row["tuned"]) for label, row in rows.items() if "tuned" in row}
    return found | ({f"{title}, ridge tuned": tuned} if tuned else {})


def protocol(settings, sizes):
    """A table's first line: how the numbers were measured, from {field of ScoreSettings: value}."""
    network = "-".join(map(str, sizes[1:]))
    ways = "" if settings["ways"] is None else f"at most {settings['ways']} classes a draw, "
    return (f"few-shot accuracy, mean +- standard error: {settings['shots']} labelled examples per class, {ways}"
            f"{settings['draws']} draws, {settings['seeds']} seeds of phi, {settings['inner_steps']} inner steps, "
            f"base model inputs-{network}")


def table(titles, rows):
    """A row {label: [a text for each title]} a line, under the titles."""
    widths = [max(map(len, column)) for column in zip(titles, *rows.values())]
    first = max([26, *map(len, rows)])
    return "\n".join((f"{label:<{first}}" + "".join(f"  {text:<{w}}" for text, w in zip(texts, widths))).rstrip()
                     for label, texts in {"": titles, **rows}.items())


def cell_text(row):
    """A row {"mean", "sem"} as text."""
    if row["mean"] is None:
        return "failed"
    return f"{row['mean']:.3f}" + ("" if row["sem"] is None else f" +- {row['sem']:.3f}")
