"""The learner: what training moves of one network, and the native calls that move it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from threading import get_ident
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _check, _native, _plan
from fastbp.columns import aligned
from fastbp.evaluator import FIRST_RATE, Array, Evaluator, Opened, Shape, make_room
from fastbp.exclusive import BUSY, calls, exclusive
from fastbp.layers import Layer
from fastbp.losses import Loss
from fastbp.metrics import History
from fastbp.optimizers import Optimizer
from fastbp.pace import Pace
from fastbp.snapshot import Progress, Snapshot, is_blank

OVERFLOWED = "parameters or optimiser state are not finite, an earlier update overflowed: reset() starts anew"
EXAMINED_STEPS = 256  # single updates until all is looked at: what has overflowed may hide from the losses
ELEMENT_FLOPS = 10  # of a vector gone through once, roughly: whether a second thread pays
KEPT_PACES = 64

_NO_COUNTS = (0, 0)
_NO_UPDATE = _native.Rule("gradient")
_NO_EPOCH = -1  # for the number of batches in an epoch: however many are made, none is completed


class Learner(Evaluator):
    """The numbers of one network that training moves, and the native calls that move them.

    Takes the layers over: their parameters and gradients become views into its flat vectors.
    """

    halves_steps = False  # the loss is computed elsewhere, between two calls of the core
    # For a loss that is not finite.
    remedies = "try a smaller lr, inputs and targets scaled to about -1..1, or outliers clipped"

    def __init__(
        self, layers: Sequence[Layer], dtype: np.dtype[Any], loss: Loss, optimizer: Optimizer, seed: int
    ) -> None:
        count = sum(math.prod(shape) for layer in layers for shape in layer._shapes().values())
        size = count * dtype.itemsize * (2 + optimizer.slots)
        _check.memory(size, f"a network of {count:,} parameters with gradients and optimiser state")
        super().__init__(_plan.lower(layers, dtype), loss)
        self.layers = layers
        self.optimizer = optimizer
        self.gradients: Array = _plan.aligned_zeros(count, dtype)
        slots = optimizer.slots
        self.state: Array = _plan.aligned_zeros(slots * count, dtype).reshape(slots, count)
        self._shared_updates = self.plan.shared_rows(self.state.size)
        self.seed = seed
        self.history = History()  # of the last fit
        self.progress: Progress = (0, 0, None, 0)
        self._forward_counts: tuple[int, int] | None = None  # when the last forward ran through all layers
        self.clock: NDArray[np.float64] | None = None  # where the core adds up what its phases took
        self._paces: dict[tuple[int, int, bool], Pace] = {}
        self._snapshot: Snapshot | None = None
        self._constant_rule: Any = None  # it stays None where lr is a function
        self.go_on_with(optimizer)
        self._trainings: dict[Shape, Opened] = {}
        self._has_large_training = False  # among them
        self._single_loss = np.empty(1)
        for layer, slices in zip(layers, self.plan.slices, strict=True):
            parameters, gradients = (
                {name: vector[span].reshape(shape) for name, (span, shape) in slices.items()}
                for vector in (self.parameters, self.gradients)
            )
            layer._bind(parameters, gradients)
        try:
            self._draw(seed)
        except BaseException:  # a user's own initializer may fail
            for layer in layers:
                layer._release()
            raise

    def summary(self) -> str:
        """A table of the layers with their outputs and parameters, and what the network is trained with."""
        features = self.plan.in_features
        rows = [("layer", "output", "parameters")]
        for index, layer in enumerate(self.layers):
            features = layer.out_features or features
            count = sum(array.size for array in layer.parameters.values())
            rows.append((f"{index}  {layer!r}", f"{features:,}", f"{count:,}"))
        size = self.parameters.nbytes * (2 + self.optimizer.slots) / 1e6
        lines = aligned([*rows, ("total", "", f"{self.parameters.size:,}")], "<>>", apart=4)
        lines.append(f"{self.dtype}, {size:.3g} MB with gradients and optimiser state")
        lines.append(f"loss {self.loss!r}, optimizer {self.optimizer!r}")
        return "\n".join(lines)

    @exclusive
    def go_on_with(self, optimizer: Optimizer) -> None:
        """Other settings of the same rule, which goes on from what it remembers."""
        if (optimizer.name, optimizer.slots) != (self.optimizer.name, self.optimizer.slots):
            raise ValueError(
                f"optimizer is {optimizer!r}, which cannot go on from what {self.optimizer!r} remembers: "
                "build a network with it, and assign to its parameters[:]"
            )
        constant = None if callable(optimizer.lr) else _rule_of(optimizer, 0)
        self.optimizer, self._constant_rule = optimizer, constant

    @exclusive
    def reset(self, seed: int) -> None:
        """Draw the parameters, forget all state, count from 0; or leave all as it is where drawing fails."""
        before = self.parameters.copy()
        try:
            self._draw(seed)
            history, gradients, state = History(), _written(self.gradients), _written(self.state)
        except BaseException:  # a user's own layer or initializer may fail, or Ctrl-C strike
            self.parameters[:] = before
            raise
        gradients[:] = 0.0  # by statements without a call: between them no Ctrl-C can strike
        state[:] = 0.0
        self.seed, self.history = seed, history
        self.progress = (*_NO_COUNTS, None, 0)  # a new tuple each time: `moment` looks for one

    def _draw(self, seed: int) -> None:
        """Draw the parameters."""
        rng = np.random.default_rng(seed)
        followers = [layer.name for layer in self.layers[1:]] + ["identity"]
        for layer, follower in zip(self.layers, followers, strict=True):
            layer._draw(rng, follower)

    @property
    def counts(self) -> tuple[int, int]:
        """Updates made and epochs completed, true together at any moment.

        While a call trains, the losses that the core has written count what it did: no line of Python has to
        run behind a native call for it.
        """
        steps, epochs, losses, batches = self.progress
        if losses is None:
            return steps, epochs
        made = int(np.isfinite(losses).sum())
        return steps + made, epochs + (made == batches)

    def rule(self) -> Any:
        """How the core is to update the parameters in the current epoch."""
        return self._constant_rule or _rule_of(self.optimizer, self.counts[1])

    def moment(self) -> dict[str, Any]:
        """All but the layers, numbers as copies, of one moment; who trains may ask between native calls."""
        before = self.progress
        found = {
            "loss": self.loss,
            "optimizer": self.optimizer,
            "dtype": self.dtype,
            "seed": self.seed,
            "parameters": self.parameters.copy(),
            "state": self.state.copy(),
            "counts": self.counts,
        }
        call = calls.get(self)
        if self.progress is not before or (call is not None and call[0] != get_ident()):
            raise RuntimeError(BUSY)
        return found

    @exclusive
    def forward(self, x: Array, threads: int) -> Array:
        """The output, layer by layer, each of which keeps what its backward needs."""
        self._forward_counts = None  # a layer may fail
        is_free = False
        for layer in self.layers:
            x, is_free = layer._pass(x, is_free, threads)
            layer._ran_alone = False
        self._forward_counts = self.counts
        return x if is_free else x.copy()

    @exclusive
    def backward(self, dy: ArrayLike, threads: int) -> Array:
        """The derivative by the last forward's input, layer by layer, and into ``gradients``."""
        is_last = self._forward_counts == self.counts and not any(layer._ran_alone for layer in self.layers)
        if not is_last and (self.layers[-1]._kept is not None or self._forward_counts is not None):
            raise ValueError(
                "backward needs a forward of the whole network before it, "
                "none since a layer ran alone or the network was trained"
            )
        dx = self.layers[-1].backward(dy, threads)
        for layer in self.layers[-2::-1]:
            dx = layer._backward_over(dx, threads)
        return dx

    def train_once(
        self, x: Array, y: Array, rule: Any, step: int, losses: NDArray[np.float64], cap: int
    ) -> int:
        """Train on all rows as one batch, as `train`; on one thread there is no pace to be kept."""
        rows = len(x)
        done: int
        try:
            if cap == 1:
                training = self.prepare(rows, y, 1)
                moved = self.parameters if rule.updates else self.gradients
                done, _ = self.native.train(training, moved, rule, x, y, None, step, losses, 1, self.clock)
            else:
                done = self.train(x, y, None, rows, rule, step, losses, cap)
        finally:
            if self._has_large_training:
                self.forget_large()
        return done

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
        """Train on the rows in ``order``, batch by batch; how many until a loss was not finite.

        ``order`` None: on all as one batch.
        What a team leaves that breaks up, since its threads are kept waiting, goes on as the pace says.
        """
        pace = self.pace(batch_size, cap, rule.updates)
        training = self.prepare(batch_size, y, pace.team)
        moved = self.parameters if rule.updates else self.gradients
        rows = batch_size if order is None else len(order)
        steps = -(-rows // batch_size)
        threads = pace.threads
        if threads > 1:
            threads = self.started(threads, rows, steps, rule.updates)
        timed = pace.team > 1 or order is not None
        start = time.perf_counter() if timed else 0.0
        done: int
        done, hindered = self.native.train(
            training, moved, rule, x, y, order, step, losses, threads, self.clock
        )
        if timed and (hindered or done == steps):  # else fewer were done in that time
            pace.took(threads, done, start, hindered)
        while hindered and done < steps:  # the team broke up
            some = min(pace.steps, steps - done)
            part = None if order is None else order[done * batch_size : (done + some) * batch_size]
            made = self.train(x, y, part, batch_size, rule, step + done, losses[done:], cap)
            done, hindered = done + made, made == some
        return done

    def updated(self, updates: bool) -> int:
        """How many numbers of optimiser state a step changes, if it ``updates`` anything."""
        return self.state.size if updates else 0

    def started(self, threads: int, rows: int, steps: int, updates: bool) -> int:
        """``threads`` for so many steps; 1 while such calls so far would not pay for starting a team."""
        return _native.started_threads(threads, self.plan.step_flops(rows, steps * self.updated(updates)))

    def pace(self, batch_size: int, cap: int, updates: bool = True) -> Pace:
        """What is known of steps of so many rows on at most ``cap`` threads."""
        key = batch_size, cap, updates
        pace = self._paces.get(key)
        if pace is None:
            updated = self.updated(updates)
            guess = self.plan.step_flops(batch_size, updated) / FIRST_RATE
            pace = Pace(self.plan.training_threads(batch_size, cap, updated), guess)
            if len(self._paces) == KEPT_PACES:
                del self._paces[next(iter(self._paces))]
            self._paces[key] = pace
        return pace

    def prepare(self, batch_size: int, y: Array, threads: int) -> Any:
        """The core's training of one shape, kept for later calls; refused where memory does not suffice."""
        shape = batch_size, 1 if y.ndim == 1 or self.halves_steps else y.shape[1], threads
        return (self._trainings.get(shape) or self._open_training(shape))[0]

    def _open_training(self, shape: Shape) -> Opened:
        rows, target_columns, threads = shape
        space = self.plan.training_space(rows, target_columns, threads, halved=self.halves_steps)
        size = space.nbytes + 8 * rows  # with the rows' order
        _check.memory(size, f"a batch of {rows} rows")
        self._has_large_training |= size > self.kept_bytes
        training = self.native.open_training(
            space.table,
            space.layout,
            np.arange(rows, dtype=np.int64),
            self.parameters,
            self.gradients,
            self.state,
            space.array,
            self.loss_code,
            self.loss.reduction == "sum",
            target_columns,
            threads,
            self.halves_steps,
        )
        self._trainings[shape] = opened = training, size
        make_room(self._trainings, self.kept_bytes)
        return opened

    def update(self, x: Array, y: Array, threads: int) -> float:
        """One update on all rows as one batch; gives the loss before it."""
        call = [get_ident()]
        try:  # as in exclusive, without what a call through a wrapper costs one step of a small network
            if calls.setdefault(self, call) is not call:
                raise RuntimeError(BUSY)
            rule = self._constant_rule or self.rule()
            steps, epochs, unsettled, _ = self.progress
            if unsettled is not None:  # Ctrl-C struck behind an update, which is counted by its loss
                steps, epochs = self.counts
                self._single_loss = np.empty(1)
            losses = self._single_loss
            losses[0] = math.nan
            self.progress = steps, epochs, losses, _NO_EPOCH
            done = self.train_once(x, y, rule, steps, losses, threads)
            if done:
                self.progress = steps + 1, epochs, None, 0
                if steps % EXAMINED_STEPS == EXAMINED_STEPS - 1 and not self.is_finite(threads):
                    raise FloatingPointError(f"{OVERFLOWED}; {self.remedies}")
            else:
                self._refuse_update(x, y, float(losses[0]))
            return losses.item()
        finally:
            if self in calls and calls[self] is call:
                del calls[self]

    def _refuse_update(self, x: Array, y: Array, loss: float) -> NoReturn:
        self.refuse_nonfinite(x, y)
        reason = f"the loss is {loss}: nothing was updated"
        if not _check.is_finite(self.parameters, self.dtype):
            reason += f"; {OVERFLOWED}"
        raise FloatingPointError(f"{reason}; {self.remedies}")

    @exclusive
    def differentiate(self, x: Array, y: Array, threads: int) -> tuple[float, Array]:
        """The loss over all rows, and a copy of its gradient, which goes into ``gradients``."""
        losses = np.empty(1)
        if not self.train_once(x, y, _NO_UPDATE, 0, losses, threads):
            self.refuse_nonfinite(x, y)
            raise FloatingPointError(f"the loss is {losses[0]}: it has no gradient; {self.remedies}")
        return float(losses[0]), self.gradients.copy()

    def forget_large(self) -> None:
        """Let go of the workspaces, once there is one that is too large to keep."""
        if self._has_large_training:
            self._trainings.clear()
            self._has_large_training = False

    def is_finite(self, threads: int) -> bool:
        """Whether every parameter and all of the optimiser's state is a finite number."""
        return self.examine(self.parameters, threads) and self.examine(self.state, threads)

    def examine(self, values: Array, threads: int, copy: Array | None = None) -> bool:
        """Whether all values are finite; copied, too, where there is room for a copy."""
        flops = ELEMENT_FLOPS * values.size
        if _native.worthwhile_threads(threads, flops) < threads:
            threads = 1  # or all: OpenMP lets threads go, and starts them anew, where teams grow and shrink
        threads = _native.started_threads(threads, flops)
        room = None if copy is None else copy.reshape(-1)
        finite: bool = self.native.examine(values.reshape(-1), threads, room)
        return finite

    def snapshot(self, threads: int) -> Snapshot:
        """A copy of the present state in memory that is kept from one call to the next."""
        if self._snapshot is None:
            self._snapshot = Snapshot(self)
        counts = self.counts
        blank = counts[0] == 0 and is_blank(self.state)
        self._snapshot.take(self, (*counts, None, 0), blank, threads)
        return self._snapshot


def _rule_of(optimizer: Optimizer, epoch: int) -> Any:
    """The core's rule for an epoch."""
    return _native.Rule(optimizer.name, **optimizer.settings(epoch))


def _written(array: Array) -> Array:
    """The array, or nothing of one that is blank: never written to, perhaps, it takes no memory yet."""
    return array[:0] if is_blank(array) else array
