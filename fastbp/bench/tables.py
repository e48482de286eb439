"""Rows of the benchmark as tables: aligned text for the terminal, Markdown for a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from fastbp.bench.timing import Result, Row

# section -> (title, what its times are of, its first two columns)
SECTIONS = {
    "training": ("Training", "microseconds a step", "workload", "network, loss, optimiser, batch"),
    "kernels": ("Single kernels", "microseconds a call", "kernel", "shape"),
    "numerical": (
        "Derivatives",
        "microseconds for all, the numerical ones from 100 of them",
        "parameters",
        "network",
    ),
}


@dataclass(frozen=True)
class Table:
    """A title, a line that explains it, column names and cells; the first two columns are words."""

    title: str
    note: str
    columns: list[str]
    cells: list[list[str]]

    def text(self) -> str:
        """Columns aligned by spaces."""
        lines = [self.columns, *self.cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
        return "\n".join([f"{self.title} ({self.note})", *aligned])

    def markdown(self) -> str:
        """A Markdown table under its title."""
        rule = [":--", ":--", *["--:"] * (len(self.columns) - 2)]
        lines = ["| " + " | ".join(line) + " |" for line in [self.columns, rule, *self.cells]]
        return "\n".join([f"**{self.title}** ({self.note})", "", *lines])


def make_table(rows: Sequence[Row], peak: float) -> Table:
    """The table of one section on one number of threads; peak is the machine's, in flops a second."""
    title, unit, *words = SECTIONS[rows[0].section]
    project, *rivals = rows[0].results
    counted = any(row.flops for row in rows)
    aimed = any(row.goal_share for row in rows)
    columns = [*words, project, *(["of peak"] if counted else []), *(["goal"] if aimed else [])]
    for rival in rivals:
        columns += [rival, "times"]
    columns += ["best rival", "goal"] if aimed and rivals else []
    cells = []
    for row in rows:
        own = row.results[project]
        line = [row.name, row.detail, duration(own)]
        if counted:
            line.append(share_of_peak(row.flops, own, peak))
        if aimed:
            line.append(f"{100 * row.goal_share:.0f} %")
        for rival in rivals:
            line += [duration(row.results[rival]), ratio(row.results[rival], own)]
        if aimed and rivals:
            timed = [row.results[rival] for rival in rivals if row.results[rival].agrees]
            best = min(timed, key=lambda result: min(result.seconds), default=own)
            line += [ratio(best, own), significant(row.goal_times, 3)]
        cells.append(line)
    note = f"{unit}: minimum / median; times: ratio of the minima"
    return Table(f"{title}, {plural(rows[0].threads)}", note, columns, cells)


def plural(threads: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{threads} thread" + ("s" if threads > 1 else "")


def duration(result: Result) -> str:
    """Minimum and median in microseconds; no time for a wrong result."""
    if not result.agrees:
        return f"differs by {result.error:.0e}"
    return f"{significant(1e6 * min(result.seconds))} / {significant(1e6 * median(result.seconds))}"


def ratio(rival: Result, own: Result) -> str:
    """How many times longer the rival takes."""
    if not (rival.agrees and own.agrees):
        return ""
    return significant(min(rival.seconds) / min(own.seconds), 2)


def share_of_peak(flops: int, own: Result, peak: float) -> str:
    """Rate of the products' operations, as a share of the fused-multiply-add loop's."""
    if not (own.agrees and flops):
        return ""
    return f"{100 * flops / min(own.seconds) / peak:.0f} %"


def significant(value: float, digits: int = 3) -> str:
    """A positive number with so many significant digits, but whole from there on: 0.531, 5.31, 1,392."""
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(value)))}f}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = list(zip(line, widths, strict=True))
    return [cell.ljust(width) for cell, width in pairs[:2]] + [cell.rjust(width) for cell, width in pairs[2:]]
