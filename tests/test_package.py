"""The installed package: what importing it costs and needs, and that what is tested is what was installed."""

from __future__ import annotations

import doctest
import importlib
import importlib.metadata
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from interpreter import python, run

import fastbp as bp

ROOT = Path(__file__).parents[1]

PUBLIC = {
    "Network", "History", "Layer", "Dense", "Identity", "Sigmoid", "Tanh", "ReLU", "Exp", "Softmax", "mlp",
    "MeanSquaredError", "BinaryCrossEntropy", "CrossEntropy", "SGD", "Adam",
    "Glorot", "He", "LeCun", "Uniform", "Normal", "Zeros",
    "check_gradients", "numerical_gradient", "set_num_threads", "get_num_threads", "show_config",
    "__version__",
}  # fmt: skip


def test_the_tests_run_on_the_installed_package():
    assert Path(bp.__file__).parent != ROOT / "fastbp"


def test_the_public_names_are_there_and_listed():
    assert set(bp.__all__) >= PUBLIC
    assert all(hasattr(bp, name) for name in bp.__all__)


def test_the_version_comes_from_one_place():
    assert bp.__version__ == importlib.metadata.version("fastbp")


IMPORTED = """
import sys, numpy
before = set(sys.modules)
import fastbp
print(*(set(sys.modules) - before))
"""


def test_importing_needs_numpy_and_the_standard_library_only():
    packages = {name.partition(".")[0] for name in run(IMPORTED).split()}
    of_cython = {
        name for name in packages if name.startswith(("cython_runtime", "_cython_"))
    }  # made, not imported
    assert packages - of_cython - set(sys.stdlib_module_names) - {"numpy"} == {"fastbp"}


def test_importing_does_not_pull_in_slow_modules():
    slow = {"asyncio", "concurrent.futures", "unittest", "multiprocessing", "fastbp.bench", "fastbp.__main__"}
    assert not slow & set(run(IMPORTED).split())


FIRST_CALLS = """
import sys
import numpy as np
import fastbp as bp

x, y = bp.datasets.load_digits()
net = bp.Network(bp.mlp([64, 128, 10], output="softmax"), "cross_entropy")
asked, listening = [], True

def listen(event, arguments):
    if listening and event in ("open", "import"):
        asked.append(arguments[0])

sys.addaudithook(listen)
net.fit(x, y, validation_data=(x, y))
net.partial_fit(x, y)
net.predict(x)
net.forward(x)
net.backward(np.ones((len(x), 10)))
assert not asked, asked
open("/dev/null").close()
listening = False
print(*asked)
"""


def test_training_and_predicting_import_nothing_and_open_no_file():
    """Not even the first time; that the file at the end is seen shows that others would have been."""
    assert run(FIRST_CALLS) == "/dev/null\n"


def test_the_package_declares_numpy_alone():
    required = [line for line in importlib.metadata.requires("fastbp") or [] if "extra ==" not in line]
    assert len(required) == 1
    assert required[0].startswith("numpy")


def test_the_installed_files_hold_the_types_the_data_and_no_sources():
    names = [str(file) for file in importlib.metadata.files("fastbp") or []]
    assert "fastbp/py.typed" in names
    assert "fastbp/_core.pyi" in names
    assert "fastbp/data/digits.npz" in names
    assert "fastbp/explain/texts/ko/shop.txt" in names
    assert not [name for name in names if name.endswith((".c", ".pyx", ".pxd", ".h", ".cpp"))]
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "src_cython/"))]


def test_an_unbuilt_source_tree_says_so_and_how_to_build(tmp_path):
    shutil.copytree(
        ROOT / "fastbp", tmp_path / "fastbp", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    )
    done = subprocess.run(
        [sys.executable, "-c", "import fastbp"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError"), done.stderr
    assert "pip install" in last


def test_the_package_works_where_no_source_tree_is_near(tmp_path):
    program = "import fastbp as bp; print(bp.Network([bp.Dense(2, 1)]).predict([[0.0, 0.0]]).tolist())"
    assert python("-c", program, cwd=tmp_path).stdout == "[[0.0]]\n"


def modules():
    for found in pkgutil.walk_packages(bp.__path__, "fastbp."):
        if not found.name.rpartition(".")[2].startswith(("_core", "_cpu", "__main__")):
            yield found.name


@pytest.mark.parametrize("name", sorted(modules()))
def test_examples_in_docstrings_give_what_they_say(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_there_are_examples_to_run():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        test for name in modules() for test in finder.find(importlib.import_module(name)) if test.examples
    ]
    assert len(examples) >= 10


# The command line


def test_info_prints_level_compiler_flags_openmp_and_threads():
    done = python("-m", "fastbp", "info")
    assert done.returncode == 0, done.stderr
    for word in ("fastbp", bp.__version__, "level", "compiler", "flags", "openmp", "threads"):
        assert word in done.stdout.lower(), word


def test_the_demo_trains_on_digits_and_ends_with_the_accuracy():
    done = python("-m", "fastbp", "demo")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.strip().splitlines()
    words = lines[-1].split()
    assert [*words[:2], words[3]] == ["held-out", "accuracy:", "%"], lines[-1]
    assert float(words[2]) > 90.0
    assert len(words[2].partition(".")[2]) == 1


def test_a_command_that_does_not_exist_is_refused_with_those_that_do():
    done = python("-m", "fastbp", "trian")
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("trian", "info", "demo", "bench"))


def test_the_command_is_installed_under_the_name_of_the_package():
    (entry,) = [
        point for point in importlib.metadata.entry_points(group="console_scripts") if point.name == "fastbp"
    ]
    assert callable(entry.load())


def test_the_examples_in_the_readme_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # they draw pictures
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S):
        exec(compile(block, "README.md", "exec"), names)
    assert capsys.readouterr().out.count("gradients agree") == 3
    assert names["errors"].shape == (1797,)
    assert names["least"] < 0.5
    assert np.mean(names["mean"].argmax(axis=1) == names["labels"][1500:]) > 0.8
    assert np.array_equal(
        names["hidden"].predict(names["x"]),
        names["best"].layers[1].forward(names["best"].layers[0].forward(names["x"])),
    )
