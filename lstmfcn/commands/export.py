"""``lstmfcn export``."""

from __future__ import annotations

from pathlib import Path


def export(*, model: str, output: str) -> None:
    """Write a model as one ONNX file: unscaled series in, probabilities out.

    Parameters
    ----------
    model
        Model directory.
    output
        File to write, such as model.onnx.
    """
    from lstmfcn.artifact import Artifact
    from lstmfcn.onnx_export import export_onnx

    export_onnx(Artifact.load(model), Path(output))
    print(output)
