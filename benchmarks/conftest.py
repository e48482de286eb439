"""Every contender on one thread: NumPy reads these when it is loaded, JAX counts the cores it may use."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[name] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
if hasattr(os, "sched_setaffinity"):
    from fastbp.bench.timing import chosen_cores

    os.sched_setaffinity(0, chosen_cores(1, os.sched_getaffinity(0)))
