"""``lstmfcn predict``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lstmfcn.cli.app import USE_COMMANDS, page
from lstmfcn.cli.flags import DATA, INPUT_DATA, OUTPUT, RESOURCES, Overwrite, Place, Places
from lstmfcn.console import pluralize, print_result


@page(
    USE_COMMANDS,
    "DATA... --model MODEL --output FOLDER [OPTIONS]",
    "lstmfcn predict data/test --model runs/first --output predicted",
)
def predict(
    data: Annotated[Places, INPUT_DATA, DATA],
    *,
    model: Annotated[Place, DATA],
    output: Annotated[Place, OUTPUT],
    keep_columns: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, negative=""), OUTPUT
    ] = (),
    explain: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
    overwrite: Annotated[Overwrite, OUTPUT] = False,
    use_gpu: Annotated[bool | None, RESOURCES] = None,
) -> None:
    """Write one prediction file per shard: same name and folder, same order of rows.

    A second run predicts only what is new: files that the same model has finished stay.

    Parameters
    ----------
    data
        Shards: files, folders, globs or URIs of CSV or Parquet. Label columns are not needed.
    model
        Model directory or folder of a run, or its URI.
    output
        Folder of the prediction files, outside of the folders that hold the data, or its URI.
    keep_columns
        Columns of the shards to copy into the prediction files, before the predictions, such as
        an id. The label column y becomes y_true there.
    explain
        Also explain each prediction: write to OUTPUT/explanations how much the bias, the LSTM
        branch and each timepoint contribute to the logit of the predicted class.
    overwrite
        Replace prediction files of another model, or with other columns.
    use_gpu
        Compute on GPUs. By default yes, if there are any.
    """
    from lstmfcn.distributed.predict import predict as predict_on_ray

    result = predict_on_ray(
        data,
        model=model,
        output=output,
        keep_columns=keep_columns,
        explain=explain,
        overwrite=overwrite,
        use_gpu=use_gpu,
    )
    print_result(
        f"{pluralize(result.rows, 'row')}: {output}", output=str(result.output), rows=result.rows
    )
