"""Saturated networks in every core: parameters of 1e4, inputs of 1e5, probabilities of exactly 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from axes import every_core, every_dtype, same_bits
from cases import ACTIVATIONS, Case
from natively import evaluate, train

PARAMETER, INPUT = 1e4, 1e5
ROWS = 21
LAST = {loss: sorted(ACTIVATIONS) for loss in ("mse", "mae")}
LAST |= {"bce": ["sigmoid"], "cross_entropy": ["softmax"]}

PAIRS = [(loss, last, hidden) for loss in LAST for last in LAST[loss] for hidden in sorted(ACTIVATIONS)]
every_pair = pytest.mark.parametrize(("loss", "last", "hidden"), PAIRS)


def extreme(loss, last, hidden, dtype, sign=None):
    """Parameters and inputs of the two sizes and random signs; with a sign, that of every Z."""
    case = Case(((5, 19), hidden, (19, 3), last), loss)
    rng = np.random.default_rng(0)
    _, target = case.data(rng, ROWS)
    x = INPUT * rng.choice([-1.0, 1.0], (ROWS, 5))
    parameters = PARAMETER * rng.choice([-1.0, 1.0], reference.parameter_count(case.description))
    if sign:
        x, parameters = np.abs(x), sign * np.abs(parameters)
        if sign < 0 and hidden in ("identity", "tanh"):  # which pass the sign on
            reference.split(case.description, parameters)[1][0][...] *= -1.0
    return case, parameters.astype(dtype), x, target


@every_core
@every_dtype
@every_pair
def test_loss_and_gradient_of_an_extreme_network_are_finite(core, dtype, loss, last, hidden):
    """Where exp occurs every Z is negative: what it overflows at is no matter of rounding, see below."""
    sign = -1.0 if "exp" in (last, hidden) else None
    case, parameters, x, target = extreme(loss, last, hidden, dtype, sign)
    for threads in (1, 3):
        got = train(core, case, parameters, x, target, np.arange(ROWS), ROWS, threads=threads)
        assert got.batches == 1
        assert np.isfinite(got.losses).all()
        assert np.isfinite(got.gradients).all()
        output, total = evaluate(core, case, parameters, x, target, range(ROWS), threads)
        assert np.isfinite(output).all()
        assert np.isfinite(total)


@every_core
@every_dtype
@pytest.mark.parametrize("hidden", ["relu", "tanh", "exp"])
def test_an_exp_that_overflows_stops_the_batch_and_changes_nothing(core, dtype, hidden):
    case, parameters, x, target = extreme("mse", "exp", hidden, dtype, sign=1.0)
    got = train(core, case, parameters, x, target, np.arange(ROWS), ROWS)
    assert got.batches == 0
    assert not np.isfinite(got.losses).any()
    assert same_bits(got.parameters, parameters)


@every_core
@every_dtype
@pytest.mark.parametrize("last", ["sigmoid", "softmax"])
def test_probabilities_of_exactly_zero_and_one_have_the_loss_and_the_gradient_of_the_limit(core, dtype, last):
    """One layer, z of 1e9 and -1e9, the wrong answers: a row's loss is how far its logits are apart."""
    outputs, loss = (1, "bce") if last == "sigmoid" else (2, "cross_entropy")
    case = Case(((1, outputs), last), loss, "sum")
    parameters = np.zeros(2 * outputs, dtype)
    parameters[0] = PARAMETER
    x = np.array([[INPUT], [-INPUT]])
    p = np.array([[1.0], [0.0]]) if last == "sigmoid" else np.array([[1.0, 0.0], [0.0, 1.0]])
    output, total = evaluate(core, case, parameters, x, 1.0 - p, range(2), 1)
    assert np.array_equal(output, p)
    assert total == 2 * PARAMETER * INPUT
    got = train(core, case, parameters, x, 1.0 - p, np.arange(2), 2)
    assert got.losses[0] == total
    dz = p - (1.0 - p)
    assert np.array_equal(got.gradients, [*(x.T @ dz)[0], *dz.sum(axis=0)])
    right = train(core, case, parameters, x, p, np.arange(2), 2)
    assert right.losses[0] == 0.0
    assert not right.gradients.any()
