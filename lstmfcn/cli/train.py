"""``lstmfcn train``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lstmfcn.cli.app import MODEL_COMMANDS, page
from lstmfcn.cli.flags import (
    DATA,
    OUTPUT,
    RESOURCES,
    TRAIN_DATA,
    TRAINING,
    Amount,
    Count,
    Overwrite,
    Place,
    PlacesOrNone,
    Trackers,
)
from lstmfcn.console import next_commands, print_result
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.storage.places import shown_place, within


@page(
    MODEL_COMMANDS,
    "DATA... --output FOLDER [OPTIONS]",
    "lstmfcn train data/train --validation data/valid --output runs/first",
    "lstmfcn train --output runs/first --resume",
)
def train(
    data: Annotated[PlacesOrNone, TRAIN_DATA, DATA] = None,
    *,
    output: Annotated[Place, OUTPUT],
    validation: Annotated[PlacesOrNone, DATA] = None,
    model: Annotated[Place | None, TRAINING] = None,
    resume: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
    overwrite: Annotated[Overwrite, OUTPUT] = False,
    track: Annotated[Trackers, OUTPUT] = None,
    num_workers: Annotated[Count, RESOURCES] = 1,
    min_workers: Annotated[Count | None, RESOURCES] = None,
    cpus_per_worker: Annotated[Count | None, RESOURCES] = None,
    use_gpu: Annotated[bool | None, RESOURCES] = None,
    memory_gb: Annotated[Amount | None, RESOURCES] = None,
    checkpoint_every_s: Annotated[Amount, OUTPUT] = 30.0,
    hyperparameters: Annotated[
        Hyperparameters, Parameter(name="*", negative="")
    ] = Hyperparameters(),
) -> None:
    """Train a model: writes OUTPUT/model, metrics.jsonl and learning_curve.png.

    Parameters
    ----------
    data
        Training shards: files, folders, globs or URIs of CSV or Parquet. Not needed to resume a
        run.
    output
        Folder of the run on the machine of the command, or its URI, such as s3://bucket/run.
        Workers on other machines need not see it.
    validation
        Validation shards. With them, the epoch that is best on them is kept.
    model
        Model directory to continue from, or its URI. Then only lr, batch-size, epochs, seed,
        precision, keep-by, calibrate and fit-thresholds apply.
    resume
        Resume the run in OUTPUT from its newest checkpoint; start it if there is none.
    overwrite
        Replace the run in OUTPUT.
    track
        Log metrics live to tensorboard (event files in OUTPUT/tensorboard), to mlflow (as
        MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say), or to both.
    num_workers
        Workers that share every batch, on one machine or several.
    min_workers
        Minimum workers to continue with after losing machines. By default all.
    cpus_per_worker
        CPUs of each worker. By default all CPUs, shared equally.
    use_gpu
        Give each worker a GPU. By default yes, if the cluster has GPUs.
    memory_gb
        Limit below which all values (32-bit floats) are kept whole in memory. More are kept in
        blocks on all machines, and streamed. By default half of the smallest object store.
    checkpoint_every_s
        Seconds between checkpoints.
    """
    from lstmfcn.distributed.requests import Resources
    from lstmfcn.distributed.train import train as train_on_ray
    from lstmfcn.training.progress import summary_lines
    from lstmfcn.training.run_directory import CURVE, METRICS

    result = train_on_ray(
        data,
        output,
        validation=validation,
        model=model,
        hyperparameters=hyperparameters,
        resources=Resources(num_workers, min_workers, cpus_per_worker, use_gpu, memory_gb),
        checkpoint_every_s=checkpoint_every_s,
        resume=resume,
        overwrite=overwrite,
        track=track,
    )
    commands = next_commands(output)
    print_result(
        *summary_lines(result.best),
        f"model: {shown_place(result.model)}",
        "next:",
        *(f"  {command}" for command in commands),
        model=str(result.model),
        metrics_file=str(within(result.output, METRICS)),
        learning_curve=str(within(result.output, CURVE)),
        metrics=result.best,
        next=commands,
    )
