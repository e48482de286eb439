"""The doors of every core: what a training or an evaluation was opened for is what its calls may bring."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from axes import every_core, same_bits
from cases import CASES, problem
from natively import NO_UPDATE, RULES

from fastbp import _native, _plan


@every_core
def test_a_rule_that_is_none_is_refused(core):
    with pytest.raises(ValueError, match="optimizer is 'rmsprop', expected one of"):
        core.Rule("rmsprop", lr=0.1)
    for settings in ({}, {"lr": 0.1}, {"lr": 0.1, "momentum": 0.0, "nesterov": False, "rho": 0.9}):
        with pytest.raises(TypeError, match=r"sgd takes the settings \['lr', 'momentum', 'nesterov'\], not"):
            core.Rule("sgd", **settings)
    rule = core.Rule("sgd", lr=0.25, momentum=0.0, nesterov=False)
    assert (rule.lr, rule.updates) == (0.25, True)
    assert not core.Rule("gradient").updates


def stepping(core, rule=RULES["plain"], state_rows=0, **call):
    """One call of the core's train on a training opened for batches of 8 rows and one thread."""
    case, threads = CASES["digits"], 1
    drawn, x, target, _ = problem(case, 24, np.float32)
    memory = np.zeros(2 * drawn.size, np.float32)
    parameters = memory[: drawn.size]
    if call.get("moved") is np.float64:
        call["moved"] = memory.view(np.float64)
    space = _plan.lower(case.layers(), np.dtype(np.float32)).training_space(8, target.shape[1], threads)
    training = core.open_training(
        space.table, space.layout, np.arange(8), parameters, parameters[:0],
        np.zeros((state_rows, drawn.size), np.float32), space.array, _native.LOSSES[case.loss], False,
        target.shape[1], threads, False,
    )  # fmt: skip
    arguments = {"x": x, "y": target, "order": None, "step": 0, "losses": np.empty(3), "threads": threads}
    return core.train(training, **{"moved": parameters, "rule": rule.of(core), **arguments, **call})


OTHER_STEPS = {
    "other parameters": {"moved": np.zeros(64 * 128 + 128 + 128 * 10 + 10, np.float32)},
    "too few parameters": {"moved": np.zeros(8, np.float32)},
    "parameters in another dtype": {"moved": np.zeros(64 * 128 + 128 + 128 * 10 + 10)},
    "more threads": {"threads": 2},
    "no thread": {"threads": 0},
    "no rows": {"order": np.arange(0)},
    "a row that x does not have": {"order": np.array([0, 24])},
    "a row before the first": {"order": np.array([-1])},
    "fewer rows in x than a batch": {"x": np.zeros((4, 64)), "y": np.zeros((4, 10))},
    "a column less in x": {"x": np.zeros((24, 63))},
    "labels where rows were opened": {"y": np.zeros(24)},
    "a row less in y": {"y": np.zeros((23, 10))},
    "no room for the losses": {"losses": np.empty(0)},
    "losses in another dtype": {"losses": np.empty(3, np.float32)},
    "losses in another byte order": {"losses": np.empty(3, np.dtype(np.float64).newbyteorder("S"))},
    "no state": {"rule": RULES["adam"]},
    "too little state": {"rule": RULES["adam"], "state_rows": 1},
    "parameters for gradients": {"rule": NO_UPDATE},
    "the opened address in another dtype": {"moved": np.float64},
    "a short clock": {"clock": np.zeros((1, 4))},
}


class Halves:
    """Calls of the core's two halves of a step, with arguments of theirs changed."""

    def __init__(self, core, rows=8, threads=1, halved=True):
        self.core, self.threads = core, threads
        self.parameters, self.x, _, _ = problem(CASES["digits"], 24, np.float32)
        plan = _plan.lower(CASES["digits"].layers(), np.dtype(np.float32))
        space = plan.training_space(rows, 1, threads, halved=halved)
        self.training = core.open_training(
            space.table, space.layout, np.arange(rows), self.parameters, self.parameters[:0],
            np.zeros((0, self.parameters.size), np.float32), space.array, -1, False, 1, threads, halved,
        )  # fmt: skip
        self.output, self.losses = np.empty((rows, 10), np.float32), np.zeros(3)

    def forward(self, **call):
        standard = {"x": self.x, "order": None, "output": self.output, "threads": self.threads}
        return self.core.propagate(self.training, **{**standard, **call})

    def backward(self, **call):
        standard = {"moved": self.parameters, "rule": RULES["plain"].of(self.core), "slope": self.output}
        standard |= {"step": 0, "loss": 2.5, "losses": self.losses, "threads": self.threads}
        return self.core.backpropagate(self.training, **{**standard, **call})


