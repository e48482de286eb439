"""Section of the report: each instruction-set level that this processor has, against its own peak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fastbp import _native
from fastbp.bench.judging import comparison, judged, new_row, problems, training_job
from fastbp.bench.rivals import Fastbp
from fastbp.bench.rows import Row, Task
from fastbp.bench.timing import fill, peak_job
from fastbp.bench.workloads import GOALS

WORKLOADS = ("mnist", "higgs", "square")
V3_GOAL = 0.80  # of the AVX2 peak; for v4 see GOALS, the base level has none
EPOCH_FLOPS = 1e10  # which take the base level a second in float64
FLOAT64_GOAL = 0.45  # of float32's rate: half, within a tenth


def measure(task: Task) -> Iterator[Row]:
    """Two rows for each workload: float32 against the level's peak, and float64 against float32."""
    peak = peak_job(task.threads)
    chosen = [name for name in WORKLOADS if name in task.workloads]
    for problem in problems(task, chosen[: 1 if task.effort.quick else None], EPOCH_FLOPS):
        share = new_row("levels", problem, task.threads)
        share.detail = _native.level
        share.goal_share = {"v3": V3_GOAL, "v4": GOALS[share.name][1][0]}.get(_native.level, 0.0)
        compare = comparison(problem)
        jobs = {}
        for dtype in ("float32", "float64"):
            data = replace(problem, x=problem.x.astype(dtype))
            contender = Fastbp(data, task.threads, dtype)
            contender.train(1)
            share.results[dtype] = judged(compare(contender.parameters()))
            jobs[dtype] = training_job(contender, problem.workload.steps)
        fill(share, jobs, task.effort, peak)
        both = share.results
        share.results = {"float32": both["float32"]}
        yield share
        precision = Row("precision", share.name, share.detail, task.threads, {}, goal_times=FLOAT64_GOAL)
        precision.results = {"float64": both["float64"], "float32": both["float32"]}
        yield precision
