"""The process that measures: ``python -m fastbp.bench.worker JSON`` prints one row as JSON a line.

One process for each number of threads, because NumPy and JAX fix theirs when they start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np

from fastbp import _native
from fastbp.bench import kernels, numerical, training
from fastbp.bench.timing import Effort, Row, peak_job


def measure(names: Sequence[str], rivals: Sequence[str], threads: int, effort: Effort) -> Iterator[Row]:
    """The rows of all sections asked for; names are workloads, and ``kernels`` and ``numerical``."""
    peak = peak_job(_native.kernels(np.dtype(np.float32)), threads, effort.seconds)
    workloads = [name for name in names if name not in ("kernels", "numerical")]
    yield from training.measure(workloads, rivals, threads, effort, peak)
    if "kernels" in names:
        yield from kernels.measure(threads, effort, peak)
    if "numerical" in names:
        yield from numerical.measure(threads, effort, peak)


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    for row in measure(task["names"], task["rivals"], task["threads"], Effort(**task["effort"])):
        print(json.dumps(asdict(row)), flush=True)
