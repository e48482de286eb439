"""User arrays to checked arrays: every error in the data that a user hands over is raised here.

Arrays of numbers pass as they are, strided, read-only, byte-swapped or memory-mapped: the core converts them
a batch at a time, so that a data set is never copied.  Lists and data frames become arrays.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp import _native

Described = TypeVar("Described")

_PRECISIONS = (np.dtype(np.float32), np.dtype(np.float64))
_BLOCK = 65536  # rows looked at together where a check needs temporary arrays: they stay under a few MB
_SCAN = 1024  # entries converted and looked at together: they stay in the first-level cache
_SUM_TOLERANCE = 1e-3  # float16 keeps 11 bits: 10 probabilities of 0.1 may sum to 1 within 5e-4


def numeric(value: ArrayLike, argument: str) -> NDArray[Any]:
    """``value`` as an array of real numbers: itself when it is one already."""
    if type(value) is np.ndarray:
        array = value
    else:
        if hasattr(value, "filled"):  # NumPy's masked array, whose mask the conversion would drop
            raise ValueError(f"{argument} is a masked array, expected one without a mask: fill it first")
        try:
            array = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{argument} cannot be made an array of numbers: {error}") from error
    if array.dtype.kind not in "fiub" or array.itemsize > 8:
        raise ValueError(
            f"{argument} has dtype {array.dtype}, expected real numbers "
            "(bool, integers, float16, float32 or float64)"
        )
    return array


def features(
    x: ArrayLike, columns: int | None, argument: str = "x", taker: str = "the network"
) -> NDArray[Any]:
    """``x`` as an array (samples, columns) with at least one row; None: any number of columns but 0."""
    array = numeric(x, argument)
    if array.ndim != 2:
        hint = ""
        if array.shape == (columns,):
            hint = f"; one sample is {argument}[None, :]"
        elif array.ndim == 1 and columns == 1:
            hint = f"; samples of one feature are {argument}[:, None]"
        raise ValueError(
            f"{argument} has {_count(array.ndim, 'dimension')}, expected 2: (samples, features){hint}"
        )
    if columns is None:
        columns = max(1, array.shape[1])
    if array.shape[1] != columns:
        raise ValueError(
            f"{argument} has {_count(array.shape[1], 'column')}, "
            f"but {taker} takes {_count(columns, 'feature')}"
        )
    if array.shape[0] == 0:
        raise ValueError(f"{argument} has no rows")
    return array


def targets(
    y: ArrayLike, rows: int, outputs: int, kind: str, names: tuple[str, str] = ("x", "y")
) -> NDArray[Any]:
    """``y`` as targets of one kind for ``rows`` samples.

    ``kind`` is what the loss compares with: "real" and "probability" take (rows,) or (rows, outputs),
    "class" takes labels (rows,) or rows of probabilities (rows, outputs).
    """
    samples, argument = names
    array = numeric(y, argument)
    shape = array.shape
    if array.ndim not in (1, 2):
        dimensions = _count(array.ndim, "dimension")
        raise ValueError(f"{argument} has {dimensions}, expected {_shapes(rows, outputs, kind)}")
    if shape[0] != rows:
        raise ValueError(f"{argument} has {_count(shape[0], 'row')}, but {samples} has {rows}")
    if kind == "class" and array.ndim == 1:
        _refuse_bad_labels(array, outputs, argument)
    elif (shape[1] if array.ndim == 2 else 1) != outputs:
        raise ValueError(f"{argument} has shape {shape}, expected {_shapes(rows, outputs, kind)}")
    elif kind != "real":
        probabilities(array, argument)
        if kind == "class":
            _refuse_bad_sums(array, argument)
    return array


def probabilities(array: NDArray[Any], argument: str) -> None:
    """Refuse an array with an entry outside 0..1."""
    if not (array.min() >= 0 and array.max() <= 1):
        index = _first(array, lambda block: ~((block >= 0) & (block <= 1)))
        raise ValueError(f"{_entry(argument, index)} is {array[index]}, expected numbers from 0 to 1")


def finite(array: NDArray[Any], dtype: np.dtype[Any], argument: str) -> None:
    """Refuse an array (rank 1 or 2) with an entry that is not a finite number of the network's ``dtype``."""
    position = _first_nonfinite(array, dtype)
    if position >= 0:
        index = tuple(int(i) for i in np.unravel_index(position, array.shape))
        value = array[index]
        reason = f"which {dtype} cannot hold" if np.isfinite(value) else "expected finite numbers"
        raise ValueError(f"{_entry(argument, index)} is {value}, {reason}")


