"""The loop around the native call: epochs, slices, snapshots, validation, progress.

An epoch is cut into slices of batches, one native call each.  Between slices Python looks at the clock, at
Ctrl-C, at the progress bar, and at whether the loss is still a number.
"""

from __future__ import annotations

import importlib
import math
import sys
from typing import Any, NoReturn

import numpy as np

from fastbp import _check, _native
from fastbp.evaluator import Array
from fastbp.exclusive import exclusive
from fastbp.learner import Learner
from fastbp.metrics import History
from fastbp.snapshot import Progress, Snapshot

SNAPSHOT_STEPS, SNAPSHOT_ROWS = 256, 8192  # a copy of everything after so many costs under 2 % of them


@exclusive
def fit(
    learner: Learner,
    x: Array,
    y: Array,
    *,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    validation: tuple[Array, Array] | None,
    threads: int,
    verbose: bool | None,
) -> History:
    """Train for some epochs; the arguments of `Network.fit`, checked."""
    history = History()
    try:
        if epochs > (not shuffle):  # rows in order are read column by column once as fast as they are copied
            together = _check.rows_together(x)
            x, y = together, together if y is x else _check.rows_together(y)  # an autoencoder's are one array
        run = _Run(learner, x, y, min(batch_size, len(x)), shuffle, threads, history)
        run.bar = progress_bar(verbose, epochs * run.batches, "batch")
        _train_epochs(run, epochs, validation)
    finally:
        learner.forget_large()
    return history


def _train_epochs(run: _Run, epochs: int, validation: tuple[Array, Array] | None) -> None:
    """The epochs of a call, with their losses and validation in its history."""
    learner, history, bar = run.learner, run.history, run.bar
    first_epoch = learner.counts[1]
    if not epochs:
        learner.history = history
    try:
        for _ in range(epochs):
            history.loss.append(run.epoch())
            if validation is not None:
                history.add_validation(learner.evaluate(*validation, run.threads))
            if bar is not None:
                bar.set_postfix(history.last(), refresh=False)
        if epochs and not learner.is_finite(run.pace.threads):  # no loss has seen the last update
            run.give_up_overflowed(learner.counts[1] - 1)
    finally:
        # Ctrl-C may have come when the epoch's last batch was done, but its loss not in the list.
        if learner.counts[1] - first_epoch > len(history.loss):
            history.loss.append(run.mean_loss())
        if bar is not None:
            bar.close()


