"""A problem for every contender: the start, the first epoch held against the reference, a step timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastbp.bench.baseline import Baseline
from fastbp.bench.rivals import RIVALS, Contender, Fastbp, Trained
from fastbp.bench.rows import OWN, Effort, Result, Row, Task
from fastbp.bench.timing import TURN_SECONDS, Job, fill, repetitions, seconds_of
from fastbp.bench.workloads import WORKLOADS, Problem, Workload, make_problem

COMPARED_ROWS = 512
# Difference of the outputs from the reference's, relative to how far training moved them.  Rounding gives
# 1e-7 to 1e-4 over the workloads, a sample that falls on the other side of a kink of ReLU up to 3e-3;
# another order of the rows gives 1e-2 to 1.
TOLERANCE = 5e-3
SEED = 3  # a start from which kinks move no workload and no batch size by more than 1e-3

QUICK_WORKLOADS = 3
QUICK_ROWS = 64  # in which all ten classes come up

Make = Callable[[Problem, int], Contender]


def problems(
    task: Task, names: Sequence[str] | None = None, epoch_flops: float = math.inf
) -> Iterator[Problem]:
    """Workloads with their data: those named, or those asked for, of which the first few do when quick.

    Epochs are cut short when quick, and where they would have more flops than that.
    """
    if names is None:
        names = task.workloads[: QUICK_WORKLOADS if task.effort.quick else None]
    for name in names:
        yield short_problem(WORKLOADS[name], task.effort, epoch_flops)


def short_problem(workload: Workload, effort: Effort, epoch_flops: float) -> Problem:
    """A workload with its data, the epoch cut as `problems` says."""
    most = max(3, QUICK_ROWS // workload.batch_size) if effort.quick else epoch_flops / workload.step_flops
    most = max(2, most)
    return make_problem(replace(workload, steps=int(min(workload.steps, most))), SEED)


def new_row(table: str, problem: Problem, threads: int) -> Row:
    """A row about training a problem, still without results."""
    workload = problem.workload
    return Row(table, workload.name, workload.description, threads, {}, workload.step_flops)


def measure_problem(
    row: Row, problem: Problem, makers: Mapping[str, Make], effort: Effort, peak: Job | None = None
) -> Row:
    """Check the first epoch of everyone against the reference, then time a step of those that agree."""
    compare = comparison(problem)
    jobs: dict[str, Job] = {}

    def judge(name: str) -> Result:
        contender = makers[name](problem, row.threads)
        contender.train(1)
        result = judged(compare(contender.parameters()))
        if result.agrees:
            jobs[name] = training_job(contender, problem.workload.steps)
        return result

    row.attempt(makers, judge)
    return fill(row, jobs, effort, peak)


def contenders(rivals: Sequence[str]) -> dict[str, Make]:
    """The project, then the rivals asked for."""
    return {OWN: Fastbp, **{RIVALS[key].name: RIVALS[key].make for key in rivals}}


def training_job(contender: Trained, steps: int, seconds: float = TURN_SECONDS) -> Job:
    """A job that trains from the starting point for about so long and gives the seconds of one step."""
    contender.restart()
    epochs = repetitions(contender.train, seconds)

    def job() -> float:
        contender.restart()
        return seconds_of(lambda: contender.train(epochs)) / (epochs * steps)

    return job


def judged(error: float) -> Result:
    """A result so far from the reference, relative to how far training moved it."""
    return Result(error, error <= TOLERANCE)


def comparison(problem: Problem) -> Callable[[NDArray[np.float32]], float]:
    """A function from parameters after one epoch to how far they are, by the outputs, from the reference."""
    reference = Baseline(problem, np.float64)
    rows = min(COMPARED_ROWS, len(problem.x))

    def outputs(parameters: NDArray[np.float32]) -> NDArray[np.float64]:
        reference.flat[:] = parameters
        return reference.predict(problem.x[:rows])

    before = outputs(problem.parameters)
    reference.restart()
    reference.train(1)
    after = reference.predict(problem.x[:rows])
    moved = float(np.linalg.norm(after - before))
    return lambda parameters: float(np.linalg.norm(outputs(parameters) - after)) / moved
