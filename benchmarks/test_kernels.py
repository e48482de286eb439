"""Every kernel beside NumPy, a group for each kernel and shape."""

from __future__ import annotations

import pytest

from fastbp.bench.kernels import TOLERANCE, largest_error, make_kernels

THREADS = 1
KERNELS = {f"{kernel.name} {kernel.detail}": kernel for kernel in make_kernels(THREADS)}


@pytest.mark.parametrize("contender", ["native", "numpy"])
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(benchmark, name, contender):
    kernel = KERNELS[name]
    benchmark.group = name
    function = getattr(kernel, contender)
    assert largest_error(kernel, function) <= TOLERANCE
    benchmark(function, *kernel.arguments, *kernel.outputs)
