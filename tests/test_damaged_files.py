"""No file does harm: what is damaged, foreign or untrue is refused, in little memory."""

from __future__ import annotations

import copy
import json
import pickle
import random
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from archives import (
    ENTRIES,
    contents,
    headed,
    header,
    npy,
    pack,
    refused,
    small,
    text_of,
    unpacked,
    verdict,
)

import fastbp as bp


def test_a_flipped_bit_of_a_parameter_is_found_by_the_checksum(saved):
    path, entries = saved
    whole = path.read_bytes()
    for name in ("parameters.npy", "state.npy"):
        end = whole.index(entries[name]) + len(entries[name])
        for position in range(end - 26 * 4, end, 3):
            broken = bytearray(whole)
            broken[position] ^= 1 << position % 8
            path.write_bytes(broken)
            refused(path, f"Bad CRC-32 for file '{name}'")


MOMENTUM = {"class": "SGD", "lr": 0.1, "momentum": 0.5, "nesterov": False}
LIES = {
    "another format": ({"format": "numpy"}, "not that of a fastbp network"),
    "newer version": ({"version": 2}, "format version 2, .* up to 1: a newer fastbp is needed"),
    "version 0": ({"version": 0}, "version is 0"),
    "version in words": ({"version": "one"}, "version is 'one'"),
    "unknown key": ({"extra": 1}, "extra"),
    "half precision": ({"dtype": "float16"}, "dtype is 'float16'"),
    "alias of a dtype": ({"dtype": "a"}, "dtype is 'a'"),
    "double for single": ({"dtype": "float64"}, "parameters.npy in it is .*<f4.*expected .*<f8"),
    "negative seed": ({"seed": -1}, "seed is -1"),
    "large seed": ({"seed": 2**63}, "seed is"),
    "negative steps": ({"steps": -1}, "steps is -1"),
    "steps near overflow": ({"steps": 2**63 - 1}, "at most"),
    "fractional epochs": ({"epochs": 1.0}, "epochs is 1.0"),
    "no layers": ({"layers": []}, "at least one Dense"),
    "layers of no list": ({"layers": {"class": "Dense"}}, "layers are not a list"),
    "many layers": ({"layers": [{"class": "ReLU"}] * 5001}, "at most 5000"),
    "unknown class": ({"loss": {"class": "system"}}, "loss has the class 'system', expected a Loss"),
    "class of no name": ({"loss": {"class": ["CrossEntropy"]}}, "loss has the class"),
    "class of another kind": ({"loss": {"class": "ReLU"}}, "loss has the class 'ReLU', expected a Loss"),
    "loss as a string": ({"loss": "mse"}, "loss has the class None"),
    "unknown setting": ({"loss": {"class": "CrossEntropy", "reduction": "mean", "x": 1}}, "loss: .*'x'"),
    "lacking setting": ({"optimizer": {"class": "SGD", "lr": 0.1}}, "lacks .*momentum"),
    "lr of NaN": ({"optimizer": {"class": "SGD", "lr": float("nan")}}, "lr is nan"),
    "lr of 10^400": ({"optimizer": {"class": "SGD", "lr": 10**400}}, "optimizer: "),
    "other loss": ({"loss": {"class": "BinaryCrossEntropy", "reduction": "sum"}}, "needs Sigmoid"),
    "other optimizer": ({"optimizer": MOMENTUM}, r"state.npy in it is .*\(2, 26\).*expected .*\(1, 26\)"),
    "sizes that do not chain": ({0: {"out_features": 5}}, "takes 4 features.*gives 5"),
    "more parameters": ({0: {"in_features": 4}}, r"parameters.npy in it is .*\(26,\).*expected .*\(30,\)"),
    "10^30 parameters": ({0: {"in_features": 10**30}}, "in_features x out_features is"),
    "negative size": ({0: {"in_features": -3}}, "in_features is -3"),
    "fractional size": ({0: {"in_features": 3.0}}, "in_features is 3.0"),
    "softmax of one": ({2: {"out_features": 1}}, "Softmax over 1 output"),
    "alias in a layer": ({0: {"dtype": "a"}}, r"layers\[0\].dtype is 'a'"),
    "no initializer": ({0: {"weight": {"class": "Adam"}}}, r"layers\[0\].weight has the class 'Adam'"),
    "bad initializer": ({0: {"weight": {"class": "Normal", "std": -1}}}, r"layers\[0\].weight: std is -1"),
    "other last layer": ({3: {"class": "Tanh"}}, "needs Softmax as the last layer"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), LIES.values(), ids=LIES)
