"""The rules of the house, read from the sources: who may import whom, and what the core does without."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, CORE = ROOT / "fastbp", ROOT / "src_cython"
SOURCES = {".py", ".pyi", ".pyx", ".pxd", ".pxi", ".h"}

DESCRIPTIONS = {"layers", "activations", "architectures", "losses", "optimizers", "initializers"}
ON_TOP = {"bench", "explain", "demo", "gradients", "__main__"}

# The modules of the package that each may import; those on top may import any but each other's command line.
MAY_IMPORT = {
    "_version": set(),
    "_native": {"_version"},
    "_check": {"_native"},
    "_plan": {"_native", "layers", "activations", "architectures"},
    **{name: {"_native", "_check"} | DESCRIPTIONS for name in DESCRIPTIONS},
    "layers": {"_native", "_check", "initializers", "views"},
    "losses": {"_check", "node"},  # late: a loss of a user's own is differentiated by the graph
    "views": set(),
    "metrics": {"_native", "_check"},
    "differences": {"_check"},
    "atomic": {"_check"},
    "files": {"_check", "atomic"} | DESCRIPTIONS,
    "datasets": set(),
    "columns": set(),
    "figures": {"_check", "atomic"},
    "layered": {"figures"},
    "charts": {"columns", "figures"},
    "graphviz": {"figures", "layered"},
    "drawing": {"atomic", "columns", "figures", "layered", "graphviz"},
    "pace": set(),
    "snapshot": {"learner"},  # for its type alone
    "exclusive": set(),
    "evaluator": {"_plan", "_check", "_native", "metrics", "pace"} | DESCRIPTIONS,
    "learner": {
        "columns",
        "evaluator",
        "_plan",
        "_check",
        "_native",
        "metrics",
        "pace",
        "exclusive",
        "snapshot",
    }
    | DESCRIPTIONS,
    "interpreted": {"learner", "evaluator", "_check", "_native", "metrics", "views"} | DESCRIPTIONS,
    "training": {"evaluator", "learner", "snapshot", "exclusive", "_check", "_native", "metrics"},
    "node": {"_check"},
    "graph": {"node"},
    "network_graph": {"graph"} | DESCRIPTIONS,
    "network": {
        "training",
        "interpreted",
        "learner",
        "_check",
        "_native",
        "metrics",
        "files",
        "network_graph",
        "views",
    }
    | DESCRIPTIONS,
}
# Pictures know of nodes only what they read from them; what can be drawn calls for them inside its methods.
DRAWN = {"node": {"drawing"}, "network_graph": {"charts"}}
MODULES = {path.stem: path for path in sorted(PACKAGE.glob("*.py")) if path.stem != "__init__"}
ALLOWED_OUTSIDE = set(sys.stdlib_module_names) | {"numpy"}
IMPORTED_LATE = {"tqdm", "matplotlib"}  # inside the function that wants them, and only if they are there


def imports(path, *, module_level_only=False):
    """(first name, second name or None) of every import; ``from fastbp import a, b`` counts once for each."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if module_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first, _, rest = alias.name.partition(".")
                yield first, rest.partition(".")[0] or None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            first, _, rest = (node.module or "").partition(".")
            for alias in node.names:
                yield first, rest.partition(".")[0] or alias.name


def imports_of_the_package(path):
    return {second for first, second in imports(path) if first == "fastbp" and second}


def test_every_module_has_its_rule():
    assert set(MODULES) == set(MAY_IMPORT) | {name for name in ON_TOP if (PACKAGE / f"{name}.py").exists()}


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_module_imports_only_what_lies_below_it(name):
    beyond = imports_of_the_package(MODULES[name]) - MAY_IMPORT[name] - DRAWN.get(name, set()) - {name}
    assert not beyond, f"{name} imports {beyond}"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_module_level_imports_are_numpy_and_the_standard_library(path):
    known = ALLOWED_OUTSIDE | {"fastbp"}
    assert {first for first, _ in imports(path, module_level_only=True)} <= known
    if "bench" not in path.parts:  # which brings in its rivals late, those that are there
        assert {first for first, _ in imports(path)} <= known | IMPORTED_LATE


def test_nothing_below_the_top_imports_what_sits_on_top():
    for name in MAY_IMPORT:
        assert not imports_of_the_package(MODULES[name]) & ON_TOP, name


