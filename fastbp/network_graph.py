"""A network on a batch as the text books write it: a graph of X, W1, b1, Z1, A1, ..., Y and L."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import graph
from fastbp.graph import Operation, Variable
from fastbp.layers import Dense, Layer
from fastbp.losses import CustomLoss, Loss

_BAR = 30  # characters of the longest bar

_ACTIVATIONS: dict[str, Callable[[Variable], Variable]] = {
    "sigmoid": graph.sigmoid,
    "tanh": graph.tanh,
    "relu": graph.relu,
    "exp": graph.exp,
    "softmax": graph.softmax,
}


class NetworkGraph(Mapping[str, Variable]):
    """The graph of a network's loss on a batch, run forward and backward; `Network.graph` makes it.

    It maps to their nodes "X", "W1", "b1", "Z1" of every Dense layer, "A1" of the activation behind it (the
    same node as "Z1" for Identity; "A1'" of a second one), the target "Y" and the loss "L".

    Parameters
    ----------
    layers, loss
        Of the network.
    x, y : ndarray (samples, features), ndarray (samples,) or (samples, outputs)
        Data of the network's precision, and the targets; labels become one-hot rows.

    Notes
    -----
    The cross entropies are computed from the probabilities, as they are written.  The network's own passes
    compute them from Z, which is still exact where a probability is rounded to 0 or 1.

    A layer and a loss with a backward or a gradient of their own are one node each; what is not known, the
    derivative by the target of such a loss, is NaN.
    """

    def __init__(self, layers: Sequence[Layer], loss: Loss, x: NDArray[Any], y: NDArray[Any]) -> None:
        self._nodes: dict[str, Variable] = {}
        number, node = 0, self._named("X", Variable(x))
        for layer in layers:
            own = layer._runs_in_python()
            if isinstance(layer, Dense) and not own:
                number += 1
                weight = self._named(f"W{number}", Variable(layer.weight))
                bias = self._named(f"b{number}", Variable(layer.bias))
                node = self._named(f"Z{number}", graph.affine(node, weight, bias))
            elif layer.name == "identity" and not own:
                self._named(f"A{number}", node)
            elif layer.name in _ACTIVATIONS and not own:
                node = self._named(f"A{number}", _ACTIVATIONS[layer.name](node))
            else:
                node = self._named(f"A{number}", self._opaque(layer, node, number))
        target = self._named("Y", Variable(_as_output(y, node.shape).astype(x.dtype)))
        self._named("L", _loss(loss, node, target, y)).backward()

    def _named(self, name: str, node: Variable) -> Variable:
        while name in self._nodes:
            name += "'"
        if node.name is None:
            node.name = name
        self._nodes[name] = node
        return node

    def _opaque(self, layer: Layer, x: Variable, number: int) -> Variable:
        """The node of a layer that differentiates itself; its parameters are inputs, "gain1" for "gain"."""
        twin = copy.deepcopy(layer)  # the network's layer keeps what its own backward needs
        parameters = [
            self._named(f"{key}{number}", Variable(array)) for key, array in twin.parameters.items()
        ]

        def back(g: NDArray[Any], *_: Any) -> NDArray[Any]:
            for array in twin.gradients.values():
                array.fill(0.0)  # as in a step: it may add to them
            return np.array(twin.backward(g.copy()))

        operation = Operation(
            type(layer).__name__,
            "what the layer computes",
            lambda x, *_: twin.forward(x.copy()),  # it may write to what it gets
            lambda y, *inputs: (math.nan,) * len(inputs),  # the layer keeps them to itself
            (
                back,  # first: it leaves the derivatives by the parameters
                *(lambda g, *_, key=key: np.array(twin.gradients[key]) for key in twin.parameters),
            ),
        )
        return operation(x, *parameters)

    def __getitem__(self, name: str) -> Variable:
        if name not in self._nodes:
            raise KeyError(f"{name!r} is no node of the network, expected one of {', '.join(self)}")
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"<NetworkGraph of {' '.join(self)}: L = {float(self.loss):.6g}>"

    __str__ = __repr__

    @property
    def loss(self) -> Variable:
        """The node L."""
        return self._nodes["L"]

    def table(self) -> str:
        """Every value and the derivative of the loss by it, side by side: their shapes are the same."""
        lines = [f"{'value':<8}{'shape':<16}{'derivative':<12}{'shape':<16}norm"]
        for name, node in self.items():
            line = f"{name:<8}{node.shape!s:<16}{f'dL/d{name}':<12}"
            if node.grad is not None:
                line += f"{node.grad.shape!s:<16}{np.linalg.norm(node.grad):.3g}"
            lines.append(line.rstrip())
        return "\n".join(lines)

    def to_text(self) -> str:
        """The graph for a terminal."""
        return self.loss.to_text()

    def to_dot(self) -> str:
        """The graph in Graphviz' language."""
        return self.loss.to_dot()

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Write the graph to an .svg or .png file: values above the edges, derivatives below them."""
        self.loss.draw(path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.loss._repr_mimebundle_(include, exclude)


def _as_output(y: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Targets in the shape of the output; labels as one-hot rows."""
    if y.size == math.prod(shape):
        return y.reshape(shape)
    one_hot: NDArray[np.bool_] = np.equal.outer(y, np.arange(shape[1]))
    return one_hot


