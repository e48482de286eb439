"""What a user may hand over: every layout and dtype gives the bits of a plain copy; errors name the entry."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from axes import every_dtype, same_bits
from cases import CASES

import fastbp as bp
from fastbp import _check, _native

ROWS = 45
WHOLE = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
REAL = ("float16", "float32", "float64")


def reversed_bytes(values):
    return values.astype(values.dtype.newbyteorder("S"))


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def every_second(values):
    wide = np.full((2 * len(values), 2 * values.shape[1] + 1), 99, values.dtype)
    wide[::2, 1::2] = values
    return wide[::2, 1::2]


def misaligned(values):
    buffer = np.zeros(values.nbytes + 1, np.uint8)
    view = buffer[1:].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


class Frame:
    """What a data frame is to NumPy: something with columns that becomes an array when asked."""

    def __init__(self, values):
        self.columns = [column.copy() for column in values.T]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(np.stack(self.columns, axis=1), dtype)


LAYOUTS = {
    "fortran": np.asfortranarray,
    "backwards": lambda values: values[::-1, ::-1].copy()[::-1, ::-1],
    "every_second": every_second,
    "read_only": read_only,
    "swapped": reversed_bytes,
    "swapped_every_second": lambda values: every_second(reversed_bytes(values)),
    "misaligned": misaligned,
    "list": lambda values: values.tolist(),
    "subclass": lambda values: values.view(np.recarray),
    "frame": Frame,
}


def trained(x, y, dtype, case):
    """What every public call makes of the data."""
    net = case.network(dtype)
    history = net.fit(x, y, epochs=2, batch_size=16, validation_data=(x, y))
    fitted = net.parameters.copy()
    losses = [*history.loss, *history.val_loss, net.partial_fit(x, y), *net.evaluate(x, y).values()]
    loss, gradient = net.loss_and_gradient(x, y)
    output = net.forward(x)
    results = fitted, net.parameters, np.array([*losses, loss]), gradient, net.predict(x), output
    return *results, net.backward(output), net.gradients


def assert_same_training(x, plain_x, y, plain_y, dtype, case):
    for got, wanted in zip(trained(x, y, dtype, case), trained(plain_x, plain_y, dtype, case), strict=True):
        assert same_bits(got, wanted)


@every_dtype
@pytest.mark.parametrize("kind", WHOLE + REAL)
def test_every_dtype_of_x_gives_the_bits_of_a_converted_copy(dtype, kind):
    case, rng = CASES["digits"], np.random.default_rng(0)
    _, target = case.data(rng, ROWS)
    top = {"bool": 2, "int8": 128}.get(kind, 256)
    x = (
        rng.integers(0, top, (ROWS, 64)).astype(kind)
        if kind in WHOLE
        else rng.normal(size=(ROWS, 64)).astype(kind)
    )
    assert_same_training(x, x.astype(dtype), target, target, dtype, case)


@every_dtype
@pytest.mark.parametrize("kind", ["int32", "int64", "uint64", "float64"])
def test_large_numbers_are_rounded_once_and_to_nearest(dtype, kind):
    """The first layer's weight is 1: its output is the converted number."""
    x = np.array([[2**24 + 1], [2**24 + 3], [2**31 - 1]], kind)
    if kind in ("int64", "uint64"):
        top = np.iinfo(kind).max
        x = np.concatenate([x, np.array([[2**53 + 1], [2**53 + 3], [2**62 + 2**38 + 1], [top]], kind)])
    net = bp.Network([bp.Dense(1, 1)], dtype=dtype)
    net.parameters[:] = [1.0, 0.0]
    assert same_bits(net.predict(x), x.astype(dtype))


