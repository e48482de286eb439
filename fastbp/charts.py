"""Charts of what a training measures: curves, norms by layer, descent paths, points with fitted lines."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import columns
from fastbp.figures import INK, PALETTE, QUIET, saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Path = str | os.PathLike[str]
Vector = NDArray[np.float64]

MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
GRID = 201  # points along each side of the window over which contours are drawn
CONTOURS = 18
ON_THE_CHART = 1e-150, 1e150  # norms; matplotlib's scales overflow not far beyond
LETTERS = 60  # that fit side by side below a chart
BLOCKS = " \u258f\u258e\u258d\u258c\u258b\u258a\u2589\u2588"  # a character filled by eighths, from the left


def draw_norms(
    names: Sequence[str],
    norms: Mapping[str, ArrayLike] | ArrayLike,
    path: Path,
    *,
    title: str = "",
    x_label: str = "layer, from the input to the output",
    y_label: str = "norm of the gradient",
) -> None:
    """Draw one value per layer, on a logarithmic scale, as SVG or PNG.

    Parameters
    ----------
    names : sequence of str
        The layers, from the input to the output.
    norms : mapping of str to array-like of shape (layers,), or one such array
        A series for each name: activations, initialisations.  A norm of 0 is marked on the lower edge.
    path : str or path-like
        Ends in ``.svg`` or ``.png``.
    title, x_label, y_label : str
        What stands above and beside the axes.

    Raises
    ------
    ValueError
        For another ending, and for a series that has not one value per layer.
    ImportError
        Without matplotlib.
    OSError
        When the file cannot be written; an old one is then what it was.
    """
    series = norms if isinstance(norms, Mapping) else {"": norms}
    rows = {name: _vector(row, f"norms {name!r}" if name else "norms") for name, row in series.items()}
    for name, row in rows.items():
        if len(row) != len(names):
            raise ValueError(
                f"norms {name!r} has {len(row)} values, expected one for each of {len(names)} names"
            )
    places = np.arange(len(names))
    with saved(path, max(5.6, 2.0 + 0.4 * len(names)) + (1.4 if len(rows) > 1 else 0.0), 3.8) as figure:
        axes = _axes(figure, title, x_label, y_label)
        axes.set_yscale("log")
        edge = axes.get_xaxis_transform()
        for look, (name, row) in zip(_looks(), rows.items(), strict=False):
            axes.plot(places, _on_the_chart(row), label=name, **look)
            zeros = places[row == 0.0]
            hollow = {**look, "linestyle": "none", "markerfacecolor": "white", "markersize": 7.0}
            axes.plot(zeros, np.zeros(len(zeros)), transform=edge, clip_on=False, **hollow)
        if any((row == 0.0).any() for row in rows.values()):
            axes.set_xlabel(f"{x_label}\n(hollow, on the axis: 0)")
        shown = np.concatenate([[], *map(_on_the_chart, rows.values())])
        if np.isfinite(shown).any():  # whole powers of ten, so that there is a line to read a value by
            low, high = np.floor(np.log10(np.nanmin(shown))), np.ceil(np.log10(np.nanmax(shown)))
            axes.set_ylim(0.8 * 10.0**low, 1.25 * 10.0**high)
        axes.set_xticks(places, names)
        if max(map(columns.width, names), default=0) * len(names) > LETTERS:
            axes.tick_params("x", labelrotation=40.0)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.4, len(names) - 0.6)
        _legend(axes)


def draw_curves(
    series: Mapping[str, ArrayLike],
    path: Path,
    *,
    title: str = "",
    x_label: str = "epoch",
    y_label: str = "loss",
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Draw named curves, losses by epoch or times by size, as SVG or PNG.

    Parameters
    ----------
    series : mapping of str to array-like
        Values of shape (points,), drawn over 1, 2, 3, ..., or x and y as rows, shape (2, points).
    path : str or path-like
        Ends in ``.svg`` or ``.png``.
    title, x_label, y_label : str
        What stands above and beside the axes, with units.
    log_x, log_y : bool
        Logarithmic scales; with both, a power of the size is a straight line.

    Raises
    ------
    ValueError, ImportError, OSError
        As `draw_norms`.
    """
    curves = {name: _curve(values, f"series {name!r}") for name, values in series.items()}
    with saved(path, 6.4, 4.0) as figure:
        axes = _axes(figure, title, x_label, y_label)
        if log_x:
            axes.set_xscale("log", nonpositive="mask")
        if log_y:
            axes.set_yscale("log", nonpositive="mask")
        for look, (name, (x, y)) in zip(_looks(), curves.items(), strict=False):
            axes.plot(x, y, label=name, **look, markevery=max(1, len(x) // 16))
        _legend(axes)


def draw_paths(
    function: Callable[[Vector, Vector], ArrayLike],
    paths: Mapping[str, ArrayLike],
    path: Path,
    *,
    marks: Mapping[str, tuple[float, float]] | None = None,
    bounds: tuple[float, float, float, float] | None = None,
    title: str = "",
    x_label: str = "x",
    y_label: str = "y",
) -> None:
    """Draw the contours of a function of two variables, and ways of descent over them, as SVG or PNG.

    Parameters
    ----------
    function : callable
        Takes two float64 arrays of one shape and gives the values, of that shape.
    paths : mapping of str to array-like of shape (steps, 2)
        The points that each optimiser came by, the start first.
    path : str or path-like
        Ends in ``.svg`` or ``.png``.
    marks : mapping of str to (x, y), optional
        Points with a name: the lowest, a saddle.
    bounds : (x low, x high, y low, y high), optional
        The window; by default what the paths and marks take, and a margin.
    title, x_label, y_label : str
        What stands above and beside the axes.

    Raises
    ------
    ValueError, ImportError, OSError
        As `draw_norms`.
    """
    if not paths:
        raise ValueError("paths is empty, expected at least one")
    ways = {name: _rows_of_two(points, f"paths {name!r}") for name, points in paths.items()}
    named = {name: _vector(point, f"marks {name!r}") for name, point in (marks or {}).items()}
    low_x, high_x, low_y, high_y = bounds or _window(
        [*ways.values(), *(point[None] for point in named.values())]
    )
    x, y = np.meshgrid(np.linspace(low_x, high_x, GRID), np.linspace(low_y, high_y, GRID))
    height = np.asarray(function(x, y), np.float64)
    if height.shape != x.shape:
        raise ValueError(
            f"function gave shape {height.shape} for arrays of shape {x.shape}, expected that shape"
        )
    levels = _levels(height)
    with saved(path, 7.2, 4.8) as figure:
        axes = _axes(figure, title, x_label, y_label)
        axes.grid(visible=False)
        axes.contourf(x, y, height, levels, cmap="Greys", alpha=0.45, extend="both")
        axes.contour(x, y, height, levels, colors=QUIET, linewidths=0.5, linestyles="solid")
        for look, (name, points) in zip(_looks(), ways.items(), strict=False):
            axes.plot(*points.T, label=name, **{**look, "markersize": 3.0, "linewidth": 1.4})
            axes.plot(*points[-1], **{**look, "markersize": 9.0, "markeredgecolor": "white"}, zorder=4)
        start = next(iter(ways.values()))[0]
        axes.plot(*start, "o", color="white", markeredgecolor=INK, markersize=9.0, zorder=5)
        for name, (right, up) in {"start": start, **named}.items():
            if name != "start":
                axes.plot(right, up, "+", color=INK, markersize=10.0, zorder=5)
            _label(axes, name, right, up)
        axes.set(xlim=(low_x, high_x), ylim=(low_y, high_y))
        figure.legend(loc="outside right upper", title="lighter is lower", alignment="left")


def draw_points(
    x: ArrayLike,
    y: ArrayLike,
    path: Path,
    *,
    lines: Mapping[str, ArrayLike] | None = None,
    title: str = "",
    x_label: str = "x",
    y_label: str = "y",
) -> None:
    """Draw data as points, and lines fitted to them, as SVG or PNG.

    Parameters
    ----------
    x, y : array-like of shape (points,)
        The data.
    path : str or path-like
        Ends in ``.svg`` or ``.png``.
    lines : mapping of str to array-like, optional
        Each of shape (points,), the line's values at ``x``, or (2, points), x and y of its own.
    title, x_label, y_label : str
        What stands above and beside the axes.

    Raises
    ------
    ValueError, ImportError, OSError
        As `draw_norms`.
    """
    across, up = _vector(x, "x"), _vector(y, "y")
    if len(across) != len(up):
        raise ValueError(f"y has {len(up)} values, but x has {len(across)}")
    curves = {name: _curve(line, f"lines {name!r}", across) for name, line in (lines or {}).items()}
    with saved(path, 6.4, 4.0) as figure:
        axes = _axes(figure, title, x_label, y_label)
        axes.plot(across, up, "o", color=INK, markersize=6.0, label="data", zorder=3)
        for look, (name, curve) in zip(_looks(), curves.items(), strict=False):
            axes.plot(*curve, label=name, **{**look, "marker": "none"})
        _legend(axes)


def bars(names: Sequence[str], values: ArrayLike, *, log: bool = False, width: int = 40) -> str:
    """Numbers with bars beside them, a line each, for a terminal.

    Parameters
    ----------
    names : sequence of str
        One per value.
    values : array-like of shape (names,)
        Not negative.
    log : bool, default False
        Bars as long as the logarithm, from a tenth of the smallest positive value: every power of ten adds
        the same length.
    width : int, default 40
        Characters of the longest bar.

    Returns
    -------
    str
        Lines without a line feed at the end.

    Examples
    --------
    >>> print(bars(["a", "long name"], [1.0, 4.0], width=8))
    a          1  ██
    long name  4  ████████
    """
    numbers = _vector(values, "values")
    if len(numbers) != len(names):
        raise ValueError(f"values has {len(numbers)} numbers for {len(names)} names")
    if numbers.min(initial=0.0) < 0.0:
        raise ValueError(f"values holds {numbers.min():g}, expected none below 0")
    blocks = [bar(share, width) for share in shares(numbers, log=log)]
    shown = [f"{number:.4g}" for number in numbers]
    return "\n".join(columns.aligned(list(zip(names, shown, blocks, strict=True)), "<><"))


def bar(share: float, width: int) -> str:
    """A bar of a share, from 0 to 1, of so many characters."""
    whole, eighths = divmod(round(8 * width * min(max(share, 0.0), 1.0)), 8)
    return (BLOCKS[8] * whole + BLOCKS[eighths]).rstrip()


def shares(values: ArrayLike, *, log: bool = False) -> list[float]:
    """How long the bars of numbers are beside the longest, from 0 to 1; ``log`` as in `bars`."""
    numbers = np.asarray(values, np.float64)
    drawn = np.where(np.isfinite(numbers), numbers, 0.0)
    if log:
        positive = drawn[drawn > 0.0]
        floor = positive.min(initial=np.inf) / 10.0
        drawn = np.log10(np.maximum(drawn, floor) / floor) if len(positive) else drawn
    lengths: list[float] = (drawn / (drawn.max(initial=0.0) or 1.0)).tolist()
    return lengths


# What all of them share


def _axes(figure: Figure, title: str, x_label: str, y_label: str) -> Axes:
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return axes


def _on_the_chart(norms: Vector) -> Vector:
    """NaN for what a logarithmic scale has no place for."""
    least, most = ON_THE_CHART
    return np.where((norms >= least) & (norms <= most), norms, np.nan)


def _looks() -> Iterator[dict[str, Any]]:
    """Colour, marker and dashes: nothing is told by its colour alone; after six they change partners."""
    for number in itertools.count():
        turn = number // len(PALETTE)
        yield {
            "color": PALETTE[number % len(PALETTE)],
            "marker": MARKERS[(number + turn) % len(MARKERS)],
            "linestyle": DASHES[(number + 2 * turn) % len(DASHES)],
        }


def _legend(axes: Axes) -> None:
    """A legend beside the axes, where it covers nothing, if there is more to tell apart than one thing."""
    handles, labels = axes.get_legend_handles_labels()
    if len([label for label in labels if label]) > 1:
        axes.figure.legend(handles, labels, loc="outside right upper")


def _label(axes: Axes, text: str, x: float, y: float) -> None:
    """Words beside a point, on a ground that lets them be read over contours."""
    ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    axes.annotate(text, (x, y), (8, 8), textcoords="offset points", bbox=ground, zorder=6)


def _window(clouds: list[Vector]) -> tuple[float, float, float, float]:
    """What the points take, and a margin of a fifth at each side."""
    points = np.concatenate(clouds)
    points = points[np.isfinite(points).all(axis=1)]
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.2 * np.maximum(high - low, 0.5 * (high - low).max() or 1.0)
    (low_x, low_y), (high_x, high_y) = (low - margin).tolist(), (high + margin).tolist()
    return low_x, high_x, low_y, high_y


def _levels(height: Vector) -> Vector:
    """Contours at quantiles: as many in a flat valley as on the steep walls around it."""
    finite = height[np.isfinite(height)]
    if not finite.size:
        raise ValueError("function gave no finite value in the window")
    levels = np.unique(np.quantile(finite, np.linspace(0.0, 1.0, CONTOURS)))
    return levels if len(levels) > 1 else np.append(levels, levels + 1.0)


def _vector(values: ArrayLike, argument: str) -> Vector:
    vector = np.asarray(values, np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{argument} has shape {vector.shape}, expected (values,)")
    return vector


def _curve(values: ArrayLike, argument: str, x: Vector | None = None) -> tuple[Vector, Vector]:
    """x and y: two rows, or one over ``x``, over 1, 2, 3, ... where none is given."""
    array = np.asarray(values, np.float64)
    if array.ndim == 1 and (x is None or len(x) == len(array)):
        return (np.arange(1.0, len(array) + 1) if x is None else x), array
    if array.ndim == 2 and len(array) == 2:
        return array[0], array[1]
    wanted = "(points,)" if x is None else f"({len(x)},)"
    raise ValueError(f"{argument} has shape {array.shape}, expected {wanted} or (2, points)")


def _rows_of_two(values: ArrayLike, argument: str) -> Vector:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise ValueError(f"{argument} has shape {array.shape}, expected (steps, 2)")
    return array
