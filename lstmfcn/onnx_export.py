"""A model as one ONNX file: unscaled series in, probabilities out.

Input ``series``, float32 (N, V), channel after channel; output ``probabilities``, float32 (N, L),
one for each of the label columns, whose names stand in the file's metadata (``columns``,
``classes``, ``task``); so do fitted thresholds, above which a label is decided 1 (``thresholds``).
A temperature is part of it. Needs the package ``onnx``: ``pip install 'lstmfcn[onnx]'``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lstmfcn.artifact import Artifact
from lstmfcn.errors import ModelError
from lstmfcn.files import whole_file
from lstmfcn.folded import FoldedEnsemble, FoldedLayer, FoldedNetwork, FoldedNorm
from lstmfcn.onnx_graph import Graph
from lstmfcn.onnx_recurrence import recurrence
from lstmfcn.scaling import SMALLEST_STD, Scaler
from lstmfcn.schema import SeriesSchema
from lstmfcn.squeeze_excite import SqueezeExcite


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
    folded = FoldedEnsemble.of(artifact.network().eval())
    logits = [_network(graph, scaled, member) for member in folded.members]
    graph.node("Mean", *logits, output="logits")
    _probabilities(graph, artifact.schema, artifact.decision.temperature)
    model = graph.model(artifact.schema, artifact.decision)
    with whole_file(path) as unfinished:
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


def _network(graph: Graph, x: str, network: FoldedNetwork) -> str:
    view = network.view
    image = graph.reshape(x, 0, network.n_channels, network.n_timepoints)
    if view.batch_norm is not None:
        image = _differences(graph, image, FoldedNorm.of(view.batch_norm))
    if view.window > 1:
        image = _coarse(graph, image, network)
    hidden = graph.reshape(image, 0, network.n_channels * view.n_seen)
    if network.recurrence is not None:
        n_steps = network.n_channels if network.recurrence.shuffled else view.n_seen
        hidden = recurrence(graph, image, network.recurrence, n_steps)
    for layer in network.lstm:
        gates = [
            _linear(graph, hidden, FoldedLayer(weight, bias))
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


def _differences(graph: Graph, image: str, norm: FoldedNorm) -> str:
    """Each value's difference from the one before, normalised: (N, C, T) to the same."""
    start, end, axis = graph.axes(0), graph.axes(-1), graph.axes(2)
    first = graph.node("Slice", image, start, graph.axes(1), axis)
    before = graph.node("Slice", image, start, end, axis)
    before = graph.node("Concat", first, before, axis=2)
    scale, shift = (graph.constant(part[:, None].numpy()) for part in norm)
    found = graph.node("Mul", graph.node("Sub", image, before), scale)
    return graph.node("Add", found, shift)


def _coarse(graph: Graph, image: str, network: FoldedNetwork) -> str:
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


def _linear(graph: Graph, x: str, layer: FoldedLayer) -> str:
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
