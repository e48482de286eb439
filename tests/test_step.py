"""The training step of every core: gradients, updates, losses against the reference; the promise on bits."""

from __future__ import annotations

import ctypes
import itertools
import platform
import sys

import numpy as np
import pytest
import reference
import tolerances
from axes import CORES, FUSED_LEVELS, LEVELS, THREADS, every_core, every_dtype, every_thread_count, same_bits
from cases import ACTIVATIONS, CASES, LOSSES, Case, every_case, problem
from natively import NO_UPDATE, RULES, every_rule, loss_gradient, shuffled, train, train_in_halves


@every_core
@every_dtype
@every_thread_count
@every_case
def test_gradient_and_loss_of_a_batch_equal_the_reference(core, dtype, threads, case):
    for rows in (1, 2, 7, 8, 9, 33, 130):
        parameters, x, target, rng = problem(case, rows, dtype, seed=rows)
        order = rng.permutation(rows)
        got = train(core, case, parameters, x, target, order, rows, threads=threads)
        loss, gradient = reference.loss_and_gradient(
            case.description, case.loss, parameters, x, target, case.reduction
        )
        assert got.batches == 1
        assert same_bits(got.parameters, parameters)
        bound = tolerances.chain(case.widths, rows, np.abs(gradient).max(), dtype)
        assert np.abs(got.gradients - gradient).max() <= bound, rows
        assert abs(got.losses[0] - loss) <= tolerances.chain(case.widths, rows, abs(loss), dtype), rows


@every_core
@every_dtype
@every_rule
@every_case
def test_an_epoch_of_updates_equals_the_reference(core, dtype, rule, case):
    batch_size = 8
    parameters, x, target, rng = problem(case, 37, dtype)  # 4 whole batches and one of 5 rows
    order = rng.permutation(37)
    got = train(core, case, parameters, x, target, order, batch_size, rule)
    truth = parameters.astype(np.float64)
    losses = reference.train_epoch(
        case.description,
        case.loss,
        rule.follower(),
        truth,
        x,
        target,
        order,
        batch_size,
        case.reduction,
    )
    assert got.batches == len(losses) == 5
    largest = np.abs(truth).max()
    assert np.abs(got.parameters - truth).max() <= tolerances.training(
        case.widths, batch_size, 5, largest, dtype
    )
    bound = tolerances.training(case.widths, batch_size, 5, max(losses), dtype)
    assert np.abs(got.losses - losses).max() <= bound


@every_core
@every_dtype
@every_case
def test_bits_do_not_depend_on_threads(core, dtype, case):
    for rows, batch_size in ((50, 16), (50, 1), (300, 130)):
        parameters, x, target, rng = problem(case, rows, dtype)
        order = rng.permutation(rows)
        runs = [
            train(core, case, parameters, x, target, order, batch_size, RULES["adam"], threads=threads)
            for threads in THREADS
        ]
        for other in runs[1:]:
            assert same_bits(other.parameters, runs[0].parameters), (rows, batch_size)
            assert same_bits(other.losses, runs[0].losses), (rows, batch_size)
            assert same_bits(other.state, runs[0].state), (rows, batch_size)


@every_core
@every_dtype
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.loss in ("mse", "mae")])
@pytest.mark.parametrize("rule", [NO_UPDATE, RULES["plain"], RULES["adam"]], ids=["none", "plain", "adam"])
def test_a_step_in_two_halves_has_the_bits_of_a_whole_one(core, dtype, name, rule):
    case = CASES[name]
    for rows, batch_size in ((50, 16), (5, 1), (300, 130), (2500, 2200)):  # the last is formed in parts
        parameters, x, target, rng = problem(case, rows, dtype)
        order = rng.permutation(rows)
        whole = train(core, case, parameters, x, target, order, batch_size, rule)
        for threads in THREADS:
            halves = train_in_halves(core, case, parameters, x, target, order, batch_size, rule, threads)
            assert same_bits(halves.parameters, whole.parameters), (rows, batch_size, threads)
            assert same_bits(halves.gradients, whole.gradients), (rows, batch_size, threads)
            assert same_bits(halves.losses, whole.losses), (rows, batch_size, threads)
            assert same_bits(halves.state, whole.state), (rows, batch_size, threads)


@every_core
@every_dtype
@every_case
def test_descent_on_one_row_at_a_time_has_the_bits_of_the_tiles(core, dtype, case):
    """One thread forms dX and the update in one pass over W, a team has its tiles and strips."""
    parameters, x, target, rng = problem(case, 30, dtype)
    order = rng.permutation(30)
    alone, team = (
        train(core, case, parameters, x, target, order, 1, RULES["plain"], threads=threads)
        for threads in (1, 2)
    )
    assert alone.batches == 30
    assert same_bits(alone.parameters, team.parameters)
    assert same_bits(alone.losses, team.losses)


