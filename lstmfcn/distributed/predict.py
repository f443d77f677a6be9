"""Predict, explain or evaluate shards in parallel, by actors that take a shard at a time each."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import ray
import torch
from ray.util import ActorPool

from lstmfcn.console import pluralize
from lstmfcn.data.listing import Data
from lstmfcn.data.reader import open_dataset, refuse_absent
from lstmfcn.data.shards import Shard, finder
from lstmfcn.distributed.cluster import (
    TRAINING_ENVIRONMENT,
    capacity,
    free_nodes,
    max_cpus_per_worker,
    ray_runtime,
)
from lstmfcn.distributed.losses import reporting_losses
from lstmfcn.errors import OutputError, RunInterruptedError
from lstmfcn.inference.manifest import Manifest
from lstmfcn.inference.metrics import compute_metrics
from lstmfcn.inference.predict_shards import (
    PredictionBatch,
    ShardProgress,
    explain_shard,
    output_names,
    predict_batches,
    predict_shard,
    validate_keep_columns,
)
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.task import make_task
from lstmfcn.storage.files import local_path, refuse_unwritable

logger = logging.getLogger(__name__)


_RESTARTS = 3
"""Of each actor; a shard that ends its process each time would else keep it busy for ever."""


Model = tuple[ray.ObjectRef]
"""A reference to an `Artifact`, which Ray does not resolve before a task: an actor does so once."""


EXPLANATIONS = "explanations"
"""The folder, in that of the predictions, of what explains them."""

_AGAIN = "run the same command again: files that are finished stay"


class Predictor:
    """A model in a process of its own, which loads it again where Ray starts it again.

    The model is no argument of the actor: Ray would print a warning at each start.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._classifier: Classifier | None = None

    def load(self, model: Model) -> None:
        """Be ready to predict."""
        if self._classifier is None:
            self._classifier = Classifier(ray.get(model[0]))

    def write(self, model: Model, shard: Shard, output: Path, keep: Sequence[str]) -> int:
        """Write one shard's predictions; returns its rows."""
        return predict_shard(self._loaded(model), shard, output, keep)

    def explain(self, model: Model, shard: Shard, output: Path, keep: Sequence[str]) -> int:
        """Write what explains one shard's predictions; returns its rows."""
        return explain_shard(self._loaded(model), shard, output, keep)

    def collect(self, model: Model, shard: Shard) -> list[PredictionBatch]:
        """One shard's probabilities and labels."""
        return list(predict_batches(self._loaded(model), shard, labels=True))

    def _loaded(self, model: Model) -> Classifier:
        self.load(model)
        return cast(Classifier, self._classifier)


@contextmanager
def predictors(artifact: Artifact, n_shards: int) -> Iterator[tuple[ActorPool, Model]]:
    """As many actors as shards and free CPUs allow, with these CPUs shared out among them.

    Yields:
        The actors, and the model, which each of their methods takes first.
    """
    machines = free_nodes()
    n_actors = min(n_shards, capacity(machines, cpus=1))
    if not n_actors:
        logger.info("all CPUs of the cluster are taken; going on as soon as one is free")
        n_actors = 1
    threads = max_cpus_per_worker(machines, n_actors)
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


def unwrap_results(results: Iterator[Any], shards: Sequence[Shard], advice: str) -> Iterator[Any]:
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
        with reporting_losses(who, advice):
            result = next(results)
        yield result


class _File(NamedTuple):
    """What is to be made of a shard: predictions, or what explains them."""

    shard: Shard
    path: Path
    explains: bool


def predict(
    model: str,
    input: Data,  # noqa: A002 - the flag's name
    output: str,
    keep_columns: Sequence[str] = (),
    explain: bool = False,
) -> int:
    """Write one prediction file for each input shard, under its own name, rows in input order.

    Files that an earlier run has finished, with the same model and of the same shards, stay.

    Args:
        model: a model directory.
        input: shards: a file, folder, glob or URI, or several. Only the value columns are read.
        output: a folder, not one that is searched for input; each file in it appears whole or not
            at all.
        keep_columns: other columns of the shards, to stand first in the prediction files; of the
            model's label columns as ``y_true`` for ``y``.
        explain: also write what explains each prediction (`explain_shard`), into files of the same
            names in the folder ``explanations`` of the output.

    Returns:
        Rows predicted, by this run and by earlier ones.

    Raises:
        UserError: model, shards or output do not allow it.
    """
    folder = local_path(output).absolute()
    artifact = Artifact.load(model)
    validate_keep_columns(artifact.schema, keep_columns, explain)
    found = open_dataset(input, schema=artifact.schema, labels=False)
    for shard, header in zip(found.shards, found.headers, strict=True):
        refuse_absent(keep_columns, header, shard)
    files = _files(found.shards, folder, explain)
    refuse_unwritable(files[0].path)
    _refuse_input(input, files)
    done = Manifest(folder, artifact.sha256, keep_columns)
    rows, n_known, left = 0, 0, []
    for file in files:
        known = done.rows(file.shard, file.path)
        if known is None:
            left.append(file)
        elif not file.explains:
            rows, n_known = rows + known, n_known + 1
    if rows:
        known_rows, known_shards = pluralize(rows, "row"), pluralize(n_known, "shard")
        logger.info("%s of %s were predicted before", known_rows, known_shards)
    return rows + _predict(artifact, left, keep_columns, done) if left else rows


