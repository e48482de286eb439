"""Tall batches, whose gradient is a sum of partial gradients: its parts, its bits, faults in it, its room."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import tolerances
from axes import CORES, FUSED_LEVELS, THREADS, every_core, every_dtype, same_bits
from cases import CASES, Case, every_case, problem
from natively import RULES, train

from fastbp import _plan

# Parameters that are few, so that 128 rows make a part, which is worth one thread, or more; and many, so that
# 256 rows make one.
SMALL = Case(((9, 40), "tanh", (40, 5), "softmax"), "cross_entropy", "sum")
MEDIUM = Case(((10, 64), "relu", (64, 32), "tanh", (32, 1)), "mse")
LARGE = Case(((70, 300), "relu", (300, 33), "tanh"), "mse", "sum")
SHAPES = [(SMALL, 300), (SMALL, 600), (SMALL, 1024), (SMALL, 1500), (SMALL, 5000)]
SHAPES += [(MEDIUM, 1100), (LARGE, 2048), (LARGE, 2300)]
every_shape = pytest.mark.parametrize(("case", "rows"), SHAPES, ids=str)


def partials(case, rows):
    space = _plan.lower(case.layers(), np.dtype(np.float32)).training_space(rows, case.widths[-1], 1)
    return space.layout["partials"]


def test_how_many_partial_gradients_there_are_follows_from_shapes():
    few = [partials(SMALL, rows) for rows in (255, 256, 511, 512, 1023, 1024, 2047, 2048, 5000, 100_000)]
    assert few == [0, 2, 2, 4, 4, 8, 8, 16, 32, 32]
    assert [partials(MEDIUM, rows) for rows in (512, 1023, 1024, 100_000)] == [0, 0, 8, 32]
    assert [partials(LARGE, rows) for rows in (1024, 2047, 2048, 4096, 100_000)] == [0, 0, 8, 16, 32]


@every_core
@every_dtype
@every_shape
def test_gradient_and_loss_equal_the_reference(core, dtype, case, rows):
    parameters, x, target, rng = problem(case, rows, dtype)
    loss, gradient = reference.loss_and_gradient(
        case.description, case.loss, parameters, x, target, case.reduction
    )
    for threads in (1, 3):
        got = train(core, case, parameters, x, target, rng.permutation(rows), rows, threads=threads)
        bound = tolerances.chain(case.widths, rows, np.abs(gradient).max(), dtype)
        assert np.abs(got.gradients - gradient).max() <= bound
        assert abs(got.losses[0] - loss) <= tolerances.chain(case.widths, rows, abs(loss), dtype)


@every_core
@every_dtype
@pytest.mark.parametrize("name", ["tanh", "classes", "one_neuron", "activations_in_a_row"])
def test_the_gradient_is_the_sum_of_the_gradients_of_its_parts(core, dtype, name):
    case = Case(CASES[name].description, CASES[name].loss, "sum")
    parameters, x, target, rng = problem(case, 1200, dtype)
    order = rng.permutation(1200)
    whole = train(core, case, parameters, x, target, order, 1200)
    parts = [train(core, case, parameters, x, target, rows, 150).gradients for rows in order.reshape(8, 150)]
    a, b, c, d = (parts[i] + parts[i + 4] for i in range(4))  # four chains, as sums of rows have them
    np.testing.assert_array_equal(whole.gradients, (a + b) + (c + d))


@every_dtype
@every_case
def test_bits_depend_neither_on_threads_nor_on_the_level(dtype, case):
    """The last batch has fewer rows than there are partial gradients, and another is short."""
    for rows, batch_size in ((1027, 1024), (4800, 4097)):
        parameters, x, target, rng = problem(case, rows, dtype)
        order = rng.permutation(rows)
        for levels in (FUSED_LEVELS, [level for level in CORES if level not in FUSED_LEVELS]):
            runs = [
                train(
                    CORES[level], case, parameters, x, target, order, batch_size, RULES["adam"], threads=team
                )
                for level in levels
                for team in THREADS
            ]
            for run in runs[1:]:
                assert same_bits(run.parameters, runs[0].parameters)
                assert same_bits(run.losses, runs[0].losses)


@every_core
@every_dtype
def test_a_short_last_batch_is_learned_from(core, dtype):
    case, batch_size = SMALL, 1024
    parameters, x, target, rng = problem(case, batch_size + 3, dtype)
    order = rng.permutation(batch_size + 3)
    whole = train(core, case, parameters, x, target, order, batch_size, RULES["plain"])
    first = train(core, case, parameters, x, target, order[:batch_size], batch_size, RULES["plain"])
    truth = first.parameters.astype(np.float64)
    losses = reference.train_epoch(
        case.description, case.loss, RULES["plain"].follower(), truth, x, target, order[batch_size:], 3, "sum"
    )
    largest = np.abs(truth).max()
    bound = tolerances.training(case.widths, batch_size, 1, largest, dtype)
    assert np.abs(whole.parameters - truth).max() <= bound
    assert abs(whole.losses[1] - losses[0]) <= tolerances.training(case.widths, 3, 1, losses[0], dtype)
    assert not same_bits(whole.parameters, first.parameters)


@every_core
@every_shape
def test_a_number_that_is_not_finite_stops_training_before_the_update(core, case, rows):
    parameters, x, target, _ = problem(case, 2 * rows, np.float32)
    for bad in (0, rows // 2 + 1, rows - 1):
        faulty = x.copy()
        faulty[rows + bad, -1] = np.inf  # in the second batch
        for threads in THREADS:
            order = np.arange(2 * rows)
            got = train(core, case, parameters, faulty, target, order, rows, RULES["plain"], threads=threads)
            once = train(core, case, parameters, x, target, order[:rows], rows, RULES["plain"])
            assert got.batches == 1
            assert np.isnan(got.losses[1])
            assert same_bits(got.parameters, once.parameters)


@every_dtype
def test_the_room_of_a_step_does_not_grow_with_the_rows_of_a_tall_batch(dtype):
    """But for a loss a row."""
    for case in (SMALL, LARGE):
        plan = _plan.lower(case.layers(), np.dtype(dtype))
        sizes = [plan.training_space(rows, 1, 2).nbytes for rows in (40_000, 4_000_000)]
        assert sizes[0] == plan.training_space(40_000, 1, 2).array.nbytes
        assert sizes[1] - sizes[0] == 8 * (4_000_000 - 40_000)


def test_partial_gradients_take_no_more_than_twice_the_room_of_the_rows():
    """A network of 100 million parameters is no case for copies of them."""
    case = Case(((10_000, 10_000), "relu", (10_000, 10)), "mse")
    assert partials(case, 8192) == 0
    assert partials(case, 100_000) == 32


def attempt(core, rows, threads, rule=RULES["plain"], **layout):
    """One call of the core's train with another rule, or with some numbers of the layout changed."""
    parameters, x, target, _ = problem(SMALL, rows, np.float32)
    space = _plan.lower(SMALL.layers(), np.dtype(np.float32)).training_space(rows, 5, threads)
    nothing, state = parameters[:0], np.empty((0, parameters.size), np.float32)
    training = core.open_training(
        space.table, {**space.layout, **layout}, np.arange(rows), parameters, nothing, state, space.array, 3,
        False, target.shape[1], threads, False,
    )  # fmt: skip
    core.train(training, parameters, rule.of(core), x, target, None, 0, np.empty(1), threads)


@every_core
def test_a_layout_that_reaches_beyond_the_workspace_is_refused(core):
    attempt(core, 1024, 3)
    for layout in (
        {"partial": -100_000},
        {"partials": -1},
        {"partial_row": 1},
        {"partial_row": 1 << 40},
        {"block": 0},
        {"block": 1},
        {"block": 1 << 62},
        {"input": -16},
    ):
        with pytest.raises(ValueError, match="workspace"):
            attempt(core, 1024, 3, **layout)
