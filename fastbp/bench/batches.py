"""Section of the report: one network in batches of one row to thousands, by every contender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fastbp.bench.rows import Row, Task
from fastbp.bench.timing import peak_job
from fastbp.bench.training import SEED, contenders, measure_problem, new_row
from fastbp.bench.workloads import WORKLOADS, make_problem

TRAINED = WORKLOADS["mnist"]
SIZES = (1, 4, 16, 64, 256, 1024, 4096)
MOST_SAMPLES = 8192  # of an epoch
GOAL = 1.0  # times as long as fastbp that the best rival takes, at the least


def measure(task: Task) -> Iterator[Row]:
    """One row for each batch size."""
    peak = peak_job(task.threads)
    makers = contenders(task.rivals)
    for size in SIZES[: 3 if task.effort.quick else None]:
        most = 3 if task.effort.quick else MOST_SAMPLES // size
        workload = replace(TRAINED, name=f"{size:,}", batch_size=size, steps=min(TRAINED.steps, most))
        problem = make_problem(workload, SEED)
        row = new_row("batches", problem, task.threads)
        row.detail, row.goal_times = workload.network, GOAL
        yield measure_problem(row, problem, makers, task.effort, peak)
