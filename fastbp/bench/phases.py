"""Section of the report: where a step's time goes, by what it takes without one of its parts.

The core has no counters: they would cost what they count.  Each variant leaves out one thing, or does one
thing alone, and the difference from the whole step is that thing's price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fastbp.bench.baseline import Baseline
from fastbp.bench.rivals import Fastbp
from fastbp.bench.rows import Row, Task
from fastbp.bench.timing import Job, call_job, fill, peak_job
from fastbp.bench.training import comparison, judged, new_row, problems, training_job
from fastbp.bench.workloads import Problem

ALONE = "1 thread"


def measure(task: Task) -> Iterator[Row]:
    """One row for each workload: the step, and what its variants take."""
    peak = peak_job(task.threads)
    for problem in problems(task):
        row = new_row("phases", problem, task.threads)
        jobs: dict[str, Job] = {}
        for name, (variant, threads) in variants(problem, task.threads).items():
            contender = Fastbp(variant, threads)
            contender.train(1)
            row.results[name] = judged(comparison(variant)(contender.parameters()))
            jobs[name] = training_job(contender, problem.workload.steps)
        add_parts(row, jobs, problem)
        yield with_loss(fill(row, jobs, task.effort.light, peak))


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
