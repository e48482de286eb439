"""The workspaces of a network's calls: small ones stay, large ones go, and tall batches need none as tall."""

from __future__ import annotations

import threading
import tracemalloc
from unittest import mock

import numpy as np
import pytest

import fastbp as bp
from fastbp import _plan, evaluator


def assert_let_go(calls, needed):
    """Each call takes more bytes than are needed at the least, of which nothing stays."""
    tracemalloc.start()
    for call in calls:
        call()
        kept, peak = tracemalloc.get_traced_memory()
        assert peak > needed
        assert kept < 2e6
        tracemalloc.reset_peak()
    tracemalloc.stop()


def steps(net, x, y):
    """The calls that take all rows as one batch."""
    return (
        lambda: net.loss_and_gradient(x, y),
        lambda: net.partial_fit(x, y),
        lambda: net.fit(x, y, batch_size=len(x)),
    )


def test_the_workspace_of_a_large_batch_is_let_go_after_the_call():
    """600 rows of 20,000 features need some 100 MB, of which nothing shall stay; small ones stay."""
    net = bp.Network(bp.mlp([20_000, 1]))
    assert_let_go(steps(net, np.zeros((600, 20_000), np.float32), np.zeros(600, np.float32)), 90e6)


def test_the_workspace_of_a_large_batch_is_let_go_after_a_call_that_failed():
    net = bp.Network(bp.mlp([20_000, 1]))
    net.parameters.flags.writeable = False
    x, y = np.zeros((600, 20_000), np.float32), np.zeros(600, np.float32)

    def refused():
        with pytest.raises(ValueError, match="read-only"):
            net.partial_fit(x, y)

    assert_let_go([refused], 45e6)


def test_workspaces_of_many_rows_of_little_are_let_go_too():
    """3 million rows of one feature take 16 bytes each, in losses and their order."""
    net = bp.Network([bp.Dense(1, 1)])
    x, y = np.zeros((3_000_000, 1), np.float32), np.zeros(3_000_000, np.float32)
    assert_let_go((lambda: net.partial_fit(x, y), lambda: net.partial_fit(x[:-1], y[:-1])), 48e6)


def test_large_workspaces_of_evaluations_are_let_go_too():
    """Two blocks of 64 rows of 200,000 features for a thread take 102 MB."""
    net = bp.Network([bp.Dense(200_000, 1)])
    x, y = np.zeros((256, 200_000), np.float32), np.zeros(256, np.float32)
    assert_let_go((lambda: net.predict(x[:64], threads=1), lambda: net.evaluate(x, y, threads=1)), 100e6)


def test_a_tall_batch_takes_no_room_for_all_of_its_rows():
    """Its 40,000 rows and what 10 layers make of them would be 200 MB."""
    net = bp.Network(bp.mlp([4, *[64] * 10, 1]))
    tracemalloc.start()
    for call in steps(net, np.zeros((40_000, 4), np.float32), np.zeros(40_000, np.float32)):
        call()
        assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def opened_by(net, call, sizes, monkeypatch):
    """How many workspaces are laid out for calls on so many rows, all of them in turn three times."""
    opened = []
    for name in ("training_space", "evaluation_space"):
        lay_out = getattr(_plan.Plan, name)

        def counted(*shape, f=lay_out, **kind):
            opened.append(shape)
            return f(*shape, **kind)

        monkeypatch.setattr(_plan.Plan, name, counted)
    for rows in [*sizes] * 3:
        call(net, rows)
    return len(opened)


CALLS = {
    "partial_fit": lambda net, rows: net.partial_fit(np.zeros((rows, 500)), np.zeros(rows), threads=1),
    "predict": lambda net, rows: net.predict(np.zeros((rows, 500)), threads=1),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
def test_calls_of_many_small_shapes_in_turn_find_their_workspaces(call, monkeypatch):
    net = bp.Network(bp.mlp([500, 1]))
    assert opened_by(net, call, [2**i for i in range(8)], monkeypatch) == 8


@every_call
def test_larger_workspaces_stay_within_a_bound_that_a_few_may_pass(call, monkeypatch):
    """With room for two of them four stay; eight in turn never find theirs."""
    monkeypatch.setattr(evaluator, "KEPT_BYTES", 1_000_000)
    net = bp.Network(bp.mlp([500, 1]))
    few, many = [64, 32, 16, 8], [2**i for i in range(5, 13)]
    assert opened_by(net, call, few, monkeypatch) == 4
    learner = net._learner
    opened_by(net, call, many, monkeypatch)
    for kept in (learner._trainings, learner._evaluations):
        assert len(kept) <= 4 or sum(opened[-1] for opened in kept.values()) <= 1_000_000


def test_what_many_threads_give_back_stays_within_the_bound():
    net = bp.Network(bp.mlp([500, 1]))
    barrier = threading.Barrier(8)

    def predict(rows):
        for _ in range(20):
            barrier.wait()
            net.predict(np.zeros((rows, 500)), threads=1)

    threads = [threading.Thread(target=predict, args=(2**i,)) for i in range(8)]
    with mock.patch.object(net._learner, "kept_bytes", 500_000):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    kept = [opened[-1] for opened in net._learner._evaluations.values()]
    assert 0 < len(kept) <= 4 or sum(kept) <= 500_000
