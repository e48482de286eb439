"""The activation kernels: forward and derivative against the reference, and exp, tanh, sigmoid in ULP."""

from __future__ import annotations

import functools

import mpmath
import natively
import numpy as np
import pytest
import reference
import tolerances
from axes import (
    CORES,
    FUSED_LEVELS,
    Guarded,
    columns,
    every_core,
    every_dtype,
    every_thread_count,
    fenced,
    same_bits,
)
from cases import ACTIVATIONS, Case

from fastbp import _native

every_activation = pytest.mark.parametrize("name", ACTIVATIONS)


def forward(core, name, z, threads=1):
    a = Guarded(z.shape, z.dtype)
    core.activation_forward(_native.ACTIVATIONS[name], z, a.array, threads)
    assert a.intact
    return a.array


def backward(core, name, a, da, threads=1):
    dz = Guarded(a.shape, a.dtype)
    core.activation_backward(_native.ACTIVATIONS[name], a, da, dz.array, threads)
    assert dz.intact
    return dz.array


def forward_bound(name, z, truth, dtype):
    if name == "softmax":
        return tolerances.softmax(z.astype(np.float64), dtype)
    if name in ("identity", "relu"):
        return 0.0
    return tolerances.ELEMENTARY_ULP * ulp(truth, dtype)


def ulp(truth, dtype):
    """The spacing of the dtype's numbers at the truth."""
    return np.spacing(np.abs(truth.astype(dtype))).astype(np.float64)


@every_core
@every_dtype
@every_thread_count
@every_activation
def test_forward_equals_the_reference_at_every_size(core, dtype, threads, name):
    rng = np.random.default_rng(1)
    for rows in (1, 3, 8, 65):
        for count in columns(dtype):
            z = fenced(rng.normal(0.0, 3.0, (rows, count)).astype(dtype))
            truth = reference.activation_forward(name, z.astype(np.float64))
            error = np.abs(forward(core, name, z, threads) - truth)
            # The truth itself is float64; for float64 it adds NumPy's own error, under 2 ULP.
            slack = 2.0 * np.spacing(np.abs(truth))
            assert (error <= forward_bound(name, z, truth, dtype) + slack).all(), (rows, count)


@every_core
@every_dtype
@every_thread_count
@every_activation
def test_backward_is_da_times_the_derivative_at_every_size(core, dtype, threads, name):
    rng = np.random.default_rng(2)
    for rows in (1, 3, 8, 65):
        for count in columns(dtype):
            z = rng.normal(0.0, 3.0, (rows, count))
            a = fenced(reference.activation_forward(name, z).astype(dtype))
            da = fenced(rng.normal(size=(rows, count)).astype(dtype))
            a64, da64 = a.astype(np.float64), da.astype(np.float64)
            error = np.abs(
                backward(core, name, a, da, threads) - reference.activation_backward(name, a64, da64)
            )
            assert (error <= tolerances.activation_derivative(name, a64, da64, dtype)).all(), (rows, count)


@every_core
@every_dtype
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_derivative_is_computed_in_the_type_of_its_numbers(core, dtype, name):
    """As where a dense layer's backward pass ends with it: no number is widened on the way."""
    rng = np.random.default_rng(11)
    a, da = rng.uniform(0.1, 0.9, (9, 37)).astype(dtype), rng.normal(size=(9, 37)).astype(dtype)
    one = dtype(1)
    truth = da * (a * (one - a)) if name == "sigmoid" else da * (one - a * a)
    assert same_bits(backward(core, name, a, da), truth)


@every_core
@every_dtype
@every_activation
def test_output_may_overwrite_input(core, dtype, name):
    rng = np.random.default_rng(3)
    z, da = rng.normal(size=(2, 9, 19)).astype(dtype)
    a = forward(core, name, z)
    dz = backward(core, name, a, da)
    core.activation_forward(_native.ACTIVATIONS[name], z, z, 1)
    core.activation_backward(_native.ACTIVATIONS[name], a, da, da, 1)
    assert same_bits(z, a)
    assert same_bits(da, dz)


