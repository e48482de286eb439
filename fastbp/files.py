"""Networks to files and back: an ``.npz`` of plain arrays and a description in JSON, nothing pickled.

A file holds three arrays, each an uncompressed entry: ``parameters``, the optimiser's ``state``, and
``description``, text that names the classes of the layers, the loss, the optimiser and the initializers with
the arguments that make them.  A file claims sizes; each is compared with what the file has, or with what the
description adds up to, before memory is taken for it.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
import stat
from numbers import Integral, Real
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fastbp import _check, atomic
from fastbp.activations import ACTIVATIONS
from fastbp.architectures import chain, refuse_bad_pair
from fastbp.initializers import Glorot, He, Initializer, LeCun, Normal, Uniform, Zeros
from fastbp.layers import Dense, Layer
from fastbp.losses import BinaryCrossEntropy, CrossEntropy, Loss, MeanAbsoluteError, MeanSquaredError
from fastbp.optimizers import SGD, Adam, Optimizer

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

Kind = TypeVar("Kind")

FORMAT, VERSION = "fastbp network", 1
_KEYS = {"format", "version", "dtype", "seed", "steps", "epochs", "loss", "optimizer", "layers"}
_ENTRIES = ["description.npy", "parameters.npy", "state.npy"]

_DESCRIPTIONS: tuple[type[Any], ...] = (
    *ACTIVATIONS.values(), Dense,
    MeanSquaredError, MeanAbsoluteError, BinaryCrossEntropy, CrossEntropy,
    SGD, Adam,
    Glorot, He, LeCun, Uniform, Normal, Zeros,
)  # fmt: skip
_KNOWN = {known.__name__: known for known in _DESCRIPTIONS}  # what a name in a file may stand for

_MOST_TEXT = 1 << 20  # bytes of a description: 5000 layers with all their settings
_MOST_LAYERS = 5000  # a network's checks take time with the square of its layers: a second for these
_MOST_NESTING = 6  # brackets in brackets of a description; ours has 4
_MOST_COUNT = 2**53  # steps and epochs: what no training reaches, far from where int64 ends
_DIRECTORY = 22 + 65535  # bytes of a zip's directory: ours has 200, its end alone may have so many
_PIECE = 1 << 20  # bytes read from an entry at a time
_UNICODE_PATH_WITHOUT_NAME = b"up\x05\x00\x01"  # an extra field at which newer Pythons warn
_PATCHED_OR_ENCRYPTED = 0x1 | 0x20 | 0x40  # flags of a zip's entry

_SCHEDULED = (
    "set net.optimizer to one with a number for lr, save, and set it back here and in the network that load "
    "gives, which goes on with the same epoch; or "
)
_INSTEAD = (
    "save net.parameters with numpy.save; to bring the network back, build it in code and assign what "
    "numpy.load gives to net.parameters[:]"
)


def save(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a network's state to a file, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file's name, taken as it is: no suffix is added.
    state : dict
        What makes the network, and copies of its numbers, as `Network.save` gives them.

    Raises
    ------
    TypeError
        For what is not fastbp's own, and for an ``lr`` that is a function.
    ValueError
        For more layers than a file may describe.
    OSError
        When the file cannot be written, naming ``path``; an old file is then what it was.
    """
    import json

    text = json.dumps(_describe_network(state), allow_nan=False).encode("ascii")
    try:
        _restore(text)  # what could not be loaded is not written
    except (TypeError, ValueError) as error:
        raise ValueError(f"the network cannot be saved: {error}; {_INSTEAD}") from error
    stored = np.dtype(state["dtype"]).newbyteorder("<")
    arrays = {
        "description": np.array(text),
        "parameters": np.ascontiguousarray(state["parameters"], stored),
        "state": np.ascontiguousarray(state["state"], stored),
    }
    atomic.replace(path, lambda file: _write(file, arrays))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a network's state from a file, and only what a network can be built of.

    Parameters
    ----------
    path : str or path-like
        The file's name.

    Returns
    -------
    dict
        What `Network.__setstate__` takes.

    Raises
    ------
    ValueError
        For a file that is damaged, cut short, of another origin or a newer format, or that contradicts
        itself, naming ``path`` and what is wrong.
    OSError
        When the file cannot be read.
    """
    import struct
    import zipfile

    name = _check.path(path)
    mode = os.stat(name).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ValueError(f"{name!r} is not a regular file")  # opening a pipe would wait for its writer
    try:
        with _Claims(io.FileIO(name)) as file, zipfile.ZipFile(file) as archive:
            file.most = _PIECE
            return _read(archive, file.size)
    except (
        zipfile.BadZipFile, NotImplementedError, EOFError, struct.error,  # from zipfile
        TypeError, ValueError, OverflowError,  # from the checks here and in constructors
    ) as error:  # fmt: skip
        reason = str(error) or "it ends too early"
        raise ValueError(f"{name!r} cannot be loaded: {reason:.300}") from error


# The description


def _describe_network(state: dict[str, Any]) -> dict[str, Any]:
    steps, epochs = state["counts"]
    return {
        "format": FORMAT,
        "version": VERSION,
        "dtype": np.dtype(state["dtype"]).name,
        "seed": int(state["seed"]),
        "steps": int(steps),
        "epochs": int(epochs),
        "loss": _describe(state["loss"], "loss"),
        "optimizer": _describe(state["optimizer"], "optimizer"),
        "layers": [_describe(layer, f"layers[{index}]") for index, layer in enumerate(state["layers"])],
    }


def _describe(value: Any, place: str) -> Any:
    """A setting, or an object as its class and settings, in what JSON has."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, np.dtype):
        return value.name
    name = type(value).__name__
    if _KNOWN.get(name) is not type(value):
        instead = (_SCHEDULED if place == "optimizer.lr" else "") + _INSTEAD
        raise TypeError(f"{place} is {_check.a_kind(type(value))}, which a file cannot hold: {instead}")
    settings = _settings(value).items()
    return {"class": name} | {key: _describe(setting, f"{place}.{key}") for key, setting in settings}


