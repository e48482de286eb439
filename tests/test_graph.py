"""The computational graph: each node of the text book, and what numbers and arrays do in it."""

from __future__ import annotations

import copy
import gc
import inspect
import math
import pickle
import sys

import numpy as np
import pytest
from axes import same_bits

from fastbp import graph
from fastbp.graph import Operation, Variable, walk


def passed_back(node, g, *inputs):
    """The derivatives by the inputs when g arrives at a node."""
    node.backward(np.full(node.shape, g))
    return [x.grad.tolist() for x in inputs]


# The nodes of the text book: value forward, and what g = 5 becomes on its way back

UNARY = [
    (lambda x: 1 / x, 4.0, 0.25, -5 * 0.25**2),
    (graph.exp, 0.0, 1.0, 5.0),
    (graph.exp, math.log(3), np.exp(np.log(3)), 5 * np.exp(np.log(3))),
    (graph.log, 4.0, math.log(4), 5 / 4),
    (graph.square, -3.0, 9.0, 5 * -6.0),
    (lambda x: x**2, -3.0, 9.0, 5 * -6.0),
    (lambda x: x**3, -2.0, -8.0, 5 * 3 * 4.0),
    (lambda x: x**0, 0.0, 1.0, 0.0),
    (lambda x: x**-1, 4.0, 0.25, -5 / 16),
    (lambda x: 2**x, 3.0, 8.0, 5 * 8 * np.log(2)),
    (graph.sigmoid, 0.0, 0.5, 5 * 0.25),
    (graph.tanh, 0.0, 0.0, 5.0),
    (graph.relu, 3.0, 3.0, 5.0),
    (graph.relu, -3.0, 0.0, 0.0),
    (graph.relu, 0.0, 0.0, 0.0),
    (graph.step, 3.0, 1.0, 0.0),
    (graph.step, 0.0, 0.0, 0.0),
    (graph.absolute, -3.0, 3.0, -5.0),
    (abs, 0.0, 0.0, 0.0),
    (graph.sqrt, 4.0, 2.0, 5 / 4),
    (lambda x: -x, 3.0, -3.0, -5.0),
    (lambda x: x * x, 3.0, 9.0, 5 * 2 * 3.0),
    (lambda x: x + x, 3.0, 6.0, 10.0),
    (lambda x: x - x, 3.0, 0.0, 0.0),
    (lambda x: graph.clip(x, -1, 1), 0.5, 0.5, 5.0),
    (lambda x: graph.clip(x, -1, 1), 1.0, 1.0, 5.0),
    (lambda x: graph.clip(x, -1, 1), 2.0, 1.0, 0.0),
    (lambda x: graph.clip(x, low=-1), -2.0, -1.0, 0.0),
]


@pytest.mark.parametrize(("function", "x", "value", "derivative"), UNARY)
def test_a_node_of_one_input_passes_g_times_its_local_derivative(function, x, value, derivative):
    leaf = Variable(x)
    node = function(leaf)
    assert node.value == value
    assert passed_back(node, 5.0, leaf) == [derivative]


@pytest.mark.parametrize(
    ("function", "x", "y", "value", "derivatives"),
    [
        (lambda x, y: x + y, 3.0, 4.0, 7.0, [5.0, 5.0]),
        (lambda x, y: x - y, 3.0, 4.0, -1.0, [5.0, -5.0]),
        (lambda x, y: x * y, 3.0, 4.0, 12.0, [20.0, 15.0]),
        (lambda x, y: x / y, 3.0, 4.0, 0.75, [5 / 4, -5 * 3 / 16]),
        (lambda x, y: x**y, 3.0, 2.0, 9.0, [30.0, 5 * 9 * np.log(3)]),
        (lambda x, y: x**y, 0.0, 2.0, 0.0, [0.0, 0.0]),
        (graph.maximum, 3.0, 4.0, 4.0, [0.0, 5.0]),
        (graph.maximum, 4.0, 3.0, 4.0, [5.0, 0.0]),
        (graph.maximum, 4.0, 4.0, 4.0, [5.0, 0.0]),
        (graph.minimum, 3.0, 4.0, 3.0, [5.0, 0.0]),
        (graph.minimum, 4.0, 4.0, 4.0, [5.0, 0.0]),
        (lambda x, y: graph.where([True], x, y).sum(), 3.0, 4.0, 3.0, [5.0, 0.0]),
    ],
)
def test_a_node_of_two_inputs_passes_to_each_its_own(function, x, y, value, derivatives):
    first, second = Variable(x), Variable(y)
    node = function(first, second)
    assert node.value == value
    assert passed_back(node, 5.0, first, second) == derivatives


