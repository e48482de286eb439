"""The affine kernels of every core against the reference, at every size around the register tile."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tolerances
from axes import (
    CORES,
    FUSED_LEVELS,
    ROWS,
    TERMS,
    Guarded,
    columns,
    every_core,
    every_dtype,
    every_thread_count,
    fenced,
    same_bits,
)

SQUARES = (
    (65, 130, 67),
    (257, 28, 300),
    (3, 784, 129),
    (515, 516, 530),
    (514, 530, 70),
    (600, 50, 1),
    (600, 50, 3),
    (2100, 530, 133),
)  # rows, terms, columns: several tiles and blocks each way, rows that are packed or copied together


def shapes(dtype):
    return [*itertools.product(ROWS, TERMS, columns(dtype)), *SQUARES]


def operands(rng, rows, inputs, outputs, dtype):
    x, weight, bias, dz = (
        fenced(rng.normal(size=shape).astype(dtype))
        for shape in ((rows, inputs), (inputs, outputs), (outputs,), (rows, outputs))
    )
    return x, weight, bias, dz


def scratch_for(core, weight, *arguments):
    return core.layer_scratch(weight[0], *weight.shape, *arguments)


def forward(core, x, weight, bias, threads):
    z = Guarded((len(x), weight.shape[1]), x.dtype)
    scratch = Guarded((scratch_for(core, weight, len(x), False, threads),), x.dtype)
    core.dense_forward(x, weight, bias, z.array, scratch.array, threads)
    assert z.intact
    assert scratch.intact
    return z.array


def backward(core, x, weight, dz, threads, *, with_dx=True):
    outputs = weight.shape[1]
    dx = Guarded(x.shape if with_dx else (0, 0), x.dtype)
    dweight, dbias = Guarded(weight.shape, x.dtype), Guarded((outputs,), x.dtype)
    scratch = Guarded((scratch_for(core, weight, len(x), True, threads),), x.dtype)
    core.dense_backward(x, weight, dz, dx.array, dweight.array, dbias.array, scratch.array, threads)
    assert all(guarded.intact for guarded in (dx, dweight, dbias, scratch))
    return dx.array, dweight.array, dbias.array


def assert_product(got, left, right, terms, bias, label):
    truth = left.astype(np.float64) @ right.astype(np.float64) + bias
    magnitude = np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64) + np.abs(bias)
    error = np.abs(got - truth)
    assert (error <= tolerances.product(terms, magnitude, got.dtype)).all(), (label, error.max())


@every_core
@every_dtype
@every_thread_count
def test_forward_is_x_times_weight_plus_bias_at_every_size(core, dtype, threads):
    rng = np.random.default_rng(1)
    for rows, inputs, outputs in shapes(dtype):
        x, weight, bias, _ = operands(rng, rows, inputs, outputs, dtype)
        z = forward(core, x, weight, bias, threads)
        assert_product(z, x, weight, inputs, bias.astype(np.float64), (rows, inputs, outputs))


@every_core
@every_dtype
@every_thread_count
def test_backward_gives_the_three_derivatives_at_every_size(core, dtype, threads):
    rng = np.random.default_rng(2)
    for rows, inputs, outputs in shapes(dtype):
        x, weight, _, dz = operands(rng, rows, inputs, outputs, dtype)
        dx, dweight, dbias = backward(core, x, weight, dz, threads)
        label = (rows, inputs, outputs)
        assert_product(dx, dz, weight.T, outputs, 0.0, ("dx", *label))
        assert_product(dweight, x.T, dz, rows, 0.0, ("dweight", *label))
        assert_product(dbias, np.ones(rows), dz, rows, 0.0, ("dbias", *label))


@every_core
@every_dtype
def test_bits_do_not_depend_on_threads(core, dtype):
    rng = np.random.default_rng(3)
    for rows, inputs, outputs in SQUARES:
        x, weight, bias, dz = operands(rng, rows, inputs, outputs, dtype)
        alone = forward(core, x, weight, bias, 1), *backward(core, x, weight, dz, 1)
        for threads in (2, 3, 8):
            together = forward(core, x, weight, bias, threads), *backward(core, x, weight, dz, threads)
            assert all(map(same_bits, alone, together)), (rows, inputs, outputs, threads)


@every_core
@every_dtype
def test_a_row_of_the_product_does_not_depend_on_the_rows_around_it(core, dtype):
    """Of few terms a panel of weights stays in registers while rows pass; a row alone is read otherwise."""
    rng = np.random.default_rng(4)
    for terms, outputs in itertools.product((*range(1, 7), 40), columns(dtype)):
        x, weight, bias, _ = operands(rng, 17, terms, outputs, dtype)
        together = forward(core, x, weight, bias, 1)
        for row in range(len(x)):
            alone = forward(core, x[row : row + 1], weight, bias, 1)
            assert same_bits(alone[0], together[row]), (terms, outputs)


@every_dtype
def test_a_single_output_is_the_same_dot_product_on_every_fused_level_in_any_company(dtype):
    rng = np.random.default_rng(7)
    for inputs in (*range(1, 36), 64, 65, 300):
        x, weight, bias, _ = operands(rng, 9, inputs, 1, dtype)
        together = [forward(CORES[level], x, weight, bias, 1) for level in FUSED_LEVELS]
        assert all(same_bits(z, together[0]) for z in together)
        for level in FUSED_LEVELS:
            for rows in (slice(0, 1), slice(4, 6), slice(6, 9)):
                assert same_bits(forward(CORES[level], x[rows], weight, bias, 1), together[0][rows]), inputs


@every_dtype
def test_products_that_vanish_leave_the_same_zero_on_every_fused_level(dtype):
    """Below 0 they are rounded to -0.0, and a sum of such is -0.0 unless a 0.0 is among its terms."""
    small = dtype(np.finfo(dtype).tiny)
    for count in range(1, 50):
        row, column = np.full((1, count), -small), np.full((count, 1), small)
        zero, x = -np.zeros(1, dtype), np.zeros((1, 3), dtype)
        weight = np.repeat(column.T, 3, axis=0)
        results = [
            (forward(core, row, column, zero, 1), backward(core, x, weight, row, 1)[0])
            for core in (CORES[level] for level in FUSED_LEVELS)
        ]
        for z, dx in results[1:]:
            assert same_bits(z, results[0][0]), count
            assert same_bits(dx, results[0][1]), count


@every_core
@every_dtype
def test_the_gradient_of_the_bias_is_summed_in_four_chains_at_every_size(core, dtype):
    rng = np.random.default_rng(8)
    for rows, outputs in itertools.product(range(1, 14), columns(dtype)):
        x, weight, _, dz = operands(rng, rows, 2, outputs, dtype)
        chains = np.zeros((4, outputs), dtype)
        for row in range(rows):
            chains[row % 4] += dz[row]
        _, _, dbias = backward(core, x, weight, dz, 1)
        assert same_bits(dbias, (chains[0] + chains[1]) + (chains[2] + chains[3])), (rows, outputs)


@every_core
@every_dtype
def test_an_empty_dx_is_not_formed_and_changes_nothing_else(core, dtype):
    x, weight, _, dz = operands(np.random.default_rng(5), 9, 20, 17, dtype)
    _, *with_dx = backward(core, x, weight, dz, 2)
    _, *without = backward(core, x, weight, dz, 2, with_dx=False)
    assert all(map(same_bits, with_dx, without))


@every_core
@every_dtype
def test_infinities_and_nan_pass_through_the_product_where_they_belong(core, dtype):
    x, weight, bias, _ = operands(np.random.default_rng(6), 9, 8, 17, dtype)
    x[3, 5], x[4, 0] = np.nan, np.inf
    z = forward(core, x, weight, bias, 1)
    assert np.isnan(z[3]).all()
    assert np.isinf(z[4]).all()
    assert np.isfinite(np.delete(z, (3, 4), axis=0)).all()


@every_core
@every_dtype
def test_subnormal_numbers_are_zero_in_every_thread(core, dtype):
    tiny = np.finfo(dtype).tiny
    for threads in (1, 2):
        # a normal product; one that is not; a factor that is not
        for x, weight, product in ((tiny, 3.0, 3 * tiny), (tiny, 0.5, 0.0), (tiny / 2, 2.0, 0.0)):
            rows, weights = np.full((16, 1), x, dtype), np.full((1, 40), weight, dtype)
            z = forward(core, rows, weights, np.zeros(40, dtype), threads)
            assert (z == product).all()


@every_core
@pytest.mark.parametrize(
    ("name", "shape"), [("weight", (5, 4)), ("bias", (5,)), ("z", (2, 5)), ("z", (3, 4))], ids=str
)
def test_forward_refuses_an_array_of_another_shape(core, name, shape):
    arrays = {"x": np.ones((2, 3)), "weight": np.ones((3, 4)), "bias": np.ones(4), "z": np.ones((2, 4))}
    arrays[name] = np.ones(shape)
    with pytest.raises(ValueError, match="fit"):
        core.dense_forward(*arrays.values(), np.empty(0), 1)


@every_core
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("weight", (5, 4)), ("dz", (2, 5)), ("dx", (2, 4)), ("dweight", (4, 3)), ("dbias", (3,)),
    ],
    ids=str,
)  # fmt: skip
def test_backward_refuses_an_array_of_another_shape(core, name, shape):
    shapes = {
        "x": (2, 3), "weight": (3, 4), "dz": (2, 4), "dx": (2, 3), "dweight": (3, 4), "dbias": (4,),
    }  # fmt: skip
    arrays = {key: np.ones(value) for key, value in (shapes | {name: shape}).items()}
    with pytest.raises(ValueError, match="fit"):
        core.dense_backward(*arrays.values(), np.empty(10_000), 1)


@every_core
@pytest.mark.parametrize(
    ("rows", "shape", "threads"), [(0, (3, 4), 1), (-5, (3, 4), 1), (2, (0, 4), 1), (2, (3, 4), 0)]
)
def test_scratch_for_nothing_is_refused(core, rows, shape, threads):
    for backward in (False, True):
        with pytest.raises(ValueError, match="fit"):
            core.layer_scratch(np.ones(1), *shape, rows, backward, threads)


@every_core
def test_too_little_scratch_is_refused(core):
    x, weight, bias, z = np.ones((40, 3)), np.ones((3, 600)), np.ones(600), np.ones((40, 600))
    for threads in (1, 3):
        ahead, back = (scratch_for(core, weight, 40, backward, threads) for backward in (False, True))
        with pytest.raises(ValueError, match=f"scratch has {ahead - 1} entries"):
            core.dense_forward(x, weight, bias, z, np.empty(ahead - 1), threads)
        with pytest.raises(ValueError, match=f"scratch has {back - 1} entries"):
            core.dense_backward(
                x, weight, z, np.empty((0, 0)), weight.copy(), bias, np.empty(back - 1), threads
            )


@every_core
def test_an_array_of_another_dtype_or_layout_is_refused(core):
    x, weight, bias, z = np.ones((2, 3)), np.ones((3, 4)), np.ones(4), np.ones((2, 4))
    room = np.empty(0)
    with pytest.raises((ValueError, TypeError)):
        core.dense_forward(x, weight.astype(np.float32), bias, z, room, 1)
    with pytest.raises((ValueError, TypeError)):
        core.dense_forward(x, np.asfortranarray(weight), bias, z, room, 1)
    with pytest.raises((ValueError, TypeError)):
        core.dense_forward(x.astype(np.int64), weight, bias, z, room, 1)
