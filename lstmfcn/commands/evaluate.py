"""``lstmfcn evaluate``."""

from __future__ import annotations

import json
from typing import Annotated

from lstmfcn.commands.flag_types import Place
from lstmfcn.commands.pages import USE_COMMANDS, page
from lstmfcn.files import local_path, whole_file
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.terminal import tell_result


@page(USE_COMMANDS, "lstmfcn evaluate --model runs/first/model --data data/test")
def evaluate(
    *,
    model: Annotated[Place, DATA],
    data: Annotated[Place, DATA],
    output: Annotated[Place | None, OUTPUT] = None,
) -> None:
    """Compare a model with labelled shards; the last line is one JSON object.

    Parameters
    ----------
    model
        Model directory.
    data
        Labelled shards: a file, folder, glob or URI.
    output
        Folder that evaluation.json is also written to.
    """
    from lstmfcn.distributed.evaluate import evaluate as evaluate_on_ray

    folder = local_path(output) if output else None
    found = evaluate_on_ray(model, data)
    written = json.dumps(found, allow_nan=False)
    tell_result(written, **found)
    if folder:
        with whole_file(folder / "evaluation.json") as path:
            path.write_text(written + "\n", encoding="utf-8")
