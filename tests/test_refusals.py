"""Calls that cannot be: each is refused by name, says what was expected, and changes nothing."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from axes import same_bits
from cases import CASES

import fastbp as bp
from fastbp import _check

ROWS = 6
X, Y = np.random.default_rng(0).normal(size=(2, ROWS, 4))


def spoilt(values, value):
    values = values.copy()
    values[2, 1] = value
    return values


class Unwilling:
    """Another library's array that cannot become one of NumPy's now."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it needs its gradient")


# Arguments that each of these calls takes: value, error, what the message says after the name.
DATA = {
    "columns": (np.zeros((ROWS, 5)), ValueError, "5 columns|shape .6, 5."),
    "rank_0": (3.0, ValueError, "0 dimensions"),
    "rank_1": (np.zeros(4), ValueError, "1 dimension|4 rows"),
    "rank_3": (np.zeros((ROWS, 4, 1)), ValueError, "3 dimensions"),
    "no_rows": (np.zeros((0, 4)), ValueError, "no rows|0 rows"),
    "nothing": ([], ValueError, "1 dimension|0 rows"),
    "none": (None, ValueError, "is None, expected real numbers"),
    "dict": ({"a": 1.0}, ValueError, r"is \{'a': 1.0\}, expected real numbers"),
    "generator": ((row for row in X), ValueError, "is <generator"),
    "nan": (spoilt(X, math.nan), ValueError, r"\[2, 1\] is nan"),
    "inf": (spoilt(X, math.inf), ValueError, r"\[2, 1\] is inf"),
    "minus_inf": (spoilt(X, -math.inf), ValueError, r"\[2, 1\] is -inf"),
    "overflow": (spoilt(X, 1e39), ValueError, r"\[2, 1\] is 1e\+39, which float32 cannot hold"),
    "text": ([["a", "b", "c", "d"]] * ROWS, ValueError, "dtype <U1"),
    "objects": (X.astype(object), ValueError, "dtype object, .*asarray"),
    "complex": (X.astype(complex), ValueError, "dtype complex128"),
    "dates": (X.astype("M8[s]"), ValueError, "dtype datetime64"),
    "ragged": ([[1.0, 2.0], [1.0]], ValueError, "cannot be made an array"),
    "masked": (np.ma.masked_array(X, X > 0), ValueError, "masked"),
    "unwilling": (Unwilling(), ValueError, "cannot be made an array.*gradient"),
    "enormous_numbers": ([[10**400] * 4] * ROWS, ValueError, "dtype object"),
}
THREADS = {
    "zero": (0, ValueError, "is 0, expected at least 1"),
    "negative": (-1, ValueError, "is -1"),
    "fraction": (1.5, TypeError, "is 1.5"),
    "bool": (True, TypeError, "is True"),
    "text": ("2", TypeError, "is '2'"),
}
COUNT = {
    "negative": (-1, ValueError, "is -1"),
    "fraction": (1.5, TypeError, "is 1.5"),
    "bool": (True, TypeError, "is True"),
    "text": ("2", TypeError, "is '2'"),
    "none": (None, TypeError, "is None"),
    "nan": (math.nan, TypeError, "is nan"),
    "array": (np.array([1, 2]), TypeError, r"is array\(\[1, 2\]\)"),
}
TRUTH = {
    "text": ("yes", TypeError, "is 'yes'.*True or False"),
    "number": (1, TypeError, "is 1.*True or False"),
}
PAIR = {
    "text": ("xy", TypeError, "a str, expected a pair"),
    "array": (np.zeros((2, 4)), TypeError, "a ndarray, expected a pair"),
    "number": (3, TypeError, "an int, expected a pair"),
    "single": ((X,), ValueError, "1 entry, expected a pair"),
    "triple": ([X, Y, Y], ValueError, "3 entries, expected a pair"),
    "rows": ((X, Y[:5]), ValueError, r"\[1\] has 5 rows, but validation_data\[0\] has 6"),
    "columns": ((np.zeros((ROWS, 5)), Y), ValueError, r"\[0\] has 5 columns"),
    "nan": ((spoilt(X, math.nan), Y), ValueError, r"\[0\]\[2, 1\] is nan"),
    "inf": ((X, spoilt(Y, math.inf)), ValueError, r"\[1\]\[2, 1\] is inf"),
}
ARGUMENTS = {
    "fit": {
        "x": DATA, "y": DATA, "epochs": COUNT, "batch_size": COUNT | {"zero": (0, ValueError, "is 0")},
        "shuffle": TRUTH | {"none": (None, TypeError, "is None")}, "verbose": TRUTH, "threads": THREADS,
        "validation_data": PAIR,
    },
    "partial_fit": {"x": DATA, "y": DATA, "threads": THREADS},
    "loss_and_gradient": {"x": DATA, "y": DATA, "threads": THREADS},
    "evaluate": {"x": DATA, "y": DATA, "threads": THREADS},
    "predict": {"x": DATA, "threads": THREADS},
    "forward": {"x": DATA, "threads": THREADS},
    "backward": {
        "dy": {
            **{name: DATA[name] for name in ("nan", "inf", "overflow", "text", "objects", "complex")},
            "columns": (np.zeros((ROWS, 5)), ValueError, r"shape \(6, 5\), but forward gave \(6, 4\)"),
            "rows": (np.zeros((5, 4)), ValueError, r"shape \(5, 4\), but forward gave \(6, 4\)"),
            "rank_1": (np.zeros(4), ValueError, r"shape \(4,\)"),
        },
        "threads": THREADS,
    },
    "reset": {"seed": COUNT | {"large": (2**63, ValueError, "less than 2")}},
    "copy": {"dtype": {"half": ("float16", ValueError, "is 'float16'"), "number": (3, ValueError, "is 3")}},
}  # fmt: skip
GOOD = {"x": X, "y": Y, "dy": Y}
TAKEN = {"backward": ("dy",), "predict": ("x",), "forward": ("x",), "reset": (), "copy": ()}
REFUSED = [
    (call, argument, kind)
    for call, arguments in ARGUMENTS.items()
    for argument, kinds in arguments.items()
    for kind in kinds
    if not (call == "reset" and kind == "none")  # the present seed
]


