"""What a network sees of a series: its values, the steps between them, or their means over a while.

Members of an ensemble that see different things make different mistakes (docs/accuracy.md).

``series``       the values
``differences``  of each value from the one before; they are much smaller than values, or larger,
                 so they are normalised as filters are
``coarse``       the mean of each few timepoints, in which kernels reach as many times further

Shapes: N rows, C channels of T timepoints, S timepoints that are seen, K outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmfcn.batch_norm import BatchNorm
from lstmfcn.hyperparameters import ViewOfOne
from lstmfcn.masking import Masked

_COARSE_TIMEPOINTS = 4
_FEWEST_SEEN = 24
"""Where there are not four times as many timepoints, fewer are averaged: kernels need some room."""


class View(nn.Module):
    """Scaled series (N, C, T) as the branches see them, (N, C, S), and which timepoints count.

    Args:
        kind: what is seen.
        masks: whether values may be missing (`lstmfcn.masking`).
    """

    def __init__(
        self,
        kind: ViewOfOne,
        n_channels: int,
        n_timepoints: int,
        masks: bool,
        batch_norm_momentum: float,
    ) -> None:
        super().__init__()
        self.masks = masks
        self.window = window_of(n_timepoints) if kind == "coarse" else 1
        self.n_seen = -(-n_timepoints // self.window)
        normed = kind == "differences"
        self.batch_norm = BatchNorm(n_channels, batch_norm_momentum) if normed else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Series without nan; and 1 or 0 for each timepoint, (N, 1, 1, S), where some may miss."""
        if self.window > 1:
            x = _windows(x, self.window).nanmean(dim=3)
        if self.batch_norm is None:
            return Masked.of(x) if self.masks else (x, None)
        x = differences(x)
        seen, mask = Masked.of(x) if self.masks else (x, None)
        image = self.batch_norm(seen.unsqueeze(2), mask)
        return (image if mask is None else image * mask).squeeze(2), mask

    def spread(self, terms: Tensor, x: Tensor) -> Tensor:
        """What timepoints that are seen have, (N, K, S), shared by those they are of, (N, K, T).

        Args:
            x: the series (N, C, T); where all of its channels are missing, the share is 0.
        """
        if self.window == 1:
            return terms
        present = ~_windows(x, self.window).isnan().all(dim=1)
        shares = present / present.sum(dim=2, keepdim=True).clamp(min=1)
        spread = terms.unsqueeze(3) * shares.unsqueeze(1)
        return spread.flatten(2)[:, :, : x.shape[2]]


def window_of(n_timepoints: int) -> int:
    """How many timepoints a coarse view takes the mean of."""
    return max(1, min(_COARSE_TIMEPOINTS, n_timepoints // _FEWEST_SEEN))


def differences(x: Tensor) -> Tensor:
    """Of (N, C, T), each value's from the one before; the first value's is 0."""
    return torch.diff(x, dim=2, prepend=x[:, :, :1])


def _windows(x: Tensor, length: int) -> Tensor:
    """Series (N, C, T) in pieces, (N, C, S, length); what the last one lacks is nan."""
    whole = F.pad(x, (0, -x.shape[2] % length), value=torch.nan)
    return whole.reshape(*x.shape[:2], -1, length)