def test_a_description_that_lies_is_refused(changes, reason, saved):
    path, entries = saved
    described = json.loads(text_of(entries))
    for key, value in changes.items():  # a number is that of a layer, which is changed in part
        if isinstance(key, int):
            described["layers"][key] |= value
        else:
            described[key] = value
    entries["description.npy"] = npy(json.dumps(described).encode())
    pack(path, entries.items())
    refused(path, reason)


TEXTS = {
    "no JSON": (b"{]", "brackets"),
    "half of it": (b'{"format": ', "brackets"),
    "a word": (b"fastbp", "not valid JSON"),
    "deep lists": (b"[" * 100_000 + b"]" * 100_000, "nest deeper"),
    "deep lists behind a string": (b'["' + b"]" * 50 + b'",' + b"[" * 50 + b"]" * 51, "nest deeper"),
    "a long text": (b" " * (2**20 + 1), "1048577 bytes"),
    "a long number": (b"9" * 100_000, "not valid JSON"),
    "other letters": ('{"format": "n\u00e9t"}'.encode(), "not valid JSON"),
    "escapes": (b'{"format": "\\u0066"}', "backslash"),
}


@pytest.mark.parametrize(("text", "reason"), TEXTS.values(), ids=TEXTS)
def test_a_description_that_is_not_our_sort_of_json_is_refused(text, reason, saved):
    path, entries = saved
    entries["description.npy"] = npy(text)
    pack(path, entries.items())
    refused(path, reason)


class Trap:
    """What unpickling would spring."""

    def __reduce__(self):
        return pytest.fail, ("something was unpickled",)


FLOATS = bytes(26 * 4)
HEADERS = {
    "objects": headed(header("|O"), pickle.dumps(np.array([Trap()], object))),
    "big endian": headed(header(">f4"), FLOATS),
    "fortran order": headed(header(fortran=True), FLOATS),
    "integers": headed(header("<i4"), FLOATS),
    "half precision": headed(header("<f2"), FLOATS),
    "records": headed(header([("a", "<f4")]), FLOATS),
    "huge": headed(header(shape=(2**60,)), FLOATS),
    "beyond 64 bits": headed(header(shape=(10**30,)), FLOATS),
    "many digits": headed(header().replace("26", "9" * 60_000), FLOATS),
    "negative": headed(header(shape=(-26,)), FLOATS),
    "rank 2": headed(header(shape=(26, 1)), FLOATS),
    "rank 0": headed(header(shape=()), FLOATS),
    "code": headed(header(shape="__import__('pytest').fail()"), FLOATS),
    "deep": headed(header().replace("26", "(" * 30_000), FLOATS),
    "no numbers": headed(header()),
    "numbers beyond": headed(header(), FLOATS + b"\0"),
    "header beyond the end": headed(header(), FLOATS).replace(header().encode(), b""),
    "version 2": b"\x93NUMPY\x02\x00" + headed(header(), FLOATS)[8:],
    "no header": FLOATS,
    "nothing": b"",
    "not ASCII": headed("\xff\xfe", FLOATS),
}


@pytest.mark.parametrize("name", ["parameters.npy", "state.npy", "description.npy"])
@pytest.mark.parametrize("entry", HEADERS.values(), ids=HEADERS)
def test_an_array_other_than_the_one_described_is_refused(entry, name, saved):
    path, entries = saved
    pack(path, (entries | {name: entry}).items())
    refused(path, rf"{name} in it (is|has)|its description has|Bad magic")


