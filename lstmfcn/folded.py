"""The trained network as prediction needs it: fewer operations, the same function.

- Each batch norm is a fixed scale and shift by now, and is folded into its convolution.
- Of one channel the LSTM sees one step from a zero state. Its recurrent weights and its forget gate
  multiply that zero, so they are left out: ``h = sigmoid(o) * tanh(sigmoid(i) * tanh(g))``.
  Attention has one step to attend to, so its kernel is added to that of the inputs.
- Dropout is gone.

Several steps of an LSTM, and the weights of filters, are computed by the network's own modules.

Shapes: N rows, C channels of T timepoints, S timepoints that the view has, H hidden units,
K outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmfcn.attention_lstm import AttentionLSTM
from lstmfcn.batch_norm import BatchNorm
from lstmfcn.masking import mean_over_time
from lstmfcn.model import LSTMFCN, ConvolutionBlock, Ensemble, LSTMBranch, native_dtype
from lstmfcn.squeeze_excite import SqueezeExcite
from lstmfcn.view import View

_Module = TypeVar("_Module", bound=nn.Module)


class FoldedLayer(NamedTuple):
    """Weights (out, in) or (out, in, 1, kernel), biases (out,), and zeros to add left and right."""

    weight: Tensor
    bias: Tensor
    padding: tuple[int, int] = (0, 0)


class FoldedNorm(NamedTuple):
    """The scale and the shift of each channel or filter, (C,)."""

    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, norm: BatchNorm) -> FoldedNorm:
        """What a batch norm is after training, in float64."""
        mean = cast(Tensor, norm.running_mean).double()
        variance = cast(Tensor, norm.running_var).double()
        scale = norm.weight.detach().double() / torch.sqrt(variance + norm.eps)
        return cls(scale, norm.bias.detach().double() - mean * scale)


class Parts(NamedTuple):
    """Logits, as `FoldedNetwork.logits` gives them, and what beside the bias they are the sum of.

    Attributes, all float32:
        logits: (N, K).
        lstm: the LSTM branch's term, (N, K).
        timepoints: each timepoint's term in the mean over time, (N, K, T); 0 where it is masked.
    """

    logits: Tensor
    lstm: Tensor
    timepoints: Tensor


class FoldedNetwork(NamedTuple):
    """A trained network, folded.

    Attributes:
        n_channels, n_timepoints: of a series.
        view: what the network sees of series, and which timepoints count.
        lstm: of one step, a layer's input weights (3H, features), of the input gate, the cell and
            the output gate.
        recurrence: of several steps, the branch itself.
        convolutions: those of the three blocks.
        weightings: what weighs each block's filters, if anything.
        head: the linear layer.
        blocks: each convolution and its ReLU, as `logits` computes them.
    """

    n_channels: int
    n_timepoints: int
    view: View
    lstm: list[FoldedLayer]
    recurrence: LSTMBranch | None
    convolutions: list[FoldedLayer]
    weightings: list[SqueezeExcite | None]
    head: FoldedLayer
    blocks: list[Callable[[Tensor], Tensor]]

    @classmethod
    def of(cls, network: LSTMFCN, dtype: torch.dtype = torch.float32) -> FoldedNetwork:
        """Fold a network; the folding itself is computed in float64.

        Args:
            dtype: to compute in, where the processor does; logits are float32 in any case.
        """
        dtype = native_dtype(dtype)
        n_channels, n_seen = network.n_channels, network.view.n_seen
        one_step = (n_channels if network.lstm.shuffled else n_seen) == 1
        lstm = [_fold_lstm(layer) for layer in network.lstm.layers] if one_step else []
        trained = [cast(ConvolutionBlock, block) for block in network.fcn.blocks]
        head = FoldedLayer(network.head.weight.detach(), network.head.bias.detach())
        convolutions = [_converted(_fold_block(block), dtype) for block in trained]
        weightings = [b.squeeze_excite and _copied(b.squeeze_excite, dtype) for b in trained]
        return cls(
            n_channels,
            network.n_timepoints,
            _copied(network.view, torch.float32),
            [_converted(layer, dtype) for layer in lstm],
            None if one_step else _copied(network.lstm, dtype),
            convolutions,
            weightings,
            _converted(head, dtype),
            [_block(layer, n_seen) for layer in convolutions],
        )

    def logits(self, x: Tensor) -> Tensor:
        """Logits, float32 (N, K), of scaled series (N, C * T)."""
        channels, mask = self._seen(self._channels(x))
        return self._head(self._lstm(channels, mask), self._fcn(channels, mask), mask)

    def parts(self, x: Tensor) -> Parts:
        """Logits of scaled series (N, C * T), and what they are the sum of.

        A mean over time and one linear layer follow the filters, so that layer may as well come
        first, at each timepoint: Zhou, Khosla, Lapedriza, Oliva, Torralba (2016), "Learning Deep
        Features for Discriminative Localization", CVPR, section 2 (class activation mapping).
        """
        series = self._channels(x)
        channels, mask = self._seen(series)
        hidden, filters = self._lstm(channels, mask), self._fcn(channels, mask)
        weights, n_hidden = self.head.weight.float(), hidden.shape[1]
        at_timepoints = filters.squeeze(2).transpose(1, 2).float()
        of_timepoints = F.linear(at_timepoints, weights[:, n_hidden:])
        if mask is None:
            shares = of_timepoints.new_full((), 1 / self.view.n_seen)
        else:
            present = mask.reshape(len(x), -1, 1).float()
            shares = present / present.sum(dim=1, keepdim=True).clamp(min=1)
        return Parts(
            self._head(hidden, filters, mask),
            F.linear(hidden.float(), weights[:, :n_hidden]),
            self.view.spread((of_timepoints * shares).transpose(1, 2), series),
        )

    def _channels(self, x: Tensor) -> Tensor:
        """Scaled series (N, C * T) as (N, C, T)."""
        return x.reshape(len(x), self.n_channels, self.n_timepoints)

    def _seen(self, series: Tensor) -> tuple[Tensor, Tensor | None]:
        """Channels (N, C, S), and 1 or 0 for each timepoint where some may be masked."""
        channels, mask = self.view(series)
        dtype = self.head.weight.dtype
        return channels.to(dtype), None if mask is None else mask.to(dtype)

    def _head(self, hidden: Tensor, filters: Tensor, mask: Tensor | None) -> Tensor:
        both = torch.cat([hidden, mean_over_time(filters, mask)], dim=1)
        return F.linear(both, self.head.weight, self.head.bias).float()

    def _lstm(self, channels: Tensor, mask: Tensor | None) -> Tensor:
        if self.recurrence is not None:
            found: Tensor = self.recurrence(channels, mask)
            return found
        x = channels.flatten(1)
        for layer in self.lstm:
            into, cell, out = F.linear(x, layer.weight, layer.bias).chunk(3, dim=1)
            x = out.sigmoid() * (into.sigmoid() * cell.tanh()).tanh()
        return x

    def _fcn(self, channels: Tensor, mask: Tensor | None) -> Tensor:
        """The last block's filters, (N, filters, 1, S)."""
        image = channels.unsqueeze(2).to(memory_format=torch.channels_last)
        for block, weighting in zip(self.blocks, self.weightings, strict=True):
            image = block(image)
            if mask is not None:
                image = image * mask
            if weighting is not None:
                image = weighting(image, mask)
        return image


