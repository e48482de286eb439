"""Lists of layers: made by name, and looked at before a network is built of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastbp import _check
from fastbp.activations import ACTIVATIONS
from fastbp.layers import Dense, Layer


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
        For what is not a layer, no Dense at all, a layer used twice, and sizes that do not fit.
    """
    layers = _check.sequence(layers, "layers", "a list of layers")
    before: tuple[int, Dense] | None = None  # the last Dense and its index
    for index, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"layers[{index}] is {layer!r}, expected a layer such as Dense(2, 1) or ReLU()")
        _check.known_to_core(layer, f"layers[{index}]", (Dense.name, *ACTIVATIONS))
        if layer._bound or any(layer is other for other in layers[:index]):
            raise ValueError(f"layers[{index}] {layer!r} is in use already, expected a layer of its own")
        if not isinstance(layer, Dense):
            continue
        if before is not None and before[1].out_features != layer.in_features:
            raise ValueError(
                f"layers[{index}] {layer!r} takes {layer.in_features} features, "
                f"but layers[{before[0]}] {before[1]!r} gives {before[1].out_features}"
            )
        before = index, layer
    if before is None:
        raise ValueError(f"layers is {list(layers)!r}, expected at least one Dense")
    return layers
