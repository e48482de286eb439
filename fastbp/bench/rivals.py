"""The contenders, each in the fastest form that its own documentation gives.

A contender is made from a problem and a number of threads.  ``restart()`` goes back to the starting point
and leaves nothing to be made later, optimiser state included; ``train(epochs)`` trains on from there,
``parameters()`` gives all parameters as one vector in fastbp's order.  ``update(x, y)`` makes one update on a
batch and ``predict(x)`` gives the last layer's output: NumPy arrays in and out, as when each call answers to
something outside.
The orders of the rows are given to the rivals; fastbp draws its own, the same, while the clock runs.  How
many threads NumPy and JAX take is fixed when their process starts: see ``timing.process_environment``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import fastbp as bp
from fastbp.bench.baseline import Baseline
from fastbp.bench.workloads import Problem, layer_views


class Trained(Protocol):
    """What is timed when it trains."""

    def restart(self) -> None: ...
    def train(self, epochs: int) -> None: ...


class Contender(Trained, Protocol):
    """What is timed."""

    def parameters(self) -> NDArray[Any]: ...
    def update(self, x: NDArray[Any], y: NDArray[Any]) -> object: ...
    def predict(self, x: NDArray[Any]) -> NDArray[Any]: ...


class Fastbp:
    """The project itself, through its public door; without a number of threads it decides for itself."""

    def __init__(self, problem: Problem, threads: int | None, dtype: str = "float32") -> None:
        work = self.workload = problem.workload
        self.problem, self.threads = problem, threads
        optimizers = {"sgd": bp.SGD, "adam": bp.Adam}
        self.network = bp.Network(
            bp.mlp(work.sizes, activation=work.hidden, output=work.output),
            loss=work.loss,
            optimizer=optimizers[work.optimizer](lr=work.learning_rate),
            dtype=dtype,
            seed=problem.seed,
        )
        self.restart()

    def restart(self) -> None:
        self.network.reset()
        self.network.parameters[:] = self.problem.parameters

    def train(self, epochs: int) -> None:
        self.network.fit(
            self.problem.x,
            self.problem.y,
            epochs=epochs,
            batch_size=self.workload.batch_size,
            shuffle=self.workload.shuffled,
            threads=self.threads,
            verbose=False,
        )

    def parameters(self) -> NDArray[Any]:
        return self.network.parameters

    def update(self, x: NDArray[Any], y: NDArray[Any]) -> object:
        return self.network.partial_fit(x, y, threads=self.threads)

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        return self.network.predict(x, threads=self.threads)


class Torch:
    """PyTorch, eager: fused optimiser, losses on logits, one gather an epoch and views for the batches.

    From its performance tuning guide: a fused optimiser, gradients set to None instead of cleared, no value
    taken to Python in the loop.  ``torch.compile`` needs a C++ compiler at run time and is left out.
    """

    def __init__(self, problem: Problem, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch: Any = torch
        self.problem = problem
        work = self.workload = problem.workload
        activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}[work.hidden]
        losses = {
            "mse": torch.nn.MSELoss,
            "bce": torch.nn.BCEWithLogitsLoss,
            "cross_entropy": torch.nn.CrossEntropyLoss,
        }
        layers: list[Any] = []
        for inputs, outputs in pairwise(work.sizes):
            layers += [torch.nn.Linear(inputs, outputs), activation()]
        self.model: Any = torch.nn.Sequential(*layers[:-1])
        self.loss: Any = losses[work.loss]()
        endings = {"softmax": torch.nn.Softmax(dim=1), "sigmoid": torch.nn.Sigmoid()}
        self.output: Any = endings.get(work.output, torch.nn.Identity())
        optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[work.optimizer]
        self.optimizer = optimizer(self.model.parameters(), lr=work.learning_rate, fused=True)
        self.x, self.y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
        self.orders = torch.from_numpy(problem.orders)
        self.restart()

    def restart(self) -> None:
        torch, work = self.torch, self.workload
        with torch.no_grad():
            linear = [layer for layer in self.model if isinstance(layer, torch.nn.Linear)]
            views = layer_views(self.problem.parameters, work.sizes)
            for layer, (weight, bias) in zip(linear, views, strict=True):
                layer.weight.copy_(torch.from_numpy(weight.T.copy()))
                layer.bias.copy_(torch.from_numpy(bias))
            for state in self.optimizer.state.values():  # once it has any; its memory stays
                for value in state.values():
                    value.zero_()
        self.epoch = 0

    def train(self, epochs: int) -> None:
        batch, x, y = self.workload.batch_size, self.x, self.y
        for _ in range(epochs):
            if self.workload.shuffled:
                order = self.orders[self.epoch % len(self.orders)]
                x, y = self.x[order], self.y[order]
            for x_batch, y_batch in zip(x.split(batch), y.split(batch), strict=True):
                self._step(x_batch, y_batch)
            self.epoch += 1

    def _step(self, x: Any, y: Any) -> None:
        self.optimizer.zero_grad()
        self.loss(self.model(x), y).backward()
        self.optimizer.step()

    def parameters(self) -> NDArray[Any]:
        values = [parameter.detach().numpy() for parameter in self.model.parameters()]
        return np.concatenate([value.T.ravel() for value in values])

    def update(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        self._step(self.torch.from_numpy(x), self.torch.from_numpy(y))

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        with self.torch.inference_mode():
            output: NDArray[Any] = self.output(self.model(self.torch.from_numpy(x))).numpy()
        return output


class Jax:
    """JAX: a whole epoch in one ``jit`` of a ``scan``, buffers donated; compiled before the clock starts."""

    def __init__(self, problem: Problem, threads: int) -> None:
        import jax

        self.jax: Any = jax
        self.problem = problem
        work = self.workload = problem.workload
        self.x, self.y = jax.numpy.asarray(problem.x), jax.numpy.asarray(problem.y)
        self.orders = [jax.numpy.asarray(order, dtype="int32") for order in problem.orders]
        self.run_epoch = jax.jit(self._epoch, donate_argnums=0)
        self.run_step = jax.jit(lambda state, x, y: self._step(state, (x, y))[0], donate_argnums=0)
        self.run_forward = jax.jit(self._output)
        self.hidden = {"relu": jax.nn.relu, "tanh": jax.numpy.tanh, "sigmoid": jax.nn.sigmoid}[work.hidden]
        endings = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}
        self.output: Any = endings.get(work.output, lambda z: z)
        self.restart()

    def restart(self) -> None:
        jnp = self.jax.numpy
        views = layer_views(self.problem.parameters, self.workload.sizes)
        layers = [(jnp.array(weight), jnp.array(bias)) for weight, bias in views]
        adam = self.workload.optimizer == "adam"
        zeros = [self.jax.tree.map(jnp.zeros_like, layers) for _ in range(2 if adam else 0)]
        self.state = self.jax.block_until_ready((layers, zeros, jnp.zeros((), jnp.float32)))
        self.epoch = 0

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            order = self.orders[self.epoch % len(self.orders)]
            self.state, self.losses = self.run_epoch(self.state, self.x, self.y, order)
            self.epoch += 1
        self.jax.block_until_ready(self.state)

    def parameters(self) -> NDArray[Any]:
        return np.concatenate([np.asarray(leaf).ravel() for leaf in self.jax.tree.leaves(self.state[0])])

    def update(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        self.state = self.jax.block_until_ready(self.run_step(self.state, x, y))

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.run_forward(self.state[0], x))

    def _logits(self, layers: Any, x: Any) -> Any:
        for weight, bias in layers[:-1]:
            x = self.hidden(x @ weight + bias)
        return x @ layers[-1][0] + layers[-1][1]

    def _output(self, layers: Any, x: Any) -> Any:
        return self.output(self._logits(layers, x))

    def _loss(self, layers: Any, x: Any, y: Any) -> Any:
        jax = self.jax
        z = self._logits(layers, x)
        if self.workload.loss == "cross_entropy":
            chosen = jax.numpy.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1)
            return -chosen.mean()
        if self.workload.loss == "bce":
            return (jax.nn.softplus(z) - y * z).mean()
        return ((z - y) ** 2).mean()

    def _step(self, state: Any, batch: Any) -> Any:
        jnp, rate = self.jax.numpy, self.workload.learning_rate
        layers, moments, step = state
        loss, gradients = self.jax.value_and_grad(self._loss)(layers, *batch)
        step = step + 1
        if moments:
            m = self.jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradients)
            v = self.jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], gradients)
            moments = [m, v]
            rate = rate / (1 - 0.9**step)
            root = 1 / jnp.sqrt(1 - 0.999**step)
            gradients = self.jax.tree.map(lambda m, v: m / (jnp.sqrt(v) * root + 1e-8), m, v)
        layers = self.jax.tree.map(lambda p, g: p - rate * g, layers, gradients)
        return (layers, moments, step), loss

    def _epoch(self, state: Any, x: Any, y: Any, order: Any) -> Any:
        if self.workload.shuffled:
            x, y = x[order], y[order]
        shape = (self.workload.steps, self.workload.batch_size)
        batches = x.reshape(*shape, *x.shape[1:]), y.reshape(*shape, *y.shape[1:])
        return self.jax.lax.scan(self._step, state, batches)


class ScikitLearn:
    """scikit-learn's multilayer perceptron, trained by ``fit`` from a warm start.

    It cannot be told an order: it gets the rows in that of the first epoch and does not shuffle.  Its squared
    loss is half the sum over the outputs, which the learning rate (SGD) or epsilon (Adam) makes up for; its
    epsilon stands before the correction of the second moment, which is made up for in the first step.
    """

    def __init__(self, problem: Problem, threads: int) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        self.warning = ConvergenceWarning
        self.problem = problem
        work = self.workload = problem.workload
        factor = work.sizes[-1] / 2 if work.loss == "mse" else 1.0
        adam = work.optimizer == "adam"
        self.model: Any = (MLPRegressor if work.loss == "mse" else MLPClassifier)(
            hidden_layer_sizes=work.sizes[1:-1],
            activation="logistic" if work.hidden == "sigmoid" else work.hidden,
            solver=work.optimizer,
            alpha=0.0,
            batch_size=work.batch_size,
            learning_rate_init=work.learning_rate if adam else work.learning_rate / factor,
            epsilon=1e-8 * factor * (1 - 0.999) ** 0.5,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
            tol=0.0,
            n_iter_no_change=2**31,
        )
        order = problem.orders[0]
        self.x, self.y = problem.x[order], problem.y[order]
        if self.y.shape[-1] == 1:
            self.y = self.y.ravel()
        self.train(1)
        self.restart()

    def restart(self) -> None:
        views = layer_views(self.problem.parameters, self.workload.sizes)
        self.model.coefs_ = [weight.copy() for weight, _ in views]
        self.model.intercepts_ = [bias.copy() for _, bias in views]

    def train(self, epochs: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self.warning)
            self.model.set_params(max_iter=epochs, warm_start=True).fit(self.x, self.y)

    def parameters(self) -> NDArray[Any]:
        pairs = zip(self.model.coefs_, self.model.intercepts_, strict=True)
        return np.concatenate([array.ravel() for pair in pairs for array in pair])

    def update(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        self.model.warm_start = False  # with it, every batch has to hold all classes
        self.model.partial_fit(x, y)

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        regression = self.workload.loss == "mse"
        output: NDArray[Any] = self.model.predict(x) if regression else self.model.predict_proba(x)
        return output


@dataclass(frozen=True)
class Rival:
    """A contender by name, with the distribution and the module that it needs."""

    name: str
    distribution: str
    module: str
    make: Callable[[Problem, int], Contender]

    @property
    def installed(self) -> bool:
        spec = importlib.util.find_spec(self.module)
        return spec is not None and spec.origin is not None  # else it is a folder of that name

    @property
    def version(self) -> str:
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:  # imported from a place that nothing was installed to
            return "of unknown version"


RIVALS: dict[str, Rival] = {
    "numpy": Rival("NumPy", "numpy", "numpy", lambda problem, threads: Baseline(problem)),
    "torch": Rival("PyTorch", "torch", "torch", Torch),
    "jax": Rival("JAX", "jax", "jax", Jax),
    "sklearn": Rival("scikit-learn", "scikit-learn", "sklearn", ScikitLearn),
}
