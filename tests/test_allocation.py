"""The step allocates nothing: counted by Python's allocators and by the trace of the C library."""

from __future__ import annotations

import os
import platform
import tracemalloc

import numpy as np
import pytest
from axes import every_core
from cases import CASES
from interpreter import run
from natively import RULES

from fastbp import _native, _plan

SHORT, LONG = 10, 1000  # steps; a step that allocates shows a hundred times as much in the long run


def training_call(core, case, steps, dtype=np.float32, batch_size=16):
    """Everything allocated beforehand, so that calling the result is nothing but the native call."""
    rng = np.random.default_rng(0)
    rows = steps * batch_size
    x, target = case.data(rng, rows)
    threads = 2
    space = _plan.lower(case.layers(), np.dtype(dtype)).training_space(batch_size, target.shape[1], threads)
    parameters = case.parameters(rng).astype(dtype)
    training = core.open_training(
        space.table, space.layout, np.arange(batch_size), parameters, np.empty(0, dtype),
        np.zeros((2, parameters.size), dtype), space.array, _native.LOSSES[case.loss], False,
        target.shape[1], threads, False,
    )  # fmt: skip
    rule = RULES["adam"].of(core)
    arguments = training, parameters, rule, x, target, np.arange(rows), 0, np.zeros(steps), threads
    return lambda: core.train(*arguments)


def peak_of(call):
    call()  # the first call may start the team of threads
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@every_core
@pytest.mark.parametrize("name", ["relu", "digits", "binary"])
def test_python_memory_does_not_grow_with_the_steps(core, name):
    short, long = (peak_of(training_call(core, CASES[name], steps)) for steps in (SHORT, LONG))
    assert long <= short, "bytes of the Python and NumPy allocators at their peak"


def test_the_peak_would_show_one_small_array_a_step():
    kept = []
    assert peak_of(lambda: kept.extend(np.empty(4) for _ in range(LONG))) > 100 * LONG


TRACED = """
import ctypes, sys
sys.path.insert(0, {tests!r})
from axes import CORES
from cases import CASES
from interpreter import run
from test_allocation import training_call

def tracer(name):
    return ctypes.CFUNCTYPE(None)(dlvsym(ctypes.c_void_p(library._handle), name, {version!r}))

library = ctypes.CDLL("libc_malloc_debug.so.0")
dlvsym = ctypes.CDLL(None).dlvsym
dlvsym.restype = ctypes.c_void_p
start, stop = tracer(b"mtrace"), tracer(b"muntrace")
call = training_call(CORES[{level!r}], CASES["digits"], {steps})
call()
start(); call(); stop()
"""


def traced_allocations(tmp_path, level, steps):
    """Calls of malloc and its kin by the whole process during one native call, from glibc's mtrace."""
    trace = tmp_path / f"{level}-{steps}"
    version = b"GLIBC_2.17" if platform.machine() == "aarch64" else b"GLIBC_2.2.5"
    script = TRACED.format(tests=os.path.dirname(__file__), level=level, steps=steps, version=version)
    run(script, LD_PRELOAD="libc_malloc_debug.so.0", MALLOC_TRACE=str(trace))
    return sum(line.split()[-3] in "+>" for line in trace.read_text().splitlines() if line.startswith("@"))


def glibc_can_trace() -> bool:
    return platform.libc_ver()[0] == "glibc" and "asan" not in os.environ.get("LD_PRELOAD", "")


if glibc_can_trace():

    @every_core
    def test_the_c_library_sees_no_more_allocations_in_a_longer_run(core, tmp_path):
        level = core.__name__.rpartition("_")[2]
        counts = [traced_allocations(tmp_path, level, steps) for steps in (SHORT, LONG)]
        assert counts[0] == counts[1] < SHORT
