"""The graph of a network on a batch: the kernels' own numbers, by their text-book names."""

from __future__ import annotations

import sys
import types

import numpy as np
import own
import pytest
import tolerances
from axes import same_bits
from cases import Case

import fastbp as bp
from fastbp import graph, losses
from fastbp.network_graph import NetworkGraph

ROWS = 9

CASES = [
    Case(((5, 7), "relu", (7, 4), "tanh", (4, 3), "identity"), "mse", "mean"),
    Case(((5, 7), "sigmoid", (7, 2)), "mse", "sum"),
    Case(((4, 6), "exp", (6, 5), "softmax", (5, 2), "exp"), "mse", "mean"),
    Case(((3, 8), "tanh", (8, 1), "sigmoid"), "bce", "mean"),
    Case(((3, 8), "relu", (8, 4), "sigmoid"), "bce", "sum"),
    Case(((6, 5), "relu", (5, 3), "softmax"), "cross_entropy", "mean"),
    Case(((6, 3), "softmax"), "cross_entropy", "sum"),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.loss}-{case.reduction}")
every_dtype_name = pytest.mark.parametrize("dtype", ["float32", "float64"])


def prepared(case, dtype):
    rng = np.random.default_rng(3)
    net = case.network(dtype)
    net.parameters[:] = case.parameters(rng)
    return net, *case.data(rng, ROWS)


def flat_gradient(nodes):
    """dW1, db1, dW2, ... as the network's vector has them."""
    return np.concatenate([node.grad.ravel() for name, node in nodes.items() if name[0] in "Wb"])


@every_case
@every_dtype_name
def test_loss_and_gradient_are_those_of_the_kernels(case, dtype):
    net, x, y = prepared(case, dtype)
    loss, gradient = net.loss_and_gradient(x, y)
    nodes = net.graph(x, y)
    largest = max(np.abs(array).max() for node in graph.walk(nodes.loss) for array in (node.value, node.grad))
    bound = tolerances.fuzzed(case.widths, ROWS, float(largest), dtype)
    assert abs(float(nodes.loss) - loss) <= bound
    assert np.abs(flat_gradient(nodes) - gradient).max() <= bound
    assert {node.dtype for node in nodes.values()} == {np.dtype(dtype)}


@every_case
@every_dtype_name
def test_every_intermediate_is_that_of_the_layers(case, dtype):
    net, x, y = prepared(case, dtype)
    nodes = net.graph(x, y)
    values = [x.astype(dtype)]
    for layer in net.layers:
        values.append(layer.forward(values[-1]))
    named = [nodes[name] for name in nodes if name[0] in "XZA"]
    assert len(named) == len(values)
    largest = max(float(np.abs(value).max()) for value in values)
    for node, value in zip(named, values, strict=True):
        assert np.abs(node.value - value).max() <= tolerances.fuzzed(case.widths, ROWS, largest, dtype)
    net.forward(x)
    dx = net.backward(nodes[list(nodes)[-3]].grad)
    steepest = max(float(np.abs(node.grad).max()) for node in nodes.values())
    bound = tolerances.fuzzed(case.widths, ROWS, max(largest, steepest), dtype)
    assert np.abs(nodes["X"].grad - dx).max() <= bound


def test_labels_and_their_one_hot_rows_are_one():
    net = bp.Network(bp.mlp([3, 5, 4], output="softmax"), loss="cross_entropy", dtype="float64")
    x, labels = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 3, 1, 1, 2, 0])
    of_labels, of_rows = net.graph(x, labels), net.graph(x, np.eye(4)[labels])
    assert of_labels["Y"].value.tolist() == np.eye(4)[labels].tolist()
    assert same_bits(of_labels.loss.value, of_rows.loss.value)
    assert same_bits(of_labels["W1"].grad, of_rows["W1"].grad)


def test_a_layer_with_the_identity_is_one_node_of_two_names():
    nodes = bp.Network([bp.Dense(2, 2), bp.Identity(), bp.Sigmoid(), bp.Tanh()]).graph(
        [[1.0, 2.0]], [[0.0, 1.0]]
    )
    assert list(nodes) == ["X", "W1", "b1", "Z1", "A1", "A1'", "A1''", "Y", "L"]
    assert nodes["A1"] is nodes["Z1"]
    assert nodes["A1"].name == "Z1"
    assert nodes["A1'"].operation == "sigmoid"
    assert nodes["A1''"].inputs == (nodes["A1'"],)


