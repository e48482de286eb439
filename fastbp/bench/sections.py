"""The sections of the report: what measures each, and in which processes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from fastbp import _native
from fastbp.bench import (
    batches,
    calls,
    cold,
    counters,
    growth,
    kernels,
    levels,
    memory,
    numerical,
    phases,
    threads,
    training,
)
from fastbp.bench.rows import Row, Task

Place = tuple[int, str | None]  # number of threads, instruction-set level or None for the highest


@dataclass(frozen=True)
class Section:
    """One section: its rows, and the measuring processes that they come from."""

    measure: Callable[[Task], Iterator[Row]]
    places: Callable[[Sequence[int]], list[Place]]


def each_number(numbers: Sequence[int]) -> list[Place]:
    """A process for each number of threads asked for."""
    return [(number, None) for number in numbers]


def one_thread(numbers: Sequence[int]) -> list[Place]:
    """One process with one thread, whatever was asked for."""
    return [(1, None)]


def most_threads(numbers: Sequence[int]) -> list[Place]:
    """One process with the largest number of threads asked for."""
    return [(max(numbers), None)]


def each_level(numbers: Sequence[int]) -> list[Place]:
    """A process with one thread for each level of this processor."""
    levels = importlib.import_module("fastbp._cpu").levels()
    return [(1, level) for level in _native.LEVELS if level in levels]


SECTIONS: dict[str, Section] = {
    "training": Section(training.measure, each_number),
    "batches": Section(batches.measure, each_number),
    "kernels": Section(kernels.measure, each_number),
    "numerical": Section(numerical.measure, each_number),
    "calls": Section(calls.measure, one_thread),
    "cold": Section(cold.measure, most_threads),
    "memory": Section(memory.measure, most_threads),
    "growth": Section(growth.measure, most_threads),
    "levels": Section(levels.measure, each_level),
    "threads": Section(threads.measure, most_threads),
    "phases": Section(phases.measure, each_number),
    "counters": Section(counters.measure, most_threads),
}


def tasks(names: Sequence[str], numbers: Sequence[int], task: Task) -> Iterator[Task]:
    """What the measuring processes are to do, in the order of the report; ``task`` holds the rest."""
    for name in names:
        for number, level in SECTIONS[name].places(numbers):
            yield replace(task, section=name, threads=number, level=level)