def trained():
    net = CASES["tanh"].network("float32")
    net.fit(X, Y, epochs=2, batch_size=4)
    net.forward(X)
    return net


def numbers(net):
    state = net.__getstate__()
    return (
        state["parameters"].tobytes(), state["state"].tobytes(), state["counts"], state["seed"],
        net.gradients.tobytes(), net.history, repr(net),
    )  # fmt: skip


@pytest.mark.parametrize(("call", "argument", "kind"), REFUSED)
def test_a_bad_argument_is_refused_by_name_and_nothing_has_changed(call, argument, kind):
    net, twin = trained(), trained()
    value, error, message = ARGUMENTS[call][argument][kind]
    good = {name: GOOD[name] for name in TAKEN.get(call, ("x", "y"))}
    before = numbers(net)
    with pytest.raises(error) as caught:
        getattr(net, call)(**good | {argument: value})
    said = str(caught.value)
    assert re.match(rf"{argument}\b", said) or re.search(rf"\b{argument} ", said), said
    assert re.search(message, said), said
    assert numbers(net) == before
    assert same_bits(net.backward(Y), twin.backward(Y))  # the forward before it counts still
    assert net.fit(X, Y, epochs=2, batch_size=4).loss == twin.fit(X, Y, epochs=2, batch_size=4).loss
    assert same_bits(net.parameters, twin.parameters)


@pytest.mark.parametrize("call", [*ARGUMENTS, "summary", "save"])
def test_an_unknown_keyword_is_refused_by_name(call):
    net = trained()
    before = numbers(net)
    with pytest.raises(TypeError, match="colour"):
        getattr(net, call)(colour="red")
    assert numbers(net) == before


