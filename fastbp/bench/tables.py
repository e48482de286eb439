"""Rows of the benchmark as tables: aligned text for the terminal, Markdown for a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from fastbp.bench.rows import Result, Row
from fastbp.columns import aligned


@dataclass(frozen=True)
class Layout:
    """How the rows of one table are shown: its title, the unit, what its first two columns are."""

    title: str
    unit: str
    words: tuple[str, str]
    scale: float = 1e6  # units in a second or a byte
    best: str = "best rival"
    counted: bool = True  # whether the title says how many threads
    others: str = "times"  # the columns behind the first: with times of it, as "shares" of it, or "alone"


LAYOUTS = {
    "training": Layout("Training", "microseconds a step", ("workload", "network, loss, optimiser, batch")),
    "batches": Layout(
        "Batches", "microseconds a step; activation, loss and optimiser of mnist", ("batch", "network")
    ),
    "kernels": Layout("Single kernels", "microseconds a call", ("kernel", "shape")),
    "numerical": Layout(
        "Derivatives",
        "microseconds for all, the numerical ones from 100 of them",
        ("parameters", "network"),
    ),
    "calls": Layout("Calls from Python", "microseconds", ("call", "network")),
    "cold": Layout("From nothing", "milliseconds", ("what", "how"), scale=1e3),
    "memory": Layout(
        "Memory of training",
        "megabytes by which the peak of resident memory grows from before the network is built to the end "
        "of training, the data being there and the library having trained a small network before; after the "
        "colon: parameters, gradient, Adam's moments, and inputs and outputs of all layers for one batch",
        ("data", "network, batch: needs"),
        scale=1e-6,
    ),
    "mapped": Layout(
        "Data larger than the memory allowed",
        "nanoseconds a sample; a file of bytes, in the page cache, mapped or read as a whole",
        ("data", "network, batch"),
        scale=1e9,
    ),
    "samples": Layout(
        "Growth with the samples", "nanoseconds a sample", ("samples", "network"), scale=1e9, counted=False
    ),
    "parameters": Layout(
        "Growth with the parameters",
        "microseconds a step of 256 samples, one call",
        ("parameters", "network"),
        counted=False,
    ),
    "levels": Layout(
        "Instruction-set levels",
        "microseconds a step, in float32; of peak: the level's own",
        ("workload", "level"),
    ),
    "precision": Layout("float64 beside float32", "microseconds a step", ("workload", "level")),
    "threads": Layout(
        "threads=None",
        "microseconds a step",
        ("workload", "network, loss, optimiser, batch"),
        best="better of the others",
        counted=False,
    ),
    "crowds": Layout(
        "threads=None with twice as many networks as cores",
        "microseconds a step of any of them",
        ("workload", "networks"),
        best="better of the others",
        counted=False,
    ),
    "phases": Layout(
        "Where a step goes",
        "microseconds a step, and what it takes of that with rows in order, with SGD for Adam, with ReLU for "
        "tanh or sigmoid, and in one call for the forward pass or the gradient alone; lost: of the threads' "
        "time, what goes beyond the time on 1 thread; by the clock at the threads' meetings: the two phases, "
        "and waiting for one another",
        ("workload", "network, loss, optimiser, batch"),
        others="shares",
    ),
    "counters": Layout(
        "Counters of the processor",
        "events a step on 1 thread, the kernel's left out; a multiply-add: instructions for each that the "
        "products need at the least, every lane of every vector in use",
        ("workload", "level"),
        scale=1.0,
        counted=False,
        others="alone",
    ),
    "simulated": Layout(
        "Counters in simulation",
        "events a step on 1 thread; a multiply-add: instructions for each that the products need at the "
        "least, every lane of every vector in use; caches without prefetching",
        ("workload", "level, caches"),
        scale=1.0,
        counted=False,
        others="alone",
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
        sides = "<<" + ">" * (len(self.columns) - 2)
        return "\n".join([f"{self.title} ({self.note})", *aligned(lines, sides)])

    def markdown(self) -> str:
        """A Markdown table under its title."""
        rule = [":--", ":--", *["--:"] * (len(self.columns) - 2)]
        lines = ["| " + " | ".join(line) + " |" for line in [self.columns, rule, *self.cells]]
        return "\n".join([f"**{self.title}** ({self.note})", "", *lines])


def make_table(rows: Sequence[Row]) -> Table:
    """The table of rows that stand together; a column appears where any of them has something for it."""
    layout = LAYOUTS[rows[0].table]
    names = list(dict.fromkeys(name for row in rows for name in row.results))
    rivals = names[1:]
    shares = any(row.flops for row in rows)
    goal, goal_share, goal_times = (
        any(getattr(row, kind) for row in rows) for kind in ("goal", "goal_share", "goal_times")
    )
    goal_times = goal_times and bool(rivals)
    columns = [*layout.words, names[0]]
    columns += ["goal"] * goal + ["of peak"] * shares + ["goal"] * goal_share
    for rival in rivals:
        columns += [rival, "times"] if layout.others == "times" else [rival]
    columns += ([layout.best] if len(rivals) > 1 else []) * goal_times + ["goal"] * goal_times
    cells = []
    for row in rows:
        line = [row.name, row.detail, quantity(row.first, layout.scale)]
        line += [aim(row.goal * layout.scale)] * goal
        line += [share_of_peak(row)] * shares
        line += [percentage(row.goal_share) if row.goal_share else ""] * goal_share
        for rival in rivals:
            result = row.results.get(rival)
            if layout.others == "shares":
                line.append(share(result, row.first))
                continue
            line.append(quantity(result, layout.scale))
            if layout.others == "times":
                line.append(ratio(result, row.first))
        if goal_times:
            line += [ratio(row.best_rival, row.first)] if len(rivals) > 1 else []
            line.append(aim(row.goal_times))
        cells.append(line)
    title = f"{layout.title}, {plural(rows[0].threads)}" if layout.counted else layout.title
    notes = [layout.unit]
    if any(len(result.values) > 1 for row in rows for result in row.results.values()):
        notes.append("minimum / median")
    if rivals and layout.others == "times":
        notes.append(f"times: ratio to {names[0]}, of the minima")
    return Table(title, "; ".join(notes), columns, cells)


def plural(threads: int) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{threads} thread" + ("s" if threads > 1 else "")


def quantity(result: Result | None, scale: float) -> str:
    """Minimum and median in so many units, or the one value; nothing measured for a wrong result."""
    if result is None:
        return ""
    if result.failure:
        return "failed"
    if not result.agrees:
        return f"differs by {result.error:.0e}"
    values = [scale * min(result.values)]
    if len(result.values) > 1:
        values.append(scale * median(result.values))
    return " / ".join(map(significant, values))


def ratio(rival: Result | None, own: Result) -> str:
    """How many times as long the rival takes, or as much."""
    if rival is None or not (rival.agrees and own.agrees) or min(own.values) <= 0:
        return ""
    return significant(min(rival.values) / min(own.values))


def share(part: Result | None, whole: Result) -> str:
    """A part as a percentage of the whole."""
    if part is None or not (part.agrees and whole.agrees):
        return ""
    return percentage(min(part.values) / min(whole.values))


def share_of_peak(row: Row) -> str:
    """Rate of the products' operations, as a share of the fused-multiply-add loop's."""
    if not (row.first.agrees and row.flops):
        return ""
    return percentage(row.flops / min(row.first.values) / row.peak)


def percentage(value: float) -> str:
    """``48 %``."""
    return f"{100 * value:.0f} %"


def aim(value: float) -> str:
    """A goal; nothing for none."""
    return f"{value:,.4g}" if value else ""


def significant(value: float) -> str:
    """A number with three significant digits, but whole from there on: 0.531, 5.31, 1,392."""
    if value <= 0:
        return f"{value:.0f}"
    exponent = math.floor(math.log10(float(f"{value:.2e}")))  # 9.996 is 10.0
    return f"{value:,.{max(0, 2 - exponent)}f}"
