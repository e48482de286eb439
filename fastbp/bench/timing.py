"""How the clock is read: cores, environment, warm-up, and turns short enough to fall on all alike."""

from __future__ import annotations

import gc
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastbp import _native
from fastbp.bench.rows import Effort, Row

PROCESSORS = Path("/sys/devices/system/cpu")  # of Linux
TURN_SECONDS = 0.03
LEAST_ROUNDS = 3  # of jobs that take longer than a turn
# Threads that have worked spin for more work, OpenBLAS's for over 0.1 s: wait until this process takes less
# than a quarter of a core, at most so long.  A look spans two ticks of the system's clock: what a thread has
# taken is counted at these alone.
LOOK_SECONDS, REST_SECONDS = 0.02, 0.3
LED_IN_SECONDS = 0.2  # a job that takes longer needs no other before it

Job = Callable[[], float]


@contextmanager
def process_environment(threads: int, level: str | None = None) -> Iterator[dict[str, str]]:
    """The environment of a process that is to compute with so many threads, cores included.

    NumPy's matrix product reads a variable when it is loaded, JAX counts the cores that it may use; a process
    started within the context inherits both.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "JAX_PLATFORMS": "cpu"}
    environment.pop("FASTBP_NUM_THREADS", None)
    if level is not None:
        environment["FASTBP_ISA"] = level
    if not hasattr(os, "sched_setaffinity"):  # Linux alone lets a process choose its cores
        yield environment
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen_cores(threads, cores))
    try:
        yield environment
    finally:
        os.sched_setaffinity(0, cores)


def chosen_cores(count: int, cores: Iterable[int], folder: Path = PROCESSORS) -> list[int]:
    """So many of these cores: no two threads of one where it can be helped, then fast ones, then late ones.

    Number 0 serves most interrupts.  Cores of which the system tells nothing are alike.
    """
    threads_before: Counter[str] = Counter()

    def rank(core: int) -> tuple[int, int, int]:
        place = folder / f"cpu{core}"
        whole = text_of(place / "topology" / "thread_siblings_list", default=str(core))
        threads_before[whole] += 1
        frequency = int(text_of(place / "cpufreq" / "cpuinfo_max_freq", default="0"))
        return threads_before[whole], -frequency, -core

    return sorted(sorted(cores, reverse=True), key=rank)[:count]


def text_of(path: Path, default: str) -> str:
    """What stands in a file, where there is one."""
    try:
        return path.read_text().strip()
    except OSError:
        return default


def seconds_of(run: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def repetitions(run: Callable[[int], object], seconds: float = TURN_SECONDS) -> int:
    """How many repetitions, the argument of ``run``, take about so many seconds, begun at rest."""
    rest()
    count = 1
    while True:
        duration = seconds_of(partial(run, count))
        if duration > seconds / 2:
            return max(1, round(count * seconds / duration))
        count = max(2 * count, math.floor(0.7 * count * seconds / max(duration, 1e-7)))


def call_job(run: Callable[[], object], units: int = 1) -> Job:
    """A job that calls ``run`` for about a turn and gives the seconds of a unit; a call has so many."""

    def loop(count: int) -> None:
        for _ in range(count):
            run()

    calls = repetitions(loop)
    return lambda: seconds_of(lambda: loop(calls)) / (calls * units)


def peak_job(threads: int, dtype: str = "float32") -> Job:
    """A job that gives the seconds of one floating-point operation at the machine's peak.

    It lasts as long as a turn of the others: the clock of a core that has just rested runs faster than it can
    keep up.
    """
    native: Any = _native.kernels(np.dtype(dtype))
    out = np.zeros(64 * threads, dtype=dtype)
    rounds = repetitions(lambda count: native.multiply_add(count, out, 1))  # on each thread

    def job() -> float:
        start = time.perf_counter()
        flops = native.multiply_add(rounds, out, threads)
        return (time.perf_counter() - start) / float(flops)

    return job


def rest() -> None:
    """Wait until no thread of this process spins."""
    end = time.perf_counter() + REST_SECONDS
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(LOOK_SECONDS)
        if time.process_time() - before < LOOK_SECONDS / 4:
            return


def take_turns(jobs: Mapping[str, Job], effort: Effort, threads: int = 1) -> dict[str, list[float]]:
    """Call the jobs in turn, every other round backwards, and keep what each returns.

    Whatever else the machine does in the meantime falls on all of them alike, and over two rounds each
    follows the one before it and the one behind it.  Several threads begin a turn at rest, and a short one
    with another that is not timed: they may find themselves on one core at first.  Rounds go on until every
    job has had its seconds on average, rests not counted.
    """
    values: dict[str, list[float]] = {name: [] for name in jobs}
    lasted = dict.fromkeys(jobs, 0.0)
    order, rounds, left = list(jobs), 0, len(jobs) * effort.seconds
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        while rounds < (2 if effort.quick else LEAST_ROUNDS) or left > 0:
            for name in order:
                if threads > 1:
                    rest()
                begun = time.perf_counter()
                if threads > 1 and lasted[name] < LED_IN_SECONDS:
                    jobs[name]()
                start = time.perf_counter()
                values[name].append(jobs[name]())
                end = time.perf_counter()
                lasted[name] = end - start
                left -= end - begun
            order.reverse()
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return values


def fill(row: Row, jobs: Mapping[str, Job], effort: Effort, peak: Job | None = None) -> Row:
    """Measure the contenders whose results agree, and if asked for the machine's peak among them."""
    timed = {name: job for name, job in jobs.items() if row.results[name].agrees}
    if peak is not None and timed:
        timed["peak"] = peak
    values = take_turns(timed, effort, row.threads)
    if "peak" in values:
        row.peak = 1 / min(values.pop("peak"))
    for name, measured in values.items():
        row.results[name].values = measured
    return row
