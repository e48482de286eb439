"""Layers of a user's own: in a network they train, predict, copy and fail like the built-in ones."""

from __future__ import annotations

import copy
import math
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import own
import pytest
import tolerances
from axes import every_dtype, same_bits

import fastbp as bp

WIDTHS = [5, 8, 3]


def built_in(loss="mse", last=(), dtype="float64", optimizer="adam"):
    layers = [bp.Dense(5, 8), bp.Sigmoid(), bp.Dense(8, 3), *last]
    return bp.Network(layers, loss, optimizer, dtype=dtype, seed=4)


def by_hand(loss="mse", last=(), dtype="float64", optimizer="adam"):
    layers = [bp.Dense(5, 8), own.Sigmoid(), bp.Dense(8, 3), *last]
    return bp.Network(layers, loss, optimizer, dtype=dtype, seed=4)


def every_kind(dtype="float64", seed=2, optimizer="adam"):
    """Own layers first, inside and last, with and without parameters, and one that changes the columns."""
    layers = [
        own.Scale(5), bp.Dense(5, 4), own.BothSigns(4), bp.Tanh(), bp.Dense(8, 6), own.LeakyReLU(),
        own.Scale(6), bp.Dense(6, 2), own.Sigmoid(),
    ]  # fmt: skip
    return bp.Network(layers, "bce", optimizer, dtype=dtype, seed=seed)


def data(rows=37, outputs=3):
    rng = np.random.default_rng(1)
    return rng.normal(size=(rows, 5)), rng.integers(0, 2, (rows, outputs)).astype(np.float64)


ENDS = {
    "mse": ("mse", lambda: ()),
    "mae": ("mae", lambda: ()),
    "bce": ("bce", lambda: (bp.Sigmoid(),)),
    "cross_entropy": ("cross_entropy", lambda: (bp.Softmax(),)),
}


@every_dtype
@pytest.mark.parametrize(("loss", "last"), ENDS.values(), ids=ENDS)
def test_the_sigmoid_of_the_text_book_trains_like_the_built_in_one(loss, last, dtype):
    x, y = data()
    y = np.eye(3)[np.arange(37) % 3] if loss == "cross_entropy" else y
    ours, theirs = built_in(loss, last(), dtype), by_hand(loss, last(), dtype)
    value, gradient = ours.loss_and_gradient(x, y)
    again, slopes = theirs.loss_and_gradient(x, y)
    assert abs(again - value) <= tolerances.chain(WIDTHS, 37, value, dtype)
    assert np.abs(slopes - gradient).max() <= tolerances.chain(WIDTHS, 37, np.abs(gradient).max(), dtype)
    histories = [net.fit(x, y, epochs=3, batch_size=8, validation_data=(x, y)) for net in (ours, theirs)]
    bound = tolerances.training(WIDTHS, 8, 15, max(np.abs(ours.parameters).max(), value), dtype)
    assert np.abs(theirs.parameters - ours.parameters).max() <= bound
    for first, second in zip(*(history.last().values() for history in histories), strict=True):
        assert abs(first - second) <= bound
    assert np.abs(theirs.predict(x) - ours.predict(x)).max() <= bound


def test_a_stable_pair_stays_stable_behind_an_own_layer():
    for loss, last in (("bce", bp.Sigmoid()), ("cross_entropy", bp.Softmax())):
        net = by_hand(loss, (last,), "float32")
        net.layers[2].bias[:] = [1e4, -1e4, 0.0]
        value, gradient = net.loss_and_gradient(np.zeros((4, 5)), np.eye(3)[[1, 1, 2, 2]])
        assert 1e3 < value < 1e5
        assert np.isfinite(gradient).all()
        assert math.isclose(net.evaluate(np.zeros((4, 5)), np.eye(3)[[1, 1, 2, 2]])["loss"], value)


