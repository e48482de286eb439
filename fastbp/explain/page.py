"""A page of the tour: what a chapter computed, set into the text of a language.

A text is a template for `str.format`, its first line the title.  It names what the chapter computed,
``{total:g}``, and brings all words itself, those of tables too:
``{table:first head|second head;label of the first row|of the second}``.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import columns
from fastbp.graph import Variable

LANGUAGES = ("en", "ko")
TEXTS = Path(__file__).with_name("texts")
MARGIN = " " * 4
WIDTH = 96  # of prose, in columns of a terminal
APART = 3  # spaces between the columns of a table
# Where a line may end: at a space, but for those around a sign, so that a formula stays together.
SEPARABLE = re.compile(r"(?<![-=·←+≈*/])(?<!ln) (?![-=·←+≈*/] )")


@dataclass(frozen=True)
class Page:
    """What a chapter computed.

    Attributes
    ----------
    values : mapping of str to anything
        What the chapter's text names.
    pictures : mapping of str to callable
        For each file name the function that draws it to a path.
    """

    values: Mapping[str, Any]
    pictures: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)


def read(chapter: str, language: str) -> tuple[str, str]:
    """Title and template of a chapter."""
    text = (TEXTS / language / f"{chapter.replace('-', '_')}.txt").read_text(encoding="utf-8")
    title, _, template = text.partition("\n")
    return title, template.strip()


def render(page: Page, template: str) -> str:
    """The text with the chapter's values in their places, its prose filled into lines."""
    return "\n\n".join(map(filled, template.format_map(page.values).split("\n\n")))


def filled(paragraph: str) -> str:
    """Words filled into lines, items of a list under their dashes; what is indented stays as it is."""
    if paragraph.startswith(MARGIN):
        return paragraph
    lines = []
    for item in paragraph.replace("\n  ", " ").replace("\n- ", "\n\n- ").split("\n\n"):
        line, *words = SEPARABLE.split(item.replace("\n", " "))
        for word in words:
            if columns.width(line) + 1 + columns.width(word) > WIDTH:
                lines.append(line)
                line = f"  {word}" if paragraph.startswith("- ") else word
            else:
                line += f" {word}"
        lines.append(line)
    return "\n".join(lines)


class Table:
    """Rows of cells; a cell may have several lines.  Columns of numbers are flush right."""

    def __init__(self, rows: Iterable[Sequence[object]]) -> None:
        self.rows = [[str(cell) for cell in row] for row in rows]

    def __format__(self, words: str) -> str:
        head, _, labels = words.partition(";")
        rows = self.rows
        if labels:
            rows = [[label, *row] for label, row in zip(_split(labels), rows, strict=True)]
        return tabulated(_split(head), rows)


class Graph:
    """A computational graph as text; a language may give its leaves, in this order, names of its own.

    They keep them: the pictures that are saved afterwards show the same words.
    """

    def __init__(self, node: Variable, leaves: Sequence[Variable] = ()) -> None:
        self.node, self.leaves = node, leaves

    def __format__(self, words: str) -> str:
        if words:
            for leaf, name in zip(self.leaves, _split(words), strict=True):
                leaf.name = name
        return textwrap.indent(self.node.to_text(), MARGIN)


class Code:
    """The source of the functions and classes that were run."""

    def __init__(self, *objects: Callable[..., Any]) -> None:
        self.objects = objects

    def __format__(self, words: str) -> str:
        sources = (textwrap.dedent(inspect.getsource(each)).strip() for each in self.objects)
        return textwrap.indent("\n\n".join(sources), MARGIN)


def tabulated(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table under a head; the columns of numbers are flush right."""
    lines = []
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"a row has {len(row)} cells, the head {len(head)}: {row}, {head}")
        lines += list(zip_longest(*(cell.split("\n") for cell in row), fillvalue=""))
    sides = "".join(">" if all(map(_is_number, column)) else "<" for column in zip(*lines, strict=True))
    widths = (max(map(columns.width, column)) for column in zip(head, *lines, strict=True))
    rule = ["─" * width for width in widths]
    return textwrap.indent("\n".join(columns.aligned([head, rule, *lines], sides, apart=APART)), MARGIN)


def derivative(node: Variable) -> NDArray[Any]:
    """What the last backward brought to a node."""
    if node.grad is None:
        raise ValueError(f"{node!r} was not reached by a backward")
    return node.grad


def number(value: ArrayLike, digits: int = 4) -> str:
    """A number to so many significant digits, without the noise of rounding around 0."""
    return f"{float(value) + 0.0:.{digits}g}"  # type: ignore[arg-type]


def matrix(values: ArrayLike, decimals: int = 4) -> str:
    """A matrix, a line a row."""
    rows = np.atleast_2d(np.round(np.asarray(values, np.float64), decimals) + 0.0)
    texts = [[f"{entry:.{decimals}f}" for entry in row] for row in rows]
    width = max(len(f"{-1:.{decimals}f}"), *(len(text) for row in texts for text in row))
    return "\n".join("  ".join(text.rjust(width) for text in row) for row in texts)


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split("|")]


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").removesuffix(" %"))
    except ValueError:
        return cell in ("", "-")
    return True
