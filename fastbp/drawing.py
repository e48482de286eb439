"""Pictures of a computational graph: text for a terminal, DOT, SVG and PNG.

Anything with ``value grad name inputs operation`` is a node.  In the pictures a line leaves each leaf, which
is there by its name, and each operation, in a circle; above the line is the value that goes forward, below it
the derivative of the result that came back.  A value that is used several times has one line, which branches.
"""

from __future__ import annotations

import html
import io
import os
from collections import Counter, deque
from collections.abc import Container, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp import atomic, figures, graphviz
from fastbp.columns import aligned
from fastbp.figures import DERIVATIVE, QUIET, VALUE
from fastbp.layered import Item, paint

LIMIT = 200  # nodes in a picture; more of them nobody can follow
DEPTH = 24  # levels of a tree of text, before a branch goes on in a tree of its own
LONGEST_NAME = 40
LARGEST_SHOWN = 4  # rows, and columns, of an array whose numbers stand in a picture
LONGEST_LIST = 4  # numbers of an array in a line of text
DIGITS, DIGITS_IN_ARRAY = 6, 4

RENDERERS = ("graphviz", "matplotlib")
INSTALL = "a picture of a graph needs Graphviz (graphviz.org), its program dot on the PATH"
IN_PRINT = {"*": "\u00d7", "-": "\u2212"}
FORK, LAST, THROUGH, END = "\u251c\u2500 ", "\u2514\u2500 ", "\u2502  ", "   "
MORE = "\u2026"


class Node(Protocol):
    """What is asked of a node."""

    @property
    def value(self) -> NDArray[Any]: ...
    @property
    def grad(self) -> NDArray[Any] | None: ...
    @property
    def name(self) -> str | None: ...
    @property
    def operation(self) -> str: ...
    @property
    def inputs(self) -> Sequence[Node]: ...


def to_text(node: Node, *, limit: int = LIMIT) -> str:
    """Draw a graph for a terminal: a tree from the result down, value and derivative on each line.

    A node that is used several times is drawn once, with a number in brackets, and referred to by it.

    Parameters
    ----------
    node : node of a graph
        The result.
    limit : int, default 200
        Nodes that are drawn at most: those nearest to the result.

    Returns
    -------
    str
        Lines without a line feed at the end.

    Examples
    --------
    >>> from fastbp.graph import Variable
    >>> x = Variable(3.0, "x")
    >>> y = x * x + 1.0
    >>> y.backward()
    >>> print(to_text(y))
                 value  derivative
    +               10           1
    ├─ *             9           1
    │  ├─ x [1]      3           6
    │  └─ x [1]
    └─ leaf          1           1
    """
    nodes, count = _excerpt(node, limit)
    chosen = {id(drawn) for drawn in nodes}
    uses = Counter(id(before) for drawn in nodes for before in drawn.inputs)
    marks: dict[int, int] = {}
    shown: set[int] = set()
    rows = [("", "value", "derivative")]
    trees = deque([node])
    while trees:
        root = trees.popleft()
        if id(root) in shown:  # met again, less deep
            continue
        waiting: list[tuple[Node | None, str, str, int]] = [(root, "", "", 0)]
        while waiting:
            at, indent, branch, depth = waiting.pop()
            if at is None:
                rows.append((indent + branch + MORE, "", ""))
                continue
            label, later = indent + branch + _label(at), depth > DEPTH and bool(at.inputs)
            if later or uses[id(at)] > 1 or id(at) in marks:
                label += f" [{marks.setdefault(id(at), len(marks) + 1)}]"
            if later or id(at) in shown:
                rows.append((label, "", ""))
                trees.append(at)
                continue
            shown.add(id(at))
            rows.append((label, _inline(at.value), _inline(at.grad)))
            below = _inputs(at, chosen)
            indent += {"": "", FORK: THROUGH, LAST: END}[branch]
            for place in reversed(range(len(below))):
                waiting.append((below[place], indent, LAST if place == len(below) - 1 else FORK, depth + 1))
    return "\n".join([*aligned(rows, "<>>"), *_not_drawn(len(nodes), count)])


