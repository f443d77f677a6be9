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
from lstmfcn.reading import survey_labelled
from lstmfcn.shard_progress import ShardProgress
from lstmfcn.shards import Shard
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
    shards = survey_labelled(data, artifact.schema).shards
    with ray_runtime(), predictors(artifact, len(shards)) as pool:
        parts: list[Predicted] = []
        with ShardProgress("evaluating", len(shards)) as progress:
            for found in own_results(pool.map(_collect, shards)):
                parts += found
                progress.ended(sum(len(part.probabilities) for part in found))
    probabilities = np.concatenate([part.probabilities for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    decided = task_of(artifact.schema, decision=artifact.decision).decide(probabilities)
    return evaluation(artifact.schema, labels, probabilities, decided)


def _collect(predictor: Any, shard: Shard) -> Any:
    return predictor.collect.remote(shard)
