"""Section of the report: what one call from Python costs, prediction and online learning."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.bench.baseline import Baseline
from fastbp.bench.judging import SEED, Make, comparison, contenders, judged, measure_problem
from fastbp.bench.rivals import Contender
from fastbp.bench.rows import Result, Row, Task
from fastbp.bench.timing import Job, call_job, fill
from fastbp.bench.workloads import Problem, Workload, make_problem

SERVED = Workload("predict", (64, 128, 10), "relu", "cross_entropy", "adam", 1e-3, 64, 16)
ONLINE = Workload("online", (40, 100, 100, 10), "relu", "cross_entropy", "sgd", 1e-2, 1, 256)
PREDICTION_GOALS = {1: 2.5e-6, 32: 8e-6, 1024: 200e-6}  # rows -> seconds
UPDATE_GOAL, FIT_GOAL = 5e-6, 3e-6
PREDICTION_TOLERANCE = 1e-5  # of probabilities: float32 rounds to 6e-8, over sums of 128 terms

Batch = tuple[NDArray[np.float32], NDArray[Any]]


def measure(task: Task) -> Iterator[Row]:
    """Predictions of a few rows, a step online, and a step within a fit that takes the rows one by one."""
    makers = contenders(task.rivals)
    served, online = make_problem(SERVED, SEED), make_problem(ONLINE, SEED)
    for rows, goal in PREDICTION_GOALS.items():
        yield measure_prediction(task, served, makers, rows, goal)
    yield measure_update(task, online, makers)
    row = call_row("fit(batch_size=1), a step", online, task, FIT_GOAL)
    yield measure_problem(row, online, makers, task.effort)


def call_row(name: str, problem: Problem, task: Task, goal: float) -> Row:
    """A row about calls on a network, still without results."""
    workload = problem.workload
    detail = workload.network if name.startswith("predict") else f"{workload.network}, SGD"
    return Row("calls", name, detail, task.threads, {}, goal=goal)


def measure_prediction(task: Task, problem: Problem, makers: dict[str, Make], rows: int, goal: float) -> Row:
    """One call of predict."""
    row = call_row(f"predict({rows:,} row{'s' if rows > 1 else ''})", problem, task, goal)
    x = problem.x[:rows]
    exact = Baseline(problem, np.float64).predict(x.astype(np.float64))
    jobs: dict[str, Job] = {}

    def judge(name: str) -> Result:
        contender = makers[name](problem, task.threads)
        error = float(np.abs(contender.predict(x) - exact).max())
        jobs[name] = call_job(partial(contender.predict, x))
        return Result(error, error <= PREDICTION_TOLERANCE)

    row.attempt(makers, judge)
    return fill(row, jobs, task.effort)


def measure_update(task: Task, problem: Problem, makers: dict[str, Make]) -> Row:
    """One call of partial_fit on one row."""
    row = call_row("partial_fit(1 row)", problem, task, UPDATE_GOAL)
    compare = comparison(problem)
    pairs = single_rows(problem)
    jobs: dict[str, Job] = {}

    def judge(name: str) -> Result:
        contender = makers[name](problem, task.threads)
        for x, y in pairs:
            contender.update(x, y)
        result = judged(compare(contender.parameters()))
        jobs[name] = call_job(partial(update_on_next, contender, cycle(pairs)))
        return result

    row.attempt(makers, judge)
    return fill(row, jobs, task.effort)


def single_rows(problem: Problem) -> list[Batch]:
    """Every row with its target as a batch, in the order of the first epoch."""
    return [(problem.x[i : i + 1], problem.y[i : i + 1]) for i in problem.orders[0]]


def update_on_next(contender: Contender, batches: Iterator[Batch]) -> None:
    """One update."""
    contender.update(*next(batches))
