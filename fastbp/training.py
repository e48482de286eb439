"""The loop around the native call: epochs, slices, snapshots, validation, progress.

An epoch is cut into slices of batches, one native call each.  Between slices Python looks at the clock, at
Ctrl-C, at the progress bar, and at whether the loss is still a number.
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbp import _check, _native, _plan, metrics
from fastbp.losses import Loss
from fastbp.optimizers import Optimizer

SLICE_SECONDS = 0.05  # what a native call lasts: Ctrl-C answers at once, the call itself costs nothing
FIRST_RATE = 5e9  # flop/s, within anybody's reach: sizes the first slice, and the parts of an evaluation
PART_ROWS = 65536  # rows evaluated together at most: their outputs stay under a few MB
SNAPSHOT_STEPS, SNAPSHOT_ROWS = 256, 8192  # a copy of everything after so many costs under 2 % of them
REMEDIES = "try a smaller lr, inputs and targets scaled to about -1..1, or outliers clipped"
KEPT_SPACES = 4  # alternating shapes (training, validation, the short last batch) find theirs again

Real = NDArray[Any]
_Shape = tuple[int, int, int]  # rows, columns of the targets, threads
_Space = TypeVar("_Space")


class History:
    """What `Network.fit` measured, one number an epoch.

    Attributes
    ----------
    loss : list of float
        The mean of the batches' losses, each before its update, weighted by their rows; their sum for a loss
        with ``reduction="sum"``.
    val_loss : list of float
        The loss on the validation data after the epoch; empty without.
    val_metrics : dict of str to list of float
        The metrics that belong to the loss, on the validation data after the epoch; empty without.
    """

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.val_loss: list[float] = []
        self.val_metrics: dict[str, list[float]] = {}

    def __repr__(self) -> str:
        last = "".join(f", {name} {value:.6g}" for name, value in self.last().items())
        return f"<History of {len(self.loss)} epochs{last}>"

    def add_validation(self, measured: dict[str, float]) -> None:
        """Take in what `Network.evaluate` gives."""
        for name, value in measured.items():
            numbers = self.val_loss if name == "loss" else self.val_metrics.setdefault(name, [])
            numbers.append(value)

    def last(self) -> dict[str, float]:
        """The last epoch's numbers by name; empty before the first."""
        curves = {"loss": self.loss, "val_loss": self.val_loss}
        curves.update((f"val_{name}", numbers) for name, numbers in self.val_metrics.items())
        return {name: numbers[-1] for name, numbers in curves.items() if numbers}


