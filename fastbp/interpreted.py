"""Networks with pieces that run in Python: a loss or layers of a user's own.

Such a piece cuts the chain that the core runs in one call.  A loss cuts it in two: the core gives the output,
and goes back from the loss's derivative by it.  With layers a step goes layer by layer, the built-in ones by
their kernels, the others by their own methods, and ends with one native call that updates the parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _check, _native, metrics
from fastbp.architectures import widths
from fastbp.evaluator import Array
from fastbp.layers import Layer
from fastbp.learner import ELEMENT_FLOPS, Learner
from fastbp.losses import Loss
from fastbp.optimizers import Optimizer
from fastbp.views import Arrays

_OVERWRITTEN = (-1, -1)  # counts of no moment: what the layers kept of the last forward is gone


class OwnLayer(Layer):
    """A user's layer as a network runs it: its methods called, and what they give looked at."""

    def __init__(self, layer: Layer, in_features: int, out_features: int) -> None:
        self.layer = layer
        self.name = layer.name
        self.in_features: int = in_features
        self.out_features: int = out_features

    def __repr__(self) -> str:
        return repr(self.layer)

    @property
    def parameters(self) -> Arrays:
        return self.layer.parameters

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return self.layer._shapes()

    def _forward(self, x: NDArray[Any], threads: int | None) -> NDArray[Any]:
        return self._forward_over(x.copy(), threads)

    def _forward_over(self, x: NDArray[Any], threads: int | None) -> NDArray[Any]:
        output = self._checked(self.layer.forward(x), (len(x), self.out_features), x.dtype, "forward")
        self._kept = output[:, :0]  # how many rows they were
        return output

    def _apply(self, x: NDArray[Any], threads: int | None) -> NDArray[Any]:
        twin = type(self.layer).__new__(type(self.layer))  # so that what backward needs stays in the layer
        twin.__dict__.update(self.layer.__dict__)
        return self._checked(twin.forward(x), (len(x), self.out_features), x.dtype, "forward")

    def _backward(self, dy: NDArray[Any], threads: int | None) -> NDArray[Any]:
        return self._backward_over(dy.copy(), threads)

    def _backward_over(self, dy: NDArray[Any], threads: int | None) -> NDArray[Any]:
        self._kept_for(dy)
        for array in self.layer.gradients.values():
            array.fill(0.0)  # so that it may add to them, and one that it forgets is not the last batch's
        return self._checked(self.layer.backward(dy), (len(dy), self.in_features), dy.dtype, "backward")

    def _output_shape(self, kept: NDArray[Any]) -> tuple[int, ...]:
        return len(kept), self.out_features

    def _checked(self, given: Any, shape: tuple[int, int], dtype: np.dtype[Any], method: str) -> NDArray[Any]:
        """What a method gave, as a new array: the caller may write to it, and the layer may keep its own."""
        array = _check.numeric(given, f"what {self!r}.{method} gave")
        if array.shape != shape:
            raise ValueError(f"{self!r}.{method} gave shape {array.shape}, expected {shape}")
        with np.errstate(over="ignore", under="ignore"):
            return np.array(array, dtype, order="C", subok=False)

    def _bind(self, parameters: dict[str, NDArray[Any]], gradients: dict[str, NDArray[Any]]) -> None:
        self.layer._bind(parameters, gradients)

    def _release(self) -> None:
        self.layer._release()

    def _draw(self, rng: np.random.Generator, activation: str) -> None:
        self._kept = None
        self.layer._draw(rng, activation)