@every_dtype
def test_every_float16_is_converted_exactly(dtype):
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)][:, None]
    net = bp.Network([bp.Dense(1, 1)], dtype=dtype)
    net.parameters[:] = [1.0, 0.0]
    assert np.array_equal(net.predict(halves), halves.astype(dtype))


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int16", "int64", "uint8"])
def test_every_layout_of_x_and_y_gives_the_bits_of_a_plain_copy(dtype, layout, kind):
    case, rng = CASES["tanh"], np.random.default_rng(1)
    numbers = rng.normal(0.0, 3.0, (2, ROWS, 4))
    if kind == "uint8":  # what a negative real number becomes depends on the processor
        numbers = np.abs(numbers)
    x, y = numbers.astype(kind)
    arrange = LAYOUTS[layout]
    assert_same_training(arrange(x), x, arrange(y), y, dtype, case)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64", "uint8", "bool"])
def test_every_layout_gives_a_layer_and_a_loss_on_their_own_the_bits_of_a_plain_copy(layout, kind):
    rng = np.random.default_rng(7)
    x = (rng.uniform(size=(ROWS, 4)) > 0.5).astype(kind)
    given = LAYOUTS[layout](x)
    plain = np.array(x.tolist()) if layout == "list" else x  # a list has no precision of its own
    for make in (lambda: bp.Dense(4, 4, seed=0), bp.Tanh, bp.Softmax):
        layer, twin = make(), make()
        assert same_bits(layer.forward(given), twin.forward(plain))
        assert same_bits(layer.backward(given), twin.backward(plain))
        assert all(same_bits(layer.gradients[name], twin.gradients[name]) for name in layer.gradients)
    for loss in (bp.MeanSquaredError(), bp.BinaryCrossEntropy()):
        assert loss.value(given, given[::-1] if layout != "frame" else x[::-1]) == loss.value(plain, x[::-1])
        assert same_bits(loss.gradient(given, x), loss.gradient(plain, x))


@pytest.mark.parametrize("layout", ["fortran", "backwards", "every_second", "swapped", "misaligned", "list"])
def test_inputs_are_never_written_to(layout):
    case, rng = CASES["digits"], np.random.default_rng(8)
    x, y = case.data(rng, ROWS)
    for target in (y, y.argmax(axis=1)[:, None]):
        given, wanted = LAYOUTS[layout](x), LAYOUTS[layout](target)
        if target.shape[1] == 1:
            wanted = [row[0] for row in wanted] if layout == "list" else wanted[:, 0]
        before = copy.deepcopy((given, wanted))
        trained(given, wanted, "float32", case)
        case.network().loss.value(np.full((ROWS, 10), 0.1), wanted)
        assert all(np.array_equal(*both) for both in zip(before, (given, wanted), strict=True))


@every_dtype
def test_a_repeated_row_and_column_are_read_through_strides_of_zero(dtype):
    case, rng = CASES["tanh"], np.random.default_rng(2)
    x = np.broadcast_to(rng.normal(size=(1, 4)), (ROWS, 4))
    y = np.broadcast_to(rng.normal(size=(ROWS, 1)), (ROWS, 4))
    assert_same_training(x, x.copy(), y, y.copy(), dtype, case)


@every_dtype
def test_a_memory_map_gives_the_bits_of_an_array(dtype, tmp_path):
    case = CASES["tanh"]
    x, y = case.data(np.random.default_rng(3), ROWS)
    for name, values in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", values)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "y")]
    assert_same_training(mapped[0], x, mapped[1], y, dtype, case)


@pytest.mark.parametrize("kind", WHOLE[1:] + REAL)
def test_labels_of_every_dtype_give_the_bits_of_one_hot_rows(kind):
    case = CASES["digits"]
    x, one_hot = case.data(np.random.default_rng(4), ROWS)
    labels = one_hot.argmax(axis=1).astype(kind)
    for arranged in (labels, reversed_bytes(labels), np.repeat(labels, 3)[::3], labels.tolist()):
        got, wanted = (trained(x, y, "float32", case) for y in (arranged, one_hot))
        assert all(map(same_bits, got, wanted))


