"""Section of the report: from nothing, imports, a whole short program, the first step of a network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
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
    yield measure_import(task, keys)
    with tempfile.TemporaryDirectory() as folder:
        x, y = load_digits()
        np.savez(path := Path(folder) / "digits.npz", x=x, y=y)
        source = f"arrays:{path}"
        yield measure_whole(task, keys, source)
        yield from measure_steps(task, keys, source)


def measure_import(task: Task, keys: dict[str, str]) -> Row:
    """Imports in new processes that have NumPy."""
    row = Row("cold", "import", "beyond NumPy's", task.threads, {}, goal=IMPORT_GOAL)
    jobs: dict[str, Job] = {name: partial(import_seconds, key) for name, key in keys.items()}

    def judge(name: str) -> Result:
        jobs[name]()
        return Result(0.0, True)

    row.attempt(keys, judge)
    return fill(row, jobs, task.effort)


def measure_whole(task: Task, keys: dict[str, str], source: str) -> Row:
    """Whole programs that learn the digits."""
    detail = f"start, {EPOCHS} epochs of {SIZES}, end"
    row = Row("cold", "program", detail, task.threads, {}, goal=PROGRAM_GOAL)
    programs = {
        name: partial(run_program, "train", key, source, SIZES, EPOCHS, BATCH_SIZE, 0)
        for name, key in keys.items()
    }
    row.attempt(keys, lambda name: classified(programs[name]()[0]))
    return fill(row, {name: partial(seconds_of, run) for name, run in programs.items()}, task.effort)


def measure_steps(task: Task, keys: dict[str, str], source: str) -> Iterator[Row]:
    """The first step of a network and its thousandth, each the first in its process."""
    first, later = (
        Row("cold", f"{name} step", f"{SIZES}, fit on a batch of {BATCH_SIZE}", task.threads, {})
        for name in ("first", "thousandth")
    )

    def judge(name: str) -> Result:
        repeats = 1 if task.effort.quick else 3
        runs = [run_program("first", keys[name], source, SIZES, BATCH_SIZE) for _ in range(repeats)]
        mistakes, firsts, thousandths = zip(*runs, strict=True)
        result = classified(max(mistakes))
        later.results[name] = replace(result, values=list(thousandths))
        return replace(result, values=list(firsts))

    first.attempt(keys, judge)
    first.goal = min(later.first.values)
    yield first
    yield later


def import_seconds(key: str) -> float:
    """Seconds of an import in a new process that has NumPy."""
    return run_program("import", key)[0]


def classified(mistakes: float) -> Result:
    """A result with so large a share of mistakes on the rows that were learnt."""
    return Result(mistakes, mistakes <= MISTAKES)
