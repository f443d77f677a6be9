"""``lstmfcn tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lstmfcn.commands.flag_types import Amount, Count, Place, PlacesOrNone, Trackers
from lstmfcn.commands.pages import MODEL_COMMANDS, page
from lstmfcn.commands.written import model_lines
from lstmfcn.flag_groups import DATA, OUTPUT, RESOURCES, SEARCH, TRAINING
from lstmfcn.hyperparameters import Hyperparameters, flag
from lstmfcn.sweep_record import Search
from lstmfcn.terminal import tell_result


@page(
    MODEL_COMMANDS,
    "lstmfcn tune --train data/train --validation data/valid --output runs/sweep",
    "lstmfcn tune --output runs/sweep --resume --num-samples 40",
)
def tune(
    *,
    output: Annotated[Place, OUTPUT],
    train: Annotated[PlacesOrNone, DATA] = None,
    validation: Annotated[PlacesOrNone, DATA] = None,
    model: Annotated[Place | None, TRAINING] = None,
    resume: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
    track: Annotated[Trackers, OUTPUT] = None,
    max_concurrent: Annotated[Count | None, SEARCH] = None,
    time_budget_s: Annotated[Amount | None, SEARCH] = None,
    num_workers: Annotated[Count, RESOURCES] = 1,
    cpus_per_worker: Annotated[Count | None, RESOURCES] = None,
    use_gpu: Annotated[bool | None, RESOURCES] = None,
    memory_gb: Annotated[Amount | None, RESOURCES] = None,
    search: Annotated[Search, Parameter(name="*"), SEARCH] = Search(),
    hyperparameters: Annotated[
        Hyperparameters, Parameter(name="*", negative="")
    ] = Hyperparameters(),
) -> None:
    """Search hyperparameters: OUTPUT/model of the best trial, trials.csv, and plots.

    A hyperparameter that is given (Data, Training, Network, After training) is not searched. The
    first trial has the defaults, so that you see how much better the best one is.

    Parameters
    ----------
    output
        Folder of the sweep, on storage that all machines share. It must not hold a run yet.
    train
        Training shards: files, folders, globs or URIs of CSV or Parquet. A sweep that is
        resumed knows its own.
    validation
        Validation shards. They decide which epoch of a trial is kept, and which trial.
    model
        Model directory that every trial continues from. Then only lr, batch-size and epochs can be
        searched.
    resume
        Go on with the sweep in OUTPUT; no trial that ended runs again.
    track
        Pass each trial's metrics on to tensorboard (event files under OUTPUT/tensorboard), to
        mlflow (where MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say), or to both.
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
    from lstmfcn.run_folder import MODEL
    from lstmfcn.sweep import TRIALS, SweepLog
    from lstmfcn.sweep_progress import best_lines
    from lstmfcn.sweep_record import SweepRecord

    best, objective = tune_on_ray(
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
        track=track,
    )
    folder = Path(output).absolute()
    record, (first, *_) = SweepRecord.load(folder), SweepLog(folder).trials
    defaults = first if record and record.defaults_first and first.number == 1 else None
    tell_result(
        *best_lines(best, objective, defaults),
        *model_lines(folder / MODEL),
        model=str(folder / MODEL),
        trials=str(folder / TRIALS),
        trial=best.number,
        hyperparameters={flag(name): value for name, value in best.hyperparameters.items()},
        metrics=best.metrics,
        defaults=defaults.metrics if defaults else None,
    )
