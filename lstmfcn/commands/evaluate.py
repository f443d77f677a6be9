"""``lstmfcn evaluate``."""

from __future__ import annotations

import json
from typing import Annotated

from lstmfcn.commands.flag_types import Overwrite, Place, Places
from lstmfcn.commands.pages import USE_COMMANDS, page
from lstmfcn.files import local_path, refuse_existing, refuse_unwritable, whole_file
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.terminal import tell_result


@page(USE_COMMANDS, "lstmfcn evaluate --model runs/first/model --data data/test")
def evaluate(
    *,
    model: Annotated[Place, DATA],
    data: Annotated[Places, DATA],
    output: Annotated[Place | None, OUTPUT] = None,
    overwrite: Annotated[Overwrite, OUTPUT] = False,
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
    overwrite
        Write evaluation.json anew where it is there already.
    """
    written = local_path(output) / "evaluation.json" if output else None
    if written:
        refuse_unwritable(written)
        if not overwrite:
            refuse_existing(written)
    from lstmfcn.distributed.evaluate import evaluate as evaluate_on_ray

    found = evaluate_on_ray(model, data)
    line = json.dumps(found, allow_nan=False)
    tell_result(line, **found)
    if written:
        with whole_file(written) as path:
            path.write_text(line + "\n", encoding="utf-8")
