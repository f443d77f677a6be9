"""A model as one ONNX file: unscaled series in, probabilities out.

Input ``series``, float32 (N, T); output ``probabilities``, float32 (N, L), one for each of the
label columns, whose names stand in the file's metadata (``columns``, ``classes``, ``task``); so do
fitted thresholds, above which a label is decided 1 (``thresholds``). A temperature is part of it.
Needs the package ``onnx``: ``pip install 'lstmfcn[onnx]'``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lstmfcn.artifact import Artifact
from lstmfcn.decision import Decision
from lstmfcn.errors import ModelError, ResourceError
from lstmfcn.files import whole_file
from lstmfcn.folded import FoldedEnsemble, FoldedLayer, FoldedNetwork
from lstmfcn.scaling import SMALLEST_STD, Scaler
from lstmfcn.schema import SeriesSchema

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ResourceError("the package onnx is missing; pip install 'lstmfcn[onnx]'") from error

OPSET = 17
"""ONNX Runtime has run it since 1.12 (2022), TensorRT and OpenVINO have too."""


def export_onnx(artifact: Artifact, path: Path) -> None:
    """Write the model; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
        ModelError: the weights are not those of the described network, or it masks values.
    """
    if artifact.schema.missing == "mask":
        raise ModelError("export: found a model with --missing mask, which ONNX files cannot be")
    graph = _Graph()
    scaled = _scaled(graph, artifact.scaler)
    folded = FoldedEnsemble.of(artifact.network().eval())
    logits = [_network(graph, scaled, member) for member in folded.members]
    graph.node("Mean", *logits, output="logits")
    _probabilities(graph, artifact.schema, artifact.decision.temperature)
    model = graph.model(artifact.schema, artifact.decision)
    onnx.checker.check_model(model, full_check=True)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(model.SerializeToString())


class _Graph:
    """Collects nodes, each of which has one output, named by its order."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"node_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def model(self, schema: SeriesSchema, decision: Decision) -> Any:
        series = helper.make_tensor_value_info(
            "series", TensorProto.FLOAT, ["N", schema.n_timepoints]
        )
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
        return model


def _scaled(graph: _Graph, scaler: Scaler) -> str:
    if scaler.kind == "none":
        return "series"
    if scaler.kind == "series":
        exact = graph.node("Cast", "series", to=TensorProto.DOUBLE)
        mean = graph.node("ReduceMean", exact, axes=[1], keepdims=1)
        centred = graph.node("Sub", exact, mean)
        squares = graph.node("Mul", centred, centred)
        std = graph.node("Sqrt", graph.node("ReduceMean", squares, axes=[1], keepdims=1))
        std = graph.node("Add", std, graph.constant(SMALLEST_STD, np.float64))
        return graph.node("Cast", graph.node("Div", centred, std), to=TensorProto.FLOAT)
    centred = graph.node("Sub", "series", graph.constant(scaler.mean))
    return graph.node("Div", centred, graph.constant(scaler.std))


def _network(graph: _Graph, x: str, network: FoldedNetwork) -> str:
    hidden = x
    for layer in network.lstm:
        gates = [
            _linear(graph, hidden, FoldedLayer(weight, bias))
            for weight, bias in zip(layer.weight.chunk(3), layer.bias.chunk(3), strict=True)
        ]
        into, cell, out = gates
        cell = graph.node("Mul", graph.node("Sigmoid", into), graph.node("Tanh", cell))
        hidden = graph.node("Mul", graph.node("Sigmoid", out), graph.node("Tanh", cell))
    image = graph.node("Unsqueeze", x, graph.constant([1], np.int64))
    for weight, bias, padding in network.convolutions:
        kernels = graph.constant(weight.squeeze(2).numpy())
        image = graph.node("Conv", image, kernels, graph.constant(bias.numpy()), pads=padding)
        image = graph.node("Relu", image)
    pooled = graph.node("ReduceMean", image, axes=[2], keepdims=0)
    both = graph.node("Concat", hidden, pooled, axis=1)
    return _linear(graph, both, network.head)


def _linear(graph: _Graph, x: str, layer: FoldedLayer) -> str:
    weight, bias = graph.constant(layer.weight.numpy()), graph.constant(layer.bias.numpy())
    return graph.node("Gemm", x, weight, bias, transB=1)


def _probabilities(graph: _Graph, schema: SeriesSchema, temperature: float) -> None:
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
