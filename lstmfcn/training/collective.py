"""Exchange sums and decisions between the workers that train one model together."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Collective(Protocol):
    """The collective operations of W workers that train one model together."""

    rank: int
    world_size: int

    def all_reduce(self, sums: Tensor) -> Tensor:
        """Replace the sums by the total of every worker's, and return them."""

    def average_buffers(self, model: nn.Module) -> None:
        """Set every worker's batch-norm statistics to their mean over all workers."""

    def all_gather(self, numbers: Tensor) -> Tensor:
        """Return every worker's numbers (n,) as rows (W, n)."""

    def broadcast(self, decision: bool) -> bool:
        """Return the first worker's decision on every worker."""

    def wants_checkpoint(self, due: bool) -> bool:
        """Return on every worker whether to save a checkpoint now.

        So it is if the first worker says that it is due, or if a machine is about to be taken away.
        """


class SingleProcess:
    """The collective of one process: nothing to exchange."""

    rank = 0
    world_size = 1

    def all_reduce(self, sums: Tensor) -> Tensor:
        """Return the sums themselves."""
        return sums

    def average_buffers(self, model: nn.Module) -> None:
        """Do nothing."""

    def all_gather(self, numbers: Tensor) -> Tensor:
        """Return the numbers as the only row, (1, n)."""
        return numbers.unsqueeze(0)

    def broadcast(self, decision: bool) -> bool:
        """Return the decision itself."""
        return decision

    def wants_checkpoint(self, due: bool) -> bool:
        """Return whether it is due."""
        return due
