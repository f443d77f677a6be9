"""Predict and evaluate shards in parallel: actors that keep the model, a shard at a time each."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.util import ActorPool

from lstmfcn.artifact import Artifact
from lstmfcn.classifier import Classifier
from lstmfcn.distributed.runtime import cluster_resources, own_error, ray_runtime
from lstmfcn.errors import OutputError
from lstmfcn.evaluation import evaluation
from lstmfcn.prediction import Predicted, output_name, predict_shard, predictions
from lstmfcn.reading import survey
from lstmfcn.shards import Shard

logger = logging.getLogger(__name__)


def predict(model: str, input: str, output: str) -> int:  # noqa: A002 - the flag's name
    """Write one prediction file for each input shard, under its own name, rows in input order.

    Args:
        model: a model directory.
        input: shards: a file, folder, glob or URI. Only the value columns are read.
        output: a folder; each file in it appears whole or not at all.

    Returns:
        Rows predicted.

    Raises:
        UserError: model, shards or output do not allow it.
    """
    artifact = Artifact.load(model)
    shards = survey(input, schema=artifact.schema, labels=False).shards
    outputs = _outputs(shards, Path(output).absolute())
    started = time.perf_counter()
    rows = 0
    with ray_runtime(), _predictors(artifact, len(shards)) as pool:
        found = pool.map(_write, list(zip(shards, outputs, strict=True)))
        for shard, path, n_rows in zip(shards, outputs, _own(found), strict=True):
            logger.info("%s: %d rows to %s", shard.name, n_rows, path)
            rows += n_rows
    seconds = time.perf_counter() - started
    logger.info("predicted %d rows of %d shards in %.1f s", rows, len(shards), seconds)
    return rows


def evaluate(model: str, data: str) -> dict[str, Any]:
    """Compare a model's predictions with the labels of shards.

    Args:
        model: a model directory.
        data: labelled shards: a file, folder, glob or URI.

    Returns:
        The metrics of `lstmfcn.evaluation.evaluation`.

    Raises:
        UserError: model or shards do not allow it.
    """
    artifact = Artifact.load(model)
    shards = survey(data, schema=artifact.schema).shards
    with ray_runtime(), _predictors(artifact, len(shards)) as pool:
        parts = [part for found in _own(pool.map(_collect, shards)) for part in found]
    probabilities = np.concatenate([part.probabilities for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    decided = Classifier(artifact).decide(probabilities)
    return evaluation(artifact.schema, labels, probabilities, decided)


class Predictor:
    """A model in a process of its own."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        torch.set_num_threads(threads)
        self._classifier = Classifier(artifact)

    def write(self, shard: Shard, output: Path) -> int:
        """Write one shard's predictions; returns its rows."""
        return predict_shard(self._classifier, shard, output)

    def collect(self, shard: Shard) -> list[Predicted]:
        """One shard's probabilities and labels."""
        return list(predictions(self._classifier, shard, labels=True))


def _write(predictor: Any, job: tuple[Shard, Path]) -> Any:
    return predictor.write.remote(*job)


def _collect(predictor: Any, shard: Shard) -> Any:
    return predictor.collect.remote(shard)


@contextmanager
def _predictors(artifact: Artifact, n_shards: int) -> Iterator[ActorPool]:
    """As many actors as shards and CPUs allow, with the CPUs shared out among them."""
    cpus = max(1, int(cluster_resources().get("CPU", 1)))
    n_actors = min(n_shards, cpus)
    threads = cpus // n_actors
    shared = ray.put(artifact)
    actor = ray.remote(num_cpus=threads)(Predictor)
    actors = [actor.remote(shared, threads) for _ in range(n_actors)]
    try:
        yield ActorPool(actors)
    finally:
        for actor in actors:
            ray.kill(actor)


def _own(results: Iterator[Any]) -> Iterator[Any]:
    """The results, with errors as they were raised in the actor."""
    try:
        yield from results
    except ray.exceptions.RayError as error:
        raise own_error(error) or error from None


def _outputs(shards: list[Shard], folder: Path) -> list[Path]:
    """Where each shard's predictions go; never onto a shard, never two to one file."""
    outputs = [folder / output_name(shard) for shard in shards]
    inputs = {Path(shard.path).resolve() for shard in shards}
    for path in outputs:
        if path.resolve() in inputs:
            raise OutputError(f"{path}: is an input shard; name another --output")
        if outputs.count(path) > 1:
            raise OutputError(f"{path}: two shards would be written there; predict them one by one")
    return outputs
