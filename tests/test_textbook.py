"""The users' text book, worked: every number here can be had with a pencil."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tolerances
from axes import same_bits

import fastbp as bp
from fastbp import graph
from fastbp.graph import Variable

LN3 = math.log(3.0)  # sigmoid(k ln 3) = 3^k / (3^k + 1): 1/4, 1/2, 3/4 for k = -1, 0, 1


def close(got, wanted):
    """Equal but for the rounding of a handful of operations in float64 on numbers of about 1."""
    return np.abs(np.asarray(got) - wanted).max() <= tolerances.chain([3, 3, 1], 2, 1.0, np.float64)


# Chain rule and numerical differentiation


def test_the_chain_rule_by_numbers():
    """z = t^2, t = x + y at (3, 4): z = 49, both derivatives 2 (x + y) = 14."""
    gradient = bp.numerical_gradient(lambda v: (v[0] + v[1]) ** 2, [3.0, 4.0])
    assert np.abs(gradient - 14.0).max() <= tolerances.CENTRAL_DIFFERENCE * 49.0


def test_the_chain_rule_in_the_graph():
    """dz/dx = dz/dt dt/dx = 2t * 1; x only receives what arrives at t."""
    x, y = Variable(3.0), Variable(4.0)
    t = x + y
    z = t**2
    z.backward()
    assert (z.value, t.grad, x.grad, y.grad) == (49.0, 14.0, 14.0, 14.0)
    assert z.local_derivatives == (14.0,)
    assert t.local_derivatives == (1.0, 1.0)


def test_the_shop_in_the_graph_with_every_derivative_on_the_way():
    apples, apple_price, mandarins, mandarin_price, tax = map(Variable, (2, 100, 3, 150, 1.1))
    apple_total, mandarin_total = apples * apple_price, mandarins * mandarin_price
    total = apple_total + mandarin_total
    price = total * tax
    price.backward()
    nodes = (apple_total, mandarin_total, total, price)
    assert close([node.value / 100 for node in nodes], [2.0, 4.5, 6.5, 7.15])
    assert close([node.grad for node in nodes], [1.1, 1.1, 1.1, 1.0])
    assert close([apple_price.grad, mandarin_price.grad], [2.2, 3.3])
    assert close([apples.grad / 100, mandarins.grad / 100, tax.grad / 100], [1.1, 1.65, 6.5])


def test_an_addition_knows_nothing_of_what_lies_behind_its_inputs():
    """Apples for 200 join goods for 4,000, bought in one way or another: 4,200, times 1.1."""
    prices = []
    for others in (Variable(4000.0), Variable(8.0) * 500.0, graph.square(Variable(60.0)) + 400.0):
        apples = Variable(2.0) * 100.0
        both = apples + others
        price = both * 1.1
        price.backward()
        prices.append(float(price))
        assert close(price.value / 1000, 4.62)
        assert both.value == 4200.0
        assert close([apples.grad, others.grad], [1.1, 1.1])
    assert len(set(prices)) == 1


def test_the_sigmoid_node_by_node():
    """* (-1), exp, + 1, reciprocal: back -y^2, on, times exp(-x), times -1, together y (1 - y)."""
    for value in (0.0, 1.0, -2.5):
        x = Variable(value)
        negated = x * -1
        power = graph.exp(negated)
        denominator = power + 1
        y = 1 / denominator
        y.backward()
        assert close(denominator.grad, -(y.value**2))
        assert power.grad == denominator.grad
        assert close(negated.grad, -(y.value**2) * math.exp(-value))
        assert close(x.grad, y.value * (1 - y.value))
        single = Variable(value)
        node = graph.sigmoid(single)
        node.backward()
        assert close([node.value, single.grad], [y.value, x.grad])
        if value == 0.0:
            assert (y.value, x.grad) == (0.5, 0.25)


def test_nothing_below_a_step_can_learn():
    w = Variable([[1.0, -1.0]])
    loss = (graph.step(w @ [[3.0], [1.0]]) - 0.5) ** 2
    loss.backward()
    assert float(loss) == 0.25
    assert w.grad.tolist() == [[0.0, 0.0]]


def test_the_shop():
    """(2 * 100 + 3 * 150) * 1.1 = 715; derivatives by number and price of each fruit, and by the tax."""

    def price(v):
        apples, apple_price, mandarins, mandarin_price, tax = v
        return (apples * apple_price + mandarins * mandarin_price) * tax

    at = np.array([2.0, 100.0, 3.0, 150.0, 1.1])
    assert abs(price(at) - 715.0) <= np.spacing(715.0)
    gradient = bp.numerical_gradient(price, at)
    assert np.abs(gradient - [110.0, 2.2, 165.0, 3.3, 650.0]).max() <= tolerances.CENTRAL_DIFFERENCE * 715.0


# Network 1: two layers, binary cross entropy

X = np.array([[1.0, 1.0], [0.0, 1.0]])
Y = np.array([[1.0], [0.0]])
W1 = LN3 * np.array([[1.0, -1.0, -2.0], [0.0, 1.0, 1.0]])  # X W1 = ln 3 [[1, 0, -1], [0, 1, 1]]
A1 = np.array([[3 / 4, 1 / 2, 1 / 4], [1 / 2, 3 / 4, 3 / 4]])
W2 = LN3 * np.array([[2.0], [-4.0], [1.0]])  # A1 W2 = ln 3 [[-1/4], [-5/4]]
B2 = LN3 * np.array([1 / 4])  # Z2 = ln 3 [[0], [-1]]
A2 = np.array([[1 / 2], [1 / 4]])
LOSS = (math.log(2.0) + math.log(4 / 3)) / 2  # -ln(1/2) for y = 1, -ln(3/4) for y = 0
DA2 = np.array([[-1.0], [2 / 3]])  # (a - y) / (a (1 - a)) / 2
DZ2 = np.array([[-1 / 4], [1 / 8]])  # (a - y) / 2
DW2 = np.array([[-1 / 8], [-1 / 32], [1 / 32]])
DB2 = np.array([-1 / 8])
DA1 = LN3 * np.array([[-1 / 2, 1.0, -1 / 4], [1 / 4, -1 / 2, 1 / 8]])
DZ1 = LN3 * np.array([[-3 / 32, 1 / 4, -3 / 64], [1 / 16, -3 / 32, 3 / 128]])
DW1 = LN3 * np.array([[-3 / 32, 1 / 4, -3 / 64], [-1 / 32, 5 / 32, -3 / 128]])
DB1 = LN3 * np.array([-1 / 32, 5 / 32, -3 / 128])
DX = LN3**2 * np.array([[-1 / 4, 13 / 64], [7 / 64, -9 / 128]])


def two_layers():
    layers = [bp.Dense(2, 3), bp.Sigmoid(), bp.Dense(3, 1), bp.Sigmoid()]
    net = bp.Network(layers, loss="bce", optimizer=bp.SGD(lr=0.5), dtype="float64")
    for layer, weight, bias in ((net.layers[0], W1, 0.0), (net.layers[2], W2, B2)):
        layer.weight[...], layer.bias[...] = weight, bias
    return net


def test_two_layers_forward_with_every_intermediate():
    net, value = two_layers(), X
    for layer, wanted in zip(net.layers, (X @ W1, A1, A1 @ W2 + B2, A2), strict=True):
        value = layer.forward(value)
        assert value.shape == wanted.shape
        assert close(value, wanted)
    assert close(net.forward(X), A2)
    assert close(net.predict(X), A2)
    assert close(bp.BinaryCrossEntropy().value(A2, Y), LOSS)


def test_two_layers_backward_with_every_intermediate():
    net = two_layers()
    net.forward(X)
    derivative = bp.BinaryCrossEntropy().gradient(A2, Y)
    assert close(derivative, DA2)
    for layer, wanted in zip(reversed(net.layers), (DZ2, DA1, DZ1, DX), strict=True):
        derivative = layer.backward(derivative)
        assert derivative.shape == wanted.shape
        assert close(derivative, wanted)
    assert_gradients(net)
    net.gradients[:] = 0.0
    net.forward(X)
    assert close(net.backward(DA2), DX)
    assert_gradients(net)


def test_two_layers_as_a_graph_in_which_every_intermediate_has_its_name():
    graph_of_loss = two_layers().graph(X, Y)
    forward = {"X": X, "W1": W1, "b1": np.zeros(3), "Z1": X @ W1, "A1": A1, "W2": W2, "b2": B2}
    forward |= {"Z2": A1 @ W2 + B2, "A2": A2, "Y": Y, "L": np.array(LOSS)}
    backward = {"X": DX, "W1": DW1, "b1": DB1, "Z1": DZ1, "A1": DA1, "W2": DW2, "b2": DB2}
    backward |= {"Z2": DZ2, "A2": DA2, "L": np.array(1.0)}
    assert list(graph_of_loss) == list(forward)
    for name, wanted in forward.items():
        node = graph_of_loss[name]
        assert (node.name, node.shape, node.grad.shape) == (name, wanted.shape, wanted.shape)
        assert close(node.value, wanted)
    for name, wanted in backward.items():
        assert close(graph_of_loss[name].grad, wanted)


def test_two_layers_in_one_native_call():
    net = two_layers()
    loss, gradient = net.loss_and_gradient(X, Y)
    assert close(loss, LOSS)
    assert close(gradient, np.concatenate([part.ravel() for part in (DW1, DB1, DW2, DB2)]))
    assert_gradients(net)


def assert_gradients(net):
    first, second = net.layers[0].gradients, net.layers[2].gradients
    for got, wanted in (
        (first["weight"], DW1),
        (first["bias"], DB1),
        (second["weight"], DW2),
        (second["bias"], DB2),
    ):
        assert got.shape == wanted.shape
        assert close(got, wanted)


def test_one_update_moves_every_weight_and_bias_against_its_derivative():
    """w <- w - lr dL/dw for all of them from one forward and one backward pass."""
    net = two_layers()
    assert close(net.partial_fit(X, Y), LOSS)
    first, second = net.layers[0], net.layers[2]
    assert close(first.weight, W1 - 0.5 * DW1)
    assert close(first.bias, -0.5 * DB1)
    assert close(second.weight, W2 - 0.5 * DW2)
    assert close(second.bias, B2 - 0.5 * DB2)


# Network 2: three linear layers, regression with two outputs


def three_layers(loss="mse"):
    """Small whole numbers, ReLU between: all is exact.  x = (1, 2): h1 = (3, 1), h2 = (4, 2), y = (2, 10)."""
    layers = [bp.Dense(2, 2), bp.ReLU(), bp.Dense(2, 2), bp.ReLU(), bp.Dense(2, 2)]
    net = bp.Network(layers, loss=loss, optimizer=bp.SGD(lr=0.25), dtype="float64")
    net.parameters[:] = [1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 2, -1, 1, 0, 0]
    return net


def test_three_layers_with_the_loss_summed_over_samples():
    net = three_layers(bp.MeanSquaredError("sum"))
    assert net.predict([[1.0, 2.0]]).tolist() == [[2.0, 10.0]]
    loss, gradient = net.loss_and_gradient([[1.0, 2.0]], [[1.0, 8.0]])
    assert loss == 1.0**2 + 2.0**2
    # dy = 2 (1, 2); dh2 = dy W3^T = (2 + 8, -2 + 4); dh1 = dh2 W2^T, W2 the unit matrix; no ReLU is closed
    third = [4 * 2, 4 * 4, 2 * 2, 2 * 4, 2, 4]
    second = [3 * 10, 3 * 2, 1 * 10, 1 * 2, 10, 2]
    first = [1 * 10, 1 * 2, 2 * 10, 2 * 2, 10, 2]
    assert gradient.tolist() == first + second + third


def test_two_samples_give_twice_the_summed_loss_and_the_same_mean():
    x, y = [[1.0, 2.0]] * 2, [[1.0, 8.0]] * 2
    summed, gradient = three_layers(bp.MeanSquaredError("sum")).loss_and_gradient(x, y)
    mean, mean_gradient = three_layers().loss_and_gradient(x, y)
    assert summed == 10.0
    assert mean == 2.5
    assert np.array_equal(gradient, 4 * mean_gradient)


def test_the_errors_of_two_outputs_flow_back_to_every_hidden_weight_and_add_up():
    x, output = [[1.0, 2.0]], np.array([[2.0, 10.0]])
    net = three_layers(bp.MeanSquaredError("sum"))
    both, only_first, only_second = (
        net.loss_and_gradient(x, output - error)[1] for error in ([1.0, 2.0], [1.0, 0.0], [0.0, 2.0])
    )
    assert np.array_equal(both, only_first + only_second)
    hidden = slice(0, 12)
    assert only_first[hidden].all()
    assert only_second[hidden].all()


# A layer


def test_the_derivative_of_the_sigmoid_is_y_times_one_minus_y():
    """Node by node: g y^2 exp(-x) = g y (1 - y); at 0 a quarter, its largest value."""
    x = np.linspace(-5.0, 5.0, 41)[None, :]
    layer = bp.Sigmoid()
    y = layer.forward(x)
    derivative = layer.backward(np.ones_like(x))
    assert close(derivative, y * (1 - y))
    assert close(derivative, y**2 * np.exp(-x))
    assert derivative.max() == 0.25 == derivative[0, 20]


# Learning


def test_the_squared_error_goes_to_the_mean_and_so_magnifies_an_outlier():
    """Targets 1, 2, 3, 100: a constant prediction goes to 26.5."""
    net = bp.Network([bp.Dense(1, 1)], loss="mse", optimizer=bp.SGD(lr=0.1), dtype="float64")
    net.fit(np.zeros((4, 1)), [1.0, 2.0, 3.0, 100.0], epochs=100, batch_size=4)
    assert abs(net.predict([[0.0]])[0, 0] - 26.5) <= tolerances.CONSTANT_BY_DESCENT


def test_the_absolute_error_goes_between_the_middle_targets_whatever_the_outlier():
    """Targets 1, 2, 3, 100: a constant prediction goes between 2 and 3, where two pull each way."""
    net = bp.Network([bp.Dense(1, 1)], loss="mae", optimizer=bp.SGD(lr=0.1), dtype="float64")
    history = net.fit(np.zeros((4, 1)), [1.0, 2.0, 3.0, 100.0], epochs=100, batch_size=4)
    assert 2.0 <= net.predict([[0.0]])[0, 0] <= 3.0
    assert abs(history.loss[-1] - 25.0) <= 4 * np.spacing(25.0)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_gradients_vanish_toward_the_input_of_a_deep_saturating_network_and_not_with_relu(activation):
    def norms(activation):
        net = bp.Network(bp.mlp([16] * 9 + [1], activation=activation), dtype="float64", seed=1)
        rng = np.random.default_rng(0)
        net.loss_and_gradient(3.0 * rng.normal(size=(200, 16)), rng.normal(size=200))
        return [
            np.linalg.norm(layer.gradients["weight"]) for layer in net.layers if isinstance(layer, bp.Dense)
        ]

    def fall(values):
        return values[1] / values[-2]

    assert fall(norms(activation)) < fall(norms("relu"))
    if activation == "sigmoid":  # at most a quarter passes each layer
        falling = norms("sigmoid")[1:-1]
        assert falling == sorted(falling)
        assert fall(norms("sigmoid")) < 0.25**3


def test_a_network_repeats_the_update_until_a_tolerance_is_met():
    net, losses = two_layers(), [math.inf]
    while losses[-1] > 0.1 and len(losses) < 5000:
        losses.append(net.partial_fit(X, Y))
    assert losses[-1] <= 0.1
    assert losses == sorted(losses, reverse=True)


def test_all_derivatives_come_from_one_backward_pass_and_two_forward_passes_each_from_differences(
    monkeypatch,
):
    net, calls = two_layers(), []
    counted = bp.Network.evaluate
    monkeypatch.setattr(bp.Network, "evaluate", lambda *arguments: calls.append(1) or counted(*arguments))
    result = bp.check_gradients(net, X, Y)
    assert result.passed
    # The first forward pass tells how finely the loss is known.
    assert len(calls) == 1 + 2 * net.parameters.size == 1 + 2 * 13
    assert same_bits(net.parameters, two_layers().parameters)
