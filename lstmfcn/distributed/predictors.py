"""Actors that keep a model and take a shard at a time each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util import ActorPool

from lstmfcn.artifact import Artifact
from lstmfcn.classifier import Classifier
from lstmfcn.distributed.losses import telling_losses
from lstmfcn.distributed.runtime import (
    TRAINING_ENVIRONMENT,
    free_nodes,
    most_cpus_each,
    places,
)
from lstmfcn.prediction import Predicted, explain_shard, predict_shard, predictions
from lstmfcn.shards import Shard

logger = logging.getLogger(__name__)


_RESTARTS = 3
"""Of each actor; a shard that ends its process each time would else keep it busy for ever."""


Model = tuple[ray.ObjectRef]
"""A reference to an `Artifact`, which Ray does not resolve before a task: an actor does so once."""


class Predictor:
    """A model in a process of its own, which loads it again where Ray starts it again.

    The model is no argument of the actor: Ray would print a warning at each start.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._classifier: Classifier | None = None

    def load(self, model: Model) -> None:
        """Be ready to predict."""
        self._loaded(model)

    def write(self, model: Model, shard: Shard, output: Path, keep: Sequence[str]) -> int:
        """Write one shard's predictions; returns its rows."""
        return predict_shard(self._loaded(model), shard, output, keep)

    def explain(self, model: Model, shard: Shard, output: Path, keep: Sequence[str]) -> int:
        """Write what explains one shard's predictions; returns its rows."""
        return explain_shard(self._loaded(model), shard, output, keep)

    def collect(self, model: Model, shard: Shard) -> list[Predicted]:
        """One shard's probabilities and labels."""
        return list(predictions(self._loaded(model), shard, labels=True))

    def _loaded(self, model: Model) -> Classifier:
        if self._classifier is None:
            self._classifier = Classifier(ray.get(model[0]))
        return self._classifier


@contextmanager
def predictors(artifact: Artifact, n_shards: int) -> Iterator[tuple[ActorPool, Model]]:
    """As many actors as shards and free CPUs allow, with these CPUs shared out among them.

    Yields:
        The actors, and the model, which each of their methods takes first.
    """
    there = free_nodes()
    n_actors = min(n_shards, places(there, cpus=1))
    if not n_actors:
        logger.info("all CPUs of the cluster are taken; going on as soon as one is free")
        n_actors = 1
    threads = most_cpus_each(there, n_actors)
    model: Model = (ray.put(artifact),)
    actor = ray.remote(
        num_cpus=threads,
        max_restarts=_RESTARTS,
        max_task_retries=_RESTARTS,  # a shard's file appears whole or not at all
        runtime_env={"env_vars": TRAINING_ENVIRONMENT},
    )(Predictor)
    actors = [actor.remote(threads) for _ in range(n_actors)]
    try:
        ray.wait([actor.load.remote(model) for actor in actors])  # speeds are those from here
        yield ActorPool(actors), model
    finally:
        for actor in actors:
            ray.kill(actor)


def own_results(results: Iterator[Any], shards: Sequence[Shard], advice: str) -> Iterator[Any]:
    """The results of these shards, with errors as they were raised in the actor.

    Args:
        results: one for each shard, in order.
        shards: each of them is named where its actor is lost again and again.
        advice: what to do then.

    Raises:
        LstmfcnError: what an actor raised.
        ResourceError: an actor is lost, and was as often as it may be started again.
    """
    for shard in shards:
        who = f"{shard.name}: after {_RESTARTS} restarts, the process that predicts it"
        with telling_losses(who, advice):
            result = next(results)
        yield result
