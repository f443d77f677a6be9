"""A model as one ONNX file: unscaled series in, probabilities out.

Input ``series``, float32 (N, V), channel after channel; output ``probabilities``, float32 (N, L),
one for each of the label columns, whose names stand in the file's metadata (``columns``,
``classes``, ``task``); so do fitted thresholds, above which a label is decided 1 (``thresholds``).
A temperature is part of it. Needs the package ``onnx``: ``pip install 'lstmfcn[onnx]'``.

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
"""ONNX Runtime has run it since 1.12 (2022), TensorRT and OpenVINO have too."""


_ONNX_GATES = [0, 3, 1, 2]
"""Input, output, forget, cell: where PyTorch, whose order is input, forget, cell, output, has
them."""


class Graph:
    """Collects nodes, each of which has one output, named by its order."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Numbers; returns their name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """An operator; returns its output's name, which may be chosen."""
        name = output or f"node_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def cast(self, x: str, dtype: Any) -> str:
        """The tensor in another type."""
        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def axes(self, *numbers: int) -> str:
        """Axes or indices, as the operators take them."""
        return self.constant(numbers, np.int64)

    def reshape(self, x: str, *shape: int) -> str:
        """The tensor in another shape, in which 0 stands for as many as it has."""
        return self.node("Reshape", x, self.axes(*shape))

    def matmul(self, x: str, weights: Tensor) -> str:
        """The tensor (..., n) times constant weights (n, m)."""
        return self.node("MatMul", x, self.constant(weights.numpy()))

    def model(self, schema: SeriesSchema, decision: Decision) -> Any:
        """All of it, checked: from ``series`` to ``probabilities``."""
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
        model.ir_version = 8  # that of the opset's time, for runtimes of that time
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


def export_onnx(artifact: Artifact, path: Path) -> None:
    """Write the model; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
        ModelError: the weights are not those of the described network, or it masks values.
    """
    if artifact.schema.missing == "mask":
        raise ModelError("export: found a model with --missing mask, which ONNX files cannot be")
    graph = Graph()
    scaled = _scaled(graph, artifact.scaler, artifact.schema)
    folded = FusedEnsemble.fuse(artifact.build_network().eval())
    logits = [_network(graph, scaled, member) for member in folded.members]
    graph.node("Mean", *logits, output="logits")
    _probabilities(graph, artifact.schema, artifact.decision.temperature)
    model = graph.model(artifact.schema, artifact.decision)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(model.SerializeToString())


def _scaled(graph: Graph, scaler: Scaler, schema: SeriesSchema) -> str:
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
    of_each = schema.n_values // len(scaler.mean)
    centred = graph.node("Sub", "series", graph.constant(np.repeat(scaler.mean, of_each)))
    return graph.node("Div", centred, graph.constant(np.repeat(scaler.std, of_each)))


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
        hidden = recurrence(graph, image, network.recurrence, n_steps)
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
            image = _weighted(graph, image, weighting)
    pooled = graph.node("ReduceMean", image, axes=[2], keepdims=0)
    both = graph.node("Concat", hidden, pooled, axis=1)
    return _linear(graph, both, network.head)


def _differences(graph: Graph, image: str, norm: FusedNorm) -> str:
    """Each value's difference from the one before, normalised: (N, C, T) to the same."""
    start, end, axis = graph.axes(0), graph.axes(-1), graph.axes(2)
    first = graph.node("Slice", image, start, graph.axes(1), axis)
    before = graph.node("Slice", image, start, end, axis)
    before = graph.node("Concat", first, before, axis=2)
    scale, shift = (graph.constant(part[:, None].numpy()) for part in norm)
    found = graph.node("Mul", graph.node("Sub", image, before), scale)
    return graph.node("Add", found, shift)


def _coarse(graph: Graph, image: str, network: FusedNetwork) -> str:
    """The mean of each few timepoints, of which the last may have fewer: (N, C, T) to (N, C, S)."""
    window, n_seen = network.view.window, network.view.n_seen
    lacking = n_seen * window - network.n_timepoints
    lengths = np.full(n_seen, window, dtype=np.float32)
    lengths[-1] -= lacking
    padded = graph.node("Pad", image, graph.axes(0, 0, 0, 0, 0, lacking))
    windows = graph.reshape(padded, 0, network.n_channels, n_seen, window)
    sums = graph.node("ReduceSum", windows, graph.axes(3), keepdims=0)
    return graph.node("Div", sums, graph.constant(lengths))


def _weighted(graph: Graph, image: str, weighting: SqueezeExcite) -> str:
    """The filters of an image (N, C, T), squeezed and excited."""
    found = graph.node("ReduceMean", image, axes=[2], keepdims=0)
    found = graph.matmul(found, weighting.squeeze.weight.T)
    found = graph.matmul(graph.node("Relu", found), weighting.excite.weight.T)
    weights = graph.node("Unsqueeze", graph.node("Sigmoid", found), graph.axes(2))
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
