"""Export a model as one ONNX file, from unscaled series to probabilities.

The input is ``series``, float32 (N, V), channel after channel; the output is ``probabilities``,
float32 (N, L), one per label column. The file's metadata holds ``columns``, ``classes``, ``task``
and fitted ``thresholds``, above which a label is predicted 1. A fitted temperature is part of the
graph. Needs the package ``onnx``: ``pip install 'lstmfcn[onnx]'``.

Shapes: N rows, C channels of T timepoints, S steps of F features, H hidden units.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lstmfcn.data.scaler import SMALLEST_STD, Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import ModelError, ResourceError
from lstmfcn.inference.fused_network import FusedEnsemble, FusedLayer, FusedNetwork, FusedNorm
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.layers import AttentionLSTM, SqueezeExcite
from lstmfcn.model.network import LSTMBranch
from lstmfcn.model.task import Decision
from lstmfcn.storage.files import atomic_write

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ResourceError("the package onnx is missing; pip install 'lstmfcn[onnx]'") from error

OPSET = 17
"""Supported by ONNX Runtime since 1.12 (2022), and by TensorRT and OpenVINO."""

_ONNX_GATES = [0, 3, 1, 2]
"""PyTorch's gates (input, forget, cell, output) in ONNX's order: input, output, forget, cell."""


class Graph:
    """Builds an ONNX graph; each node has one output."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add a constant; returns its name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add an operator; returns the name of its output."""
        name = output or f"node_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def cast(self, x: str, dtype: Any) -> str:
        """Convert a tensor to another dtype."""
        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def axes(self, *numbers: int) -> str:
        """Add a constant of axes or indices, int64."""
        return self.constant(numbers, np.int64)

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape a tensor; a size of 0 keeps the tensor's size."""
        return self.node("Reshape", x, self.axes(*shape))

    def matmul(self, x: str, weights: Tensor) -> str:
        """Multiply a tensor (..., n) by constant weights (n, m)."""
        return self.node("MatMul", x, self.constant(weights.numpy()))

    def model(self, schema: SeriesSchema, decision: Decision) -> Any:
        """Build and check the ONNX model from ``series`` to ``probabilities``."""
        series = helper.make_tensor_value_info("series", TensorProto.FLOAT, ["N", schema.n_values])
        probabilities = helper.make_tensor_value_info(
            "probabilities", TensorProto.FLOAT, ["N", len(schema.probability_columns)]
        )
        graph = helper.make_graph(
            self._nodes, "lstmfcn", [series], [probabilities], self._constants
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="lstmfcn"
        )
        model.ir_version = 8  # the version of the opset's time, for runtimes of that time
        properties = {
            "task": schema.task,
            "classes": json.dumps(schema.classes),
            "columns": json.dumps(schema.probability_columns),
        }
        if decision.thresholds:
            properties["thresholds"] = json.dumps(decision.thresholds)
        helper.set_model_props(model, properties)
        onnx.checker.check_model(model, full_check=True)
        return model


def _recurrence(graph: Graph, channels: str, branch: LSTMBranch, n_steps: int) -> str:
    """Add the LSTM branch over channels (N, C, T); gives its last state (N, H)."""
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
    """Add an LSTM over steps (N, S, F); gives all states (N, S, H)."""
    weights = dict(layer.named_parameters())
    biases = [_reorder_gates(weights[f"bias_{part}_l0"]) for part in ("ih", "hh")]
    states = graph.node(
        "LSTM",
        graph.node("Transpose", steps, perm=[1, 0, 2]),
        graph.constant(_reorder_gates(weights["weight_ih_l0"])[None].numpy()),
        graph.constant(_reorder_gates(weights["weight_hh_l0"])[None].numpy()),
        graph.constant(torch.cat(biases)[None].numpy()),
        hidden_size=layer.hidden_size,
    )
    states = graph.node("Squeeze", states, graph.axes(1))  # (S, 1, N, H) has one direction
    return graph.node("Transpose", states, perm=[1, 0, 2])


