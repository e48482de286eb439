"""The compiled core, as seen from Python: one stub for the three builds of one source.

``real`` below is float32 or float64, the same for every array of one call.  The functions marked
generic are compiled for both; ``fastbp._native.kernels(dtype)`` picks the specialisation once, so that
no call pays for the choice.  Every array is C-contiguous unless said otherwise; ``x`` and ``y`` may be any
strided array of numbers of rank one or two, and are converted a batch at a time.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ACTIVATIONS: Final[dict[str, int]]
LOSSES: Final[dict[str, int]]
OPTIMIZERS: Final[dict[str, int]]
STAGE_KINDS: Final[dict[str, int]]
STAGE_FIELDS: Final[tuple[str, ...]]
LAYOUT_FIELDS: Final[tuple[str, ...]]
BUILD: Final[dict[str, Any]]

Real = NDArray[np.float32] | NDArray[np.float64]

def train(
    stages: NDArray[np.int64],
    layout: NDArray[np.int64],
    parameters: Real,
    gradients: Real,
    state: Real,
    loss: int,
    optimizer: int,
    settings: NDArray[np.float64],
    x: NDArray[Any],
    y: NDArray[Any],
    order: NDArray[np.int64],
    batch_size: int,
    step: int,
    workspace: Real,
    losses: NDArray[np.float64],
    threads: int,
) -> int: ...
def evaluate(
    stages: NDArray[np.int64],
    parameters: Real,
    loss: int,
    x: NDArray[Any],
    y: NDArray[Any] | None,
    first: int,
    output: Real,
    workspace: Real,
    width: int,
    block: int,
    packed: int,
    threads: int,
) -> float: ...
def packing(stages: NDArray[np.int64], parameters: Real, rows: int) -> int: ...
def dense_forward(x: Real, weight: Real, bias: Real, z: Real, threads: int) -> None: ...
def dense_backward(
    x: Real, weight: Real, dz: Real, dx: Real, dweight: Real, dbias: Real, transposed: Real, threads: int
) -> None: ...
def activation_forward(activation: int, z: Real, a: Real, threads: int) -> None: ...
def activation_backward(activation: int, a: Real, da: Real, dz: Real, threads: int) -> None: ...
def find_nonfinite(x: NDArray[Any], scratch: Real) -> int: ...
def multiply_add(rounds: int, out: Real, threads: int) -> int: ...
def shuffle(order: NDArray[np.int64], seed: int, epoch: int) -> None: ...
