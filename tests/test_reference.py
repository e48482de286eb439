"""The reference itself: against a pencil, and its gradient against its own loss."""

from __future__ import annotations

import numpy as np
import reference
import tolerances
from cases import every_case, problem


def test_the_reference_forward_is_the_formula_written_out():
    x, weight, bias = [[1.0, 2.0]], [[1.0, 10.0], [100.0, 1000.0]], [0.5, 0.25]
    assert reference.affine_forward(*map(np.array, (x, weight, bias))).tolist() == [[201.5, 2010.25]]


@every_case
def test_the_reference_gradient_is_the_reference_loss_differentiated_numerically(case):
    parameters, x, target, _ = problem(case, 6, np.float64)
    _, gradient = reference.loss_and_gradient(
        case.description, case.loss, parameters, x, target, case.reduction
    )
    step = float(np.finfo(np.float64).eps) ** (1 / 3)
    chosen = np.random.default_rng(1).choice(parameters.size, min(parameters.size, 40), replace=False)
    for index in chosen:
        losses = []
        for sign in (1.0, -1.0):
            moved = parameters.copy()
            moved[index] += sign * step
            losses.append(
                reference.loss_and_gradient(case.description, case.loss, moved, x, target, case.reduction)[0]
            )
        numerical = (losses[0] - losses[1]) / (2.0 * step)
        assert abs(numerical - gradient[index]) <= tolerances.CENTRAL_DIFFERENCE * max(1.0, abs(losses[0]))
