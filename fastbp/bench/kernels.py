"""Section of the report: single kernels beside the same in NumPy, which writes to given arrays as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _native
from fastbp.bench.baseline import activation_backward, activation_forward, affine_backward, affine_forward
from fastbp.bench.rows import OWN, Result, Row, Task
from fastbp.bench.timing import call_job, fill, peak_job

# Relative to the largest entry: float32 rounds to 6e-8, and sums of up to 1,024 terms to some 1e-6 of it.
TOLERANCE = 1e-5
AFFINE_SHAPES = ((64, 64, 128), (128, 784, 128), (100, 300, 300), (512, 1024, 1024))
ACTIVATION_SHAPES = ((64, 128), (512, 1024))
ACTIVATIONS = ("sigmoid", "relu", "tanh")

Arrays = list[NDArray[np.float32]]
Function = Callable[..., None]


@dataclass
class Kernel:
    """One operation in both spellings; each writes to the arrays it is given last."""

    name: str
    detail: str
    flops: int
    arguments: Arrays
    outputs: Arrays
    native: Function
    numpy: Function


def measure(task: Task) -> Iterator[Row]:
    """One row for each kernel and shape."""
    peak = peak_job(task.threads)
    for kernel in make_kernels(task.threads, quick=task.effort.quick):
        row = Row("kernels", kernel.name, kernel.detail, task.threads, {}, kernel.flops)
        jobs = {}
        for name, function in ((OWN, kernel.native), ("NumPy", kernel.numpy)):
            error = largest_error(kernel, function)
            row.results[name] = Result(error, error <= TOLERANCE)
            jobs[name] = call_job(partial(function, *kernel.arguments, *kernel.outputs))
        yield fill(row, jobs, task.effort.light, peak if kernel.flops else None)


def largest_error(kernel: Kernel, function: Function) -> float:
    """The largest difference from NumPy in float64, relative to the largest entry of the same output."""
    exact = [np.zeros(output.shape) for output in kernel.outputs]
    kernel.numpy(*(argument.astype(np.float64) for argument in kernel.arguments), *exact)
    function(*kernel.arguments, *kernel.outputs)
    pairs = zip(kernel.outputs, exact, strict=True)
    return float(np.max([np.abs(output - right).max() / np.abs(right).max() for output, right in pairs]))


def make_kernels(threads: int, *, quick: bool = False) -> Iterator[Kernel]:
    """Every kernel at every shape; the first shapes alone when quick."""
    native = _native.kernels(np.dtype(np.float32))
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    for rows, inputs, outputs in AFFINE_SHAPES[: 1 if quick else None]:
        detail = f"({rows}, {inputs}) @ ({inputs}, {outputs})"
        flops = 2 * rows * inputs * outputs
        x, dz = normal(rows, inputs), normal(rows, outputs)
        weight, bias = normal(inputs, outputs), normal(outputs)
        z, gradients = np.empty_like(dz), [np.empty_like(array) for array in (x, weight, bias)]
        forward, backward = native_affine(native, threads, rows, weight)
        yield Kernel("affine forward", detail, flops, [x, weight, bias], [z], forward, affine_forward)
        given = [x, weight, dz]
        yield Kernel("affine backward", detail, 2 * flops, given, gradients, backward, affine_backward)
    for shape in ACTIVATION_SHAPES[: 1 if quick else None]:
        for name in ACTIVATIONS:
            detail = f"({shape[0]}, {shape[1]})"
            z, da = normal(*shape), normal(*shape)
            forward, backward = native_activation(native, threads, name)
            a, dz = np.empty_like(z), np.empty_like(z)
            yield Kernel(name, detail, 0, [z], [a], forward, partial(activation_forward, name))
            activation_forward(name, z, a)
            derivative = partial(activation_backward, name)
            yield Kernel(f"{name} derivative", detail, 0, [a, da], [dz], backward, derivative)


def native_affine(
    native: Any, threads: int, rows: int, weight: NDArray[np.float32]
) -> tuple[Function, Function]:
    """The core's affine forward and backward on so many rows, with their scratch."""
    ahead, back = (
        np.empty(native.layer_scratch(weight[0], *weight.shape, rows, backward, threads), np.float32)
        for backward in (False, True)
    )
    return (
        lambda x, weight, bias, z: native.dense_forward(x, weight, bias, z, ahead, threads),
        lambda x, weight, dz, dx, dweight, dbias: native.dense_backward(
            x, weight, dz, dx, dweight, dbias, back, threads
        ),
    )


def native_activation(native: Any, threads: int, name: str) -> tuple[Function, Function]:
    """The core's activation and its derivative."""
    code = _native.ACTIVATIONS[name]
    return (
        lambda z, a: native.activation_forward(code, z, a, threads),
        lambda a, da, dz: native.activation_backward(code, a, da, dz, threads),
    )