def test_entries_that_lack_or_come_twice_or_are_unknown_are_refused(saved):
    path, entries = saved
    for name in ENTRIES:
        pack(path, [item for item in entries.items() if item[0] != name])
        refused(path, "it holds")
        pack(path, [*entries.items(), (name, entries[name])])
        refused(path, "it holds")
    for name in ("more.npy", "../description.npy", "parameters"):
        pack(path, [*entries.items(), (name, b"")])
        refused(path, "it holds")
    swapped = {"parameters.npy": entries["state.npy"], "state.npy": entries["parameters.npy"]}
    pack(path, (entries | swapped).items())
    refused(path, "parameters.npy in it is")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entries_are_refused(method, saved):
    path, entries = saved
    pack(path, entries.items(), method)
    refused(path, "compressed or encrypted")


FIELDS = {
    "encrypted": (8, "<H", 0x1, "compressed or encrypted"),
    "patched": (8, "<H", 0x20, "compressed or encrypted"),
    "strongly encrypted": (8, "<H", 0x40, "compressed or encrypted"),
    "unknown method": (10, "<H", 97, "compressed or encrypted"),
    "of a later zip": (6, "<H", 99, "zip file version"),
    "4 GB": (20, "<LL", 2**32 - 2, "claims 4294967294 bytes"),
    "shorter": (20, "<LL", 20, "Bad CRC-32"),
    "longer than packed": (24, "<L", 1000, "claims"),
    "packed longer": (20, "<L", 1000, "claims"),
    "name beyond": (28, "<H", 2**16 - 1, "differ|Truncated|not a zip|it holds"),
    "extra beyond": (30, "<H", 2**16 - 1, "it holds|Corrupt extra"),
    "far away": (42, "<L", 2**32 - 2, "refers to its byte"),
    "checksum": (16, "<L", 1, "Bad CRC-32"),
}


