"""User arrays to checked arrays, settings to checked settings: what is refused is refused here.

Arrays of numbers pass as they are, strided, read-only, byte-swapped or memory-mapped: the core converts them
a batch at a time, so that a data set is not copied, but for `rows_together`.  Lists and data frames become
arrays.
"""

from __future__ import annotations

import inspect
import math
import mmap
import operator
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp import _native

Described = TypeVar("Described")
Item = TypeVar("Item")

_PRECISIONS = (np.dtype(np.float32), np.dtype(np.float64))
_BLOCK = 65536  # rows looked at together where a check needs temporary arrays: they stay under a few MB
_SCAN = 1024  # entries converted and looked at together: they stay in the first-level cache
_NEAR_BYTES = 1 << 20  # an array of so many is in a second-level cache wherever it is read
_CACHE_LINE = 64  # bytes that come from memory together
_SUM_TOLERANCE = 1e-3  # float16 keeps 11 bits: 10 probabilities of 0.1 may sum to 1 within 5e-4
_HINTS = {  # how text becomes targets of one kind
    "real": "numpy.asarray({}, 'float32') takes what can be read as numbers",
    "probability": "numpy.asarray({}) == 'yes' gives True and False, of which 'yes' is to be the former",
    "class": "numpy.unique({}, return_inverse=True) gives classes, and labels for them",
}
_SHOWN = 100  # characters of a refused value: a message shall not be as long as a list of a million numbers


def numeric(value: ArrayLike, argument: str, kind: str = "real") -> NDArray[Any]:
    """``value`` as an array of real numbers: itself when it is one already; ``kind`` as in `targets`."""
    if type(value) is np.ndarray:
        array = value
    else:
        if _has_mask(value):  # which the conversion would drop
            raise ValueError(f"{argument} is a masked array, expected one without a mask: fill it first")
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # other libraries' arrays too
            raise ValueError(f"{argument} cannot be made an array of numbers: {error}") from error
        if array.dtype == object and array.ndim == 2 and hasattr(value, "to_numpy"):
            array = _frame(value, array, argument)
    if array.dtype.kind not in "fiub" or array.itemsize > 8:
        single = array.ndim == 0 and array is not value  # not a sequence: None, a dict, a generator, text
        found = f"is {shown(value)}" if single else f"has dtype {array.dtype}"
        hint = ""
        if hasattr(value, "toarray"):  # SciPy's
            found, hint = "is a sparse matrix", f"; {argument}.toarray() is an array"
        elif array.dtype.kind in "OUST" and not single:
            hint = f"; {_HINTS[kind].format(argument)}"
        raise ValueError(
            f"{argument} {found}, expected real numbers (bool, integers, float16, float32 or float64){hint}"
        )
    return array


def features(
    x: ArrayLike, columns: int | None, argument: str = "x", taker: str = "the network"
) -> NDArray[Any]:
    """``x`` as an array (samples, columns) with at least one row; None: any number of columns but 0."""
    array = numeric(x, argument)
    shape = array.shape
    if len(shape) != 2:
        hint, given = "", argument if array is x else f"numpy.asarray({argument})"
        if shape == (columns,):
            hint = f"; one sample is {given}[None, :]"
        elif len(shape) == 1 and columns == 1:
            hint = f"; samples of one feature are {given}[:, None]"
        raise ValueError(
            f"{argument} has {_count(len(shape), 'dimension')}, expected 2: (samples, features){hint}"
        )
    if columns is None:
        columns = max(1, shape[1])
    if shape[1] != columns:
        raise ValueError(
            f"{argument} has {_count(shape[1], 'column')}, but {taker} takes {_count(columns, 'feature')}"
        )
    if shape[0] == 0:
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
    array = numeric(y, argument, kind)
    shape = array.shape
    if len(shape) not in (1, 2):
        dimensions = _count(len(shape), "dimension")
        raise ValueError(f"{argument} has {dimensions}, expected {_shapes(rows, outputs, kind)}")
    if shape[0] != rows:
        raise ValueError(f"{argument} has {_count(shape[0], 'row')}, but {samples} has {rows}")
    if kind == "class" and len(shape) == 1:
        _refuse_bad_labels(array, outputs, argument)
    elif (shape[1] if len(shape) == 2 else 1) != outputs:
        hint = f"; these labels are {argument}[:, 0]" if kind == "class" and shape[1:] == (1,) else ""
        raise ValueError(f"{argument} has shape {shape}, expected {_shapes(rows, outputs, kind)}{hint}")
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


