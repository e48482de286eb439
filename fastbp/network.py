"""Network: layers, a loss and an optimiser, and the training life they have together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastbp import _check, _native, files, losses, optimizers, training
from fastbp.architectures import chain, refuse_bad_pair
from fastbp.interpreted import learner_of
from fastbp.layers import Layer
from fastbp.metrics import History
from fastbp.views import view

if TYPE_CHECKING:
    from fastbp.network_graph import GradientNorms, NetworkGraph

Self = TypeVar("Self", bound="Network")

_ATTRIBUTES = {"_layers", "_loss", "_dtype", "_learner", "_in_features"}  # others are a user's own


class Network:
    """A feed-forward network that is trained by back propagation.

    Parameters
    ----------
    layers : iterable of Layer
        What the data goes through, in order; the network takes them over and draws their weights.
    loss, optimizer : Loss, str or function, Optimizer or str
        "mse" (default), "mae", "bce" (wants Sigmoid last), "cross_entropy" (Softmax), or a function of two
        nodes of the graph, output and target; "adam" (default) or "sgd".
    dtype : {"float32", "float64"}
        Precision of all numbers; default float32.
    seed : int
        Starts the weights and the order of the rows; default 0.  The same seed gives the same bits.

    Raises
    ------
    ValueError, TypeError, MemoryError
        For layers that do not fit each other or the loss, unknown names, and more parameters than memory.

    Notes
    -----
    Any number of threads may `predict` and `evaluate` at once.  While a call changes the network, another
    such call, and a copy, a pickle or a save by another thread, are refused with a RuntimeError.

    Examples
    --------
    >>> import fastbp as bp
    >>> net = bp.Network([bp.Dense(2, 1)], loss="mse", optimizer=bp.SGD(lr=0.1))
    >>> history = net.fit([[0.0, 1.0], [1.0, 0.0]], [1.0, -1.0], epochs=200, verbose=False)
    >>> history.loss[-1] < 1e-6
    True
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        loss: losses.Loss | str | Callable[[Any, Any], Any] = "mse",
        optimizer: optimizers.Optimizer | str = "adam",
        *,
        dtype: DTypeLike = "float32",
        seed: int = 0,
    ) -> None:
        self._layers = chain(layers)
        self._loss = losses.get(loss)
        optimizer = optimizers.get(optimizer)
        self._dtype, seed = _check.precision(dtype), _check.seed(seed)
        refuse_bad_pair(self._layers, self._loss, self._dtype)
        self._learner = learner_of(self._layers, self._dtype, self._loss, optimizer, seed)
        self._in_features = self._learner.plan.in_features

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self._layers))
        return f"Network([{layers}], {self._loss!r}, {self.optimizer!r}, dtype='{self._dtype}')"

    def __getstate__(self) -> dict[str, Any]:
        """Copies: a state of one moment, whatever is trained while it is pickled."""
        own = {name: value for name, value in vars(self).items() if name not in _ATTRIBUTES}
        layers = [layer._blank() for layer in self._layers]
        return {"layers": layers, **self._learner.moment(), "attributes": own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Network.__init__(
            self, state["layers"], state["loss"], state["optimizer"], dtype=state["dtype"], seed=state["seed"]
        )
        learner = self._learner
        if state["parameters"].dtype != self._dtype:
            for name in ("parameters", "state"):
                _check.finite(state[name].reshape(-1), self._dtype, name)
        learner.parameters[:] = state["parameters"]
        learner.state[:] = state["state"]
        learner.progress = *state["counts"], None, 0
        vars(self).update(state.get("attributes", {}))

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
        """The optimiser; assign one of its kind, as with another lr, to train on from what it remembers."""
        return self._learner.optimizer

    @optimizer.setter
    def optimizer(self, optimizer: optimizers.Optimizer | str) -> None:
        self._learner.go_on_with(optimizers.get(optimizer))

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
        return self._learner.counts[0]

    @property
    def epochs(self) -> int:
        """Epochs completed since the network was built or reset."""
        return self._learner.counts[1]

    @property
    def history(self) -> History:
        """What the last `fit` measured, so far while it runs and after Ctrl-C; a copy starts without."""
        return self._learner.history

    @view
    def parameters(self) -> NDArray[Any]:
        """All parameters in one vector, layer by layer, weight then bias; write to it at any time."""
        return self._learner.parameters

    @view
    def gradients(self) -> NDArray[Any]:
        """The gradient left by `backward`, `loss_and_gradient`, or a training that runs partly in Python."""
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
    ) -> History:
        """Train; calling it again trains on, to the same bits as one call with all the epochs.

        Parameters
        ----------
        x, y : array (samples, features), array (samples,) or (samples, outputs)
            Any real dtype and layout, copied only from column after column; for CrossEntropy y may be labels.
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
            ``loss`` and with validation data ``val_loss`` and ``val_metrics``, one number an epoch; kept as
            `history` too, where after Ctrl-C (KeyboardInterrupt) the epochs so far are found.

        Raises
        ------
        ValueError, TypeError, FloatingPointError
            For what does not fit: the network is then what it was before the call (where a layer, loss or lr
            of one's own fails it keeps the steps made); FloatingPointError when the loss stops being finite:
            the network is then back at a recent finite state.
        """
        epochs = _check.whole_number(epochs, "epochs", 0)
        batch_size = _check.whole_number(batch_size, "batch_size")
        shuffle = _check.boolean(shuffle, "shuffle")
        verbose = None if verbose is None else _check.boolean(verbose, "verbose")
        data, target = self._learner.pair(x, y)
        validation = None
        if validation_data is not None:
            names = "validation_data[0]", "validation_data[1]"
            validation = self._learner.pair(*_check.pair(validation_data, "validation_data"), names)
            self._learner.refuse_nonfinite(*validation, names)  # now, not after an epoch
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
        """One update on all samples as one batch; a step, but no epoch: a function for lr stays where it is.

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
        ValueError, TypeError, FloatingPointError
            For data that does not fit; when the loss is not finite: the update is then left out.  No snapshot
            is taken: an update that overflows shows in the next loss, or within 256 calls where an activation
            hides it, and wants a `reset`.
        """
        learner = self._learner
        data, target = learner.pair(x, y)
        return learner.update(data, target, learner.cap(threads, len(data), updates=True))

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
        ValueError, TypeError, FloatingPointError
            For data that does not fit; when the loss is not finite: `gradients` then keeps what it held.
        """
        data, target = self._learner.pair(x, y)
        return self._learner.differentiate(data, target, self._learner.cap(threads, len(data)))

    def graph(self, x: ArrayLike, y: ArrayLike) -> NetworkGraph:
        """The computational graph of the loss on a batch, run forward and backward; x and y as in `fit`.

        Returns
        -------
        NetworkGraph
            Nodes by their text-book names, with values and derivatives: ``net.graph(x, y)["Z1"].grad``.
        """
        from fastbp.network_graph import NetworkGraph

        data, target = self._learner.pair(x, y)
        self._learner.refuse_nonfinite(data, target)
        return NetworkGraph(self._layers, self._loss, np.asarray(data, self._dtype), target)

    def gradient_norms(self, x: ArrayLike, y: ArrayLike, threads: int | None = None) -> GradientNorms:
        """How much of the gradient reaches every layer; all else is as in `loss_and_gradient`.

        Returns
        -------
        GradientNorms
            The norms of dW and db; as text a table with bars, with ``draw(path)`` a picture.
        """
        from fastbp.network_graph import gradient_norms

        self.loss_and_gradient(x, y, threads)
        return gradient_norms(self._layers)

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
            A new array of the network's dtype; ``[:, 0]`` of it compares with targets of shape (samples,).

        Raises
        ------
        ValueError
            For data that does not fit.
        """
        data = self._learner.features(x)
        return self._learner.predict(data, self._learner.cap(threads, len(data)))

    def evaluate(self, x: ArrayLike, y: ArrayLike, threads: int | None = None) -> dict[str, float]:
        """The loss over all samples and the metric that belongs to it; errors as in `fit`.

        Parameters
        ----------
        x, y, threads
            As in `fit`.

        Returns
        -------
        dict of str to float
            "loss"; "rmse" for squared and absolute errors, "accuracy" for the cross entropies.
        """
        data, target = self._learner.pair(x, y)
        return self._learner.evaluate(data, target, self._learner.cap(threads, len(data)))

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
        data = _check.contiguous(_check.features(x, self._in_features), self._dtype, "x")
        return self._learner.forward(data, self._learner.cap(threads, len(data)))

    def backward(self, dy: ArrayLike, threads: int | None = None) -> NDArray[Any]:
        """Back propagation, layer by layer: the derivatives of the loss, given that by the last output.

        Parameters
        ----------
        dy, threads
            The derivative of the loss by what `forward` gave, (samples, outputs); at most so many threads.

        Returns
        -------
        ndarray (samples, features)
            dX, the derivative by the input; those by the parameters overwrite `gradients`.

        Raises
        ------
        ValueError
            Before any `forward`, for another shape than that of its output, for numbers that are not finite.
        """
        return self._learner.backward(dy, _native.resolve_threads(threads))

    def reset(self, seed: int | None = None) -> None:
        """Start anew: draw the weights, forget the optimiser's state, count steps and epochs from 0.

        Parameters
        ----------
        seed : int, optional
            A new seed; default: the present one, which gives the network as it was built.
        """
        self._learner.reset(self.seed if seed is None else _check.seed(seed))

    def copy(self: Self, dtype: DTypeLike | None = None) -> Self:
        """An independent network with the same layers, numbers, counts and attributes of your own.

        Parameters
        ----------
        dtype : {"float32", "float64"}, optional
            Precision of the copy; default: the same.

        Returns
        -------
        Network
            Training it does not touch this one.
        """
        twin = type(self).__new__(type(self))
        twin.__setstate__(self.__getstate__() | ({} if dtype is None else {"dtype": dtype}))
        return twin

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network with its optimiser's state and counts to a file: NumPy arrays, nothing pickled.

        Parameters
        ----------
        path : str or path-like
            The file's name, usually ending in .npz.  A file of that name is replaced, whole or not at all.

        Raises
        ------
        TypeError
            For an ``lr`` that is a function, and what is not fastbp's own; the message says how to go on.
        OSError
            When the file cannot be written.
        """
        files.save(path, {"layers": self._layers, **self._learner.moment()})

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """Bring back what `save` wrote: it trains on to the same bits.

        Parameters
        ----------
        path : str or path-like
            The file's name.

        Returns
        -------
        Network
            With parameters, optimiser's state, seed and counts of the saved one.

        Raises
        ------
        ValueError
            For a file that is damaged or was not written by `save`; nothing in a file is ever run.
        OSError
            When the file cannot be read.
        """
        net = cls.__new__(cls)
        net.__setstate__(files.load(path))
        return net

    def summary(self) -> str:
        """A table of the layers with their outputs and parameters, and what the network is trained with."""
        return self._learner.summary()
