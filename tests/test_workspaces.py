"""The workspaces of a network's calls: large ones are let go, and tall batches need none as tall."""

from __future__ import annotations

import tracemalloc

import numpy as np

import fastbp as bp


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