class InterpretedLearner(Learner):
    """A learner whose loss is computed in Python, between the two halves of a step in the core."""

    halves_steps = True

    def __init__(
        self, layers: Sequence[Layer], dtype: np.dtype[Any], loss: Loss, optimizer: Optimizer, seed: int
    ) -> None:
        super().__init__(layers, dtype, loss, optimizer, seed)
        if loss._runs_in_python():
            self.remedies += ", or in your loss what goes into a log or a division, as graph.clip does"

    def train_once(
        self, x: Array, y: Array, rule: Any, step: int, losses: NDArray[np.float64], cap: int
    ) -> int:
        try:
            return self.train(x, y, None, len(x), rule, step, losses, cap)
        finally:
            self.forget_large()

    def train(
        self,
        x: Array,
        y: Array,
        order: NDArray[np.int64] | None,
        batch_size: int,
        rule: Any,
        step: int,
        losses: NDArray[np.float64],
        cap: int,
    ) -> int:
        start = time.perf_counter()
        pace = self.pace(batch_size, cap, rule.updates)
        training = self.prepare(batch_size, y, pace.team)
        rows = len(x) if order is None else len(order)
        batches = -(-rows // batch_size)
        threads = pace.threads
        if threads > 1:
            threads = self.started(threads, rows, batches, rule.updates)
        for batch in range(batches):
            part = None if order is None else order[batch * batch_size : (batch + 1) * batch_size]
            loss = self._step(training, x, y, part, rule, step + batch, losses[batch:], threads)
            if not math.isfinite(loss):
                losses[batch] = loss
                return batch
        pace.took(threads, batches, start)
        return batches

    def _step(
        self,
        training: Any,
        x: Array,
        y: Array,
        rows: NDArray[np.int64] | None,
        rule: Any,
        step: int,
        losses: NDArray[np.float64],
        threads: int,
    ) -> float:
        """Train on some rows, or on all; the loss, which is not finite where nothing was done.

        The core writes it to ``losses[0]`` when all is done.
        """
        target = self._gather(y, rows)
        if not _check.is_finite(target, self.dtype):
            return math.nan
        output = self._propagate(training, x, rows, threads)
        if output is None:
            return math.nan
        loss, slope = self._score(output, target)
        if slope is not None:
            self._backpropagate(training, slope, rule, step, loss, losses, threads)
        return loss

    def _propagate(
        self, training: Any, x: Array, rows: NDArray[np.int64] | None, threads: int
    ) -> Array | None:
        """What the loss is computed from, a new array; None where a number is not finite."""
        count = len(x) if rows is None else len(rows)
        output = np.empty((count, self.plan.out_features), self.dtype)
        return output if self.native.propagate(training, x, rows, output, threads) else None

    def _backpropagate(
        self,
        training: Any,
        slope: Array,
        rule: Any,
        step: int,
        loss: float,
        losses: NDArray[np.float64],
        threads: int,
    ) -> None:
        """Train on the rows of the last `_propagate`, from the loss's derivative by what it gave."""
        moved = self.parameters if rule.updates else self.gradients
        self.native.backpropagate(training, moved, rule, slope, step, loss, losses, threads)

    def _score(self, output: Array, target: Array) -> tuple[float, Array | None]:
        """The loss of a batch, and its derivative by what enters it; NaN and None where it is not finite."""
        loss, slope = self.loss._value_and_gradient(output, self.loss._compared(output, target))
        if not math.isfinite(loss):
            return loss, None
        if slope is None or np.shape(slope) != output.shape:
            found = "None" if slope is None else f"shape {np.shape(slope)}"
            raise ValueError(f"{self.loss!r}.gradient gave {found}, expected shape {output.shape}")
        with np.errstate(over="ignore", under="ignore"):
            delta = np.array(slope, self.dtype, order="C")
        return (loss, delta) if _check.is_finite(delta, self.dtype) else (math.nan, None)

    def _gather(self, array: Array, rows: slice | NDArray[np.int64] | None) -> Array:
        """Some rows, or all, in the network's dtype, a new array."""
        picked = array if rows is None else array[rows]
        copy = not isinstance(rows, np.ndarray)  # which has made one
        with np.errstate(over="ignore", under="ignore"):
            return picked.astype(self.dtype, order="C", subok=False, copy=copy)

    def evaluate(self, x: Array, y: Array, threads: int) -> dict[str, float]:
        """As `Learner.evaluate`, but of all outputs at once: nobody knows how an own loss weighs parts."""
        _check.finite(y, self.dtype, "y")
        loss, output = self._loss_and_output(x, y, threads)
        measured = metrics.for_loss(self.loss.name)
        for metric in measured:
            metric.update(output, y)
        return {"loss": loss, **{metric.name: metric.result() for metric in measured}}

    def _loss_and_output(self, x: Array, y: Array, threads: int) -> tuple[float, Array]:
        """The loss over all rows and the network's output."""
        output = self.predict(x, threads)
        return self._loss_of(output, y), output

    def _loss_of(self, output: Array, y: Array) -> float:
        if not _check.is_finite(output, self.dtype):
            return math.nan
        return self.loss._one_value(output, self.loss._compared(output, self._gather(y, None)))


class LayerwiseLearner(InterpretedLearner):
    """A learner some of whose layers run in Python: its step goes layer by layer."""

    def __init__(
        self, layers: Sequence[Layer], dtype: np.dtype[Any], loss: Loss, optimizer: Optimizer, seed: int
    ) -> None:
        columns = widths(layers)
        wrapped = tuple(
            OwnLayer(layer, takes, gives) if layer._runs_in_python() else layer
            for layer, takes, gives in zip(layers, columns[:-1], columns[1:], strict=True)
        )
        super().__init__(wrapped, dtype, loss, optimizer, seed)
        # The cross entropies are computed from what enters the last activation, unless that runs in Python.
        logits = loss.last_activation is not None
        self._scores_in_python = loss._runs_in_python() or (logits and isinstance(wrapped[-1], OwnLayer))
        self._scored = wrapped[:-1] if logits and not self._scores_in_python else wrapped
        # The lowest layer with parameters: none below it needs the derivative by its output.
        self._first = next(number for number, places in enumerate(self.plan.slices) if places)

    def prepare(self, batch_size: int, y: Array, threads: int) -> None:
        _check.memory(batch_size * self.plan.row_bytes, f"a batch of {batch_size} rows")

    def train(self, *arguments: Any) -> int:
        try:
            return super().train(*arguments)
        finally:
            for layer in self.layers:  # backward needs a forward of the caller's
                layer._kept = None
            if self._forward_counts is not None:
                self._forward_counts = _OVERWRITTEN

    def _propagate(
        self, training: None, x: Array, rows: NDArray[np.int64] | None, threads: int
    ) -> Array | None:
        """As in the base class; each layer decides for itself on how many of so many threads."""
        a, is_free = self._gather(x, rows), True
        if not _check.is_finite(a, self.dtype):
            return None
        for layer in self._scored:
            a, is_free = layer._pass(a, is_free, threads)
            if isinstance(layer, OwnLayer) and not _check.is_finite(a, self.dtype):
                return None  # an activation behind it could hide it
        return a if is_free else a.copy()

    def _backpropagate(
        self,
        training: None,
        slope: Array,
        rule: Any,
        step: int,
        loss: float,
        losses: NDArray[np.float64],
        threads: int,
    ) -> None:
        for layer in self._scored[: self._first : -1]:
            slope = layer._backward_over(slope, threads)
        self._scored[self._first]._backward_last(slope, threads)
        if not rule.updates:
            losses[0] = loss
            return
        flops = ELEMENT_FLOPS * self.parameters.size
        team = _native.started_threads(_native.worthwhile_threads(threads, flops), flops)
        self.native.update(self.parameters, self.gradients, self.state, rule, step, loss, losses, team)

    def _score(self, output: Array, target: Array) -> tuple[float, Array | None]:
        if self._scores_in_python:
            return super()._score(output, target)
        slope = np.empty_like(output)
        loss = self._native_loss(output, target, slope)
        return loss, slope if math.isfinite(loss) else None

    def _native_loss(self, a: Array, target: Array, slope: Array) -> float:
        rows, summed = len(a), self.loss.reduction == "sum"
        columns, values, sums = target.reshape(rows, -1), np.empty(rows), np.empty(rows, self.dtype)
        loss: float = self.native.loss_gradient(self.loss_code, summed, a, columns, slope, values, sums)
        return loss

    def predict(self, x: Array, threads: int) -> Array:
        return self._output(x, threads)[1]

    def _loss_and_output(self, x: Array, y: Array, threads: int) -> tuple[float, Array]:
        entering, output = self._output(x, threads)
        if self._scores_in_python:
            return self._loss_of(output, y), output
        return self._native_loss(entering, self._gather(y, None), output[:0]), output

    def _output(self, x: Array, threads: int) -> tuple[Array, Array]:
        """What the loss is computed from, and the network's output, for all rows."""
        scored, output = (np.empty((len(x), self.plan.out_features), self.dtype) for _ in range(2))
        for first in range(0, len(x), self.part_rows):
            rows = slice(first, first + self.part_rows)
            a = self._gather(x, rows)
            if not _check.is_finite(a, self.dtype):
                self.refuse_nonfinite(x, None)
            for layer in self._scored:
                a = layer._apply(a, threads)
            scored[rows] = a
            for layer in self.layers[len(self._scored) :]:
                a = layer._apply(a, threads)
            output[rows] = a
        return scored, output


def learner_of(
    layers: Sequence[Layer], dtype: np.dtype[Any], loss: Loss, optimizer: Optimizer, seed: int
) -> Learner:
    """The learner that runs these layers and this loss: in the core, if nothing of them runs in Python."""
    if any(layer._runs_in_python() for layer in layers):
        kind: type[Learner] = LayerwiseLearner
    else:
        kind = InterpretedLearner if loss._runs_in_python() else Learner
    return kind(layers, dtype, loss, optimizer, seed)