class _Run:
    """One call of `fit`: its data, the order of the rows, and the way back."""

    def __init__(
        self,
        learner: Learner,
        x: Array,
        y: Array,
        batch_size: int,
        shuffle: bool,
        threads: int,
        history: History,
    ) -> None:
        self.pace = learner.pace(batch_size, threads)
        learner.prepare(batch_size, y, self.pace.team)
        rows = len(x)
        self.learner = learner
        self.x, self.y = x, y
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.threads = threads
        self.order = np.arange(rows, dtype=np.int64)
        self.batches = -(-rows // batch_size)
        self.losses = np.empty(self.batches)
        self.history, self.history_before = history, learner.history
        self.start: Snapshot | None = learner.snapshot(self.pace.threads)  # until every row has been read
        self.snapshot = self.start  # the last that is finite, or else the start
        self.lr = math.nan
        self.snapshot_steps = max(SNAPSHOT_STEPS, -(-SNAPSHOT_ROWS // batch_size))
        self.bar: Any = None

    def epoch(self) -> float:
        """Train on every row once; gives the epoch's loss."""
        learner = self.learner
        first_step, epoch = learner.counts
        rule = learner.rule()  # first: a function lr that fails leaves everything as it was
        self.lr = rule.lr
        if self.shuffle:
            _native.shuffle(self.order, learner.seed, epoch)
        self.losses.fill(math.nan)  # what stays NaN was not trained on
        learner.history = self.history
        learner.progress = first_step, epoch, self.losses, self.batches
        done = 0
        while done < self.batches:
            step = first_step + done
            to_snapshot = self.snapshot_steps - step % self.snapshot_steps
            count = min(self.pace.steps, self.batches - done, to_snapshot)
            finite = self._train_slice(done, count, rule, step)
            done += finite
            if finite < count:
                self._refuse_nonfinite()
                reason = f"the loss became {self.losses[done]} at batch {done + 1} of {self.batches}"
                self.give_up(reason, epoch)
            if count == to_snapshot:
                self._take_snapshot((first_step + done, epoch + (done == self.batches), None, 0), epoch)
        learner.progress = first_step + done, epoch + 1, None, 0
        self.start = None
        return self.mean_loss()

    def _refuse_nonfinite(self) -> None:
        """Where the data hold a number that is not finite, read or not, undo the call and name the first."""
        learner = self.learner
        if all(_check.is_finite(array, learner.dtype) for array in (self.x, self.y)):
            return
        if self.start is None:  # all was finite in the first epoch: somebody has changed the data since
            self.snapshot.restore(learner)
        else:
            self.start.restore(learner)
            learner.history = self.history_before
        learner.refuse_nonfinite(self.x, self.y)

    def _take_snapshot(self, progress: Progress, epoch: int) -> None:
        """Replace the last snapshot if all is finite, but not the start while a row may yet turn out bad."""
        if not self.learner.is_finite(self.pace.threads):
            if self.snapshot.finite:  # an activation may hide it from the loss
                self._refuse_nonfinite()
                self.give_up_overflowed(epoch)
            return
        snapshot = Snapshot(self.learner) if self.snapshot is self.start else self.snapshot
        snapshot.take(self.learner, progress, False, self.pace.threads)
        self.snapshot = snapshot

    def give_up_overflowed(self, epoch: int) -> NoReturn:
        """Go back because of numbers that are not finite, behind losses that are."""
        self.give_up(f"an update after step {self.snapshot.progress[0]} overflowed, as was seen", epoch)

    def give_up(self, reason: str, epoch: int) -> NoReturn:
        """Go back to the last finite snapshot and say so."""
        self.snapshot.restore(self.learner)
        outcome = f"the network is back at step {self.learner.counts[0]}"
        if not self.snapshot.finite:
            outcome += ", where it was not finite before either: reset() starts anew"
        where = f"in epoch {epoch} (counted from 0) with lr {self.lr:g}"
        raise FloatingPointError(f"{reason} {where}; {outcome}; {self.learner.remedies}")

    def _train_slice(self, done: int, count: int, rule: Any, step: int) -> int:
        """Train ``count`` batches from batch ``done`` on; how many until a loss was not finite."""
        order = self.order[done * self.batch_size : (done + count) * self.batch_size]
        losses = self.losses[done : done + count]
        finite = self.learner.train(self.x, self.y, order, self.batch_size, rule, step, losses, self.threads)
        if self.bar is not None:
            self.bar.update(finite)
        return finite

    def mean_loss(self) -> float:
        """The batches' losses weighted by their rows; their sum where the loss is a sum."""
        if self.batches == 1:  # NumPy's way to the mean would be a tenth of a call for one step
            return float(self.losses[0])
        rows = len(self.order)
        last = rows - (self.batches - 1) * self.batch_size  # rows of the last batch, often a short one
        with np.errstate(over="ignore"):
            if self.learner.loss.reduction == "sum":
                return float(self.losses.sum())
            if last == self.batch_size:
                return float(self.losses.mean())
            return float((self.losses[:-1].sum() * self.batch_size + self.losses[-1] * last) / rows)


def progress_bar(verbose: bool | None, total: int, unit: str) -> Any:
    """A tqdm bar when one is asked for, or tqdm is there and a person is looking; else None."""
    if verbose is False or (verbose is None and not (sys.stderr and sys.stderr.isatty())):
        return None
    try:
        tqdm = importlib.import_module("tqdm")  # a plain import would make the type checker ask for its stubs
    except ImportError:
        if verbose:
            raise ImportError("verbose=True shows a tqdm bar: python -m pip install tqdm") from None
        return None
    return tqdm.tqdm(total=total, unit=unit)