def test_labels_are_taken_behind_an_own_layer_and_by_an_own_last_layer():
    class Softmax(bp.Softmax):
        def forward(self, x):
            return super().forward(x)

    x, labels = data()[0], np.arange(37) % 3
    for last in (bp.Softmax(), Softmax()):
        net = by_hand("cross_entropy", (last,))
        first = net.loss_and_gradient(x, labels)
        second = net.loss_and_gradient(x, np.eye(3)[labels])
        assert first[0] == second[0]
        assert same_bits(first[1], second[1])
        assert set(net.evaluate(x, labels)) == {"loss", "accuracy"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kind_of_own_layer_has_the_numerical_gradient_and_learns(dtype):
    net = every_kind(dtype)
    x, y = data(60, 2)
    result = bp.check_gradients(net, x[:8], y[:8])
    assert result.passed, str(result)
    history = net.fit(x, y, epochs=40, batch_size=8)
    assert history.loss[-1] < history.loss[0]
    assert net.parameters.size == 10 + 24 + 54 + 12 + 14
    assert all(np.shares_memory(array, net.parameters) for array in net.layers[0].parameters.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fit_keeps_its_promises(monkeypatch, dtype):
    """Bits: any number of threads, two fits as one, copies, pickles and deep copies as the network itself."""
    monkeypatch.setattr("fastbp._native.FLOPS_PER_THREAD", 8)  # else it would run on one
    x, y = data(37, 2)
    whole = every_kind(dtype)
    wanted = whole.fit(x, y, epochs=4, batch_size=8, threads=1).loss
    for make in (bp.Network.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))):
        parts = every_kind(dtype)
        first = parts.fit(x, y, epochs=1, batch_size=8, threads=3).loss
        other = make(parts)
        assert first + other.fit(x, y, epochs=3, batch_size=8, threads=2).loss == wanted
        assert same_bits(other.parameters, whole.parameters)
    parts.reset()
    assert same_bits(parts.parameters, every_kind(dtype).parameters)
    assert not same_bits(parts.parameters, every_kind(dtype, seed=3).parameters)


def test_the_layout_of_the_data_changes_nothing():
    x, y = data(37, 2)
    x = np.round(4 * x)
    first, second = every_kind(), every_kind()
    first.fit(x, y, batch_size=8)
    second.fit(np.asfortranarray(x.astype(">i2")), y.astype(bool).tolist(), batch_size=8)
    assert same_bits(first.parameters, second.parameters)
    assert same_bits(first.predict(x), second.predict(x[::-1])[::-1])


def test_a_copy_shares_nothing_that_a_layer_remembers():
    class Counting(own.Sigmoid):
        def __init__(self):
            self.seen = []

        def forward(self, x):
            self.seen.append(len(x))
            return super().forward(x)

    layer = Counting()
    net = bp.Network([bp.Dense(5, 2), layer])
    net.forward(np.ones((3, 5)))
    twin = net.copy()
    twin.forward(np.ones((4, 5)))
    assert layer.seen == [3]
    assert twin.layers[1].seen == [3, 4]


# Layer by layer


def test_forward_and_backward_go_through_them_and_a_predict_in_between_disturbs_nothing():
    net, exact = every_kind(), every_kind()
    x, _ = data(9, 2)
    dy = np.random.default_rng(0).normal(size=(9, 2))
    output = net.forward(x)
    exact.forward(x)
    assert same_bits(net.predict(x), output)
    net.predict(2.0 * x[:4])
    net.evaluate(x[:5], np.ones((5, 2)))
    dx = net.backward(dy)
    assert same_bits(dx, exact.backward(dy))
    assert same_bits(net.gradients, exact.gradients)

    def summed(moved):
        return float(np.vdot(net.forward(moved), dy))

    numerical = bp.numerical_gradient(summed, x)
    assert np.abs(dx - numerical).max() <= tolerances.CENTRAL_DIFFERENCE * max(1.0, np.abs(dy).sum())


def test_nothing_is_written_to_what_the_caller_gives_or_gets():
    layers = [own.BothSigns(5), bp.Dense(10, 2), own.BothSigns(2), own.Sigmoid()]
    net = bp.Network(layers, dtype="float64")
    x, dy = data()[0], np.ones((37, 4))
    kept = x.copy(), dy.copy()
    output = net.forward(x)
    output[:] = 7.0  # the layer keeps its own
    dx = net.backward(dy)
    net.predict(x)
    net.fit(x, dy)
    assert same_bits(x, kept[0])
    assert same_bits(dy, kept[1])
    net.reset()
    net.forward(x)
    assert same_bits(net.backward(dy), dx)