def test_the_affine_node():
    x, w, b = (
        Variable([[1.0, 2.0], [3.0, 4.0]]),
        Variable([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]),
        Variable([1.0, 2, 3]),
    )
    dz = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    for z in (graph.affine(x, w, b), x @ w + b):
        assert z.value.tolist() == [[2.0, 4.0, 7.0], [4.0, 6.0, 13.0]]
        z.backward(dz)
        assert np.array_equal(x.grad, dz @ w.value.T)
        assert np.array_equal(w.grad, x.value.T @ dz)
        assert np.array_equal(b.grad, dz.sum(axis=0))


def test_the_softmax_node_multiplies_by_its_jacobian_in_every_row():
    z = Variable([[0.0, math.log(3)], [1000.0, 1000.0]])
    a = graph.softmax(z)
    assert np.allclose(a.value, [[0.25, 0.75], [0.5, 0.5]], rtol=0, atol=np.finfo(float).eps)
    g = np.array([[1.0, 5.0], [2.0, 0.0]])
    a.backward(g)
    for row in range(2):
        jacobian = np.diag(a.value[row]) - np.outer(a.value[row], a.value[row])
        assert np.allclose(z.grad[row], jacobian @ g[row], rtol=0, atol=8 * np.finfo(float).eps)


def test_local_derivatives_are_what_the_text_book_multiplies_by():
    x, y = Variable([[2.0, 3.0]]), Variable([[4.0], [5.0]])
    assert [array.tolist() for array in (x * y).local_derivatives] == [
        [[4.0, 4.0], [5.0, 5.0]],
        [[2.0, 3.0], [2.0, 3.0]],
    ]
    assert [array.tolist() for array in (x - 1).local_derivatives] == [[[1.0, 1.0]], [[-1.0, -1.0]]]
    left, right = (y @ x).local_derivatives
    assert np.array_equal(left, x.value.T)
    assert np.array_equal(right, y.value.T)
    assert x.mean().local_derivatives == (0.5,)
    assert x.sum().local_derivatives == x.T.local_derivatives == x[0].local_derivatives == (1.0,)
    assert graph.step(x).local_derivatives[0].tolist() == [[0.0, 0.0]]
    assert x.local_derivatives == ()


# What is shared, repeated and moved


def test_a_node_used_twice_adds_up_what_comes_back_by_each_way():
    x = Variable(3.0, "x")
    shared = x * 2
    total = shared * shared + shared
    total.backward()
    assert shared.grad == 2 * 6 + 1
    assert x.grad == 2 * 13


def test_a_shared_node_passes_back_once_what_arrived_by_every_way():
    calls = []
    counted = Operation("counted", "x", lambda x: x, lambda y, x: (calls.append(1) or 1,))
    below = Variable(3.0)
    shared = counted(below)
    (shared * shared + 4 * shared).backward()
    assert calls == [1]
    assert below.grad == 2 * 3 + 4


def test_a_second_backward_starts_afresh():
    x, y = Variable(3.0), Variable(4.0)
    product = x * y
    total = product + x
    total.backward()
    total.backward()
    assert (x.grad, y.grad) == (5.0, 3.0)
    product.backward(10.0)
    assert (product.grad, x.grad, y.grad) == (10.0, 40.0, 30.0)


