"""``lstmfcn export``."""

from __future__ import annotations

from typing import Annotated

from lstmfcn.commands.flag_types import Overwrite, Place
from lstmfcn.commands.pages import USE_COMMANDS, page
from lstmfcn.files import local_path, refuse_existing, refuse_unwritable
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.terminal import tell_result


@page(USE_COMMANDS, "lstmfcn export --model runs/first/model --output model.onnx")
def export(
    *,
    model: Annotated[Place, DATA],
    output: Annotated[Place, OUTPUT],
    overwrite: Annotated[Overwrite, OUTPUT] = False,
) -> None:
    """Write a model as one ONNX file: unscaled series in, probabilities out.

    Parameters
    ----------
    model
        Model directory.
    output
        File to write, such as model.onnx.
    overwrite
        Write the file anew where it is there already.
    """
    path = local_path(output)
    if not overwrite:
        refuse_existing(path)
    refuse_unwritable(path)
    from lstmfcn.artifact import Artifact
    from lstmfcn.onnx_export import export_onnx

    export_onnx(Artifact.load(model), path)
    tell_result(output, output=str(path.absolute()))
