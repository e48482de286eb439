"""The training step of every core: gradients, updates, losses against the reference; the promise on bits."""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import pytest
import reference
import tolerances
from axes import (
    CORES,
    DTYPES,
    FUSED_LEVELS,
    LEVELS,
    THREADS,
    Guarded,
    every_core,
    every_dtype,
    every_thread_count,
    same_bits,
)
from cases import ACTIVATIONS, CASES, Case, train_natively

from fastbp import _native, _plan

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

OPTIMIZERS = {
    "plain": ("sgd", (0.005, 0.0, 0.0), 0, lambda: reference.SGD(0.005)),
    "momentum": ("sgd", (0.005, 0.9, 0.0), 1, lambda: reference.SGD(0.005, 0.9)),
    "nesterov": ("sgd", (0.005, 0.9, 1.0), 1, lambda: reference.SGD(0.005, 0.9, True)),
    "adam": ("adam", (0.005, 0.9, 0.999, 1e-8), 2, lambda: reference.Adam(0.005)),
    "adam_other": ("adam", (0.002, 0.8, 0.99, 1e-4), 2, lambda: reference.Adam(0.002, 0.8, 0.99, 1e-4)),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def problem(case, rows, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, target = case.data(rng, rows)
    return case.parameters(rng).astype(dtype), x, target, rng


def run(core, case, parameters, x, target, order, batch_size, optimizer, **options):
    name, rates, rows, _ = OPTIMIZERS[optimizer]
    return train_natively(
        core, case, parameters, x, target, order, batch_size,
        optimizer=name, rates=rates, state_rows=rows, **options,
    )  # fmt: skip


@every_core
@every_dtype
@every_thread_count
@every_case
def test_gradient_and_loss_of_a_batch_equal_the_reference(core, dtype, threads, case):
    for rows in (1, 2, 7, 8, 9, 33, 130):
        parameters, x, target, rng = problem(case, rows, dtype, seed=rows)
        order = rng.permutation(rows)
        got = train_natively(core, case, parameters, x, target, order, rows, threads=threads)
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
@every_optimizer
@every_case
def test_an_epoch_of_updates_equals_the_reference(core, dtype, optimizer, case):
    batch_size = 8
    parameters, x, target, rng = problem(case, 37, dtype)  # 4 whole batches and one of 5 rows
    order = rng.permutation(37)
    got = run(core, case, parameters, x, target, order, batch_size, optimizer)
    truth = parameters.astype(np.float64)
    losses = reference.train_epoch(
        case.description,
        case.loss,
        OPTIMIZERS[optimizer][3](),
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
            run(core, case, parameters, x, target, order, batch_size, "adam", threads=threads)
            for threads in THREADS
        ]
        for other in runs[1:]:
            assert same_bits(other.parameters, runs[0].parameters), (rows, batch_size)
            assert same_bits(other.losses, runs[0].losses), (rows, batch_size)
            assert same_bits(other.state, runs[0].state), (rows, batch_size)


@every_dtype
@every_optimizer
@every_case
def test_a_training_run_has_the_same_bits_on_every_level_with_fused_multiply_add(dtype, optimizer, case):
    parameters, x, target, rng = problem(case, 70, dtype)
    order = np.concatenate([rng.permutation(70) for _ in range(10)])
    runs = [
        run(CORES[level], case, parameters, x, target, order, 16, optimizer, threads=2)
        for level in FUSED_LEVELS
    ]
    assert all(same_bits(other.parameters, runs[0].parameters) for other in runs)
    assert all(same_bits(other.losses, runs[0].losses) for other in runs)


@every_core
@every_dtype
@every_optimizer
def test_a_call_continues_where_the_last_one_stopped(core, dtype, optimizer):
    case = CASES["digits"]
    parameters, x, target, rng = problem(case, 96, dtype)
    order = rng.permutation(96)
    whole = run(core, case, parameters, x, target, order, 16, optimizer)
    first = run(core, case, parameters, x, target, order[:48], 16, optimizer)
    second = run(
        core,
        case,
        first.parameters,
        x,
        target,
        order[48:],
        16,
        optimizer,
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
    by_order = run(core, case, parameters, x, target, order, 8, "adam")
    in_place = run(core, case, parameters, x[order], target[order], np.arange(33), 8, "adam")
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
    stopped = run(core, case, parameters, x, target, order, 8, "adam", threads=threads)
    until = run(core, case, parameters, x, target, order[:24], 8, "adam", threads=threads)
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
    one_hot = run(core, case, parameters, x, target, np.arange(50), 16, "adam")
    for kind in ("i8", "i4", "u1", "f4", "f8"):
        by_label = run(core, case, parameters, x, labels.astype(kind), np.arange(50), 16, "adam")
        assert same_bits(by_label.parameters, one_hot.parameters)
        assert same_bits(by_label.losses, one_hot.losses)


@every_core
@every_dtype
def test_soft_targets_of_cross_entropy_equal_the_reference(core, dtype):
    case = CASES["digits"]
    parameters, x, _, rng = problem(case, 30, dtype)
    target = rng.dirichlet(np.ones(10), 30)
    got = train_natively(core, case, parameters, x, target, np.arange(30), 30)
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
        got = train_natively(core, case, parameters, np.array([[1.0], [-1.0]]), target, np.arange(2), 2)
        assert got.losses[0] == 1000.0
        assert got.gradients[0] == 1.0


@every_core
@every_dtype
@pytest.mark.parametrize("batch_size", [1, 16])
def test_the_state_of_plain_descent_takes_no_memory(core, dtype, batch_size):
    case = CASES["relu"]
    parameters, x, target, _ = problem(case, 32, dtype)
    got = run(core, case, parameters, x, target, np.arange(32), batch_size, "plain")
    with_buffer = train_natively(
        core, case, parameters, x, target, np.arange(32), batch_size,
        optimizer="sgd", rates=OPTIMIZERS["plain"][1], state_rows=1,
    )  # fmt: skip
    assert got.state.size == 0
    assert same_bits(got.parameters, with_buffer.parameters)


# Sizes at which the core packs panels, forms dW in strips, and takes a batch in blocks

LARGE = {
    "wide": (Case(((20, 1100), "relu", (1100, 530), "tanh", (530, 7), "softmax"), "cross_entropy"), 65),
    "power_of_two": (Case(((40, 512), "sigmoid", (512, 512), "softmax", (512, 3)), "mse"), 40),
    "tall": (Case(((9, 40), "exp", (40, 40), "tanh", (40, 1), "sigmoid"), "bce"), 2100),
}
every_large_case = pytest.mark.parametrize(("case", "batch_size"), LARGE.values(), ids=LARGE)


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
        run(core, case, parameters, x, target, order, batch_size, "nesterov", threads=threads)
        for threads in THREADS
    ]
    for other in runs[1:]:
        assert same_bits(other.parameters, runs[0].parameters)
        assert same_bits(other.losses, runs[0].losses)
    truth = parameters.astype(np.float64)
    follower = OPTIMIZERS["nesterov"][3]()
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
        run(CORES[level], case, parameters, x, target, order, batch_size, "adam") for level in FUSED_LEVELS
    ]
    assert all(same_bits(other.parameters, runs[0].parameters) for other in runs)


@every_core
@every_dtype
@pytest.mark.parametrize("threads", [1, 2])
def test_a_last_batch_that_is_a_little_shorter_stays_within_the_workspace(core, dtype, threads):
    """Wide layers are formed in strips as wide as the batch allows: the full one, for every batch."""
    case = Case(((40, 600), "relu", (600, 1)), "mse")
    parameters, x, target, _ = problem(case, 219, dtype)
    got = run(core, case, parameters, x, target, np.arange(219), 110, "plain", threads=threads)
    assert got.batches == 2


# Evaluation


def evaluate(core, case, parameters, x, y, rows, threads):
    """Output and summed loss of some rows (a range) in one call, on guarded arrays."""
    plan = _plan.lower(case.layers(), parameters.dtype)
    space = plan.evaluation_space(len(rows), 0 if y is None else y.size // len(y), threads)
    output = Guarded((len(rows), case.widths[-1]), parameters.dtype)
    workspace = Guarded(space.array.shape, parameters.dtype)
    total = core.evaluate(
        plan.stages, parameters, _native.LOSSES[case.loss], x, y, rows.start, output.array, workspace.array,
        space.width, space.block, space.packed, threads,
    )  # fmt: skip
    assert output.intact
    assert workspace.intact
    return output.array, total


@every_core
@every_dtype
@pytest.mark.parametrize("case", [*CASES.values(), LARGE["wide"][0]], ids=[*CASES, "wide"])
def test_an_evaluation_equals_the_reference(core, dtype, case):
    for rows in (1, 7, 64, 65, 200):
        parameters, x, target, _ = problem(case, rows, dtype)
        output, total = evaluate(core, case, parameters, x, target, range(rows), 2)
        truth = reference.forward(case.description, parameters.astype(np.float64), x)[-1]
        loss = reference.loss_value(case.loss, truth, target, "sum")
        assert np.abs(output - truth).max() <= tolerances.chain(case.widths, 1, np.abs(truth).max(), dtype)
        assert abs(total - loss) <= tolerances.chain(case.widths, rows, loss, dtype)


@every_core
@every_dtype
@every_case
def test_bits_of_an_evaluation_do_not_depend_on_threads_or_on_its_parts(core, dtype, case):
    parameters, x, target, _ = problem(case, 150, dtype)
    whole, total = evaluate(core, case, parameters, x, target, range(150), 1)
    for threads in THREADS:
        output, again = evaluate(core, case, parameters, x, target, range(150), threads)
        assert same_bits(output, whole)
        assert again == total
    for rows in (range(1), range(3, 71), range(149, 150)):
        assert same_bits(evaluate(core, case, parameters, x, None, rows, 3)[0], whole[rows.start : rows.stop])


@every_core
@every_dtype
@every_case
def test_the_loss_of_a_training_step_is_that_of_an_evaluation(core, dtype, case):
    parameters, x, target, _ = problem(case, 33, dtype)
    trained = train_natively(core, case, parameters, x, target, np.arange(33), 33).losses[0]
    _, total = evaluate(core, case, parameters, x, target, range(33), 1)
    divisor = reference.loss_divisor(case.loss, target, case.reduction)
    assert abs(trained - total / divisor) <= tolerances.chain(case.widths, 33, trained, dtype)


# What all cores have in common


FESETROUND, UPWARD = getattr(ctypes.CDLL(None), "fesetround", None), {"x86_64": 0x800, "aarch64": 0x400000}

if FESETROUND is not None and platform.machine() in UPWARD:

    @every_core
    @every_dtype
    @every_thread_count
    def test_bits_do_not_depend_on_the_rounding_mode_of_the_caller(core, dtype, threads):
        case = CASES["digits"]
        parameters, x, target, rng = problem(case, 50, dtype)
        order = rng.permutation(50)
        wanted = run(core, case, parameters, x, target, order, 16, "adam", threads=threads)
        FESETROUND(UPWARD[platform.machine()])
        try:
            got = run(core, case, parameters, x, target, order, 16, "adam", threads=threads)
            rounded_up = 1.0 + tolerances.unit(np.float64) / 2.0 > 1.0
        finally:
            FESETROUND(0)  # to nearest, as C starts
        assert same_bits(got.parameters, wanted.parameters)
        assert same_bits(got.losses, wanted.losses)
        assert rounded_up, "the core gave the caller back another mode than it came with"


@pytest.mark.parametrize("rows", [0, 1, 5, 1000])
def test_every_core_shuffles_alike(rows):
    orders = [np.empty(rows, np.int64) for _ in CORES]
    for core, order in zip(CORES.values(), orders, strict=True):
        core.shuffle(order, 3, 4)
    assert sorted(orders[0]) == list(range(rows))
    assert all(same_bits(order, orders[0]) for order in orders)


def test_the_cores_agree_on_codes_and_fields():
    first = CORES[LEVELS[0]]
    assert set(first.ACTIVATIONS) == set(ACTIVATIONS)
    assert set(first.LOSSES) == {"mse", "bce", "cross_entropy"}
    assert set(first.OPTIMIZERS) == {"gradient", "sgd", "adam"}
    for core in CORES.values():
        for name in ("ACTIVATIONS", "LOSSES", "OPTIMIZERS", "STAGE_KINDS", "STAGE_FIELDS", "LAYOUT_FIELDS"):
            assert getattr(core, name) == getattr(first, name), name


@every_case
def test_the_reference_gradient_is_the_reference_loss_differentiated_numerically(case):
    parameters, x, target, _ = problem(case, 6, DTYPES[1])
    _, gradient = reference.loss_and_gradient(
        case.description, case.loss, parameters, x, target, case.reduction
    )
    step = float(np.finfo(np.float64).eps) ** (1 / 3)
    chosen = np.random.default_rng(1).choice(parameters.size, min(parameters.size, 40), replace=False)
    for index in chosen:
        losses = []
        for sign in (1.0, -1.0):
            moved = parameters.copy()
            moved[index] += sign * step
            losses.append(
                reference.loss_and_gradient(case.description, case.loss, moved, x, target, case.reduction)[0]
            )
        numerical = (losses[0] - losses[1]) / (2.0 * step)
        assert abs(numerical - gradient[index]) <= tolerances.CENTRAL_DIFFERENCE * max(1.0, abs(losses[0]))
