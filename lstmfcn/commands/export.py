"""``lstmfcn export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from lstmfcn.commands.flag_types import Place
from lstmfcn.commands.pages import USE_COMMANDS, page
from lstmfcn.files import local_path
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.terminal import tell_result


@page(USE_COMMANDS, "lstmfcn export --model runs/first/model --output model.onnx")
def export(*, model: Annotated[Place, DATA], output: Annotated[Place, OUTPUT]) -> None:
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

    path = local_path(output)
    export_onnx(Artifact.load(model), path)
    tell_result(output, output=str(Path(output).absolute()))