def test_backward_needs_a_forward_of_the_caller():
    net, (x, y) = every_kind(), data(9, 2)
    with pytest.raises(ValueError, match="needs a forward before it"):
        net.backward(y)
    net.forward(x)
    with pytest.raises(ValueError, match=r"dy has shape \(8, 2\), but forward gave \(9, 2\)"):
        net.backward(y[:8])
    for call in (net.fit, net.partial_fit, net.loss_and_gradient):
        net.forward(x)
        call(x, y)
        with pytest.raises(ValueError, match=r"a forward of the whole network before it, none since"):
            net.backward(y)


def test_one_works_alone_with_its_own_parameters():
    layer = own.Scale(3)
    assert {name: array.shape for name, array in layer.parameters.items()} == {"scale": (3,), "shift": (3,)}
    layer.parameters["scale"][:] = [1.0, 2.0, 3.0]
    assert layer.forward(np.array([[1.0, 1.0, -1.0]])).tolist() == [[1.0, 2.0, -3.0]]
    assert layer.backward(np.ones((1, 3))).tolist() == [[1.0, 2.0, 3.0]]
    assert layer.gradients["scale"].tolist() == [1.0, 1.0, -1.0]


def test_the_summary_and_repr_name_them():
    text = every_kind().summary()
    assert "0  Scale()" in text
    assert re.search(r"^2  BothSigns\(\) +8 +0$", text, re.M)
    assert re.search(r"^total +114$", text, re.M)


# A subclass of a built-in layer


def test_a_subclass_that_changes_a_pass_is_honoured_and_one_that_does_not_runs_in_the_core():
    class Named(bp.ReLU):
        def describe(self):
            return "mine"

    class Doubled(bp.Dense):
        def forward(self, x, threads=None):
            return 2.0 * super().forward(x, threads)

        def backward(self, dy, threads=None):
            return super().backward(2.0 * dy, threads)

    x, y = data(9, 2)

    def net(dense, activation):
        return bp.Network([dense(5, 4), activation(), bp.Dense(4, 2)], dtype="float64", seed=3)

    plain, named, leaky, doubled = (
        net(bp.Dense, bp.ReLU),
        net(bp.Dense, Named),
        net(bp.Dense, own.LeakyReLU),
        net(Doubled, bp.ReLU),
    )
    assert same_bits(plain.loss_and_gradient(x, y)[1], named.loss_and_gradient(x, y)[1])
    assert same_bits(plain.parameters, leaky.parameters)  # drawn by He: it still is a ReLU
    for other in (leaky, doubled):
        assert not same_bits(plain.predict(x), other.predict(x))
        assert bp.check_gradients(other, x, y).passed


def test_the_graph_of_a_network_takes_a_changed_pass_too():
    x, y = data(9, 2)
    net = bp.Network([bp.Dense(5, 4), own.LeakyReLU(), bp.Dense(4, 2)], dtype="float64", seed=3)
    value, _ = net.loss_and_gradient(x, y)
    drawn = net.graph(x, y)
    assert abs(float(drawn["L"].value) - value) <= tolerances.chain([5, 4, 2], 9, value, np.float64)
    slopes = net.layers[0].gradients["weight"]
    bound = tolerances.chain([5, 4, 2], 9, np.abs(slopes).max(), np.float64)
    assert np.abs(drawn["W1"].grad - slopes).max() <= bound


def test_a_pass_put_on_the_object_is_honoured():
    layer = bp.Identity()
    layer.forward = lambda x: 3.0 * x
    layer.backward = lambda dy: 3.0 * dy
    net = bp.Network([bp.Dense(5, 2), layer])
    plain = bp.Network([bp.Dense(5, 2)])
    assert same_bits(net.predict(np.ones((1, 5))), np.float32(3.0) * plain.predict(np.ones((1, 5))))


# When it goes wrong


class Given(bp.Layer):
    """Gives whatever it was made with."""

    def __init__(self, forward=None, backward=None):
        self.answers = forward, backward

    def __repr__(self):
        return "Given()"

    def forward(self, x):
        return x if self.answers[0] is None else self.answers[0](x)

    def backward(self, dy):
        return dy if self.answers[1] is None else self.answers[1](dy)