def to_dot(node: Node, *, limit: int = LIMIT) -> str:
    """Describe a graph in the language of Graphviz, laid out from left to right.

    Parameters
    ----------
    node : node of a graph
        The result.
    limit : int, default 200
        Nodes that are drawn at most: those nearest to the result.

    Returns
    -------
    str
        A ``digraph`` in which ``n3`` is a leaf or an operation, and ``v3`` the line that leaves it, with its
        value and its derivative.

    Examples
    --------
    >>> from fastbp.graph import Variable
    >>> print(to_dot(Variable(2.0, "x") * 3.0).splitlines()[0])
    digraph {
    """
    return graphviz.describe(*_items(node, limit))


def draw(
    node: Node, path: str | os.PathLike[str], *, limit: int = LIMIT, renderer: str | None = None
) -> None:
    """Write a picture of a graph: the value above each line, the derivative below it.

    Parameters
    ----------
    node : node of a graph
        The result.
    path : str or path-like
        Ends in ``.svg`` or ``.png``.
    limit : int, default 200
        Nodes that are drawn at most: those nearest to the result.
    renderer : {"graphviz", "matplotlib"}, optional
        By default Graphviz where its program ``dot`` is on the PATH, matplotlib otherwise.

    Raises
    ------
    ValueError
        For another ending or renderer, and for a limit below 1.
    ImportError
        Without Graphviz and matplotlib, saying how to install them.
    RuntimeError
        When Graphviz fails, with its words.
    OSError
        When the file cannot be written; an old one is then what it was.
    """
    kind = figures.kind_of(path)
    atomic.replace(path, _picture(node, kind, limit, renderer))


def to_svg(node: Node, *, limit: int = LIMIT, renderer: str | None = None) -> str | None:
    """Draw a graph as SVG, as `draw` does; None without Graphviz and matplotlib.

    A notebook shows what a method ``_repr_svg_`` gives, and goes on to the next form where that is None.
    """
    try:
        return _picture(node, "svg", limit, renderer).decode()
    except ImportError:
        return None


def to_html(node: Node, *, limit: int = LIMIT) -> str:
    """The text of `to_text` for a page of HTML."""
    return f'<pre style="line-height: 1.2">{html.escape(to_text(node, limit=limit))}</pre>'


def mimebundle(
    node: Node, include: Container[str] | None = None, exclude: Container[str] | None = None
) -> dict[str, str]:
    """What a method ``_repr_mimebundle_`` gives to a notebook: text, and SVG or, without a renderer, HTML."""
    text = to_text(node)
    bundle = {"text/plain": text}
    if include is None or "image/svg+xml" in include:
        svg = to_svg(node)
        bundle |= {"text/html": to_html(node)} if svg is None else {"image/svg+xml": svg}
    return {kind: shown for kind, shown in bundle.items() if kind not in (exclude or ())}


# What is drawn of a graph


def _excerpt(result: Node, limit: int) -> tuple[list[Node], int]:
    """At most ``limit`` nodes, those nearest to the result, inputs before outputs; how many there are."""
    if limit < 1:
        raise ValueError(f"limit is {limit}, expected a whole number >= 1")
    nearest = [result]
    found = {id(result)}
    for node in nearest:  # which grows meanwhile
        for before in node.inputs:
            if id(before) not in found:
                found.add(id(before))
                nearest.append(before)
    chosen = {id(node) for node in nearest[:limit]}
    ordered: list[Node] = []
    started = {id(result)}
    waiting = [(result, iter(result.inputs))]
    while waiting:
        node, rest = waiting[-1]
        following = next((one for one in rest if id(one) in chosen and id(one) not in started), None)
        if following is None:
            ordered.append(node)
            waiting.pop()
        else:
            started.add(id(following))
            waiting.append((following, iter(following.inputs)))
    return ordered, len(nearest)


def _inputs(node: Node, chosen: Container[int]) -> list[Node | None]:
    """The inputs that are drawn, and one None for those that are not."""
    drawn: list[Node | None] = [before for before in node.inputs if id(before) in chosen]
    return drawn if len(drawn) == len(node.inputs) else [*drawn, None]


