"""Section of the report: how time grows with samples and with parameters, on one thread and on all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import numpy as np

import fastbp as bp
from fastbp.bench.program import make_data
from fastbp.bench.rivals import Fastbp
from fastbp.bench.rows import Result, Row, Task
from fastbp.bench.tables import plural
from fastbp.bench.timing import call_job, fill, peak_job
from fastbp.bench.training import SEED, comparison, judged
from fastbp.bench.workloads import Workload, make_problem

SIZES, BATCH_SIZE = (16, 64, 4), 256
SAMPLES = tuple(10**power for power in range(3, 8))
SAMPLE_BYTES = 4 * SIZES[0] + 8 + 8 + 8  # features, label, place in the order, room for more
MISTAKES = 0.2
WIDTHS = (7, 22, 70, 223, 707, 2236, 7071)  # of two square layers: about 10^2 to 10^8 parameters
PARAMETER_BYTES = 80  # of the network, its twin on another number of threads, and the float64 reference


def measure(task: Task) -> Iterator[Row]:
    """One row for each number of samples and for each number of parameters that the memory holds."""
    counts = {plural(count): count for count in (task.threads, 1)}
    for samples in SAMPLES[: 2 if task.effort.quick else None]:
        if samples * SAMPLE_BYTES < free_memory() / 2:
            yield measure_samples(task, counts, samples)
    for width in WIDTHS[: 3 if task.effort.quick else None]:
        if 2 * width * width * PARAMETER_BYTES < free_memory() / 2:
            yield measure_parameters(task, counts, width)


def measure_samples(task: Task, counts: dict[str, int], samples: int) -> Row:
    """Time a sample of one epoch; the bits are to be those of one thread, and the classes learnt."""
    x, y = make_data(samples, SIZES[0], SIZES[-1])
    row = Row("samples", f"{samples:,}", "-".join(map(str, SIZES)), task.threads, {})
    jobs, trained = {}, {}
    for name, count in counts.items():
        layers = bp.mlp(SIZES, activation="relu", output="softmax")
        net = trained[name] = bp.Network(layers, loss="cross_entropy", optimizer=bp.Adam(lr=1e-2))
        epoch = partial(net.fit, x, y, batch_size=BATCH_SIZE, threads=count, verbose=False)
        epoch()
        mistakes = float(np.mean(net.predict(x[:1000]).argmax(axis=1) != y[:1000]))
        same = np.array_equal(net.parameters, next(iter(trained.values())).parameters)
        row.results[name] = Result(mistakes, same and mistakes <= MISTAKES)
        row.flops = 2 * (3 * net.parameters.size - 2 * SIZES[0] * SIZES[1])
    for name, net in trained.items():
        epoch = partial(net.fit, x, y, batch_size=BATCH_SIZE, threads=counts[name], verbose=False)
        jobs[name] = call_job(epoch, samples)
    return fill(row, jobs, task.effort, peak_job(task.threads))


def measure_parameters(task: Task, counts: dict[str, int], width: int) -> Row:
    """Time of one call of partial_fit; one step is held against the reference."""
    workload = Workload("growth", (width,) * 3, "relu", "mse", "sgd", 1e-2 * width, BATCH_SIZE, 1)
    problem = make_problem(workload, SEED)
    row = Row("parameters", f"{problem.parameters.size:,}", workload.network, task.threads, {})
    row.flops = workload.step_flops
    compare = comparison(problem)
    jobs = {}
    for name, count in counts.items():
        contender = Fastbp(problem, count)
        contender.update(problem.x, problem.y)
        row.results[name] = judged(compare(contender.parameters()))
        jobs[name] = call_job(partial(contender.update, problem.x, problem.y))
    return fill(row, jobs, task.effort, peak_job(task.threads))


def free_memory() -> float:
    """Bytes that this machine could give now, or has where it does not tell."""
    try:
        with open("/proc/meminfo") as file:
            return next(float(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except OSError:
        names = "SC_PAGE_SIZE", "SC_PHYS_PAGES"
        return float(np.prod([os.sysconf(name) for name in names])) if hasattr(os, "sysconf") else 4e9
