"""``lstmfcn train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lstmfcn.commands.flag_types import Amount, Count, Place, PlacesOrNone, Trackers
from lstmfcn.commands.pages import MODEL_COMMANDS, page
from lstmfcn.commands.written import model_lines
from lstmfcn.flag_groups import DATA, OUTPUT, RESOURCES, TRAINING
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.terminal import tell_result


@page(
    MODEL_COMMANDS,
    "lstmfcn train --train data/train --validation data/valid --output runs/first",
    "lstmfcn train --output runs/first --resume",
)
def train(
    *,
    output: Annotated[Place, OUTPUT],
    train: Annotated[PlacesOrNone, DATA] = None,
    validation: Annotated[PlacesOrNone, DATA] = None,
    model: Annotated[Place | None, TRAINING] = None,
    resume: Annotated[bool, Parameter(negative=""), OUTPUT] = False,
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
    """Train a model on shards: OUTPUT/model, metrics.jsonl and learning_curve.png.

    Parameters
    ----------
    output
        Folder of the run, on storage that all machines share. It must not hold a run yet.
    train
        Training shards: files, folders, globs or URIs of CSV or Parquet. A run that is
        resumed knows its own.
    validation
        Validation shards. Given, they decide which epoch is kept.
    model
        Model directory to continue from. Then only lr, batch-size, epochs, seed, precision,
        calibrate and fit-thresholds apply.
    resume
        Go on with the run in OUTPUT, from its newest checkpoint. Begins it where there is none.
    track
        Pass the training's metrics on to tensorboard (event files under OUTPUT/tensorboard), to
        mlflow (where MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say), or to both.
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
    from lstmfcn.progress import summary
    from lstmfcn.run_folder import CURVE, METRICS, MODEL

    kept = train_on_ray(
        train,
        output,
        validation=validation,
        model=model,
        hyperparameters=hyperparameters,
        resources=Resources(num_workers, min_workers, cpus_per_worker, use_gpu, memory_gb),
        checkpoint_every_s=checkpoint_every_s,
        resume=resume,
        track=track,
    )
    folder = Path(output).absolute()
    tell_result(
        *summary(kept),
        *model_lines(folder / MODEL),
        model=str(folder / MODEL),
        metrics_file=str(folder / METRICS),
        learning_curve=str(folder / CURVE),
        metrics=kept,
    )