@pytest.mark.parametrize("layers", [[own.Scale(2), bp.Dense(2, 1)], [bp.Dense(2, 1)]], ids=["own", "native"])
def test_a_number_that_counts_as_zero_is_no_error_where_numpy_raises_at_everything(layers):
    net = bp.Network(layers)
    x, y = np.array([[1.0, 1e-46], [0.5, 1.0]]), [1.0, 2.0]
    with np.errstate(all="raise"):
        net.fit(x, y)
        net.partial_fit(x, y)
        net.evaluate(x, y)
        assert same_bits(net.forward(x), net.predict(x))
        net.backward([[1.0], [1e-46]])


def test_a_slope_that_is_not_finite_changes_nothing():
    def steep(output, target):  # 0 at 0, where its slope is infinite
        return ((output - output) ** 0.5).mean()

    net = bp.Network([bp.Dense(2, 1)], loss=steep)
    before = net.parameters.copy()
    for call in (net.partial_fit, net.loss_and_gradient, net.fit):
        with pytest.raises(FloatingPointError, match="nan"):
            call(np.ones((3, 2)), np.ones(3))
    assert same_bits(net.parameters, before)


@pytest.mark.parametrize("method", ["forward", "backward"])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda a: a[:, :1], r"gave shape \(9, 1\), expected \(9, 4\)"),
        (lambda a: a[1:], r"gave shape \(8, 4\)"),
        (lambda a: a.ravel(), r"gave shape \(36,\)"),
        (lambda a: None, "gave is None, expected real numbers"),
        (lambda a: a * 1j, "gave has dtype complex"),
    ],
)
def test_what_a_layer_gives_is_looked_at_and_the_error_names_it(method, answer, message):
    net = bp.Network([bp.Dense(5, 4), Given(**{method: answer}), bp.Dense(4, 2)], dtype="float64")
    x, y = data(9, 2)
    start = net.parameters.copy()
    with pytest.raises(ValueError, match=rf"Given\(\).{method} {message}"):
        net.fit(x, y)
    if method == "forward":
        with pytest.raises(ValueError, match=rf"Given\(\).{method} {message}"):
            net.predict(x)
    assert same_bits(net.parameters, start)
    assert net.steps == 0


def test_another_precision_is_converted():
    net = bp.Network([bp.Dense(5, 4), Given(lambda x: x.astype(np.float16)), bp.Dense(4, 2)])
    assert net.forward(np.ones((2, 5))).dtype == np.float32


def test_an_output_that_is_not_finite_is_a_loss_that_is_not():
    """ReLU behind it would hide the infinity."""
    calls = []

    def breaking(x):
        calls.append(1)
        return np.full_like(x, -math.inf) if len(calls) > 3 else x

    layers = [bp.Dense(5, 4), Given(breaking), bp.ReLU(), bp.Dense(4, 2)]
    net, (x, y) = bp.Network(layers, dtype="float64"), data(64, 2)
    start = net.parameters.copy()
    with pytest.raises(FloatingPointError, match="the loss became nan at batch 4 of 8"):
        net.fit(x, y, batch_size=8)
    assert same_bits(net.parameters, start)


def test_outputs_that_are_no_probabilities_are_refused():
    net, (x, y) = bp.Network([bp.Dense(5, 2), Given()], "bce"), data(9, 2)
    with pytest.raises(ValueError, match=r"^output.* expected numbers from 0 to 1"):
        net.loss_and_gradient(x, y)


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("call", ["fit", "partial_fit", "loss_and_gradient", "evaluate"])
def test_data_that_are_not_finite_are_refused_by_name_and_change_nothing(name, call):
    given = dict(zip("xy", data(), strict=True))
    net = by_hand()
    start = net.parameters.copy()
    given[name][30, 1] = math.inf
    with pytest.raises(ValueError, match=rf"^{name}\[30, 1\] is inf"):
        getattr(net, call)(**given)
    assert same_bits(net.parameters, start)
    with pytest.raises(ValueError, match=r"^x\[30, 1\] is inf"):
        net.predict(np.where(np.arange(37 * 5).reshape(37, 5) == 30 * 5 + 1, math.inf, 0.0))


