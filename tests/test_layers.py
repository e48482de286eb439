"""The layers one at a time: values by hand, the kernels' results, and what each refuses."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import tolerances
from axes import DTYPES, every_dtype, same_bits
from cases import ACTIVATIONS

import fastbp as bp
from fastbp import _native

every_activation = pytest.mark.parametrize("name", ACTIVATIONS)


def dense(dtype="float64"):
    layer = bp.Dense(3, 2, dtype=dtype)
    layer.weight[...] = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    layer.bias[...] = [0.5, -0.5]
    return layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense_forward_and_backward_by_hand(dtype):
    layer = dense(dtype)
    y = layer.forward([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])
    assert y.tolist() == [[-3.5, -4.5], [5.5, 7.5]]
    assert y.dtype == dtype
    dx = layer.backward([[1.0, 0.0], [10.0, 1.0]])
    assert dx.tolist() == [[1.0, 3.0, 5.0], [12.0, 34.0, 56.0]]
    assert dx.dtype == dtype
    assert layer.gradients["weight"].tolist() == [[21.0, 2.0], [10.0, 1.0], [-1.0, 0.0]]
    assert layer.gradients["bias"].tolist() == [11.0, 1.0]


def test_the_derivative_by_an_array_has_the_shape_of_the_array():
    layer = bp.Dense(5, 3)
    x = np.random.default_rng(0).normal(size=(4, 5))
    assert layer.backward(layer.forward(x)).shape == x.shape
    assert {name: g.shape for name, g in layer.gradients.items()} == {
        name: p.shape for name, p in layer.parameters.items()
    }
    assert layer.weight.shape == (5, 3)
    assert layer.bias.shape == (3,)


def test_parameters_are_the_weight_and_the_bias_themselves():
    layer = dense()
    assert list(layer.parameters) == list(layer.gradients) == ["weight", "bias"]
    layer.parameters["weight"][0, 0] = 100.0
    assert layer.weight[0, 0] == 100.0
    assert layer.forward([[1.0, 0.0, 0.0]])[0, 0] == 100.5
    assert bp.ReLU().parameters == {} == bp.ReLU().gradients


def test_backward_overwrites_the_gradients():
    layer = dense()
    layer.forward([[1.0, 2.0, 3.0]])
    layer.backward([[1.0, 1.0]])
    first = layer.gradients["weight"].copy()
    layer.backward([[1.0, 1.0]])
    assert np.array_equal(layer.gradients["weight"], first)


def test_a_dense_on_its_own_draws_from_its_own_seed():
    first, again, other = (bp.Dense(4, 3, seed=seed).weight for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sigmoid_at_zero_is_a_half_with_derivative_a_quarter():
    layer = bp.Sigmoid()
    assert layer.forward([[0.0]]).tolist() == [[0.5]]
    assert layer.backward([[1.0]]).tolist() == [[0.25]]


def test_activations_by_hand():
    z = np.array([[-2.0, 0.0, 3.0]])
    assert bp.ReLU().forward(z).tolist() == [[0.0, 0.0, 3.0]]
    assert bp.Identity().forward(z).tolist() == z.tolist()
    assert bp.Softmax().forward(np.log([[1.0, 2.0, 5.0]])).round(12).tolist() == [[0.125, 0.25, 0.625]]
    assert abs(bp.Tanh().forward(np.log([[3.0]]))[0, 0] - 0.8) <= tolerances.unit(np.float64)


@every_activation
@every_dtype
def test_a_layer_gives_the_bits_of_the_kernel(name, dtype):
    rng = np.random.default_rng(1)
    z, da = rng.normal(size=(2, 9, 21)).astype(dtype)
    native, code = _native.kernels(np.dtype(dtype)), _native.ACTIVATIONS[name]
    a, dz = np.empty_like(z), np.empty_like(z)
    native.activation_forward(code, z, a, 1)
    native.activation_backward(code, a, da, dz, 1)
    layer = ACTIVATIONS[name]()
    assert same_bits(layer.forward(z), a)
    assert same_bits(layer.backward(da), dz)


@every_activation
def test_an_element_wise_jacobian_is_diagonal_and_softmax_has_its_own(name):
    z = np.random.default_rng(2).normal(size=(1, 6))
    numerical = np.array([
        bp.numerical_gradient(lambda moved, k=k: float(reference.activation_forward(name, moved)[0, k]), z)[0]
        for k in range(6)
    ])  # fmt: skip
    layer = ACTIVATIONS[name]()
    layer.forward(z)
    jacobian = np.array([layer.backward(row[None, :])[0] for row in np.eye(6)])
    assert np.abs(jacobian - numerical).max() <= tolerances.CENTRAL_DIFFERENCE
    off_diagonal = jacobian[~np.eye(6, dtype=bool)]
    assert off_diagonal.all() if name == "softmax" else not off_diagonal.any()


@every_activation
def test_forward_and_backward_do_not_write_to_what_they_are_given(name):
    rng = np.random.default_rng(3)
    for layer in (ACTIVATIONS[name](), bp.Dense(4, 4, dtype="float64")):
        x, dy = rng.normal(size=(2, 5, 4))
        kept = x.copy(), dy.copy()
        y = layer.forward(x)
        dx = layer.backward(dy)
        assert np.array_equal(x, kept[0])
        assert np.array_equal(dy, kept[1])
        assert not np.shares_memory(y, x)
        assert not np.shares_memory(dx, dy)


@every_activation
@pytest.mark.parametrize(
    ("given", "computed"), [("<f4", "f4"), (">f4", "f4"), (">f8", "f8"), ("f2", "f8"), ("?", "f8")]
)
def test_an_activation_computes_in_float32_for_float32_of_any_byte_order_else_in_float64(
    name, given, computed
):
    x = np.ones((2, 3), given)
    layer = ACTIVATIONS[name]()
    assert layer.forward(x).dtype == computed
    assert layer.backward(x).dtype == computed


@every_activation
def test_writing_to_an_output_does_not_change_the_derivative(name):
    """A layer may keep its output for backward; the caller's copy of it is the caller's."""
    z, dy = np.random.default_rng(4).normal(size=(2, 3, 4))
    layer, twin = ACTIVATIONS[name](), ACTIVATIONS[name]()
    layer.forward(z)[...] = 0.0
    twin.forward(z)
    assert np.array_equal(layer.backward(dy), twin.backward(dy))


@pytest.mark.parametrize("make", [lambda: bp.Dense(3, 3), *ACTIVATIONS.values()])
def test_backward_without_forward_or_with_another_shape_is_refused(make):
    layer = make()
    with pytest.raises(ValueError, match="forward"):
        layer.backward(np.ones((2, 3)))
    layer.forward(np.ones((2, 3)))
    for shape in ((1, 3), (2, 2), (2,)):
        with pytest.raises(ValueError, match="dy"):
            layer.backward(np.ones(shape))


def forwarded(layer):
    layer.forward(np.ones((1, 2)))
    return layer


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bp.Dense(3, 2).forward(np.ones((2, 5))), ValueError, "x has 5 columns.*3"),
        (lambda: bp.Dense(3, 2).forward(np.ones(3)), ValueError, r"x has 1 dimension.*x\[None, :\]"),
        (lambda: bp.Dense(3, 2).forward(np.ones((0, 3))), ValueError, "x has no rows"),
        (lambda: bp.Dense(3, 2).forward([["a", "b", "c"]]), ValueError, "x has dtype"),
        (lambda: bp.Dense(3, 2).forward(np.ones((2, 3), complex)), ValueError, "x has dtype complex128"),
        (lambda: bp.ReLU().forward(np.ones(3)), ValueError, "x has 1 dimension"),
        (lambda: bp.Dense(2, 2).forward([[1.0, np.nan]]), ValueError, r"^x\[0, 1\] is nan"),
        (lambda: bp.Dense(2, 2).forward([[1.0, 1e39]]), ValueError, r"^x\[0, 1\] is 1e\+39.*float32"),
        (lambda: bp.Sigmoid().forward([[np.inf]]), ValueError, r"^x\[0, 0\] is inf"),
        (lambda: forwarded(bp.Dense(2, 2)).backward([[1e39, 0.0]]), ValueError, r"^dy\[0, 0\] is 1e\+39"),
        (lambda: forwarded(bp.ReLU()).backward([[0.0, -np.inf]]), ValueError, r"^dy\[0, 1\] is -inf"),
        (lambda: forwarded(bp.ReLU()).backward([["a", "b"]]), ValueError, "^dy has dtype"),
        (lambda: bp.ReLU().forward([[1.0]], threads=0), ValueError, "threads"),
        (lambda: bp.Dense(0, 2), ValueError, "in_features is 0"),
        (lambda: bp.Dense(2, -1), ValueError, "out_features is -1"),
        (lambda: bp.Dense(2.5, 1), TypeError, "in_features is 2.5"),
        (lambda: bp.Dense(2, 1, dtype="int32"), ValueError, "dtype is 'int32'.*float32.*float64"),
        (lambda: bp.Dense(2, 1, seed=-1), ValueError, "seed is -1"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_mlp_puts_an_activation_between_and_an_output_behind():
    kinds = [type(layer) for layer in bp.mlp([64, 32, 16, 10], activation="tanh", output="softmax")]
    assert kinds == [bp.Dense, bp.Tanh, bp.Dense, bp.Tanh, bp.Dense, bp.Softmax]
    sizes = [
        (layer.in_features, layer.out_features)
        for layer in bp.mlp([64, 32, 10])
        if isinstance(layer, bp.Dense)
    ]
    assert sizes == [(64, 32), (32, 10)]
    with pytest.raises(ValueError, match=r"activation is 'rleu'.*'relu'"):
        bp.mlp([2, 3, 1], activation="rleu")
    with pytest.raises(ValueError, match="sizes"):
        bp.mlp([2])


def test_the_dtypes_under_test_are_those_of_the_library():
    assert {np.dtype(bp.Dense(1, 1, dtype=dtype).weight.dtype) for dtype in DTYPES} == set(
        map(np.dtype, DTYPES)
    )


def test_an_array_of_a_layer_is_written_into_and_never_replaced():
    layer = bp.Dense(2, 1, seed=0)
    before = layer.weight.copy()
    layer.parameters["weight"] -= 1.0
    assert same_bits(layer.weight, before - 1.0)
    with pytest.raises(TypeError, match="'weight' cannot be replaced, write into it"):
        layer.parameters["weight"] = np.zeros((2, 1), np.float32)
    with pytest.raises(TypeError, match="'scale' cannot be replaced"):
        layer.gradients["scale"] = np.zeros(1)


@pytest.mark.parametrize("rows", [3, 64, 300])
def test_what_comes_back_may_lie_in_the_gradients_that_it_makes(rows):
    layer, (x, slopes) = bp.Dense(rows, rows, seed=0), np.random.default_rng(0).normal(size=(2, rows, rows))
    layer.forward(x)
    layer.gradients["weight"][:] = slopes
    dy = layer.gradients["weight"].copy()
    dx = layer.backward(layer.gradients["weight"])
    found = {name: array.copy() for name, array in layer.gradients.items()}
    assert same_bits(dx, layer.backward(dy))
    assert all(same_bits(found[name], array) for name, array in layer.gradients.items())