def test_an_activation_before_the_first_dense_layer_has_the_number_0():
    nodes = bp.Network([bp.Tanh(), bp.Dense(2, 1)]).graph([[1.0, 2.0]], [1.0])
    assert list(nodes) == ["X", "A0", "W1", "b1", "Z1", "Y", "L"]


@pytest.mark.parametrize(("loss", "y"), [("bce", [[1.0], [0.0]]), ("cross_entropy", [1, 0])])
def test_a_probability_that_is_rounded_to_0_or_1_leaves_the_loss_finite(loss, y):
    last, outputs = (bp.Sigmoid(), 1) if loss == "bce" else (bp.Softmax(), 2)
    net = bp.Network([bp.Dense(1, outputs), last], loss=loss)
    net.parameters[:] = [1000.0, 0.0] if loss == "bce" else [-1000.0, 1000.0, 0.0, 0.0]
    nodes = net.graph([[1.0], [-1.0]], y)
    assert float(nodes.loss) == 0.0 == net.loss_and_gradient([[1.0], [-1.0]], y)[0]
    assert all(np.isfinite(node.grad).all() for node in nodes.values())


def test_the_network_and_its_data_are_not_touched():
    net = bp.Network(bp.mlp([2, 3, 1]))
    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    net.forward(x)
    net.gradients[:] = 7.0
    nodes = net.graph(x, y)
    assert (net.gradients == 7.0).all()
    for name in ("X", "Y", "W1"):
        nodes[name].value[...] = 9.0
    assert x.max() == y.max() == 1.0
    assert net.layers[0].weight.max() < 9.0
    assert net.backward(np.ones((4, 1))).shape == (4, 2)


def test_every_loss_by_name_has_its_terms():
    for name in losses.NAMES:
        last = {"bce": "sigmoid", "cross_entropy": "softmax"}.get(name, "identity")
        net = bp.Network(bp.mlp([2, 3, 2], output=last), loss=name, dtype="float64")
        x, y = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
        assert abs(float(net.graph(x, y).loss) - net.evaluate(x, y)["loss"]) <= tolerances.chain(
            [2, 3, 2], 2, 4.0, np.float64
        )


def test_data_is_checked_as_for_fit():
    net = bp.Network(bp.mlp([2, 3, 1]))
    with pytest.raises(ValueError, match="x has 3 columns, but the network takes 2 features"):
        net.graph(np.ones((4, 3)), np.ones(4))
    with pytest.raises(ValueError, match=r"x\[1, 0\] is nan, expected finite numbers"):
        net.graph([[1.0, 2.0], [np.nan, 0.0]], [1.0, 2.0])
    with pytest.raises(KeyError, match="'Z3' is no node of the network, expected one of X, W1"):
        net.graph(np.ones((4, 2)), np.ones(4))["Z3"]


# Losses and layers of one's own


def with_loss(function, y):
    net = bp.Network(bp.mlp([2, 3, 1], "tanh"), dtype="float64")
    x = np.array([[1.0, 2.0], [0.5, -1.0]])
    return net, x, NetworkGraph(net.layers, bp.CustomLoss(function), x, np.asarray(y))


def test_a_loss_that_is_a_function_of_nodes_is_called():
    net, x, nodes = with_loss(lambda output, target: ((output - target) ** 2).mean(), [1.0, 0.0])
    loss, gradient = net.loss_and_gradient(x, [1.0, 0.0])
    bound = tolerances.chain([2, 3, 1], 2, max(1.0, loss), np.float64)
    assert abs(float(nodes.loss) - loss) <= bound
    assert np.abs(flat_gradient(nodes) - gradient).max() <= bound


def test_a_loss_that_does_not_look_at_something_leaves_it_without_a_derivative():
    _, _, nodes = with_loss(lambda output, target: output.sum(), [1.0, 0.0])
    assert nodes["Y"].grad is None
    assert "Y       (2, 1)          dL/dY" in nodes.table().splitlines()


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda output, target: 1.0, TypeError, "^loss <lambda> gave a float, expected a node"),
        (
            lambda output, target: output - target,
            ValueError,
            r"^loss <lambda> gave shape \(2, 1\)",
        ),
    ],
)
def test_a_loss_that_gives_no_single_number_is_refused(function, error, message):
    with pytest.raises(error, match=message):
        with_loss(function, [1.0, 0.0])


