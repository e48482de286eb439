"""Section of the report: memory that training takes, and data that the memory could not hold."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastbp.bench.processes import libraries, run_program
from fastbp.bench.rows import Effort, Result, Row, Task
from fastbp.bench.tables import significant
from fastbp.bench.timing import Job, take_turns

# Network, batch, numbers of samples.
CASES = (
    ("64-128-10", 256, (1_000, 100_000, 1_000_000)),
    ("784-128-64-10", 128, (10_000, 100_000)),
    ("784-2048-2048-10", 256, (10_000,)),
)
LEAST_STEPS = 40  # after fewer even a sound program would still make mistakes
MISTAKES = 0.1  # allowed on rows of well separated clusters
FILE_BYTES, QUICK_BYTES = 256 << 20, 128 << 20
MAPPED_SIZES, MAPPED_BATCH = "784-128-64-10", 128


def measure(task: Task) -> Iterator[Row]:
    """One row for each network and number of samples, and one for a file larger than the memory allowed."""
    if sys.platform == "win32":
        return  # which does not tell a process its peak in a way that Python can read
    keys = libraries([key for key in task.rivals if key != "jax"])  # whose pool keeps what it once took
    for network, batch_size, numbers in CASES[: 1 if task.effort.quick else None]:
        for samples in numbers[: 2 if task.effort.quick else None]:
            yield measure_memory(task, keys, network, batch_size, samples)
    if sys.platform == "linux":  # where memory can be limited without counting mapped files
        yield measure_mapped(task, QUICK_BYTES if task.effort.quick else FILE_BYTES)


def measure_memory(task: Task, keys: dict[str, str], network: str, batch_size: int, samples: int) -> Row:
    """How much memory training takes, the data aside."""
    epochs = -(-LEAST_STEPS * batch_size // samples)
    detail = f"{network}, {batch_size}: {megabytes(needed_bytes(network, batch_size))}"
    row = Row("memory", f"{samples:,} samples", detail, task.threads, {})

    def judge(name: str) -> Result:
        arguments = "train", keys[name], f"samples:{samples}", network, epochs, batch_size, 0
        mistakes, _, memory = run_program(*arguments)
        return Result(mistakes, mistakes <= MISTAKES, [memory])

    row.attempt(keys, judge)
    return row


def needed_bytes(network: str, batch_size: int) -> int:
    """Parameters, gradient and Adam's two moments, and the inputs and outputs of all layers for one batch."""
    sizes = [int(size) for size in network.split("-")]
    parameters = sum(i * o + o for i, o in pairwise(sizes))
    return 4 * (4 * parameters + batch_size * sum(sizes))


def megabytes(size: float) -> str:
    """``1.92 MB``."""
    return f"{significant(size / 1e6)} MB"


def measure_mapped(task: Task, size: int) -> Row:
    """Samples from a mapped file, by a process that may have a quarter of its size, beside an array."""
    features, samples = 784, size // 784
    detail = f"{MAPPED_SIZES}, {MAPPED_BATCH}"
    name = f"{megabytes(size)} file, {megabytes(size / 4)} allowed"
    row = Row("mapped", name, detail, task.threads, {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bytes"
        write_bytes(path, samples, features)
        jobs: dict[str, Job] = {}
        for label, source, room in (("mapped", "mapped", size // 4), ("in memory", "read", 0)):
            job = program_job(f"{source}:{path}", room)
            mistakes, _ = job()
            row.results[label] = Result(mistakes, mistakes <= MISTAKES)
            if row.results[label].agrees:
                jobs[label] = partial(seconds_a_sample, job, samples)
        for label, values in take_turns(jobs, Effort(0.0, task.effort.quick)).items():
            row.results[label].values = values
    return row


def seconds_a_sample(run: Callable[[], tuple[float, float]], samples: int) -> float:
    """The seconds of a run by the number of samples."""
    return run()[1] / samples


def program_job(source: str, room: int) -> Callable[[], tuple[float, float]]:
    """A function that trains for an epoch in a new process; gives the mistakes and the seconds."""

    def job() -> tuple[float, float]:
        mistakes, seconds, _ = run_program("train", "fastbp", source, MAPPED_SIZES, 1, MAPPED_BATCH, room)
        return mistakes, seconds

    return job


def write_bytes(path: Path, samples: int, features: int) -> None:
    """Rows of small whole numbers around ten centres into one file, and the centres' numbers into another."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=samples)
    centres = rng.integers(4, size=(10, features), dtype=np.uint8)
    noise = rng.integers(4, size=(4096, features), dtype=np.uint8)
    with path.open("wb") as file:
        for start in range(0, samples, len(noise)):
            part = labels[start : start + len(noise)]
            (centres[part] + noise[: len(part)]).tofile(file)
    np.save(f"{path}.npy", labels)