@every_core
@every_dtype
@every_activation
def test_bits_do_not_depend_on_threads_or_on_the_place_in_the_array(core, dtype, name):
    rng = np.random.default_rng(4)
    z, da = rng.normal(0.0, 4.0, (2, 67, 37)).astype(dtype)  # some vectors reach beyond 8
    a = forward(core, name, z)
    dz = backward(core, name, a, da)
    for threads in (2, 3, 8):
        assert same_bits(forward(core, name, z, threads), a)
        assert same_bits(backward(core, name, a, da, threads), dz)
    for row in range(0, 67, 11):
        assert same_bits(forward(core, name, z[row : row + 1])[0], a[row])
        assert same_bits(backward(core, name, a[row : row + 1], da[row : row + 1])[0], dz[row])


@every_dtype
@every_activation
def test_bits_are_the_same_on_every_level_with_fused_multiply_add(dtype, name):
    rng = np.random.default_rng(5)
    z, da = rng.normal(0.0, 5.0, (2, 67, 37)).astype(dtype)
    outputs = [forward(CORES[level], name, z) for level in FUSED_LEVELS]
    assert all(same_bits(output, outputs[0]) for output in outputs)
    derivatives = [backward(CORES[level], name, outputs[0], da) for level in FUSED_LEVELS]
    assert all(same_bits(derivative, derivatives[0]) for derivative in derivatives)


# exp, tanh, sigmoid over the whole range


@functools.cache
def whole_range(dtype):
    """Numbers of every binary exponent and both signs, subnormals included, and ever denser towards 0."""
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    count = 1 << 16 if dtype == np.float32 else 1 << 12
    last = int(np.array(np.finfo(dtype).max).view(bits))
    positive = np.linspace(1, last, count).astype(bits).view(dtype)
    rng = np.random.default_rng(6)
    middle = rng.uniform(0.0, 30.0, count).astype(dtype)
    far = rng.uniform(0.0, 110.0 if dtype == np.float32 else 750.0, count).astype(dtype)
    near = rng.uniform(0.0, 1.0, count).astype(dtype)
    positive = np.concatenate([[0.0], positive, middle, far, near, [np.finfo(dtype).max]]).astype(dtype)
    return np.concatenate([positive, -positive])


MATHEMATICS = {
    "exp": mpmath.exp,
    "tanh": mpmath.tanh,
    "sigmoid": lambda value: 1 / (1 + mpmath.exp(-value)),
    "softplus": lambda value: mpmath.log1p(mpmath.exp(value)),
}


@functools.cache
def exactly(name, dtype):
    """f(z) in two parts; float64 carries float32's answers, mpmath to 100 bits float64's."""
    z = whole_range(dtype).astype(np.float64)
    if dtype == np.float32:
        with np.errstate(over="ignore"):
            if name == "softplus":
                truth = np.logaddexp(0, z)
            else:
                truth = reference.activation_forward(name, z[:, None])[:, 0]
        return truth, np.zeros_like(truth)
    with mpmath.workprec(100):
        exact = [MATHEMATICS[name](mpmath.mpf(value)) for value in z.tolist()]
        high = [float(value) for value in exact]
        low = [
            float(value - part) if np.isfinite(part) else 0.0 for value, part in zip(exact, high, strict=True)
        ]
    return np.array(high), np.array(low)


def error_in_ulp(got, high, low, dtype):
    """Of numbers whose truth is high + low; infinity is right where that overflows, 0 where subnormal."""
    with np.errstate(over="ignore"):
        finite = np.isfinite(high.astype(dtype))
    assert np.isposinf(got[~finite]).all()
    assert ((got == 0.0) | (np.abs(got) >= np.finfo(dtype).tiny)).all()
    error = np.zeros_like(high)
    error[finite] = np.abs((got[finite] - high[finite]) - low[finite]) / ulp(high[finite], dtype)
    error[(got == 0.0) & (np.abs(high) <= np.finfo(dtype).tiny)] = 0.0
    return error


