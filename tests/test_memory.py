"""A data set is never copied: a file larger than all that the process may allocate is trained on.

The limit is Linux's RLIMIT_DATA: it counts the memory that a process allocates, not the files that it maps.
"""

from __future__ import annotations

import sys

import pytest
from interpreter import run

FILE = 1 << 30  # bytes: a hole in the file system, read as zeros, which takes no disk
# Bytes beyond what interpreter, NumPy and the first calls hold.  Of 4,096 columns a step keeps two batches
# of 4 MB, and each kind of evaluation, of four that are kept, 4 MB: 32 MB depended on how the heap lay.
ROOM = 40 << 20

PROGRAM = """
import resource, warnings
warnings.simplefilter("error")
import numpy as np
import fastbp as bp

def mapped(dtype, columns, share=8):
    assert limit < {file} // share
    rows = {file} // share // columns // np.dtype(dtype).itemsize
    return np.memmap({path!r}, dtype, "r", shape=(rows, columns), offset={file} - {file} // share)

def work(x, y, loss="mse", outputs=1, dtype="float32", shuffle=True):
    last = [bp.Sigmoid()] if loss == "bce" else [bp.Softmax()] if loss == "cross_entropy" else []
    net = bp.Network([bp.Dense(x.shape[1], outputs), *last], loss, dtype=dtype)
    net.fit(x, y, batch_size=256, shuffle=shuffle)
    assert np.isfinite(net.evaluate(x, y)["loss"])
    if 16 * outputs * len(x) < {room}:  # else the result itself is too large
        assert net.predict(x)[-1].tobytes() == net.predict(x[-1:]).tobytes()

with open("/proc/self/status") as file:
    work(np.zeros((1200, 4096), "u1"), np.zeros(1200))  # enough for a team, whose stacks count, too
    taken = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData"))
limit = taken + {room}
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones({room} + (1 << 20), "u1")
except MemoryError:
    pass
else:
    raise SystemExit("the limit does not hold")
{task}
"""

TASKS = {
    "uint8": "x = mapped('u1', 4096); work(x, np.ones(len(x)))",
    "float32": "x = mapped('f4', 4096, 2); work(x, np.ones(len(x)))",
    "float64_into_float32": "x = mapped('f8', 2048); work(x, np.ones(len(x)))",
    "float32_into_float64": "x = mapped('f4', 2048); work(x, np.ones(len(x)), dtype='float64')",
    "swapped": "x = mapped('>f4', 2048); work(x, np.ones(len(x)))",
    "fortran": "x = mapped('f4', 1 << 16).T; work(x, np.ones(len(x)), shuffle=False)",
    "backwards": "x = mapped('f4', 2048)[::-1, ::-1]; work(x, np.ones(len(x)))",
    "labels": "x = mapped('f4', 1024); work(x, np.zeros(len(x), 'u1'), 'cross_entropy', 3)",
    "real_targets": "y = mapped('f4', 4096); work(np.ones((len(y), 1)), y, outputs=4096)",
    "probabilities": "y = mapped('f4', 2048); work(np.ones((len(y), 1)), y, 'bce', 2048)",
}

if sys.platform == "linux":

    @pytest.fixture(scope="module")
    def path(tmp_path_factory):
        path = tmp_path_factory.mktemp("memory") / "hole"
        with path.open("wb") as file:
            file.truncate(FILE)
        yield str(path)
        path.unlink()

    def run_limited(path, task):
        program = PROGRAM.format(path=path, file=FILE, room=ROOM, task=task)
        run(program, OPENBLAS_NUM_THREADS="1")  # whose threads would take tens of megabytes each

    @pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
    def test_fit_evaluate_and_predict_take_a_file_larger_than_the_memory_they_may_have(path, task):
        run_limited(path, task)

    def test_the_limit_would_show_a_copy(path):
        with pytest.raises(AssertionError, match="MemoryError"):
            run_limited(path, "np.array(mapped('f4', 2048))")
