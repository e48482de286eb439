"""The layout of graphs: nothing over anything else, every edge from one column to the next."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from fastbp import layered
from fastbp.layered import Item


def random_graph(seed, count, uses):
    """Items in order, each entering one to ``uses`` later ones."""
    rng = np.random.default_rng(seed)
    inputs = [[] for _ in range(count)]
    for place in range(count - 1):
        for _ in range(rng.integers(1, uses + 1)):
            inputs[int(rng.integers(place + 1, count))].append(place)
    lines = rng.integers(1, 5, (count, 2)).tolist()
    return [
        Item(
            "a name" if not entering else "+",
            not entering,
            ("0.125",) * above,
            ("-1",) * below,
            tuple(entering),
        )
        for entering, (above, below) in zip(inputs, lines, strict=True)
    ]


def lay_out(items):
    return layered.lay_out(items, lambda text: 6.0 * len(text), lambda text: 6.0 * len(text))


SIZES = [(1, 1), (2, 3), (30, 1), (40, 2), (60, 4)]  # items, and how often one is used at most
graphs = pytest.mark.parametrize("items", [random_graph(seed, *size) for seed, size in enumerate(SIZES)])


@graphs
def test_nothing_in_a_column_overlaps(items):
    for column in lay_out(items):
        for upper, lower in pairwise(column):
            room = upper.y - upper.height[1] - (lower.y + lower.height[0])
            assert room > layered.APART / 2


@graphs
def test_columns_lie_side_by_side_and_words_fit_their_lines(items):
    columns = lay_out(items)
    for left, right in pairwise(columns):
        assert left[0].right + layered.GAPS[0] <= right[0].left
    for column in columns:
        for vertex in column:
            if not vertex.carries:
                item = items[vertex.item]
                half = max(6.0 * len(text) for text in (*item.above, *item.below)) / 2.0
                assert vertex.line <= vertex.middle - half < vertex.middle + half <= vertex.right


@graphs
def test_every_edge_leads_from_column_to_column_to_what_it_enters(items):
    columns = lay_out(items)
    number = {id(vertex): place for place, column in enumerate(columns) for vertex in column}
    drawn = Counter()
    for column in columns:
        for vertex in column:
            assert all(number[id(after)] == number[id(vertex)] + 1 for after in vertex.after)
            drawn.update((vertex.item, after.item) for after in vertex.after if not after.carries)
            assert all(after.item == vertex.item for after in vertex.after if after.carries)
    assert drawn == Counter((before, place) for place, item in enumerate(items) for before in item.inputs)


@pytest.mark.parametrize("seed", range(5))
def test_a_tree_is_laid_out_without_crossings(seed):
    assert layered._crossings(lay_out(random_graph(seed, 40, uses=1))) == 0


def test_sorting_takes_away_crossings():
    items = random_graph(3, 60, uses=2)
    columns = layered._columns(items)
    before = layered._crossings(columns)
    layered._order(columns)
    assert layered._crossings(columns) < before


def test_a_chain_is_a_straight_line():
    chain = [Item("x", True, ("1",), ("1",), ())]
    chain += [Item("exp", False, ("1",) * (1 + place % 3), ("1",), (place,)) for place in range(9)]
    assert len({vertex.y for column in lay_out(chain) for vertex in column}) == 1
