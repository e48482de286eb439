"""Networks to files and back: nothing is lost, and what would be is refused."""

from __future__ import annotations

import itertools
import json
import os
import threading
import zipfile

import numpy as np
import pytest
from archives import ENTRIES, contents, data_for_small, small, unpacked
from axes import every_dtype, same_bits
from cases import every_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interpreter import run

import fastbp as bp
from fastbp import files

OPTIMIZERS = {
    "sgd": bp.SGD(0.05),
    "momentum": bp.SGD(0.05, 0.9),
    "nesterov": bp.SGD(0.05, 0.9, nesterov=True),
    "adam": bp.Adam(0.003, 0.8, 0.99, 1e-6),
}
MANY_STARTS = [
    bp.Glorot(), bp.Glorot("normal"), bp.He(), bp.He("uniform"), bp.LeCun(), bp.Normal(0.3), bp.Normal(1),
    bp.Uniform(-1, 0.1), bp.Zeros(), None,
]  # fmt: skip


def there_and_back(net, path):
    net.save(path)
    return bp.Network.load(path)


# Nothing is lost


@every_case
@every_dtype
def test_a_loaded_network_is_the_same_and_trains_on_to_the_same_bits(case, dtype, path):
    rng = np.random.default_rng(1)
    net = case.network(dtype, seed=11)
    x, y = case.data(rng, 20)
    net.fit(x, y, epochs=2, batch_size=8)
    loaded = there_and_back(net, path)
    assert contents(loaded) == contents(net)
    for either in (net, loaded):
        either.fit(x, y, epochs=2, batch_size=8)
    assert contents(loaded) == contents(net)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@every_dtype
def test_every_optimizer_goes_on_where_it_was(optimizer, dtype, path):
    net = small(optimizer, dtype)
    loaded = there_and_back(net, path)
    assert loaded.optimizer == optimizer
    for either in (net, loaded):
        either.fit(*data_for_small(), epochs=3, batch_size=3)
    assert (loaded.steps, loaded.epochs) == (net.steps, net.epochs) == (6 + 12, 5)
    assert contents(loaded) == contents(net)


numbers = st.floats(0, 1, exclude_max=True) | st.floats(0, 1, width=32, exclude_max=True).map(np.float32)
starts = st.sampled_from(MANY_STARTS)
layer_seeds = st.none() | st.integers(0, 2**63 - 1)


@st.composite
def networks(draw):
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        start, bias = draw(starts), draw(starts) or "zeros"
        options = {"weight": start, "bias": bias, "dtype": draw(st.sampled_from(["float32", "float64"]))}
        layers.append(bp.Dense(inputs, outputs, seed=draw(layer_seeds), **options))
        layers += [draw(st.sampled_from([bp.Identity, bp.ReLU, bp.Tanh, bp.Sigmoid, bp.Exp, bp.Softmax]))()]
    momentum = draw(numbers)
    sgd, adam = bp.SGD(1, momentum, momentum > 0), bp.Adam(*(draw(numbers) for _ in range(3)))
    optimizer = draw(st.sampled_from([sgd, adam]))
    loss = bp.MeanSquaredError(draw(st.sampled_from(["mean", "sum"])))
    seed, dtype = draw(st.integers(0, 2**63 - 1)), draw(st.sampled_from(["float32", "float64"]))
    net = bp.Network(layers, loss, optimizer, dtype=dtype, seed=seed)
    for name in ("parameters", "state"):  # any bits, NaN and infinity among them
        numbers_of_the_net = net.__getstate__()[name]
        bits = np.random.default_rng(seed).bytes(numbers_of_the_net.nbytes)
        numbers_of_the_net.reshape(-1).view(np.uint8)[:] = np.frombuffer(bits, np.uint8)
    return net


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks())
def test_save_and_load_are_the_identity(path, net):
    loaded = there_and_back(net, path)
    assert contents(loaded) == contents(net)
    first = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == first
    for either in (net, loaded):
        either.reset()
    assert contents(loaded) == contents(net)


def test_a_diverged_network_is_loaded_as_it_was(path):
    net = small()
    net.parameters[:4] = [np.nan, np.inf, -np.inf, -0.0]
    net.parameters[4:6].view(np.uint32)[:] = [0x7F800001, 0xFFC12345]  # NaN that signals, NaN with a payload
    assert same_bits(there_and_back(net, path).parameters, net.parameters)


def test_load_of_a_subclass_gives_the_subclass(path):
    class Named(bp.Network):
        pass

    small().save(path)
    assert type(Named.load(path)) is Named


def test_everything_that_the_package_describes_can_be_saved_but_for_functions():
    kinds = (bp.Layer, bp.Loss, bp.Optimizer, bp.Initializer)
    offered = {getattr(bp, name) for name in bp.__all__ if isinstance(getattr(bp, name), type)}
    described = {kind for kind in offered if issubclass(kind, kinds)} - set(kinds)
    assert described - {bp.CustomLoss} == set(files._KNOWN.values())


# The file