@every_core
@every_dtype
def test_the_gradient_of_few_outputs_has_the_bits_of_the_plain_product(core, dtype):
    """dW is turned where the inputs fill its vectors better; columns of zeros that fill them prevent it."""
    shapes = [*itertools.product((1, 3, 50), (1, 2, 33, 700), range(1, 18))]
    shapes += [(2000, 520, 33), (515, 516, 530)]  # a strip of one column; panels and strips of three blocks
    for rows, inputs, outputs in shapes:
        case = Case(((inputs, outputs),), "mse")
        parameters, x, target, _ = problem(case, rows, dtype)
        weight, bias = parameters[:-outputs].reshape(inputs, outputs), parameters[-outputs:]
        x = x.astype(dtype)
        z = np.empty((rows, outputs), dtype)
        core.dense_forward(
            x, weight, bias, z, np.empty(core.layer_scratch(bias, inputs, outputs, rows, False, 1), dtype), 1
        )
        loss, dz = loss_gradient(core, case, z, target.astype(dtype))
        wide = [np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, 16)]) for array in (weight, dz, bias)]
        room = np.empty(core.layer_scratch(wide[2], *wide[0].shape, rows, True, 1), dtype)
        core.dense_backward(x, *wide[:2], np.empty((0, 0), dtype), *wide[::2], room, 1)
        dweight, dbias = (array[..., :outputs] for array in wide[::2])
        for threads in (1, 3):
            got = train(core, case, parameters, x, target, np.arange(rows), rows, threads=threads)
            assert same_bits(got.gradients, np.concatenate([dweight.ravel(), dbias])), (rows, inputs, outputs)
            assert got.losses[0] == loss


@every_dtype
@every_rule
@every_case
def test_a_training_run_has_the_same_bits_on_every_level_with_fused_multiply_add(dtype, rule, case):
    parameters, x, target, rng = problem(case, 70, dtype)
    order = np.concatenate([rng.permutation(70) for _ in range(10)])
    runs = [
        train(CORES[level], case, parameters, x, target, order, 16, rule, threads=2) for level in FUSED_LEVELS
    ]
    assert all(same_bits(other.parameters, runs[0].parameters) for other in runs)
    assert all(same_bits(other.losses, runs[0].losses) for other in runs)


@every_core
@every_dtype
@every_rule
def test_a_call_continues_where_the_last_one_stopped(core, dtype, rule):
    case = CASES["digits"]
    parameters, x, target, rng = problem(case, 96, dtype)
    order = rng.permutation(96)
    whole = train(core, case, parameters, x, target, order, 16, rule)
    first = train(core, case, parameters, x, target, order[:48], 16, rule)
    second = train(
        core,
        case,
        first.parameters,
        x,
        target,
        order[48:],
        16,
        rule,
        state=first.state,
        step=first.batches,
    )
    assert same_bits(second.parameters, whole.parameters)
    assert same_bits(second.state, whole.state)
    assert same_bits(np.concatenate([first.losses, second.losses]), whole.losses)


@every_core
@every_dtype
def test_rows_are_taken_in_the_given_order(core, dtype):
    case = CASES["tanh"]
    parameters, x, target, rng = problem(case, 40, dtype)
    order = rng.integers(0, 40, 33)  # rows may come twice or not at all
    by_order = train(core, case, parameters, x, target, order, 8, RULES["adam"])
    in_place = train(core, case, parameters, x[order], target[order], np.arange(33), 8, RULES["adam"])
    assert same_bits(by_order.parameters, in_place.parameters)
    assert same_bits(by_order.losses, in_place.losses)


@every_core
@every_dtype
@every_thread_count
def test_a_batch_whose_loss_is_not_finite_stops_training_before_its_update(core, dtype, threads):
    case = CASES["linear"]
    parameters, x, target, _ = problem(case, 40, dtype)
    target[25, 1] = np.nan  # in the fourth batch of eight
    order = np.arange(40)
    stopped = train(core, case, parameters, x, target, order, 8, RULES["adam"], threads=threads)
    until = train(core, case, parameters, x, target, order[:24], 8, RULES["adam"], threads=threads)
    assert stopped.batches == 3
    assert np.isnan(stopped.losses[3])
    assert same_bits(stopped.losses[:3], until.losses)
    assert same_bits(stopped.parameters, until.parameters)
    assert same_bits(stopped.state, until.state)