class FoldedEnsemble(NamedTuple):
    """Folded networks that answer as one."""

    members: list[FoldedNetwork]

    @classmethod
    def of(cls, network: LSTMFCN | Ensemble, dtype: torch.dtype = torch.float32) -> FoldedEnsemble:
        """Fold a network, or each member of an ensemble, as `FoldedNetwork.of` does."""
        members = network.members if isinstance(network, Ensemble) else [network]
        return cls([FoldedNetwork.of(cast(LSTMFCN, member), dtype) for member in members])

    def logits(self, x: Tensor) -> Tensor:
        """The mean of the members' logits, float32 (N, K), of scaled series (N, C * T)."""
        first, *others = (member.logits(x) for member in self.members)
        return torch.stack([first, *others]).mean(dim=0) if others else first

    def parts(self, x: Tensor) -> Parts:
        """Logits of scaled series (N, C * T), and the means of the members' parts."""
        first, *others = (member.parts(x) for member in self.members)
        if not others:
            return first
        return Parts(*(torch.stack(same).mean(dim=0) for same in zip(first, *others, strict=True)))

    def bias(self) -> Tensor:
        """The part of the logits that all series share, float32 (K,)."""
        return torch.stack([member.head.bias.float() for member in self.members]).mean(dim=0)


def _block(layer: FoldedLayer, n_seen: int) -> Callable[[Tensor], Tensor]:
    """A convolution and its ReLU: (N, C_in, 1, S) to (N, C_out, 1, S), channels-last.

    Where PyTorch has oneDNN, the weights are laid out for it once, not in each call, and the ReLU
    is part of it, by the operators that ``torch.compile`` uses for the same: one series takes 0.4
    ms so instead of 0.6 ms, 128 take 0.95 of the time.
    """
    weight, bias, (left, right) = layer
    padding = (left, right) if left != right else (0, 0)
    inside = [0, left] if left == right else [0, 0]

    def padded(x: Tensor) -> Tensor:
        return F.pad(x, padding) if any(padding) else x  # padding by nothing would copy all of x

    def plain(x: Tensor) -> Tensor:
        return F.conv2d(padded(x), weight, bias, padding=inside).relu_()

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return plain
    shape = [1, weight.shape[1], 1, n_seen + sum(padding)]
    strides = [1, 1]
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight, inside, strides, strides, 1, shape
    )

    def packed_block(x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            padded(x), packed, bias, inside, strides, strides, 1, "relu", [], ""
        )
        return found

    return packed_block


def _copied(module: _Module, dtype: torch.dtype) -> _Module:
    """A copy for prediction."""
    return copy.deepcopy(module).to(dtype).eval().requires_grad_(False)


def _fold_lstm(layer: nn.Module) -> FoldedLayer:
    if isinstance(layer, AttentionLSTM):
        weight = (layer.kernel.double() + layer.attention_kernel.double()).detach()
        bias = layer.bias.detach().double()
    else:
        weight = cast(Tensor, layer.weight_ih_l0).detach().double()
        bias = (cast(Tensor, layer.bias_ih_l0) + cast(Tensor, layer.bias_hh_l0)).detach().double()
    kept = [0, 2, 3]  # PyTorch's order is input gate, forget gate, cell, output gate
    return FoldedLayer(
        torch.cat([weight.chunk(4)[i] for i in kept]), torch.cat([bias.chunk(4)[i] for i in kept])
    )


def _fold_block(block: ConvolutionBlock) -> FoldedLayer:
    norm, convolution = FoldedNorm.of(block.batch_norm), block.convolution
    weight = convolution.weight.detach().double() * norm.scale[:, None, None, None]
    bias = cast(Tensor, convolution.bias).detach().double()
    return FoldedLayer(weight, bias * norm.scale + norm.shift, block.padding)


def _converted(layer: FoldedLayer, dtype: torch.dtype) -> FoldedLayer:
    weight = layer.weight.to(dtype)
    if weight.dim() == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    return FoldedLayer(weight, layer.bias.to(dtype), layer.padding)
