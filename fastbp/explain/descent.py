"""Paths of descent: a convex surface, a saddle, a second valley."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import fastbp as bp
from fastbp.explain.page import Code, Page, Table, derivative
from fastbp.graph import Variable

Number = TypeVar("Number", Variable, NDArray[np.float64])
Height = Callable[[Any, Any], Any]  # of nodes or of arrays
Point = tuple[float, float]
Way = NDArray[np.float64]  # (steps + 1, 2)

SHADES = " .:-=+"  # from the lowest to the highest
COLUMNS, LINES = 72, 17
LETTERS = {"plain": "p", "momentum": "m", "adam": "a"}


@dataclass(frozen=True)
class Surface:
    """A function of two numbers, and a descent on it.

    Attributes
    ----------
    height : callable
        The function, of nodes or of arrays.
    start, lr, steps
        Where the descent begins, and how it goes on.
    bounds : (x low, x high, y low, y high)
        What the pictures show.
    marks : mapping of str to (x, y)
        Places worth a name.
    """

    height: Height
    start: Point
    lr: float
    steps: int
    bounds: tuple[float, float, float, float]
    marks: Mapping[str, Point] = field(default_factory=dict)


def convex(x: Number, y: Number) -> Number:
    return x**2 / 2 + 2 * y**2


def saddle(x: Number, y: Number) -> Number:
    return x**4 / 4 + 2 * x**3 / 3 + y**2 / 2


def two_valleys(x: Number, y: Number) -> Number:
    return x**4 / 4 - x**2 / 2 + x / 5 + y**2 / 2


def ridge(x: Number, y: Number) -> Number:
    return x**2 / 2 - y**2 / 2 + y**4 / 4


SURFACES = {
    "convex": Surface(convex, (-3.0, 1.5), 0.1, 300, (-3.5, 3.5, -2.0, 2.0), {"lowest": (0.0, 0.0)}),
    "saddle": Surface(
        saddle, (1.2, 1.0), 0.1, 500, (-3.0, 1.5, -1.3, 1.3), {"saddle": (0.0, 0.0), "lowest": (-2.0, 0.0)}
    ),
    "two-valleys": Surface(two_valleys, (1.6, 1.0), 0.2, 200, (-2.0, 2.0, -1.3, 1.3)),
}
SHOWN = (0, 1, 5, 10, 20, 50, 100, 200, 500)
RIDGE_STARTS, RIDGE_STEPS, RIDGE_LR = ((2.0, 0.0), (2.0, 1e-6), (2.0, 1e-3)), 500, 0.05


def optimizers(lr: float) -> dict[str, bp.Optimizer]:
    return {"plain": bp.SGD(lr), "momentum": bp.SGD(lr, momentum=0.9), "adam": bp.Adam(lr)}


def descend(height: Height, start: Point, optimizer: bp.Optimizer, steps: int) -> Way:
    def loss(output: Variable, target: Variable) -> Variable:
        return height(output[0, 0], output[0, 1])

    net = bp.Network([bp.Dense(1, 2)], loss=loss, optimizer=optimizer, dtype="float64")
    position = net.layers[0].parameters["bias"]  # the output, where x is 0
    position[:] = start
    way = [position.copy()]
    for _ in range(steps):
        net.partial_fit([[0.0]], [[0.0, 0.0]])
        way.append(position.copy())
    return np.array(way)


def compute() -> Page:
    """The paths of three optimisers on three surfaces, and how soon each leaves a ridge."""
    values: dict[str, Any] = {"code": Code(descend)}
    pictures = {}
    for name, surface in SURFACES.items():
        ways = {
            key: descend(surface.height, surface.start, optimizer, surface.steps)
            for key, optimizer in optimizers(surface.lr).items()
        }
        key = name.replace("-", "_")
        values |= {
            f"{key}_code": Code(surface.height),
            f"{key}_lr": surface.lr,
            f"{key}_steps": surface.steps,
            f"{key}_ends": Table(_ends(surface, ways)),
            f"{key}_way": Table(_points(surface, ways)),
            f"{key}_picture": picture(surface, ways),
        }
        pictures[f"descent-{name}.svg"] = partial(_draw, surface, ways, name.replace("-", " "))
    values |= {"ridge_code": Code(ridge), "ridge_steps": RIDGE_STEPS, "ridge": Table(_ridge_rows())}
    return Page(values, pictures)


def slope(height: Height, point: Way) -> float:
    """The length of the gradient at a point."""
    x, y = map(Variable, point)
    height(x, y).backward()
    return float(np.hypot(derivative(x), derivative(y)))


def picture(surface: Surface, ways: Mapping[str, Way]) -> str:
    """The surface from above in shades, the paths as letters, a capital where a path ends."""
    left, right, low, high = surface.bounds
    x, y = np.meshgrid(np.linspace(left, right, COLUMNS), np.linspace(high, low, LINES))
    height = surface.height(x, y)
    rank = height.ravel().argsort().argsort().reshape(height.shape)  # every shade as often
    shades = np.array(list(SHADES))[rank * len(SHADES) // rank.size]

    def put(point: Way, letter: str) -> None:
        column = round((point[0] - left) / (right - left) * (COLUMNS - 1))
        line = round((high - point[1]) / (high - low) * (LINES - 1))
        if 0 <= column < COLUMNS and 0 <= line < LINES:
            shades[line, column] = letter

    for key in reversed(LETTERS):  # plain descent, the shortest way, on top
        for point in ways[key]:
            put(point, LETTERS[key])
    for key, letter in LETTERS.items():
        put(ways[key][-1], letter.upper())
    put(np.array(surface.start), "S")
    return "\n".join("    " + "".join(line).rstrip() for line in shades)


def _ends(surface: Surface, ways: Mapping[str, Way]) -> list[list[str]]:
    rows = []
    for way in ways.values():
        end = way[-1].round(3) + 0.0
        height = float(surface.height(*way[-1]))
        rows.append(
            [f"({end[0]:.3f}, {end[1]:.3f})", f"{height:.4f}", f"{slope(surface.height, way[-1]):.0e}"]
        )
    return rows


def _points(surface: Surface, ways: Mapping[str, Way]) -> list[list[str]]:
    return [
        [f"{at:,}", *(f"({x:.3f}, {y:.3f})" for x, y in (way[at].round(3) + 0.0 for way in ways.values()))]
        for at in SHOWN
        if at <= surface.steps
    ]


def _ridge_rows() -> list[list[str]]:
    """For every start the number of steps until each descent has left the ridge."""
    rows = []
    for start in RIDGE_STARTS:
        row = [f"({start[0]:g}, {start[1]:g})"]
        for optimizer in optimizers(RIDGE_LR).values():
            way = descend(ridge, start, optimizer, RIDGE_STEPS)
            down = np.flatnonzero(np.abs(way[:, 1]) > 0.5)
            row.append(str(down[0]) if len(down) else "-")
        rows.append(row)
    return rows


def _draw(surface: Surface, ways: Mapping[str, Way], title: str, path: Path) -> None:
    from fastbp.charts import draw_paths

    names = {"plain": "plain descent", "momentum": "momentum", "adam": "Adam"}
    named = {names[key]: way for key, way in ways.items()}
    draw_paths(surface.height, named, path, marks=surface.marks, bounds=surface.bounds, title=title)
