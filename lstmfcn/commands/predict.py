"""``lstmfcn predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lstmfcn.commands.flag_types import Place, Places
from lstmfcn.commands.pages import USE_COMMANDS, page
from lstmfcn.counts import number
from lstmfcn.flag_groups import DATA, OUTPUT
from lstmfcn.terminal import tell_result


@page(
    USE_COMMANDS,
    "lstmfcn predict --model runs/first/model --input data/test --output predicted",
)
def predict(
    *,
    model: Annotated[Place, DATA],
    input: Annotated[Places, DATA],  # noqa: A002 - the flag's name
    output: Annotated[Place, OUTPUT],
    keep_columns: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, negative=""), OUTPUT
    ] = (),
    explain: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
) -> None:
    """Write one prediction file for each input shard: same name and folder, same row order.

    Files that an earlier run has finished, with the same model and of the same shards, stay.

    Parameters
    ----------
    model
        Model directory.
    input
        Shards: files, folders, globs or URIs. Label columns are not needed.
    output
        Folder of the prediction files, outside of what is searched for input.
    keep_columns
        Other columns of the shards, such as an id, to stand first in the prediction files. y, the
        label, becomes y_true there.
    explain
        Also write, into the folder explanations of the output, what the logit of each row's
        predicted class is the sum of: a bias, the LSTM branch, each timepoint.
    """
    from lstmfcn.distributed.predict import predict as predict_on_ray

    rows = predict_on_ray(model, input, output, keep_columns, explain)
    tell_result(f"{number(rows, 'row')}: {output}", output=str(Path(output).absolute()), rows=rows)
