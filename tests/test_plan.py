"""The plan: where every parameter lies, and how much memory and how many threads a step takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import reference
from axes import every_dtype
from cases import CASES, Case, every_case

import fastbp as bp
from fastbp import _native, _plan


@every_case
@every_dtype
def test_slices_follow_each_other_without_a_gap(case, dtype):
    plan = _plan.lower(case.layers(), np.dtype(dtype))
    assert plan.parameter_count == reference.parameter_count(case.description)
    assert (plan.in_features, plan.out_features) == (case.widths[0], case.widths[-1])
    assert len(plan.slices) == len(case.description)
    position = 0
    for entry, slices in zip(case.description, plan.slices, strict=True):
        if isinstance(entry, str):
            assert slices == {}
            continue
        assert list(slices) == ["weight", "bias"]
        for shape, (span, planned) in zip((entry, entry[1:]), slices.values(), strict=True):
            assert planned == shape
            assert span == slice(position, position + int(np.prod(shape)))
            position = span.stop


def test_the_flops_of_a_step_are_three_products_a_layer_and_two_for_the_first():
    plan = _plan.lower(CASES["digits"].layers(), np.dtype(np.float32))
    assert plan.step_flops(64) == 64 * (2 * 2 * 64 * 128 + 3 * 2 * 128 * 10)


@every_case
@every_dtype
def test_threads_are_a_cap_and_depend_on_shapes_alone(case, dtype):
    plan = _plan.lower(case.layers(), np.dtype(dtype))
    for count in (plan.training_threads, plan.evaluation_threads):
        for rows in (1, 16, 1000, 100_000):
            taken = [count(rows, cap) for cap in (1, 2, 3, 8)]
            assert all(1 <= threads <= cap for threads, cap in zip(taken, (1, 2, 3, 8), strict=True))
            assert taken == sorted(taken) == [count(rows, cap) for cap in (1, 2, 3, 8)]


def test_small_steps_run_on_one_thread_and_large_ones_on_all():
    small = _plan.lower(CASES["one_neuron"].layers(), np.dtype(np.float32))
    large = _plan.lower(Case(((784, 1024), "relu", (1024, 10)), "mse").layers(), np.dtype(np.float32))
    assert small.training_threads(1, 8) == 1
    assert large.training_threads(1024, 8) == 8
    assert large.training_threads(1, 4) == 4  # they share the update


def test_an_update_counts_as_work_where_it_takes_longer_than_the_products():
    plan = _plan.lower(Case(((784, 128), "relu", (128, 10)), "mse").layers(), np.dtype(np.float32))
    assert plan.step_flops(1, 1000) - plan.step_flops(1) == 1000 * _plan.STATE_FLOPS
    assert plan.training_threads(1, 2) == 1
    assert plan.training_threads(1, 2, 2 * plan.parameter_count) == 2
    for optimizer, team in ((bp.Adam(), 2), (bp.SGD(momentum=0.9), 2), (bp.SGD(), 1)):
        net = bp.Network(bp.mlp([784, 128, 10]), "mse", optimizer)
        assert net._learner.pace(1, 2).team == net._learner.cap(2, 1, updates=True) == team
        assert net._learner.pace(1, 2, updates=False).team == net._learner.cap(2, 1) == 1


@every_case
@every_dtype
def test_workspaces_do_not_shrink_with_rows_or_threads(case, dtype):
    plan = _plan.lower(case.layers(), np.dtype(dtype))
    for space in (plan.training_space, plan.evaluation_space):
        by_rows = [space(rows, 1, 2).array.size for rows in (1, 7, 8, 9, 100, 1000)]
        by_threads = [space(100, 1, threads).array.size for threads in (1, 2, 3, 8)]
        assert by_rows == sorted(by_rows)
        assert by_threads == sorted(by_threads)


def test_an_evaluation_takes_taller_blocks_where_rows_share_the_packing_of_a_matrix():
    def block(columns, rows, threads=1, dtype=np.float32, features=16):
        case = Case(((features, columns), "relu", (columns, 10)), "mse")
        return _plan.lower(case.layers(), np.dtype(dtype)).evaluation_space(rows, 0, threads).block

    assert block(511, 2048) == block(255, 2048, dtype=np.float64) == 64
    assert block(512, 2048) == block(256, 2048, dtype=np.float64) == 256
    assert block(512, 100, 3) == 34  # a thread's share at the most
    packs = _native.core.layer_scratch(np.empty(1, np.float32), 784, 128, 1, False, 1) > 0  # on some levels
    assert block(128, 2048, features=784) == (256 if packs else 64)


def test_laying_out_takes_no_memory_for_the_parameters():
    plan = _plan.lower([bp.Dense(4096, 4096), bp.ReLU(), bp.Dense(4096, 2)], np.dtype(np.float32))
    tracemalloc.start()
    plan.evaluation_space(300, 0, 2)
    plan.training_space(300, 1, 2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e5 < plan.parameter_count


@every_case
@every_dtype
def test_a_workspace_starts_on_a_cache_line_and_is_of_the_dtype(case, dtype):
    plan = _plan.lower(case.layers(), np.dtype(dtype))
    for space in (plan.training_space(32, 1, 1), plan.evaluation_space(32, 1, 1)):
        assert space.array.dtype == dtype
        assert space.array.ctypes.data % 64 == 0
