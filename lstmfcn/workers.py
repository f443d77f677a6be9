"""The workers that train one model together, as the training loop sees them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Workers(Protocol):
    """The workers that train one model together."""

    rank: int
    world_size: int

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as a training step calls it, gradients averaged over workers."""

    def add_up(self, totals: Tensor) -> Tensor:
        """The sum of every worker's totals."""

    def average_buffers(self, model: nn.Module) -> None:
        """Give every worker the mean of all workers' batch-norm statistics."""

    def gather(self, numbers: Tensor) -> Tensor:
        """Every worker's numbers (n,), as rows of (W, n)."""

    def agree(self, wish: bool) -> bool:
        """What the first worker wishes."""


class OneWorker:
    """Training alone: nothing to share."""

    rank = 0
    world_size = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def add_up(self, totals: Tensor) -> Tensor:
        """The totals themselves."""
        return totals

    def average_buffers(self, model: nn.Module) -> None:
        """Nothing to do."""

    def gather(self, numbers: Tensor) -> Tensor:
        """The numbers, as the only row."""
        return numbers.unsqueeze(0)

    def agree(self, wish: bool) -> bool:
        """The wish itself."""
        return wish
