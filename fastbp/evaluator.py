"""The evaluator: the parameters of one network, and the native calls that compute from them."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _check, _native, _plan, metrics
from fastbp.losses import Loss
from fastbp.pace import SLICE_SECONDS, Pace

FIRST_RATE = 5e9  # flop/s, within anybody's reach: sizes the first calls, and the parts of an evaluation
EVALUATED_ROWS, EVALUATED_OUTPUTS = 65536, 1 << 19  # together at most: outputs stay under a few MB
# Workspaces stay for calls of the same shape: a few of them, and more while all take at most KEPT_BYTES, or
# four times the parameters.  One that takes more than that alone goes after the call.
FEW_SPACES, MOST_SPACES = 4, 64
KEPT_BYTES = 32 << 20

Array = NDArray[Any]
Shape = tuple[int, int, int]  # of a call: rows, columns of the targets, threads
Opened = tuple[Any, ...]  # for calls of one shape: an object of the core's, ..., bytes of its workspace


class Evaluator:
    """The parameters of one network, and the native calls that read them.

    Any number of threads may predict and evaluate at once.

    Attributes
    ----------
    part_rows : int
        Rows that are evaluated together, at the most: Ctrl-C is answered between two parts.
    kept_bytes : int
        What workspaces may take between calls.
    """

    def __init__(self, plan: _plan.Plan, loss: Loss) -> None:
        self.plan = plan
        self.dtype = plan.dtype
        self.native = _native.kernels(plan.dtype)
        self.loss = loss
        self.loss_code = _native.LOSSES.get(loss.name, -1)
        self.parameters: Array = _plan.aligned_zeros(plan.parameter_count, plan.dtype)
        # Of fewer rows, neither an evaluation nor a gradient is worth a second thread, nor an update.
        self._shared_rows = self._shared_updates = plan.shared_rows()
        largest = min(EVALUATED_ROWS, -(-EVALUATED_OUTPUTS // plan.out_features))
        self.part_rows = int(min(largest, max(256, SLICE_SECONDS * FIRST_RATE / plan.step_flops(1))))
        self.kept_bytes = max(KEPT_BYTES, 4 * self.parameters.nbytes)
        self._evaluations: dict[Shape, Opened] = {}

    def cap(self, threads: int | None, rows: int, updates: bool = False) -> int:
        """The most threads that a call on so many rows may take: for few 1, without a look at the machine."""
        shared = self._shared_updates if updates else self._shared_rows
        if rows < shared and (threads is None or (type(threads) is int and threads > 0)):
            return 1
        return _native.resolve_threads(threads)

    def features(self, x: Any) -> Array:
        """Data alone, checked as `pair` checks them."""
        takes = self.plan.in_features
        return x if _native.fits(x, None, takes, 0, "") else _check.features(x, takes)

    def pair(self, x: Any, y: Any, names: tuple[str, str] = ("x", "y")) -> tuple[Array, Array]:
        """Data and targets, checked but for entries that are not finite: the core meets those as it reads.

        What fits as it comes passes at one look of the core's; the others are converted, or refused in words.
        """
        takes, gives, kind = self.plan.in_features, self.plan.out_features, self.loss.target
        if not _native.fits(x, y, takes, gives, kind):
            x = _check.features(x, takes, names[0])
            y = _check.targets(y, len(x), gives, kind, names)
        return x, y

    def predict(self, x: Array, threads: int) -> Array:
        """The last layer's output for every row."""
        rows = len(x)
        output = np.empty((rows, self.plan.out_features), self.dtype)
        if rows <= self.part_rows:
            self._evaluate_part(x, None, 0, output, threads)
            return output
        for first in range(0, rows, self.part_rows):
            self._evaluate_part(x, None, first, output[first : first + self.part_rows], threads)
        return output

    def evaluate(self, x: Array, y: Array, threads: int) -> dict[str, float]:
        """The loss over all rows and the metrics that belong to it."""
        rows = len(x)
        total = 0.0
        measured = metrics.for_loss(self.loss.name)
        output = np.empty((min(rows, self.part_rows), self.plan.out_features), self.dtype)
        for first in range(0, rows, self.part_rows):
            part = output[: rows - first]
            total += self._evaluate_part(x, y, first, part, threads)
            for metric in measured:
                metric.update(part, y[first : first + self.part_rows])
        loss = total / self.loss.divisor(rows, self.plan.out_features)
        return {"loss": loss, **{metric.name: metric.result() for metric in measured}}

    def _evaluate_part(self, x: Array, y: Array | None, first: int, output: Array, threads: int) -> float:
        """Output, and with y the summed loss, of as many rows as output has."""
        rows = len(output)
        team = 1 if threads == 1 else self.plan.evaluation_threads(rows, threads)
        target_columns = 0 if y is None else 1 if y.ndim == 1 else y.shape[1]
        capacity = 1 << (rows - 1).bit_length()  # calls with ever other numbers of rows share a space
        shape = capacity, target_columns, team
        # Taken out for the call, because several threads may predict at once.
        opened = self._evaluations.pop(shape, None) or self._open_evaluation(shape)
        evaluation, pace, nbytes = opened
        threads = pace.threads
        if threads > 1:
            threads = _native.started_threads(threads, self.plan.evaluation_flops(rows))
        start = time.perf_counter() if team > 1 else 0.0
        total: float
        total, finite = self.native.evaluate(evaluation, x, y, first, output, threads)
        if team > 1:
            pace.took(threads, rows, start)
        if nbytes <= self.kept_bytes:
            self._evaluations[shape] = opened
            if len(self._evaluations) > FEW_SPACES:
                make_room(self._evaluations, self.kept_bytes)
        if not (finite and math.isfinite(total)):
            self.refuse_nonfinite(x, y)
        return total

    def _open_evaluation(self, shape: Shape) -> tuple[Any, Pace, int]:
        """The core's evaluation of one shape, its pace, in rows, and the bytes of its workspace."""
        rows, target_columns, threads = shape
        space = self.plan.evaluation_space(rows, target_columns, threads)
        _check.memory(space.nbytes, f"an evaluation of {rows} rows")
        evaluation = self.native.open_evaluation(
            self.plan.table,
            self.parameters,
            self.loss_code,
            space.array,
            rows,
            target_columns,
            space.width,
            space.block,
            space.packed,
            threads,
        )
        pace = Pace(threads, self.plan.evaluation_flops(1) / FIRST_RATE)
        return evaluation, pace, space.nbytes

    def refuse_nonfinite(self, x: Array, y: Array | None, names: tuple[str, str] = ("x", "y")) -> None:
        """Name the first entry of x, or else of y, that is not a finite number of the network's dtype."""
        _check.finite(x, self.dtype, names[0])
        if y is not None:
            _check.finite(y, self.dtype, names[1])


def make_room(kept: dict[Shape, Opened], most: int) -> None:
    """Let go of what has been there longest: a few stay, more while all take at most so many bytes."""
    # All keys at once, which list does without a pause and tuple does not: an iterator fails when another
    # thread gives back meanwhile; none may be left.
    there = [(shape, opened[-1]) for shape in list(kept) if (opened := kept.get(shape))]
    number, size = len(there), sum(nbytes for _, nbytes in there)
    for shape, nbytes in there:
        if number <= FEW_SPACES or (number <= MOST_SPACES and size <= most):
            return
        kept.pop(shape, None)
        number, size = number - 1, size - nbytes
