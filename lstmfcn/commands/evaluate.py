"""``lstmfcn evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from lstmfcn.commands.flag_types import Place, Places
from lstmfcn.commands.pages import USE_COMMANDS, page
from lstmfcn.files import whole_file
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.terminal import tell_result


@page(USE_COMMANDS, "lstmfcn evaluate --model runs/first/model --data data/test")
def evaluate(
    *,
    model: Annotated[Place, DATA],
    data: Annotated[Places, DATA],
    output: Annotated[Place | None, OUTPUT] = None,
) -> None:
    """Compare a model with labelled shards; the last line is one JSON object.

    Parameters
    ----------
    model
        Model directory.
    data
        Labelled shards: files, folders, globs or URIs.
    output
        Folder that evaluation.json is also written to.
    """
    from lstmfcn.distributed.evaluate import evaluate as evaluate_on_ray

    found = evaluate_on_ray(model, data)
    written = json.dumps(found, allow_nan=False)
    tell_result(written, **found)
    if output:
        with whole_file(Path(output) / "evaluation.json") as path:
            path.write_text(written + "\n", encoding="utf-8")
