"""The optimisers' descriptions, and their updates worked by hand on one weight."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import tolerances

import fastbp as bp
from fastbp import optimizers


def path_of_one_weight(optimizer, steps):
    """(w, b) from (1, 0) on the surface (w + b)^2: Dense(1, 1) with x = 1, y = 0."""
    net = bp.Network([bp.Dense(1, 1)], loss="mse", optimizer=optimizer, dtype="float64")
    net.parameters[:] = [1.0, 0.0]
    path = []
    for _ in range(steps):
        net.partial_fit([[1.0]], [0.0])
        path.append(net.parameters.tolist())
    return path


# w and b move alike: z = w + b, L = z^2, g = 2 z for both, starting at z = 1.
BY_HAND = {
    # g = 2: w = 1 - 0.2; z = 0.6, g = 1.2: 0.8 - 0.12
    "plain": (bp.SGD(lr=0.1), [(0.8, -0.2), (0.68, -0.32)]),
    # v = 2; then v = 0.5 * 2 + 1.2 = 2.2
    "momentum": (bp.SGD(lr=0.1, momentum=0.5), [(0.8, -0.2), (0.58, -0.42)]),
    # v = 2, moves 2 + 0.5 * 2 = 3: z = 0.4; g = 0.8, v = 1.8, moves 0.8 + 0.9 = 1.7
    "nesterov": (bp.SGD(lr=0.1, momentum=0.5, nesterov=True), [(0.7, -0.3), (0.53, -0.47)]),
    # the first step of Adam is lr in the gradient's sign; then z = 0.8, g = 1.6, means divided by their bias:
    # m' = (0.5 * 1 + 0.8) / 0.75 = 26/15, v' = (0.5 * 2 + 0.5 * 2.56) / 0.75 = 3.04, both with beta = 0.5
    "adam": (
        bp.Adam(lr=0.1, beta1=0.5, beta2=0.5, epsilon=1e-30),
        [(0.9, -0.1), (0.9 - 0.1 * 26 / 15 / math.sqrt(3.04), -0.1 - 0.1 * 26 / 15 / math.sqrt(3.04))],
    ),
}


@pytest.mark.parametrize(("optimizer", "path"), BY_HAND.values(), ids=BY_HAND)
def test_two_updates_are_what_a_pencil_gives(optimizer, path):
    got = np.array(path_of_one_weight(optimizer, 2))
    assert np.abs(got - path).max() <= tolerances.training([1, 1], 1, 2, 1.0, np.float64)


def test_defaults_are_those_of_pytorch():
    assert bp.SGD().settings(0) == {"lr": 0.01, "momentum": 0.0, "nesterov": False}
    assert bp.Adam().settings(0) == {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


@pytest.mark.parametrize(
    ("optimizer", "slots"), [(bp.SGD(), 0), (bp.SGD(momentum=0.9), 1), (bp.Adam(), 2)], ids=str
)
def test_slots_are_the_numbers_remembered_per_parameter(optimizer, slots):
    assert optimizer.slots == slots


def test_a_string_names_an_optimizer_with_its_defaults():
    assert optimizers.get("sgd") == bp.SGD()
    assert optimizers.get("adam") == bp.Adam()


@pytest.mark.parametrize("kind", [bp.SGD, bp.Adam])
def test_the_learning_rate_may_be_a_function_of_the_epoch_counted_from_zero(kind):
    asked = []

    def rate(epoch):
        asked.append(epoch)
        return 0.1 / (1 + epoch)

    net = bp.Network([bp.Dense(1, 1)], optimizer=kind(lr=rate), dtype="float64")
    net.fit([[1.0], [2.0]], [0.0, 1.0], epochs=2, batch_size=1)
    net.fit([[1.0], [2.0]], [0.0, 1.0], epochs=1, batch_size=1)
    assert sorted(set(asked)) == [0, 1, 2]
    assert kind(lr=rate).settings(3)["lr"] == 0.1 / 4


def test_a_rate_of_epochs_equals_separate_fits_with_that_rate():
    x, y = np.random.default_rng(0).normal(size=(2, 20, 1))
    changing = bp.Network(
        [bp.Dense(1, 1)], optimizer=bp.SGD(lr=lambda epoch: (0.1, 0.01)[epoch]), dtype="float64"
    )
    changing.fit(x, y, epochs=2, batch_size=4, shuffle=False)
    first = bp.Network([bp.Dense(1, 1)], optimizer=bp.SGD(lr=0.1), dtype="float64")
    first.fit(x, y, epochs=1, batch_size=4, shuffle=False)
    second = bp.Network([bp.Dense(1, 1)], optimizer=bp.SGD(lr=0.01), dtype="float64")
    second.parameters[:] = first.parameters
    second.fit(x, y, epochs=1, batch_size=4, shuffle=False)
    assert np.array_equal(changing.parameters, second.parameters)


@pytest.mark.parametrize(
    "kind", [bp.SGD, lambda lr: bp.SGD(lr, momentum=0.5), bp.Adam], ids=["sgd", "momentum", "adam"]
)
def test_other_settings_go_on_from_what_the_optimizer_remembers(kind):
    x, y = np.random.default_rng(0).normal(size=(2, 20, 1))
    net, twin = (
        bp.Network(bp.mlp([1, 8, 1]), optimizer=kind(lr)) for lr in (0.1, lambda epoch: 0.1 / 10**epoch)
    )
    assert net.fit(x, y, epochs=1).loss == twin.fit(x, y, epochs=1).loss
    net.optimizer = kind(0.01)
    assert net.optimizer == kind(0.01)
    net = net.copy()  # which goes on with them, too
    net.fit(x, y, epochs=1)
    twin.fit(x, y, epochs=1)
    assert np.array_equal(net.parameters, twin.parameters)
    net.optimizer = kind(0.1)
    net.reset()
    fresh = bp.Network(bp.mlp([1, 8, 1]), optimizer=kind(0.1))
    assert net.fit(x, y).loss == fresh.fit(x, y).loss


@pytest.mark.parametrize(
    ("present", "other"),
    [("sgd", "adam"), ("adam", "sgd"), ("sgd", bp.SGD(momentum=0.5)), (bp.SGD(momentum=0.5), "sgd")],
)
def test_an_optimizer_that_remembers_something_else_is_refused(present, other):
    net = bp.Network([bp.Dense(1, 1)], optimizer=present)
    before = net.optimizer
    with pytest.raises(
        ValueError, match=r"^optimizer is .*cannot go on from what .* remembers.*parameters\[:\]"
    ):
        net.optimizer = other
    assert net.optimizer is before
    with pytest.raises(TypeError, match=r"^optimizer is 0.1, expected one of 'sgd'"):
        net.optimizer = 0.1


def test_settings_do_not_change_in_the_middle_of_a_fit():
    def rate(epoch):
        net.optimizer = bp.SGD(lr=0.1)
        return 0.1

    net = bp.Network([bp.Dense(1, 1)], optimizer=bp.SGD(lr=rate))
    with pytest.raises(RuntimeError, match="in another call that changes it"):
        net.fit([[1.0]], [1.0])
    assert net.optimizer.lr is rate


def test_a_setting_cannot_be_assigned_to_and_the_refusal_says_what_can():
    net = bp.Network([bp.Dense(2, 3)], loss="mse", optimizer=bp.Adam(lr=0.1, beta1=0.5))
    with pytest.raises(AttributeError, match=r"lr of Adam\(lr=0\.1, .* cannot be assigned to") as refusal:
        net.optimizer.lr = 0.01
    advice = str(refusal.value).partition("share it: ")[2].removesuffix(" takes another")
    exec(advice, {"net": net, "dataclasses": dataclasses})
    assert net.optimizer == bp.Adam(lr=0.01, beta1=0.5)


def test_one_description_serves_several_networks_without_mixing_their_state():
    optimizer = bp.Adam(lr=0.1)
    alone = path_of_one_weight(bp.Adam(lr=0.1), 3)
    assert path_of_one_weight(optimizer, 3) == alone == path_of_one_weight(optimizer, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bp.SGD(lr=-0.1), ValueError, "lr is -0.1"),
        (lambda: bp.SGD(lr=math.nan), ValueError, "lr is nan"),
        (lambda: bp.Adam(lr=math.inf), ValueError, "lr is inf"),
        (lambda: bp.SGD(lr="fast"), TypeError, "lr is 'fast'"),
        (lambda: bp.SGD(momentum=1.0), ValueError, "momentum is 1.0"),
        (lambda: bp.SGD(nesterov=True), ValueError, "nesterov.*momentum"),
        (lambda: bp.Adam(beta1=1.0), ValueError, "beta1 is 1.0"),
        (lambda: bp.Adam(beta2=-0.1), ValueError, "beta2 is -0.1"),
        (lambda: bp.Adam(epsilon=0.0), ValueError, "epsilon is 0.0"),
        (lambda: bp.SGD(lr=lambda epoch: -1.0).settings(2), ValueError, r"lr\(2\) is -1.0"),
        (lambda: optimizers.get("sdg"), ValueError, "optimizer is 'sdg'.*'sgd'.*'adam'"),
        (lambda: optimizers.get(bp.Adam), TypeError, r"optimizer.*Adam\(\.\.\.\)"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
