"""Nodes of a computational graph: how a value comes to be, and how derivatives find their way back.

No operation is known here: `fastbp.graph` declares them, and fills in the table `TAKES_NODES`.
"""

from __future__ import annotations

import inspect
import itertools
import operator
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, NDArray

from fastbp import _check

Array: TypeAlias = NDArray[Any]
Axis: TypeAlias = "int | tuple[int, ...] | None"
Shape: TypeAlias = "tuple[int, ...]"
Operand: TypeAlias = "Variable | ArrayLike"
Back: TypeAlias = Callable[..., Array]  # of g, local derivative, the input's shape and the settings

ONE = np.ones((), np.bool_)  # the local derivative of what passes on whatever arrives: spares a product
TAKES_NODES: dict[Any, Callable[..., Any]] = {}  # functions of NumPy, and what each does with nodes

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_serials = itertools.count()  # inputs come into being before what is made of them: this sorts any graph


class Variable(NDArrayOperatorsMixin):
    """A number or an array, and how it was computed: a node of the graph.

    ``+ - * / ** @``, comparisons and indexing work as for arrays, with numbers and arrays on either side, and
    so do the functions of NumPy that the graph has: ``np.log(node)`` is ``graph.log(node)``.

    Parameters
    ----------
    value : number or array
        Copied; float32 stays so, everything else becomes float64.
    name : str, optional
        What the node is called in pictures and messages.

    Raises
    ------
    ValueError
        For what is not a real number or an array of such.

    Examples
    --------
    >>> x, y = Variable(3.0), Variable(4.0)
    >>> z = (x + y) ** 2
    >>> z.backward()
    >>> float(z), float(x.grad)
    (49.0, 14.0)
    """

    __slots__ = ("__weakref__", "_grad", "_inputs", "_operation", "_serial", "_settings", "_value", "name")

    def __init__(self, value: ArrayLike, name: str | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name is {name!r}, expected a str")
        array = _check.numeric(value, "value")
        self._fill(np.array(array, _SINGLE if array.dtype == _SINGLE else _DOUBLE), name)

    def _fill(
        self,
        value: Array,
        name: str | None = None,
        operation: Operation | None = None,
        inputs: tuple[Variable, ...] = (),
        settings: tuple[Any, ...] = (),
    ) -> Variable:
        self._value, self.name = value, name
        self._operation, self._inputs, self._settings = operation, inputs, settings
        self._grad: Array | None = None
        self._serial = next(_serials)
        return self

    @property
    def value(self) -> Array:
        """The number or array; a node without inputs may be given another, before it is used again."""
        return self._value

    @value.setter
    def value(self, value: ArrayLike) -> None:
        if self._operation is not None:
            raise AttributeError(f"value is computed by {self.operation!r}, expected a node without inputs")
        if value is not self._value:  # as it is in node.value -= ...
            self._value = np.array(_check.numeric(value, "value"), self.dtype)

    @property
    def grad(self) -> Array | None:
        """The derivative by this node of the one on which `backward` was called last; None before."""
        return self._grad

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """The nodes that this one was computed from."""
        return self._inputs

    @property
    def operation(self) -> str:
        """What computed it, such as "+", "** 2" or "exp"; empty for a node without inputs."""
        return "" if self._operation is None else self._operation.name.format(*self._settings)

    @property
    def local_derivatives(self) -> tuple[Array, ...]:
        """For every input what the derivative that arrives is multiplied by.

        Element by element the array d value / d input; W^T and X^T for X @ W, 1/n for a mean, 1 where entries
        are summed or moved, for a softmax its own value a, of which the Jacobian diag(a) - a a^T is made.
        """
        if self._operation is None:
            return ()
        with np.errstate(all="ignore"):
            arrays = [np.asarray(local, self.dtype) for local in self._operation.locals_at(self)]
        return tuple(
            np.broadcast_to(array, self.shape) if back in (times, times_if_any) else array
            for array, back in zip(arrays, self._operation.back, strict=True)
        )

    def backward(self, seed: ArrayLike | None = None) -> None:
        """Back propagation: leave in ``grad`` of every node below the derivative of this one by it.

        What was there before is replaced.  A node that is used twice adds up what comes back by each way.

        Parameters
        ----------
        seed : array, optional
            What arrives at this node, of its shape; default 1, for a node that holds one number.

        Raises
        ------
        ValueError
            Without a seed for a node of several numbers, and for a seed of another shape.
        """
        if seed is None and self.size == 1:
            seed = np.ones(self.shape)
        if seed is None or np.shape(seed) != self.shape:
            came = "none" if seed is None else f"one of shape {np.shape(seed)}"
            raise ValueError(
                f"backward from a value of shape {self.shape} needs a seed of that shape, got {came}"
            )
        nodes = walk(self)
        for node in nodes:
            node._grad = None
        self._grad = np.array(_check.numeric(seed, "seed"), self.dtype)
        with np.errstate(all="ignore"):
            for node in reversed(nodes):
                node._pass_back()

    def _pass_back(self) -> None:
        """Add to the derivatives by the inputs what the complete one by this node makes of them."""
        g, operation = self._grad, self._operation
        assert g is not None
        g.flags.writeable = False  # other nodes may have the same array
        if operation is None:
            return
        for x, local, back in zip(self._inputs, operation.locals_at(self), operation.back, strict=True):
            dx = back(g, local, x.shape, *self._settings)
            x._grad = np.asarray(dx if x._grad is None else x._grad + dx, x.dtype)

    @property
    def shape(self) -> Shape:
        """Of the value; () for a number."""
        return self._value.shape

    @property
    def ndim(self) -> int:
        """How many axes the value has."""
        return self._value.ndim

    @property
    def size(self) -> int:
        """How many numbers the value holds."""
        return self._value.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the value: float32 or float64."""
        return self._value.dtype

    @property
    def T(self) -> Variable:
        """The transpose."""
        return self.transpose()

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Variable:
        """The sum of all entries, or along one axis or several."""
        return self._by_numpy(np.sum, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Variable:
        """The mean of all entries, or along one axis or several."""
        return self._by_numpy(np.mean, axis, keepdims)

    def reshape(self, *shape: Any) -> Variable:
        """The same entries in another shape, given as numbers or a tuple; -1 for what is left."""
        return self._by_numpy(np.reshape, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Variable:
        """The axes in the order given, as numbers or a tuple; without one in reverse."""
        return self._by_numpy(np.transpose, axes[0] if len(axes) == 1 else axes or None)

    def __getitem__(self, key: Any) -> Variable:
        return self._by_numpy(operator.getitem, key)

    def _by_numpy(self, function: Any, *settings: Any) -> Variable:
        node: Variable = TAKES_NODES[function](self, *settings)
        return node

    def to_text(self) -> str:
        """The graph for a terminal."""
        from fastbp import drawing

        return drawing.to_text(self)

    def to_dot(self) -> str:
        """The graph in Graphviz' language."""
        from fastbp import drawing

        return drawing.to_dot(self)

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Write the graph to an .svg or .png file: values above the edges, derivatives below them."""
        from fastbp import drawing

        drawing.draw(self, path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from fastbp import drawing

        return drawing.mimebundle(self, include, exclude)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **settings: Any) -> Any:
        """What all operators call, and functions of NumPy; ``x += y`` makes a node, as ``x = x + y`` does."""
        written_to = settings.pop("out", operands)[0]
        if ufunc not in TAKES_NODES:
            raise TypeError(f"numpy.{ufunc.__name__} cannot take nodes, expected one of fastbp.graph")
        if method != "__call__" or settings or written_to is not operands[0]:
            raise TypeError(f"numpy.{ufunc.__name__} cannot take nodes like this, expected operands alone")
        return TAKES_NODES[ufunc](*operands)

    def __array_function__(self, function: Any, _: Any, operands: Any, settings: dict[str, Any]) -> Any:
        if function not in TAKES_NODES:
            raise TypeError(f"numpy.{function.__name__} cannot take nodes, expected one of fastbp.graph")
        if settings:
            try:
                inspect.signature(TAKES_NODES[function]).bind(*operands, **settings)
            except TypeError as error:
                raise TypeError(f"numpy.{function.__name__} cannot take nodes like this: {error}") from None
        return TAKES_NODES[function](*operands, **settings)

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise TypeError("a node is no array, and as one would have no derivative: take node.value")

    __hash__ = object.__hash__  # by identity, in spite of ==, which compares values

    def __bool__(self) -> bool:
        raise TypeError("a node is neither true nor false: compare it, as in node > 0, or take node.value")

    def __float__(self) -> float:
        return float(self._value.item())

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Variable]:
        return map(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        value = np.array2string(self._value, separator=", ", prefix="Variable(")
        name = "" if self.name is None else f", name={self.name!r}"
        origin = "" if self._operation is None else f", operation={self.operation!r}"
        return f"Variable({value}{name}{origin})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._operation is not None:
            raise TypeError(
                "a computed node cannot be copied or pickled: take node.value, or compute it anew"
            )
        return Variable, (self._value, self.name)


def walk(node: Variable) -> list[Variable]:
    """``node`` and all it was computed from, inputs before what is made of them, each once."""
    found, waiting = {node}, [node]
    while waiting:
        for x in waiting.pop()._inputs:
            if x not in found:
                found.add(x)
                waiting.append(x)
    return sorted(found, key=operator.attrgetter("_serial"))


def times(g: Array, local: Any, shape: Shape, *_: Any) -> Array:
    """The chain rule, element by element: g times the local derivative, summed where x was repeated."""
    return _summed(g if local is ONE else g * local, shape)


def times_if_any(g: Array, local: Any, shape: Shape, *_: Any) -> Array:
    """The same, but 0 where nothing arrives: 0 times infinity would be NaN."""
    return _summed(np.where(g == 0, 0, g * local), shape)


def _summed(array: Array, shape: Shape) -> Array:
    if array.shape == shape:
        return array
    new = array.ndim - len(shape)
    repeated = (new + axis for axis, size in enumerate(shape) if size == 1)
    return np.asarray(array.sum((*range(new), *repeated))).reshape(shape)


@dataclass(frozen=True, eq=False, repr=False)
class Operation:
    """What a node computes, its local derivatives, and how these meet the derivative that arrives.

    Called with nodes, numbers or arrays it makes a node; of the numbers and arrays it makes nodes too.  The
    result is float32 where all arrays of floating point are; numbers, integers and masks join in.

    Parameters
    ----------
    name, formula : str
        What the nodes show, and what a reader wants to know.
    forward : callable
        From the values of the inputs, and settings that are no nodes, to the value.
    local : callable
        From the value, the inputs' values and the settings to a tuple of local derivatives, one an input.
    back : tuple of callables
        For every input, from the derivative g that arrives, the local one, the input's shape and the settings
        to the derivative by the input; default, for one input, `times`; `times_if_any` where the local one
        may be infinite.

    Examples
    --------
    >>> cube = Operation("cube", "x^3", lambda x: x**3, lambda y, x: (3 * x**2,))
    >>> x = Variable([1.0, 2.0])
    >>> cube(x).sum().backward()
    >>> x.grad
    array([ 3., 12.])
    """

    name: str
    formula: str
    forward: Callable[..., Any]
    local: Callable[..., tuple[Any, ...]]
    back: tuple[Back, ...] = (times,)

    def __call__(self, *operands: Operand, settings: tuple[Any, ...] = ()) -> Variable:
        if len(operands) != len(self.back):
            name = self.name.format(*settings)
            raise TypeError(f"{name} takes {len(self.back)} operands, but {len(operands)} came")
        floats = [x.dtype for x in operands if isinstance(x, (Variable, np.ndarray)) and x.dtype.kind == "f"]
        dtype = _SINGLE if floats and all(given == _SINGLE for given in floats) else _DOUBLE
        inputs = tuple(x if isinstance(x, Variable) else self._constant(x, dtype, settings) for x in operands)
        with np.errstate(all="ignore"):
            try:
                value = np.asarray(self.forward(*(x._value for x in inputs), *settings), dtype)
            except (ValueError, IndexError) as error:
                shapes = " and ".join(f"{x.name + ' ' if x.name else ''}{x.shape}" for x in inputs)
                kind = ValueError if isinstance(error, ValueError) else IndexError
                raise kind(f"{self.name.format(*settings)} cannot take {shapes}: {error}") from error
        return Variable.__new__(Variable)._fill(value, None, self, inputs, settings)

    def _constant(self, operand: ArrayLike, dtype: np.dtype[Any], settings: tuple[Any, ...]) -> Variable:
        array = np.asarray(_check.numeric(operand, f"an operand of {self.name.format(*settings)}"), dtype)
        return Variable.__new__(Variable)._fill(array)

    def locals_at(self, node: Variable) -> tuple[Any, ...]:
        """The local derivatives by the inputs of a node that this operation made."""
        return self.local(node._value, *(x._value for x in node._inputs), *node._settings)

    def __repr__(self) -> str:
        return f"<operation {self.name}: {self.formula}>"
