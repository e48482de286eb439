"""Files of networks, taken apart and put together again, soundly or not."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zipfile

import numpy as np

import fastbp as bp

ENTRIES = ["description.npy", "parameters.npy", "state.npy"]


def small(optimizer=None, dtype="float32", seed=3):
    """A trained network whose file has about 2000 bytes."""
    layers = [bp.Dense(3, 4, weight=bp.Normal(0.5)), bp.Tanh(), bp.Dense(4, 2, seed=5), bp.Softmax()]
    net = bp.Network(layers, "cross_entropy", optimizer or bp.Adam(lr=0.01), dtype=dtype, seed=seed)
    net.fit(*data_for_small(), epochs=2, batch_size=4)
    return net


def data_for_small():
    rng = np.random.default_rng(0)
    return rng.normal(size=(10, 3)), rng.integers(0, 2, 10)


def contents(net):
    """All that a network is, comparable: descriptions, numbers as bytes, counts."""
    state = net.__getstate__()
    layers = [(type(layer), layer._settings()) for layer in state.pop("layers")]
    arrays = [state.pop(name) for name in ("parameters", "state")]
    return layers, [(array.shape, array.dtype, array.tobytes()) for array in arrays], state


def unpacked(path):
    """The entries of an archive, by name."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def pack(path, entries, compression=zipfile.ZIP_STORED):
    """A sound archive of such entries, pairs of a name and bytes; a name may come twice."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compression)


def text_of(entries):
    """The description among the entries."""
    return np.lib.format.read_array(io.BytesIO(entries["description.npy"])).item()


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array))
    return stream.getvalue()


def headed(header, numbers=b""):
    """An entry with a header of our making."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin-1") + numbers


def header(descr="<f4", fortran=False, shape=(26,)):
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def verdict(path):
    """The network, or why there is none; any other exception passes."""
    try:
        return bp.Network.load(path)
    except ValueError as error:
        return str(error)


def refused(path, reason):
    found = verdict(path)
    assert isinstance(found, str)
    assert found.startswith(f"{str(path)!r} cannot be loaded: ")
    assert re.search(reason, found), found