def _reorder_gates(gates: Tensor) -> Tensor:
    return torch.cat([gates.chunk(4)[i] for i in _ONNX_GATES])


def _attention(graph: Graph, steps: str, layer: AttentionLSTM, n_steps: int) -> str:
    """Add an `AttentionLSTM` over steps (N, S, F), unrolled; gives all states (N, S, H)."""
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
        query_of_step = graph.node("Unsqueeze", graph.node("MatMul", h, query), one)
        energy = graph.node("Tanh", graph.node("Add", query_of_step, keys))
        attention = graph.node("Softmax", graph.node("MatMul", energy, vector), axis=1)
        z = graph.node("ReduceSum", graph.node("Mul", attention, steps), one, keepdims=0)
        gates = graph.node(
            "Sum",
            graph.node("Gather", gates_of_inputs, graph.constant(t, np.int64), axis=1),
            graph.node("MatMul", h, recurrent),
            graph.node("MatMul", z, seen),
        )
        parts = (graph.node("Slice", gates, bounds[k], bounds[k + 1], one) for k in range(4))
        i, f, new, o = map(graph.node, ("Sigmoid", "Sigmoid", "Tanh", "Sigmoid"), parts)
        c = graph.node("Add", graph.node("Mul", f, c), graph.node("Mul", i, new))
        h = graph.node("Mul", o, graph.node("Tanh", c))
        states.append(graph.node("Unsqueeze", h, one))
    return graph.node("Concat", *states, axis=1)


def export_onnx(artifact: Artifact, path: Path) -> None:
    """Write a model to an ONNX file, atomically.

    Raises:
        OutputError: the file cannot be written.
        ModelError: the weights do not fit the described network, or the model masks values.
    """
    if artifact.schema.missing == "mask":
        raise ModelError(
            "export: this model was trained with --missing mask, which ONNX export does not support"
        )
    graph = Graph()
    scaled = _scale(graph, artifact.scaler, artifact.schema)
    fused = FusedEnsemble.fuse(artifact.build_network().eval())
    logits = [_network(graph, scaled, member) for member in fused.members]
    graph.node("Mean", *logits, output="logits")
    _probabilities(graph, artifact.schema, artifact.decision.temperature)
    model = graph.model(artifact.schema, artifact.decision)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(model.SerializeToString())


def _scale(graph: Graph, scaler: Scaler, schema: SeriesSchema) -> str:
    if scaler.kind == "none":
        return "series"
    if scaler.kind == "series":
        exact = graph.cast("series", np.float64)
        exact = graph.reshape(exact, 0, schema.n_channels, schema.n_timepoints)
        mean = graph.node("ReduceMean", exact, axes=[2], keepdims=1)
        centred = graph.node("Sub", exact, mean)
        squares = graph.node("Mul", centred, centred)
        std = graph.node("Sqrt", graph.node("ReduceMean", squares, axes=[2], keepdims=1))
        std = graph.node("Add", std, graph.constant(SMALLEST_STD, np.float64))
        scaled = graph.cast(graph.node("Div", centred, std), np.float32)
        return graph.reshape(scaled, 0, schema.n_values)
    n_repeats = schema.n_values // len(scaler.mean)
    centred = graph.node("Sub", "series", graph.constant(np.repeat(scaler.mean, n_repeats)))
    return graph.node("Div", centred, graph.constant(np.repeat(scaler.std, n_repeats)))


