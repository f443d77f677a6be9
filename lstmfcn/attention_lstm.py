"""The LSTM with attention over its own inputs.

Karim, Majumdar, Darabi, Harford (2019), "Multivariate LSTM-FCNs for time series classification",
Neural Networks 116, section 3, after Bahdanau, Cho, Bengio (2015); computed and initialised as the
authors' code does it (titu1994/MLSTM-FCN, utils/layer_utils.py), but for its hard sigmoid.

Shapes: N rows, S steps of F features, H hidden units.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionLSTM(nn.Module):
    """Each step also sees a mean of all steps, weighted by how they fit the state.

    At step t, of all inputs x_1, ..., x_S and the state h, c::

        energy_s = tanh(h U + x_s W + b) . v
        z        = sum over s of softmax(energy)_s x_s
        i f c' o = x_t K + h R + z A + bias
        c        = sigmoid(f) c + sigmoid(i) tanh(c')
        h        = sigmoid(o) tanh(c)

    One step has only itself to attend to: z is x, and the layer an LSTM with the kernel K + A. The
    forget gate's bias starts at 0, as the authors' code has it (`unit_forget_bias` there builds an
    initialiser that nothing uses).

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
        """The states h of all steps: (N, S, F) to (N, S, H); no step attends to masked ones."""
        hidden = None if mask is None else mask.reshape(len(x), -1, 1) == 0
        gates_of_inputs = F.linear(x, self.kernel, self.bias)
        keys = F.linear(x, self.attention_weights, self.attention_bias)
        h = c = x.new_zeros(len(x), self.hidden_size)
        states = []
        for t in range(x.shape[1]):
            seen = F.linear(self._attended(x, keys, h, hidden), self.attention_kernel)
            gates = gates_of_inputs[:, t] + F.linear(h, self.recurrent_kernel) + seen
            i, f, new, o = gates.chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * new.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, dim=1)

    def _attended(self, x: Tensor, keys: Tensor, h: Tensor, hidden: Tensor | None) -> Tensor:
        """The mean of all inputs, (N, F), weighted by what fits the state h (N, H)."""
        query = F.linear(h, self.attention_recurrent_weights)
        energy = F.linear((query[:, None] + keys).tanh(), self.attention_vector)
        if hidden is not None:
            energy = energy.masked_fill(hidden, -torch.inf)
        return (energy.softmax(dim=1) * x).sum(dim=1)


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))
