"""The tour: chapters in their order, computed, printed, and their pictures written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from fastbp import columns
from fastbp.explain import (
    chain_rule,
    descent,
    layer,
    local_computation,
    nodes,
    numerical,
    outlier,
    shop,
    sigmoid,
    three_layers,
    training,
    two_layers,
    vanishing,
)
from fastbp.explain.page import LANGUAGES, Page, read, render

CHAPTERS: dict[str, Callable[[], Page]] = {
    "chain-rule": chain_rule.compute,
    "local-computation": local_computation.compute,
    "shop": shop.compute,
    "nodes": nodes.compute,
    "sigmoid": sigmoid.compute,
    "layer": layer.compute,
    "two-layers": two_layers.compute,
    "three-layers": three_layers.compute,
    "numerical": numerical.compute,
    "outlier": outlier.compute,
    "vanishing": vanishing.compute,
    "descent": descent.compute,
    "training": training.compute,
}


def choose(chapter: str | None) -> tuple[str, ...]:
    """The chapter of a name or a number from 1; all of them where none is given."""
    names = tuple(CHAPTERS)
    if chapter is None:
        return names
    if chapter in CHAPTERS:
        return (chapter,)
    if chapter.isdecimal() and 1 <= int(chapter) <= len(names):
        return (names[int(chapter) - 1],)
    raise ValueError(f"chapter is {chapter!r}, expected 1 to {len(names)} or one of {', '.join(names)}")


def contents(language: str) -> str:
    """A line for each chapter: number, name and title."""
    length = max(map(len, CHAPTERS))
    return "\n".join(
        f"{place:3}  {name:{length}}  {read(name, language)[0]}" for place, name in enumerate(CHAPTERS, 1)
    )


def write_chapters(
    names: Iterable[str],
    language: str = LANGUAGES[0],
    folder: str | os.PathLike[str] | None = None,
    between: Callable[[], None] = print,
) -> None:
    """Compute chapters and print them, one after the other.

    Parameters
    ----------
    names : iterable of str
        Out of ``CHAPTERS``.
    language : {"en", "ko"}
        Of the texts; default English.
    folder : path-like, optional
        Where the pictures go, made if it is not there; their paths are printed.
    between : callable
        Called between two chapters; default: an empty line.

    Raises
    ------
    OSError
        When the folder cannot be made or a picture not be written.
    ImportError
        For pictures without matplotlib.
    """
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    places = {name: place for place, name in enumerate(CHAPTERS, 1)}
    for index, name in enumerate(names):
        if index:
            between()
        title, template = read(name, language)
        heading = f"{places[name]}. {title}"
        page = CHAPTERS[name]()
        print(heading, "═" * columns.width(heading), "", render(page, template), "", sep="\n", flush=True)
        if folder is not None:
            for picture, draw in page.pictures.items():
                draw(Path(folder, picture))
                print(f"→ {Path(folder, picture)}")
            print()
