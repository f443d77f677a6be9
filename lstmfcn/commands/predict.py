"""``lstmfcn predict``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def predict(
    *,
    model: str,
    input: str,  # noqa: A002 - the flag's name
    output: str,
    keep_columns: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    explain: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write one prediction file for each input shard: same name, same row order.

    Files that an earlier run has finished, with the same model and of the same shards, stay.

    Parameters
    ----------
    model
        Model directory.
    input
        Shards: a file, folder, glob or URI. Label columns are not needed.
    output
        Folder of the prediction files.
    keep_columns
        Other columns of the shards, such as an id, to stand first in the prediction files.
    explain
        Also write, into the folder explanations of the output, what the logit of each row's
        predicted class is the sum of: a bias, the LSTM branch, each timepoint.
    """
    from lstmfcn.distributed.predict import predict as predict_on_ray

    predict_on_ray(model, input, output, keep_columns, explain)
