"""``lstmfcn tune``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lstmfcn.commands.flag_types import Amount, Count
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.sweep_record import Search


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
