"""Golden runs from PyTorch: twenty epochs of a few networks, to be followed step by step.

Run with torch==2.13.0 and NumPy 2, on the CPU: ``python make_golden.py``.  Each file holds what a run starts
from (data and parameters) and what came out: the gradient and loss of the first batch, the losses of all
epochs, the parameters at the end, the versions.  Parameters are flat, layer by layer, weight (in, out) then
bias.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

EPOCHS = 20
BATCH_SIZE = 16
ROWS = 100  # six whole batches and one of 4 rows, in the order of the data


class Exp(nn.Module):
    """PyTorch has the function, but not as a layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x)


ACTIVATIONS = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "exp": Exp,
    "softmax": lambda: nn.Softmax(dim=1),
}


class Run:
    """Sizes, hidden activations, loss and optimiser of one golden run."""

    def __init__(self, sizes, hidden, loss, optimizer, *, reduction="mean", last="identity", **rates):
        self.sizes, self.hidden, self.last = sizes, hidden.split(), last
        self.loss, self.reduction = loss, reduction
        self.optimizer, self.rates = optimizer, rates

    def network(self) -> nn.Sequential:
        """The network; for a cross entropy up to its logits: PyTorch's losses take those."""
        layers: list[nn.Module] = []
        names = [self.hidden[i % len(self.hidden)] for i in range(len(self.sizes) - 2)] + [self.last]
        for inputs, outputs, name in zip(self.sizes, self.sizes[1:], names, strict=False):
            layers += [nn.Linear(inputs, outputs), ACTIVATIONS[name]()]
        return nn.Sequential(*layers)

    def data(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(ROWS, self.sizes[0], generator=generator, dtype=torch.float64)
        if self.loss == "cross_entropy" and self.reduction == "sum":  # with rows of probabilities
            return x, torch.randn(ROWS, self.sizes[-1], generator=generator, dtype=torch.float64).softmax(1)
        if self.loss == "cross_entropy":
            return x, torch.randint(self.sizes[-1], (ROWS,), generator=generator)
        if self.loss == "bce":
            return x, torch.randint(2, (ROWS, self.sizes[-1]), generator=generator).double()
        return x, torch.randn(ROWS, self.sizes[-1], generator=generator, dtype=torch.float64)

    def criterion(self) -> nn.Module:
        losses = {"mse": nn.MSELoss, "bce": nn.BCEWithLogitsLoss, "cross_entropy": nn.CrossEntropyLoss}
        return losses[self.loss](reduction=self.reduction)


RUNS = {
    "classes_adam": Run([12, 20, 5], "relu", "cross_entropy", "Adam", lr=0.01),
    "classes_nesterov": Run(
        [8, 17, 9, 3], "tanh", "cross_entropy", "SGD", lr=0.05, momentum=0.9, nesterov=True
    ),
    "regression_sgd": Run([6, 16, 16, 2], "relu", "mse", "SGD", lr=0.05),
    "regression_adam": Run([4, 32, 16, 4], "tanh", "mse", "Adam", lr=0.003, betas=(0.8, 0.99), eps=1e-6),
    "binary_momentum": Run([5, 9, 1], "sigmoid", "bce", "SGD", lr=0.2, momentum=0.8),
    "multilabel_adam": Run([7, 15, 3], "tanh", "bce", "Adam", lr=0.02),
    "multilabel_sum": Run([6, 10, 4], "relu", "bce", "SGD", reduction="sum", lr=0.002, momentum=0.9),
    "probabilities_sum": Run(
        [9, 18, 4], "sigmoid", "cross_entropy", "SGD", reduction="sum", lr=0.01, momentum=0.5, nesterov=True
    ),
    "regression_sum": Run([5, 11, 3], "identity", "mse", "SGD", reduction="sum", lr=0.0005, momentum=0.9),
    "deep_adam": Run([6, 12, 10, 8, 7, 2], "relu tanh sigmoid softmax", "mse", "Adam", last="tanh", lr=0.01),
    "exponential_sgd": Run([4, 8, 6, 2], "exp tanh", "mse", "SGD", last="exp", lr=0.01),
}


def flat(tensors) -> np.ndarray:
    """Weights transposed to (in, out)."""
    return np.concatenate([tensor.detach().numpy().T.ravel() for tensor in tensors])


def make(run: Run, seed: int) -> dict[str, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    x, y = run.data(generator)
    network, criterion = run.network().double(), run.criterion()
    optimizer = getattr(torch.optim, run.optimizer)(network.parameters(), **run.rates)
    out = {"x": x.numpy(), "y": y.numpy(), "start": flat(network.parameters())}
    epoch_losses = []
    for _ in range(EPOCHS):
        total = 0.0
        for first in range(0, ROWS, BATCH_SIZE):
            rows = slice(first, first + BATCH_SIZE)
            optimizer.zero_grad()
            loss = criterion(network(x[rows]), y[rows])
            loss.backward()
            if "first_loss" not in out:
                out["first_loss"] = np.array(loss.item())
                out["first_gradient"] = flat(parameter.grad for parameter in network.parameters())
            optimizer.step()
            total += loss.item() * (len(x[rows]) / ROWS if run.reduction == "mean" else 1.0)
        epoch_losses.append(total)
    return out | {"losses": np.array(epoch_losses), "end": flat(network.parameters())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, (name, run) in enumerate(RUNS.items()):
        arrays = make(run, seed=number)
        versions = {"torch": torch.__version__, "numpy": np.__version__}
        np.savez_compressed(
            Path(__file__).with_name(f"{name}.npz"), **arrays, versions=np.array(str(versions))
        )
        print(f"{name}: losses {arrays['losses'][0]:.6f} to {arrays['losses'][-1]:.6f}")
