"""Section of the report: training, every workload by every contender."""

from __future__ import annotations

from collections.abc import Iterator

from fastbp.bench.judging import contenders, measure_problem, new_row, problems
from fastbp.bench.rows import Row, Task
from fastbp.bench.timing import peak_job
from fastbp.bench.workloads import GOALS


def measure(task: Task) -> Iterator[Row]:
    """One row for each workload."""
    peak = peak_job(task.threads)
    makers = contenders(task.rivals)
    for problem in problems(task, task.workloads):
        row = new_row("training", problem, task.threads)
        row.goal_share, row.goal_times = GOALS[row.name].get(task.threads, (0.0, 0.0))
        yield measure_problem(row, problem, makers, task.effort, peak)