def test_every_node_that_backward_reaches_has_a_derivative_of_its_shape():
    x, w, b = Variable(np.ones((3, 2)), "x"), Variable(np.ones((2, 4)), "w"), Variable(np.ones(4), "b")
    loss = ((graph.tanh(x @ w + b) - np.zeros((3, 4))) ** 2).mean(axis=1).sum()
    assert all(node.grad is None for node in walk(loss))
    loss.backward()
    assert all(node.grad.shape == node.shape for node in walk(loss))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (3, 1), (1, 1), (2, 3, 4), (2, 1, 1)])
def test_what_was_repeated_to_fit_gets_the_sum_back(shape):
    x, y = Variable(np.full(shape, 2.0)), Variable(np.arange(12.0).reshape(3, 4))
    product = x * y
    g = np.arange(float(product.size)).reshape(product.shape)
    product.backward(g)
    assert x.grad.shape == shape
    assert x.grad.sum() == (g * y.value).sum()
    assert np.array_equal(x.grad, _summed_to(g * y.value, shape))
    assert np.array_equal(y.grad, _summed_to(2 * g, (3, 4)))


def _summed_to(array, shape):
    """Entry by entry."""
    total = np.zeros(shape)
    places = np.broadcast_to(np.arange(total.size).reshape(shape), array.shape)
    for place, entry in zip(places.ravel(), array.ravel(), strict=True):
        total.reshape(-1)[place] += entry
    return total


@pytest.mark.parametrize(
    "key",
    [0, -1, (1, 2), slice(0, 2), (slice(None), 1), (..., None, 0), [0, 0, 2], ([0, 0], [1, 1]),
     np.array([2, 2]), (slice(1, None), [3, 3, 0]), np.arange(12).reshape(3, 4) > 5,
     (np.array([True, False, True]), 1)],
)  # fmt: skip
def test_indexing_brings_back_to_each_place_all_that_was_taken_from_it(key):
    x = Variable(np.arange(12.0).reshape(3, 4))
    taken = x[key]
    assert np.array_equal(taken.value, x.value[key])
    g = np.arange(1.0, taken.size + 1).reshape(taken.shape)
    taken.backward(g)
    places = np.arange(12).reshape(3, 4)[key]
    assert np.array_equal(x.grad.ravel(), np.bincount(places.ravel(), g.ravel(), 12))


def test_labels_that_are_a_node_choose_entries():
    p, labels = Variable([[0.25, 0.75], [0.5, 0.5]]), Variable([1, 0])
    p[np.arange(2), labels].sum().backward()
    assert p.grad.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    with pytest.raises(IndexError, match="expected whole numbers"):
        p[Variable(0.5)]


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (-1, 0)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_sum_and_mean_spread_over_the_axes_they_ran_along(axis, keepdims):
    x = Variable(np.arange(24.0).reshape(2, 3, 4))
    for node, factor in ((x.sum(axis, keepdims), 1.0), (x.mean(axis, keepdims), None)):
        factor = factor or node.size / 24
        assert np.array_equal(node.value, x.value.sum(axis=axis, keepdims=keepdims) * factor)
        g = np.arange(1.0, node.size + 1).reshape(node.shape)
        node.backward(g)
        kept = g.reshape(x.value.sum(axis=axis, keepdims=True).shape)
        assert np.array_equal(x.grad, np.broadcast_to(kept * factor, x.shape))


@pytest.mark.parametrize("axes", [(), (0, 2, 1), (2, 0, 1), (-1, 0, 1), ((1, 2, 0),)])
def test_transposed_derivatives_go_back_to_their_axes(axes):
    x = Variable(np.arange(24.0).reshape(2, 3, 4))
    node = x.transpose(*axes)
    assert np.array_equal(node.value, x.value.transpose(*axes))
    node.backward(node.value)
    assert np.array_equal(x.grad, x.value)