class Learner:
    """The numbers of one network that training moves, and the native calls that move them.

    Everything is checked before it gets here.
    """

    def __init__(self, plan: _plan.Plan, dtype: np.dtype[Any], loss: Loss, optimizer: Optimizer) -> None:
        count = plan.parameter_count
        self.plan = plan
        self.dtype = dtype
        self.native = _native.kernels(dtype)
        self.loss = loss
        self.loss_code = _native.LOSSES[loss.name]
        self.optimizer = optimizer
        self.parameters: Real = _plan.aligned_zeros(count, dtype)
        self.gradients: Real = _plan.aligned_zeros(count, dtype)
        self.state: Real = _plan.aligned_zeros(optimizer.slots * count, dtype).reshape(optimizer.slots, count)
        self.seed = 0
        self.steps = 0  # updates made
        self.epochs = 0  # epochs completed
        self._no_gradients: Real = np.empty(0, dtype)
        self._no_state: Real = np.empty((0, count), dtype)
        self._all_rows = np.arange(0, dtype=np.int64)
        self._snapshot: _Snapshot | None = None
        self._part = int(min(PART_ROWS, max(256, SLICE_SECONDS * FIRST_RATE / plan.step_flops(1))))
        self._training_spaces: dict[_Shape, _plan.TrainingSpace] = {}
        self._evaluation_spaces: dict[_Shape, _plan.EvaluationSpace] = {}

    def settings(self) -> NDArray[np.float64]:
        """The numbers that the core needs in the current epoch."""
        reduction = float(self.loss.reduction == "sum")
        return np.array([reduction, *self.optimizer.settings(self.epochs)])

    def train(
        self,
        x: Real,
        y: Real,
        order: NDArray[np.int64],
        batch_size: int,
        step: int,
        settings: NDArray[np.float64],
        losses: NDArray[np.float64],
        threads: int,
        rule: str | None = None,
    ) -> int:
        """Train on the rows in ``order``, batch by batch; gives how many there were before a non-finite loss.

        ``rule`` "gradient" stores a batch's gradient instead of updating.
        """
        threads = self.plan.training_threads(batch_size, threads)
        shape = batch_size, 1 if y.ndim == 1 else y.shape[1], threads
        space = self._training_spaces.pop(shape, None) or self.plan.training_space(*shape)
        gradients, state = self._no_gradients, self.state
        if rule == "gradient":
            gradients, state = self.gradients, self._no_state
        done: int = self.native.train(
            space.stages,
            space.layout,
            self.parameters,
            gradients,
            state,
            self.loss_code,
            _native.OPTIMIZERS[rule or self.optimizer.name],
            settings,
            x,
            y,
            order,
            batch_size,
            step,
            space.array,
            losses,
            threads,
        )
        _keep(self._training_spaces, shape, space)
        return done

    def update(self, x: Real, y: Real, threads: int) -> float:
        """One update on all rows as one batch; gives the loss before it."""
        rows = len(x)
        losses = np.empty(1)
        settings = self.settings()
        self.steps += 1  # before the call, so that Ctrl-C right after it finds the update counted
        if not self.train(x, y, self._first_rows(rows), rows, self.steps - 1, settings, losses, threads):
            self.steps -= 1
            self.refuse_nonfinite(x, y)
            raise FloatingPointError(f"the loss is {losses[0]}: nothing was updated; {REMEDIES}")
        return float(losses[0])

    def differentiate(self, x: Real, y: Real, threads: int) -> float:
        """The gradient of the loss over all rows, into ``gradients``; gives the loss."""
        rows = len(x)
        losses = np.empty(1)
        settings = self.settings()
        if not self.train(x, y, self._first_rows(rows), rows, 0, settings, losses, threads, "gradient"):
            self.refuse_nonfinite(x, y)
            raise FloatingPointError(f"the loss is {losses[0]}: it has no gradient; {REMEDIES}")
        return float(losses[0])

    def refuse_nonfinite(self, x: Real, y: Real | None) -> None:
        """Name the first entry of x, or else of y, that is not a finite number of the network's dtype."""
        _check.finite(x, self.dtype, "x")
        if y is not None:
            _check.finite(y, self.dtype, "y")

    def is_finite(self) -> bool:
        """Whether every parameter and all of the optimiser's state is a finite number."""
        return _check.is_finite(self.parameters, self.dtype) and _check.is_finite(
            self.state.reshape(-1), self.dtype
        )

    def snapshot(self) -> _Snapshot:
        """A copy of the present state in memory that is kept from one call to the next."""
        if self._snapshot is None:
            self._snapshot = _Snapshot(self)
        self._snapshot.counts = None
        self._snapshot.take(self)
        return self._snapshot

    def predict(self, x: Real, threads: int) -> Real:
        """The last layer's output for every row."""
        rows = len(x)
        output = np.empty((rows, self.plan.out_features), self.dtype)
        for first in range(0, rows, self._part):
            self._forward(x, None, first, output[first : first + self._part], threads)
        return output

    def evaluate(self, x: Real, y: Real, threads: int) -> dict[str, float]:
        """The loss over all rows and the metrics that belong to it."""
        rows = len(x)
        total = 0.0
        measured = metrics.for_loss(self.loss.name)
        output = np.empty((min(rows, self._part), self.plan.out_features), self.dtype)
        for first in range(0, rows, self._part):
            part = output[: rows - first]
            total += self._forward(x, y, first, part, threads)
            for metric in measured:
                metric.update(part, y[first : first + self._part])
        loss = total / self.loss.divisor(rows, self.plan.out_features)
        return {"loss": loss, **{metric.name: metric.result() for metric in measured}}

    def _forward(self, x: Real, y: Real | None, first: int, output: Real, threads: int) -> float:
        rows = len(output)
        threads = self.plan.evaluation_threads(rows, threads)
        target_columns = 0 if y is None else 1 if y.ndim == 1 else y.shape[1]
        capacity = (
            1 << (rows - 1).bit_length()
        )  # not the exact number: calls with ever other rows share a space
        shape = capacity, target_columns, threads
        space = self._evaluation_spaces.pop(shape, None) or self.plan.evaluation_space(*shape)
        total: float
        total, finite = self.native.evaluate(
            self.plan.stages,
            self.parameters,
            self.loss_code,
            x,
            y,
            first,
            output,
            space.array,
            space.width,
            space.block,
            space.packed,
            threads,
        )
        _keep(self._evaluation_spaces, shape, space)
        if not (finite and math.isfinite(total)):
            self.refuse_nonfinite(x, y)
        return total

    def _first_rows(self, rows: int) -> NDArray[np.int64]:
        if len(self._all_rows) < rows:
            self._all_rows = np.arange(rows, dtype=np.int64)
        return self._all_rows[:rows]


