"""Calls of one core, past the Python layer; every array that goes in lies between guard bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import reference
from axes import Guarded, fenced
from cases import Case
from numpy.typing import DTypeLike, NDArray

from fastbp import _native, _plan

Array = NDArray[Any]


@dataclass(frozen=True)
class Rule:
    """An update as the core takes it, and the same in the reference."""

    optimizer: str
    settings: dict[str, float]
    state_rows: int
    follower: Callable[[], reference.SGD | reference.Adam]

    def of(self, core: ModuleType) -> Any:
        """The rule as that core takes it."""
        return core.Rule(self.optimizer, **self.settings)


def _descent(lr: float, momentum: float = 0.0, nesterov: bool = False) -> Rule:
    settings = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
    return Rule("sgd", settings, int(momentum > 0.0), lambda: reference.SGD(lr, momentum, nesterov))


def _adam(**settings: float) -> Rule:
    return Rule("adam", settings, 2, lambda: reference.Adam(**settings))


RULES = {
    "plain": _descent(0.005),
    "momentum": _descent(0.005, 0.9),
    "nesterov": _descent(0.005, 0.9, nesterov=True),
    "adam": _adam(lr=0.005, beta1=0.9, beta2=0.999, epsilon=1e-8),
    "adam_other": _adam(lr=0.002, beta1=0.8, beta2=0.99, epsilon=1e-4),
}
NO_UPDATE = Rule("gradient", {}, 0, lambda: reference.SGD(0.0))
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@dataclass
class Run:
    """What one call of the core's train left behind."""

    batches: int
    losses: NDArray[np.float64]
    parameters: Array
    gradients: Array
    state: Array


@contextmanager
def in_use(core: ModuleType) -> Iterator[None]:
    """Plans leave room for what this core packs."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_native, "core", core)
        patched.setattr(_native, "kernels", _native.kernels.__wrapped__)  # without its cache
        yield


class Opened:
    """A training that moves copies, between guard bands; parameters' dtype decides the arithmetic."""

    def __init__(
        self,
        core: ModuleType,
        case: Case,
        parameters: Array,
        batch_size: int,
        batches: int,
        rule: Rule,
        target_columns: int,
        threads: int,
        *,
        state: Array | None = None,
        halved: bool = False,
    ) -> None:
        dtype = parameters.dtype
        plan = _plan.lower(case.layers(), dtype)
        with in_use(core):
            space = plan.training_space(batch_size, target_columns, threads, halved=halved)
        rows = rule.state_rows if state is None else len(state)
        self.parameters, self.state = (
            Guarded(shape, dtype) for shape in (parameters.shape, (rows, parameters.size))
        )
        self.parameters.array[...] = parameters
        self.state.array[...] = 0.0 if state is None else state
        self.gradients = Guarded(parameters.size if rule is NO_UPDATE else 0, dtype)
        self.workspace = Guarded(space.array.shape, dtype)
        self.workspace.array[...] = 0.0
        self.losses = Guarded(batches, np.float64)
        self.moved = self.gradients.array if rule is NO_UPDATE else self.parameters.array
        loss = -1 if halved else _native.LOSSES[case.loss]
        self.training = core.open_training(
            fenced(space.table), space.layout, fenced(np.arange(batch_size)), self.parameters.array,
            self.gradients.array, self.state.array, self.workspace.array, loss, case.reduction == "sum",
            target_columns, threads, halved,
        )  # fmt: skip

    def run(self, batches: int) -> Run:
        """What so many batches have left behind."""
        for guarded in (self.parameters, self.state, self.gradients, self.workspace, self.losses):
            assert guarded.intact, "the core wrote outside of an array"
        arrays = (self.losses, self.parameters, self.gradients, self.state)
        return Run(batches, *(guarded.array for guarded in arrays))


