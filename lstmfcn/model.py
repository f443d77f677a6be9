"""The LSTM-FCN network and its family.

Karim, Majumdar, Darabi, Chen (2018), "LSTM Fully Convolutional Networks for Time Series
Classification", IEEE Access 6, section III and figure 2. An LSTM branch sees the dimension-shuffled
series: one step whose T features are the timepoints. A fully convolutional branch sees the series
itself: three blocks of convolution, batch norm and ReLU, then global average pooling. Both are
concatenated, and one linear layer gives the logits.

Karim, Majumdar, Darabi, Harford (2019), "Multivariate LSTM-FCNs for time series classification",
Neural Networks 116, section 3: series of several channels. Where they have more timepoints than
channels, the dimension shuffle makes each channel a step of the LSTM branch, whose features are
that channel's timepoints; otherwise each timepoint is a step. The convolutions run over time and
see all channels. MLSTM-FCN weighs the filters of the first two blocks (`SqueezeExcite`),
ALSTM-FCN has attention in its LSTM (`AttentionLSTM`), MALSTM-FCN both. The authors' code masks
steps that are all zero, which pads series of unequal length; series here have one length, and
nothing is masked.

Details that the paper leaves open follow the authors' code (titu1994/LSTM-FCN) on Keras 2.2.4:

==================  =========================================================================
convolution         he_uniform weights, zero bias, "same" padding as TensorFlow pads: an even
                    kernel has one zero more on the right (3 and 4 for a kernel of 8)
batch norm          epsilon 1e-3; the authors' Keras momentum of 0.99 is
                    ``batch_norm_momentum`` 0.01, after a start that `BatchNorm` describes
LSTM                glorot_uniform input weights, orthogonal recurrent weights, zero bias but 1 for
                    the forget gate; sigmoid gates (Keras 2.2.4: hard sigmoid); dropout after each
                    layer, as the reference algorithm documents it
linear              glorot_uniform weights, zero bias
==================  =========================================================================

Shapes: N rows, C channels of T timepoints, H hidden units, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmfcn.attention_lstm import AttentionLSTM
from lstmfcn.batch_norm import BatchNorm
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.masking import last_step, mean_over_time
from lstmfcn.squeeze_excite import SqueezeExcite
from lstmfcn.view import View

_LAST_BLOCK = 3


class LSTMBranch(nn.Module):
    """LSTM layers over some steps, dropout after each layer: (N, C, T) to (N, H).

    ``nn.LSTM(dropout=...)`` leaves out the last layer, so the layers stand one by one.

    Args:
        shuffled: whether the C channels are the steps, and not the T timepoints.
        attention: whether the layers are `AttentionLSTM`.
    """

    def __init__(
        self,
        n_features: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        shuffled: bool = True,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.shuffled = shuffled
        sizes = pairwise([n_features] + [hidden_size] * num_layers)
        if attention:
            self.layers = nn.ModuleList(AttentionLSTM(a, b) for a, b in sizes)
        else:
            self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in sizes)
        self.dropout = nn.Dropout(dropout)
        for layer in self.layers:
            if isinstance(layer, nn.LSTM):
                _initialise_lstm(layer)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The last layer's output for the last step; where steps are timepoints, not masked."""
        steps = x if self.shuffled else x.transpose(1, 2)
        mask = None if self.shuffled else mask
        for layer in self.layers:
            states = layer(steps, mask) if isinstance(layer, AttentionLSTM) else _run(layer, steps)
            steps = self.dropout(states)
        return last_step(steps, mask)


def _run(lstm: nn.Module, steps: Tensor) -> Tensor:
    """The states of an LSTM (N, T, H); not autocast to a type that is not `native_dtype`."""
    casts = steps.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if casts and native_dtype(torch.bfloat16) == torch.float32:
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, lstm(steps.float())[0])
    return cast(Tensor, lstm(steps)[0])


@cache
def native_dtype(wanted: torch.dtype) -> torch.dtype:
    """What an LSTM and packed convolutions compute in on this processor.

    In bf16 oneDNN's need AVX-512: without it PyTorch 2.13 raises an error.
    """
    return wanted if torch.cpu.get_capabilities().get("avx512_bw") else torch.float32


