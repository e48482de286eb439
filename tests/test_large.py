"""The training step where the core packs panels, forms dW in strips, and takes a batch in blocks."""

from __future__ import annotations

import numpy as np
import reference
import tolerances
from axes import CORES, FUSED_LEVELS, THREADS, every_core, every_dtype, same_bits
from cases import LARGE, every_large_case, problem
from natively import RULES, train


@every_core
@every_dtype
@every_large_case
def test_large_layers_and_batches_equal_the_reference_with_any_number_of_threads(
    core, dtype, case, batch_size
):
    """Two batches, the second one row shorter."""
    parameters, x, target, rng = problem(case, 2 * batch_size - 1, dtype)
    order = rng.permutation(len(x))
    runs = [
        train(core, case, parameters, x, target, order, batch_size, RULES["nesterov"], threads=threads)
        for threads in THREADS
    ]
    for other in runs[1:]:
        assert same_bits(other.parameters, runs[0].parameters)
        assert same_bits(other.losses, runs[0].losses)
    truth = parameters.astype(np.float64)
    follower = RULES["nesterov"].follower()
    losses = reference.train_epoch(
        case.description, case.loss, follower, truth, x, target, order, batch_size, case.reduction
    )
    # What moved is compared, not where it is: one update of a wide layer is small beside its parameters.
    moved, largest = runs[0].parameters - parameters.astype(np.float64), np.abs(truth - parameters).max()
    bound = tolerances.training(case.widths, batch_size, 2, largest, dtype)
    bound += tolerances.unit(dtype) * np.abs(parameters).max() * 2  # of the two stores
    assert np.abs(moved - (truth - parameters)).max() <= bound
    assert np.abs(runs[0].losses - losses).max() <= tolerances.training(
        case.widths, batch_size, 2, max(losses), dtype
    )


@every_dtype
@every_large_case
def test_large_layers_and_batches_have_the_same_bits_on_every_level_with_fused_multiply_add(
    dtype, case, batch_size
):
    parameters, x, target, _ = problem(case, batch_size, dtype)
    order = np.arange(batch_size)
    runs = [
        train(CORES[level], case, parameters, x, target, order, batch_size, RULES["adam"])
        for level in FUSED_LEVELS
    ]
    assert all(same_bits(other.parameters, runs[0].parameters) for other in runs)


@every_core
@every_dtype
@every_large_case
def test_memory_fetched_ahead_changes_no_bit(core, dtype, case, batch_size):
    parameters, x, target, rng = problem(case, 3 * batch_size, dtype)
    order = rng.permutation(len(x))
    runs = []
    before = core.foresee(False)
    try:
        for foresees in (False, True):
            core.foresee(foresees)
            runs.append(train(core, case, parameters, x, target, order, batch_size, RULES["adam"], threads=2))
    finally:
        core.foresee(before)
    assert same_bits(runs[0].parameters, runs[1].parameters)
    assert same_bits(runs[0].losses, runs[1].losses)


@every_core
@every_dtype
def test_a_last_batch_of_a_row_a_thread_has_the_same_bits_with_any_number_of_threads(core, dtype):
    """The space is laid out for the whole batch, and dX of a single row of it needs W packed."""
    case, batch_size = LARGE["wide"]
    parameters, x, target, _ = problem(case, batch_size + 2, dtype)
    order = np.arange(len(x))
    one, two = (
        train(core, case, parameters, x, target, order, batch_size, RULES["adam"], threads=threads)
        for threads in (1, 2)
    )
    assert same_bits(one.parameters, two.parameters)
    assert same_bits(one.losses, two.losses)
