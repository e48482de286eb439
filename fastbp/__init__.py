"""fastbp: feed-forward neural networks, trained by back propagation on the CPU, fast.

>>> import numpy as np
>>> import fastbp as bp
>>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype="float32")
>>> y = np.array([0, 1, 1, 0])
>>> net = bp.Network(bp.mlp([2, 16, 2], "tanh", "softmax"), loss="cross_entropy", optimizer=bp.Adam(lr=0.05))
>>> history = net.fit(x, y, epochs=200, batch_size=4)
>>> net.evaluate(x, y)["accuracy"]
1.0
"""

from fastbp import datasets, graph
from fastbp._native import get_num_threads, set_num_threads, show_config
from fastbp._version import __version__
from fastbp.activations import Exp, Identity, ReLU, Sigmoid, Softmax, Tanh
from fastbp.architectures import mlp
from fastbp.differences import numerical_gradient
from fastbp.gradients import check_gradients
from fastbp.initializers import Glorot, He, Initializer, LeCun, Normal, Uniform, Xavier, Zeros
from fastbp.layers import Dense, Layer
from fastbp.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
)
from fastbp.metrics import History
from fastbp.network import Network
from fastbp.optimizers import SGD, Adam, Optimizer

__all__ = [
    "SGD",
    "Adam",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "CustomLoss",
    "Dense",
    "Exp",
    "Glorot",
    "He",
    "History",
    "Identity",
    "Initializer",
    "Layer",
    "LeCun",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Network",
    "Normal",
    "Optimizer",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Uniform",
    "Xavier",
    "Zeros",
    "__version__",
    "check_gradients",
    "datasets",
    "get_num_threads",
    "graph",
    "mlp",
    "numerical_gradient",
    "set_num_threads",
    "show_config",
]
