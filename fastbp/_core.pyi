"""The compiled core, as seen from Python: one stub for the three builds of one source.

``_Real`` below is float32 or float64, the same for every array of one call.  Functions that take it are
compiled for both, and listed in ``fastbp._native.GENERIC``; ``kernels(dtype)`` there picks the specialisation
once, so that no call pays for the choice.  Every array is C-contiguous unless said otherwise; ``x`` and
``y`` may be any strided array of numbers of rank one or two, and are converted a batch at a time.  What does
not change from call to call can be handed over as memoryviews, which `open_training` and `open_evaluation`
make.
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
CLOCK_FIELDS: Final[tuple[str, ...]]
BUILD: Final[dict[str, Any]]

_Real = NDArray[np.float32] | NDArray[np.float64]

def train(
    stages: NDArray[np.int64],
    layout: NDArray[np.int64],
    parameters: _Real,
    gradients: _Real,
    state: _Real,
    loss: int,
    optimizer: int,
    settings: NDArray[np.float64],
    x: NDArray[Any],
    y: NDArray[Any],
    order: NDArray[np.int64],
    batch_size: int,
    step: int,
    workspace: _Real,
    losses: NDArray[np.float64],
    threads: int,
    clock: NDArray[np.float64] | None = None,
) -> tuple[int, bool]: ...
def evaluate(
    stages: NDArray[np.int64],
    parameters: _Real,
    loss: int,
    x: NDArray[Any],
    y: NDArray[Any] | None,
    first: int,
    output: _Real,
    workspace: _Real,
    width: int,
    block: int,
    packed: int,
    threads: int,
) -> tuple[float, bool]: ...
def open_training(
    stages: NDArray[np.int64],
    layout: NDArray[np.int64],
    order: NDArray[np.int64],
    gradients: _Real,
    state: _Real,
    workspace: _Real,
) -> tuple[Any, ...]: ...
def open_evaluation(stages: NDArray[np.int64], workspace: _Real) -> tuple[Any, ...]: ...
def packing(stages: NDArray[np.int64], parameters: _Real, rows: int) -> int: ...
def dense_forward(x: _Real, weight: _Real, bias: _Real, z: _Real, threads: int) -> None: ...
def dense_backward(
    x: _Real,
    weight: _Real,
    dz: _Real,
    dx: _Real,
    dweight: _Real,
    dbias: _Real,
    transposed: _Real,
    threads: int,
) -> None: ...
def activation_forward(activation: int, z: _Real, a: _Real, threads: int) -> None: ...
def activation_backward(activation: int, a: _Real, da: _Real, dz: _Real, threads: int) -> None: ...
def loss_gradient(
    loss: int,
    summed: bool,
    a: _Real,
    target: _Real,
    delta: _Real,
    values: NDArray[np.float64],
    sums: _Real,
) -> float: ...
def update(
    parameters: _Real,
    gradients: _Real,
    state: _Real,
    optimizer: int,
    settings: NDArray[np.float64],
    step: int,
    loss: float,
    losses: NDArray[np.float64],
    batch: int,
    threads: int,
) -> None: ...
def find_nonfinite(x: NDArray[Any], scratch: _Real) -> int: ...
def examine(values: _Real, threads: int, copy: _Real | None = None) -> bool: ...
def foresee(on: bool) -> bool: ...
def openmp_limit() -> int: ...
def multiply_add(rounds: int, out: _Real, threads: int) -> int: ...
def shuffle(order: NDArray[np.int64], seed: int, epoch: int) -> None: ...
