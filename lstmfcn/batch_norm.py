"""Batch norm whose running statistics begin with the first batch, and may leave out timepoints."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from lstmfcn.masking import Statistics

_EPSILON = 1e-3
"""That of Keras 2.2.4, with which the authors trained."""


class BatchNorm(nn.BatchNorm2d):
    """Batch norm whose running statistics begin with the first batch, not with 0 and 1.

    The n-th batch weighs ``max(momentum, 1 / n)``: at first it is the plain mean. With a momentum
    of 0.01 alone the initial 0 and 1 still weigh half after 70 steps, and a small set that has been
    learned is predicted wrong.
    """

    def __init__(self, n_channels: int, momentum: float) -> None:
        super().__init__(n_channels, momentum=momentum, eps=_EPSILON)
        self._least = momentum
        self._n_batches: int | None = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise; in training also update the statistics, of timepoints not masked."""
        if self.training:
            if self._n_batches is None:  # read once: reading a tensor waits for the device
                self._n_batches = int(cast(Tensor, self.num_batches_tracked))
            self._n_batches += 1
            self.momentum = max(self._least, 1 / self._n_batches)
            if mask is not None:
                return self._masked(x, mask)
        return super().forward(x)

    def _masked(self, x: Tensor, mask: Tensor) -> Tensor:
        found = Statistics.of(x.float(), mask)
        with torch.no_grad():
            momentum = cast(float, self.momentum)
            cast(Tensor, self.running_mean).lerp_(found.mean, momentum)
            cast(Tensor, self.running_var).lerp_(found.unbiased, momentum)
            cast(Tensor, self.num_batches_tracked).add_(1)
        scale = self.weight * (found.variance + self.eps).rsqrt()
        shift = self.bias - found.mean * scale
        return (x.float() * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._n_batches = None
