"""Arrays that are written into and never replaced, and what else stays with a network."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from axes import same_bits
from cases import CASES

import fastbp as bp


def of_layer(name):
    return lambda net: net.layers[0], name


ARRAYS = {
    "parameters": (lambda net: net, "parameters"),
    "gradients": (lambda net: net, "gradients"),
    "weight": of_layer("weight"),
    "bias": of_layer("bias"),
}


@pytest.mark.parametrize(("owner", "name"), ARRAYS.values(), ids=ARRAYS)
def test_an_array_is_changed_in_place_and_not_replaced(owner, name):
    net = CASES["digits"].network()
    array = getattr(owner(net), name)
    array[:] = np.arange(array.size).reshape(array.shape)
    expected = 0.5 * array - 1.0
    changed = owner(net)
    exec(f"changed.{name} *= 0.5; changed.{name} -= 1.0", {"changed": changed})
    assert getattr(owner(net), name) is array or same_bits(getattr(owner(net), name), array)
    assert np.array_equal(getattr(owner(net), name), expected)
    with pytest.raises(AttributeError, match=rf"^{name} cannot be replaced, write into it: {name}\[:\] = "):
        setattr(owner(net), name, expected)
    with pytest.raises(AttributeError):
        delattr(owner(net), name)
    assert np.array_equal(getattr(owner(net), name), expected)


def test_a_view_documents_itself_as_a_property_does():
    assert bp.Network.parameters.__doc__.startswith("All parameters in one vector")
    assert bp.Dense.weight.__doc__.startswith("W, shape")


class Sized(bp.Network):
    """A user's class with attributes of its own."""

    def __init__(self, sizes):
        super().__init__(bp.mlp(sizes))
        self.sizes = sizes


COPIES = {
    "copy": lambda net: net.copy(),
    "other precision": lambda net: net.copy("float64"),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
}


@pytest.mark.parametrize("take", COPIES.values(), ids=COPIES)
def test_a_copy_has_the_attributes_that_a_user_gave(take):
    net = Sized([6, 3, 2])
    net.note = "a note"
    twin = take(net)
    assert type(twin) is Sized
    assert (twin.sizes, twin.note) == ([6, 3, 2], "a note")
    assert twin.parameters is not net.parameters
    assert np.array_equal(twin.parameters, net.parameters)


def test_a_file_has_no_attributes_of_a_user(tmp_path):
    net = Sized([6, 3, 2])
    net.note = print  # nothing that a file could hold
    net.save(tmp_path / "net.npz")
    loaded = bp.Network.load(tmp_path / "net.npz")
    assert same_bits(loaded.parameters, net.parameters)
    assert not hasattr(loaded, "note")
