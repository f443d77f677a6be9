"""The workers that train one model together, as the training loop sees them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Collective(Protocol):
    """The workers that train one model together."""

    rank: int
    world_size: int

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as a training step calls it, gradients averaged over workers."""

    def all_reduce(self, totals: Tensor) -> Tensor:
        """The sum of every worker's totals."""

    def average_buffers(self, model: nn.Module) -> None:
        """Give every worker the mean of all workers' batch-norm statistics."""

    def all_gather(self, numbers: Tensor) -> Tensor:
        """Every worker's numbers (n,), as rows of (W, n)."""

    def broadcast(self, wish: bool) -> bool:
        """What the first worker wishes."""


class SingleProcess:
    """Training alone: nothing to share."""

    rank = 0
    world_size = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def all_reduce(self, totals: Tensor) -> Tensor:
        """The totals themselves."""
        return totals

    def average_buffers(self, model: nn.Module) -> None:
        """Nothing to do."""

    def all_gather(self, numbers: Tensor) -> Tensor:
        """The numbers, as the only row."""
        return numbers.unsqueeze(0)

    def broadcast(self, wish: bool) -> bool:
        """The wish itself."""
        return wish