def train(
    core: ModuleType,
    case: Case,
    parameters: Array,
    x: Array,
    y: Array,
    order: NDArray[np.int64],
    batch_size: int,
    rule: Rule = NO_UPDATE,
    *,
    state: Array | None = None,
    step: int = 0,
    threads: int = 1,
) -> Run:
    """One call of the core's train on copies."""
    total = -(-len(order) // batch_size)
    opened = Opened(core, case, parameters, batch_size, total, rule, y.size // len(y), threads, state=state)
    batches, kept_waiting = 0, True
    while kept_waiting and batches < total:  # a team breaks up on a busy machine
        done, kept_waiting = core.train(
            opened.training, opened.moved, rule.of(core), fenced(x), fenced(y),
            fenced(order[batches * batch_size :]), step + batches, opened.losses.array[batches:], threads,
        )  # fmt: skip
        batches, threads = batches + done, 1
    return opened.run(batches)


def train_in_halves(
    core: ModuleType,
    case: Case,
    parameters: Array,
    x: Array,
    y: Array,
    order: NDArray[np.int64],
    batch_size: int,
    rule: Rule,
    threads: int,
) -> Run:
    """The same with the core's loss, mse or mae, between the two halves of each step."""
    batches = -(-len(order) // batch_size)
    opened = Opened(core, case, parameters, batch_size, batches, rule, 1, threads, halved=True)
    for number in range(batches):
        rows = fenced(order[number * batch_size : (number + 1) * batch_size])
        output = Guarded((len(rows), case.widths[-1]), parameters.dtype)
        assert core.propagate(opened.training, fenced(x), rows, output.array, threads)
        loss, slope = loss_gradient(core, case, output.array, y[rows].astype(parameters.dtype))
        core.backpropagate(
            opened.training, opened.moved, rule.of(core), slope, number, loss, opened.losses.array[number:],
            threads,
        )  # fmt: skip
        assert output.intact, "the core wrote outside of an array"
    return opened.run(batches)


def evaluate(
    core: ModuleType, case: Case, parameters: Array, x: Array, y: Array | None, rows: range, threads: int
) -> tuple[Array, float]:
    """Output and summed loss of some rows."""
    plan = _plan.lower(case.layers(), parameters.dtype)
    target_columns = 0 if y is None else y.size // len(y)
    with in_use(core):
        space = plan.evaluation_space(len(rows), target_columns, threads)
    output = Guarded((len(rows), case.widths[-1]), parameters.dtype)
    workspace = Guarded(space.array.shape, parameters.dtype)
    evaluation = core.open_evaluation(
        fenced(plan.table), fenced(parameters), _native.LOSSES[case.loss], workspace.array, len(rows),
        target_columns, space.width, space.block, space.packed, threads,
    )  # fmt: skip
    targets = None if y is None else fenced(y)
    total, finite = core.evaluate(evaluation, fenced(x), targets, rows.start, output.array, threads)
    for guarded in (output, workspace):
        assert guarded.intact, "the core wrote outside of an array"
    assert finite
    return output.array, total


def loss_gradient(core: ModuleType, case: Case, a: Array, y: Array) -> tuple[float, Array]:
    """The loss of a batch, and dA or dZ."""
    delta, entered = Guarded(a.shape, a.dtype), Guarded(a.shape, a.dtype)
    entered.array[...] = a
    values, sums = Guarded(len(a), np.float64), Guarded(len(a), a.dtype)
    loss: float = core.loss_gradient(
        _native.LOSSES[case.loss], case.reduction == "sum", entered.array, fenced(y.reshape(len(a), -1)),
        delta.array, values.array, sums.array,
    )  # fmt: skip
    for guarded in (delta, entered, values, sums):
        assert guarded.intact, "the core wrote outside of an array"
    return loss, delta.array


def update(
    core: ModuleType, rule: Rule, parameters: Array, gradients: Array, steps: int, threads: int = 1
) -> Run:
    """So many updates with the same gradient, from a state of zeros."""
    moved = Guarded(parameters.shape, parameters.dtype)
    remembered = Guarded((rule.state_rows, parameters.size), parameters.dtype)
    losses = Guarded(steps, np.float64)
    moved.array[...], remembered.array[...] = parameters, 0.0
    for step in range(steps):
        core.update(
            moved.array, fenced(gradients), remembered.array, rule.of(core), step, 0.5 + step,
            losses.array[step:], threads,
        )  # fmt: skip
    for guarded in (moved, remembered, losses):
        assert guarded.intact, "the core wrote outside of an array"
    return Run(steps, losses.array, moved.array, gradients, remembered.array)


def find_nonfinite(core: ModuleType, x: Array, dtype: DTypeLike, room: int | None = None) -> int:
    """Where it finds the first number that is not finite; its scratch holds ``room`` numbers or a row."""
    scratch = Guarded((x.shape[1] if x.ndim == 2 else 1) if room is None else room, dtype)
    position: int = core.find_nonfinite(x, scratch.array)
    assert scratch.intact, "the core wrote outside of an array"
    return position


def examine(core: ModuleType, values: Array, threads: int, copied: bool = True) -> bool:
    """Whether it finds all values finite, once the copy, if any, is seen to be one."""
    copy = Guarded(values.size, values.dtype)
    finite: bool = core.examine(fenced(values), threads, *([copy.array] if copied else []))
    assert copy.intact, "the core wrote outside of an array"
    if copied:
        np.testing.assert_array_equal(copy.array, values)
    return finite


def shuffled(core: ModuleType, rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The core's order of so many rows."""
    order = Guarded(rows, np.int64)
    core.shuffle(order.array, seed, epoch)
    assert order.intact, "the core wrote outside of an array"
    return order.array
