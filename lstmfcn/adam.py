"""The optimiser: Adam by PyTorch's fused kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

EPSILON = 1e-7
"""Keras 2.2.4's, which the paper's results were computed with (PyTorch's default is 1e-8)."""

_BETA_1, _BETA_2 = 0.9, 0.999


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1), with decoupled weight decay where there is any.

    Weights of layers decay (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization",
    algorithm 2), vectors do not: biases and batch norms.

    It calls the kernel of ``torch.optim.Adam(fused=True)``, whose first use imports PyTorch's
    compiler, 1 to 1.5 s of every start, and whose preparations take longer than a small net's
    update.

    Args:
        parameters: what is trained; each must have a gradient at every step.
        lr: learning rate; may be changed between steps.
        weight_decay: what a step takes off each weight, times the learning rate.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0
    ) -> None:
        self.lr, self._weight_decay = lr, weight_decay
        self._parameters: list[Tensor] = list(parameters)
        self._decaying = [p for p in self._parameters if weight_decay and p.ndim > 1]
        self._means = [torch.zeros_like(p) for p in self._parameters]
        self._squares = [torch.zeros_like(p) for p in self._parameters]
        step = torch.zeros((), device=self._parameters[0].device)
        self._steps = [step] * len(self._parameters)  # the kernel wants one for each

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters by their gradients."""
        if self._decaying:
            torch._foreach_mul_(self._decaying, 1 - self.lr * self._weight_decay)
        self._steps[0].add_(1)
        torch._fused_adam_(
            self._parameters,
            [cast(Tensor, parameter.grad) for parameter in self._parameters],
            self._means,
            self._squares,
            [],
            self._steps,
            lr=self.lr,
            beta1=_BETA_1,
            beta2=_BETA_2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, list[Tensor]]:
        """All that changes from step to step, but the learning rate."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        for name, mine in self.state_dict().items():
            for tensor, saved in zip(mine, state[name], strict=True):
                tensor.copy_(saved)
