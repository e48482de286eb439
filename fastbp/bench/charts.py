"""Charts of the report as SVG files, drawn by matplotlib: times of the rivals, and growth."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from fastbp.bench.rows import Row
from fastbp.bench.tables import LAYOUTS, plural
from fastbp.charts import draw_curves
from fastbp.figures import INK, INSTALL, PALETTE, saved

BAR_INCHES, ROW_INCHES, WIDTH_INCHES = 0.09, 0.12, 8.0  # a bar, the space between workloads, the chart
TICKS = (1, 2, 5, 10, 20, 50, 100)


def require_matplotlib() -> None:
    """Say so before anything is measured if it is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(f"charts need matplotlib: {INSTALL}")


def write(sections: Mapping[str, Sequence[Row]], folder: Path) -> None:
    """Write the charts of the sections that have some into the folder."""
    training = [row for row in sections.get("training", []) if row.first.agrees and row.best_rival]
    if training:
        draw_rivals(training, folder / "training.svg")
    for table in ("samples", "parameters"):
        rows = [row for row in sections.get("growth", []) if row.table == table and row.first.agrees]
        if rows:
            draw_growth(rows, folder / f"{table}.svg")


def draw_rivals(rows: Sequence[Row], path: Path) -> None:
    """Bars: how many times as long as fastbp each rival takes, a panel for each number of threads."""
    threads = sorted({row.threads for row in rows})
    rivals = list(dict.fromkeys(name for row in rows for name in list(row.results)[1:]))
    workloads = list(dict.fromkeys(row.name for row in rows))
    height = (len(rivals) * BAR_INCHES + ROW_INCHES) * len(workloads) + 0.6
    thickness = 1 / (len(rivals) + ROW_INCHES / BAR_INCHES)
    with saved(path, WIDTH_INCHES, height) as figure:
        panels = figure.subplots(1, len(threads), sharey=True, squeeze=False)[0]
        for panel, count in zip(panels, threads, strict=True):
            for place, rival in enumerate(rivals):
                timed = [row for row in rows if row.threads == count and row.results[rival].agrees]
                offset = thickness * (place - (len(rivals) - 1) / 2)
                places = [workloads.index(row.name) + offset for row in timed]
                beyond = [min(row.results[rival].values) / min(row.first.values) - 1 for row in timed]
                panel.barh(places, beyond, thickness, left=1, label=rival, color=PALETTE[place])
            panel.set_xscale("log")
            panel.set_xticks(TICKS, map(str, TICKS))
            panel.minorticks_off()
            panel.axvline(1.0, color=INK, linewidth=0.8)
            panel.set_yticks(range(len(workloads)), workloads)
            panel.set_title(f"times as long as fastbp, {plural(count)}", fontsize="medium")
        panels[0].invert_yaxis()
        panels[0].legend(fontsize="small", loc="lower right")


def draw_growth(rows: Sequence[Row], path: Path) -> None:
    """Curves of time by size for each number of threads, and of what the flops alone would take."""
    layout = LAYOUTS[rows[0].table]
    sizes = [int(row.name.replace(",", "")) for row in rows]
    series: dict[str, ArrayLike] = {
        name: np.array([sizes, [layout.scale * min(row.results[name].values) for row in rows]])
        for name in rows[0].results
    }
    least = [layout.scale * row.flops / row.peak for row in rows]
    series[f"flops at the peak of {plural(rows[0].threads)}"] = np.array([sizes, least])
    draw_curves(
        series,
        path,
        title=layout.title,
        x_label=layout.words[0],
        y_label=layout.unit,
        log_x=True,
        log_y=True,
    )