class ConvolutionBlock(nn.Module):
    """Convolution, batch norm, ReLU, and perhaps weights: (N, C_in, 1, T) to (N, C_out, 1, T).

    Convolutions are two-dimensional with a height of 1 because PyTorch keeps only those in
    channels-last order, which trained 1.13 to 1.16 times as fast as ``Conv1d`` on a CPU.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: int,
        batch_norm_momentum: float,
        squeeze_excite: bool = False,
    ) -> None:
        super().__init__()
        self.padding = ((kernel_size - 1) // 2, kernel_size // 2)
        self.convolution = nn.Conv2d(n_in, n_out, (1, kernel_size))
        self.batch_norm = BatchNorm(n_out, batch_norm_momentum)
        nn.init.kaiming_uniform_(self.convolution.weight, nonlinearity="relu")
        nn.init.zeros_(cast(Tensor, self.convolution.bias))
        self.squeeze_excite = SqueezeExcite(n_out) if squeeze_excite else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One block; zeros where the mask is."""
        found = F.relu(self.batch_norm(self.convolution(F.pad(x, self.padding)), mask))
        if mask is not None:
            found = found * mask.to(found.dtype)
        return self.squeeze_excite(found, mask) if self.squeeze_excite else found


class FCNBranch(nn.Module):
    """Three convolution blocks and the mean over time: (N, C, T) to (N, filters of the last)."""

    def __init__(
        self,
        filters: tuple[int, int, int],
        kernel_sizes: tuple[int, int, int],
        batch_norm_momentum: float,
        n_channels: int = 1,
        squeeze_excite: bool = False,
    ) -> None:
        super().__init__()
        sizes = zip(pairwise((n_channels, *filters)), kernel_sizes, strict=True)
        self.blocks = nn.ModuleList(
            ConvolutionBlock(a, b, k, batch_norm_momentum, squeeze_excite and number < _LAST_BLOCK)
            for number, ((a, b), k) in enumerate(sizes, start=1)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Blocks, then global average pooling."""
        image = x.unsqueeze(2).to(memory_format=torch.channels_last)
        for block in self.blocks:
            image = block(image, mask)
        return mean_over_time(image, mask)


class LSTMFCN(nn.Module):
    """Scaled series (N, C * T), channel after channel, to logits (N, K), without the softmax.

    The bare net has 3,703 parameters for one channel of T 100, hidden 8, filters 4/4/4, kernels
    3/3/3 and 3 outputs, and 428,293 for T 187, the paper's sizes and 5 outputs.
    """

    def __init__(
        self,
        hyperparameters: Hyperparameters,
        n_timepoints: int,
        n_outputs: int,
        n_channels: int = 1,
    ) -> None:
        super().__init__()
        h = hyperparameters
        self.n_channels, self.n_timepoints = n_channels, n_timepoints
        masks = h.missing == "mask"
        self.view = View(h.view_of_one, n_channels, n_timepoints, masks, h.batch_norm_momentum)
        network = h.network_for(n_channels)
        shuffled = self.view.n_seen > n_channels
        self.lstm = LSTMBranch(
            self.view.n_seen if shuffled else n_channels,
            h.hidden_size,
            h.num_layers,
            h.dropout,
            shuffled,
            attention=network in ("alstm-fcn", "malstm-fcn"),
        )
        self.fcn = FCNBranch(
            (h.filters_1, h.filters_2, h.filters_3),
            (h.kernel_size_1, h.kernel_size_2, h.kernel_size_3),
            h.batch_norm_momentum,
            n_channels,
            squeeze_excite=network in ("mlstm-fcn", "malstm-fcn"),
        )
        self.head = nn.Linear(h.hidden_size + h.filters_3, n_outputs)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.fcn.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of scaled series."""
        channels, mask = self.view(x.reshape(len(x), self.n_channels, self.n_timepoints))
        both = torch.cat([self.lstm(channels, mask), self.fcn(channels, mask)], dim=1)
        return cast(Tensor, self.head(both))


class Ensemble(nn.Module):
    """Several networks that answer as one: the mean of their logits."""

    def __init__(self, members: Iterable[LSTMFCN]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of scaled series (N, C * T)."""
        return torch.stack([member(x) for member in self.members]).mean(dim=0)


def network_of(
    hyperparameters: Hyperparameters, n_timepoints: int, n_outputs: int, n_channels: int = 1
) -> LSTMFCN | Ensemble:
    """The network of hyperparameters, with initial weights: an ensemble where it has members."""
    members = [
        LSTMFCN(member, n_timepoints, n_outputs, n_channels)
        for member in hyperparameters.of_members()
    ]
    return Ensemble(members) if len(members) > 1 else members[0]


def _initialise_lstm(layer: nn.LSTM) -> None:
    """Keras' defaults. PyTorch adds two biases; the forget gate's 1 is put in the first."""
    weights = dict(layer.named_parameters())
    nn.init.xavier_uniform_(weights["weight_ih_l0"])
    nn.init.orthogonal_(weights["weight_hh_l0"])
    nn.init.zeros_(weights["bias_ih_l0"])
    nn.init.zeros_(weights["bias_hh_l0"])
    with torch.no_grad():
        weights["bias_ih_l0"][layer.hidden_size : 2 * layer.hidden_size] = 1.0
