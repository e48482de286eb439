"""How the clock is read: cores, environment, warm-up, turns, and what a result has to be to get a time."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

REST_SECONDS = 0.03  # before every turn: the threads of the one before spin that long, waiting for more work


@dataclass
class Result:
    """One contender in one row: how far its result is from the reference, and seconds if that is near."""

    error: float
    agrees: bool
    seconds: list[float] = field(default_factory=list)


@dataclass
class Row:
    """One line of the report; the first of the results is the project's."""

    section: str
    name: str
    detail: str
    threads: int
    results: dict[str, Result]
    flops: int = 0
    peak: float = 0.0
    goal_share: float = 0.0  # of the peak, 0 where there is no goal
    goal_times: float = 0.0


@dataclass(frozen=True)
class Effort:
    """How long to measure: turns, and seconds a turn; ``quick`` makes the problems small as well."""

    repeats: int = 7
    seconds: float = 0.2
    quick: bool = False


@contextmanager
def process_environment(threads: int) -> Iterator[dict[str, str]]:
    """The environment of a process that is to compute with so many threads, cores included.

    NumPy's matrix product reads a variable when it is loaded, JAX counts the cores that it may use; a process
    started within the context inherits both.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "JAX_PLATFORMS": "cpu"}
    if not hasattr(os, "sched_setaffinity"):  # Linux alone lets a process choose its cores
        yield environment
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[-threads:])  # the first core serves most interrupts
    try:
        yield environment
    finally:
        os.sched_setaffinity(0, cores)


def seconds_of(run: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def repetitions(run: Callable[[int], object], seconds: float) -> int:
    """How many repetitions, the argument of ``run``, take about so many seconds."""
    count = 1
    while True:
        start = time.perf_counter()
        run(count)
        duration = time.perf_counter() - start
        if duration > seconds / 2:
            return max(1, round(count * seconds / duration))
        count = max(2 * count, math.floor(0.7 * count * seconds / max(duration, 1e-7)))


def repeated(run: Callable[[], object]) -> Callable[[int], None]:
    """A function that calls ``run`` as often as its argument says."""

    def loop(count: int) -> None:
        for _ in range(count):
            run()

    return loop


def take_turns(jobs: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Call every job once a round, project, rival, project, rival ..., and keep the seconds each returns.

    Whatever else the machine does in the meantime then falls on all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(repeats):
            for name, job in jobs.items():
                time.sleep(REST_SECONDS)
                seconds[name].append(job())
    finally:
        if collecting:
            gc.enable()
    return seconds


def peak_job(native: Any, threads: int, seconds: float) -> Callable[[], float]:
    """A job that returns the seconds of one floating-point operation at the machine's peak, in float32.

    As long as a turn of the others: the clock of a core that has just rested runs faster than it can keep up.
    """
    out = np.zeros(64 * threads, dtype=np.float32)
    rounds = repetitions(lambda count: native.multiply_add(count, out, 1), seconds)  # on each thread

    def job() -> float:
        start = time.perf_counter()
        flops = native.multiply_add(rounds, out, threads)
        return (time.perf_counter() - start) / float(flops)

    return job


def fill(row: Row, jobs: dict[str, Callable[[], float]], peak: Callable[[], float], repeats: int) -> Row:
    """Time the contenders whose results agree, with the machine's peak among them."""
    agreeing = {name: job for name, job in jobs.items() if row.results[name].agrees}
    seconds = take_turns({**agreeing, "peak": peak}, repeats)
    row.peak = 1 / min(seconds.pop("peak"))
    for name, values in seconds.items():
        row.results[name].seconds = values
    return row
