"""Section of the report: from nothing, imports, a whole short program, the first step of a network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from fastbp.bench.processes import libraries, run_program
from fastbp.bench.rows import Result, Row, Task
from fastbp.bench.timing import Job, fill, seconds_of
from fastbp.datasets import load_digits

SIZES, BATCH_SIZE, EPOCHS = "64-128-10", 64, 30
IMPORT_GOAL, PROGRAM_GOAL = 0.030, 0.5  # seconds
MISTAKES = 0.02  # allowed on the training rows, where they are left to chance nine in ten are


def measure(task: Task) -> Iterator[Row]:
    """Every library's import, then its program from start to end, then its first step and its thousandth."""
    keys = libraries(task.rivals)
    imports: dict[str, Job] = {name: partial(import_seconds, key) for name, key in keys.items()}
    results = {name: Result(0.0, True) for name in keys}
    row = Row("cold", "import", "beyond NumPy's", task.threads, results, goal=IMPORT_GOAL)
    yield fill(row, imports, task.effort)
    with tempfile.TemporaryDirectory() as folder:
        x, y = load_digits()
        np.savez(path := Path(folder) / "digits.npz", x=x, y=y)
        source = f"arrays:{path}"
        programs: dict[str, Job] = {}
        results = {}
        for name, key in keys.items():
            arguments = "train", key, source, SIZES, EPOCHS, BATCH_SIZE, 0
            results[name] = classified(run_program(*arguments)[0])
            programs[name] = partial(seconds_of, partial(run_program, *arguments))
        detail = f"start, {EPOCHS} epochs of {SIZES}, end"
        row = Row("cold", "program", detail, task.threads, results, goal=PROGRAM_GOAL)
        yield fill(row, programs, task.effort)
        yield from measure_steps(task, keys, source)


def measure_steps(task: Task, keys: dict[str, str], source: str) -> Iterator[Row]:
    """The first step of a network and its thousandth, each the first in its process."""
    first, later = (
        Row("cold", f"{name} step", f"{SIZES}, fit on a batch of {BATCH_SIZE}", task.threads, {})
        for name in ("first", "thousandth")
    )
    for name, key in keys.items():
        repeats = 1 if task.effort.quick else 3
        runs = [run_program("first", key, source, SIZES, BATCH_SIZE) for _ in range(repeats)]
        for row, column in ((first, 1), (later, 2)):
            row.results[name] = classified(max(run[0] for run in runs))
            row.results[name].values = [run[column] for run in runs]
    first.goal = min(later.first.values)
    yield first
    yield later


def import_seconds(key: str) -> float:
    """Seconds of an import in a new process that has NumPy."""
    return run_program("import", key)[0]


def classified(mistakes: float) -> Result:
    """A result with so large a share of mistakes on the rows that were learnt."""
    return Result(mistakes, mistakes <= MISTAKES)