@pytest.mark.parametrize("name", ["relu", "binary"])
def test_a_target_of_one_output_may_have_one_dimension_or_two(name):
    x, y = CASES[name].data(np.random.default_rng(5), ROWS)
    assert_same_training(x, x, y[:, 0], y, "float32", CASES[name])


def fit(x, y, case="tanh", dtype="float32"):
    CASES[case].network(dtype).fit(x, y)


GOOD_X, GOOD_Y = np.zeros((6, 4)), np.zeros((6, 4))


def spoilt(values, index, value):
    values = values.copy()
    values[index] = value
    return values


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((6, 5)), GOOD_Y, "^x has 5 columns, but the network takes 4 features"),
        (np.zeros(4), GOOD_Y, "^x has 1 dimension"),
        (np.zeros((2, 3, 4)), GOOD_Y, "^x has 3 dimensions"),
        (np.zeros((0, 4)), np.zeros((0, 4)), "^x has no rows"),
        (GOOD_X.astype(complex), GOOD_Y, "^x has dtype complex128"),
        (GOOD_X.astype(object), GOOD_Y, "^x has dtype object"),
        (GOOD_X.astype(str), GOOD_Y, r"^x has dtype <U.*; numpy\.asarray\(x, 'float32'\) takes"),
        (GOOD_X.astype(np.longdouble), GOOD_Y, "^x has dtype (float128|longdouble|float96)"),
        ([[1.0, 2.0, 3.0, 4.0], [1.0]], GOOD_Y, "^x cannot be made an array"),
        (GOOD_X, np.zeros((5, 4)), "^y has 5 rows, but x has 6"),
        (GOOD_X, np.zeros((6, 3)), r"^y has shape \(6, 3\), expected shape \(6, 4\)"),
        (GOOD_X, np.zeros(6), r"^y has shape \(6,\), expected shape \(6, 4\)"),
        (GOOD_X, np.zeros((6, 4, 1)), "^y has 3 dimensions"),
        (GOOD_X, GOOD_Y.astype("M8[s]"), "^y has dtype datetime64"),
        (spoilt(GOOD_X, (4, 2), np.nan), GOOD_Y, r"^x\[4, 2\] is nan"),
        (spoilt(GOOD_X, (1, 3), -np.inf), GOOD_Y, r"^x\[1, 3\] is -inf"),
        (spoilt(GOOD_X, (5, 0), 1e39), GOOD_Y, r"^x\[5, 0\] is 1e\+39, which float32 cannot hold"),
        (GOOD_X, spoilt(GOOD_Y, (0, 1), np.nan), r"^y\[0, 1\] is nan"),
        (spoilt(GOOD_X, (4, 2), np.nan).astype(np.float16), GOOD_Y, r"^x\[4, 2\] is nan"),
        (spoilt(GOOD_X, (4, 2), np.nan)[::-1], GOOD_Y, r"^x\[1, 2\] is nan"),
        (reversed_bytes(spoilt(GOOD_X, (4, 2), np.nan)), GOOD_Y, r"^x\[4, 2\] is nan"),
    ],
)
def test_bad_data_is_refused_with_its_name_and_first_bad_entry(x, y, message):
    with pytest.raises(ValueError, match=message):
        fit(x, y)


class MixedFrame:
    """A data frame as pandas has them: a dtype a column, and an array of objects where these differ."""

    def __init__(self, **columns):
        self.columns, self.arrays = list(columns), list(columns.values())
        self.dtypes = [column.dtype for column in self.arrays]

    def __array__(self, dtype=None, copy=None):
        return self.to_numpy(dtype or object)

    def to_numpy(self, dtype, na_value=None):
        return np.stack([column.astype(dtype) for column in self.arrays], axis=1)