@pytest.mark.parametrize("first", [(2,), (3, 2)])
@pytest.mark.parametrize("second", [(2,), (2, 4)])
def test_products_of_vectors_and_matrices(first, second):
    rng = np.random.default_rng(0)
    x, y = Variable(rng.integers(-5, 5, first)), Variable(rng.integers(-5, 5, second))
    node = x @ y
    g = rng.integers(-5, 5, node.shape).astype(float)
    node.backward(g)
    rows, columns = x.value.reshape(-1, 2), y.value.reshape(2, -1)
    upper = g.reshape(len(rows), columns.shape[1])
    assert np.array_equal(x.grad, (upper @ columns.T).reshape(first))
    assert np.array_equal(y.grad, (rows.T @ upper).reshape(second))


# Arrays, numbers and NumPy's own functions


def test_arrays_and_numbers_stand_on_either_side_of_every_operator():
    x, array = Variable([[1.0, 2.0], [4.0, 8.0]]), np.array([[2.0, 4.0], [8.0, 2.0]])
    for operation in ("+", "-", "*", "/", "**", "@", "<", "<=", ">", ">=", "==", "!="):
        for other in (array, array.tolist(), 2, 2.0, np.float64(2.0), np.int8(2), np.array(2.0)):
            if operation == "@" and np.ndim(other) == 0:
                continue
            for text in (f"x {operation} other", f"other {operation} x"):
                got = eval(text)
                wanted = eval(text, {"x": x.value, "other": np.asarray(other, float)})
                compared = operation in ("<", "<=", ">", ">=", "==", "!=")
                assert isinstance(got, np.ndarray | np.bool_ if compared else Variable)
                assert np.array_equal(got if compared else got.value, wanted), text


def test_functions_of_numpy_are_those_of_the_graph():
    x, y = Variable([[0.5, 2.0]], "x"), Variable([[1.0, 1.0]], "y")
    for name in ("exp", "log", "sqrt", "square", "absolute", "tanh", "negative"):
        assert getattr(np, name)(x).operation == getattr(graph, name)(x).operation
    for name in ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum"):
        assert np.array_equal(getattr(np, name)(x, y).value, getattr(np, name)(x.value, y.value))
    assert np.sum(x, axis=1).operation == "sum"
    assert np.mean(x).operation == "mean"
    assert np.where(x > 1, x, y).operation == "where"
    assert np.clip(x, 0, 1).value.tolist() == [[0.5, 1.0]]
    assert np.clip(x, a_min=1, a_max=None).value.tolist() == [[1.0, 2.0]]
    assert np.clip(x, a_min=None, a_max=1).value.tolist() == [[0.5, 1.0]]
    if "min" in inspect.signature(np.clip).parameters:  # NumPy 2.1
        assert np.clip(x, min=1).value.tolist() == [[1.0, 2.0]]
        assert np.clip(x, min=0.75, max=1).value.tolist() == [[0.75, 1.0]]
    assert np.transpose(x).shape == np.reshape(x, (2, 1)).shape == (2, 1)
    assert (np.shape(x), np.ndim(x), np.size(x), len(x)) == ((1, 2), 2, 2, 1)


def test_a_sum_that_grows_term_by_term_is_a_chain_of_nodes():
    terms = [Variable(float(k)) for k in range(4)]
    total = 0
    for term in terms:
        total += term * term
    total -= 1
    total.backward()
    assert float(total) == 13.0
    assert [float(term.grad) for term in terms] == [0.0, 2.0, 4.0, 6.0]
    assert float(sum(terms)) == 6.0
    assert [float(entry) for entry in Variable([1.0, 2.0])] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("other", "dtype"),
    [(2.0, "float32"), (np.float64(2), "float32"), (2, "float32"), (np.array([1, 2]), "float32"),
     (np.array([True, False]), "float32"), ([1.0, 2.0], "float32"), (np.ones(2, "float32"), "float32"),
     (np.ones(2), "float64"), (Variable(2.0), "float64")],
)  # fmt: skip
def test_float32_stays_unless_it_meets_an_array_or_a_node_of_float64(other, dtype):
    x = Variable(np.ones(2, np.float32))
    for node in (x * other, other + x):
        node.backward(np.ones(2))
        assert node.dtype == node.grad.dtype == np.dtype(dtype)
        assert isinstance(other, np.ndarray | Variable) or {x.dtype for x in node.inputs} == {x.dtype}
        assert x.grad.dtype == np.float32


