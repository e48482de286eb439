"""Golden values from PyTorch: random expressions with the derivatives by everything that stands in them.

Run with torch==2.13.0 and NumPy 2, on the CPU, from tests/: ``python golden/expressions/make_golden.py``.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1]))

import expressions  # noqa: E402

COUNT = 60

TORCH = {
    name: getattr(torch, name)
    for name in ("exp", "log", "sqrt", "square", "absolute", "maximum", "minimum", "tanh", "where", "sigmoid")
} | {
    "relu": torch.relu,
    "affine": lambda x, w, b: x @ w + b,
    "softmax": lambda x: torch.softmax(x, -1),
}


def run(number: int) -> dict[str, object]:
    text = expressions.expression(random.Random(number).choice)
    values = expressions.inputs(number)
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
    result = expressions.computed(text, TORCH, leaves)
    result.backward()
    return {
        "expression": text,
        "value": result.item(),
        "gradients": {
            name: (torch.zeros_like(leaf) if leaf.grad is None else leaf.grad).tolist()
            for name, leaf in leaves.items()
        },
        "inputs": {name: value.tolist() for name, value in values.items()},
    }


if __name__ == "__main__":
    golden = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "runs": [run(number) for number in range(COUNT)],
    }
    (FOLDER / "golden.json").write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