@pytest.mark.parametrize(("offset", "form", "value", "reason"), FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("entry", range(2))  # behind the third there is nothing that it could claim
def test_a_directory_that_lies_is_refused(offset, form, value, reason, entry, saved):
    path, _ = saved
    whole = bytearray(path.read_bytes())
    place = -1
    for _ in range(entry + 1):
        place = whole.index(b"PK\1\2", place + 1)
    struct.pack_into(form, whole, place + offset, *[value] * (len(form) - 1))
    path.write_bytes(whole)
    refused(path, reason)


@pytest.mark.parametrize(("entry", "other"), [(0, 1), (1, 0), (2, 0)])
def test_two_entries_at_one_place_are_refused_without_a_warning(entry, other, saved):
    path, _ = saved
    whole = bytearray(path.read_bytes())
    fields = [found.start() + 42 for found in re.finditer(b"PK\1\2", whole)]  # where each entry begins
    whole[fields[entry] : fields[entry] + 4] = whole[fields[other] : fields[other] + 4]
    path.write_bytes(whole)
    refused(path, "two entries in it begin at the same byte")


def test_a_directory_of_many_entries_is_refused_before_it_is_read(saved):
    path, entries = saved
    pack(path, [*entries.items(), *((f"{number:0200}", b"") for number in range(300))])
    refused(path, "directory claims")


def test_an_entry_with_an_empty_second_name_is_refused_without_a_warning(saved):
    path, entries = saved
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.extra = struct.pack("<HHBL", 0x7075, 5, 1, zipfile.crc32(name.encode()))
            archive.writestr(info, content)
    refused(path, "second name")


@pytest.mark.parametrize("content", [b"", b"PK", b"\0" * 1000, pickle.dumps(Trap()), npy(np.arange(9.0))])
def test_a_file_of_another_sort_is_refused(content, path):
    path.write_bytes(content)
    refused(path, "not a zip file")


def test_an_archive_of_other_arrays_is_refused(path):
    np.savez(path, weight=np.ones(3), bias=np.ones(1))
    refused(path, "not a fastbp network")


# Thousands of mutated files

ODD = [
    None, True, False, -1, 0, 1, 2, 3, 2**31, 2**53 + 1, 2**64, 10**400, 0.5, -0.5, 1e308, float("nan"), "",
    "x", "float64", "mean", "Adam", "Dense", "os.system", [], {}, [[]], {"class": "Dense"},
    {"class": "Zeros"}, {"class": "Dense", "in_features": 3, "out_features": 1},
]  # fmt: skip
MARKS = [b"\0", b"\xff", b"PK\1\2", b"PK\3\4", b"PK\5\6", b"\xff\xff\xff\x7f", b"\x93NUMPY", b"9", b"["]


def mutated_bytes(rng, whole):
    """Damage that knows nothing of the format."""
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        start = rng.randrange(len(data)) if rng.random() < 0.5 else max(0, len(data) - rng.randint(1, 250))
        length = rng.choice((1, 2, 4, 8, 50, 500))
        kind = rng.randrange(8)
        if kind == 0:
            data[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[start] = rng.randrange(256)
        elif kind == 2:
            del data[start + 1 :]
        elif kind == 3:
            del data[start : start + length][1:]
        elif kind == 4:
            data[start:start] = rng.randbytes(length)
        elif kind == 5:
            other = rng.randrange(len(data))
            data[start : start + length] = data[other : other + length] or b"\0"
        elif kind == 6:
            chosen = rng.choice(MARKS)
            data[start : start + len(chosen)] = chosen
        else:
            data[start : start + 4] = struct.pack("<L", rng.choice((0, 1, 2**31, 2**32 - 1, len(data))))
    return bytes(data)


def mutated_text(rng, text):
    """JSON with one or two values changed, left out, doubled or exchanged."""
    described = json.loads(text)
    for _ in range(rng.randint(1, 2)):
        inner = [value for value in described.values() if isinstance(value, (list, dict))]
        inner += [layer for layers in inner if isinstance(layers, list) for layer in layers]
        at = rng.choice([place for place in (described, *inner) if isinstance(place, (list, dict)) and place])
        keys = list(range(len(at))) if isinstance(at, list) else list(at)
        key, other, kind = rng.choice(keys), rng.choice(keys), rng.randrange(5)
        if kind == 0:
            at[key], at[other] = at[other], at[key]
        elif kind == 1 and isinstance(at, list):
            at.insert(key, copy.deepcopy(at[other]))
        elif kind == 2:
            del at[key]
        else:
            at[key] = copy.deepcopy(rng.choice(ODD))
    return json.dumps(described).encode()


def mutated_entries(rng, entries):
    """Lies in a sound archive: its checksums are right."""
    name, kind = rng.choice(ENTRIES), rng.randrange(4)
    if kind <= 1:
        name, changed = ENTRIES[0], npy(mutated_text(rng, text_of(entries)))
    elif kind == 2:
        changed = rng.choice([*HEADERS.values(), *entries.values()])
    else:
        changed = mutated_bytes(rng, entries[name])
    items = list((entries | {name: changed}).items())
    rng.shuffle(items)
    return items


@pytest.mark.parametrize("net", [small(), small(bp.SGD(0.1, 0.5), "float64")], ids=["adam", "momentum"])
def test_thousands_of_mutated_files_are_loaded_or_refused_in_little_memory(net, path):
    net.save(path)
    wanted, whole, entries = contents(net), path.read_bytes(), unpacked(path)
    rng = random.Random(0)
    contents(bp.Network.load(path))  # imports done
    loaded = {True: 0, False: 0}
    tracemalloc.start()
    for number in range(2400):
        sound = number % 4 == 0
        if sound:
            pack(path, mutated_entries(rng, entries))
        else:
            path.write_bytes(mutated_bytes(rng, whole))
        found = verdict(path)
        if isinstance(found, str):
            assert found.startswith(f"{str(path)!r} cannot be loaded: ")
        else:
            loaded[sound] += 1
            assert sound or contents(found) == wanted  # the checksums find what damage there is
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(20 < count < 400 for count in loaded.values()), loaded
    assert peak < 4e6  # bytes: the largest claim that is believed, a directory or a text, has 1 MB
