"""Evaluate a model on labelled shards, predicted in parallel."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmfcn.artifact import Artifact
from lstmfcn.data_arguments import Data
from lstmfcn.distributed.predictors import own_results, predictors
from lstmfcn.distributed.runtime import ray_runtime
from lstmfcn.evaluation import evaluation
from lstmfcn.prediction import Predicted
from lstmfcn.reading import survey
from lstmfcn.shard_progress import ShardProgress
from lstmfcn.task import task_of


def evaluate(model: str, data: Data) -> dict[str, Any]:
    """Compare a model's predictions with the labels of shards.

    Args:
        model: a model directory.
        data: labelled shards: a file, folder, glob or URI, or several of them.

    Returns:
        The metrics of `lstmfcn.evaluation.evaluation`.

    Raises:
        UserError: model or shards do not allow it.
    """
    artifact = Artifact.load(model)
    shards = survey(data, schema=artifact.schema).shards
    with ray_runtime(), predictors(artifact, len(shards)) as (pool, loaded):
        parts: list[Predicted] = []
        with ShardProgress("evaluating", len(shards)) as progress:
            results = pool.map(lambda actor, shard: actor.collect.remote(loaded, shard), shards)
            for found in own_results(results, shards, "run it again"):
                parts += found
                progress.ended(sum(len(part.probabilities) for part in found))
    probabilities = np.concatenate([part.probabilities for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    decided = task_of(artifact.schema, decision=artifact.decision).decide(probabilities)
    return evaluation(artifact.schema, labels, probabilities, decided)
