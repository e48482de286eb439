"""The learner: what training moves of one network, and the native calls that move it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from threading import get_ident
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _check, _native, _plan, metrics
from fastbp.exclusive import BUSY, calls, exclusive
from fastbp.layers import Layer
from fastbp.losses import Loss
from fastbp.metrics import History
from fastbp.optimizers import Optimizer
from fastbp.pace import SLICE_SECONDS, Pace
from fastbp.snapshot import Progress, Snapshot, is_blank

FIRST_RATE = 5e9  # flop/s, within anybody's reach: sizes the first calls, and the parts of an evaluation
EVALUATED_ROWS, EVALUATED_OUTPUTS = 65536, 1 << 19  # together at most: outputs stay under a few MB
OVERFLOWED = "parameters or optimiser state are not finite, an earlier update overflowed: reset() starts anew"
EXAMINED_STEPS = 256  # single updates until all is looked at: what has overflowed may hide from the losses
ELEMENT_FLOPS = 10  # of a vector gone through once, roughly: whether a second thread pays
KEPT_SPACES = 4  # calls of alternating shapes find theirs again
KEPT_PACES = 64
KEPT_BYTES = 32 << 20  # of a workspace, or 4 times the parameters: what is larger goes after the call

Array = NDArray[Any]

_Shape = tuple[int, int, int]  # rows, columns of the targets, threads
_Opened = tuple[Any, ...]  # what calls of one shape have in common, as memoryviews and numbers
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_NO_COUNTS = (0, 0)
_UNTRAINED = np.full(1, math.nan)
_NO_EPOCH = -1  # batches that never are as many as an epoch has


class Learner:
    """The numbers of one network that training moves, and the native calls that move them.

    Takes the layers over: their parameters and gradients become views into its flat vectors.
    """

    # For a loss that is not finite.
    remedies = "try a smaller lr, inputs and targets scaled to about -1..1, or outliers clipped"

    def __init__(
        self, layers: Sequence[Layer], dtype: np.dtype[Any], loss: Loss, optimizer: Optimizer, seed: int
    ) -> None:
        count = sum(math.prod(shape) for layer in layers for shape in layer._shapes().values())
        size = count * dtype.itemsize * (2 + optimizer.slots)
        _check.memory(size, f"a network of {count:,} parameters with gradients and optimiser state")
        plan = _plan.lower(layers, dtype)
        self.layers = layers
        self.plan = plan
        self.dtype = dtype
        self.native = _native.kernels(dtype)
        self.loss = loss
        self.loss_code = _native.LOSSES.get(loss.name, -1)
        self.optimizer = optimizer
        self.parameters: Array = _plan.aligned_zeros(count, dtype)
        self.gradients: Array = _plan.aligned_zeros(count, dtype)
        slots = optimizer.slots
        self.state: Array = _plan.aligned_zeros(slots * count, dtype).reshape(slots, count)
        self.seed = seed
        self.history = History()  # of the last fit
        self.progress: Progress = (0, 0, None, 0)
        self._forward_counts: tuple[int, int] | None = None  # when the last forward ran through all layers
        self.clock: NDArray[np.float64] | None = None  # where the core adds up what its phases took
        self._paces: dict[tuple[int, int, bool], Pace] = {}
        self._no_gradients: Array = np.empty(0, dtype)
        self._no_state: Array = np.empty((0, count), dtype)
        self._snapshot: Snapshot | None = None
        self._constant_settings: NDArray[np.float64] | None = None
        self.go_on_with(optimizer)
        largest = min(EVALUATED_ROWS, -(-EVALUATED_OUTPUTS // plan.out_features))
        self._part = int(min(largest, max(256, SLICE_SECONDS * FIRST_RATE / plan.step_flops(1))))
        self._kept_bytes = max(KEPT_BYTES, 4 * self.parameters.nbytes)
        self._training_spaces: dict[_Shape, _Opened] = {}
        self._has_large_space = False  # among them
        self._evaluation_spaces: dict[_Shape, _Opened] = {}
        for layer, slices in zip(layers, plan.slices, strict=True):
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
        lines = [f"{'layer':<28}{'output':>10}{'parameters':>14}"]
        for index, layer in enumerate(self.layers):
            features = layer.out_features or features
            count = sum(array.size for array in layer.parameters.values())
            lines.append(f"{f'{index}  {layer!r}':<28}{features:>10,}{count:>14,}")
        size = self.parameters.nbytes * (2 + self.optimizer.slots) / 1e6
        lines.append(f"{'total':<28}{'':>10}{self.parameters.size:>14,}")
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
        constant = None if callable(optimizer.lr) else self._settings_of(optimizer)
        self.optimizer, self._constant_settings = optimizer, constant

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

    def pair(
        self, x: ArrayLike, y: ArrayLike, names: tuple[str, str] = ("x", "y")
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Data and targets, checked but for entries that are not finite: the core meets those as it reads."""
        data = _check.features(x, self.plan.in_features, names[0])
        return data, _check.targets(y, len(data), self.plan.out_features, self.loss.target, names)

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

    def settings(self) -> NDArray[np.float64]:
        """The numbers that the core needs in the current epoch."""
        if self._constant_settings is not None:
            return self._constant_settings
        return self._settings_of(self.optimizer)

    def _settings_of(self, optimizer: Optimizer) -> NDArray[np.float64]:
        reduction = float(self.loss.reduction == "sum")
        return np.array([reduction, *optimizer.settings(self.counts[1])])

    def moment(self) -> dict[str, Any]:
        """Copies of the numbers, all of one moment; the thread that trains may ask, between native calls."""
        before = self.progress
        numbers = {"parameters": self.parameters.copy(), "state": self.state.copy(), "counts": self.counts}
        call = calls.get(self)
        if self.progress is not before or (call is not None and call[0] != get_ident()):
            raise RuntimeError(BUSY)
        return numbers

    @exclusive
    def forward(self, x: Array, threads: int) -> Array:
        """The output, layer by layer, each of which keeps what its backward needs."""
        self._forward_counts = None  # a layer may fail
        for layer in self.layers:
            x = layer._forward(x, threads)
            layer._ran_alone = False
        self._forward_counts = self.counts
        return x

    @exclusive
    def backward(self, dy: ArrayLike, threads: int) -> Array:
        """The derivative by the last forward's input, layer by layer, and into ``gradients``."""
        is_last = self._forward_counts == self.counts and not any(layer._ran_alone for layer in self.layers)
        if self.layers[-1]._kept is not None and not is_last:
            raise ValueError(
                "backward needs a forward of the whole network before it, "
                "none since a layer ran alone or the network was trained"
            )
        dx = self.layers[-1].backward(dy, threads)
        for layer in self.layers[-2::-1]:
            dx = layer._backward(dx, threads)
        return dx

    def train(
        self,
        x: Array,
        y: Array,
        order: NDArray[np.int64] | None,
        batch_size: int,
        step: int,
        settings: NDArray[np.float64],
        losses: NDArray[np.float64],
        cap: int,
        update: bool = True,
    ) -> int:
        """Train on the rows in ``order``, batch by batch; how many until a loss was not finite.

        ``order`` None: on all as one batch.  Without ``update`` the gradient is stored.
        What a team leaves that breaks up, since its threads are kept waiting, goes on as the pace says.
        """
        pace = self.pace(batch_size, cap, update)
        stages, layout, all_rows, gradients, state, workspace = self.prepare(batch_size, y, pace.team)
        rows = all_rows if order is None else order
        steps = 1 if order is None else -(-len(rows) // batch_size)
        threads = pace.threads
        if threads > 1:
            threads = _native.started_threads(threads, self.plan.step_flops(len(rows)))
        timed = pace.team > 1 or order is not None
        start = time.perf_counter() if timed else 0.0
        if not update:
            gradients, state = self.gradients, self._no_state
        done: int
        done, hindered = self.native.train(
            stages,
            layout,
            self.parameters,
            gradients,
            state,
            self.loss_code,
            _native.OPTIMIZERS[self.optimizer.name if update else "gradient"],
            settings,
            x,
            y,
            rows,
            batch_size,
            step,
            workspace,
            losses,
            threads,
            self.clock,
        )
        if timed and (hindered or done == steps):  # else fewer were done in that time
            pace.took(threads, done, start, hindered)
        while hindered and done < steps:  # the team broke up
            some = min(pace.steps, steps - done)
            part = rows[done * batch_size : (done + some) * batch_size]
            made = self.train(x, y, part, batch_size, step + done, settings, losses[done:], cap, update)
            done, hindered = done + made, made == some
        if order is None:
            self.forget_large()
        return done

    def pace(self, batch_size: int, cap: int, update: bool = True) -> Pace:
        """What is known of steps of so many rows on at most ``cap`` threads."""
        key = batch_size, cap, update
        pace = self._paces.get(key)
        if pace is None:
            guess = self.plan.step_flops(batch_size) / FIRST_RATE
            pace = Pace(self.plan.training_threads(batch_size, cap), guess)
            _keep(self._paces, key, pace, KEPT_PACES)
        return pace

    def prepare(self, batch_size: int, y: Array, threads: int) -> _Opened:
        """A workspace for steps of one shape, kept for later calls; refused where memory does not suffice."""
        shape = batch_size, 1 if y.ndim == 1 else y.shape[1], threads
        return self._training_spaces.get(shape) or self._open_training(shape)

    def _open_training(self, shape: _Shape) -> _Opened:
        space = self.plan.training_space(*shape)
        size = space.nbytes + 8 * shape[0]  # with the rows' order
        _check.memory(size, f"a batch of {shape[0]} rows")
        self._has_large_space |= size > self._kept_bytes
        all_rows = np.arange(shape[0], dtype=np.int64)
        opened: _Opened = self.native.open_training(
            space.stages, space.layout, all_rows, self._no_gradients, self.state, space.array
        )
        _keep(self._training_spaces, shape, opened, KEPT_SPACES)
        return opened

    def update(self, x: Array, y: Array, threads: int) -> float:
        """One update on all rows as one batch; gives the loss before it."""
        call = [get_ident()]
        try:  # as in exclusive, without what a call through a wrapper costs one step of a small network
            if calls.setdefault(self, call) is not call:
                raise RuntimeError(BUSY)
            losses = _UNTRAINED.copy()
            settings = self.settings()
            steps, epochs = self.counts
            self.progress = steps, epochs, losses, _NO_EPOCH
            done = self.train(x, y, None, len(x), steps, settings, losses, threads)
            if done:
                self.progress = steps + 1, epochs, None, 0
                if steps % EXAMINED_STEPS == EXAMINED_STEPS - 1 and not self.is_finite(threads):
                    raise FloatingPointError(f"{OVERFLOWED}; {self.remedies}")
            else:
                self._refuse_update(x, y, float(losses[0]))
            return float(losses[0])
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
        settings = np.array([float(self.loss.reduction == "sum"), 0.0])  # no update, no learning rate
        if not self.train(x, y, None, len(x), 0, settings, losses, threads, update=False):
            self.refuse_nonfinite(x, y)
            raise FloatingPointError(f"the loss is {losses[0]}: it has no gradient; {self.remedies}")
        return float(losses[0]), self.gradients.copy()

    def forget_large(self) -> None:
        """Let go of the workspaces, once there is one that is too large to keep."""
        if self._has_large_space:
            self._training_spaces.clear()
            self._has_large_space = False

    def refuse_nonfinite(self, x: Array, y: Array | None) -> None:
        """Name the first entry of x, or else of y, that is not a finite number of the network's dtype."""
        _check.finite(x, self.dtype, "x")
        if y is not None:
            _check.finite(y, self.dtype, "y")

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

    def predict(self, x: Array, threads: int) -> Array:
        """The last layer's output for every row."""
        rows = len(x)
        output = np.empty((rows, self.plan.out_features), self.dtype)
        if rows <= self._part:
            self._forward(x, None, 0, output, threads)
            return output
        for first in range(0, rows, self._part):
            self._forward(x, None, first, output[first : first + self._part], threads)
        return output

    def evaluate(self, x: Array, y: Array, threads: int) -> dict[str, float]:
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

    def _forward(self, x: Array, y: Array | None, first: int, output: Array, threads: int) -> float:
        rows = len(output)
        team = self.plan.evaluation_threads(rows, threads)
        target_columns = 0 if y is None else 1 if y.ndim == 1 else y.shape[1]
        capacity = 1 << (rows - 1).bit_length()  # calls with ever other numbers of rows share a space
        shape = capacity, target_columns, team
        # Taken out for the call, because several threads may predict at once.
        opened = self._evaluation_spaces.pop(shape, None) or self._open_evaluation(shape)
        stages, space, pace, stays = opened
        threads = pace.threads
        if threads > 1:
            threads = _native.started_threads(threads, self.plan.evaluation_flops(rows))
        start = time.perf_counter() if team > 1 else 0.0
        total: float
        total, finite = self.native.evaluate(
            stages, self.parameters, self.loss_code, x, y, first, output, *space, threads
        )
        if team > 1:
            pace.took(threads, rows, start)
        if stays:
            _keep(self._evaluation_spaces, shape, opened, KEPT_SPACES)
        if not (finite and math.isfinite(total)):
            self.refuse_nonfinite(x, y)
        return total

    def _open_evaluation(self, shape: _Shape) -> _Opened:
        """A workspace for evaluations of one shape, and their pace, in rows."""
        space = self.plan.evaluation_space(*shape)
        _check.memory(space.nbytes, f"an evaluation of {shape[0]} rows")
        stages, workspace = self.native.open_evaluation(self.plan.stages, space.array)
        pace = Pace(shape[-1], self.plan.evaluation_flops(1) / FIRST_RATE)
        stays = space.nbytes <= self._kept_bytes
        return stages, (workspace, space.width, space.block, space.packed), pace, stays


def _written(array: Array) -> Array:
    """The array, or nothing of one that is blank: never written to, perhaps, it takes no memory yet."""
    return array[:0] if is_blank(array) else array


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """Keep a workspace or a pace, and let go of the one that has been there longest."""
    if len(kept) >= most:
        # All keys at once, which list does without a pause and tuple does not: an iterator fails when another
        # thread gives back meanwhile; none may be left.
        for kept_longest in list(kept)[:1]:
            kept.pop(kept_longest, None)
    kept[key] = value
