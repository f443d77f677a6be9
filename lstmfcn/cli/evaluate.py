"""``lstmfcn evaluate``."""

from __future__ import annotations

import json
from typing import Annotated

from lstmfcn.cli.app import USE_COMMANDS, page
from lstmfcn.cli.flags import DATA, FIRST_DATA, OUTPUT, Overwrite, Place, Places
from lstmfcn.console import print_result
from lstmfcn.storage.files import atomic_write, local_path, refuse_existing, refuse_unwritable


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
) -> None:
    """Measure how good a model is on labelled data; prints the metrics as one JSON object.

    Parameters
    ----------
    data
        Labelled shards: files, folders, globs or URIs of CSV or Parquet.
    model
        Model directory, or the folder of a run.
    output
        Also write the metrics to evaluation.json in this folder.
    overwrite
        Replace an evaluation.json that exists.
    """
    written = local_path(output) / "evaluation.json" if output else None
    if written:
        refuse_unwritable(written)
        if not overwrite:
            refuse_existing(written)
    from lstmfcn.distributed.predict import evaluate as evaluate_on_ray

    result = evaluate_on_ray(data, model=model)
    line = json.dumps(result.metrics, allow_nan=False)
    print_result(line, **result.metrics)
    if written:
        with atomic_write(written) as path:
            path.write_text(line + "\n", encoding="utf-8")
