"""A graph laid out in layers from left to right and drawn with matplotlib.

Lengths are points, 1/72 inch; y grows upward.  An item is a symbol with a line to its right that carries its
value above and its derivative below; all lines of a column end where the column ends, so that edges lie in
the gaps between columns and cross no words.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from fastbp.figures import DERIVATIVE, GROUND, INK, VALUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch

RADIUS = 15.0  # of an operation's circle
LINE = 13.0  # from one line of words to the next
CLEARANCE = 3.0  # between words and what they stand beside
MARGIN = 14.0  # around the picture
APART = 16.0  # between one item and the next in a column
GAPS = (30.0, 110.0)  # least and greatest distance of columns; the steeper the edges, the more
STUB = 26.0  # the arrow that leaves the result
SWEEPS = 24
STAND = 100.0  # weight of an operation where it meets a leaf, which gives way to it
FONT_SIZE = 10.0
LINE_WIDTH = 1.0
MOST_PIXELS = 20_000  # along a side of a PNG; viewers refuse larger ones

Measure = Callable[[str], float]


@dataclass(frozen=True)
class Item:
    """A node as it is drawn: the result last, inputs by their places in the sequence of items."""

    symbol: str
    leaf: bool
    above: tuple[str, ...]
    below: tuple[str, ...]
    inputs: tuple[int, ...]


@dataclass(eq=False)
class Vertex:
    """An item in its column, or the way of its value through a later column to items farther on."""

    item: int
    height: tuple[float, float]  # above and below the line
    carries: bool  # only passes through
    before: list[Vertex] = field(default_factory=list)
    after: list[Vertex] = field(default_factory=list)  # a vertex twice for a value that is used twice
    y: float = 0.0
    left: float = 0.0
    line: float = 0.0  # where the symbol ends and the line begins
    middle: float = 0.0  # of the words on the line
    right: float = 0.0


def lay_out(items: Sequence[Item], symbol_width: Measure, label_width: Measure) -> list[list[Vertex]]:
    """Columns of placed vertices: few crossings, inputs near what they enter, nothing over anything else."""
    columns = _columns(items)
    _order(columns)
    _place(columns)
    end = 0.0
    for number, column in enumerate(columns):
        drawn = [items[vertex.item] for vertex in column if not vertex.carries]
        symbols = max(_symbol_width(item, symbol_width) for item in drawn)
        labels = max(
            (label_width(text) for item in drawn for text in (*item.above, *item.below)), default=0.0
        )
        steepest = max((abs(v.y - u.y) for v in column for u in v.before), default=0.0)
        least, most = GAPS
        left = end + (min(max(least, 0.45 * steepest), most) if number else 0.0)
        end = left + symbols + labels + 5.0 * CLEARANCE
        for vertex in column:
            item = items[vertex.item]
            vertex.left, vertex.right = left, end
            vertex.line = left + (symbols if item.leaf else _symbol_width(item, symbol_width))
            vertex.middle = (left + symbols + end) / 2.0
    return columns


def _symbol_width(item: Item, symbol_width: Measure) -> float:
    if item.leaf:
        return symbol_width(item.symbol) + 2.0 * CLEARANCE if item.symbol else 0.0
    return max(2.0 * RADIUS, symbol_width(item.symbol) + 4.0 * CLEARANCE)


def _columns(items: Sequence[Item]) -> list[list[Vertex]]:
    """Each item as far to the right as what it enters allows, in the order of a search from the result."""
    rank, reach = (
        [0] * len(items),
        [0] * len(items),
    )  # steps to the result; the least rank that it must get to
    for place in range(len(items) - 1, -1, -1):
        reach[place] = rank[place]
        for before in items[place].inputs:
            rank[before] = max(rank[before], rank[place] + 1)
    for place, item in enumerate(items):
        for before in item.inputs:
            reach[before] = min(reach[before], rank[place] + 1)
    columns: list[list[Vertex]] = [[] for _ in range(max(rank) + 1)]
    trunks: list[dict[int, Vertex]] = [{} for _ in items]
    for place in _search(items):
        for ranked in range(rank[place], reach[place] - 1, -1):
            carries = ranked != rank[place]
            vertex = Vertex(place, (0.0, 0.0) if carries else _height(items[place]), carries)
            trunks[place][ranked] = vertex
            columns[-1 - ranked].append(vertex)
            if carries:
                _join(trunks[place][ranked + 1], vertex)
    for place, item in enumerate(items):
        for before in item.inputs:
            _join(trunks[before][rank[place] + 1], trunks[place][rank[place]])
    return columns


def _search(items: Sequence[Item]) -> Iterator[int]:
    """Each item once, the result first, depth first: on a tree an order without crossings."""
    seen, waiting = set(), [len(items) - 1]
    while waiting:
        place = waiting.pop()
        if place not in seen:
            seen.add(place)
            yield place
            waiting.extend(reversed(items[place].inputs))


def _height(item: Item) -> tuple[float, float]:
    least = LINE / 2 if item.leaf else RADIUS
    above, below = (max(least, LINE * len(words) + CLEARANCE) for words in (item.above, item.below))
    return above, below


def _join(before: Vertex, after: Vertex) -> None:
    before.after.append(after)
    after.before.append(before)


def _order(columns: list[list[Vertex]]) -> None:
    """Sort each column by the mean place of the neighbours, there and back, and keep what crosses least."""
    best, fewest = [list(column) for column in columns], _crossings(columns)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        forward = sweep % 2 == 0
        way = columns if forward else columns[::-1]
        for beside, column in pairwise(way):
            places = {id(vertex): number for number, vertex in enumerate(beside)}
            keys = []
            for number, vertex in enumerate(column):
                near = [places[id(u)] for u in (vertex.before if forward else vertex.after)]
                keys.append(sum(near) / len(near) if near else float(number))
            order = sorted(range(len(column)), key=keys.__getitem__)
            column[:] = [column[number] for number in order]
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    columns[:] = best


def _crossings(columns: list[list[Vertex]]) -> int:
    count = 0
    for column, following in pairwise(columns):
        places = {id(vertex): number for number, vertex in enumerate(following)}
        ends: list[int] = []
        for vertex in column:
            targets = sorted(places[id(u)] for u in vertex.after)
            count += sum(len(ends) - bisect_right(ends, target) for target in targets)
            for target in targets:
                insort(ends, target)
    return count


def _place(columns: list[list[Vertex]]) -> None:
    """Heights: each vertex close to its neighbours, no closer to the next than words allow.

    At last an operation stands exactly where its inputs want it, so that chains are straight.
    """
    for column in columns:
        _settle(column, [0.0] * len(column))
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 else reversed(columns):
            _settle(column, [_wanted(vertex, vertex.before, vertex.after) for vertex in column])
    for column in columns:
        _settle(column, [_wanted(vertex, vertex.before) for vertex in column], STAND)


def _wanted(vertex: Vertex, *sides: list[Vertex]) -> float:
    middles = [median([beside.y for beside in side]) for side in sides if side]
    return sum(middles) / len(middles) if middles else vertex.y


def _settle(column: list[Vertex], wanted: list[float], stand: float = 1.0) -> None:
    """The heights nearest to those wanted, in least squares, that keep order and distances.

    With the distances from the first taken off, the heights must only not rise: neighbours that would are
    pooled at their mean.
    """
    offsets = [0.0]
    for upper, lower in pairwise(column):
        offsets.append(offsets[-1] + upper.height[1] + lower.height[0] + APART)
    pools: list[tuple[float, float, int]] = []
    for vertex, height, offset in zip(column, wanted, offsets, strict=True):
        mean, weight, count = height + offset, stand if vertex.before else 1.0, 1
        while pools and pools[-1][0] < mean:
            higher, heavy, many = pools.pop()
            mean = (higher * heavy + mean * weight) / (heavy + weight)
            weight, count = heavy + weight, many + count
        pools.append((mean, weight, count))
    level = (mean for mean, _, count in pools for _ in range(count))
    for vertex, mean, offset in zip(column, level, offsets, strict=True):
        vertex.y = mean - offset


# The picture


def paint(figure: Figure, items: Sequence[Item], notes: Sequence[tuple[str, str]]) -> None:
    """Draw the items, and below them notes of (words, colour), on a figure that is made to fit."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    words = FontProperties(size=FONT_SIZE)
    numbers = FontProperties(family=["DejaVu Sans Mono", *words.get_family()], size=FONT_SIZE)

    def measure(font: FontProperties) -> Measure:
        return lambda text: float(text_to_path.get_text_width_height_descent(text, font, False)[0])

    columns = lay_out(items, measure(words), measure(numbers))
    vertices = [vertex for column in columns for vertex in column]
    top = max(vertex.y + vertex.height[0] for vertex in vertices) + MARGIN
    bottom = min(vertex.y - vertex.height[1] for vertex in vertices) - 2.0 * MARGIN - LINE * len(notes)
    widest = max(measure(words)(text) for text, _ in notes)
    left, right = -MARGIN, max(columns[-1][0].right + STUB, widest) + MARGIN
    figure.set_layout_engine("none")
    figure.set_size_inches((right - left) / 72.0, (top - bottom) / 72.0)
    figure.dpi = min(figure.dpi, 72.0 * MOST_PIXELS / max(right - left, top - bottom))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    for vertex in vertices:
        if not vertex.carries:
            _paint_item(axes, items[vertex.item], vertex, words, numbers)
        _paint_ways(axes, vertex)
    for number, (text, color) in enumerate(notes):
        height = bottom + MARGIN + LINE * (len(notes) - 1 - number)
        axes.text(0.0, height, text, color=color, font=words, parse_math=False)


