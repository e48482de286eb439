"""The core's single pieces of a step: the loss of a batch with its derivative, and the update."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
import tolerances
from axes import THREADS, every_core, every_dtype, same_bits
from cases import LOSSES, Case
from natively import NO_UPDATE, RULES, every_rule, loss_gradient, update

LAST = {"bce": "sigmoid", "cross_entropy": "softmax"}
SHAPES = ((1, 1), (1, 2), (5, 3), (7, 17), (40, 10))


@every_core
@every_dtype
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_a_batch_and_its_derivative_equal_the_reference(core, dtype, name, reduction):
    rng = np.random.default_rng(0)
    for rows, outputs in SHAPES:
        if (name, outputs) == ("cross_entropy", 1):
            continue
        case = Case(((1, outputs),), name, reduction)
        _, target = case.data(rng, rows)
        z = rng.normal(size=(rows, outputs)).astype(dtype)
        ending = LAST.get(name, "identity")
        a = reference.activation_forward(ending, z.astype(np.float64))
        wanted = reference.loss_value(name, a, target, reduction)
        da = reference.loss_gradient(name, a, target, reduction)
        dz = reference.activation_backward(ending, a, da)
        loss, delta = loss_gradient(core, case, z, target.astype(dtype))
        assert abs(loss - wanted) <= tolerances.chain([outputs], rows, max(1.0, wanted), dtype)
        assert np.abs(delta - dz).max() <= tolerances.chain([outputs], rows, np.abs(dz).max(), dtype)


@every_core
@every_dtype
def test_labels_and_one_hot_rows_give_the_same_loss_and_derivative(core, dtype):
    rng = np.random.default_rng(1)
    case, labels = Case(((1, 7),), "cross_entropy"), rng.integers(0, 7, 12)
    z, rows = rng.normal(size=(12, 7)).astype(dtype), reference.one_hot(labels, 7).astype(dtype)
    by_label, by_row = loss_gradient(core, case, z, labels.astype(dtype)), loss_gradient(core, case, z, rows)
    assert by_label[0] == by_row[0]
    assert same_bits(by_label[1], by_row[1])


@every_core
def test_the_absolute_error_has_slope_zero_where_there_is_no_error(core):
    a, target = np.array([[1.0, 2.0, 3.0, -0.0]]), np.array([[1.0, 3.0, 1.0, 0.0]])
    loss, delta = loss_gradient(core, Case(((1, 4),), "mae", "sum"), a, target)
    assert loss == 3.0
    assert delta.tolist() == [[0.0, -1.0, 1.0, 0.0]]


@every_core
@every_dtype
@pytest.mark.parametrize("name", ["mse", "mae"])
def test_a_slope_is_the_same_in_short_and_in_long_rows(core, dtype, name):
    tiny, inf, nan = np.finfo(dtype).tiny, np.inf, np.nan
    a = np.array([[1.0, -0.0, tiny, inf, -inf, inf, nan, 2.0, 3.0, -tiny]], dtype)
    target = np.array([[1.0, 0.0, 0.0, 1.0, 1.0, inf, 1.0, nan, 5.0, 0.0]], dtype)
    slopes = [
        loss_gradient(core, Case(((1, count),), name, "sum"), a[:, :count], target[:, :count])[1][0]
        for count in (7, 8, 9, 10)
    ]
    assert all(np.array_equal(slope, slopes[-1][: len(slope)], equal_nan=True) for slope in slopes)
    if name == "mae":
        assert slopes[-1].tolist() == [0.0, 0.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, -1.0]


@every_core
@every_dtype
@every_rule
def test_updates_equal_the_reference_on_any_number_of_threads(core, dtype, rule):
    rng = np.random.default_rng(2)
    for count, steps in itertools.product((1, 5, 63, 1000), (1, 4)):
        start, gradient = (rng.normal(size=count).astype(dtype) for _ in range(2))
        wanted, follower = start.astype(np.float64), rule.follower()
        for _ in range(steps):
            follower.update(wanted, gradient.astype(np.float64))
        first, *others = (update(core, rule, start, gradient, steps, threads) for threads in THREADS)
        bound = tolerances.training([1], 1, steps, np.abs(wanted).max(), dtype)
        assert np.abs(first.parameters - wanted).max() <= bound
        assert first.losses.tolist() == [0.5 + step for step in range(steps)]
        assert all(same_bits(other.parameters, first.parameters) for other in others)
        assert all(same_bits(other.state, first.state) for other in others)


@every_core
@every_dtype
def test_adams_averages_of_a_gradient_that_has_become_zero_do_not_become_subnormal(core, dtype):
    tiny = np.finfo(dtype).tiny
    moved, state, losses = np.zeros(40, dtype), np.full((2, 40), 20 * tiny, dtype), np.zeros(1)
    rule = RULES["adam"].of(core)
    for step in range(5000):
        core.update(moved, np.zeros(40, dtype), state, rule, step, 0.0, losses, 1)
    assert (state[0] < 20 * tiny).all()
    assert ((state == 0.0) | (state >= tiny)).all()


def updating(core, rule=RULES["adam"], **wrong):
    arrays = {name: np.zeros(3) for name in ("parameters", "gradients", "losses")}
    arguments = {"state": np.zeros((2, 3)), "step": 0, "loss": 0.0, "threads": 1}
    core.update(**{**arrays, **arguments, "rule": rule.of(core), **wrong})


WRONG_UPDATES = {
    "gradients": {"gradients": np.zeros(2)},
    "state of another width": {"state": np.zeros((2, 2))},
    "too little state": {"state": np.zeros((1, 3))},
    "no update": {"rule": NO_UPDATE},
    "no losses": {"losses": np.zeros(0)},
    "no thread": {"threads": 0},
}


@every_core
@pytest.mark.parametrize("wrong", WRONG_UPDATES.values(), ids=WRONG_UPDATES)
def test_an_update_refuses_what_does_not_fit(core, wrong):
    updating(core)
    with pytest.raises(ValueError, match=r"fit|has|update|losses is empty"):
        updating(core, **wrong)


def scoring(core, **wrong):
    arrays = {name: np.zeros((3, 2)) for name in ("a", "target", "delta")}
    arguments = {"loss": 0, "summed": False, "values": np.zeros(3), "sums": np.zeros(3)}
    return core.loss_gradient(**{**arrays, **arguments, **wrong})


@every_core
@pytest.mark.parametrize("name", ["a", "target", "delta", "values", "sums"])
def test_a_loss_refuses_an_array_of_another_shape(core, name):
    assert scoring(core, delta=np.zeros((0, 2))) == 0.0  # not formed
    shape = (2,) if name in ("values", "sums") else (3, 1)
    with pytest.raises(ValueError, match="do not fit"):
        scoring(core, **{name: np.zeros(shape)})
