"""The compiled core, as seen from Python: one stub for the three builds of one source.

``_Real`` below is float32 or float64, the same for every array of one call.  Functions that take it are
compiled for both, and listed in ``fastbp._native.GENERIC``; ``kernels(dtype)`` there picks the specialisation
once, so that no call pays for the choice.  Every array is C-contiguous unless said otherwise; ``x`` and
``y`` may be any strided array of numbers of rank one or two, and are converted a batch at a time.  What does
not change from call to call is looked at once, by `open_training` and `open_evaluation`: to do so every time
would be a tenth of a call on one sample.
"""

from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

ACTIVATIONS: Final[dict[str, int]]
LOSSES: Final[dict[str, int]]
STAGE_KINDS: Final[dict[str, int]]
STAGE_FIELDS: Final[tuple[str, ...]]
CLOCK_FIELDS: Final[tuple[str, ...]]
BUILD: Final[dict[str, Any]]

_Real = NDArray[np.float32] | NDArray[np.float64]

@final
class Rule:
    """How parameters are updated in an epoch: "sgd" or "adam" with all of its settings, by name.

    "gradient": not at all, the gradient is stored.
    """

    def __init__(self, optimizer: str, **settings: float) -> None: ...
    @property
    def lr(self) -> float: ...
    @property
    def updates(self) -> bool: ...

@final
class Training:
    """What `open_training` gives and `train` takes: steps of one shape."""

@final
class Evaluation:
    """What `open_evaluation` gives and `evaluate` takes: evaluations of one shape."""

def open_training(
    stages: NDArray[np.int64],
    layout: dict[str, int],
    all_rows: NDArray[np.int64],
    parameters: _Real,
    gradients: _Real,
    state: _Real,
    workspace: _Real,
    loss: int,
    summed: bool,
    target_columns: int,
    threads: int,
    halved: bool,
) -> Training: ...
def train(
    opened: Training,
    moved: _Real,
    rule: Rule,
    x: NDArray[Any],
    y: NDArray[Any],
    order: NDArray[np.int64] | None,
    step: int,
    losses: NDArray[np.float64],
    threads: int,
    clock: NDArray[np.float64] | None = None,
) -> tuple[int, bool]: ...
def propagate(
    opened: Training, x: NDArray[Any], order: NDArray[np.int64] | None, output: _Real, threads: int
) -> bool: ...
def backpropagate(
    opened: Training,
    moved: _Real,
    rule: Rule,
    slope: _Real,
    step: int,
    loss: float,
    losses: NDArray[np.float64],
    threads: int,
) -> None: ...
def open_evaluation(
    stages: NDArray[np.int64],
    parameters: _Real,
    loss: int,
    workspace: _Real,
    rows: int,
    target_columns: int,
    width: int,
    block: int,
    packed: int,
    threads: int,
) -> Evaluation: ...
def evaluate(
    opened: Evaluation,
    x: NDArray[Any],
    y: NDArray[Any] | None,
    first: int,
    output: _Real,
    threads: int,
) -> tuple[float, bool]: ...
def packing(stages: NDArray[np.int64], like: _Real, rows: int) -> int: ...
def layer_scratch(like: _Real, inputs: int, outputs: int, rows: int, backward: bool, threads: int) -> int: ...
def dense_forward(x: _Real, weight: _Real, bias: _Real, z: _Real, scratch: _Real, threads: int) -> None: ...
def dense_backward(
    x: _Real,
    weight: _Real,
    dz: _Real,
    dx: _Real,
    dweight: _Real,
    dbias: _Real,
    scratch: _Real,
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
    rule: Rule,
    step: int,
    loss: float,
    losses: NDArray[np.float64],
    threads: int,
) -> None: ...
def find_nonfinite(x: NDArray[Any], scratch: _Real) -> int: ...
def fits(x: object, y: object, columns: int, outputs: int, kind: str) -> bool: ...
def examine(values: _Real, threads: int, copy: _Real | None = None) -> bool: ...
def foresee(on: bool) -> bool: ...
def openmp_limit() -> int: ...
def openmp_place() -> int: ...
def multiply_add(rounds: int, out: _Real, threads: int) -> int: ...
def shuffle(order: NDArray[np.int64], seed: int, epoch: int) -> None: ...
