"""Layers: forward and backward on arrays of shape (samples, features).

A layer works alone, on arrays of its own.  Once it is part of a network its parameters and gradients are
views into the network's flat vectors.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp import _check, _native, initializers
from fastbp.views import Arrays, view

_MOST_PARAMETERS = 2**58  # of a layer: offsets into eight times as many bytes still fit an int64, with room

OfLayer = TypeVar("OfLayer", bound="Layer")
OfDense = TypeVar("OfDense", bound="Dense")


class Layer:
    """One step of a network: y = f(x), and dx from dy; the base of the built-in layers and of your own.

    A layer of your own defines ``forward(self, x)`` and ``backward(self, dy)`` on arrays (samples, features);
    with parameters also `initial_parameters`.  It needs no ``__init__``, nor to call this class's.

    Attributes
    ----------
    name : str
        The core's name for the step.
    in_features, out_features : int or None
        Columns that it takes and gives; default None: any number, and as many as it takes.
    parameters, gradients : mapping of str to ndarray
        What training moves, and the derivatives of the loss by it, which `backward` writes into the arrays;
        empty for most layers.

    Examples
    --------
    >>> class Double(Layer):
    ...     def forward(self, x):
    ...         return 2.0 * x
    ...
    ...     def backward(self, dy):
    ...         return 2.0 * dy
    """

    name: str = "own"
    in_features: int | None = None
    out_features: int | None = None
    # Defaults of the class: a subclass's __init__ need not call ours.
    _parameters: Mapping[str, NDArray[Any]] = MappingProxyType({})
    _gradients: Mapping[str, NDArray[Any]] = MappingProxyType({})
    _kept: NDArray[Any] | None = None  # what backward needs of the last forward
    _bound = False  # part of a network
    _ran_alone = False  # since the network's last forward
    _dtype: np.dtype[Any] | None = None  # in which it computes; None: in that of the data

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __getstate__(self) -> dict[str, Any]:
        """A copy is on its own: its arrays are no longer views into a network's."""
        copied = {
            name: {key: array.copy() for key, array in arrays.items()}
            for name, arrays in (("_parameters", self._parameters), ("_gradients", self._gradients))
        }
        return {**self.__dict__, **copied, "_bound": False}

    @property
    def parameters(self) -> Arrays:
        """What training moves, by name; drawn when it is first asked for."""
        if not self._parameters:
            self._make()
        return Arrays(self._parameters)

    @property
    def gradients(self) -> Arrays:
        """The derivatives of the loss by ``parameters``, by name, as the last `backward` left them."""
        if not self._parameters:
            self._make()
        return Arrays(self._gradients)

    def initial_parameters(self, rng: np.random.Generator) -> Mapping[str, ArrayLike]:
        """The parameters that a layer of your own starts with, drawn anew at every call; default: none.

        Parameters
        ----------
        rng : numpy.random.Generator
            Where to draw from: the network's seed stands behind it.

        Returns
        -------
        mapping of str to array
            By name.  The shapes, which must always be the same, are those of `parameters` and `gradients`.
        """
        return {}

    def forward(self, x: ArrayLike, threads: int | None = None) -> NDArray[Any]:
        """The layer's output.

        Parameters
        ----------
        x : array (samples, in_features)
            Finite numbers of any real dtype.  Dense keeps a reference to it until the next call: do not write
            to it before `backward`.
        threads : int, optional
            At most so many threads.

        Returns
        -------
        ndarray (samples, out_features)
            A new array of the layer's dtype; an activation keeps the dtype of float32 input and computes in
            float64 otherwise.

        Raises
        ------
        ValueError
            For a shape or dtype that does not fit, and for numbers that are not finite in the layer's dtype.
        """
        given = _check.features(x, self.in_features, taker="the layer")
        single = given.dtype.newbyteorder("=") == np.float32
        dtype = self._dtype or np.dtype(np.float32 if single else np.float64)
        self._ran_alone = True
        output = self._forward(_check.contiguous(given, dtype, "x"), threads)
        return output.copy() if output is self._kept else output  # the caller may write to it

    def backward(self, dy: ArrayLike, threads: int | None = None) -> NDArray[Any]:
        """The derivative of the loss by the layer's input, and into `gradients` by its parameters.

        Parameters
        ----------
        dy : array (samples, out_features)
            The derivative of the loss by the output of the last `forward`.
        threads : int, optional
            At most so many threads.

        Returns
        -------
        ndarray (samples, in_features)
            A new array of the dtype of the last output.

        Raises
        ------
        ValueError
            Before any `forward`, for a shape other than that of its output, for numbers that are not finite.
        """
        derivative = _check.numeric(dy, "dy")
        given = _check.contiguous(derivative, self._kept_for(derivative).dtype, "dy")
        if self._gradients and any(np.may_share_memory(given, own) for own in self._gradients.values()):
            given = given.copy()  # it would be overwritten while it is read
        return self._backward(given, threads)

    def _forward(self, x: NDArray[Any], threads: int | None) -> NDArray[Any]:
        """`forward` of an array that the kernels take as it is; what it gives may be what is kept."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def _forward_over(self, x: NDArray[Any], threads: int | None) -> NDArray[Any]:
        """`_forward` of an array that nobody else keeps: it may be written over."""
        return self._forward(x, threads)

    def _pass(self, x: NDArray[Any], is_free: bool, threads: int | None) -> tuple[NDArray[Any], bool]:
        """`_forward`, over x where that is free, which is kept by nobody; and whether the output is."""
        y = self._forward_over(x, threads) if is_free else self._forward(x, threads)
        return y, y is not self._kept

    def _backward(self, dy: NDArray[Any], threads: int | None) -> NDArray[Any]:
        """`backward` of an array that the kernels take as it is; its shape may still be wrong."""
        raise NotImplementedError(f"{type(self).__name__} does not define backward")

    def _backward_over(self, dy: NDArray[Any], threads: int | None) -> NDArray[Any]:
        """`_backward` of an array that nobody else keeps: it may be written over."""
        return self._backward(dy, threads)

    def _apply(self, x: NDArray[Any], threads: int | None) -> NDArray[Any]:
        """`_forward` that keeps nothing for backward."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def _backward_last(self, dy: NDArray[Any], threads: int | None) -> None:
        """`_backward_over` where the gradients alone are wanted: no dx is needed below."""
        self._backward_over(dy, threads)

    def _runs_in_python(self) -> bool:
        """Whether a user's class defines one of its passes, in a class of ours or beside them."""
        return _check.redefines(self, ("forward", "backward", "_forward", "_backward"))

    def _defines(self, method: str) -> bool:
        """Whether "forward" or "backward" comes to anything."""
        return any(
            name in vars(self) or getattr(type(self), name) is not getattr(Layer, name)
            for name in (method, f"_{method}")
        )

    def _settings(self) -> dict[str, Any]:
        """The arguments that make such a layer."""
        return {}

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters by name."""
        drawn = self._initial(np.random.default_rng(0))
        return {name: array.shape for name, array in drawn.items()}

    def _initial(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """`initial_parameters`, looked at."""
        drawn = self.initial_parameters(rng)
        if not isinstance(drawn, Mapping):
            found = _check.a_kind(type(drawn))
            raise TypeError(f"{self!r}.initial_parameters gave {found}, expected a dict of arrays by name")
        return {
            name: _check.numeric(array, f"{self!r}.initial_parameters[{name!r}]")
            for name, array in drawn.items()
        }

    def _make(self) -> None:
        """Arrays for a layer on its own: made late, because most layers get theirs from a network."""
        dtype = self._dtype or np.dtype(np.float64)
        shapes = self._shapes()
        if not shapes:
            return
        size = 2 * sum(map(math.prod, shapes.values())) * dtype.itemsize
        _check.memory(size, f"{self!r} with its gradients")
        self._parameters = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
        self._gradients = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
        self._draw(np.random.default_rng(self._own_seed()), "identity")

    def _own_seed(self) -> int | None:
        """What a layer on its own draws from; None: the system's entropy."""
        return None

    def _blank(self: OfLayer) -> OfLayer:
        """The same layer, a subclass's too, without numbers and without a network."""
        blank = type(self).__new__(type(self))
        attributes = {**self.__dict__, "_parameters": {}, "_gradients": {}, "_kept": None, "_bound": False}
        if self._runs_in_python():  # what it remembers may be changed in place
            attributes = copy.deepcopy(attributes)
        blank.__dict__.update(attributes)
        return blank

    def _bind(self, parameters: dict[str, NDArray[Any]], gradients: dict[str, NDArray[Any]]) -> None:
        """Become part of a network: compute on views of its flat vectors from now on."""
        self._parameters, self._gradients = parameters, gradients
        for array in parameters.values():
            self._dtype = array.dtype
        self._kept = None
        self._bound = True

    def _release(self) -> None:
        """Be on its own again, without numbers."""
        self._parameters, self._gradients, self._bound = {}, {}, False

    def _draw(self, rng: np.random.Generator, activation: str) -> None:
        """Draw the parameters anew for the activation that follows; nothing to do without parameters."""
        self._kept = None
        if self._parameters:
            self._assign(self._initial(rng))

    def _assign(self, drawn: Mapping[str, NDArray[Any]]) -> None:
        """Write drawn numbers into the parameters."""
        if set(drawn) != set(self._parameters):
            raise ValueError(f"{self!r} drew {sorted(drawn)}, expected {sorted(self._parameters)}")
        for name, array in self._parameters.items():
            start = np.asarray(drawn[name])
            if start.shape != array.shape:
                raise ValueError(f"{name} was drawn with shape {start.shape}, expected {array.shape}")
            _check.finite(start if start.ndim in (1, 2) else start.reshape(-1), array.dtype, name)
            array[...] = start

    def _team(self, threads: int | None, flops: int) -> int:
        """How many threads so much work is worth, at most ``threads``."""
        worthwhile = _native.worthwhile_threads(_native.resolve_threads(threads), flops)
        return _native.started_threads(worthwhile, flops)

    def _kept_for(self, dy: NDArray[Any]) -> NDArray[Any]:
        """What forward kept, if ``dy`` has the shape of what it gave."""
        if self._kept is None:
            raise ValueError(f"{self!r}.backward needs a forward before it")
        shape = self._output_shape(self._kept)
        if dy.shape != shape:
            raise ValueError(f"dy has shape {dy.shape}, but forward gave {shape}")
        return self._kept

    def _output_shape(self, kept: NDArray[Any]) -> tuple[int, ...]:
        return kept.shape