@every_core
@every_dtype
@pytest.mark.parametrize("name", ["digits", "classes", "softmax_regression"])
def test_labels_and_one_hot_rows_give_the_same_bits(core, dtype, name):
    case = (
        CASES[name] if CASES[name].loss == "cross_entropy" else Case(CASES[name].description, "cross_entropy")
    )
    parameters, x, target, rng = problem(case, 50, dtype)
    if CASES[name].loss != "cross_entropy":
        target = reference.one_hot(rng.integers(0, case.widths[-1], 50), case.widths[-1])
    labels = target.argmax(axis=1)
    one_hot = train(core, case, parameters, x, target, np.arange(50), 16, RULES["adam"])
    for kind in ("i8", "i4", "u1", "f4", "f8"):
        by_label = train(core, case, parameters, x, labels.astype(kind), np.arange(50), 16, RULES["adam"])
        assert same_bits(by_label.parameters, one_hot.parameters)
        assert same_bits(by_label.losses, one_hot.losses)


@every_core
@every_dtype
def test_soft_targets_of_cross_entropy_equal_the_reference(core, dtype):
    case = CASES["digits"]
    parameters, x, _, rng = problem(case, 30, dtype)
    target = rng.dirichlet(np.ones(10), 30)
    got = train(core, case, parameters, x, target, np.arange(30), 30)
    loss, gradient = reference.loss_and_gradient(case.description, case.loss, parameters, x, target)
    assert abs(got.losses[0] - loss) <= tolerances.chain(case.widths, 30, loss, dtype)
    assert np.abs(got.gradients - gradient).max() <= tolerances.chain(
        case.widths, 30, np.abs(gradient).max(), dtype
    )


@every_core
@every_dtype
def test_the_stable_pairs_stay_finite_where_probabilities_round_to_zero_and_one(core, dtype):
    """A weight of 1000, x of +1 and -1, the wrong target: the loss is 1000, the derivative 1, exactly."""
    for case, target in (
        (Case(((1, 1), "sigmoid"), "bce"), np.array([[0.0], [1.0]])),
        (Case(((1, 2), "softmax"), "cross_entropy"), np.array([[0.0, 1.0], [1.0, 0.0]])),
    ):
        parameters = np.zeros(reference.parameter_count(case.description), dtype)
        parameters[0] = 1000.0
        got = train(core, case, parameters, np.array([[1.0], [-1.0]]), target, np.arange(2), 2)
        assert got.losses[0] == 1000.0
        assert got.gradients[0] == 1.0


@every_core
@every_dtype
@pytest.mark.parametrize("batch_size", [1, 16])
def test_the_state_of_plain_descent_takes_no_memory(core, dtype, batch_size):
    case = CASES["relu"]
    parameters, x, target, _ = problem(case, 32, dtype)
    got = train(core, case, parameters, x, target, np.arange(32), batch_size, RULES["plain"])
    with_buffer = train(
        core, case, parameters, x, target, np.arange(32), batch_size, RULES["plain"],
        state=np.zeros((1, parameters.size), dtype),
    )  # fmt: skip
    assert got.state.size == 0
    assert same_bits(got.parameters, with_buffer.parameters)


# The C library's FE_UPWARD, by processor.
UPWARD = {"x86_64": 0x800, "aarch64": 0x400000}.get(platform.machine()) if sys.platform == "linux" else None

if UPWARD is not None:

    @every_core
    @every_dtype
    @every_thread_count
    def test_bits_do_not_depend_on_the_rounding_mode_of_the_caller(core, dtype, threads):
        case = CASES["digits"]
        parameters, x, target, rng = problem(case, 50, dtype)
        order = rng.permutation(50)
        wanted = train(core, case, parameters, x, target, order, 16, RULES["adam"], threads=threads)
        set_rounding = ctypes.CDLL(None).fesetround
        set_rounding(UPWARD)
        try:
            got = train(core, case, parameters, x, target, order, 16, RULES["adam"], threads=threads)
            rounded_up = 1.0 + tolerances.unit(np.float64) / 2.0 > 1.0
        finally:
            set_rounding(0)  # to nearest, as C starts
        assert same_bits(got.parameters, wanted.parameters)
        assert same_bits(got.losses, wanted.losses)
        assert rounded_up, "the core gave the caller back another mode than it came with"


@pytest.mark.parametrize("rows", [0, 1, 5, 1000])
def test_every_core_shuffles_alike(rows):
    orders = [shuffled(core, rows, 3, 4) for core in CORES.values()]
    assert sorted(orders[0]) == list(range(rows))
    assert all(same_bits(order, orders[0]) for order in orders)


def test_the_cores_agree_on_codes_and_fields():
    first = CORES[LEVELS[0]]
    assert set(first.ACTIVATIONS) == set(ACTIVATIONS)
    assert set(first.LOSSES) == set(LOSSES)
    for core in CORES.values():
        for name in ("ACTIVATIONS", "LOSSES", "STAGE_KINDS", "STAGE_FIELDS"):
            assert getattr(core, name) == getattr(first, name), name