def test_a_data_frame_of_several_kinds_of_numbers_is_one_of_numbers():
    rng = np.random.default_rng(4)
    counts, amounts, answers = rng.integers(-9, 9, 40), rng.normal(size=40), rng.random(40) < 0.5
    frame = MixedFrame(age=counts, income=amounts, member=answers)
    plain = np.stack([counts, amounts, answers], axis=1)
    nets = [bp.Network([bp.Dense(3, 1)], dtype="float64") for _ in range(2)]
    assert np.asarray(frame).dtype == object
    assert nets[0].fit(frame, answers).loss == nets[1].fit(plain, answers).loss
    assert same_bits(nets[0].predict(frame), nets[1].predict(plain))
    with pytest.raises(
        ValueError, match=r"^column 'town' of x has dtype object, expected real numbers: .*encode"
    ):
        nets[0].predict(MixedFrame(age=counts, town=np.array(["Rome"] * 40, object)))
    with pytest.raises(ValueError, match=r"^column 'since' of y has dtype datetime64"):
        nets[0].evaluate(plain, MixedFrame(member=answers, since=counts.astype("M8[s]")))


class Sparse:
    def __repr__(self):
        return "<sparse>"

    def toarray(self):
        return GOOD_X


def test_a_sparse_matrix_is_refused_with_the_way_to_an_array():
    with pytest.raises(ValueError, match=r"^x is a sparse matrix, expected real numbers.*; x\.toarray\(\)"):
        fit(Sparse(), GOOD_Y)


@pytest.mark.parametrize(
    ("case", "y", "message"),
    [
        ("digits", ["cat", "dog", "cat"], r"^y has dtype <U3.*numpy\.unique\(y, return_inverse=True\)"),
        ("digits", [[0], [1], [2]], r"^y has shape \(3, 1\).*; these labels are y\[:, 0\]$"),
        ("digits", [0, 1, 10], r"^y\[2\] is 10, expected a label: a whole number from 0 to 9"),
        ("digits", [0, -1, 1], r"^y\[1\] is -1"),
        ("digits", [0.0, 1.5, 1.0], r"^y\[1\] is 1.5"),
        ("digits", [0.0, np.nan, 1.0], r"^y\[1\] is nan"),
        ("digits", [np.nan, 0.0, 12.0], r"^y\[0\] is nan"),
        ("digits", [0, 1, -1] * 10, r"^y\[2\] is -1"),
        ("digits", [*[0.0, 1.0] * 10, np.nan], r"^y\[20\] is nan"),
        ("digits", np.full((3, 10), 0.2), "^row 0 of y sums to 2"),
        ("digits", np.zeros((3, 9)), r"^y has shape \(3, 9\)"),
        ("binary", [0.0, 1.0, 1.25], r"^y\[2\] is 1.25, expected numbers from 0 to 1"),
        ("binary", [0.0, -1.0, 1.0], r"^y\[1\] is -1.0"),
        ("binary", [0.0, np.nan, 1.0], r"^y\[1\] is nan"),
        ("binary", np.zeros((3, 2)), r"^y has shape \(3, 2\)"),
    ],
)
def test_targets_that_do_not_belong_to_the_loss_are_refused(case, y, message):
    with pytest.raises(ValueError, match=message):
        fit(np.zeros((len(y), CASES[case].widths[0])), y, case)


OUTPUTS = 5


def is_let_through(x, y, kind, outputs=OUTPUTS):
    """By the checks that put into words what is wrong."""
    try:
        _check.targets(y, len(_check.features(x, 7)), outputs, kind)
    except ValueError:
        return False
    return True