# The core: core.pyx -> step -> partials, online -> phases, evaluation -> stages
# -> dense, activations, losses, optimizers -> fetching -> real
# -> tile.h -> epilogues.h, panels.h, vmath.h -> simd.h

BELOW_THE_DOOR = sorted([*CORE.glob("*.pxd"), *CORE.glob("*.h")])
every_source_below = pytest.mark.parametrize("path", BELOW_THE_DOOR, ids=lambda path: path.name)


def code(path):
    """A source without comments and strings of documentation."""
    text = path.read_text()
    if path.suffix == ".h":
        return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
    return re.sub(r'"""(.*?)"""|#[^\n]*', "", text, flags=re.S)


@every_source_below
def test_nothing_below_the_door_allocates_reads_the_environment_or_raises(path):
    forbidden = (
        r"malloc|calloc|realloc|\bfree\s*\(|\bnew\b|PyMem|PyObject|PyErr|getenv|environ\b|\braise\b"
        r"|\bwith gil\b|\bexcept [-?*0-9]|\bprintf|\bobject\b|<list>|<dict>|\bdef \w|\bcpdef\b"
    )
    found = re.findall(forbidden, code(path))
    assert not found


@pytest.mark.parametrize("path", sorted(CORE.glob("*.pxd")), ids=lambda path: path.name)
def test_every_function_below_the_door_needs_no_gil_and_raises_nothing(path):
    heads = re.findall(r"^cdef (?!extern)[^:=]*\([^:]*:\s*$", code(path), re.M)
    for head in heads:
        assert head.rstrip().endswith("noexcept nogil:"), head


RANK = {
    "core": 11, "step": 10, "partials": 9, "online": 9, "phases": 8, "evaluation": 8, "stages": 7, "layer": 7,
    "dense": 6, "activations": 6, "losses": 6, "optimizers": 6, "rows": 6, "fetching": 5,
    "real": 4, "tile": 3, "epilogues": 2, "vmath": 2, "convert": 2, "float_mode": 2, "panels": 2, "simd": 1,
    "team": 1,
}  # fmt: skip


@pytest.mark.parametrize("path", sorted([*BELOW_THE_DOOR, CORE / "core.pyx"]), ids=lambda path: path.name)
def test_a_source_of_the_core_uses_only_what_lies_below_it(path):
    text = code(path) if path.suffix != ".h" else path.read_text()
    patterns = (
        r'^\s*#include "(\w+)\.h"',
        r'cdef extern from "(\w+)\.h"',
        r"^from (\w+) cimport",
        r"^cimport (\w+)",
    )
    used = {name for pattern in patterns for name in re.findall(pattern, text, re.M)} - {path.stem}
    used -= {"cython", "libc", "openmp"}
    assert used <= set(RANK), f"{path.name} uses something unknown: {used - set(RANK)}"
    assert all(RANK[name] < RANK[path.stem] for name in used), f"{path.name} uses {used}"


def test_which_dtype_is_asked_in_one_file_only():
    """One fused type, and one source that asks which of its two it is."""
    switches = [
        path.name for path in CORE.glob("*.p[xy]*") if re.search(r"\bis (float|double)\b", code(path))
    ]
    assert switches == ["real.pxd"]


# What we hold to everywhere


@pytest.mark.parametrize(
    "path", sorted([*PACKAGE.rglob("*.py"), *CORE.iterdir()]), ids=lambda path: path.name
)
def test_a_source_is_not_too_long_and_has_no_name_that_says_nothing(path):
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    if path.is_file():
        lines = path.read_text().splitlines()
        assert len(lines) <= 450
        assert max(map(len, lines), default=0) <= 120


def test_every_module_that_defines_something_has_annotations_as_text():
    for path in PACKAGE.rglob("*.py"):
        if re.search(r"^(def|class) ", path.read_text(), re.M):
            assert "from __future__ import annotations" in path.read_text(), path.name


@pytest.mark.parametrize("folder", [PACKAGE, CORE])
def test_the_readme_says_where_each_source_is(folder):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## What is where")[2].partition("\n## ")[0]
    named = set(re.findall(r"[\w.]+\.\w+", table))
    assert {path.name for path in folder.iterdir() if path.suffix in SOURCES} <= named
