"""What the computational graph refuses, and what it says then."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from fastbp import graph
from fastbp.graph import Operation, Variable

X, W = Variable(np.ones((3, 2)), "X"), Variable(np.ones((3, 4)), "W")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: X + W, r"^\+ cannot take X \(3, 2\) and W \(3, 4\)"),
        (lambda: X @ W, r"^@ cannot take X \(3, 2\) and W \(3, 4\)"),
        (
            lambda: X @ np.ones((2, 2, 2)),
            r"^@ cannot take X \(3, 2\) and \(2, 2, 2\): expected at most 2 axes",
        ),
        (lambda: X @ 2, r"^@ cannot take X \(3, 2\) and \(\)"),
        (lambda: graph.affine(X, W, 1), r"^affine cannot take X \(3, 2\) and W \(3, 4\) and \(\)"),
        (lambda: graph.affine(X, W.T[:2], np.ones((9, 3, 3))), r"^affine cannot take X"),
        (lambda: graph.affine(X[0], X[1], [1.0, 2.0]), r"^affine cannot take \(2,\) and \(2,\) and \(2,\)"),
        (lambda: X.reshape(4, 2), r"^reshape cannot take X \(3, 2\): .*\(4,2\)"),
        (lambda: X.sum(2), r"^sum cannot take X \(3, 2\): axis 2 is out of bounds"),
        (lambda: X.transpose(0, 0), r"^transpose cannot take X \(3, 2\): repeated axis"),
        (lambda: graph.where([True], X, W), r"^where cannot take X \(3, 2\) and W \(3, 4\)"),
        (lambda: X[:0].mean(), r"^mean cannot take \(0, 2\): there is nothing to average"),
        (lambda: X.backward(), r"shape \(3, 2\) needs a seed of that shape, got none"),
        (
            lambda: X.backward(np.ones(2)),
            r"shape \(3, 2\) needs a seed of that shape, got one of shape \(2,\)",
        ),
        (lambda: Variable("text"), r"^value is 'text', expected real numbers"),
        (lambda: Variable(1j), r"^value is 1j, expected real numbers"),
        (lambda: X * "text", r"^an operand of \* is 'text'"),
        (lambda: X * None, r"^an operand of \* is None, expected real numbers"),
        (lambda: graph.power("text", 2), r"^an operand of \*\* 2 is 'text'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_shapes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bool(X), "neither true nor false"),
        (lambda: np.asarray(X), "a node is no array"),
        (lambda: np.sin(X), "numpy.sin cannot take nodes, expected one of fastbp.graph"),
        (lambda: X // 2, "numpy.floor_divide cannot take nodes"),
        (lambda: np.add.reduce(X), "numpy.add cannot take nodes like this"),
        (lambda: np.exp(X, out=np.ones((3, 2))), "numpy.exp cannot take nodes like this"),
        (lambda: np.concatenate([X, X]), "numpy.concatenate cannot take nodes"),
        (lambda: np.sum(X, where=True), "^numpy.sum cannot take nodes like this: .*'where'"),
        (lambda: np.mean(X, dtype=float), "^numpy.mean cannot take nodes like this: .*'dtype'"),
        (lambda: graph.exp(X, X), "exp takes 1 operands, but 2 came"),
        (lambda: graph.maximum(X), "maximum takes 2 operands, but 1 came"),
        (lambda: len(Variable(1.0)), "unsized"),
        (lambda: list(Variable(1.0)), "unsized"),
    ],
)
def test_what_has_no_meaning_is_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_an_index_that_is_not_there_is_refused():
    with pytest.raises(IndexError, match=r"^getitem cannot take X \(3, 2\): index 3 is out of bounds"):
        X[3]


def test_several_numbers_are_no_single_one():
    with pytest.raises(ValueError, match="size 1"):
        float(X)


def test_derivatives_cannot_be_written_to_because_nodes_share_them():
    x, y = Variable(1.0), Variable(2.0)
    (x + y).backward()
    with pytest.raises(ValueError, match="read-only"):
        x.grad *= 2
    assert (x.grad, y.grad) == (1.0, 1.0)


def test_an_operation_of_ones_own_is_one_declaration():
    cube = Operation("cube", "x^3", lambda x: x**3, lambda y, x: (3 * x**2,))
    x = Variable([1.0, 2.0], "x")
    node = cube(x)
    node.sum().backward()
    assert (node.operation, x.grad.tolist()) == ("cube", [3.0, 12.0])
    assert repr(cube) == "<operation cube: x^3>"


def test_a_node_shows_value_name_and_operation():
    x = Variable(3, "x")
    assert repr(x) == "Variable(3., name='x')"
    assert repr(x**2) == "Variable(9., operation='** 2')"
    assert (x.operation, (x**2).operation, (2**x).operation) == ("", "** 2", "**")
    assert (x * 2).inputs[0] is x
    assert repr((x * 2).inputs[1]) == "Variable(2.)"


def test_pictures_are_asked_for_when_they_are_wanted(monkeypatch):
    asked = []
    drawing = types.ModuleType("fastbp.drawing")
    for name in ("to_text", "to_dot", "draw", "mimebundle"):
        setattr(drawing, name, lambda *arguments, name=name: asked.append((name, *arguments)))
    monkeypatch.setitem(sys.modules, "fastbp.drawing", drawing)
    monkeypatch.setattr("fastbp.drawing", drawing, raising=False)
    X.to_text(), X.to_dot(), X.draw("x.svg"), X._repr_mimebundle_()
    assert [call[0] for call in asked] == ["to_text", "to_dot", "draw", "mimebundle"]
    assert all(call[1] is X for call in asked)


def test_a_name_is_text():
    with pytest.raises(TypeError, match="name is 3, expected a str"):
        Variable(1.0, name=3)
