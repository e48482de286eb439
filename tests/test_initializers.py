"""The initialisers: variances from the papers, bounds, and the default that fits an activation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tolerances

import fastbp as bp
from fastbp import initializers

FAN_IN, FAN_OUT = 300, 200
VARIANCES = {
    "glorot": 2 / (FAN_IN + FAN_OUT),
    "xavier": 2 / (FAN_IN + FAN_OUT),
    "he": 2 / FAN_IN,
    "lecun": 1 / FAN_IN,
}


def draw(initializer, seed=0):
    return initializer.draw(np.random.default_rng(seed), FAN_IN, FAN_OUT, (FAN_IN, FAN_OUT))


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize(("scheme", "variance"), VARIANCES.items())
def test_the_variance_is_that_of_the_paper(scheme, distribution, variance):
    drawn = draw(initializers.get(f"{scheme}_{distribution}"))
    deviations = tolerances.SIGMAS / math.sqrt(drawn.size)
    assert abs(drawn.mean()) <= deviations * math.sqrt(variance)
    # The variance of a squared entry is at most 2 variance^2 (normal), 0.8 variance^2 (uniform).
    assert abs(np.mean(drawn**2) - variance) <= deviations * math.sqrt(2.0) * variance
    if distribution == "uniform":
        assert np.abs(drawn).max() <= math.sqrt(3.0 * variance)


def test_fixed_distributions_do_not_look_at_the_layer():
    drawn = draw(bp.Uniform(-1.0, 3.0))
    assert drawn.min() >= -1.0
    assert drawn.max() < 3.0
    assert abs(drawn.mean() - 1.0) <= tolerances.SIGMAS * math.sqrt(16 / 12 / drawn.size)
    assert abs(draw(bp.Normal(0.5)).std() - 0.5) <= tolerances.SIGMAS * 0.5 / math.sqrt(drawn.size)
    assert not draw(bp.Zeros()).any()


@pytest.mark.parametrize("name", initializers.NAMES)
def test_the_same_generator_state_draws_the_same_numbers(name):
    assert np.array_equal(draw(initializers.get(name)), draw(initializers.get(name)))


def test_xavier_is_another_name_for_glorot():
    assert initializers.Xavier is bp.Glorot
    assert initializers.get("xavier_uniform") == initializers.get("glorot_uniform") == bp.Glorot("uniform")


@pytest.mark.parametrize(
    ("activation", "scheme"),
    [
        (bp.ReLU, "he"),
        (bp.Tanh, "glorot"),
        (bp.Sigmoid, "glorot"),
        (bp.Softmax, "glorot"),
        (bp.Identity, "glorot"),
    ],
)
def test_a_layer_starts_with_what_fits_the_activation_behind_it(activation, scheme):
    net = bp.Network([bp.Dense(FAN_IN, FAN_OUT), activation()], dtype="float64")
    deviations = tolerances.SIGMAS * math.sqrt(2.0 / (FAN_IN * FAN_OUT))
    assert abs(np.mean(net.layers[0].weight ** 2) / VARIANCES[scheme] - 1.0) <= deviations
    assert not net.layers[0].bias.any()


def test_a_layer_takes_objects_and_strings_for_weight_and_bias():
    by_string, by_object = (
        bp.Network([bp.Dense(3, 4, weight=weight, bias=bias)], dtype="float64", seed=5)
        for weight, bias in (("normal", "uniform"), (bp.Normal(), bp.Uniform()))
    )
    assert np.array_equal(by_string.parameters, by_object.parameters)
    assert by_string.layers[0].bias.all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: initializers.get("hee"), ValueError, "'hee'.*'he_normal'"),
        (lambda: initializers.get(bp.He), TypeError, r"He\(\.\.\.\)"),
        (lambda: bp.He("triangular"), ValueError, "distribution is 'triangular'"),
        (lambda: bp.Uniform(1.0, 0.0), ValueError, "low is 1 and high is 0"),
        (lambda: bp.Uniform(0.0, math.inf), ValueError, "high is inf"),
        (lambda: bp.Normal(-1.0), ValueError, "std is -1.0"),
        (lambda: bp.Dense(2, 3, weight="hee"), ValueError, "weight is 'hee'"),
        (lambda: bp.Dense(2, 3, bias=3), TypeError, "bias is 3"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