def _settings(described: Any) -> dict[str, Any]:
    """The arguments that make an object of a known class."""
    if isinstance(described, Layer):
        return described._settings()
    return {field.name: getattr(described, field.name) for field in dataclasses.fields(described)}


def _restore(text: bytes) -> dict[str, Any]:
    """A network's state, but for the arrays, from a description that anybody may have written."""
    description = _parse(text)
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"its description is not that of a {FORMAT}")
    version = _check.whole_number(description.get("version"), "version")
    if version > VERSION:
        raise ValueError(
            f"it has format version {version}, this fastbp reads up to {VERSION}: a newer fastbp is needed"
        )
    if set(description) != _KEYS:
        raise ValueError(f"its description lacks or has beyond: {sorted(_KEYS ^ set(description))}")
    counts = tuple(_check.whole_number(description[key], key, 0) for key in ("steps", "epochs"))
    if max(counts) > _MOST_COUNT:
        raise ValueError(f"its steps and epochs are {counts}, expected at most {_MOST_COUNT}")
    listed = description["layers"]
    if not isinstance(listed, list) or len(listed) > _MOST_LAYERS:
        raise ValueError(f"its layers are not a list of at most {_MOST_LAYERS}")
    layers = [_build(layer, Layer, f"layers[{index}]") for index, layer in enumerate(listed)]
    loss = _build(description["loss"], Loss, "loss")
    dtype = np.dtype(_precision(description["dtype"], "dtype"))
    refuse_bad_pair(chain(layers), loss, dtype)
    return {
        "layers": layers,
        "loss": loss,
        "optimizer": _build(description["optimizer"], Optimizer, "optimizer"),
        "dtype": dtype,
        "seed": _check.seed(description["seed"]),
        "counts": counts,
    }


def _parse(text: bytes) -> Any:
    """JSON of our sort: short, shallow, ASCII without escapes."""
    import json

    if len(text) > _MOST_TEXT:
        raise ValueError(f"its description has {len(text)} bytes, expected at most {_MOST_TEXT}")
    if b"\\" in text:
        raise ValueError("its description holds a backslash")
    bare = re.sub(rb'"[^"]*"', b"", text)
    for _ in range(_MOST_NESTING):
        bare = re.sub(rb"\[[^][{}]*\]|\{[^][{}]*\}", b"", bare)
    if re.search(rb"[][{}]", bare):  # the parser recurses on the C stack
        raise ValueError(f"the brackets of its description do not match or nest deeper than {_MOST_NESTING}")
    try:
        return json.loads(text.decode("ascii"))
    except ValueError as error:
        raise ValueError(f"its description is not valid JSON: {error}") from error


def _build(description: Any, kind: type[Kind], place: str) -> Kind:
    """The object that `_describe` described; its constructor checks the settings."""
    settings = dict(description) if isinstance(description, dict) else {}
    name = settings.pop("class", None)
    known = _KNOWN.get(name) if isinstance(name, str) else None
    if known is None or not issubclass(known, kind):
        raise ValueError(f"{place} has the class {name!r}, expected {_check.a_kind(kind)} of fastbp's own")
    for key, value in settings.items():
        if isinstance(value, dict):
            settings[key] = _build(value, Initializer, f"{place}.{key}")
        elif key == "dtype":
            settings[key] = _precision(value, f"{place}.dtype")
    try:
        built = known(**settings)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{place}: {error}") from error
    missing = set(_settings(built)) - set(settings)
    if missing:
        raise ValueError(f"{place} lacks the settings {sorted(missing)}")
    return built


