"""Transform a series into the network's input view: values, differences, or means over time.

Members of an ensemble with different views make different mistakes (docs/accuracy.md).

``series``       the values
``differences``  each value minus the one before; their scale differs from that of values, so they
                 pass through a batch norm
``coarse``       the mean of every few timepoints, so that kernels cover a longer time

Shapes: N rows, C channels of T timepoints, S timepoints of the view, K outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmfcn.hyperparameters import SingleViewName
from lstmfcn.model.layers import BatchNorm, MaskedSeries

_COARSE_TIMEPOINTS = 4
_MIN_COARSE_TIMEPOINTS = 24
"""A coarse view averages fewer timepoints if it would become shorter than this."""


class InputView(nn.Module):
    """Transforms scaled series (N, C, T) into the input of the branches, (N, C, S), and its mask.

    Args:
        masks: whether values may be missing (`lstmfcn.model.layers`).
    """

    def __init__(
        self,
        kind: SingleViewName,
        n_channels: int,
        n_timepoints: int,
        masks: bool,
        batch_norm_momentum: float,
    ) -> None:
        super().__init__()
        self.masks = masks
        self.window = window_size(n_timepoints) if kind == "coarse" else 1
        self.n_seen = -(-n_timepoints // self.window)
        has_norm = kind == "differences"
        self.batch_norm = BatchNorm(n_channels, batch_norm_momentum) if has_norm else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the view without nan, and the mask (N, 1, 1, S) if values may be missing."""
        if self.window > 1:
            x = _windows(x, self.window).nanmean(dim=3)
        if self.batch_norm is None:
            return MaskedSeries.from_values(x) if self.masks else (x, None)
        x = differences(x)
        values, mask = MaskedSeries.from_values(x) if self.masks else (x, None)
        image = self.batch_norm(values.unsqueeze(2), mask)
        return (image if mask is None else image * mask).squeeze(2), mask

    def spread(self, terms: Tensor, x: Tensor) -> Tensor:
        """Spread terms of the view (N, K, S) equally over the series' timepoints (N, K, T).

        Args:
            x: the series (N, C, T); a timepoint where all channels are missing gets 0.
        """
        if self.window == 1:
            return terms
        present = ~_windows(x, self.window).isnan().all(dim=1)
        shares = present / present.sum(dim=2, keepdim=True).clamp(min=1)
        spread = terms.unsqueeze(3) * shares.unsqueeze(1)
        return spread.flatten(2)[:, :, : x.shape[2]]


def window_size(n_timepoints: int) -> int:
    """Return how many timepoints a coarse view averages."""
    return max(1, min(_COARSE_TIMEPOINTS, n_timepoints // _MIN_COARSE_TIMEPOINTS))


def differences(x: Tensor) -> Tensor:
    """Subtract from each value of (N, C, T) the one before; the first difference is 0."""
    return torch.diff(x, dim=2, prepend=x[:, :, :1])


def _windows(x: Tensor, length: int) -> Tensor:
    """Cut series (N, C, T) into windows (N, C, S, length); the last one is padded with nan."""
    padded = F.pad(x, (0, -x.shape[2] % length), value=torch.nan)
    return padded.reshape(*x.shape[:2], -1, length)