def _keep(spaces: dict[_Shape, _Space], shape: _Shape, space: _Space) -> None:
    """Give a workspace back; it was taken out for the call, because several threads may predict at once."""
    if len(spaces) >= KEPT_SPACES:
        spaces.pop(next(iter(spaces)), None)  # the one that was given back longest ago
    spaces[shape] = space


def fit(
    learner: Learner,
    x: Real,
    y: Real,
    *,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    validation: tuple[Real, Real] | None,
    threads: int,
    verbose: bool | None,
) -> History:
    """Train for some epochs; the arguments of `Network.fit`, checked."""
    history = History()
    run = _Run(learner, x, y, min(batch_size, len(x)), shuffle, threads)
    bar = run.bar = _progress_bar(verbose, epochs * run.batches)
    try:
        for _ in range(epochs):
            history.loss.append(run.epoch())
            if validation is not None:
                history.add_validation(learner.evaluate(*validation, threads))
            if bar is not None:
                bar.set_postfix(history.last(), refresh=False)
        if epochs and not _check.is_finite(learner.parameters, learner.dtype):  # no loss has seen the last update
            run.give_up("the last update overflowed", learner.epochs - 1)
    finally:
        if bar is not None:
            bar.close()
    return history


class _Run:
    """One call of `fit`: its data, the order of the rows, its pace, and the way back."""

    def __init__(
        self, learner: Learner, x: Real, y: Real, batch_size: int, shuffle: bool, threads: int
    ) -> None:
        rows = len(x)
        self.learner = learner
        self.x, self.y = x, y
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.threads = threads
        self.order = np.arange(rows, dtype=np.int64)
        self.batches = -(-rows // batch_size)
        self.losses = np.empty(self.batches)
        self.pace = SLICE_SECONDS * FIRST_RATE / learner.plan.step_flops(batch_size)  # batches a native call
        self.start: _Snapshot | None = learner.snapshot()  # until every row has been read
        self.snapshot = self.start
        self.snapshot_steps = max(SNAPSHOT_STEPS, -(-SNAPSHOT_ROWS // batch_size))
        self.bar: Any = None

    def epoch(self) -> float:
        """Train on every row once; gives the epoch's loss."""
        learner = self.learner
        if self.shuffle:
            _native.shuffle(self.order, learner.seed, learner.epochs)
        settings = learner.settings()
        first_step = learner.steps
        self.losses.fill(math.nan)  # what stays NaN was not trained on
        try:
            done = 0
            while done < self.batches:
                step = first_step + done
                to_snapshot = self.snapshot_steps - step % self.snapshot_steps
                count = min(max(1, int(self.pace)), self.batches - done, to_snapshot)
                finite = self._train_slice(done, count, step, settings)
                done += finite
                learner.steps = first_step + done
                if finite < count:
                    break
                if count == to_snapshot:
                    self._take_snapshot()
        except BaseException:
            # Ctrl-C can strike between the native call and the line that counts its steps
            learner.steps = first_step + int(np.isfinite(self.losses).sum())
            raise
        if done < self.batches:
            self._refuse_batch(self.order[done * self.batch_size : (done + 1) * self.batch_size])
            reason = f"the loss became {self.losses[done]} at batch {done + 1} of {self.batches}"
            self.give_up(reason, learner.epochs)
        learner.epochs += 1
        self.start = None
        return self._mean_loss()

    def _refuse_batch(self, rows: NDArray[np.int64]) -> None:
        """Where the batch holds a number that is not finite, undo the call and name the first in the data."""
        parts = (rows[first : first + PART_ROWS] for first in range(0, len(rows), PART_ROWS))
        dtype = self.learner.dtype
        if all(_check.is_finite(array[part], dtype) for part in parts for array in (self.x, self.y)):
            return
        (self.start or self.snapshot).restore(self.learner)
        self.learner.refuse_nonfinite(self.x, self.y)

    def _take_snapshot(self) -> None:
        """Replace the last snapshot, but not that of the start while a row may yet turn out to be bad."""
        if self.snapshot is self.start:
            self.snapshot = _Snapshot(self.learner)
        self.snapshot.take(self.learner)

    def give_up(self, reason: str, epoch: int) -> NoReturn:
        """Go back to the last finite snapshot and say so."""
        learner = self.learner
        lr = learner.optimizer.learning_rate(epoch)
        if self.snapshot.restore(learner):
            outcome = f"the network is back at step {learner.steps}"
        else:
            outcome = "the parameters were not finite before either: reset() starts anew"
        where = f"in epoch {epoch} (counted from 0) with lr {lr:g}"
        raise FloatingPointError(f"{reason} {where}; {outcome}; {REMEDIES}")

    def _train_slice(self, done: int, count: int, step: int, settings: NDArray[np.float64]) -> int:
        """Train ``count`` batches from batch ``done`` on, and set the pace for the next slice."""
        order = self.order[done * self.batch_size : (done + count) * self.batch_size]
        losses = self.losses[done : done + count]
        start = time.perf_counter()
        finite = self.learner.train(
            self.x, self.y, order, self.batch_size, step, settings, losses, self.threads
        )
        self.pace = SLICE_SECONDS * count / max(time.perf_counter() - start, 1e-9)
        if self.bar is not None:
            self.bar.update(finite)
        return finite

    def _mean_loss(self) -> float:
        """The batches' losses weighted by their rows; their sum where the loss is a sum."""
        if self.learner.loss.reduction == "sum":
            return float(self.losses.sum())
        rows = len(self.order)
        last = rows - (self.batches - 1) * self.batch_size  # rows of the last batch, often a short one
        if last == self.batch_size:
            return float(self.losses.mean())
        return float((self.losses[:-1].sum() * self.batch_size + self.losses[-1] * last) / rows)


class _Snapshot:
    """Room for a copy of a learner's numbers from a time when they were finite."""

    def __init__(self, learner: Learner) -> None:
        self.parameters = np.empty_like(learner.parameters)
        self.state = np.empty_like(learner.state)
        self.counts: tuple[int, int] | None = None

    def take(self, learner: Learner) -> None:
        """Copy, unless a parameter or the state is not finite."""
        if learner.is_finite():
            self.parameters[:] = learner.parameters
            self.state[:] = learner.state
            self.counts = learner.steps, learner.epochs

    def restore(self, learner: Learner) -> bool:
        """Copy back; False when there never was a finite state."""
        if self.counts is None:
            return False
        learner.parameters[:] = self.parameters
        learner.state[:] = self.state
        learner.steps, learner.epochs = self.counts
        return True


def _progress_bar(verbose: bool | None, batches: int) -> Any:
    """A tqdm bar over batches when one is asked for, or tqdm is there and a person is looking; else None."""
    if verbose is False or (verbose is None and not (sys.stderr and sys.stderr.isatty())):
        return None
    try:
        tqdm = importlib.import_module("tqdm")  # a plain import would make the type checker ask for its stubs
    except ImportError:
        if verbose:
            raise ImportError("verbose=True shows a tqdm bar: python -m pip install tqdm") from None
        return None
    return tqdm.tqdm(total=batches, unit="batch")