def test_a_value_is_float64_unless_it_is_a_float32_array():
    for value in (1, True, 1.0, [1, 2], np.ones(2, np.float16), np.ones(2, np.int32)):
        assert Variable(value).dtype == np.float64
    assert Variable(np.ones(2, np.float32)).dtype == Variable(np.float32(1)).dtype == np.float32


def test_the_value_is_a_copy_and_may_be_moved_against_its_derivative():
    start = np.array([3.0, 4.0])
    w = Variable(start, "w")
    for _ in range(100):
        loss = (w**2).sum()
        loss.backward()
        w.value -= 0.25 * w.grad
    assert np.abs(w.value).max() < 1e-12
    assert start.tolist() == [3.0, 4.0]
    w.value = [1, 2]
    assert same_bits(w.value, np.array([1.0, 2.0]))
    with pytest.raises(AttributeError, match=r"computed by 'sum'"):
        loss.value = 3.0


# Bad points: IEEE arithmetic, without warnings


def test_logarithms_roots_and_quotients_at_the_edge_of_their_domain():
    x = Variable([0.0, -1.0, 4.0])
    assert graph.log(x).value.tolist()[0] == -np.inf
    assert (1 / x).value.tolist() == [np.inf, -1.0, 0.25]
    root = graph.sqrt(x)
    assert np.array_equal(root.value, [0.0, np.nan, 2.0], equal_nan=True)
    root.backward(np.ones(3))
    assert np.array_equal(x.grad, [np.inf, np.nan, 0.25], equal_nan=True)
    assert graph.sigmoid(Variable([-1e4, 1e4])).value.tolist() == [0.0, 1.0]
    assert graph.exp(Variable(1e4)).value == np.inf


@pytest.mark.parametrize("function", [graph.log, graph.sqrt, lambda x: 1 / x, lambda x: x**-0.5])
def test_nothing_comes_back_where_nothing_arrives_however_steep(function):
    x = Variable([0.0, 4.0])
    graph.where(x > 1, function(x), 0.0).sum().backward()
    assert x.grad[0] == 0.0
    assert np.isfinite(x.grad[1])


# Depth


def chain(length):
    x = Variable(1.0, "x")
    node = x
    for _ in range(length):
        node = node + 1.0
    return x, node


def test_a_chain_far_deeper_than_the_recursion_limit():
    length = 100 * sys.getrecursionlimit()
    x, node = chain(length)
    node.backward()
    assert x.grad == 1.0
    assert float(node) == 1.0 + length
    assert len(walk(node)) == 2 * length + 1
    assert repr(node) == f"Variable({length + 1}., operation='+')"
    for refused in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match=r"take node\.value"):
            refused(node)
    del node
    gc.collect()
    assert x.grad == 1.0


def test_a_node_without_inputs_can_be_copied_and_pickled():
    x = Variable([1.0, 2.0], "x")
    for twin in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert (twin.name, twin.value.tolist(), twin.inputs) == ("x", [1.0, 2.0], ())
        twin.value[0] = 7.0
    assert x.value.tolist() == [1.0, 2.0]


def test_nodes_come_after_their_inputs_and_each_once():
    x = Variable(1.0)
    y = graph.exp(x) * x + x
    nodes = walk(y)
    assert len(nodes) == len(set(nodes)) == 4
    assert nodes[-1] is y
    assert all(nodes.index(before) < place for place, node in enumerate(nodes) for before in node.inputs)
