"""Copies, pickles and files: all of a network goes along, nothing is shared, and training goes on."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from axes import every_dtype, same_bits
from cases import CASES, every_case

import fastbp as bp

WAYS = {
    "copy": lambda net, _: net.copy(),
    "copy.copy": lambda net, _: copy.copy(net),
    "deepcopy": lambda net, _: copy.deepcopy(net),
    **{
        f"pickle_{protocol}": lambda net, _, protocol=protocol: pickle.loads(pickle.dumps(net, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def saved_and_loaded(net, folder):
    net.save(folder / "net.npz")
    return bp.Network.load(folder / "net.npz")


WAYS["file"] = saved_and_loaded
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
OPTIMIZERS = {"sgd": bp.SGD(0.01), "momentum": bp.SGD(0.01, 0.9, True), "adam": bp.Adam(0.003)}


@every_way
@every_dtype
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_copy_carries_everything_and_trains_on_to_the_same_bits_on_its_own(way, dtype, optimizer, tmp_path):
    case = CASES["digits"]
    net = case.network(dtype, optimizer, seed=11)
    x, y = case.data(np.random.default_rng(0), 70)
    net.fit(x, y, epochs=2, batch_size=16)
    net.partial_fit(x, y)
    net.forward(x)
    twin = way(net, tmp_path)
    assert type(twin) is bp.Network
    assert (twin.steps, twin.epochs, twin.seed) == (net.steps, net.epochs, 11) == (11, 2, 11)
    assert (twin.loss, twin.optimizer, twin.dtype) == (net.loss, net.optimizer, net.dtype)
    assert not np.shares_memory(twin.parameters, net.parameters)
    for own, other in zip(twin.layers, net.layers, strict=True):
        assert own is not other
        assert all(np.shares_memory(array, twin.parameters) for array in own.parameters.values())
    before = net.parameters.copy()
    first = twin.fit(x, y, epochs=2, batch_size=16)
    assert same_bits(net.parameters, before)
    assert net.fit(x, y, epochs=2, batch_size=16).loss == first.loss
    assert same_bits(net.parameters, twin.parameters)
    net.reset()
    twin.reset()
    assert same_bits(net.parameters, twin.parameters)


@every_case
@every_way
def test_every_network_goes_along(case, way, tmp_path):
    net = case.network("float32")
    twin = way(net, tmp_path)
    assert same_bits(net.parameters, twin.parameters)
    assert repr(twin) == repr(net)


def test_a_copy_starts_without_the_forward_and_the_history_of_the_original():
    case = CASES["relu"]
    net = case.network()
    x, y = case.data(np.random.default_rng(0), 20)
    net.fit(x, y)
    net.forward(x)
    twin = net.copy()
    assert twin.history.loss == []
    with pytest.raises(ValueError, match="forward"):
        twin.backward(y)
    net.backward(y)


def test_equal_networks_pickle_to_equal_bytes():
    assert len({pickle.dumps(CASES["digits"].network()) for _ in range(3)}) == 1


def test_a_copy_of_a_subclass_is_of_the_subclass(tmp_path):
    class Mine(bp.Network):
        pass

    net = Mine([bp.Dense(2, 1)])
    net.save(tmp_path / "net.npz")
    assert type(net.copy()) is type(copy.deepcopy(net)) is type(Mine.load(tmp_path / "net.npz")) is Mine


class Head(bp.Dense):
    """A layer of the user's own making, with other arguments."""

    def __init__(self, classes):
        super().__init__(8, classes, seed=5)


def test_a_copy_keeps_a_layer_of_a_subclass():
    net = bp.Network([Head(3), bp.Softmax()], loss="cross_entropy")
    for twin in (net.copy(), pickle.loads(pickle.dumps(net))):
        assert type(twin.layers[0]) is Head
        assert same_bits(twin.layers[0].weight, net.layers[0].weight)
        assert np.shares_memory(twin.layers[0].weight, twin.parameters)


