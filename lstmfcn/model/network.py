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
see all channels. MLSTM-FCN weights the filters of the first two blocks (`SqueezeExcite`),
ALSTM-FCN has attention in its LSTM (`AttentionLSTM`), MALSTM-FCN both. The authors' code masks
steps that are all zero; here, only missing values are masked (`lstmfcn.model.layers`).

Details that the paper does not state follow the authors' code (titu1994/LSTM-FCN) on Keras 2.2.4:

==================  =========================================================================
convolution         he_uniform weights, zero bias, "same" padding as TensorFlow pads: an even
                    kernel has one zero more on the right (3 and 4 for a kernel of 8)
batch norm          epsilon 1e-3; the authors' Keras momentum of 0.99 is
                    ``batch_norm_momentum`` 0.01, except at the start (see `BatchNorm`)
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

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.input_view import InputView
from lstmfcn.model.layers import AttentionLSTM, BatchNorm, SqueezeExcite, last_step, mean_over_time

_LAST_BLOCK = 3


class LSTMBranch(nn.Module):
    """LSTM layers with dropout after each layer: (N, C, T) to (N, H).

    ``nn.LSTM(dropout=...)`` has no dropout after the last layer, so each layer is a module.

    Args:
        shuffled: whether the C channels are the steps, instead of the T timepoints.
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
        """Return the last layer's output at the last step (the last one not masked)."""
        steps = x if self.shuffled else x.transpose(1, 2)
        mask = None if self.shuffled else mask
        for layer in self.layers:
            states = layer(steps, mask) if isinstance(layer, AttentionLSTM) else _run(layer, steps)
            steps = self.dropout(states)
        return last_step(steps, mask)


def _run(lstm: nn.Module, steps: Tensor) -> Tensor:
    """Return the states of an LSTM, (N, T, H); avoid autocast to a dtype that is not native."""
    casts = steps.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if casts and native_dtype(torch.bfloat16) == torch.float32:
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, lstm(steps.float())[0])
    return cast(Tensor, lstm(steps)[0])


@cache
def native_dtype(requested: torch.dtype, device_type: str = "cpu") -> torch.dtype:
    """Return the dtype in which LSTMs and packed convolutions compute on this processor or GPU.

    In bf16 those of oneDNN need AVX-512; without it PyTorch 2.13 raises an error. A GPU before
    Ampere emulates it, slowly.
    """
    if device_type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return requested if has_bf16 else torch.float32
    return requested if torch.cpu.get_capabilities().get("avx512_bw") else torch.float32


class ConvolutionBlock(nn.Module):
    """Convolution, batch norm, ReLU, `SqueezeExcite` if set: (N, C_in, 1, T) to (N, C_out, 1, T).

    Convolutions are two-dimensional with a height of 1, because PyTorch supports channels-last
    order only for those; on a CPU they train 1.13 to 1.16 times as fast as ``Conv1d``.
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
        """Compute the block; masked timepoints become 0."""
        filters = F.relu(self.batch_norm(self.convolution(F.pad(x, self.padding)), mask))
        if mask is not None:
            filters = filters * mask.to(filters.dtype)
        return self.squeeze_excite(filters, mask) if self.squeeze_excite else filters


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
        """Compute the blocks, then global average pooling."""
        image = x.unsqueeze(2).to(memory_format=torch.channels_last)
        for block in self.blocks:
            image = block(image, mask)
        return mean_over_time(image, mask)


class LSTMFCN(nn.Module):
    """The LSTM-FCN: scaled series (N, C * T), channel after channel, to logits (N, K).

    The plain network has 3,703 parameters for one channel of T 100, hidden 8, filters 4/4/4,
    kernels 3/3/3 and 3 outputs, and 428,293 for T 187, the paper's sizes and 5 outputs.
    """

    def __init__(
        self,
        hyperparameters: Hyperparameters,
        n_timepoints: int,
        n_outputs: int,
        n_channels: int = 1,
    ) -> None:
        super().__init__()
        self.n_channels, self.n_timepoints = n_channels, n_timepoints
        masks = hyperparameters.missing == "mask"
        self.view = InputView(
            hyperparameters.single_view,
            n_channels,
            n_timepoints,
            masks,
            hyperparameters.batch_norm_momentum,
        )
        network = hyperparameters.resolve_network(n_channels)
        shuffled = self.view.n_seen > n_channels
        self.lstm = LSTMBranch(
            self.view.n_seen if shuffled else n_channels,
            hyperparameters.hidden_size,
            hyperparameters.num_layers,
            hyperparameters.dropout,
            shuffled,
            attention=network in ("alstm-fcn", "malstm-fcn"),
        )
        self.fcn = FCNBranch(
            (hyperparameters.filters_1, hyperparameters.filters_2, hyperparameters.filters_3),
            (
                hyperparameters.kernel_size_1,
                hyperparameters.kernel_size_2,
                hyperparameters.kernel_size_3,
            ),
            hyperparameters.batch_norm_momentum,
            n_channels,
            squeeze_excite=network in ("mlstm-fcn", "malstm-fcn"),
        )
        self.head = nn.Linear(hyperparameters.hidden_size + hyperparameters.filters_3, n_outputs)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.fcn.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of scaled series."""
        channels, mask = self.view(x.reshape(len(x), self.n_channels, self.n_timepoints))
        both = torch.cat([self.lstm(channels, mask), self.fcn(channels, mask)], dim=1)
        return cast(Tensor, self.head(both))


class Ensemble(nn.Module):
    """Several networks whose logits are averaged."""

    def __init__(self, members: Iterable[LSTMFCN]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the mean logits (N, K) of scaled series (N, C * T)."""
        return torch.stack([member(x) for member in self.members]).mean(dim=0)


def build_network(
    hyperparameters: Hyperparameters, n_timepoints: int, n_outputs: int, n_channels: int = 1
) -> LSTMFCN | Ensemble:
    """Build the network with initial weights; an `Ensemble` if there are several members."""
    members = [
        LSTMFCN(member, n_timepoints, n_outputs, n_channels)
        for member in hyperparameters.split_into_members()
    ]
    return Ensemble(members) if len(members) > 1 else members[0]


def _initialise_lstm(layer: nn.LSTM) -> None:
    """Use Keras' defaults. PyTorch adds two biases; the first gets the forget gate's 1."""
    weights = dict(layer.named_parameters())
    nn.init.xavier_uniform_(weights["weight_ih_l0"])
    nn.init.orthogonal_(weights["weight_hh_l0"])
    nn.init.zeros_(weights["bias_ih_l0"])
    nn.init.zeros_(weights["bias_hh_l0"])
    with torch.no_grad():
        weights["bias_ih_l0"][layer.hidden_size : 2 * layer.hidden_size] = 1.0