LOOKED_AT = {
    "labels": np.arange(600) % OUTPUTS,
    "a label too many": np.arange(600) % (OUTPUTS + 1),
    "ones": np.ones(600),
    "a label below": np.arange(600) % OUTPUTS - 1,
    "the last of all": np.arange(600) == 599,
    "the last too large": np.append(np.zeros(599), OUTPUTS),
    "halves": np.arange(600) % 2 / 2,
    "a NaN": np.append(np.zeros(599), np.nan),
    "an infinity": np.append(np.zeros(599), np.inf),
    "a column": np.zeros((600, 1)),
    "rows": np.zeros((600, OUTPUTS)),
    "one-hot rows": np.eye(OUTPUTS)[np.arange(600) % OUTPUTS],
    "rows of fifths": np.full((600, OUTPUTS), 1 / OUTPUTS),
    "rows of ones": np.ones((600, OUTPUTS)),
    "rows with a two": np.where(np.arange(600 * OUTPUTS).reshape(600, -1) == 2999, 2, 0),
    "rows below 0": np.where(np.arange(600 * OUTPUTS).reshape(600, -1) == 1501, -1, 0),
    "short rows": np.zeros((600, OUTPUTS - 1)),
    "a row less": np.zeros((599, OUTPUTS)),
    "a label less": np.zeros(599),
    "three axes": np.zeros((600, OUTPUTS, 1)),
    "no axis": np.zeros(()),
    "dates": np.zeros(600, "M8[s]"),
    "words": np.zeros(600, "U1"),
    "complex numbers": np.zeros(600, complex),
    "long numbers": np.zeros(600, np.longdouble),
}


@pytest.mark.parametrize("kind", ["real", "probability", "class"])
@pytest.mark.parametrize("y", LOOKED_AT.values(), ids=LOOKED_AT)
def test_what_fits_at_one_look_is_what_the_checks_let_through(y, kind):
    x = np.zeros((600, 7), np.float32)
    for dtype in {y.dtype, *(np.dtype(name) for name in WHOLE + REAL if y.dtype.kind in "iufb")}:
        with np.errstate(invalid="ignore"):
            cast = y.astype(dtype)
        copies = [cast, reversed_bytes(cast), read_only(cast)]
        if cast.ndim:
            copies += [np.repeat(cast, 2, axis=0)[::2], cast[::-1].copy()[::-1], np.asfortranarray(cast)]
        for arranged in copies:
            fit = _native.fits(x, arranged, 7, OUTPUTS, kind)
            lets_through = is_let_through(x, arranged, kind)
            if kind == "class" and arranged.ndim == 2:
                assert fit <= lets_through  # of sums that are less exactly 1 NumPy has the last word
            else:
                assert fit == lets_through, (dtype, arranged.strides)


@pytest.mark.parametrize("outputs", [1, OUTPUTS, 1200])
def test_rows_that_sum_to_1_fit_at_one_look(outputs):
    x, rng = np.zeros((60, 7), np.float32), np.random.default_rng(0)
    one_hot = np.eye(outputs)[rng.integers(0, outputs, 60)]
    drawn = rng.dirichlet(np.ones(outputs), 60)
    for y in [*(one_hot.astype(dtype) for dtype in WHOLE + REAL), drawn, drawn.astype(np.float32)]:
        for arranged in (
            y,
            reversed_bytes(y),
            np.repeat(y, 2, axis=0)[::2],
            np.asfortranarray(y),
            y[:, ::-1],
        ):
            assert _native.fits(x, arranged, 7, outputs, "class")
        for share, fit in ((1.0001, True), (1.0005, False), (1.002, False)):
            if y.dtype in (np.float32, np.float64):
                changed = y.copy()
                changed[-1] *= 2 - share
                assert _native.fits(x, changed, 7, outputs, "class") == fit
                assert is_let_through(x, changed, "class", outputs) == (share < 1.001)


@pytest.mark.parametrize("kind", ["real", "probability", "class"])
def test_x_fits_at_one_look_where_the_checks_let_it_through(kind):
    y = np.zeros((6, OUTPUTS)) if kind != "class" else np.zeros(6)
    for shape in ((6, 7), (6, 8), (7, 6), (5, 7), (6,), (6, 7, 1), (42,), (0, 7), ()):
        for dtype in (*WHOLE, *REAL, "U1", "c8", "M8[s]"):
            x = np.zeros(shape, dtype)
            assert _native.fits(x, y, 7, OUTPUTS, kind) == is_let_through(x, y, kind), (shape, dtype)
            if len(x.shape) and len(x) == len(y):
                assert _native.fits(x, None, 7, 0, "") == is_let_through(x, y, kind), (shape, dtype)
    assert not _native.fits(np.zeros((0, 7)), y[:0], 7, OUTPUTS, kind)