@every_core
def test_a_step_in_halves_with_others_than_were_opened_is_refused(core):
    halves = Halves(core)
    nonfinite = halves.x.copy()
    nonfinite[3, 5] = np.inf
    assert halves.forward()
    assert not halves.forward(x=nonfinite)
    for call, message in (
        ({"order": np.arange(9)}, "order has 9 rows, but 1 to 8 were opened"),
        ({"order": np.arange(0)}, "order has 0 rows, but 1 to 8 were opened"),
        ({"order": np.array([24])}, r"order\[0\] is 24, but x has 24 rows"),
        ({"order": np.array([-1])}, r"order\[0\] is -1"),
        ({"x": halves.x[:7]}, r"order\[7\] is 7, but x has 7 rows"),
        ({"x": halves.x[:, :63]}, "x has 63 columns"),
        ({"output": halves.output[:7]}, "output has 280 bytes of format 'f', expected 80 or more of float32"),
        (
            {"output": halves.output.astype(np.float64)},
            "output has 640 bytes of format 'd', expected 80 or more of float32",
        ),
        ({"output": np.empty(80, "V0")}, "output has 0 bytes of format"),
        (
            {"output": np.asfortranarray(halves.output)},
            "output has 320 bytes .*with gaps, expected .*in one run",
        ),
        ({"output": np.broadcast_to(halves.output[0], (8, 10))}, "output has .*that is read-only"),
        ({"threads": 0}, "threads is 0, but 1 to 1 were opened"),
        ({"threads": 2}, "threads is 2, but 1 to 1 were opened"),
    ):
        with pytest.raises(ValueError, match=message):
            halves.forward(**call)
    before = halves.parameters.copy()
    halves.forward()
    for call, message in (
        ({"moved": before}, "moved is not the array that was opened"),
        ({"moved": halves.parameters[:-1]}, "parameters has 38436 bytes .*expected 9610"),
        ({"rule": RULES["adam"].of(core)}, "state has 0 rows, expected 2"),
        ({"rule": NO_UPDATE.of(core)}, "moved is not the array that was opened"),
        ({"slope": halves.output[:7]}, "slope has 280 bytes.*expected 80 or more of float32"),
        ({"slope": halves.output.astype(np.float64)}, "slope has 640 bytes of format 'd'"),
        ({"losses": np.zeros(0)}, "losses has 0 bytes.*expected 1 or more of float64"),
        ({"threads": 2}, "threads is 2, but 1 to 1 were opened"),
    ):
        with pytest.raises(ValueError, match=message):
            halves.backward(**call)
    assert same_bits(halves.parameters, before)
    assert halves.losses.tolist() == [0.0, 0.0, 0.0]
    halves.output.flags.writeable = False  # of the slope nothing is written
    halves.backward()
    assert not same_bits(halves.parameters, before)
    assert halves.losses.tolist() == [2.5, 0.0, 0.0]


@every_core
def test_a_half_comes_behind_the_other(core):
    halves = Halves(core)
    with pytest.raises(ValueError, match="there was no propagate before"):
        halves.backward()
    halves.forward()
    halves.backward()
    with pytest.raises(ValueError, match="there was no propagate before"):
        halves.backward()
    halves.forward()
    with pytest.raises(ValueError, match="order has 9 rows"):
        halves.forward(order=np.arange(9))
    halves.backward()  # of the forward half that was not refused
    with pytest.raises(ValueError, match="x has 63 columns"):
        halves.forward(x=halves.x[:, :63])
    with pytest.raises(ValueError, match="there was no propagate before"):
        halves.backward()


