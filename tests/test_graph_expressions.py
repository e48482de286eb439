"""Random expressions: the graph against numerical derivatives, and against values recorded from PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import expressions
import numpy as np
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as bp
from fastbp import graph

GOLDEN = json.loads((Path(__file__).parent / "golden" / "expressions" / "golden.json").read_text())["runs"]
FUNCTIONS = {name: getattr(graph, name) for name in expressions.NUMPY}

examples = settings(max_examples=60, derandomize=True, deadline=None)
seeds = st.integers(0, 2**32)


@st.composite
def texts(draw):
    return expressions.expression(lambda options: draw(st.sampled_from(options)))


def differentiated(text, values, dtype=np.float64):
    """The node of the result, those of the names, and how far rounding may take them."""
    leaves = {name: graph.Variable(np.asarray(value, dtype), name) for name, value in values.items()}
    result = expressions.computed(text, FUNCTIONS, leaves)
    result.backward()
    nodes = graph.walk(result)
    largest = max(np.abs(array).max() for node in nodes for array in (node.value, node.grad))
    return result, leaves, tolerances.expression(len(nodes), float(largest), dtype)


def derivative(leaf):
    return np.zeros(leaf.shape) if leaf.grad is None else leaf.grad


@given(texts(), seeds)
@examples
def test_derivatives_are_those_of_central_differences(text, seed):
    values = expressions.inputs(seed)
    result, leaves, bound = differentiated(text, values)
    scale = max(1.0, *(np.abs(node.value).max() for node in graph.walk(result)))
    for name, value in values.items():

        def at(point, name=name):
            return float(expressions.computed(text, expressions.NUMPY, {**values, name: point}))

        assert abs(float(result) - at(value)) <= bound
        numerical = bp.numerical_gradient(at, value)
        steepest = np.abs(numerical).max(initial=scale)
        difference = np.abs(derivative(leaves[name]) - numerical).max()
        assert difference <= tolerances.CENTRAL_DIFFERENCE * steepest


@given(texts(), seeds)
@examples
def test_float32_stays_float32_throughout_and_is_near_float64(text, seed):
    values = {name: value.astype(np.float32) for name, value in expressions.inputs(seed).items()}
    exact, exact_leaves, _ = differentiated(text, values)
    result, leaves, bound = differentiated(text, values, np.float32)
    assert {node.dtype for node in graph.walk(result)} == {np.dtype(np.float32)}
    assert {node.grad.dtype for node in graph.walk(result)} == {np.dtype(np.float32)}
    assert abs(float(result) - float(exact)) <= bound
    for name, leaf in leaves.items():
        assert np.abs(derivative(leaf) - derivative(exact_leaves[name])).max() <= bound


@given(texts(), seeds)
@examples
def test_a_second_backward_leaves_the_same_bits(text, seed):
    result, leaves, _ = differentiated(text, expressions.inputs(seed))
    first = {name: derivative(leaf).tobytes() for name, leaf in leaves.items()}
    result.backward()
    assert first == {name: derivative(leaf).tobytes() for name, leaf in leaves.items()}


@pytest.mark.parametrize("run", GOLDEN, ids=range(len(GOLDEN)))
def test_value_and_derivatives_are_those_of_pytorch(run):
    result, leaves, bound = differentiated(run["expression"], run["inputs"])
    assert abs(float(result) - run["value"]) <= bound
    for name, leaf in leaves.items():
        assert np.abs(derivative(leaf) - run["gradients"][name]).max() <= bound


def test_the_golden_expressions_hold_every_operation():
    recorded = set()
    for run in GOLDEN:
        leaves = {name: graph.Variable(value) for name, value in run["inputs"].items()}
        recorded |= {
            node.operation for node in graph.walk(expressions.computed(run["expression"], FUNCTIONS, leaves))
        }
    declared = {thing.name for thing in vars(graph).values() if isinstance(thing, graph.Operation)}
    assert {name.partition(" ")[0] for name in recorded if name} >= {
        name.partition(" ")[0] for name in declared - {"step"}
    }
