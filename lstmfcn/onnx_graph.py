"""An ONNX graph, built node by node.

Needs the package ``onnx``: ``pip install 'lstmfcn[onnx]'``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from torch import Tensor

from lstmfcn.decision import Decision
from lstmfcn.errors import ResourceError
from lstmfcn.schema import SeriesSchema

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ResourceError("the package onnx is missing; pip install 'lstmfcn[onnx]'") from error

OPSET = 17
"""ONNX Runtime has run it since 1.12 (2022), TensorRT and OpenVINO have too."""


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