def is_finite(array: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Whether every entry of an array (rank 1 or 2) is a finite number of ``dtype``."""
    return _first_nonfinite(array, dtype) < 0


def contiguous(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """``array`` as a layer's kernels take it: itself when it is a C-contiguous one of ``dtype``."""
    return np.ascontiguousarray(array, dtype)


def precision(dtype: DTypeLike, argument: str = "dtype") -> np.dtype[Any]:
    """float32 or float64, in the machine's byte order."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found not in _PRECISIONS:
        raise ValueError(f"{argument} is {dtype!r}, expected 'float32' or 'float64'")
    return found


def whole_number(value: Any, argument: str, minimum: int = 1) -> int:
    """A whole number of at least ``minimum``."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{argument} is {value!r}, expected a whole number")
    if number < minimum:
        raise ValueError(f"{argument} is {number}, expected at least {minimum}")
    return number


def seed(value: Any) -> int:
    """A whole number from 0 to 2**63 - 1, what both generators take."""
    number = whole_number(value, "seed", 0)
    if number >= 2**63:
        raise ValueError(f"seed is {number}, expected less than 2**63")
    return number


def real_number(value: Any, argument: str, minimum: float = 0.0, below: float = math.inf) -> float:
    """A real number, ``minimum <= value < below``; NaN is neither."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{argument} is {value!r}, expected a number")
    number = float(value)
    if not minimum <= number < below:
        bounds = f">= {minimum:g}" if below == math.inf else f">= {minimum:g} and < {below:g}"
        raise ValueError(f"{argument} is {value}, expected a finite number {bounds}")
    return number


def choice(value: Any, argument: str, known: tuple[str, ...]) -> str:
    """One of the known strings."""
    if value not in known:
        raise ValueError(f"{argument} is {value!r}, expected {_alternatives(known)}")
    return str(value)


def described(
    value: Any, kind: type[Described], known: Mapping[str, Callable[[], Described]], argument: str
) -> Described:
    """``value`` when it is a description of that kind, or the one with its default settings that it names."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        return known[choice(value, argument, tuple(known))]()
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(f"{argument} is the class {value.__name__}, expected an object: {value.__name__}()")
    raise TypeError(f"{argument} is {value!r}, expected {_alternatives(tuple(known))} or a {kind.__name__}")


def _first_nonfinite(array: NDArray[Any], dtype: np.dtype[Any]) -> int:
    """The flat index of the first entry that is not a finite number of ``dtype``, or -1."""
    if array.dtype.kind != "f":
        return -1
    columns = array.shape[1] if array.ndim == 2 else 1
    position: int = _native.kernels(dtype).find_nonfinite(array, np.empty(max(columns, _SCAN), dtype))
    return position


def _refuse_bad_labels(labels: NDArray[Any], classes: int, argument: str) -> None:
    if labels.min() >= 0 and labels.max() < classes:
        if labels.dtype.kind != "f":
            return
        index = _first(labels, lambda block: block != np.floor(block))
        if not index:
            return
    else:
        index = _first(labels, lambda block: ~((block >= 0) & (block < classes)))
    raise ValueError(
        f"{_entry(argument, index)} is {labels[index]}, expected a label: "
        f"a whole number from 0 to {classes - 1} for {_count(classes, 'output')}"
    )


def _refuse_bad_sums(rows: NDArray[Any], argument: str) -> None:
    for start in range(0, len(rows), _BLOCK):
        sums = rows[start : start + _BLOCK].sum(axis=1, dtype=np.float64)
        bad = np.abs(sums - 1.0) > _SUM_TOLERANCE
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"row {start + row} of {argument} sums to {sums[row]:g}, expected probabilities that sum to 1"
            )


def _first(array: NDArray[Any], is_bad: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> tuple[int, ...]:
    """The index of the first bad entry, () when there is none."""
    for start in range(0, len(array), _BLOCK):
        bad = is_bad(array[start : start + _BLOCK])
        if bad.any():
            row, *column = np.unravel_index(int(bad.argmax()), bad.shape)
            return (start + int(row), *map(int, column))
    return ()


def _entry(argument: str, index: tuple[int, ...]) -> str:
    return f"{argument}[{', '.join(map(str, index))}]"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _alternatives(names: tuple[str, ...]) -> str:
    return "one of " + ", ".join(map(repr, names))


def _shapes(rows: int, outputs: int, kind: str) -> str:
    if kind == "class":
        return f"labels of shape ({rows},) or probabilities of shape ({rows}, {outputs})"
    return f"shape ({rows},) or ({rows}, 1)" if outputs == 1 else f"shape ({rows}, {outputs})"
