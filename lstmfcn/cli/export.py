"""``lstmfcn export``."""

from __future__ import annotations

from typing import Annotated

from lstmfcn.cli.app import USE_COMMANDS, page
from lstmfcn.cli.flags import DATA, FIRST_MODEL, OUTPUT, Overwrite, Place
from lstmfcn.console import print_result
from lstmfcn.storage.outputs import output_file
from lstmfcn.storage.places import absolute, shown_place


@page(
    USE_COMMANDS,
    "MODEL --output FILE [OPTIONS]",
    "lstmfcn export runs/first --output model.onnx",
)
def export(
    model: Annotated[Place, FIRST_MODEL, DATA],
    *,
    output: Annotated[Place, OUTPUT],
    overwrite: Annotated[Overwrite, OUTPUT] = False,
) -> None:
    """Write a model as one ONNX file: unscaled series in, probabilities out.

    Parameters
    ----------
    model
        Model directory or folder of a run, or its URI.
    output
        File to write, such as model.onnx, or its URI.
    overwrite
        Replace a file that exists.
    """
    with output_file(output, overwrite=overwrite) as path:
        from lstmfcn.inference.onnx_export import export_onnx
        from lstmfcn.model.artifact import Artifact

        export_onnx(Artifact.load(model), path)
    print_result(shown_place(output), output=str(absolute(output)))
