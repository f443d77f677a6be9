"""``lstmfcn export``."""

from __future__ import annotations

from typing import Annotated

from lstmfcn.cli.app import USE_COMMANDS, page
from lstmfcn.cli.flags import DATA, OUTPUT, Overwrite, Place
from lstmfcn.console import print_result
from lstmfcn.storage.files import local_path, refuse_existing, refuse_unwritable


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
    from lstmfcn.inference.onnx_export import export_onnx
    from lstmfcn.model.artifact import Artifact

    export_onnx(Artifact.load(model), path)
    print_result(output, output=str(path.absolute()))
