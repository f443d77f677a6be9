"""``lstmfcn tune``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lstmfcn.cli.app import MODEL_COMMANDS, page
from lstmfcn.cli.flags import (
    DATA,
    OUTPUT,
    RESOURCES,
    SEARCH,
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
from lstmfcn.hyperparameters import Hyperparameters, to_flag
from lstmfcn.storage.places import shown_place, within
from lstmfcn.tuning.sweep import SearchConfig


@page(
    MODEL_COMMANDS,
    "DATA... --output FOLDER [OPTIONS]",
    "lstmfcn tune data/train --validation data/valid --output runs/sweep",
    "lstmfcn tune --output runs/sweep --resume --num-samples 40",
)
def tune(
    data: Annotated[PlacesOrNone, TRAIN_DATA, DATA] = None,
    *,
    output: Annotated[Place, OUTPUT],
    validation: Annotated[PlacesOrNone, DATA] = None,
    model: Annotated[Place | None, TRAINING] = None,
    resume: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
    overwrite: Annotated[Overwrite, OUTPUT] = False,
    track: Annotated[Trackers, OUTPUT] = None,
    max_concurrent: Annotated[Count | None, SEARCH] = None,
    time_budget_s: Annotated[Amount | None, SEARCH] = None,
    num_workers: Annotated[Count, RESOURCES] = 1,
    cpus_per_worker: Annotated[Count | None, RESOURCES] = None,
    use_gpu: Annotated[bool | None, RESOURCES] = None,
    memory_gb: Annotated[Amount | None, RESOURCES] = None,
    search: Annotated[SearchConfig, Parameter(name="*"), SEARCH] = SearchConfig(),
    hyperparameters: Annotated[
        Hyperparameters, Parameter(name="*", negative="")
    ] = Hyperparameters(),
) -> None:
    """Search hyperparameters: writes OUTPUT/model of the best trial, trials.csv, and plots.

    A hyperparameter that you give as a flag is fixed, not searched. The first trial has the
    default values, so that you see how much the search improves on them.

    Parameters
    ----------
    data
        Training shards: files, folders, globs or URIs of CSV or Parquet. Not needed to resume a
        sweep.
    output
        Folder of the sweep on the machine of the command, or its URI, such as s3://bucket/sweep.
        Trials on other machines need not see it.
    validation
        Validation shards. They decide which epoch of a trial is kept, and which trial is best.
    model
        Model directory that every trial continues from, or its URI. Then only lr, batch-size and
        epochs can be searched.
    resume
        Resume the sweep in OUTPUT; finished trials do not run again.
    overwrite
        Replace the sweep in OUTPUT.
    track
        Log each trial's metrics live to tensorboard (event files in OUTPUT/tensorboard), to mlflow
        (as MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say), or to both.
    max_concurrent
        Trials that run at the same time. By default as many as the cluster has room for.
    time_budget_s
        Time limit for all trials, in seconds.
    num_workers
        Workers of each trial, which share its batches.
    cpus_per_worker
        CPUs of each worker. By default 1 if a trial has one worker.
    use_gpu
        Give each worker a GPU. By default yes, if the cluster has GPUs.
    memory_gb
        Limit below which all values (32-bit floats) are kept whole in memory. More are kept in
        blocks on all machines, and streamed. By default half of the smallest object store.
    """
    from lstmfcn.distributed.requests import Resources, SweepLimits
    from lstmfcn.distributed.tune import tune as tune_on_ray
    from lstmfcn.tuning.progress import format_best
    from lstmfcn.tuning.sweep import TRIALS

    result = tune_on_ray(
        data,
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
        limits=SweepLimits(max_concurrent, time_budget_s),
        resume=resume,
        overwrite=overwrite,
        track=track,
    )
    best, defaults, commands = result.best, result.defaults, next_commands(output)
    print_result(
        *format_best(best, result.objective, defaults),
        f"model: {shown_place(result.model)}",
        "next:",
        *(f"  {command}" for command in commands),
        model=str(result.model),
        trials=str(within(result.output, TRIALS)),
        trial=best.number,
        hyperparameters={to_flag(name): value for name, value in best.hyperparameters.items()},
        metrics=best.metrics,
        defaults=defaults.metrics if defaults else None,
        next=commands,
    )