def _items(result: Node, limit: int) -> tuple[list[Item], list[tuple[str, str]]]:
    """The nodes as they are drawn, the result last, and what is to be said below them, each in a colour."""
    nodes, count = _excerpt(result, limit)
    chosen = {id(node) for node in nodes}
    items: list[Item] = []
    places: dict[int, int] = {}
    for node in nodes:
        inputs = []
        for before in _inputs(node, chosen):
            if before is None:
                items.append(Item(MORE, True, (), (), ()))
            inputs.append(len(items) - 1 if before is None else places[id(before)])
        places[id(node)] = len(items)
        leaf, name = not node.inputs, _words(node.name or "")
        symbol = name if leaf else IN_PRINT.get(node.operation, _words(node.operation))
        above, below = _block(node.value), _block(node.grad)
        if name and not leaf:
            between = " = " if np.ndim(node.value) == 0 else " "
            above = (name + between + above[0], *above[1:])
        items.append(Item(symbol, leaf, above, below, tuple(inputs)))
    back = (
        "no derivatives: backward has not run"
        if result.grad is None
        else "below the line: derivative of the result"
    )
    notes = [("above the line: value", VALUE), (back, DERIVATIVE)]
    return items, notes + [(text, QUIET) for text in _not_drawn(len(nodes), count)]


def _not_drawn(drawn: int, count: int) -> list[str]:
    return (
        [f"{MORE} the {drawn:,} of {count:,} nodes that are nearest to the result"] if drawn < count else []
    )


# Words and numbers


def _words(text: str) -> str:
    """A name on one line, of letters that every format can hold, cut where it is too long."""
    line = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    return line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1] + MORE


def _label(node: Node) -> str:
    """What stands in a tree of text: the name, the operation, or both."""
    name, operation = _words(node.name or ""), _words(node.operation)
    return f"{name} = {operation}" if name and operation else name or operation or "leaf"


def _number(number: float, digits: int) -> str:
    return f"{number + 0.0:.{digits}g}"  # -0 + 0 is 0


def _inline(array: NDArray[Any] | None) -> str:
    """An array in a line: its numbers, or its shape where they are many."""
    if array is None:
        return "-"
    array = np.asarray(array)
    if array.ndim == 0:
        return _number(array.item(), DIGITS)
    if array.size > LONGEST_LIST:
        return str(array.shape)
    return _nested(array.tolist())


def _nested(numbers: Any) -> str:
    if isinstance(numbers, list):
        return f"[{' '.join(map(_nested, numbers))}]"
    return _number(numbers, DIGITS_IN_ARRAY)


def _block(array: NDArray[Any] | None) -> tuple[str, ...]:
    """A number, or an array's shape and below it, where they are few, its numbers in rows."""
    if array is None:
        return ()
    array = np.asarray(array)
    if array.ndim == 0:
        return (_number(array.item(), DIGITS),)
    if array.ndim > 2 or array.size == 0 or max(array.shape) > LARGEST_SHOWN:
        return (str(array.shape),)
    table = [[_number(number, DIGITS_IN_ARRAY) for number in row] for row in np.atleast_2d(array).tolist()]
    rows = aligned(table, ">" * len(table[0]))
    return (str(array.shape), *(row.replace(" ", graphviz.SPACE) for row in rows))


# Pictures


def _picture(node: Node, kind: str, limit: int, renderer: str | None) -> bytes:
    if renderer not in (None, *RENDERERS):
        raise ValueError(f"renderer is {renderer!r}, expected one of {', '.join(RENDERERS)}, or None")
    program = graphviz.program()
    if renderer == "graphviz" and program is None:
        raise ImportError(INSTALL)
    if program is not None and renderer != "matplotlib":
        return graphviz.render(program, to_dot(node, limit=limit), kind)
    items, notes = _items(node, limit)
    picture = io.BytesIO()
    try:
        with figures.rendered(picture, kind, 1.0, 1.0) as figure:
            paint(figure, items, notes)
    except ImportError as error:
        raise ImportError(f"{INSTALL}, or matplotlib: {figures.INSTALL}") from error
    return picture.getvalue()
