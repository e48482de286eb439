"""Network: layers, a loss and an optimiser, and the training life they have together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp import _check, _native, _plan, losses, optimizers, training
from fastbp.layers import ACTIVATIONS, Dense, Layer, chain


class Network:
    """A feed-forward network that is trained by back propagation.

    Parameters
    ----------
    layers : iterable of Layer
        What the data goes through, in order; the network takes them over and draws their weights.
    loss, optimizer : Loss or str, Optimizer or str
        "mse" (default), "bce" (wants Sigmoid last) or "cross_entropy" (Softmax); "adam" (default) or "sgd".
    dtype : {"float32", "float64"}
        Precision of all numbers; default float32.
    seed : int
        Starts the weights and the order of the rows; default 0.  The same seed gives the same bits.

    Raises
    ------
    ValueError, TypeError
        For layers that do not fit each other or the loss, and for names that are not known.

    Examples
    --------
    >>> net = Network([Dense(2, 1)], loss="mse", optimizer=optimizers.SGD(lr=0.1))
    >>> history = net.fit([[0.0, 1.0], [1.0, 0.0]], [1.0, -1.0], epochs=200, verbose=False)
    >>> history.loss[-1] < 1e-6
    True
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        loss: losses.Loss | str = "mse",
        optimizer: optimizers.Optimizer | str = "adam",
        *,
        dtype: DTypeLike = "float32",
        seed: int = 0,
    ) -> None:
        self._layers = chain(layers)
        self._loss = losses.get(loss)
        self._optimizer = optimizers.get(optimizer)
        self._dtype = _check.precision(dtype)
        seed = _check.seed(seed)
        plan = _plan.lower(self._layers, self._dtype)
        self._in_features, self._out_features = plan.in_features, plan.out_features
        self._refuse_bad_pair()
        self._learner = training.Learner(plan, self._dtype, self._loss, self._optimizer)
        for layer, slices in zip(self._layers, plan.slices, strict=True):
            vectors = (self._learner.parameters, self._learner.gradients)
            parameters, gradients = (
                {name: vector[span].reshape(shape) for name, (span, shape) in slices.items()}
                for vector in vectors
            )
            layer._bind(parameters, gradients)
        self.reset(seed)

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self._layers))
        return f"Network([{layers}], {self._loss!r}, {self._optimizer!r}, dtype='{self._dtype}')"

    def __getstate__(self) -> dict[str, Any]:
        learner = self._learner
        return {
            "layers": [layer._blank() for layer in self._layers],
            "loss": self._loss,
            "optimizer": self._optimizer,
            "dtype": self._dtype,
            "seed": learner.seed,
            "parameters": learner.parameters,
            "state": learner.state,
            "counts": (learner.steps, learner.epochs),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        Network.__init__(
            self, state["layers"], state["loss"], state["optimizer"], dtype=state["dtype"], seed=state["seed"]
        )
        learner = self._learner
        learner.parameters[:] = state["parameters"]
        learner.state[:] = state["state"]
        learner.steps, learner.epochs = state["counts"]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, whose parameters and gradients are views into the network's."""
        return self._layers

    @property
    def loss(self) -> losses.Loss:
        """The loss."""
        return self._loss

    @property
    def optimizer(self) -> optimizers.Optimizer:
        """The optimiser's description; what it remembers is kept by the network."""
        return self._optimizer

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision of all numbers."""
        return self._dtype

    @property
    def seed(self) -> int:
        """What started the weights, and starts the order of the rows in every epoch."""
        return self._learner.seed

    @property
    def steps(self) -> int:
        """Updates made since the network was built or reset."""
        return self._learner.steps

    @property
    def epochs(self) -> int:
        """Epochs completed since the network was built or reset."""
        return self._learner.epochs

    @property
    def parameters(self) -> NDArray[Any]:
        """All parameters in one vector, layer by layer, weight then bias; write to it at any time."""
        return self._learner.parameters

    @property
    def gradients(self) -> NDArray[Any]:
        """The gradient left by `backward` or `loss_and_gradient`, laid out as `parameters`."""
        return self._learner.gradients

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        epochs: int = 1,
        batch_size: int = 32,
        shuffle: bool = True,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        threads: int | None = None,
        verbose: bool | None = None,
    ) -> training.History:
        """Train; calling it again trains on, to the same bits as one call with all the epochs.

        Parameters
        ----------
        x, y : array (samples, features), array (samples,) or (samples, outputs)
            Real numbers of any dtype and layout, never copied; for CrossEntropy y may be labels (samples,).
        epochs, batch_size : int
            Passes through the data, >= 0, default 1; samples an update, >= 1, default 32, the rest last.
        shuffle : bool
            Take the samples in a new order every epoch, a function of seed and epoch; default True.
        validation_data : (x, y), optional
            Evaluated after every epoch.
        threads, verbose : int, bool, optional
            At most so many threads; show a tqdm bar (default: when it is installed and a terminal watches).

        Returns
        -------
        History
            ``loss`` and with validation data ``val_loss`` and ``val_metrics``, one number an epoch.

        Raises
        ------
        ValueError, TypeError, FloatingPointError
            For what does not fit: the network is then what it was before the call. FloatingPointError when the
            loss stops being finite: the network is then back at a recent finite state.
        """
        epochs = _check.whole_number(epochs, "epochs", 0)
        batch_size = _check.whole_number(batch_size, "batch_size")
        data, target = self._pair(x, y)
        validation = None
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
                raise TypeError("validation_data is expected to be a pair (x, y)")
            names = "validation_data[0]", "validation_data[1]"
            validation = self._pair(*validation_data, names)
            for array, name in zip(validation, names, strict=True):  # now, not after an epoch
                _check.finite(array, self._dtype, name)
        return training.fit(
            self._learner,
            data,
            target,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            validation=validation,
            threads=_native.resolve_threads(threads),
            verbose=verbose,
        )

    def partial_fit(self, x: ArrayLike, y: ArrayLike, threads: int | None = None) -> float:
        """One update on all samples as one batch.

        Parameters
        ----------
        x, y, threads
            As in `fit`.

        Returns
        -------
        float
            The loss before the update.

        Raises
        ------
        ValueError, TypeError
            For data that does not fit.
        FloatingPointError
            When the loss is not finite; the update is left out.
        """
        data, target = self._pair(x, y)
        return self._learner.update(data, target, _native.resolve_threads(threads))

    def loss_and_gradient(
        self, x: ArrayLike, y: ArrayLike, threads: int | None = None
    ) -> tuple[float, NDArray[Any]]:
        """The loss over all samples as one batch, and its derivative by every parameter.

        Parameters
        ----------
        x, y, threads
            As in `fit`.

        Returns
        -------
        float, ndarray (parameters,)
            The loss and a new array with the gradient, also left in `gradients` and the layers' views.

        Raises
        ------
        ValueError, TypeError
            For data that does not fit.
        FloatingPointError
            When the loss is not finite; `gradients` keeps what it held.
        """
        data, target = self._pair(x, y)
        loss = self._learner.differentiate(data, target, _native.resolve_threads(threads))
        return loss, self.gradients.copy()

    def predict(self, x: ArrayLike, threads: int | None = None) -> NDArray[Any]:
        """The last layer's output; for a network that ends in Softmax, probabilities.

        Parameters
        ----------
        x : array (samples, features)
            Real numbers of any dtype and layout.
        threads : int, optional
            At most so many threads; the bits do not depend on it.

        Returns
        -------
        ndarray (samples, outputs)
            A new array of the network's dtype.

        Raises
        ------
        ValueError
            For data that does not fit.
        """
        data = _check.features(x, self._in_features)
        return self._learner.predict(data, _native.resolve_threads(threads))

    def evaluate(self, x: ArrayLike, y: ArrayLike, threads: int | None = None) -> dict[str, float]:
        """The loss over all samples and the metric that belongs to it.

        Parameters
        ----------
        x, y, threads
            As in `fit`.

        Returns
        -------
        dict of str to float
            "loss", and "rmse" for MeanSquaredError or "accuracy" for the cross entropies.

        Raises
        ------
        ValueError, TypeError
            For data that does not fit.
        """
        data, target = self._pair(x, y)
        return self._learner.evaluate(data, target, _native.resolve_threads(threads))

    def forward(self, x: ArrayLike, threads: int | None = None) -> NDArray[Any]:
        """The output, computed layer by layer, each of which keeps what its `backward` needs.

        Parameters
        ----------
        x : array (samples, features)
            Real numbers; do not write to it before `backward`.
        threads : int, optional
            At most so many threads.

        Returns
        -------
        ndarray (samples, outputs)
            A new array of the network's dtype.

        Raises
        ------
        ValueError
            For data that does not fit.
        """
        data = _check.features(x, self._in_features)
        _check.finite(data, self._dtype, "x")
        a = _check.contiguous(data, self._dtype)
        for layer in self._layers:
            a = layer.forward(a, threads)
        return a

    def backward(self, dy: ArrayLike, threads: int | None = None) -> NDArray[Any]:
        """Back propagation, layer by layer: the derivatives of the loss, given that by the last output.

        Parameters
        ----------
        dy : array (samples, outputs)
            The derivative of the loss by what `forward` gave.
        threads : int, optional
            At most so many threads.

        Returns
        -------
        ndarray (samples, features)
            dX, the derivative by the input; those by the parameters overwrite `gradients`.

        Raises
        ------
        ValueError
            Before any `forward`, and for another shape than that of its output.
        """
        da = _check.numeric(dy, "dy")
        for layer in reversed(self._layers):
            da = layer.backward(da, threads)
        return da

    def reset(self, seed: int | None = None) -> None:
        """Start anew: draw the weights, forget the optimiser's state, count steps and epochs from 0.

        Parameters
        ----------
        seed : int, optional
            A new seed; default: the present one, which gives the network as it was built.
        """
        learner = self._learner
        if seed is not None:
            learner.seed = _check.seed(seed)
        rng = np.random.default_rng(learner.seed)
        followers = [layer.name for layer in self._layers[1:]] + ["identity"]
        for layer, follower in zip(self._layers, followers, strict=True):
            layer._draw(rng, follower)
        learner.gradients.fill(0.0)
        learner.state.fill(0.0)
        learner.steps = learner.epochs = 0

    def copy(self, dtype: DTypeLike | None = None) -> Network:
        """An independent network with the same layers, numbers and counts.

        Parameters
        ----------
        dtype : {"float32", "float64"}, optional
            Precision of the copy; default: the same.

        Returns
        -------
        Network
            Training it does not touch this one.
        """
        state = self.__getstate__()
        if dtype is not None:
            state["dtype"] = dtype
        twin = Network.__new__(Network)
        twin.__setstate__(state)
        return twin

    def summary(self) -> str:
        """A table of the layers with their outputs and parameters, and what the network is trained with."""
        features = self._in_features
        lines = [f"{'layer':<28}{'output':>10}{'parameters':>14}"]
        for index, layer in enumerate(self._layers):
            features = layer.out_features if isinstance(layer, Dense) else features
            count = sum(array.size for array in layer.parameters.values())
            lines.append(f"{f'{index}  {layer!r}':<28}{features:>10,}{count:>14,}")
        vectors = 2 + self._optimizer.slots
        size = self.parameters.nbytes * vectors / 1e6
        lines.append(f"{'total':<28}{'':>10}{self.parameters.size:>14,}")
        lines.append(f"{self._dtype}, {size:.3g} MB with gradients and optimiser state")
        lines.append(f"loss {self._loss!r}, optimizer {self._optimizer!r}")
        return "\n".join(lines)

    def _pair(
        self, x: ArrayLike, y: ArrayLike, names: tuple[str, str] = ("x", "y")
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Data and targets, checked but for entries that are not finite: the core meets those as it reads."""
        data = _check.features(x, self._in_features, names[0])
        target = _check.targets(y, len(data), self._out_features, self._loss.target, names)
        return data, target

    def _refuse_bad_pair(self) -> None:
        """A loss that needs probabilities wants the activation that makes them."""
        needed = self._loss.last_activation
        last = self._layers[-1]
        if needed is not None and last.name != needed:
            loss = type(self._loss).__name__
            raise ValueError(f"{loss} needs {ACTIVATIONS[needed]()!r} as the last layer, found {last!r}")
        if needed == "softmax" and self._out_features == 1:
            raise ValueError(
                "Softmax over 1 output is always 1: use Sigmoid with BinaryCrossEntropy, or 2 outputs"
            )
