"""What a training starts with, the same in a worker, in a trial and on arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lstmfcn.batches import BatchSource, Share, training_batches
from lstmfcn.bounds import batch_size_for
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model import LSTMFCN
from lstmfcn.rows import Rows
from lstmfcn.schema import SeriesSchema
from lstmfcn.task import Task, class_weights, task_of
from lstmfcn.training_state import Training
from lstmfcn.workers import Workers


class Start(NamedTuple):
    """What `lstmfcn.training.fit` needs of the training rows."""

    training: Training
    task: Task
    batches: BatchSource


def start_of(
    rows: Rows,
    schema: SeriesSchema,
    hyperparameters: Hyperparameters,
    weights: Mapping[str, Tensor] | None = None,
    workers: Workers | None = None,
    share: Share = Share(),
) -> Start:
    """Network and optimiser, the same on every worker; the task; this worker's batches.

    Args:
        rows: all training rows, scaled.
        schema: of the shards, with its classes.
        hyperparameters: all of them apply but those of the epochs.
        weights: of the model that training continues from.
        workers: who trains along; nobody by default.
        share: what of every batch this worker takes, and the device that it trains on.
    """
    h = hyperparameters
    task = task_of(schema, class_weights(h.class_weight, schema, rows.labels), h.label_smoothing)
    torch.manual_seed(h.seed)
    network = LSTMFCN(h, schema.n_timepoints, task.n_outputs, schema.n_channels)
    if weights is not None:
        network.load_state_dict(weights)
    training = Training(network.to(share.device), h.lr, workers, h.weight_decay)
    batch_size = batch_size_for(h.batch_size, len(rows), share.world_size)
    batches = training_batches(rows, batch_size, h.seed, share, h.rows_per_epoch)
    return Start(training, task, batches)