def _network(graph: Graph, x: str, network: FusedNetwork) -> str:
    view = network.view
    image = graph.reshape(x, 0, network.n_channels, network.n_timepoints)
    if view.batch_norm is not None:
        image = _differences(graph, image, FusedNorm.fuse(view.batch_norm))
    if view.window > 1:
        image = _coarse(graph, image, network)
    hidden = graph.reshape(image, 0, network.n_channels * view.n_seen)
    if network.recurrence is not None:
        n_steps = network.n_channels if network.recurrence.shuffled else view.n_seen
        hidden = _recurrence(graph, image, network.recurrence, n_steps)
    for layer in network.lstm:
        gates = [
            _linear(graph, hidden, FusedLayer(weight, bias))
            for weight, bias in zip(layer.weight.chunk(3), layer.bias.chunk(3), strict=True)
        ]
        into, cell, out = gates
        cell = graph.node("Mul", graph.node("Sigmoid", into), graph.node("Tanh", cell))
        hidden = graph.node("Mul", graph.node("Sigmoid", out), graph.node("Tanh", cell))
    for (weight, bias, padding), weighting in zip(
        network.convolutions, network.weightings, strict=True
    ):
        kernels = graph.constant(weight.squeeze(2).numpy())
        image = graph.node("Conv", image, kernels, graph.constant(bias.numpy()), pads=padding)
        image = graph.node("Relu", image)
        if weighting is not None:
            image = _squeeze_excite(graph, image, weighting)
    pooled = graph.node("ReduceMean", image, axes=[2], keepdims=0)
    both = graph.node("Concat", hidden, pooled, axis=1)
    return _linear(graph, both, network.head)


def _differences(graph: Graph, image: str, norm: FusedNorm) -> str:
    """Add normalised differences of neighbouring values: (N, C, T) to (N, C, T)."""
    start, end, axis = graph.axes(0), graph.axes(-1), graph.axes(2)
    first = graph.node("Slice", image, start, graph.axes(1), axis)
    before = graph.node("Slice", image, start, end, axis)
    before = graph.node("Concat", first, before, axis=2)
    scale, shift = (graph.constant(part[:, None].numpy()) for part in norm)
    scaled = graph.node("Mul", graph.node("Sub", image, before), scale)
    return graph.node("Add", scaled, shift)


def _coarse(graph: Graph, image: str, network: FusedNetwork) -> str:
    """Add means of neighbouring timepoints: (N, C, T) to (N, C, S); the last may have fewer."""
    window, n_seen = network.view.window, network.view.n_seen
    n_padding = n_seen * window - network.n_timepoints
    lengths = np.full(n_seen, window, dtype=np.float32)
    lengths[-1] -= n_padding
    padded = graph.node("Pad", image, graph.axes(0, 0, 0, 0, 0, n_padding))
    windows = graph.reshape(padded, 0, network.n_channels, n_seen, window)
    sums = graph.node("ReduceSum", windows, graph.axes(3), keepdims=0)
    return graph.node("Div", sums, graph.constant(lengths))


def _squeeze_excite(graph: Graph, image: str, weighting: SqueezeExcite) -> str:
    """Add `SqueezeExcite` for the filters of an image (N, C, T)."""
    x = graph.node("ReduceMean", image, axes=[2], keepdims=0)
    x = graph.matmul(x, weighting.squeeze.weight.T)
    x = graph.matmul(graph.node("Relu", x), weighting.excite.weight.T)
    weights = graph.node("Unsqueeze", graph.node("Sigmoid", x), graph.axes(2))
    return graph.node("Mul", image, weights)


def _linear(graph: Graph, x: str, layer: FusedLayer) -> str:
    weight, bias = graph.constant(layer.weight.numpy()), graph.constant(layer.bias.numpy())
    return graph.node("Gemm", x, weight, bias, transB=1)


def _probabilities(graph: Graph, schema: SeriesSchema, temperature: float) -> None:
    logits = "logits"
    if temperature != 1:
        logits = graph.node("Div", logits, graph.constant(temperature))
    if schema.task == "multiclass":
        graph.node("Softmax", logits, axis=1, output="probabilities")
    elif len(schema.label_columns) == 2 and schema.task == "binary":
        yes = graph.node("Sigmoid", logits)
        no = graph.node("Sub", graph.constant(1.0), yes)
        graph.node("Concat", no, yes, axis=1, output="probabilities")
    else:
        graph.node("Sigmoid", logits, output="probabilities")
