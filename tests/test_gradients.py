"""Numerical differentiation, and back propagation checked against it for every activation and loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tolerances
from axes import same_bits
from cases import ACTIVATIONS, CASES, Case

import fastbp as bp

# Every activation inside, under every last activation that a loss may have.
ENDS = [(loss, name) for loss in ("mse", "mae") for name in ACTIVATIONS]
ENDS += [("bce", "sigmoid"), ("cross_entropy", "softmax")]
NETWORKS = {
    f"{inner}-{last}-{loss}-{reduction}": Case(((5, 7), inner, (7, 4), inner, (4, 3), last), loss, reduction)
    for inner in ACTIVATIONS
    for loss, last in ENDS
    for reduction in ("mean", "sum")
}


def prepared(case, dtype="float64", rows=6):
    rng = np.random.default_rng(3)
    net = case.network(dtype)
    net.parameters[:] = case.parameters(rng)
    return net, *case.data(rng, rows)


@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)
def test_every_derivative_of_every_activation_and_loss_is_the_numerical_one(case):
    net, x, y = prepared(case)
    loss, gradient = net.loss_and_gradient(x, y)

    def loss_at(parameters):
        net.parameters[:] = parameters
        return net.loss_and_gradient(x, y)[0]

    numerical = bp.numerical_gradient(loss_at, net.parameters.copy())
    assert np.abs(numerical).max() > 100 * tolerances.CENTRAL_DIFFERENCE  # there is something to compare
    assert np.abs(gradient - numerical).max() <= tolerances.CENTRAL_DIFFERENCE * max(1.0, loss)


# numerical_gradient


def kinked(v):
    return np.float64(math.inf if v[0] > 1.0 else -math.inf)


def test_a_function_that_is_infinite_has_an_infinite_slope_without_a_warning():
    assert bp.numerical_gradient(kinked, [1.0]).tolist() == [math.inf]
    assert np.isnan(bp.numerical_gradient(lambda v: np.float64(math.inf), [1.0])).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bp.numerical_gradient(lambda v: v[0], [1.0, math.nan]), ValueError, r"^x\[1\] is nan"),
        (lambda: bp.numerical_gradient(lambda v: v[0], ["a"]), ValueError, "^x has dtype"),
        (
            lambda: bp.numerical_gradient(lambda v: v, [1.0, 2.0]),
            TypeError,
            "^f gave a ndarray, expected a number",
        ),
        (lambda: bp.numerical_gradient(lambda v: None, [1.0]), TypeError, "^f gave a NoneType"),
        (lambda: bp.numerical_gradient(lambda v: v[0], [1.0], step=0.0), ValueError, "^step is 0"),
        (
            lambda: bp.numerical_gradient(lambda v: v[0], [1.0], step=1e-30),
            ValueError,
            "^step is 1e-30, too small",
        ),
        (
            lambda: bp.check_gradients(None, [[1.0]], [1.0]),
            TypeError,
            "^checked is a NoneType, expected a Network, a Layer or a loss",
        ),
        (lambda: check(np.full((3, 3), math.nan)), ValueError, r"^x\[0, 0\] is nan"),
        (lambda: check(np.ones((3, 3)), subset=0), ValueError, "^subset is 0"),
        (lambda: check(np.ones((3, 3)), seed=-1, subset=2), ValueError, "^seed is -1"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def check(x, **options):
    return bp.check_gradients(CASES["linear"].network(), x, np.zeros((3, 2)), **options)


def test_derivatives_of_the_text_book_come_out():
    square_of_sum = bp.numerical_gradient(lambda v: float((v[0] + v[1]) ** 2), [3.0, 4.0])
    assert np.abs(square_of_sum - 14.0).max() <= tolerances.CENTRAL_DIFFERENCE * 49.0


def test_the_gradient_has_the_shape_of_the_point_and_the_point_is_untouched():
    point = np.random.default_rng(0).normal(size=(2, 3, 4))
    kept = point.copy()
    gradient = bp.numerical_gradient(lambda v: float((v**2).sum()), point)
    assert gradient.shape == point.shape
    assert gradient.dtype == np.float64
    assert same_bits(point, kept)
    assert np.abs(gradient - 2 * point).max() <= tolerances.CENTRAL_DIFFERENCE * float((point**2).sum())


def test_a_given_step_is_the_distance_to_both_sides():
    asked = []
    bp.numerical_gradient(lambda v: asked.append(float(v[0])) or 0.0, [2.0], step=0.25)
    assert asked == [2.25, 1.75]


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan])
def test_a_step_that_is_no_distance_is_refused(step):
    with pytest.raises(ValueError, match="step is"):
        bp.numerical_gradient(lambda v: 0.0, [1.0], step=step)


# check_gradients


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_check_gradients_passes_a_correct_network(case, dtype):
    net, x, y = prepared(case, dtype)
    result = bp.check_gradients(net, x, y, subset=60)
    assert result.passed, str(result)
    assert result.checked == min(60, net.parameters.size)
    assert result.parameters == net.parameters.size
    assert result.backpropagation_seconds > 0
    assert result.numerical_seconds > 0
    assert result.ratio > 0


def test_check_gradients_finds_a_wrong_derivative_and_names_it(monkeypatch):
    net, x, y = prepared(CASES["binary"])
    true = bp.Network.loss_and_gradient
    wrong = 5 * 9 + 9 + 4  # layers[2].weight[4, 0]

    def slightly_wrong(self, *arguments, **options):
        loss, gradient = true(self, *arguments, **options)
        gradient[wrong] *= 1.01
        return loss, gradient

    monkeypatch.setattr(bp.Network, "loss_and_gradient", slightly_wrong)
    result = bp.check_gradients(net, x, y)
    assert not result.passed
    assert result.worst == (2, "weight", (4, 0))
    assert "layers[2].weight[4, 0]" in str(result)


def test_check_gradients_leaves_the_network_as_it_was():
    net, x, y = prepared(CASES["relu"])
    net.fit(x, y)
    twin = net.copy()
    bp.check_gradients(net, x, y, subset=20)
    assert same_bits(net.parameters, twin.parameters)
    assert net.fit(x, y).loss == twin.fit(x, y).loss
    assert same_bits(net.parameters, twin.parameters)


def test_a_subset_is_drawn_by_its_seed():
    net, x, y = prepared(CASES["digits"])
    first, again = (bp.check_gradients(net, x, y, subset=15, seed=7) for _ in range(2))
    assert first.worst == again.worst
    assert first.max_relative_error == again.max_relative_error