@pytest.mark.parametrize(
    ("case", "y", "message"),
    [
        ("digits", [0, 1, 10], r"^y\[2\] is 10, expected a label"),
        ("digits", [0, -1, 1], r"^y\[1\] is -1"),
        ("digits", [0.0, 1.5, 1.0], r"^y\[1\] is 1.5"),
        ("digits", [0.0, math.nan, 1.0], r"^y\[1\] is nan"),
        ("digits", np.array([0, 2**63, 1], np.uint64), r"^y\[1\] is 9223372036854775808"),
        ("digits", np.array([0.0, math.inf, 1.0], np.float16), r"^y\[1\] is inf"),
        ("digits", np.full((3, 10), 0.2), "^row 0 of y sums to 2"),
        ("binary", [0.0, math.nan, 1.0], r"^y\[1\] is nan"),
        ("binary", [0.0, 1.0, 1.25], r"^y\[2\] is 1.25"),
        ("multilabel", np.full((3, 3), -0.5, ">f4"), r"^y\[0, 0\] is -0.5"),
    ],
)
@pytest.mark.parametrize("call", ["fit", "partial_fit", "loss_and_gradient", "evaluate"])
def test_targets_that_do_not_belong_to_the_loss_change_nothing(case, y, message, call):
    net = CASES[case].network("float32")
    before = numbers(net)
    with pytest.raises(ValueError, match=message):
        getattr(net, call)(np.zeros((3, CASES[case].widths[0])), y)
    assert numbers(net) == before


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (math.nan, ValueError, r"lr\(2\) is nan"),
        (-0.1, ValueError, r"lr\(2\) is -0.1"),
        (math.inf, ValueError, r"lr\(2\) is inf"),
        ("fast", TypeError, r"lr\(2\) is 'fast'"),
        (None, TypeError, r"lr\(2\) is None"),
    ],
)
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_a_function_lr_that_gives_no_rate_changes_nothing(answer, error, message, call):
    answers = {2: answer}
    net = bp.Network([bp.Dense(4, 4)], optimizer=bp.Adam(lr=lambda epoch: answers.get(epoch, 0.1)))
    net.fit(X, Y, epochs=2)
    before = numbers(net)
    with pytest.raises(error, match=message):
        getattr(net, call)(X, Y)
    assert numbers(net) == before
    assert math.isfinite(net.loss_and_gradient(X, Y)[0])  # which takes no step
    answers.clear()
    assert math.isfinite(net.fit(X, Y).loss[0])


def test_a_function_lr_that_fails_later_leaves_the_epochs_before_it():
    def rate(epoch):
        if epoch == 3:
            raise KeyError("no rate for this epoch")
        return 0.1

    net, twin = (bp.Network([bp.Dense(4, 4)], optimizer=bp.SGD(lr=lr)) for lr in (rate, 0.1))
    with pytest.raises(KeyError, match="no rate"):
        net.fit(X, Y, epochs=10)
    assert net.history.loss == twin.fit(X, Y, epochs=3).loss
    assert (net.steps, net.epochs) == (twin.steps, twin.epochs)
    assert same_bits(net.parameters, twin.parameters)


# Building

ENORMOUS = 10**6


class Strange(bp.Layer):
    name = "strange"


class StrangeLoss(bp.Loss):
    pass


class StrangeOptimizer(bp.Optimizer):
    name = "strange"


class BadStart(bp.Initializer):
    def __init__(self, drawn):
        self.drawn = drawn

    def draw(self, rng, fan_in, fan_out, shape):
        return np.full(self.drawn, math.nan) if self.drawn == shape else np.zeros(self.drawn)