def _predict(
    artifact: Artifact,
    left: list[_File],
    keep_columns: Sequence[str],
    done: Manifest,
) -> int:
    """Make these files; returns the rows predicted."""
    rows, ended = {True: 0, False: 0}, 0
    try:
        with ray_runtime(), predictors(artifact, len(left)) as (pool, model):

            def write(actor: Any, file: _File) -> Any:
                method = actor.explain if file.explains else actor.write
                return method.remote(model, file.shard, file.path, keep_columns)

            started = time.perf_counter()
            explains = sum(file.explains for file in left)
            with ShardProgress("predicting", len(left) - explains, explains) as progress:
                found = unwrap_results(pool.map(write, left), [file.shard for file in left], _AGAIN)
                for (shard, path, is_explained), n_rows in zip(left, found, strict=True):
                    done.add(shard, path, n_rows)
                    ended += 1
                    logger.info("%s: %s to %s", shard.name, pluralize(n_rows, "row"), path)
                    progress.ended(n_rows)
                    rows[is_explained] += n_rows
    except KeyboardInterrupt as stop:
        raise RunInterruptedError(
            f"stopped after {ended} of {pluralize(len(left), 'file')}, which stay", resumable=True
        ) from stop
    seconds = time.perf_counter() - started
    for is_explained, did in ((False, "predicted"), (True, "explained")):
        if n_files := sum(file.explains == is_explained for file in left):
            logger.info(
                "%s %s of %s in %.1f s, %s rows/s",
                did,
                pluralize(rows[is_explained], "row"),
                pluralize(n_files, "shard"),
                seconds,
                f"{rows[is_explained] / seconds:,.0f}",
            )
    return rows[False]


def _files(shards: list[Shard], folder: Path, explain: bool) -> list[_File]:
    """What is to be made of the shards; never two to one file."""
    names = output_names(shards)
    files = [_File(s, folder / name, False) for s, name in zip(shards, names, strict=True)]
    if explain:
        files += [
            _File(file.shard, folder / EXPLANATIONS / name, True)
            for file, name in zip(files, names, strict=True)
        ]
    made_of: dict[Path, Shard] = {}
    for file in files:
        other = made_of.setdefault(file.path, file.shard)
        if other is not file.shard:
            raise OutputError(
                f"{file.path}: {other.path} and {file.shard.path} would both be written there; "
                "predict them into two folders"
            )
    return files


def _refuse_input(input: Data, files: list[_File]) -> None:  # noqa: A002 - the flag's name
    """Refuse to write onto a shard, or where the next run would look for one."""
    shards = {Path(file.shard.path).resolve() for file in files}
    finds = finder(input)
    for file in files:
        if file.path.resolve() in shards:
            raise OutputError(f"{file.path}: is an input shard; name another --output")
        if argument := finds(file.path):
            raise OutputError(
                f"{file.path}: lies in the input {argument}, and would be read as a shard by the "
                "next run; name another --output"
            )


def evaluate(model: str, data: Data) -> dict[str, Any]:
    """Compare a model's predictions with the labels of shards.

    Args:
        model: a model directory.
        data: labelled shards: a file, folder, glob or URI, or several of them.

    Returns:
        The metrics of `lstmfcn.inference.metrics.compute_metrics`.

    Raises:
        UserError: model or shards do not allow it.
    """
    artifact = Artifact.load(model)
    shards = open_dataset(data, schema=artifact.schema).shards
    with ray_runtime(), predictors(artifact, len(shards)) as (pool, loaded):
        parts: list[PredictionBatch] = []
        with ShardProgress("evaluating", len(shards)) as progress:
            results = pool.map(lambda actor, shard: actor.collect.remote(loaded, shard), shards)
            for found in unwrap_results(results, shards, "run it again"):
                parts += found
                progress.ended(sum(len(part.probabilities) for part in found))
    probabilities = np.concatenate([part.probabilities for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    decided = make_task(artifact.schema, decision=artifact.decision).predict_labels(probabilities)
    return compute_metrics(artifact.schema, labels, probabilities, decided)
