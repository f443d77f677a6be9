"""Train on arrays, on Ray: they become shards in a folder that lasts as long as the training."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from lstmfcn.artifact import Artifact
from lstmfcn.distributed.train import Resources, train
from lstmfcn.errors import StoppedError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.run_folder import MODEL
from lstmfcn.scratch import scratch_folder
from lstmfcn.train_arrays import Labelled


def train_arrays_on_ray(
    training: Labelled,
    hyperparameters: Hyperparameters,
    validation: Labelled | None,
    columns: list[str],
    num_workers: int,
) -> Artifact:
    """What ``lstmfcn train`` makes of shards with these rows, by so many workers.

    Args:
        training: training rows, (N, V).
        hyperparameters: of the model and its training; the task must be multiclass.
        validation: rows that decide which epoch is kept.
        columns: names of the values, (V,).
        num_workers: workers that share every batch.

    Raises:
        UserError: rows, or the cluster, do not allow it; the folder for temporary files is not
            shared by all its machines.
        TrainingError: the loss is no longer finite.
        KeyboardInterrupt: the user stopped it.
    """
    with scratch_folder() as folder:
        held_out = (
            _shard(folder / "validation.parquet", validation, columns) if validation else None
        )
        try:
            train(
                _shard(folder / "training.parquet", training, columns),
                str(folder / "run"),
                validation=held_out,
                hyperparameters=hyperparameters,
                resources=Resources(num_workers),
            )
        except StoppedError as stopped:  # which cannot be resumed, as its folder goes
            raise KeyboardInterrupt from stopped
        return Artifact.load(folder / "run" / MODEL)


def _shard(path: Path, rows: Labelled, columns: list[str]) -> str:
    values, names = rows
    series = {name: values[:, i] for i, name in enumerate(columns)}
    table = pa.table({"y": names, **series})
    pa.parquet.write_table(table, path, compression="none", use_dictionary=["y"])
    return str(path)