@every_core
def test_what_was_opened_for_halves_is_not_trained_whole_nor_the_other_way_round(core):
    halves, whole = Halves(core), Halves(core, halved=False)
    with pytest.raises(ValueError, match="whole steps were opened"):
        whole.forward()
    rule = RULES["plain"].of(core)
    labels = np.zeros(24, np.int64)
    with pytest.raises(ValueError, match="steps in halves were opened"):
        core.train(halves.training, halves.parameters, rule, halves.x, labels, None, 0, halves.losses, 1)


@every_core
def test_losses_that_cannot_be_written_to_in_one_run_are_refused(core):
    for losses in (np.empty(6)[::2], np.broadcast_to(0.0, 1), None, [0.0]):
        with pytest.raises((ValueError, TypeError)):
            stepping(core, losses=losses)


@every_core
@pytest.mark.parametrize("other", OTHER_STEPS.values(), ids=OTHER_STEPS)
def test_a_step_with_others_than_were_opened_is_refused(core, other):
    assert stepping(core) == (1, False)
    with pytest.raises(ValueError, match=r"opened|order|has|clock is"):
        stepping(core, **dict(other))


def evaluating(
    core, rows=8, threads=1, opened_threads=1, target_columns=10, room=0, width=None, block=None, **call
):
    """One call of the core's evaluate on an evaluation opened for so many rows of digits."""
    case = CASES["digits"]
    parameters, x, target, _ = problem(case, 24, np.float32)
    plan = _plan.lower(case.layers(), np.dtype(np.float32))
    space = plan.evaluation_space(8, 10, 1)
    evaluation = core.open_evaluation(
        plan.table, parameters, _native.LOSSES[case.loss], space.array[: space.count - room], rows,
        target_columns, width or space.width, block or space.block, space.packed, opened_threads,
    )  # fmt: skip
    arguments = {"x": x, "y": target, "first": 0, "output": np.empty((8, 10), np.float32)}
    return core.evaluate(evaluation, **{**arguments, "threads": threads, **call})


OTHER_EVALUATIONS = {
    "more rows": {"output": np.empty((9, 10), np.float32)},
    "no rows": {"output": np.empty((0, 10), np.float32)},
    "rows that x does not have": {"first": 17},
    "rows far beyond x": {"first": sys.maxsize - 3},
    "a row before the first": {"first": -1},
    "another dtype": {"output": np.empty((8, 10))},
    "fewer outputs": {"output": np.empty((8, 9), np.float32)},
    "more threads": {"threads": 2},
    "no thread": {"threads": 0},
    "labels where rows were opened": {"y": np.zeros(24)},
    "targets where none were opened": {"target_columns": 0},
    "no room for another thread": {"opened_threads": 2},
    "no room for the losses": {"rows": 1000},
    "no room for so many losses that bytes overflow": {"rows": 1 << 62},
    "rows of a block whose bytes overflow": {"width": 1 << 59},
    "rows in a block whose bytes overflow": {"block": 1 << 59},
    "threads beyond all room": {"opened_threads": 1 << 30},
    "too little room": {"room": 16},
    "a column less in x": {"x": np.zeros((24, 63))},
    "a row less in y": {"y": np.zeros((23, 10))},
}


@every_core
@pytest.mark.parametrize("other", OTHER_EVALUATIONS.values(), ids=OTHER_EVALUATIONS)
def test_an_evaluation_with_others_than_were_opened_is_refused(core, other):
    assert evaluating(core)[1]
    assert evaluating(core, y=None) == (0.0, True)
    with pytest.raises(ValueError, match=r"opened|fit|has|workspace"):
        evaluating(core, **other)


@every_core
def test_what_was_not_opened_is_refused(core):
    rule = RULES["plain"].of(core)
    x, output = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
    with pytest.raises(ValueError, match="opened"):
        core.train(core.Training(), output[0], rule, x, x, None, 0, np.empty(1), 1)
    with pytest.raises(ValueError, match="opened"):
        core.evaluate(core.Evaluation(), x, None, 0, output, 1)