def contiguous(array: NDArray[Any], dtype: np.dtype[Any], argument: str) -> NDArray[Any]:
    """``array`` (rank 2) as a layer's kernels take it, its numbers finite: itself when it fits already."""
    finite(array, dtype, argument)
    with np.errstate(under="ignore"):  # a subnormal number counts as 0
        converted = np.ascontiguousarray(array, dtype)
    return converted if converted.flags.aligned else converted.copy()


def precision(dtype: DTypeLike, argument: str = "dtype") -> np.dtype[Any]:
    """float32 or float64, in the machine's byte order."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found not in _PRECISIONS:
        raise ValueError(f"{argument} is {shown(dtype)}, expected 'float32' or 'float64'")
    return found


def whole_number(value: Any, argument: str, minimum: int = 1) -> int:
    """A whole number of at least ``minimum``."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{argument} is {shown(value)}, expected a whole number")
    if number < minimum:
        raise ValueError(f"{argument} is {shown(number)}, expected at least {minimum}")
    return number


def boolean(value: Any, argument: str) -> bool:
    """True or False, and nothing that merely counts as one of them."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument} is {shown(value)}, expected True or False")
    return bool(value)


def sequence(value: Iterable[Item], argument: str, expected: str) -> tuple[Item, ...]:
    """The items of ``value``; text is none."""
    try:
        items = None if isinstance(value, (str, bytes)) else iter(value)
    except TypeError:
        items = None
    if items is None:
        raise TypeError(f"{argument} is {shown(value)}, expected {expected}")
    return tuple(items)


def pair(value: Any, argument: str) -> tuple[Any, Any]:
    """A tuple or a list of two: data and targets."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{argument} is {a_kind(type(value))}, expected a pair (x, y)")
    if len(value) != 2:
        raise ValueError(f"{argument} has {_count(len(value), 'entry', 'entries')}, expected a pair (x, y)")
    return value[0], value[1]


def memory(size: int, what: str) -> None:
    """Refuse to take more bytes than the machine has: where the system promises any, it ends the process."""
    if size > _machine_memory():
        there = _machine_memory() / 1e9
        raise MemoryError(f"{what} needs {size / 1e9:,.4g} GB, but the machine has {there:,.4g} GB")


def seed(value: Any) -> int:
    """A whole number from 0 to 2**63 - 1, what both generators take."""
    number = whole_number(value, "seed", 0)
    if number >= 2**63:
        raise ValueError(f"seed is {number}, expected less than 2**63")
    return number


def real_number(value: Any, argument: str, minimum: float = 0.0, below: float = math.inf) -> float:
    """A real number, ``minimum <= value < below``; NaN is neither."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{argument} is {shown(value)}, expected a number")
    try:
        number = float(value)
    except OverflowError:  # a whole number or a fraction beyond float64
        number = math.inf
    if not minimum <= number < below:
        bounds = f">= {minimum:g}" if below == math.inf else f">= {minimum:g} and < {below:g}"
        raise ValueError(f"{argument} is {shown(value, str)}, expected a finite number {bounds}")
    return number


def choice(value: Any, argument: str, known: tuple[str, ...]) -> str:
    """One of the known strings."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} is {shown(value)}, expected {_alternatives(known)}")
    if value not in known:
        raise ValueError(f"{argument} is {shown(value)}, expected {_alternatives(known)}")
    return value


def described(
    value: Any,
    kind: type[Described],
    known: Mapping[str, Callable[[], Described]],
    argument: str,
    other: str = "",
) -> Described:
    """``value`` when it is a description of that kind, or the one with its default settings that it names."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        return known[choice(value, argument, tuple(known))]()
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(
            f"{argument} is the class {value.__name__}, expected an object: {value.__name__}(...)"
        )
    expected = f"{_alternatives(tuple(known))}{other and ', ' + other} or {a_kind(kind)}"
    raise TypeError(f"{argument} is {shown(value)}, expected {expected}")


def rows_together(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or where column after column lies in memory a copy with row after row, for a call.

    A row taken at random would bring a line of memory from far for each of its numbers.  What is small is
    near, what is mapped from a file stays there, and so does what would take more than an eighth of the
    memory there is, or more than can be had.
    """
    if array.ndim != 2 or array.shape[1] == 1 or not _NEAR_BYTES < array.nbytes <= _machine_memory() // 8:
        return array
    row, column = map(abs, array.strides)
    if row == 0 or column < max(_CACHE_LINE, len(array) * row) or _is_mapped(array):
        return array
    try:
        return np.ascontiguousarray(array)
    except MemoryError:
        return array


