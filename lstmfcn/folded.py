"""The trained network as prediction needs it: fewer operations, the same function.

- Each batch norm is a fixed scale and shift by now, and is folded into its convolution.
- The LSTM sees one step from a zero state. Its recurrent weights and its forget gate multiply that
  zero, so they are left out: ``h = sigmoid(o) * tanh(sigmoid(i) * tanh(g))``.
- Dropout is gone.

Shapes: N rows, T timepoints, H hidden units, C filters, K outputs.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmfcn.model import LSTMFCN, ConvolutionBlock


class FoldedLayer(NamedTuple):
    """Weights (out, in) or (out, in, 1, kernel), biases (out,), and zeros to add left and right."""

    weight: Tensor
    bias: Tensor
    padding: tuple[int, int] = (0, 0)


class FoldedNetwork(NamedTuple):
    """A trained network, folded.

    Attributes:
        lstm: a layer's input weights (3H, T), of the input gate, the cell and the output gate.
        convolutions: those of the three blocks.
        head: the linear layer.
    """

    lstm: list[FoldedLayer]
    convolutions: list[FoldedLayer]
    head: FoldedLayer

    @classmethod
    def of(cls, network: LSTMFCN, dtype: torch.dtype = torch.float32) -> FoldedNetwork:
        """Fold a network; the folding itself is computed in float64.

        Args:
            dtype: to compute in; logits are float32 in any case.
        """
        lstm = [_fold_lstm(cast(nn.LSTM, layer)) for layer in network.lstm.layers]
        convolutions = [_fold_block(cast(ConvolutionBlock, b)) for b in network.fcn.blocks]
        head = FoldedLayer(network.head.weight.detach(), network.head.bias.detach())
        return cls(
            [_converted(layer, dtype) for layer in lstm],
            [_converted(layer, dtype) for layer in convolutions],
            _converted(head, dtype),
        )

    def logits(self, x: Tensor) -> Tensor:
        """Logits, float32 (N, K), of scaled series (N, T)."""
        x = x.to(self.head.weight.dtype)
        both = torch.cat([self._lstm(x), self._fcn(x)], dim=1)
        return F.linear(both, self.head.weight, self.head.bias).float()

    def _lstm(self, x: Tensor) -> Tensor:
        for layer in self.lstm:
            into, cell, out = F.linear(x, layer.weight, layer.bias).chunk(3, dim=1)
            x = out.sigmoid() * (into.sigmoid() * cell.tanh()).tanh()
        return x

    def _fcn(self, x: Tensor) -> Tensor:
        image = x.reshape(len(x), 1, 1, x.shape[1]).to(memory_format=torch.channels_last)
        for weight, bias, (left, right) in self.convolutions:
            if left == right:
                image = F.conv2d(image, weight, bias, padding=(0, left)).relu_()
            else:
                image = F.conv2d(F.pad(image, (left, right)), weight, bias).relu_()
        return image.mean(dim=(2, 3))


def _fold_lstm(layer: nn.LSTM) -> FoldedLayer:
    weight = cast(Tensor, layer.weight_ih_l0).detach().double()
    bias = (cast(Tensor, layer.bias_ih_l0) + cast(Tensor, layer.bias_hh_l0)).detach().double()
    kept = [0, 2, 3]  # PyTorch's order is input gate, forget gate, cell, output gate
    return FoldedLayer(
        torch.cat([weight.chunk(4)[i] for i in kept]), torch.cat([bias.chunk(4)[i] for i in kept])
    )


def _fold_block(block: ConvolutionBlock) -> FoldedLayer:
    norm, convolution = block.batch_norm, block.convolution
    mean = cast(Tensor, norm.running_mean).double()
    variance = cast(Tensor, norm.running_var).double()
    scale = norm.weight.detach().double() / torch.sqrt(variance + norm.eps)
    weight = convolution.weight.detach().double() * scale[:, None, None, None]
    bias = cast(Tensor, convolution.bias).detach().double()
    return FoldedLayer(weight, (bias - mean) * scale + norm.bias.detach().double(), block.padding)


def _converted(layer: FoldedLayer, dtype: torch.dtype) -> FoldedLayer:
    weight = layer.weight.to(dtype)
    if weight.dim() == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    return FoldedLayer(weight, layer.bias.to(dtype), layer.padding)
