"""The squeeze-and-excitation block: each filter's output, weighted by what all filters found.

Hu, Shen, Sun (2018), "Squeeze-and-Excitation Networks", CVPR, as Karim et al. (2019) put it between
the convolutions of MLSTM-FCN (section 3.2), computed and initialised as in the authors' code
(titu1994/MLSTM-FCN, squeeze_excite_block).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from lstmfcn.masking import mean_over_time

_REDUCTION = 16
"""Filters for each unit between (Karim et al. 2019, section 3.2: r = 16)."""

_STD_OF_TRUNCATED = 0.87962566103423978
"""Deviation of a standard normal cut at -2 and 2, by which Keras 2.2 divides (initializers.py)."""


class SqueezeExcite(nn.Module):
    """Mean over time, two layers without biases, and the product: (N, C, 1, T) to the same."""

    def __init__(self, n_filters: int) -> None:
        super().__init__()
        between = n_between(n_filters)
        self.squeeze = nn.Linear(n_filters, between, bias=False)
        self.excite = nn.Linear(between, n_filters, bias=False)
        for layer in (self.squeeze, self.excite):
            _initialise_he_normal(layer)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The filters, each times its weight between 0 and 1."""
        squeezed = F.relu(self.squeeze(mean_over_time(x, mask).to(x.dtype)))
        weights = self.excite(squeezed).sigmoid()
        weighted: Tensor = x * weights[:, :, None, None]
        return weighted


def n_between(n_filters: int) -> int:
    """Units between the block's two layers."""
    return max(1, n_filters // _REDUCTION)


def _initialise_he_normal(layer: nn.Linear) -> None:
    std = math.sqrt(2 / layer.in_features) / _STD_OF_TRUNCATED
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
