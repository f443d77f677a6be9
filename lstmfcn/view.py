"""What a network sees of a series: its values, or the difference of each from the one before.

Members of an ensemble that see different things make different mistakes (docs/accuracy.md).
Differences are much smaller than values, or larger, so they are normalised as filters are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmfcn.batch_norm import BatchNorm
from lstmfcn.masking import Masked


class View(nn.Module):
    """Scaled series (N, C, T) as the branches see them, (N, C, T), and which timepoints count.

    Args:
        differences: whether differences are seen, and not values.
        masks: whether values may be missing (`lstmfcn.masking`).
    """

    def __init__(
        self, n_channels: int, differences: bool, masks: bool, batch_norm_momentum: float
    ) -> None:
        super().__init__()
        self.masks = masks
        self.batch_norm = BatchNorm(n_channels, batch_norm_momentum) if differences else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Series without nan; and 1 or 0 for each timepoint, (N, 1, 1, T), where some may miss."""
        x, mask = seen(x, self.batch_norm is not None, self.masks)
        if self.batch_norm is None:
            return x, mask
        image = self.batch_norm(x.unsqueeze(2), mask)
        return (image if mask is None else image * mask).squeeze(2), mask


def seen(x: Tensor, differences: bool, masks: bool) -> tuple[Tensor, Tensor | None]:
    """What a `View` normalises, and which timepoints count."""
    if differences:
        x = torch.diff(x, dim=2, prepend=x[:, :, :1])
    return Masked.of(x) if masks else (x, None)