@every_core
@every_dtype
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid"])
def test_exp_tanh_and_sigmoid_are_within_two_ulp_over_the_whole_range(core, dtype, name):
    z = whole_range(dtype)
    error = error_in_ulp(forward(core, name, z[None, :])[0].astype(np.float64), *exactly(name, dtype), dtype)
    worst = error.argmax()
    assert error[worst] <= tolerances.ELEMENTARY_ULP, (z[worst], error[worst])


@every_core
@every_dtype
def test_the_loss_of_a_logit_is_within_its_bound_over_the_whole_range(core, dtype):
    """Binary cross entropy with the target 0 is max(z, 0) + ln(1 + e^-|z|): up to 0 that logarithm alone."""
    z = whole_range(dtype)
    below = np.isfinite(z) & (z <= 0)
    z = z[below]
    case, target, steps = Case(((1, 1), "sigmoid"), "bce"), np.zeros(len(z), dtype), np.arange(len(z))
    run = natively.train(core, case, np.array([1, 0], dtype), z[:, None], target, steps, 1)
    high, low = exactly("softplus", dtype)
    error = error_in_ulp(run.losses, high[below], low[below], dtype)
    worst = error.argmax()
    assert error[worst] <= tolerances.SOFTPLUS_ULP, (z[worst], error[worst])


@every_core
@every_dtype
def test_limits_and_nan_come_out_as_the_mathematics_has_them(core, dtype):
    z = np.array([[-np.inf, np.inf, np.nan, 0.0, -0.0]], dtype)
    assert np.array_equal(forward(core, "sigmoid", z)[0], [0.0, 1.0, np.nan, 0.5, 0.5], equal_nan=True)
    assert np.array_equal(forward(core, "exp", z)[0], [0.0, np.inf, np.nan, 1.0, 1.0], equal_nan=True)
    tanh = forward(core, "tanh", z)[0]
    assert np.array_equal(tanh, [-1.0, 1.0, np.nan, 0.0, 0.0], equal_nan=True)
    assert np.signbit(tanh).tolist()[3:] == [False, True]
    relu = forward(core, "relu", z)[0]
    assert np.array_equal(relu, [0.0, np.inf, np.nan, 0.0, 0.0], equal_nan=True)


@every_core
@every_dtype
def test_tanh_of_a_small_number_is_that_number(core, dtype):
    info = np.finfo(dtype)
    z = np.array([[info.tiny, 3 * info.tiny, -info.tiny, -5 * info.tiny]], dtype)
    assert same_bits(forward(core, "tanh", z), z)


@every_core
@every_dtype
def test_softmax_rows_are_probabilities_however_large_the_numbers(core, dtype):
    largest = float(np.finfo(dtype).max)
    z = np.array([[largest, -largest, 0.0], [1000.0, 1000.0, 1000.0], [-1e4, -1e4 - 1.0, -1e4]], dtype)
    a = forward(core, "softmax", z)
    e = float(np.exp(-1.0))
    truth = np.array([[1.0, 0.0, 0.0], [1 / 3] * 3, [1 / (2 + e), e / (2 + e), 1 / (2 + e)]])
    bounded = z.astype(np.float64)
    bounded[0] = 0.0  # the spread of the first row has no rounding to allow for: its result is exact
    assert (np.abs(a - truth) <= tolerances.softmax(bounded, dtype)).all()
    assert a[0].tolist() == [1.0, 0.0, 0.0]


@every_core
@every_dtype
def test_relu_passes_nothing_at_exactly_zero(core, dtype):
    a, da = np.array([[0.0, -0.0, 1.0]], dtype), np.array([[5.0, 5.0, 5.0]], dtype)
    assert backward(core, "relu", a, da).tolist() == [[0.0, 0.0, 5.0]]


@every_core
def test_an_array_of_another_shape_is_refused(core):
    z, a = np.ones((2, 3)), np.ones((3, 2))
    with pytest.raises(ValueError, match="fit"):
        core.activation_forward(_native.ACTIVATIONS["relu"], z, a, 1)
    with pytest.raises(ValueError, match="fit"):
        core.activation_backward(_native.ACTIVATIONS["relu"], z, a, z, 1)
