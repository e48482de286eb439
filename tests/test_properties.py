"""Properties that hold for every network and every data, with hypothesis looking for the exception."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
import tolerances
from axes import same_bits
from cases import ACTIVATIONS, LOSSES, Case
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as bp

# derandomize: the same examples in every run; deadline: a loaded machine is not a failure.
examples = settings(max_examples=40, derandomize=True, deadline=None)

widths = st.lists(st.integers(1, 40), min_size=2, max_size=4)
dtypes = st.sampled_from(["float32", "float64"])
seeds = st.integers(0, 2**32)
rows = st.integers(1, 70)


@st.composite
def cases(draw):
    """A network of random widths and activations under a loss that fits its last one."""
    sizes = draw(widths)
    loss = draw(st.sampled_from(sorted(LOSSES)))
    if loss == "cross_entropy":
        sizes[-1] += 1
    description = []
    for pair in itertools.pairwise(sizes[:-1]):
        description += [pair, draw(st.sampled_from(sorted(ACTIVATIONS)))]
    last = {"bce": "sigmoid", "cross_entropy": "softmax"}.get(loss) or draw(
        st.sampled_from(sorted(ACTIVATIONS))
    )
    return Case((*description, (sizes[-2], sizes[-1]), last), loss, draw(st.sampled_from(["mean", "sum"])))


def prepared(case, seed, rows, dtype):
    rng = np.random.default_rng(seed)
    net = case.network(dtype)
    net.parameters[:] = case.parameters(rng)
    return net, *case.data(rng, rows), rng


@given(cases(), seeds, rows, dtypes)
@examples
def test_loss_and_gradient_equal_the_reference(case, seed, rows, dtype):
    net, x, y, _ = prepared(case, seed, rows, dtype)
    loss, gradient = net.loss_and_gradient(x, y)
    parameters = net.parameters.astype(np.float64)
    wanted, derivatives = reference.loss_and_gradient(
        case.description, case.loss, parameters, x, y, case.reduction
    )
    assert abs(loss - wanted) <= tolerances.chain(case.widths, rows, max(wanted, 1.0), dtype)
    # Derivatives that cancel are small, but not the terms they are summed of: dL/dY sets the scale as well.
    output = reference.forward(case.description, parameters, x)[-1]
    scale = max(
        np.abs(derivatives).max(), np.abs(reference.loss_gradient("mse", output, y, case.reduction)).max()
    )
    assert np.abs(gradient - derivatives).max() <= tolerances.chain(case.widths, rows, scale, dtype)


@given(cases(), seeds, rows, dtypes, st.integers(1, 70), st.integers(2, 9))
@examples
def test_bits_do_not_depend_on_threads(case, seed, rows, dtype, batch_size, threads):
    (alone, x, y, _), (together, *_) = (prepared(case, seed, rows, dtype) for _ in range(2))
    histories = alone.fit(x, y, 2, batch_size, threads=1), together.fit(x, y, 2, batch_size, threads=threads)
    assert same_bits(alone.parameters, together.parameters)
    assert histories[0].loss == histories[1].loss


@given(cases(), seeds, rows, dtypes)
@examples
def test_a_permutation_of_rows_permutes_predictions(case, seed, rows, dtype):
    net, x, _, rng = prepared(case, seed, rows, dtype)
    order = rng.permutation(rows)
    assert same_bits(net.predict(x[order]), net.predict(x)[order])


@given(cases(), seeds, rows, dtypes, st.data())
@examples
def test_the_prediction_of_a_part_is_the_part_of_the_prediction(case, seed, rows, dtype, data):
    net, x, _, _ = prepared(case, seed, rows, dtype)
    first = data.draw(st.integers(0, rows - 1))
    last, step = data.draw(st.integers(first + 1, rows)), data.draw(st.integers(1, 3))
    assert same_bits(net.predict(x[first:last:step]), net.predict(x)[first:last:step])


@given(cases(), seeds, rows, dtypes)
@examples
def test_forward_layer_by_layer_gives_the_bits_of_predict(case, seed, rows, dtype):
    net, x, _, _ = prepared(case, seed, rows, dtype)
    assert same_bits(net.forward(x), net.predict(x))


@given(cases(), seeds, rows)
@examples
def test_float32_is_near_float64(case, seed, rows):
    """Outputs, loss and gradient of a network and of its float32 copy, whose parameters are the same."""
    exact, x, y, _ = prepared(case, seed, rows, "float64")
    exact.parameters[:] = exact.parameters.astype(np.float32)
    rounded = exact.copy("float32")
    output = exact.predict(x)
    largest = max(1.0, np.abs(output).max())
    assert np.abs(rounded.predict(x) - output).max() <= tolerances.chain(case.widths, 1, largest, np.float32)
    (loss, gradient), (near, near_gradient) = exact.loss_and_gradient(x, y), rounded.loss_and_gradient(x, y)
    assert abs(near - loss) <= tolerances.chain(case.widths, rows, max(loss, 1.0), np.float32)
    scale = max(
        np.abs(gradient).max(), np.abs(reference.loss_gradient("mse", output, y, case.reduction)).max()
    )
    bound = tolerances.chain(case.widths, rows, scale, np.float32)
    assert np.abs(near_gradient - gradient).max() <= bound


@given(cases(), seeds, rows, dtypes, st.integers(-20, 20))
@examples
def test_a_network_of_relu_without_biases_is_homogeneous(case, seed, rows, dtype, power):
    """f(2^k x) = 2^k f(x), bit for bit: a product with a power of two is exact."""
    linear = tuple(entry for entry in case.description if not isinstance(entry, str))
    description = [entry for shape in linear for entry in (shape, "relu")][: None if seed % 2 else -1]
    net, x, _, _ = prepared(Case(tuple(description), "mse"), seed, rows, dtype)
    for layer in net.layers[::2]:
        layer.bias[:] = 0.0
    assert same_bits(net.predict(2.0**power * x), net.predict(x) * net.dtype.type(2.0**power))


@given(cases(), seeds, rows, dtypes)
@examples
def test_the_gradient_of_a_sum_is_that_of_the_mean_times_the_number_of_terms(case, seed, rows, dtype):
    (mean, x, y, _), (total, *_) = (
        prepared(Case(case.description, case.loss, reduction), seed, rows, dtype)
        for reduction in ("mean", "sum")
    )
    terms = reference.loss_divisor(case.loss, y, "mean")
    loss, gradient = mean.loss_and_gradient(x, y)
    summed, derivatives = total.loss_and_gradient(x, y)
    assert abs(summed - terms * loss) <= tolerances.chain([1], 1, summed, np.float64)
    if terms & (terms - 1) == 0:  # a product with a power of two is exact
        assert same_bits(derivatives, gradient * gradient.dtype.type(terms))
    # Each term is rounded once more; derivatives that cancel are small, but not the terms.
    scale = max(
        np.abs(derivatives).max(), np.abs(reference.loss_gradient("mse", mean.predict(x), y, "sum")).max()
    )
    assert np.abs(derivatives - terms * gradient).max() <= tolerances.chain(case.widths, rows, scale, dtype)


@given(cases(), seeds, rows, dtypes)
@examples
def test_inputs_are_never_written(case, seed, rows, dtype):
    net, x, y, _ = prepared(case, seed, rows, dtype)
    x, y = x.astype(dtype), y.astype(dtype)
    kept = x.copy(), y.copy()
    x.flags.writeable = y.flags.writeable = False
    net.fit(x, y, validation_data=(x, y))
    net.partial_fit(x, y)
    net.loss_and_gradient(x, y)
    net.backward(net.forward(x))
    net.predict(x), net.evaluate(x, y)
    assert same_bits(x, kept[0])
    assert same_bits(y, kept[1])


@given(cases(), seeds, rows, dtypes, st.integers(1, 40))
@examples
def test_training_in_parts_gives_the_bits_of_training_at_once(case, seed, rows, dtype, batch_size):
    (once, x, y, _), (parts, *_) = (prepared(case, seed, rows, dtype) for _ in range(2))
    once.fit(x, y, epochs=3, batch_size=batch_size)
    for epochs in (1, 0, 2):
        parts.fit(x, y, epochs=epochs, batch_size=batch_size)
    assert same_bits(once.parameters, parts.parameters)


@given(cases(), seeds, dtypes)
@examples
def test_a_copy_trains_on_to_the_same_bits_and_leaves_the_original_alone(case, seed, dtype):
    net, x, y, _ = prepared(case, seed, 20, dtype)
    net.fit(x, y)
    before, twin = net.parameters.copy(), net.copy()
    twin.fit(x, y)
    assert same_bits(net.parameters, before)
    net.fit(x, y)
    assert same_bits(net.parameters, twin.parameters)


@given(cases(), seeds, rows, dtypes, st.integers(1, 20), st.sampled_from(["fit", "partial_fit", "evaluate"]))
@examples
def test_a_call_refused_for_one_number_names_it_and_changes_nothing(
    case, seed, rows, dtype, batch_size, call
):
    net, x, y, rng = prepared(case, seed, rows, dtype)
    options = {"batch_size": batch_size} if call == "fit" else {}
    net.fit(x, y)
    twin = net.copy()
    bad, place = x.copy(), (int(rng.integers(rows)), int(rng.integers(x.shape[1])))
    bad[place] = rng.choice([np.nan, np.inf, -np.inf])
    with pytest.raises(ValueError, match=rf"^x\[{place[0]}, {place[1]}\] is "):
        getattr(net, call)(bad, y, **options)
    assert same_bits(net.parameters, twin.parameters)
    assert (net.steps, net.epochs) == (twin.steps, twin.epochs)
    assert net.fit(x, y).loss == twin.fit(x, y).loss
    assert same_bits(net.parameters, twin.parameters)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
@examples
def test_the_numerical_gradient_of_a_plane_is_its_slope(slopes):
    gradient = bp.numerical_gradient(lambda v: float(v @ slopes), np.zeros(len(slopes)))
    assert np.abs(gradient - slopes).max() <= tolerances.CENTRAL_DIFFERENCE * max(1.0, np.abs(slopes).max())