def test_a_copy_in_another_precision_rounds_and_refuses_what_it_cannot_hold():
    net = CASES["digits"].network("float64")
    single = net.copy("float32")
    assert same_bits(single.parameters, net.parameters.astype(np.float32))
    assert same_bits(single.copy("float64").parameters, net.parameters.astype(np.float32).astype(np.float64))
    net.parameters[7] = 1e39
    with pytest.raises(ValueError, match=r"^parameters\[7\] is 1e\+39, which float32 cannot hold"):
        net.copy("float32")
    net.parameters[7] = math.inf  # in its own precision every network can be copied
    assert net.copy().parameters[7] == math.inf


def test_a_function_as_lr_is_copied_but_not_saved(tmp_path):
    net = bp.Network([bp.Dense(2, 1)], optimizer=bp.SGD(lr=lambda epoch: 0.1))
    assert net.copy().optimizer is net.optimizer
    with pytest.raises(TypeError, match=r"(?i)optimizer\.lr.*net\.parameters"):
        net.save(tmp_path / "net.npz")
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_refused(tmp_path):
    CASES["linear"].network().save(tmp_path / "net.npz")
    whole = (tmp_path / "net.npz").read_bytes()
    (tmp_path / "net.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"net\.npz"):
        bp.Network.load(tmp_path / "net.npz")


# Parts on their own

ALONE = {
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda part: pickle.loads(pickle.dumps(part)),
    "pickle_0": lambda part: pickle.loads(pickle.dumps(part, 0)),
}
every_way_alone = pytest.mark.parametrize("way", ALONE.values(), ids=ALONE)


@every_way_alone
@pytest.mark.parametrize("bound", [False, True])
def test_a_dense_is_copied_with_its_numbers_and_its_last_forward(way, bound):
    layer = bp.Dense(3, 2, dtype="float64", seed=1)
    if bound:
        bp.Network([layer], dtype="float64")
    x, dy = np.random.default_rng(0).normal(size=(2, 5, 3))
    y = layer.forward(x)
    twin = way(layer)
    assert same_bits(twin.forward(x), y)
    twin = way(layer)
    assert same_bits(twin.backward(dy[:, :2]), layer.backward(dy[:, :2]))
    assert same_bits(twin.gradients["weight"], layer.gradients["weight"])
    twin.weight[...] = 0.0
    assert same_bits(layer.forward(x), y)
    assert bp.Network([twin]).layers[0] is twin  # a copy belongs to no network


@every_way_alone
def test_copies_of_a_dense_that_has_not_drawn_yet_draw_the_same_numbers(way):
    layer = bp.Dense(3, 2)
    twin = way(layer)
    assert same_bits(twin.weight, layer.weight)
    assert not same_bits(layer.weight, bp.Dense(3, 2).weight)


@every_way_alone
@pytest.mark.parametrize("kind", [bp.Identity, bp.Sigmoid, bp.Tanh, bp.ReLU, bp.Exp, bp.Softmax])
def test_an_activation_is_copied_with_its_last_forward(way, kind):
    layer = kind()
    x, dy = np.random.default_rng(0).normal(size=(2, 5, 3))
    layer.forward(x)
    assert same_bits(way(layer).backward(dy), layer.backward(dy))


@every_way_alone
@pytest.mark.parametrize(
    "part",
    [
        bp.MeanSquaredError("sum"), bp.BinaryCrossEntropy(), bp.CrossEntropy("sum"), bp.SGD(0.1, 0.9, True),
        bp.Adam(0.1, epsilon=1e-6), bp.He("uniform"), bp.Uniform(-1, 1), bp.Normal(0.1), bp.Zeros(),
    ],
    ids=str,
)  # fmt: skip
def test_a_description_is_copied_to_an_equal_one(way, part):
    assert way(part) == part


@every_way_alone
def test_a_history_is_copied(way):
    net = CASES["linear"].network()
    x, y = CASES["linear"].data(np.random.default_rng(0), 20)
    history = net.fit(x, y, epochs=2, validation_data=(x, y))
    twin = way(history)
    assert (twin.loss, twin.val_loss, twin.val_metrics) == (
        history.loss,
        history.val_loss,
        history.val_metrics,
    )