def _precision(value: Any, argument: str) -> str:
    """A precision by its one name: numpy.dtype understands much more, and warns of some of it."""
    return _check.choice(value, argument, ("float32", "float64"))


# Reading


class _Claims(io.BufferedReader):
    """A file for zipfile, which reads what the file claims: never beyond its end, never too much at once."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self.size = os.fstat(raw.fileno()).st_size
        self.most = _DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.most:
            raise ValueError(f"its zip directory claims {size} bytes, expected at most {self.most}")
        data = super().read(size)
        if self.most == _DIRECTORY and _UNICODE_PATH_WITHOUT_NAME in data:
            raise ValueError("its zip directory has an entry with a second name, which is empty")
        return data

    def seek(self, target: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_SET and not 0 <= target <= self.size:
            raise ValueError(f"it refers to its byte {target}, but has {self.size}")
        return super().seek(target, whence)


def _read(archive: ZipFile, size: int) -> dict[str, Any]:
    """The state in an archive of so many bytes."""
    infos = archive.infolist()
    names = sorted(info.filename for info in infos)
    for info in infos:
        if info.compress_type != 0 or info.flag_bits & _PATCHED_OR_ENCRYPTED:
            raise ValueError(f"{info.filename!r} in it is compressed or encrypted, expected neither")
        claimed = max(info.file_size, info.compress_size)
        if info.file_size != info.compress_size or claimed > size:
            raise ValueError(f"{info.filename!r} in it claims {claimed} bytes, but the file has {size}")
    if len({info.header_offset for info in infos}) < len(infos):
        raise ValueError("two entries in it begin at the same byte")
    entries = {info.filename: info for info in infos}
    if names.count("description.npy") != 1:
        raise ValueError(f"it holds {names}, not one description.npy: it is not a {FORMAT}")
    state = _restore(_read_entry(archive, entries["description.npy"]).tobytes())
    if names != _ENTRIES:
        raise ValueError(f"it holds {names}, expected {_ENTRIES}")
    dense = (layer for layer in state["layers"] if isinstance(layer, Dense))
    count = sum((layer.in_features + 1) * layer.out_features for layer in dense)
    stored = state["dtype"].newbyteorder("<")
    shapes = {"parameters": (count,), "state": (state["optimizer"].slots, count)}
    for name, shape in shapes.items():
        array = _read_entry(archive, entries[f"{name}.npy"], stored, shape)
        state[name] = array.astype(state["dtype"], copy=False)
    return state


def _read_entry(
    archive: ZipFile, info: ZipInfo, dtype: np.dtype[Any] | None = None, shape: tuple[int, ...] = ()
) -> NDArray[Any]:
    """An array of this dtype and shape; without a dtype, text of a length that may be read."""
    with archive.open(info) as entry:
        start = entry.read(10)
        if start[:8] != b"\x93NUMPY\x01\x00" or len(start) != 10:
            raise ValueError(f"{info.filename} in it is not an array of the .npy format 1.0")
        length = int.from_bytes(start[8:], "little")
        header = entry.read(length).decode("latin-1").rstrip()
        size = info.file_size - len(start) - length
        if dtype is None:
            if not 0 < size <= _MOST_TEXT:
                raise ValueError(f"its description has {size} bytes, expected 1 to {_MOST_TEXT}")
            dtype = np.dtype(f"S{size}")
        # The header is compared, as text, with the one that there must be: nothing of it is evaluated.
        expected = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
        if header != expected:
            raise ValueError(f"{info.filename} in it is {header:.100}, expected {expected:.100}")
        needed = math.prod(shape) * dtype.itemsize
        if size != needed:
            raise ValueError(f"{info.filename} in it has {size} bytes of numbers, expected {needed}")
        array = np.empty(shape, dtype)
        content = array.reshape(-1).view(np.uint8)
        for start_of_piece in range(0, size, _PIECE):
            piece = content[start_of_piece : start_of_piece + _PIECE]
            piece[:] = np.frombuffer(entry.read(len(piece)), np.uint8)  # which compares the checksum, too
    return array


# Writing


def _write(file: IO[bytes], arrays: dict[str, NDArray[Any]]) -> None:
    from zipfile import ZipFile

    with ZipFile(file, "w") as archive:  # stored: parameters hardly compress
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(entry, array, version=(1, 0), allow_pickle=False)
