"""Layers that PyTorch lacks: masking, batch norm with growing memory, attention, squeeze-excite.

Attention and squeeze-and-excitation are those of Karim, Majumdar, Darabi, Harford (2019),
"Multivariate LSTM-FCNs for time series classification", Neural Networks 116, section 3, after
Bahdanau, Cho, Bengio (2015) and Hu, Shen, Sun (2018, "Squeeze-and-Excitation Networks", CVPR);
computed and initialised as the authors' code does it (titu1994/MLSTM-FCN), but for its hard
sigmoid.

Masking keeps gaps and unequal lengths from affecting the result. A missing value is nan in an array
and an empty cell in a shard. A timepoint without a value in any channel is masked: batch norm
ignores it, convolutions see zeros as in their own padding, and the mean over time leaves it out. So
a series gives the same logits whether it ends or is padded. A value that is missing in some
channels only is replaced by 0, the mean.

Shapes: N rows, C channels of T timepoints, S steps of F features, H hidden units.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-3
"""The epsilon of Keras 2.2.4, with which the authors trained."""

_REDUCTION = 16
"""Filters per unit of the bottleneck (Karim et al. 2019, section 3.2: r = 16)."""

_TRUNCATED_STD = 0.87962566103423978
"""Deviation of a standard normal cut at -2 and 2, by which Keras 2.2 divides (initializers.py)."""


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


class BatchNorm(nn.BatchNorm2d):
    """Batch norm whose running statistics start from the first batch, not from 0 and 1.

    The n-th batch has the weight ``max(momentum, 1 / n)``, so the statistics start as plain means.
    With a constant momentum of 0.01, the initial 0 and 1 would still have half of the weight after
    70 steps, and a small data set would be predicted wrong although it has been learned.
    """

    def __init__(self, n_channels: int, momentum: float) -> None:
        super().__init__(n_channels, momentum=momentum, eps=_EPSILON)
        self._min_momentum = momentum
        self._n_batches: int | None = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise; in training also update the statistics, from the timepoints not masked."""
        if not self.training:
            return super().forward(x)
        if x.device.type != "cpu":
            return self._train_without_host(x, mask)
        if self._n_batches is None:
            self._n_batches = int(cast(Tensor, self.num_batches_tracked))
        self._n_batches += 1
        self.momentum = max(self._min_momentum, 1 / self._n_batches)
        if mask is None:
            return super().forward(x)
        cast(Tensor, self.num_batches_tracked).add_(1)
        return self._masked(x, mask, self.momentum)

    def _train_without_host(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Count batches on the device, so that a CUDA graph counts each time that it is replayed.

        PyTorch's batch norm takes its momentum from the host; with 1 it leaves the statistics of
        the batch, which are then mixed into the running ones.
        """
        n_batches = cast(Tensor, self.num_batches_tracked).add_(1)
        momentum = n_batches.reciprocal().clamp(min=self._min_momentum)
        if mask is not None:
            return self._masked(x, mask, momentum)
        running = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        mean, variance = map(torch.zeros_like, running)
        y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        with torch.no_grad():
            running[0].lerp_(mean, momentum)
            running[1].lerp_(variance, momentum)
        return y

    def _masked(self, x: Tensor, mask: Tensor, momentum: Tensor | float) -> Tensor:
        batch = Statistics.compute(x.float(), mask)
        with torch.no_grad():
            cast(Tensor, self.running_mean).lerp_(batch.mean, momentum)
            cast(Tensor, self.running_var).lerp_(batch.unbiased, momentum)
        scale = self.weight * (batch.variance + self.eps).rsqrt()
        shift = self.bias - batch.mean * scale
        return (x.float() * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._n_batches = None


class AttentionLSTM(nn.Module):
    """LSTM whose steps also get a mean of all steps, weighted by attention.

    At step t, of all inputs x_1, ..., x_S and the state h, c::

        energy_s = tanh(h U + x_s W + b) . v
        z        = sum over s of softmax(energy)_s x_s
        i f c' o = x_t K + h R + z A + bias
        c        = sigmoid(f) c + sigmoid(i) tanh(c')
        h        = sigmoid(o) tanh(c)

    With a single step, z is x, and the layer is an LSTM with the kernel K + A. The forget gate's
    bias starts at 0, as in the authors' code (its `unit_forget_bias` builds an initialiser that
    nothing uses).

    Attributes:
        kernel, recurrent_kernel, attention_kernel: K, R, A, transposed: (4H, F), (4H, H), (4H, F).
        attention_weights, attention_recurrent_weights: W and U, transposed: (H, F) and (H, H).
        bias, attention_bias, attention_vector: (4H,), b (H,) and v (1, H).
    """

    def __init__(self, n_features: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        gates = 4 * hidden_size
        self.kernel = _parameter(gates, n_features)
        self.recurrent_kernel = _parameter(gates, hidden_size)
        self.attention_kernel = _parameter(gates, n_features)
        self.attention_weights = _parameter(hidden_size, n_features)
        self.attention_recurrent_weights = _parameter(hidden_size, hidden_size)
        self.bias = _parameter(gates)
        self.attention_bias = _parameter(hidden_size)
        self.attention_vector = _parameter(1, hidden_size)
        nn.init.xavier_uniform_(self.kernel)
        nn.init.orthogonal_(self.recurrent_kernel)
        nn.init.orthogonal_(self.attention_kernel)
        nn.init.orthogonal_(self.attention_weights)
        nn.init.orthogonal_(self.attention_recurrent_weights)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the states h of all steps, (N, S, H), without attention to masked steps."""
        masked = None if mask is None else mask.reshape(len(x), -1, 1) == 0
        gates_of_inputs = F.linear(x, self.kernel, self.bias)
        keys = F.linear(x, self.attention_weights, self.attention_bias)
        h = c = x.new_zeros(len(x), self.hidden_size)
        states = []
        for t in range(x.shape[1]):
            attended = F.linear(self._attend(x, keys, h, masked), self.attention_kernel)
            gates = gates_of_inputs[:, t] + F.linear(h, self.recurrent_kernel) + attended
            i, f, new, o = gates.chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * new.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, dim=1)

    def _attend(self, x: Tensor, keys: Tensor, h: Tensor, masked: Tensor | None) -> Tensor:
        """Average all inputs, (N, F), with attention weights for the state h (N, H)."""
        query = F.linear(h, self.attention_recurrent_weights)
        energy = F.linear((query[:, None] + keys).tanh(), self.attention_vector)
        if masked is not None:
            energy = energy.masked_fill(masked, -torch.inf)
        return (energy.softmax(dim=1) * x).sum(dim=1)


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


class SqueezeExcite(nn.Module):
    """Multiplies each filter by a weight, from two layers on the means over time: (N, C, 1, T)."""

    def __init__(self, n_filters: int) -> None:
        super().__init__()
        n_units = bottleneck_size(n_filters)
        self.squeeze = nn.Linear(n_filters, n_units, bias=False)
        self.excite = nn.Linear(n_units, n_filters, bias=False)
        for layer in (self.squeeze, self.excite):
            _initialise_he_normal(layer)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the filters, each multiplied by its weight between 0 and 1."""
        squeezed = F.relu(self.squeeze(mean_over_time(x, mask).to(x.dtype)))
        weights = self.excite(squeezed).sigmoid()
        weighted: Tensor = x * weights[:, :, None, None]
        return weighted


def bottleneck_size(n_filters: int) -> int:
    """Return the number of units between the two layers of `SqueezeExcite`."""
    return max(1, n_filters // _REDUCTION)


def _initialise_he_normal(layer: nn.Linear) -> None:
    std = math.sqrt(2 / layer.in_features) / _TRUNCATED_STD
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
