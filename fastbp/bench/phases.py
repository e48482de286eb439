"""Section of the report: where a step's time goes, by the core's clock and by what it takes without a part.

The clock is read at the threads' meetings, and tells the phases between them and the waiting there.  What
happens within a phase has no clock, it would cost what it counts: each variant leaves out one thing, or does
one thing alone, and the difference from the whole step is that thing's price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _native
from fastbp.bench.baseline import Baseline
from fastbp.bench.judging import comparison, judged, new_row, problems, training_job
from fastbp.bench.rivals import Fastbp
from fastbp.bench.rows import Row, Task
from fastbp.bench.timing import Job, call_job, fill, peak_job
from fastbp.bench.workloads import Problem

ALONE, TIMED = "1 thread", "timed"
# What of the core's clock a column shows; between calls it stands still.
LAPS = {
    "phase 1": ("first phase",),
    "phase 2": ("second phase",),
    "waiting": ("first meeting", "second meeting"),
}


def measure(task: Task) -> Iterator[Row]:
    """One row for each workload: the step, and what its variants take."""
    peak = peak_job(task.threads)
    for problem in problems(task):
        row = new_row("phases", problem, task.threads)
        timed = TimedPhases(problem, task.threads)
        jobs: dict[str, Job] = {}
        for name, (variant, threads) in variants(problem, task.threads).items():
            contender = Fastbp(variant, threads)
            contender.train(1)
            row.results[name] = judged(comparison(variant)(contender.parameters()))
            jobs[name] = training_job(contender, problem.workload.steps)
        add_parts(row, jobs, problem)
        row.results[TIMED], jobs[TIMED] = timed.result, timed.job
        yield with_laps(with_loss(fill(row, jobs, task.effort.light, peak)), timed)


def variants(problem: Problem, threads: int) -> dict[str, tuple[Problem, int]]:
    """The problem itself, on one thread, and with what is dear replaced: order, optimiser, activation."""
    workload = problem.workload
    changes: dict[str, dict[str, Any]] = {"step": {}}
    if workload.shuffled:
        changes["rows in order"] = {"in_order": True}
    if workload.optimizer != "sgd":
        changes["SGD"] = {"optimizer": "sgd"}
    if workload.hidden != "relu":
        changes["ReLU"] = {"hidden": "relu"}
    changed = {
        name: replace(problem, workload=replace(workload, **change)) for name, change in changes.items()
    }
    found = {name: (variant, threads) for name, variant in changed.items()}
    return found | ({ALONE: (problem, 1)} if threads > 1 else {})


def add_parts(row: Row, jobs: dict[str, Job], problem: Problem) -> None:
    """The forward pass alone and the gradient alone, each a call on one batch."""
    workload = problem.workload
    net = Fastbp(problem, row.threads).network
    x, y = problem.x[: workload.batch_size], problem.y[: workload.batch_size]
    reference = Baseline(problem, np.float64)
    output = reference.predict(reference.x[: len(x)])
    reference.backpropagate(reference.x[: len(x)], reference.y[: len(y)])
    for name, found, exact, call in (
        ("forward", net.predict(x), output, net.predict),
        ("gradient", net.loss_and_gradient(x, y)[1], reference.gradient, partial(net.loss_and_gradient, y=y)),
    ):
        error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
        row.results[name] = judged(error)
        jobs[name] = call_job(partial(call, x, threads=row.threads))


def with_loss(row: Row) -> Row:
    """The row with what several threads lose in place of the time on one.

    They lose what all of them take together beyond that time, at their two meetings a step and by sharing
    caches and memory; here as a part of the step.
    """
    alone = row.results.pop(ALONE, None)
    if alone and alone.values and row.first.values:
        saved = min(row.first.values) - min(alone.values) / row.threads
        row.results["lost"] = replace(alone, values=[max(0.0, saved)])
    return row


class TimedPhases:
    """The problem with the core's clock on: what its threads took for each phase, on average."""

    def __init__(self, problem: Problem, threads: int) -> None:
        contender = Fastbp(problem, threads)
        self.clock = contender.network._learner.clock = np.zeros((threads, _native.BUILD["clock"]))
        contender.train(1)
        self.result = judged(comparison(problem)(contender.parameters()))
        self.turn = training_job(contender, problem.workload.steps)
        self.laps: dict[float, NDArray[np.float64]] = {}  # by the seconds of the step

    def job(self) -> float:
        """The seconds of a step; its laps are kept."""
        self.clock.fill(0.0)
        seconds = self.turn()
        laps = self.clock[:, : len(_native.CLOCK_FIELDS)]
        self.laps[seconds] = laps.sum(axis=0) / laps.sum() * seconds
        return seconds


def with_laps(row: Row, timed: TimedPhases) -> Row:
    """The row with the phases of the turn that took least in place of the turns with the clock."""
    result = row.results.pop(TIMED)
    if result.values:
        laps = dict(zip(_native.CLOCK_FIELDS, timed.laps[min(result.values)], strict=True))
        for name, fields in LAPS.items():
            row.results[name] = replace(result, values=[float(sum(laps[field] for field in fields))])
    return row
