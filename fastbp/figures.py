"""Figures of matplotlib as SVG and PNG: one style, one palette, the same bytes every time.

matplotlib is optional and imported late.  No window, no pyplot: the user's own figures and settings stay as
they are.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from fastbp import _check, atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INSTALL = 'python -m pip install "fastbp[draw]"'

# Okabe and Ito's colours, apart for every kind of colour vision; the yellow is too light for lines.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, QUIET = "#222222", "#767676"
# In pictures of graphs; the orange a little darker, for small numbers.
VALUE, DERIVATIVE = PALETTE[0], "#B84A00"
GROUND = "#f3f3f3"  # of an operation's circle

# After matplotlib's own font, for scripts that it lacks; those that are installed are taken.
_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo")
_STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "figure.dpi": 150.0,
    "svg.fonttype": "none",  # text that can be searched and read aloud
    "svg.hashsalt": "fastbp",  # else the identifiers within are random
}
# matplotlib's settings belong to the process; two that restore them would mix them up.
_SETTINGS = threading.Lock()


def kind_of(path: str | os.PathLike[str]) -> str:
    """``"svg"`` or ``"png"``, by the ending of the file's name."""
    name = _check.path(path)
    ending = os.path.splitext(name)[1].lower()
    if ending not in (".svg", ".png"):
        raise ValueError(f"path is {name!r}, expected a name that ends in .svg or .png")
    return ending[1:]


@contextlib.contextmanager
def saved(path: str | os.PathLike[str], width: float, height: float) -> Iterator[Figure]:
    """A new figure, in inches, that is written to ``path`` at the end of the block: whole or not at all."""
    kind = kind_of(path)
    picture = io.BytesIO()
    with rendered(picture, kind, width, height) as figure:
        yield figure
    atomic.replace(path, picture.getvalue())


@contextlib.contextmanager
def rendered(target: IO[bytes], kind: str, width: float, height: float) -> Iterator[Figure]:
    """A new figure, in inches, that is drawn into ``target`` at the end of the block."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.font_manager import fontManager
    except ImportError as error:
        raise ImportError(f"this picture needs matplotlib: {INSTALL}") from error

    installed = set(fontManager.get_font_names())
    fonts = ["DejaVu Sans", *(name for name in _FONTS if name in installed)]
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
    with _SETTINGS, matplotlib.rc_context(), warnings.catch_warnings():
        if kind == "svg":  # the viewer's fonts may have the letters that ours lack
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, "font.family": fonts})
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(target, format=kind, metadata=metadata)