class TextBookSigmoid(bp.Layer):
    name = "of the text book"

    def __init__(self):
        super().__init__()
        self.out = None

    def forward(self, x, threads=None):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout, threads=None):
        return dout * (1 - self.out) * self.out


def test_a_layer_of_ones_own_is_one_node_with_its_own_backward():
    net = bp.Network(bp.mlp([2, 3, 1], "sigmoid"), dtype="float64")
    x, y = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([1.0, 0.0])
    own = TextBookSigmoid()
    nodes = NetworkGraph((net.layers[0], own, *net.layers[2:]), net.loss, x, y)
    assert nodes["A1"].operation == "TextBookSigmoid"
    assert nodes["A1"].inputs == (nodes["Z1"],)
    assert own.out is None
    wanted = net.graph(x, y)
    bound = tolerances.chain([2, 3, 1], 2, 1.0, np.float64)
    for _ in range(2):
        nodes.loss.backward()
        assert np.abs(nodes["W1"].grad - wanted["W1"].grad).max() <= bound


class Gain(bp.Layer):
    """y = gain x, column by column."""

    name = "gain"

    def __init__(self, gain):
        super().__init__()
        self._parameters, self._gradients = {"gain": gain}, {"gain": np.zeros_like(gain)}

    def forward(self, x, threads=None):
        self.x = x
        return self.parameters["gain"] * x

    def backward(self, dy, threads=None):
        self.gradients["gain"][:] = (dy * self.x).sum(axis=0)
        return self.parameters["gain"] * dy


def test_the_parameters_of_a_layer_of_ones_own_are_nodes_too():
    net = bp.Network(bp.mlp([2, 3, 1], "sigmoid"), dtype="float64")
    x, y, own = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([1.0, 0.0]), Gain(np.array([0.5, -2.0, 3.0]))
    nodes = NetworkGraph((net.layers[0], own, *net.layers[1:]), net.loss, x, y)
    assert list(nodes)[:7] == ["X", "W1", "b1", "Z1", "gain1", "A1", "A1'"]
    assert np.array_equal(nodes["gain1"].grad, (nodes["A1"].grad * nodes["Z1"].value).sum(axis=0))
    assert np.array_equal(nodes["Z1"].grad, nodes["A1"].grad * own.parameters["gain"])
    assert not own.gradients["gain"].any()


class Doubled(bp.MeanSquaredError):
    """Inherits a name that the graph knows, and computes something else."""

    def value(self, output, target):
        return 2.0 * super().value(output, target)

    def gradient(self, output, target):
        return 2.0 * super().gradient(output, target)


def test_a_loss_with_a_gradient_of_its_own_is_one_node():
    net = bp.Network(bp.mlp([2, 3, 1], "sigmoid"), dtype="float64")
    x, y = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([1.0, 0.0])
    plain, own = net.graph(x, y), NetworkGraph(net.layers, Doubled(), x, y)
    assert (own.loss.operation, own.loss.inputs) == ("Doubled", (own["Z2"], own["Y"]))
    bound = tolerances.chain([2, 3, 1], 2, 2.0, np.float64)
    assert abs(float(own.loss) - 2 * float(plain.loss)) <= bound
    assert np.abs(own["W1"].grad - 2 * plain["W1"].grad).max() <= bound
    assert np.isnan(own["Y"].grad).all()


# What a reader sees


def test_the_table_shows_that_a_derivative_has_the_shape_of_its_array():
    net = bp.Network(bp.mlp([2, 3, 1], "sigmoid"))
    nodes = net.graph([[1.0, 2.0]], [1.0])
    rows = [line.split("  ") for line in nodes.table().splitlines()[1:]]
    shapes = {cells[0]: [cell.strip() for cell in cells if "(" in cell] for cells in rows}
    assert list(shapes) == list(nodes)
    assert shapes["W1"] == ["(2, 3)", "(2, 3)"]
    assert shapes["b1"] == ["(3,)", "(3,)"]
    assert all(before == after for before, after in shapes.values())
    assert repr(nodes) == str(nodes) == f"<NetworkGraph of {' '.join(nodes)}: L = {float(nodes.loss):.6g}>"