def one_layer(**starts):
    return bp.Network([bp.Dense(2, 1, **starts)])


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: bp.Network(None), TypeError, "^layers is None, expected a list of layers"),
        (lambda: bp.Network(bp.Dense), TypeError, "^layers is <class .*Dense.*expected a list"),
        (lambda: bp.Network(bp.Dense(2, 1)), TypeError, r"^layers is Dense\(2, 1\), expected a list"),
        (lambda: bp.Network("dense"), TypeError, "^layers is 'dense', expected a list"),
        (lambda: bp.Network([bp.Dense]), TypeError, r"^layers\[0\] is the class Dense, expected an object"),
        (lambda: bp.Network([bp.Dense(2, 1), None]), TypeError, r"^layers\[1\] is None"),
        (lambda: bp.Network([Strange(), bp.Dense(2, 1)]), TypeError, r"^layers\[0\] is Strange\(\).*relu"),
        (lambda: bp.Network([bp.Layer(), bp.Dense(2, 1)]), TypeError, r"^layers\[0\] is Layer\(\)"),
        (lambda: bp.Network([bp.Dense(2, 1)], loss=StrangeLoss()), TypeError, "^loss is Strange.*mse"),
        (lambda: bp.Network([bp.Dense(2, 1)], optimizer=StrangeOptimizer()), TypeError, "^optimizer .*sgd"),
        (lambda: bp.Network([bp.Dense(2, 1)], loss=None), TypeError, "^loss is None, expected one of 'mse'"),
        (lambda: bp.Network([bp.Dense(2, 1)], dtype=None), ValueError, "^dtype is None"),
        (lambda: bp.Network([bp.Dense(2, 1)], seed=1.5), TypeError, "^seed is 1.5"),
        (lambda: bp.Network([bp.Dense(2, 1)], loss="bce"), ValueError, "^loss .*Sigmoid.*'dense'"),
        (lambda: bp.Network([bp.Dense(2, 3), bp.Dense(4, 1)]), ValueError, r"^layers\[1\].* 4 .* 3$"),
        (lambda: bp.mlp(5), TypeError, "^sizes is 5, expected at least 2 sizes"),
        (lambda: bp.mlp([5]), ValueError, r"^sizes is \[5\], expected at least 2 sizes"),
        (lambda: bp.mlp([]), ValueError, r"^sizes is \[\]"),
        (lambda: bp.mlp("abc"), TypeError, "^sizes is 'abc'"),
        (lambda: bp.mlp([2, "3"]), TypeError, r"^sizes\[1\] is '3'"),
        (lambda: bp.mlp([2, 0, 1]), ValueError, r"^sizes\[1\] is 0"),
        (lambda: bp.mlp([2, 1], activation=None), TypeError, "^activation is None.*'relu'"),
        (lambda: bp.mlp([2, 1], output=bp.Softmax()), TypeError, r"^output is Softmax\(\).*'softmax'"),
        (lambda: bp.mlp([2, 1], output=np.zeros(3)), TypeError, "^output is array"),
        (lambda: bp.Dense(2**40, 2**40), ValueError, "^in_features x out_features is 1099511627776 x"),
        (lambda: bp.Dense(10**300, 1), ValueError, r"^in_features x out_features is 10+\.\.\. x 1, expected"),
        (lambda: bp.Dense(10**5000, 1), ValueError, "^in_features x out_features is an enormous int x 1"),
        (lambda: one_layer(weight=BadStart((3,))), ValueError, r"^weight .*\(3,\), expected \(2, 1\)"),
        (lambda: one_layer(bias=BadStart((1,))), ValueError, r"^bias\[0\] is nan"),
        (lambda: one_layer(weight=bp.Normal(1e300)), ValueError, r"^weight\[0, 0\].*float32 cannot hold"),
        (lambda: bp.Network([bp.Dense(2, 1)], optimizer=3), TypeError, "^optimizer is 3.* or an Optimizer$"),
        (lambda: bp.Dense(2, 1, weight=3), TypeError, "^weight is 3.* or an Initializer$"),
        (lambda: bp.Network([bp.Dense(2, 1)], loss=abs), TypeError, "^loss is <.* abs>.*output and target"),
        (lambda: bp.SGD(lr=lambda: 0.1), TypeError, "^lr is <function .* of the epoch: too many"),
        (lambda: bp.Adam(lr=lambda epoch, step: 0.1), TypeError, "^lr is <func.*epoch: missing .*'step'"),
        (lambda: bp.SGD(momentum=math.nan), ValueError, "^momentum is nan"),
        (lambda: bp.SGD(momentum=0.5, nesterov="yes"), TypeError, "^nesterov is 'yes'"),
        (lambda: bp.SGD(lr=10**400), ValueError, "^lr is 1000"),
        (lambda: bp.SGD(lr=True), TypeError, "^lr is True"),
        (lambda: bp.SGD(lr=1j), TypeError, "^lr is 1j"),
        (lambda: bp.SGD(lr=np.array([0.1])), TypeError, "^lr is array"),
        (lambda: bp.Adam(beta2=math.nan), ValueError, "^beta2 is nan"),
        (lambda: bp.MeanSquaredError(None), TypeError, "^reduction is None.*'mean'"),
        (lambda: bp.Uniform(-1e308, 1e308), ValueError, "^low is .* finite difference"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_by_name(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("options", [{}, {"dtype": "float64"}, {"optimizer": "sgd"}])
def test_a_network_larger_than_the_machine_is_refused_before_anything_is_allocated(options):
    with pytest.raises(MemoryError, match=r"1,000,001,000,000 parameters.* GB, but the machine has"):
        bp.Network(bp.mlp([ENORMOUS, ENORMOUS]), **options)
    with pytest.raises(MemoryError, match=r"Dense\(1000000, 1000000\).* GB, but the machine has"):
        bp.Dense(ENORMOUS, ENORMOUS).weight.fill(0.0)
    deep = [bp.Dense(2**29 - 1, 2**29 - 1) for _ in range(40)]  # their sum is beyond int64
    with pytest.raises(MemoryError, match="parameters"):
        bp.Network(deep)


def test_a_batch_larger_than_the_machine_is_refused_before_anything_is_allocated(monkeypatch):
    net = CASES["digits"].network("float32")
    before = numbers(net)
    monkeypatch.setattr(_check, "_machine_memory", lambda: 1 << 20)
    x, y = CASES["digits"].data(np.random.default_rng(0), 1000)
    for call in (lambda: net.fit(x, y, batch_size=1000), lambda: net.partial_fit(x, y)):
        with pytest.raises(MemoryError, match=r"a batch of 1000 rows needs .* GB"):
            call()
        assert numbers(net) == before
    assert math.isfinite(net.fit(x, y, batch_size=16).loss[0])


def test_layers_of_a_network_that_could_not_be_built_may_be_used_again():
    layers = [bp.Dense(2, 3), bp.ReLU(), bp.Dense(3, 1, bias=BadStart((1,)))]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^bias"):
            bp.Network(layers)
    assert bp.Network(layers[:2]).predict([[0.0, 0.0]]).shape == (1, 3)


@pytest.mark.parametrize("path", [None, 3, ["m.npz"]])
@pytest.mark.parametrize(
    "call", [trained().save, bp.Network.load, trained().graph(X, Y).draw, trained().gradient_norms(X, Y).draw]
)
def test_what_is_no_name_of_a_file_is_refused(call, path):
    with pytest.raises(TypeError, match=r"^path is .*, expected a file's name"):
        call(path)


def test_numbers_of_every_real_kind_are_settings():
    whole = bp.SGD(lr=1, momentum=Fraction(1, 2))
    assert whole.settings(0) == {"lr": 1.0, "momentum": 0.5, "nesterov": False}
    for lr in (np.float32(0.25), Fraction(1, 4), np.float64(0.25)):
        net = bp.Network([bp.Dense(4, 4)], optimizer=bp.SGD(lr=lr))
        twin = bp.Network([bp.Dense(4, 4)], optimizer=bp.SGD(lr=0.25))
        net.fit(X, Y, epochs=np.int64(2), batch_size=np.uint8(4), shuffle=np.True_)
        twin.fit(X, Y, epochs=2, batch_size=4)
        assert same_bits(net.parameters, twin.parameters)


def test_a_message_is_not_as_long_as_what_came():
    for call in (
        lambda: bp.Dense([0] * 10**6, 1),
        lambda: bp.SGD(lr=10**4000),
        lambda: bp.Dense(-(10**5000), 1),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert len(str(caught.value)) < 300


class Halting(bp.Layer):
    halts = False

    def forward(self, x):
        if self.halts:
            raise KeyError("halted")
        return x

    def backward(self, dy):
        return dy


def fail_on_the_way(net):
    net.layers[1].halts = True
    with pytest.raises(KeyError, match="halted"):
        net.forward(-X)


@pytest.mark.parametrize("rows", [3, ROWS])
@pytest.mark.parametrize(
    ("build", "happens"),
    [
        (trained, lambda net, rows: net.layers[2].forward(np.zeros((rows, 32)))),
        (trained, lambda net, rows: net.layers[0].forward(np.zeros((rows, 4)))),
        (trained, lambda net, rows: net.fit(X[:rows], Y[:rows])),
        (trained, lambda net, rows: net.partial_fit(X[:rows], Y[:rows])),
        (lambda: bp.Network([bp.Dense(4, 4), Halting()]), lambda net, rows: fail_on_the_way(net)),
    ],
    ids=["a layer alone", "the first alone", "fit", "partial_fit", "failed"],
)
def test_backward_of_a_forward_that_something_came_after_is_refused(build, happens, rows):
    net = build()
    net.forward(X)
    happens(net, rows)
    before = numbers(net)
    with pytest.raises(ValueError, match="backward needs a forward of the whole network"):
        net.backward(Y)
    assert numbers(net) == before
