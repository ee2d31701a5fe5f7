"""Achieved time against sgemm's, block by block of an inner step: the part `steps` of `evaluate.py bench`."""
from figures import bench
from figures.bench import ALONE, measure  # noqa: F401  (parts of an experiment)
from figures.bench import StepSettings as Settings  # noqa: F401
from figures.bench import step_cells as cells  # noqa: F401
from ops.errors import InputError

ACHIEVED, LIMIT, REST = "#56B4E9", "#000000", "#BBBBBB"  # M. Okabe and K. Ito's palette; the limit is a line besides


def numbers(settings, results):
    """{"panels": [...], "result"}: what is drawn, beside all that was measured.

    A panel: "case", "threads", "bars" [{"name", "ms", "limit_ms", "share"}]: the whole inner step with its
    gradient, then the blocks; limit_ms and share None where there is no product.
    """
    result, panels = bench.numbers(settings, results), []
    for row in result["rows"]:
        if row["what"] == "gradient":
            bars = [_bar("whole inner step", row)] + [_bar(block["block"], block) for block in row["blocks"]]
            panels.append({"case": row["case"], "threads": row["threads"], "bars": bars})
    return {"panels": panels, "result": result}


def _bar(name, row):
    limit = row["limit_s"]
    return {"name": name, "ms": 1e3 * row["seconds"], "limit_ms": None if limit is None else 1e3 * limit,
            "share": row["fraction"]}


def draw(numbers):
    """Numbers of `numbers` -> a Matplotlib Figure; needs no display.  A row of panels for each thread count."""
    from matplotlib.figure import Figure
    panels = numbers["panels"]
    if not panels:
        raise InputError("no inner step was measured; add steps to --parts")
    cases, threads = ([*dict.fromkeys(p[key] for p in panels)] for key in ("case", "threads"))
    figure = Figure(figsize=(5.2 * max(len(cases), 1.4), 1.0 + 3.3 * len(threads)), dpi=110, layout="constrained")
    grid = figure.subplots(len(threads), len(cases), squeeze=False)
    for column, case in enumerate(cases):
        own = [p for p in panels if p["case"] == case]
        widest = 1.45 * max(max(bar["ms"], bar["limit_ms"] or 0) for p in own for bar in p["bars"])  # room for text
        for row, count in enumerate(threads):
            _panel(grid[row, column], [p for p in own if p["threads"] == count], widest)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _panel(axes, panels, widest):
    """One case with one thread count; an empty place where it was not measured."""
    if not panels:
        return axes.set_axis_off()
    panel, = panels
    bars, y = panel["bars"], range(len(panel["bars"]))
    has_limit = [bar["limit_ms"] is not None for bar in bars]
    axes.barh(y, [bar["ms"] for bar in bars], height=0.7, color=[ACHIEVED if has else REST for has in has_limit],
              label="achieved, ms per inner step with its gradient")
    limits = [(i, bar["limit_ms"]) for i, bar in enumerate(bars) if bar["limit_ms"] is not None]
    axes.vlines([x for _, x in limits], [i - 0.42 for i, _ in limits], [i + 0.42 for i, _ in limits], color=LIMIT,
                linewidth=2, label="sgemm alone on the same products; its share of the time in %")
    for i, bar in enumerate(bars):
        text = f" {bar['ms']:.3g} ms" + ("" if bar["share"] is None else f", {bar['share']:.0%}")
        axes.text(max(bar["ms"], bar["limit_ms"] or 0), i, text, va="center", fontsize=8.5,
                  fontweight="bold" if i == 0 else None)
    axes.axhline(0.5, color="#999999", linewidth=0.8)
    axes.set_yticks(y, [bar["name"] for bar in bars], fontsize=9)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(0, widest)
    axes.set_xlabel("ms")
    axes.set_title(f"{panel['case']}, {panel['threads']} thread{'s' if panel['threads'] > 1 else ''}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