def test_the_norms_are_those_of_the_gradient_layer_by_layer():
    net = bp.Network(bp.mlp([4, 6, 5, 1], "tanh"), dtype="float64")
    x, y = np.random.default_rng(0).normal(size=(20, 4)), np.zeros(20)
    norms = net.gradient_norms(x, y)
    nodes = net.graph(x, y)
    assert norms.names == ("1 Dense(4, 6)", "2 Dense(6, 5)", "3 Dense(5, 1)")
    for number in (1, 2, 3):
        weight, bias = (np.linalg.norm(nodes[f"{letter}{number}"].grad) for letter in "Wb")
        got = norms.weight[number - 1], norms.bias[number - 1], norms.layer[number - 1]
        bound = tolerances.chain([4, 6, 5, 1], 20, 1.0 + weight, np.float64)
        assert np.abs(np.subtract(got, (weight, bias, np.hypot(weight, bias)))).max() <= bound


def test_the_bars_of_a_deep_sigmoid_network_grow_toward_the_output():
    net = bp.Network(bp.mlp([8] * 9 + [1], "sigmoid"), dtype="float64", seed=1)
    rng = np.random.default_rng(0)
    lines = str(net.gradient_norms(rng.normal(size=(50, 8)), rng.normal(size=50))).splitlines()
    bars = [line.count("#") for line in lines[1:]]
    assert len(bars) == 9
    assert bars[:8] == sorted(bars[:8])
    assert max(bars) == 30


def test_a_gradient_of_zero_has_no_bar():
    net = bp.Network(bp.mlp([2, 3, 1], "relu"))
    net.parameters[:] = 0.0
    text = str(net.gradient_norms([[1.0, 2.0]], [1.0]))
    assert text.count("0.00e+00") == 3
    assert [line.count("#") for line in text.splitlines()[1:]] == [0, 0]


def test_pictures_are_asked_for_when_they_are_wanted(monkeypatch):
    asked = []
    for module, names in (
        ("drawing", ("to_text", "to_dot", "draw", "mimebundle")),
        ("charts", ("draw_norms",)),
    ):
        stand_in = types.ModuleType(f"fastbp.{module}")
        for name in names:
            setattr(stand_in, name, lambda *arguments, name=name: asked.append((name, *arguments)))
        monkeypatch.setitem(sys.modules, f"fastbp.{module}", stand_in)
        monkeypatch.setattr(bp, module, stand_in, raising=False)
    net = bp.Network(bp.mlp([2, 3, 1]))
    nodes = net.graph([[1.0, 2.0]], [1.0])
    nodes.to_text(), nodes.to_dot(), nodes.draw("x.svg"), nodes._repr_mimebundle_()
    assert [call[:2] for call in asked] == [
        (name, nodes.loss) for name in ("to_text", "to_dot", "draw", "mimebundle")
    ]
    norms = net.gradient_norms([[1.0, 2.0]], [1.0])
    norms.draw("norms.png")
    assert asked[-1] == ("draw_norms", norms.names, {"dW": norms.weight, "db": norms.bias}, "norms.png")


@pytest.mark.parametrize("layer", [own.Scale, own.BothSigns])
def test_an_own_layer_may_write_to_what_it_gets_and_add_to_its_gradients(layer):
    layers = [bp.Dense(2, 3), bp.Sigmoid(), layer(3), bp.Dense(6 if layer is own.BothSigns else 3, 1)]
    net = bp.Network(layers, dtype="float64")
    x, y = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([0.5, 1.0])
    _, gradient = net.loss_and_gradient(x, y)
    shown = net.graph(x, y)
    parts = [node.grad for name, node in shown.items() if name[:-1] in ("W", "b", "scale", "shift")]
    bound = tolerances.chain((2, 3, 6, 1), 2, np.abs(gradient).max(), np.float64)
    assert np.abs(np.concatenate([part.ravel() for part in parts]) - gradient).max() <= bound


def test_gradient_norms_count_layers_of_ones_own_and_stand_a_network_without_a_dense_one():
    net = bp.Network([bp.Dense(2, 3), own.Scale(3)], dtype="float64")
    norms = net.gradient_norms(np.ones((2, 2)), np.zeros((2, 3)))
    assert [name.split(" ")[1][:5] for name in norms.names] == ["Dense", "Scale"]
    squares = np.square([*norms.weight, *norms.bias]).sum()
    assert abs(np.sqrt(squares) / np.linalg.norm(net.gradients) - 1.0) <= tolerances.metric(np.float64)
    assert "Scale" in str(bp.Network([own.Scale(3)]).gradient_norms(np.ones((2, 3)), np.zeros((2, 3))))
