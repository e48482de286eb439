"""Columns of text that line up in a terminal, also where a letter takes two places."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def width(text: str) -> int:
    """Places that a text takes in a terminal: two for each Hangul syllable, Han character and their like.

    >>> width("apple"), width("사과")
    (5, 4)
    """
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def aligned(rows: Sequence[Sequence[str]], sides: str, *, apart: int = 2) -> list[str]:
    """Lines in which each column stands to its side, ``<`` or ``>``, with ``apart`` spaces between columns.

    >>> aligned([("name", "shape"), ("W1", "(2, 3)")], "<>")
    ['name   shape', 'W1    (2, 3)']
    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]

    def cell(text: str, side: str, places: int) -> str:
        space = " " * (places - width(text))
        return space + text if side == ">" else text + space

    between = " " * apart
    return [between.join(map(cell, row, sides, widths)).rstrip() for row in rows]
