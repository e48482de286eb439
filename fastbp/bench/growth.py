"""Section of the report: how time grows with samples and with parameters, on one thread and on all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial

import numpy as np

import fastbp as bp
from fastbp import _check
from fastbp.bench.judging import SEED, comparison, judged
from fastbp.bench.program import make_data
from fastbp.bench.rivals import Fastbp
from fastbp.bench.rows import Result, Row, Task
from fastbp.bench.tables import plural
from fastbp.bench.timing import call_job, fill, peak_job
from fastbp.bench.workloads import Workload, make_problem

BATCH_SIZE = 256
LEARNT = Workload("growth", (16, 64, 4), "relu", "cross_entropy", "adam", 1e-2, BATCH_SIZE, 1)
SAMPLES = tuple(10**power for power in range(3, 8))
SAMPLE_BYTES = 4 * LEARNT.sizes[0] + 8 + 8 + 8  # features, label, place in the order, room for more
MISTAKES, LEAST_STEPS = 0.2, 40  # allowed after so many
WIDTHS = (7, 22, 70, 223, 707, 2236, 7071)  # of two square layers: about 10^2 to 10^8 parameters
PARAMETER_BYTES = 80  # of the network, its twin on another number of threads, and the float64 reference


def measure(task: Task) -> Iterator[Row]:
    """One row for each number of samples and for each number of parameters that the memory holds."""
    counts = {plural(count): count for count in (task.threads, 1)}
    for samples in SAMPLES[: 2 if task.effort.quick else None]:
        if fits(samples * SAMPLE_BYTES, f"{samples:,} samples"):
            yield measure_samples(task, counts, samples)
    for width in WIDTHS[: 3 if task.effort.quick else None]:
        parameters = 2 * width * (width + 1)
        if fits(parameters * PARAMETER_BYTES, f"{parameters:,} parameters"):
            yield measure_parameters(task, counts, width)


def measure_samples(task: Task, counts: dict[str, int], samples: int) -> Row:
    """Time a sample of one epoch; the bits are to be those of one thread, and the classes learnt."""
    x, y = make_data(samples, LEARNT.sizes[0], LEARNT.sizes[-1])
    row = Row("samples", f"{samples:,}", LEARNT.network, task.threads, {})
    row.flops = LEARNT.step_flops // BATCH_SIZE
    jobs, trained = {}, {}
    for name, count in counts.items():
        layers = bp.mlp(LEARNT.sizes, activation=LEARNT.hidden, output=LEARNT.output)
        optimizer = bp.Adam(lr=LEARNT.learning_rate)
        net = trained[name] = bp.Network(layers, loss=LEARNT.loss, optimizer=optimizer)
        epochs = -(-LEAST_STEPS * BATCH_SIZE // samples)
        net.fit(x, y, epochs=epochs, batch_size=BATCH_SIZE, threads=count, verbose=False)
        mistakes = float(np.mean(net.predict(x[:1000]).argmax(axis=1) != y[:1000]))
        same = np.array_equal(net.parameters, next(iter(trained.values())).parameters)
        row.results[name] = Result(mistakes, same and mistakes <= MISTAKES)
    for name, net in trained.items():
        epoch = partial(net.fit, x, y, batch_size=BATCH_SIZE, threads=counts[name], verbose=False)
        jobs[name] = call_job(epoch, samples)
    return fill(row, jobs, task.effort, peak_job(task.threads))


def measure_parameters(task: Task, counts: dict[str, int], width: int) -> Row:
    """Time of one call of partial_fit; one step is held against the reference."""
    workload = Workload("growth", (width,) * 3, "relu", "mse", "sgd", 0.5, BATCH_SIZE, 1)
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


def fits(size: float, what: str) -> bool:
    """Whether so many bytes are to be had without pressing anybody; says so if not."""
    fitting = size < free_memory() / 2
    if not fitting:
        print(f"growth leaves out {what}: more than half of the free memory", file=sys.stderr)
    return fitting


def free_memory() -> float:
    """Bytes that this machine, or its container, could give now, or has where it does not tell."""
    try:
        with open("/proc/meminfo") as file:
            free = next(float(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except OSError:
        names = "SC_PAGE_SIZE", "SC_PHYS_PAGES"
        free = float(np.prod([os.sysconf(name) for name in names])) if hasattr(os, "sysconf") else 4e9
    return min(free, _check.container_memory())
