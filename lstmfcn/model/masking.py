"""Mask missing values, so that gaps and unequal lengths do not affect the result.

A missing value is nan in an array and an empty cell in a shard. A timepoint without a value in any
channel is masked: batch norm ignores it, convolutions see zeros as in their own padding, and the
mean over time leaves it out. So a series gives the same logits whether it ends or is padded. A
value that is missing in some channels only is replaced by 0, the mean.

Shapes: N rows, C channels of T timepoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class MaskedSeries(NamedTuple):
    """Series (N, C, T) without nan, and a float32 mask (N, 1, 1, T), 0 at masked timepoints."""

    channels: Tensor
    mask: Tensor

    @classmethod
    def from_values(cls, channels: Tensor) -> MaskedSeries:
        """Mask series (N, C, T) in which missing values are nan."""
        missing = channels.isnan()
        mask = ~missing.all(dim=1)
        return cls(channels.masked_fill(missing, 0.0), mask[:, None, None, :].float())


def mean_over_time(x: Tensor, mask: Tensor | None) -> Tensor:
    """Average (N, C, 1, T) over the timepoints that are not masked: (N, C)."""
    if mask is None:
        return x.mean(dim=(2, 3))
    return (x * mask).sum(dim=(2, 3)) / mask.sum(dim=(2, 3)).clamp(min=1)


def last_step(steps: Tensor, mask: Tensor | None) -> Tensor:
    """Select the last of the steps (N, T, H) that is not masked: (N, H)."""
    if mask is None:
        return steps[:, -1]
    n_rows, n_steps = steps.shape[:2]
    order = torch.arange(n_steps, device=steps.device)
    last = (mask.reshape(n_rows, n_steps) * order).argmax(dim=1)
    return steps[torch.arange(n_rows, device=steps.device), last]


class Statistics(NamedTuple):
    """Mean and variance of each filter, (C,), over the timepoints that are not masked."""

    mean: Tensor
    variance: Tensor
    unbiased: Tensor

    @classmethod
    def compute(cls, x: Tensor, mask: Tensor) -> Statistics:
        """Compute the statistics of float32 filters (N, C, 1, T)."""
        n = mask.sum()
        mean = (x * mask).sum(dim=(0, 2, 3)) / n
        squares = (((x - mean[:, None, None]) * mask) ** 2).sum(dim=(0, 2, 3))
        return cls(mean, squares / n, squares / (n - 1).clamp(min=1))
