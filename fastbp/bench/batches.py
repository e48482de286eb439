"""Section of the report: one network in batches of one row to thousands, by every contender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fastbp.bench.judging import contenders, measure_problem, new_row, short_problem
from fastbp.bench.rows import Row, Task
from fastbp.bench.timing import peak_job
from fastbp.bench.workloads import WORKLOADS

TRAINED = WORKLOADS["mnist"]
SIZES = (1, 4, 16, 64, 256, 1024, 4096)
EPOCH_FLOPS = TRAINED.steps * TRAINED.step_flops  # at the most, as of the workload itself
GOAL = 1.0  # times as long as fastbp that the best rival takes, at the least


def measure(task: Task) -> Iterator[Row]:
    """One row for each batch size."""
    peak = peak_job(task.threads)
    makers = contenders(task.rivals)
    for size in SIZES[: 3 if task.effort.quick else None]:
        workload = replace(TRAINED, name=f"{size:,}", batch_size=size)
        problem = short_problem(workload, task.effort, EPOCH_FLOPS)
        row = new_row("batches", problem, task.threads)
        row.detail, row.goal_times = workload.network, GOAL
        yield measure_problem(row, problem, makers, task.effort, peak)