def _is_mapped(array: Any) -> bool:
    """Whether an array's numbers lie in a memory map, of NumPy's or Python's; shared memory is such, too."""
    while isinstance(array, np.ndarray) and getattr(array, "_mmap", None) is None:
        array = array.base.obj if isinstance(array.base, memoryview) else array.base
    return isinstance(array, (np.ndarray, mmap.mmap))


@cache
def _machine_memory() -> int:
    """Bytes of memory of the machine or its container; what an address reaches where no system says."""
    try:
        size: int = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        size = 2**47
    return min(size, container_memory())


def container_memory(folder: str = _native.CONTAINER) -> int:
    """Bytes that a container may take; more than there can be where none is."""
    words = _native.container_words(folder, ("memory.max",), ("memory/memory.limit_in_bytes",))
    return int(words[0]) if words and words[0].isdecimal() else 2**63


def redefines(value: Any, methods: Collection[str]) -> bool:
    """Whether one of these methods is a user's: that of his class, or put on the object itself."""
    found = (getattr(type(value), name, None) for name in methods)
    return any(name in vars(value) for name in methods) or any(
        not (getattr(method, "__module__", None) or "").startswith("fastbp.") for method in found
    )


def known_to_core(value: Any, argument: str, known: Collection[str], methods: str = "") -> None:
    """Refuse a kind that the core does not compute, and that brings no methods of its own for it."""
    if getattr(value, "name", None) not in known:
        lacking = f" without {methods} of its own" if methods else ""
        names = ", ".join(known)
        raise TypeError(
            f"{argument} is {shown(value)}, a kind{lacking} that the core does not compute: {names}"
        )


def function_of(value: Callable[..., Any], arguments: int, argument: str, expected: str) -> None:
    """Refuse a function that does not take so many arguments; one that does not say is believed."""
    try:
        inspect.signature(value).bind(*[None] * arguments)
    except ValueError:
        return
    except TypeError as error:
        raise TypeError(f"{argument} is {shown(value)}, expected {expected}: {error}") from None


def path(value: Any) -> str:
    """The name of a file."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise TypeError(f"path is {shown(value)}, expected a file's name: text or a pathlib.Path") from None


def a_kind(kind: type[Any]) -> str:
    """The name of a class behind its article."""
    return f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__}"


def shown(value: Any, text: Callable[[Any], str] = repr) -> str:
    """A value in a message: its text, or the start of it."""
    try:
        written = text(value)
    except ValueError:  # a whole number of more digits than Python writes out
        return f"an enormous {type(value).__name__}"
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}..."


def _has_mask(value: Any) -> bool:
    """Whether an array is one of NumPy's masked arrays, or a list has one."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], np.ndarray):
        return any(map(_has_mask, value))
    return isinstance(value, np.ndarray) and hasattr(value, "filled")


def _frame(frame: Any, array: NDArray[Any], argument: str) -> NDArray[Any]:
    """A data frame of pandas, which makes objects of several kinds of numbers, in float64."""
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        kind = getattr(dtype, "kind", None)
        if kind is None:  # of another library
            return array
        if kind not in "fiub":
            raise ValueError(
                f"column {name!r} of {argument} has dtype {dtype}, expected real numbers: "
                "convert it, encode it or leave it out"
            )
    numbers: NDArray[np.float64] = frame.to_numpy(np.float64, na_value=np.nan)
    return numbers


def _first_nonfinite(array: NDArray[Any], dtype: np.dtype[Any]) -> int:
    """The flat index of the first entry that is not a finite number of ``dtype``, or -1."""
    if array.dtype.kind != "f":
        return -1
    position: int = _native.kernels(dtype).find_nonfinite(array, np.empty(_SCAN, dtype))
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


def _count(number: int, noun: str, several: str = "") -> str:
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def _alternatives(names: tuple[str, ...]) -> str:
    return "one of " + ", ".join(map(repr, names))


def _shapes(rows: int, outputs: int, kind: str) -> str:
    if kind == "class":
        return f"labels of shape ({rows},) or probabilities of shape ({rows}, {outputs})"
    return f"shape ({rows},) or ({rows}, 1)" if outputs == 1 else f"shape ({rows}, {outputs})"