def _paint_item(axes: Axes, item: Item, at: Vertex, words: FontProperties, numbers: FontProperties) -> None:
    """The symbol, the value above the line, the derivative below it."""
    if item.leaf:
        x, side = at.line - 2.0 * CLEARANCE, "right"
    else:
        x, side = (at.left + at.line) / 2.0, "center"
        axes.add_patch(_pill(at))
    axes.text(x, at.y, item.symbol, ha=side, va="center_baseline", font=words, parse_math=False, color=INK)
    above = [
        (at.y + CLEARANCE + LINE * number, text, VALUE) for number, text in enumerate(reversed(item.above))
    ]
    below = [(at.y - LINE * (number + 1), text, DERIVATIVE) for number, text in enumerate(item.below)]
    for y, text, color in above + below:
        axes.text(at.middle, y, text, color=color, ha="center", font=numbers, parse_math=False)


def _pill(at: Vertex) -> PathPatch:
    """A circle, drawn out where the words within are long."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    left, right, y, r = at.left + RADIUS, at.line - RADIUS, at.y, RADIUS
    k = 4.0 / 3.0 * math.tan(math.pi / 8.0) * r  # the handles of a cubic that follows a quarter of a circle
    half = [(right, y + r), (right + k, y + r), (right + r, y + k), (right + r, y)]
    half += [(right + r, y - k), (right + k, y - r), (right, y - r)]
    other = [(left + right - x, 2.0 * y - height) for x, height in half]
    codes = [Path.MOVETO, *[Path.CURVE4] * 6, Path.LINETO, *[Path.CURVE4] * 6, Path.CLOSEPOLY]
    path = Path([*half, *other, half[0]], codes)
    return PathPatch(path, facecolor=GROUND, edgecolor=INK, linewidth=LINE_WIDTH)


def _paint_ways(axes: Axes, vertex: Vertex) -> None:
    """The line through the column, and from its end the ways to where the value goes, arrows at the last."""
    from matplotlib.patches import FancyArrowPatch

    def line(start: tuple[float, float], end: tuple[float, float], bend: float, arrow: bool) -> None:
        axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>" if arrow else "-",
                connectionstyle=f"arc3,rad={bend}",
                mutation_scale=9.0,
                shrinkA=0.0,
                shrinkB=0.0,
                color=INK,
                linewidth=LINE_WIDTH,
            )
        )

    end = (vertex.right, vertex.y)
    line((vertex.left if vertex.carries else vertex.line, vertex.y), end, 0.0, False)
    if not vertex.after:
        line(end, (vertex.right + STUB, vertex.y), 0.0, True)
    if len(vertex.after) > 1:
        axes.plot(*end, "o", color=INK, markersize=5.0)
    met: Counter[Vertex] = Counter()
    for target in vertex.after:
        met[target] += 1
        if target.carries:
            line(end, (target.left, target.y), 0.0, False)
            continue
        number, many = met[target], vertex.after.count(target)
        center = (target.left + RADIUS, target.y)  # of the circle, or of the pill's round end
        turn = 0.6 * (number - (many + 1) / 2.0)  # radians; ways to the same place part
        angle = math.atan2(end[1] - center[1], end[0] - center[0]) - turn
        tip = (center[0] + RADIUS * math.cos(angle), center[1] + RADIUS * math.sin(angle))
        line(end, tip, -0.5 * turn, True)