class Dense(Layer):
    """The affine layer Z = X W + b; dX = dZ W^T, dW = X^T dZ, db = column sums of dZ.

    Parameters
    ----------
    in_features, out_features : int
        Columns of X and of Z, at least 1.
    weight, bias : Initializer or str, optional
        How to draw W (in, out) and b (out,): default for W He before ReLU and Glorot otherwise, zeros for b.
    dtype : {"float32", "float64"}
        Precision of a layer on its own; default float32.  A network has one for all its layers.
    seed : int, optional
        Where a layer on its own draws from; default: from the system's entropy.  A network draws the
        parameters of its layers itself when it is built.

    Raises
    ------
    ValueError, TypeError
        For sizes under 1 or with a product that no memory holds, and for names that are not known.
    MemoryError
        When its arrays are made, for more bytes than the machine has.

    Examples
    --------
    >>> layer = Dense(2, 1, seed=0)
    >>> layer.weight[:] = [[2.0], [3.0]]
    >>> layer.forward([[1.0, 10.0]])
    array([[32.]], dtype=float32)
    """

    name = "dense"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        weight: initializers.Initializer | str | None = None,
        bias: initializers.Initializer | str = "zeros",
        dtype: DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.in_features: int = _check.whole_number(in_features, "in_features")
        self.out_features: int = _check.whole_number(out_features, "out_features")
        if (self.in_features + 1) * self.out_features > _MOST_PARAMETERS:
            sizes = f"{_check.shown(in_features)} x {_check.shown(out_features)}"
            raise ValueError(
                f"in_features x out_features is {sizes}, expected at most {_MOST_PARAMETERS} parameters"
            )
        self._weight_start = None if weight is None else initializers.get(weight, "weight")
        self._bias_start = initializers.get(bias, "bias")
        self._dtype: np.dtype[Any] = _check.precision(dtype)
        self._seed = None if seed is None else _check.seed(seed)

    def __repr__(self) -> str:
        return f"Dense({self.in_features}, {self.out_features})"

    def __getstate__(self) -> dict[str, Any]:
        if not self._parameters and self._seed is None:
            self._seed = int(np.random.default_rng().integers(2**63))  # what is drawn later shall be the same
        return super().__getstate__()

    @view
    def weight(self) -> NDArray[Any]:
        """W, shape (in_features, out_features); write to it with ``layer.weight[:] = ...``."""
        return self.parameters["weight"]

    @view
    def bias(self) -> NDArray[Any]:
        """b, shape (out_features,)."""
        return self.parameters["bias"]

    def _forward(self, x: NDArray[Any], threads: int | None) -> NDArray[Any]:
        z = self._apply(x, threads)
        self._kept = x
        return z

    def _apply(self, x: NDArray[Any], threads: int | None) -> NDArray[Any]:
        z = np.empty((len(x), self.out_features), x.dtype)
        team = self._team(threads, 2 * self.out_features * x.size)
        scratch = self._scratch(len(x), team, backward=False)
        _native.kernels(x.dtype).dense_forward(x, self.weight, self.bias, z, scratch, team)
        return z

    def _backward(self, dz: NDArray[Any], threads: int | None) -> NDArray[Any]:
        dx = np.empty_like(self._kept_for(dz))
        self._differentiate(dz, dx, threads)
        return dx

    def _backward_last(self, dz: NDArray[Any], threads: int | None) -> None:
        self._differentiate(dz, self._kept_for(dz)[:0], threads)

    def _differentiate(self, dz: NDArray[Any], dx: NDArray[Any], threads: int | None) -> None:
        """dX, unless it is empty, and the gradients."""
        x, weight = self._kept_for(dz), self.weight
        dweight, dbias = self._gradients["weight"], self._gradients["bias"]
        team = self._team(threads, 4 * self.out_features * x.size)
        scratch = self._scratch(len(x), team, backward=True)
        _native.kernels(x.dtype).dense_backward(x, weight, dz, dx, dweight, dbias, scratch, team)

    def _scratch(self, rows: int, team: int, *, backward: bool) -> NDArray[Any]:
        """What the threads of a pass pack matrices into."""
        bias, shape = self.bias, (self.in_features, self.out_features)
        size = _native.kernels(bias.dtype).layer_scratch(bias, *shape, rows, backward, team)
        return np.empty(size, bias.dtype)

    def _output_shape(self, kept: NDArray[Any]) -> tuple[int, ...]:
        return len(kept), self.out_features

    def _settings(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "weight": self._weight_start,
            "bias": self._bias_start,
            "dtype": self._dtype,
            "seed": self._seed,
        }

    def _blank(self: OfDense) -> OfDense:
        blank = super()._blank()
        blank._seed = self._seed or 0  # its network draws for it, and equal networks pickle to equal bytes
        return blank

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.in_features, self.out_features), "bias": (self.out_features,)}

    def _own_seed(self) -> int | None:
        return self._seed

    def _draw(self, rng: np.random.Generator, activation: str) -> None:
        self._kept = None
        weight_start = self._weight_start or initializers.default_for(activation)
        start = {"weight": weight_start, "bias": self._bias_start}
        self._assign(
            {
                name: start[name].draw(rng, self.in_features, self.out_features, array.shape)
                for name, array in self._parameters.items()
            }
        )
