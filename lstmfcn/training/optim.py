"""Optimise the weights: Adam on PyTorch's fused kernel, and the learning rate of each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from lstmfcn.hyperparameters import Hyperparameters

EPSILON = 1e-7
"""The epsilon of Keras 2.2.4, which the paper's authors used (PyTorch's default is 1e-8)."""

_BETA_1, _BETA_2 = 0.9, 0.999

_RISING_SHARE, _START_DIVISOR = 0.25, 25.0
"""One cycle: the share of the epochs in which the rate rises, and lr divided by the first rate
(fastai's ``fit_one_cycle``, after Smith and Topin 2019, "Super-Convergence")."""

_PATIENCE, _FACTOR, _LOWEST_LR, _MIN_DELTA = 100, 2 ** (-1 / 3), 1e-4, 1e-4
"""Plateau: the authors' ``ReduceLROnPlateau`` (titu1994/LSTM-FCN, utils/keras_utils.py)."""


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1), optionally with decoupled weight decay (AdamW).

    Only matrices and kernels decay, not biases and batch norms (Loshchilov and Hutter 2019,
    "Decoupled Weight Decay Regularization", algorithm 2).

    This calls the function behind ``torch.optim.Adam(fused=True)``: the class imports PyTorch's
    compiler at its first step, 1 to 1.5 s of every start.

    Args:
        parameters: the parameters to train; each must have a gradient at every step.
        lr: learning rate; may be changed between steps.
        weight_decay: at each step, each weight shrinks by this share times the learning rate.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0
    ) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._weight_decay = weight_decay
        self._decaying = [p for p in self._parameters if weight_decay and p.ndim > 1]
        self._means = [torch.zeros_like(p) for p in self._parameters]
        self._squares = [torch.zeros_like(p) for p in self._parameters]
        device = self._parameters[0].device
        self._steps = [torch.zeros((), device=device) for _ in self._parameters]
        self._gradients: Tensor | None = None
        # a graph reads it at each replay; the CPU's kernel wants a number
        self._lr = lr if device.type == "cpu" else torch.tensor(lr, device=device)

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self._lr)

    @lr.setter
    def lr(self, lr: float) -> None:
        if isinstance(self._lr, Tensor):
            self._lr.fill_(lr)
        else:
            self._lr = lr

    def join_gradients(self) -> Tensor:
        """Keep all gradients in one tensor (n,) from now on, and return it, to be exchanged."""
        n_numbers = [parameter.numel() for parameter in self._parameters]
        self._gradients = torch.zeros(sum(n_numbers), device=self._parameters[0].device)
        parts = torch.split(self._gradients, n_numbers)
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.grad = part.as_strided(parameter.shape, parameter.stride())
        return self._gradients

    def zero_grad(self) -> None:
        """Drop the gradients."""
        if self._gradients is not None:
            self._gradients.zero_()
            return
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients."""
        for parameter in self._decaying:
            parameter.mul_(1 - self._lr * self._weight_decay)
        adam(
            self._parameters,
            [cast(Tensor, parameter.grad) for parameter in self._parameters],
            self._means,
            self._squares,
            [],
            self._steps,
            fused=True,
            lr=self._lr,
            beta1=_BETA_1,
            beta2=_BETA_2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return everything that changes from step to step, except the learning rate."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore such a state."""
        for name, tensors in self.state_dict().items():
            for tensor, saved in zip(tensors, state[name], strict=True):
                tensor.copy_(saved)


def learning_rate(hyperparameters: Hyperparameters, losses: Sequence[float]) -> float:
    """Return the learning rate of the next epoch.

    It depends on these arguments alone, so a resumed training has the same rates.

    Args:
        hyperparameters: lr, epochs and schedule apply here.
        losses: train_loss of each finished epoch.
    """
    lr, done = hyperparameters.lr, len(losses) / hyperparameters.epochs
    match hyperparameters.schedule:
        case "constant":
            return lr
        case "cosine":
            return lr * _half_cosine(done)
        case "one-cycle":
            if done < _RISING_SHARE:
                rising = _half_cosine(1 - done / _RISING_SHARE)
                return lr / _START_DIVISOR + lr * (1 - 1 / _START_DIVISOR) * rising
            return lr * _half_cosine((done - _RISING_SHARE) / (1 - _RISING_SHARE))
        case "plateau":
            return _reduce_on_plateaus(lr, losses)


def _half_cosine(done: float) -> float:
    """Half a cosine: from 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * done)) / 2


def _reduce_on_plateaus(lr: float, losses: Sequence[float]) -> float:
    """Reduce the rate after every ``_PATIENCE`` epochs without a lower loss."""
    best, waited = math.inf, 0
    for loss in losses:
        if loss < best - _MIN_DELTA:
            best, waited = loss, 0
            continue
        waited += 1
        if waited >= _PATIENCE:
            lr, waited = max(lr * _FACTOR, min(lr, _LOWEST_LR)), 0
    return lr