@every_dtype
def test_numpy_reads_the_file_without_pickle_and_the_arrays_are_little_endian(dtype, path):
    net = small(dtype=dtype)
    net.save(path)
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["description", "parameters", "state"]
        assert same_bits(arrays["parameters"], net.parameters)
        assert arrays["state"].shape == (2, 26)
        described = json.loads(arrays["description"].item())
    assert (described["format"], described["version"]) == ("fastbp network", 1)
    adam = {"class": "Adam", "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    assert described["optimizer"] == adam
    assert f"'descr': '<f{net.dtype.itemsize}'".encode() in unpacked(path)["parameters.npy"][:80]


def test_the_entries_are_stored_uncompressed(saved):
    with zipfile.ZipFile(saved[0]) as archive:
        assert [info.filename for info in archive.infolist()] == ENTRIES
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_file_that_numpy_wrote_anew_is_loaded(saved):
    path, _ = saved
    before = contents(bp.Network.load(path))
    with np.load(path) as arrays:
        np.savez(path, **arrays)
    assert contents(bp.Network.load(path)) == before


@pytest.mark.parametrize("name", ["net", "net.npz", "net.model", "n\u00e9t"])
def test_the_name_is_taken_as_it_is(name, tmp_path):
    small().save(tmp_path / name)
    small().save(str(tmp_path / name))
    assert os.listdir(tmp_path) == [name]
    bp.Network.load(str(tmp_path / name))


def test_importing_the_package_loads_no_archives():
    """Beyond what NumPy loads: some of its releases take json."""
    statements = "import sys, numpy; there = set(sys.modules); import fastbp"
    assert run(f"{statements}; print({{'zipfile', 'json'}} & set(sys.modules) - there)") == "set()\n"


# What cannot be saved


class OwnDense(bp.Dense):
    pass


class OwnTanh(bp.Tanh):
    pass


class OwnLoss(bp.MeanSquaredError):
    pass


class Adam(bp.Adam):
    """A namesake."""


class OwnStart(bp.Zeros):
    pass


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ([OwnDense(2, 1)], {}, r"layers\[0\] is an OwnDense"),
        ([bp.Dense(2, 1), OwnTanh()], {}, r"layers\[1\] is an OwnTanh"),
        ([bp.Dense(2, 1)], {"loss": OwnLoss()}, "loss is an OwnLoss"),
        ([bp.Dense(2, 1)], {"optimizer": Adam()}, "optimizer is an Adam"),
        ([bp.Dense(2, 1, weight=OwnStart())], {}, r"layers\[0\]\.weight is an OwnStart"),
        ([bp.Dense(2, 1)], {"optimizer": bp.SGD(lambda epoch: 0.1)}, r"optimizer\.lr is a function"),
    ],
)
def test_what_is_not_fastbps_own_is_refused_with_what_to_do(layers, options, message, path):
    with pytest.raises(TypeError, match=message + r".*numpy\.save.*build it in code.*net\.parameters\[:\]"):
        bp.Network(layers, **options).save(path)
    assert not path.exists()


def test_a_layer_that_cannot_be_copied_is_refused_by_name_too(path):
    layer = OwnTanh()
    layer.lock = threading.Lock()
    with pytest.raises(TypeError, match=r"layers\[1\] is an OwnTanh"):
        bp.Network([bp.Dense(2, 1), layer]).save(path)


def test_a_schedule_goes_on_after_a_file_in_the_way_that_the_refusal_advises(path):
    schedule = bp.Adam(lr=lambda epoch: 0.1 / (1 + epoch))
    x, y = np.random.default_rng(0).normal(size=(2, 20, 1))
    net, twin = (bp.Network([bp.Dense(1, 1)], optimizer=schedule) for _ in range(2))
    net.fit(x, y, epochs=2)
    with pytest.raises(TypeError, match=r"^optimizer\.lr is a function.* set net\.optimizer .*load"):
        net.save(path)
    assert not path.exists()
    net.optimizer = bp.Adam(lr=0.1)
    net.save(path)
    back = bp.Network.load(path)
    net.optimizer = back.optimizer = schedule
    history = twin.fit(x, y, epochs=5).loss
    assert net.fit(x, y, epochs=3).loss == back.fit(x, y, epochs=3).loss == history[2:]
    assert same_bits(back.parameters, twin.parameters)
    assert same_bits(net.parameters, twin.parameters)


def test_what_the_refusal_advises_brings_the_network_back(path):
    def build():
        return bp.Network([bp.Dense(3, 2), OwnTanh()], optimizer=bp.SGD(lambda epoch: 0.1))

    net = build()
    net.fit(np.ones((4, 3)), np.zeros((4, 2)))
    np.save(path.with_suffix(".npy"), net.parameters)
    back = build()
    back.parameters.fill(np.nan)
    back.parameters[:] = np.load(path.with_suffix(".npy"))
    assert same_bits(back.predict(np.eye(3)), net.predict(np.eye(3)))


def test_more_layers_than_a_file_describes_are_refused_before_writing(path, monkeypatch):
    monkeypatch.setattr(files, "_MOST_LAYERS", 3)
    with pytest.raises(ValueError, match=r"cannot be saved: .*at most 3.*numpy\.save"):
        small().save(path)
    assert not path.exists()
