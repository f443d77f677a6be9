"""``lstmfcn evaluate``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Annotated

from lstmfcn.cli.app import USE_COMMANDS, page
from lstmfcn.cli.flags import DATA, FIRST_DATA, OUTPUT, RESOURCES, Overwrite, Place, Places
from lstmfcn.console import print_result
from lstmfcn.storage.files import atomic_write
from lstmfcn.storage.outputs import output_file
from lstmfcn.storage.places import checked_place, within


@page(
    USE_COMMANDS,
    "DATA... --model MODEL [OPTIONS]",
    "lstmfcn evaluate data/test --model runs/first",
)
def evaluate(
    data: Annotated[Places, FIRST_DATA, DATA],
    *,
    model: Annotated[Place, DATA],
    output: Annotated[Place | None, OUTPUT] = None,
    overwrite: Annotated[Overwrite, OUTPUT] = False,
    use_gpu: Annotated[bool | None, RESOURCES] = None,
) -> None:
    """Measure how good a model is on labelled data; prints the metrics as one JSON object.

    Parameters
    ----------
    data
        Labelled shards: files, folders, globs or URIs of CSV or Parquet.
    model
        Model directory or folder of a run, or its URI.
    output
        Also write the metrics to evaluation.json in this folder, or at this URI.
    overwrite
        Replace an evaluation.json that exists.
    use_gpu
        Compute on GPUs. By default yes, if there are any.
    """
    with ExitStack() as files:
        written = None
        if output:
            place = within(checked_place(output), "evaluation.json")
            written = files.enter_context(output_file(place, overwrite=overwrite))
        from lstmfcn.distributed.predict import evaluate as evaluate_on_ray

        result = evaluate_on_ray(data, model=model, use_gpu=use_gpu)
        line = json.dumps(result.metrics, allow_nan=False)
        print_result(line, **result.metrics)
        if written:
            with atomic_write(written) as path:
                path.write_text(line + "\n", encoding="utf-8")