def lopsided(shapes):
    class Lopsided(bp.Layer):
        in_features = 2

        def __init__(self):
            self.answers = iter(shapes)

        def initial_parameters(self, rng):
            return next(self.answers)

        def forward(self, x):
            return x

        backward = forward

    return Lopsided


class NoBackward(bp.Layer):
    def forward(self, x):
        return x


class Widening(own.Sigmoid):
    out_features = 7


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (lambda: [bp.Dense(2, 1), NoBackward()], TypeError, r"layers\[1\].*defines no backward"),
        (lambda: [own.Sigmoid()], ValueError, "at least one Dense, or other with in_features"),
        (lambda: [own.BothSigns(2)], ValueError, "at least one with parameters, such as Dense"),
        (lambda: [Widening(), bp.Dense(7, 1)], ValueError, "Widening.* has out_features but no"),
        (lambda: [bp.Dense(2, 3), own.Scale(4)], ValueError, "Scale.* takes 4 .*Dense.* gives 3"),
        (lambda: [own.BothSigns(2), bp.Dense(2, 1)], ValueError, r"takes 2 features.*BothSigns\(\) gives 4"),
        (lambda: [own.Scale(0)], ValueError, r"^layers\[0\].in_features is 0"),
        (lambda: [own.Scale("two")], TypeError, r"^layers\[0\].in_features is 'two'"),
        (lambda: [lopsided([3, 3])()], TypeError, "initial_parameters gave an int, expected a dict"),
        (lambda: [lopsided([{"w": 1j}] * 9)()], ValueError, r"initial_parameters\['w'\] is 1j, expected"),
        (lambda: [lopsided([{"w": [1.0]}] * 3 + [{"w": [1.0, 2.0]}])()], ValueError, "w was drawn with"),
        (lambda: [lopsided([{"w": [1.0]}] * 3 + [{"v": [1.0]}])()], ValueError, r"drew \['v'\], expected"),
        (lambda: [lopsided([{"w": [math.nan]}] * 9)()], ValueError, r"^w\[0\] is nan"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_network_is_refused(layers, error, message):
    with pytest.raises(error, match=message):
        bp.Network(layers())


def test_an_error_of_its_own_leaves_the_steps_before_it():
    calls = []

    def failing(dy):
        calls.append(1)
        if len(calls) == 6:
            raise KeyError("mine")
        return dy

    net = bp.Network([bp.Dense(5, 4), Given(backward=failing), bp.Dense(4, 2)])
    x, y = data(32, 2)
    with pytest.raises(KeyError, match="mine"):
        net.fit(x, y, epochs=3, batch_size=8)
    assert (net.steps, net.epochs, len(net.history.loss)) == (5, 1, 1)
    net.fit(x, y, batch_size=8)
    assert net.steps == 9


def test_save_refuses_it_and_says_how_to_go_on(tmp_path):
    with pytest.raises(
        TypeError, match=r"layers\[1\] is a Sigmoid, which a file cannot hold: save net.param"
    ):
        by_hand().save(tmp_path / "net.npz")
    assert not list(tmp_path.iterdir())


def test_many_threads_may_predict_with_it_at_once():
    net, x = every_kind(), data(300, 2)[0]
    wanted = [net.predict(x[:rows]) for rows in range(1, 40)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda rows: net.predict(x[:rows]), range(1, 40)))
    assert all(map(same_bits, got, wanted))


def test_a_reset_that_fails_leaves_the_network_as_it_was():
    class Moody(own.Scale):
        def initial_parameters(self, rng):
            drawn = super().initial_parameters(rng)
            return {name: array * self.factor for name, array in drawn.items()}

    layer = Moody(3)
    layer.factor = 1.0
    net = bp.Network([bp.Dense(2, 3), layer])
    net.partial_fit(np.ones((2, 2)), np.ones((2, 3)))
    before = net.parameters.copy()
    layer.factor = math.nan
    with pytest.raises(ValueError, match="scale"):
        net.reset(5)
    assert same_bits(net.parameters, before)
    assert (net.steps, net.seed) == (1, 0)


def test_a_dense_layer_says_that_it_draws_by_initializers():
    class Drawn(bp.Dense):
        def initial_parameters(self, rng):
            return {}

    with pytest.raises(TypeError, match="weight= and bias="):
        bp.Network([Drawn(2, 3)])
