"""Section of the report: training, every workload by every contender."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastbp.bench.baseline import Baseline
from fastbp.bench.rivals import RIVALS, Contender, Fastbp
from fastbp.bench.timing import Effort, Result, Row, fill, repetitions, seconds_of
from fastbp.bench.workloads import GOALS, WORKLOADS, Problem, make_problem

COMPARED_ROWS = 512
# Difference of the outputs from the reference's, relative to how far training moved them.  Rounding gives
# 1e-7 to 1e-4 over the workloads, a sample that falls on the other side of a kink of ReLU up to 3e-3;
# another order of the rows gives 1e-2 to 1.
TOLERANCE = 5e-3
SEED = 1  # a start from which no workload comes near a kink in its first epoch: rounding alone remains


def measure(
    workloads: Sequence[str], rivals: Sequence[str], threads: int, effort: Effort, peak: Callable[[], float]
) -> Iterator[Row]:
    """One row for each workload."""
    for name in workloads:
        workload = WORKLOADS[name]
        if effort.quick:
            workload = replace(workload, steps=min(workload.steps, 3))
        yield measure_problem(make_problem(workload, SEED), rivals, threads, effort, peak)


def measure_problem(
    problem: Problem, rivals: Sequence[str], threads: int, effort: Effort, peak: Callable[[], float]
) -> Row:
    """Check the first epoch of everyone against the reference, then time those that agree."""
    workload = problem.workload
    compare = comparison(problem)
    row = Row("training", workload.name, workload.description, threads, {}, workload.step_flops)
    row.goal_share, row.goal_times = GOALS.get(workload.name, {}).get(threads, (0.0, 0.0))
    jobs = {}
    for name, make in contenders(rivals).items():
        contender = make(problem, threads)
        contender.train(1)
        error = compare(contender.parameters())
        row.results[name] = Result(error, error <= TOLERANCE)
        if row.results[name].agrees:
            jobs[name] = training_job(contender, workload.steps, effort.seconds)
    return fill(row, jobs, peak, effort.repeats)


def contenders(rivals: Sequence[str]) -> dict[str, Callable[[Problem, int], Contender]]:
    """The project, then the rivals asked for."""
    return {"fastbp": Fastbp, **{RIVALS[key].name: RIVALS[key].make for key in rivals}}


def training_job(contender: Contender, steps: int, seconds: float) -> Callable[[], float]:
    """A job that trains from the starting point for about so many seconds and returns those of one step."""
    epochs = repetitions(contender.train, seconds)

    def job() -> float:
        contender.restart()
        return seconds_of(lambda: contender.train(epochs)) / (epochs * steps)

    return job


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
