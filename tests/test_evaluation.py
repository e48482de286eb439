"""The forward pass of every core: outputs and losses against the reference; the promise on bits."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import tolerances
from axes import THREADS, every_core, every_dtype, same_bits
from cases import CASES, LARGE, Case, every_case, problem
from natively import evaluate, train


@every_core
@every_dtype
@pytest.mark.parametrize("case", [*CASES.values(), LARGE["wide"][0]], ids=[*CASES, "wide"])
def test_an_evaluation_equals_the_reference(core, dtype, case):
    for rows in (1, 7, 64, 65, 200):
        parameters, x, target, _ = problem(case, rows, dtype)
        output, total = evaluate(core, case, parameters, x, target, range(rows), 2)
        truth = reference.forward(case.description, parameters.astype(np.float64), x)[-1]
        loss = reference.loss_value(case.loss, truth, target, "sum")
        assert np.abs(output - truth).max() <= tolerances.chain(case.widths, 1, np.abs(truth).max(), dtype)
        assert abs(total - loss) <= tolerances.chain(case.widths, rows, loss, dtype)


@every_core
@every_dtype
@every_case
def test_bits_of_an_evaluation_do_not_depend_on_threads_or_on_its_parts(core, dtype, case):
    parameters, x, target, _ = problem(case, 150, dtype)
    whole, total = evaluate(core, case, parameters, x, target, range(150), 1)
    for threads in THREADS:
        output, again = evaluate(core, case, parameters, x, target, range(150), threads)
        assert same_bits(output, whole)
        assert again == total
    for rows in (range(1), range(3, 71), range(149, 150)):
        assert same_bits(evaluate(core, case, parameters, x, None, rows, 3)[0], whole[rows.start : rows.stop])


@every_core
@every_dtype
def test_relu_of_a_single_output_is_that_of_one_among_several(core, dtype):
    """Whole numbers, whose products and sums are exact: a dot product rounds otherwise than a tile."""
    x = np.array([[1.0, 2.0], [-1.0, 1.0], [2.0, -1.0], [-0.0, 0.0]])
    for weight, bias in (([2.0, 1.0], 0.0), ([-3.0, 1.0], -0.0), ([np.nan, 1.0], 1.0), ([np.inf, 1.0], 1.0)):
        alone, twice = (
            evaluate(
                core, Case(((2, outputs), "relu"), "mse"),
                np.repeat([*weight, bias], outputs).astype(dtype), x, None, range(4), 1,
            )[0]
            for outputs in (1, 2)
        )  # fmt: skip
        assert np.array_equal(alone, twice[:, :1], equal_nan=True), (weight, bias)
        assert np.isnan(alone).any() == (not np.isfinite(weight).all())


@every_core
@every_dtype
@every_case
def test_the_loss_of_a_training_step_is_that_of_an_evaluation(core, dtype, case):
    parameters, x, target, _ = problem(case, 33, dtype)
    trained = train(core, case, parameters, x, target, np.arange(33), 33).losses[0]
    _, total = evaluate(core, case, parameters, x, target, range(33), 1)
    divisor = reference.loss_divisor(case.loss, target, case.reduction)
    assert abs(trained - total / divisor) <= tolerances.chain(case.widths, 33, trained, dtype)
