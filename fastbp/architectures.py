"""Lists of layers: made by name, and looked at, with the loss, before a network is built of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastbp import _check
from fastbp.activations import ACTIVATIONS
from fastbp.layers import Dense, Layer
from fastbp.losses import Loss


def mlp(sizes: Sequence[int], activation: str = "relu", output: str = "identity") -> list[Layer]:
    """The layers of a multi-layer perceptron.

    Parameters
    ----------
    sizes : sequence of int
        Features in, hidden sizes, outputs: at least two numbers.
    activation : str
        What follows every hidden layer; default "relu".
    output : str
        What follows the last layer; default "identity".

    Returns
    -------
    list of Layer
        Dense and activation by turns, for `Network`.

    Raises
    ------
    ValueError, TypeError
        For fewer than two sizes, a size under 1, a name that is not known.

    Examples
    --------
    >>> mlp([64, 128, 10], output="softmax")
    [Dense(64, 128), ReLU(), Dense(128, 10), Softmax()]
    """
    expected = "at least 2 sizes: features in, hidden ones, outputs"
    sizes = _check.sequence(sizes, "sizes", expected)
    sizes = [_check.whole_number(size, f"sizes[{index}]") for index, size in enumerate(sizes)]
    if len(sizes) < 2:
        raise ValueError(f"sizes is {sizes}, expected {expected}")
    hidden = ACTIVATIONS[_check.choice(activation, "activation", tuple(ACTIVATIONS))]
    last = ACTIVATIONS[_check.choice(output, "output", tuple(ACTIVATIONS))]
    layers: list[Layer] = []
    for index in range(1, len(sizes)):
        layers.append(Dense(sizes[index - 1], sizes[index]))
        layers.append(hidden() if index < len(sizes) - 1 else last())
    return layers


def chain(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """``layers`` as a tuple that a network can be built of.

    Raises
    ------
    ValueError, TypeError
        For what is not a layer, no parameters at all, a layer used twice, and sizes that do not fit.
    """
    layers = _check.sequence(layers, "layers", "a list of layers")
    for index, layer in enumerate(layers):
        place = f"layers[{index}]"
        if not isinstance(layer, Layer):
            if isinstance(layer, type) and issubclass(layer, Layer):
                found = layer.__name__
                raise TypeError(f"{place} is the class {found}, expected an object: {found}(...)")
            hint = "; a class of your own derives from fastbp.Layer" if hasattr(layer, "forward") else ""
            raise TypeError(f"{place} is {layer!r}, expected a layer such as Dense(2, 1) or ReLU(){hint}")
        if not layer._runs_in_python():
            _check.known_to_core(layer, place, (Dense.name, *ACTIVATIONS), "forward and backward")
            if _check.redefines(layer, ("initial_parameters",)):
                reason = "draws by weight= and bias=, not by initial_parameters"
                raise TypeError(f"{place} is {layer!r}, which {reason}")
        for method, x in (("forward", "x"), ("backward", "dy")):
            if layer._runs_in_python() and not layer._defines(method):
                raise TypeError(f"{place} is {layer!r}, which defines no {method}(self, {x})")
        if layer._bound or any(layer is other for other in layers[:index]):
            raise ValueError(f"{place} {layer!r} is in use already, expected a layer of its own")
    widths(layers)
    if not any(layer._shapes() for layer in layers):
        raise ValueError(f"layers is {list(layers)!r}, expected at least one with parameters, such as Dense")
    return layers


def widths(layers: Sequence[Layer]) -> list[int]:
    """The columns that enter each layer, and last those that leave the last one.

    Raises
    ------
    ValueError, TypeError
        Where a layer takes another number than the one before it gives, and where nothing tells a number.
    """
    entering: list[int] = []
    unknown = 0  # layers before the first that says how many columns it takes
    teller = 0  # the last layer that said anything
    for index, layer in enumerate(layers):
        place = f"layers[{index}]"
        takes, gives = (
            None if size is None else _check.whole_number(size, f"{place}.{name}")
            for name, size in (("in_features", layer.in_features), ("out_features", layer.out_features))
        )
        if not entering:
            if takes is None and gives is not None:
                raise ValueError(
                    f"{place} {layer!r} has out_features but no in_features: which are those of x?"
                )
            if takes is None:
                unknown += 1
                continue
            entering = [takes] * (unknown + 1)
        elif takes is not None and takes != entering[-1]:
            raise ValueError(
                f"{place} {layer!r} takes {takes} features, "
                f"but layers[{teller}] {layers[teller]!r} gives {entering[-1]}"
            )
        teller = index if takes is not None or gives is not None else teller
        entering.append(gives or entering[-1])
    if not entering:
        raise ValueError(
            f"layers is {list(layers)!r}, expected at least one Dense, or other with in_features"
        )
    return entering


def refuse_bad_pair(layers: Sequence[Layer], loss: Loss, dtype: np.dtype[Any]) -> None:
    """Refuse a loss that needs probabilities over a last layer that makes none, as a user's own may.

    And labels that the network's precision cannot tell apart.
    """
    last, needed, outputs = layers[-1], loss.last_activation, widths(layers)[-1]
    if loss.target == "class" and outputs > 2 ** (np.finfo(dtype).nmant + 1):
        raise ValueError(f"the last layer has {outputs:,} outputs, more labels than {dtype} holds exactly")
    if needed is None or last._runs_in_python():
        return
    if last.name != needed:
        kind, wanted = type(loss).__name__, needed.capitalize()
        raise ValueError(f"loss is {kind}, which needs {wanted} as the last layer, found {last.name!r}")
    if needed == "softmax" and outputs == 1:
        raise ValueError(
            "loss is CrossEntropy, but Softmax over 1 output is always 1: "
            "use Sigmoid with BinaryCrossEntropy, or 2 outputs"
        )
