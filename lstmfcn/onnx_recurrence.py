"""The LSTM branch over several steps, as ONNX nodes.

An LSTM is ONNX's own operator; attention is written out, step by step.

Shapes: N rows, C channels of T timepoints, S steps of F features, H hidden units.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from lstmfcn.attention_lstm import AttentionLSTM
from lstmfcn.model import LSTMBranch
from lstmfcn.onnx_graph import Graph

_ONNX_GATES = [0, 3, 1, 2]
"""Input, output, forget, cell: where PyTorch, whose order is input, forget, cell, output, has
them."""


def recurrence(graph: Graph, channels: str, branch: LSTMBranch, n_steps: int) -> str:
    """The last state (N, H) of the last layer over channels (N, C, T)."""
    steps = channels
    if not branch.shuffled:
        steps = graph.node("Transpose", channels, perm=[0, 2, 1])
    for layer in branch.layers:
        if isinstance(layer, AttentionLSTM):
            steps = _attention(graph, steps, layer, n_steps)
        else:
            steps = _lstm(graph, steps, cast(nn.LSTM, layer))
    return graph.node("Gather", steps, graph.constant(-1, np.int64), axis=1)


def _lstm(graph: Graph, steps: str, layer: nn.LSTM) -> str:
    """All states (N, S, H) over steps (N, S, F)."""
    weights = dict(layer.named_parameters())
    biases = [_in_onnx_order(weights[f"bias_{part}_l0"]) for part in ("ih", "hh")]
    states = graph.node(
        "LSTM",
        graph.node("Transpose", steps, perm=[1, 0, 2]),
        graph.constant(_in_onnx_order(weights["weight_ih_l0"])[None].numpy()),
        graph.constant(_in_onnx_order(weights["weight_hh_l0"])[None].numpy()),
        graph.constant(torch.cat(biases)[None].numpy()),
        hidden_size=layer.hidden_size,
    )
    states = graph.node("Squeeze", states, graph.axes(1))  # its one direction: (S, 1, N, H)
    return graph.node("Transpose", states, perm=[1, 0, 2])


def _in_onnx_order(gates: Tensor) -> Tensor:
    return torch.cat([gates.chunk(4)[i] for i in _ONNX_GATES])


def _attention(graph: Graph, steps: str, layer: AttentionLSTM, n_steps: int) -> str:
    """All states (N, S, H) over steps (N, S, F), as `AttentionLSTM.forward` computes them."""
    bias = graph.constant(layer.bias.numpy())
    gates_of_inputs = graph.node("Add", graph.matmul(steps, layer.kernel.T), bias)
    bias = graph.constant(layer.attention_bias.numpy())
    keys = graph.node("Add", graph.matmul(steps, layer.attention_weights.T), bias)
    h = c = graph.constant(np.zeros((1, layer.hidden_size)))
    bounds = [graph.axes(k * layer.hidden_size) for k in range(5)]
    recurrent, seen, query, vector, one = (
        graph.constant(layer.recurrent_kernel.T.numpy()),
        graph.constant(layer.attention_kernel.T.numpy()),
        graph.constant(layer.attention_recurrent_weights.T.numpy()),
        graph.constant(layer.attention_vector.T.numpy()),
        graph.axes(1),
    )
    states = []
    for t in range(n_steps):
        asked = graph.node("Unsqueeze", graph.node("MatMul", h, query), one)
        energy = graph.node("Tanh", graph.node("Add", asked, keys))
        shares = graph.node("Softmax", graph.node("MatMul", energy, vector), axis=1)
        z = graph.node("ReduceSum", graph.node("Mul", shares, steps), one, keepdims=0)
        gates = graph.node(
            "Sum",
            graph.node("Gather", gates_of_inputs, graph.constant(t, np.int64), axis=1),
            graph.node("MatMul", h, recurrent),
            graph.node("MatMul", z, seen),
        )
        i, f, new, o = (
            graph.node("Tanh" if k == 2 else "Sigmoid", _between(graph, gates, bounds, k, one))
            for k in range(4)
        )
        c = graph.node("Add", graph.node("Mul", f, c), graph.node("Mul", i, new))
        h = graph.node("Mul", o, graph.node("Tanh", c))
        states.append(graph.node("Unsqueeze", h, one))
    return graph.node("Concat", *states, axis=1)


def _between(graph: Graph, gates: str, bounds: list[str], k: int, axis: str) -> str:
    return graph.node("Slice", gates, bounds[k], bounds[k + 1], axis)
