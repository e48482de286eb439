"""Graphs in the language of Graphviz, and its program ``dot``."""

from __future__ import annotations

import html
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence

from fastbp.figures import DERIVATIVE, GROUND, INK, VALUE
from fastbp.layered import Item

SECONDS = 60.0  # for a picture; graphs of 200 nodes take one
LINE = "arrowhead=none weight=8"  # from a symbol to its value and on to where that branches; kept straight
SPACE = "\u00a0"  # HTML and SVG keep several of them


def describe(items: Sequence[Item], notes: Sequence[tuple[str, str]]) -> str:
    """A ``digraph`` of the items, and below it notes of (words, colour)."""
    uses = Counter(before for item in items for before in item.inputs)
    words = "".join(
        f'<font color="{color}">{_escape(text)}</font><br align="left"/>' for text, color in notes
    )
    lines = [
        "digraph {",
        "graph [rankdir=LR pad=0.15 nodesep=0.2 ranksep=0.3 nslimit=2]",  # else minutes for some 200 nodes
        f'graph [fontname="Helvetica" fontsize=10 labelloc=b labeljust=l label=<{words}>]',
        f'node [fontname="Helvetica" fontsize=11 color="{INK}" fontcolor="{INK}"]',
        f'edge [color="{INK}" arrowsize=0.6]',
    ]
    if max(uses.values(), default=0) < 2:  # in a tree this crosses nothing
        lines.append("graph [ordering=in]")
    for number, item in enumerate(items):
        lines.append(f"n{number} [{_symbol(item)}]")
        lines.append(f"v{number} [shape=plain label=<{_table(item)}>]")
        lines.append(f"n{number} -> v{number}:w [{LINE}]")
        if uses[number] > 1:
            lines.append(f'b{number} [shape=point fillcolor="{INK}"]')
            lines.append(f"v{number}:e -> b{number} [{LINE}]")
        ends = (f"b{before}" if uses[before] > 1 else f"v{before}:e" for before in item.inputs)
        lines.extend(f"{end} -> n{number}" for end in ends)
    lines.append("result [shape=point style=invis]")
    lines.append(f"v{len(items) - 1}:e -> result")
    return "\n".join([*lines, "}", ""])


def _symbol(item: Item) -> str:
    """A leaf by its name; an operation in a circle, in a box where its name is long."""
    if item.leaf:
        return f"shape=plain label=<{_escape(item.symbol)}>" if item.symbol else 'shape=plain label=""'
    shape = "circle fixedsize=true" if len(item.symbol) < 4 else "box margin=0.08"
    look = f'style="filled,rounded" fillcolor="{GROUND}" width=0.42 height=0.42'
    return f"shape={shape} {look} label=<{_escape(item.symbol)}>"


def _table(item: Item) -> str:
    """As many lines above the rule as below it, so that the rule goes on in the edges at both sides."""
    count = max(len(item.above), len(item.below), 1)
    above = (SPACE,) * (count - len(item.above)) + item.above
    below = item.below + (SPACE,) * (count - len(item.below))
    rows = (
        f'<tr><td><font face="monospace" point-size="10" color="{color}">'
        f"{'<br/>'.join(map(_escape, lines))}</font></td></tr>"
        for lines, color in ((above, VALUE), (below, DERIVATIVE))
    )
    frame = f'border="0" cellborder="0" cellspacing="0" cellpadding="2" color="{INK}"'
    return f"<table {frame}>{'<hr/>'.join(rows)}</table>"


def _escape(text: str) -> str:
    """Text for labels in HTML; Graphviz would put a node's name for a backslash and an N."""
    return html.escape(text).replace("\\", "\\\\")


def program() -> str | None:
    """Where Graphviz is, None where it is not."""
    return shutil.which("dot")


def render(executable: str, text: str, kind: str) -> bytes:
    """The picture of what `describe` gave, ``"svg"`` or ``"png"``."""
    command = [executable, f"-T{kind}", *(["-Gdpi=150"] if kind == "png" else [])]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"Graphviz failed: {error.stderr.decode(errors='replace').strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"Graphviz failed: {error}") from error
    return done.stdout