def _loss(loss: Loss, output: Variable, target: Variable, y: NDArray[Any]) -> Variable:
    """The node of the loss; ``y`` is what became the target."""
    if isinstance(loss, CustomLoss):
        return loss._evaluate(output, target)
    if loss.name in _TERMS and not loss._runs_in_python():
        terms = _TERMS[loss.name](output, target)
        return terms.mean() if loss.reduction == "mean" else terms.sum()
    compared = loss._compared(target.value, y.astype(target.dtype))  # as in training: labels stay labels
    operation = Operation(
        type(loss).__name__,
        "what the loss computes",
        lambda a, _: loss.value(a, compared),
        lambda value, a, _: (loss.gradient(a, compared), math.nan),
        (lambda g, local, _: g * local, lambda g, local, shape: np.full(shape, local)),
    )
    return operation(output, target)


def _squared_error(a: Variable, y: Variable) -> Variable:
    return graph.square(a - y)


def _absolute_error(a: Variable, y: Variable) -> Variable:
    return graph.absolute(a - y)


def _binary_cross_entropy(a: Variable, y: Variable) -> Variable:
    return graph.negative(y * _log(a) + (1 - y) * _log(1 - a))


def _cross_entropy(a: Variable, y: Variable) -> Variable:
    return graph.negative((y * _log(a)).sum(axis=1))


def _log(p: Variable) -> Variable:
    """ln p; of the least normal number where a probability was rounded to 0: 0 ln 0 shall be 0."""
    return graph.log(p if p.value.all() else graph.maximum(p, np.finfo(p.dtype).tiny))


_TERMS = {
    "mse": _squared_error,
    "mae": _absolute_error,
    "bce": _binary_cross_entropy,
    "cross_entropy": _cross_entropy,
}


@dataclass(frozen=True, repr=False)
class GradientNorms:
    """The Euclidean norms of the gradient, layer by layer; `Network.gradient_norms` makes it.

    Attributes
    ----------
    names : tuple of str
        The layers with parameters, from the input to the output: "1 Dense(784, 100)".
    weight, bias : tuple of float
        The norms of dW and db; of a layer of your own, of all but its "bias", and of that.
    """

    names: tuple[str, ...]
    weight: tuple[float, ...]
    bias: tuple[float, ...]

    @property
    def layer(self) -> tuple[float, ...]:
        """The norm of dW and db together."""
        return tuple(map(math.hypot, self.weight, self.bias))

    def __repr__(self) -> str:
        """A table; every tenth of the bar's whole scale is the same factor."""
        width = max(map(len, ("layer", *self.names))) + 2
        lines = [f"{'layer':<{width}}{'dW':>10}{'db':>10}  dW on a logarithmic scale"]
        for name, weight, bias, bar in zip(self.names, self.weight, self.bias, self._bars(), strict=True):
            lines.append(f"{name:<{width}}{weight:>10.2e}{bias:>10.2e}  {bar}".rstrip())
        return "\n".join(lines)

    def _bars(self) -> list[str]:
        """As long as the logarithms, counted from a tenth of the least norm that is not 0."""
        from fastbp import charts

        return ["#" * round(_BAR * share) for share in charts.shares(self.weight, log=True)]

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Write the norms as a picture to an .svg or .png file: one value a layer, on a logarithmic scale."""
        from fastbp import charts

        charts.draw_norms(self.names, {"dW": self.weight, "db": self.bias}, path)


def gradient_norms(layers: Sequence[Layer]) -> GradientNorms:
    """The norms of the gradients that lie in the layers' views, formed in float64."""
    learning = [layer for layer in layers if layer.gradients]
    names = tuple(f"{number} {layer!r}" for number, layer in enumerate(learning, 1))
    bias = tuple(_norm(layer, lambda key: key == "bias") for layer in learning)
    weight = tuple(_norm(layer, lambda key: key != "bias") for layer in learning)
    return GradientNorms(names, weight, bias)


def _norm(layer: Layer, chosen: Callable[[str], bool]) -> float:
    arrays = (array.astype(np.float64) for key, array in layer.gradients.items() if chosen(key))
    return math.hypot(*(float(np.linalg.norm(array)) for array in arrays))
