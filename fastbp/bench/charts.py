"""Charts of the report as SVG files, drawn by matplotlib: times of the rivals, and growth."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastbp.bench.rows import Row
from fastbp.bench.tables import plural

BAR_HEIGHT, ROW_INCHES, WIDTH_INCHES = 0.8, 0.33, 8.0


def require_matplotlib() -> None:
    """Say so before anything is measured if it is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("charts need matplotlib: python -m pip install matplotlib")


def write(sections: Mapping[str, Sequence[Row]], folder: Path) -> list[Path]:
    """Write a chart for each section that has one into the folder, made if need be; gives their paths."""
    import matplotlib
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    draw: Callable[[Figure, Sequence[Row]], None]
    for name, draw in (("training", draw_training), ("growth", draw_growth)):
        rows = [row for row in sections.get(name, []) if row.first.agrees]
        if not rows or len(rows[0].results) < 2:
            continue
        # Text as text and nothing random: a small file, which changes only where the numbers do.
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastbp"}):
            figure = Figure(layout="constrained")
            draw(figure, rows)
            written.append(folder / f"{name}.svg")
            figure.savefig(written[-1], metadata={"Date": None, "Creator": None})
    return written


def draw_training(figure: Any, rows: Sequence[Row]) -> None:
    """Bars: how many times as long as fastbp each rival takes, a panel for each number of threads."""
    threads = sorted({row.threads for row in rows})
    rivals = list(dict.fromkeys(name for row in rows for name in list(row.results)[1:]))
    panels = figure.subplots(1, len(threads), sharey=True, squeeze=False)[0]
    height = BAR_HEIGHT / len(rivals)
    for panel, count in zip(panels, threads, strict=True):
        shown = [row for row in rows if row.threads == count]
        for place, rival in enumerate(rivals):
            bars = [(i, row.results[rival]) for i, row in enumerate(shown) if row.results[rival].agrees]
            panel.barh(
                [i + height * (place - (len(rivals) - 1) / 2) for i, _ in bars],
                [min(result.values) / min(shown[i].first.values) for i, result in bars],
                height,
                label=rival,
            )
        panel.set_xscale("log")
        panel.axvline(1.0, color="black", linewidth=0.8)
        panel.set_yticks(range(len(shown)), [row.name for row in shown])
        panel.set_title(f"times fastbp's step, {plural(count)}", fontsize="medium")
        panel.xaxis.set_major_formatter("{x:g}")
    panels[0].invert_yaxis()
    panels[-1].legend(fontsize="small", frameon=False, loc="lower right")
    figure.set_size_inches(WIDTH_INCHES, ROW_INCHES * len(rows) / len(threads) * max(1, len(rivals) / 2) + 1)


def draw_growth(figure: Any, rows: Sequence[Row]) -> None:
    """Curves: time a sample by the samples, and time a step by the parameters with that of its flops."""
    panels = figure.subplots(1, 2)
    titles = {"samples": ("nanoseconds a sample", 1e9), "parameters": ("microseconds a step", 1e6)}
    for panel, (table, (title, scale)) in zip(panels, titles.items(), strict=True):
        shown = [row for row in rows if row.table == table]
        places = [int(row.name.replace(",", "")) for row in shown]
        for name in rows[0].results:
            panel.plot(places, [scale * min(row.results[name].values) for row in shown], "o-", label=name)
        at_peak = [scale * row.flops / row.peak for row in shown]
        panel.plot(
            places, at_peak, "--", color="grey", label=f"flops at the peak of {plural(rows[0].threads)}"
        )
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel(table)
        panel.set_title(title, fontsize="medium")
    panels[0].set_ylim(bottom=1)
    panels[1].legend(fontsize="small", frameon=False)
    figure.set_size_inches(WIDTH_INCHES, 3.5)