def test_only_plain_arrays_fit_at_one_look():
    x, y = np.zeros((6, 7)), np.zeros((6, OUTPUTS))
    others = [x.tolist(), Frame(x), np.ma.masked_array(x), x.view(np.recarray), memoryview(x), None]
    assert _native.fits(x, y, 7, OUTPUTS, "real")
    with pytest.raises(ValueError, match="kind is 'any', expected 'real', 'probability' or 'class'"):
        _native.fits(x, y, 7, OUTPUTS, "any")
    for other in others:
        assert not _native.fits(other, None, 7, 0, "")
        assert not _native.fits(other, y, 7, OUTPUTS, "real")
        assert not _native.fits(x, other, 7, OUTPUTS, "real")


@pytest.mark.parametrize(
    "call", ["fit", "partial_fit", "evaluate", "loss_and_gradient", "predict", "forward"]
)
def test_every_entrance_checks_its_data(call):
    net = CASES["tanh"].network()
    before = net.parameters.copy()
    targets = () if call in ("predict", "forward") else (GOOD_Y,)
    for bad in (np.zeros((6, 5)), spoilt(GOOD_X, (2, 1), np.nan)):
        with pytest.raises(ValueError, match=r"^x"):
            getattr(net, call)(bad, *targets)
    if targets:
        with pytest.raises(ValueError, match=r"^y\[2, 1\] is nan"):
            getattr(net, call)(GOOD_X, spoilt(GOOD_Y, (2, 1), np.nan))
    assert np.array_equal(net.parameters, before)


def test_validation_data_are_checked_under_their_own_name():
    net = CASES["tanh"].network()
    with pytest.raises(ValueError, match=r"^validation_data.*5"):
        net.fit(GOOD_X, GOOD_Y, validation_data=(np.zeros((6, 5)), GOOD_Y))
    with pytest.raises((ValueError, TypeError), match=r"^validation_data"):
        net.fit(GOOD_X, GOOD_Y, validation_data=(GOOD_X,))


# Words that help


class Orders:
    """A data frame with a column of that name."""

    filled = np.zeros(6)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(GOOD_X, dtype)


def test_a_column_named_filled_makes_no_masked_array():
    net = CASES["tanh"].network()
    assert np.array_equal(net.predict(Orders()), net.predict(GOOD_X))


def test_masked_rows_in_a_list_are_refused():
    rows = [np.ma.masked_array(row, row > 0) for row in GOOD_X]
    with pytest.raises(ValueError, match=r"^x is a masked array"):
        CASES["tanh"].network().predict(rows)


def test_what_is_suggested_works():
    net = bp.Network(bp.mlp([3, 2, 1], output="sigmoid"), loss="bce")
    sample, answers = [1.0, 2.0, 3.0], ["yes", "no"]
    with pytest.raises(ValueError, match=r"; one sample is numpy\.asarray\(x\)\[None, :\]$"):
        net.predict(sample)
    assert net.predict(np.asarray(sample)[None, :]).shape == (1, 1)
    with pytest.raises(ValueError, match=r"; one sample is x\[None, :\]$"):
        net.predict(np.asarray(sample))
    with pytest.raises(ValueError, match=r"; numpy\.asarray\(y\) == 'yes' gives True and False"):
        net.fit(np.ones((2, 3)), answers)
    net.fit(np.ones((2, 3)), np.asarray(answers) == "yes")


def test_an_error_of_a_generator_is_its_own():
    with pytest.raises(TypeError, match=r"^out_features is '3', expected a whole number"):
        bp.Network(bp.Dense(5, size) for size in ["3"])
    with pytest.raises(TypeError, match="NoneType"):
        bp.mlp(int(size) for size in [4, None])
    with pytest.raises(TypeError, match=r"^sizes is 3, expected at least 2 sizes"):
        bp.mlp(3)
