"""``lstmfcn predict`` and ``evaluate``: read and predict shards, large ones in parallel.

Small shards are predicted by this process, and any on its GPU. For large ones on CPUs, and on a
cluster, actors hold the model. Each takes one shard at a time; one that is lost is started again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from ray.util import ActorPool

from lstmfcn.console import pluralize
from lstmfcn.data.listing import Data
from lstmfcn.data.reader import open_dataset, refuse_absent
from lstmfcn.data.shards import Shard
from lstmfcn.distributed.capacity import (
    available_cpus,
    capacity,
    free_nodes,
    max_cpus_per_worker,
    may_grow,
    nodes,
)
from lstmfcn.distributed.cluster import (
    TRAINING_ENVIRONMENT,
    has_cluster,
    ray_runtime,
    require_shared_storage,
    this_process,
)
from lstmfcn.distributed.failures import reporting_ray_errors
from lstmfcn.distributed.read import unpacked_bytes
from lstmfcn.distributed.requests import Resources, choose_gpu
from lstmfcn.errors import ResourceError, RunInterruptedError
from lstmfcn.hyperparameters import DeviceName
from lstmfcn.inference.device import choose_device
from lstmfcn.inference.manifest import MANIFEST_FILES, Manifest
from lstmfcn.inference.predict_shards import (
    PredictionBatch,
    Predictor,
    ShardProgress,
    validate_keep_columns,
)
from lstmfcn.inference.prediction_files import PredictionFile, list_files, refuse_data_places
from lstmfcn.model.artifact import Artifact, find_model_folder
from lstmfcn.model.task import make_task
from lstmfcn.storage.files import refuse_existing, refuse_unwritable
from lstmfcn.storage.outputs import Output, followed_folder
from lstmfcn.storage.places import Place, absolute, checked_place, is_remote

_RETRIES = 3
"""How often a shard is predicted again whose actor was lost; it may crash every actor."""

_BYTES_WORTH_RAY = 200 << 20
"""Bytes of CSV that this process predicts while Ray and its actors would start."""

_RUN_AGAIN = "run the same command again: files that are finished stay"

_Call = tuple[Any, ...]
"""The name of a method of `Predictor`, and its arguments, the shard first."""

_ModelRef = tuple[ray.ObjectRef]
"""A reference to an `Artifact`, in a tuple: else Ray would resolve it before every call."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionResult:
    """What was predicted.

    Attributes:
        output: the folder of the prediction files, or its URI as a text.
        rows: the number of rows predicted, by this call and by earlier ones into the folder.
        files: the prediction files, in the order of the shards.
        explanations: the files with explanations, in the same order; none without ``explain``.
    """

    output: Place
    rows: int
    files: tuple[Place, ...]
    explanations: tuple[Place, ...] = ()


@dataclass(frozen=True)
class EvaluationResult:
    """How good a model is on labelled data.

    Attributes:
        model: the model directory.
        metrics: task, rows, accuracy, macro_f1, ... (`lstmfcn.inference.metrics`), as
            ``evaluation.json`` has them.
    """

    model: Place
    metrics: dict[str, Any]


def predict(
    data: Data,
    *,
    model: str | Path,
    output: str | Path,
    keep_columns: Sequence[str] = (),
    explain: bool = False,
    overwrite: bool = False,
    use_gpu: bool | None = None,
) -> PredictionResult:
    """Write one prediction file per shard, with the same name and the rows in the shard's order.

    Files stay that an earlier run has finished with the same model and the same shards.

    Args:
        data: shards: a file, folder, glob or URI, or several. Only the value columns are read.
        model: a model directory, or the folder of a run, or a URI of one.
        output: a folder outside the data, or its URI; each file in it appears whole or not at all.
        keep_columns: other columns of the shards, to copy to the front of the prediction files. The
            model's label columns are renamed, as from ``y`` to ``y_true``.
        explain: also write an explanation of each prediction (`explain_shard`), to files of the
            same names in the output's folder ``explanations``.
        overwrite: replace files of the same names that another model predicted, or that keep
            other columns, or that are no predictions.
        use_gpu: whether to compute on GPUs; None uses them if there are any.

    Returns:
        The files, and the number of their rows.

    Raises:
        UserError: model, shards or output cannot be used.
    """
    checked_place(output)
    artifact = Artifact.load(model)
    validate_keep_columns(artifact.schema, keep_columns, explain)
    dataset = open_dataset(data, schema=artifact.schema, labels=False)
    for shard, header in zip(dataset.shards, dataset.headers, strict=True):
        refuse_absent(keep_columns, header, shard)
    with followed_folder(output, lambda name: name in MANIFEST_FILES) as there:
        model_on = _Model(artifact, use_gpu)
        return _predict(model_on, data, dataset.shards, there, keep_columns, explain, overwrite)


class _Model(NamedTuple):
    """A model, and whether it computes on GPUs; None if there are any."""

    artifact: Artifact
    use_gpu: bool | None


def _predict(
    model: _Model,
    data: Data,
    shards: list[Shard],
    output: Output,
    keep_columns: Sequence[str],
    explain: bool,
    overwrite: bool,
) -> PredictionResult:
    files = list_files(shards, output, explain)
    refuse_unwritable(files[0].path)
    refuse_data_places(data, files, output)
    manifest = Manifest(output.folder, model.artifact.sha256, keep_columns)
    n_rows, n_finished, unfinished = 0, 0, []
    for file in files:
        rows = manifest.rows(file.shard, file.path)
        if rows is None:
            unfinished.append(file)
        elif not file.explains:
            n_rows, n_finished = n_rows + rows, n_finished + 1
    if n_rows:
        logger.info(
            "%s of %s were predicted by an earlier run",
            pluralize(n_rows, "row"),
            pluralize(n_finished, "shard"),
        )
    if not overwrite:
        for file in unfinished:
            if not manifest.may_replace(file.path):
                refuse_existing(file.path)
    if unfinished:
        n_rows += _write_files(model, unfinished, keep_columns, manifest, output)
    return PredictionResult(
        absolute(output.place),
        n_rows,
        files=tuple(file.place for file in files if not file.explains),
        explanations=tuple(file.place for file in files if file.explains),
    )


def evaluate(data: Data, *, model: str | Path, use_gpu: bool | None = None) -> EvaluationResult:
    """Compare a model's predictions with the labels of shards.

    Args:
        data: labelled shards: a file, folder, glob or URI, or several of them.
        model: a model directory, or the folder of a run.
        use_gpu: whether to compute on GPUs; None uses them if there are any.

    Returns:
        The metrics, as a dict of plain numbers.

    Raises:
        UserError: model or shards cannot be used.
    """
    directory = find_model_folder(model)
    artifact = Artifact.load(directory)
    shards = open_dataset(data, schema=artifact.schema).shards
    with _predicting(_Model(artifact, use_gpu), shards, "run it again") as call:
        batches: list[PredictionBatch] = []
        with ShardProgress("evaluating", len(shards)) as progress:
            for shard_batches in call([("collect", shard) for shard in shards]):
                batches += shard_batches
                progress.ended(sum(len(batch.probabilities) for batch in shard_batches))
    probabilities = np.concatenate([batch.probabilities for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    predicted = make_task(artifact.schema, decision=artifact.decision).predict_labels(probabilities)
    from lstmfcn.inference.metrics import compute_metrics  # scikit-learn: not for each predictor

    metrics = compute_metrics(artifact.schema, labels, probabilities, predicted)
    return EvaluationResult(absolute(directory), metrics)


def _write_files(
    model: _Model,
    files: list[PredictionFile],
    keep_columns: Sequence[str],
    manifest: Manifest,
    output: Output,
) -> int:
    """Write these files, and record each in the manifest; returns the rows predicted."""
    n_rows = n_written = 0
    n_explanations = sum(file.explains for file in files)
    try:
        with _predicting(model, [file.shard for file in files], _RUN_AGAIN) as call:
            if not is_remote(output.place):
                require_shared_storage(output.folder)
            manifest.begin()
            output.send()
            with ShardProgress(
                "predicting", len(files) - n_explanations, n_explanations
            ) as progress:
                calls = [
                    ("explain" if file.explains else "write", file.shard, file.place, keep_columns)
                    for file in files
                ]
                for file, rows in zip(files, call(calls), strict=True):
                    manifest.add(file.shard, file.path, rows)
                    n_written += 1
                    logger.info("%s: %s to %s", file.shard.name, pluralize(rows, "row"), file.path)
                    progress.ended(rows, file.explains)
                    n_rows += 0 if file.explains else rows
    except KeyboardInterrupt as stop:
        raise RunInterruptedError(
            f"stopped after {n_written} of {pluralize(len(files), 'file')}; finished files stay",
            resumable=True,
        ) from stop
    progress.log_speed()
    return n_rows


@contextmanager
def _predicting(
    model: _Model, shards: Sequence[Shard], advice: str
) -> Iterator[Callable[[Sequence[_Call]], Iterator[Any]]]:
    """Load the model in this process, or in actors if there is a cluster or they are faster.

    Args:
        shards: those that will be predicted.
        advice: what the user can do if an actor is lost again and again.

    Yields:
        A function that takes calls of `Predictor`, one for each shard, and returns their results in
        order, or raises what the call raised.
    """
    device = None if has_cluster() else choose_device(_device_name(model.use_gpu))
    is_large = len(shards) > 1 and unpacked_bytes(shards) >= _BYTES_WORTH_RAY
    if device is None or (device.type == "cpu" and is_large):
        with ray_runtime(), _predictors(model, len(shards)) as (pool, model_ref):
            yield lambda calls: _unwrap_results(
                pool.map(lambda actor, call: actor.call.remote(model_ref, *call), calls),
                shards,
                advice,
            )
        return
    with this_process():
        torch.set_num_threads(available_cpus())
        predictor = Predictor(model.artifact, _device_name(model.use_gpu))
        yield lambda calls: (getattr(predictor, name)(*arguments) for name, *arguments in calls)


def _device_name(use_gpu: bool | None) -> DeviceName:
    if use_gpu is None:
        return "auto"
    return "cuda" if use_gpu else "cpu"


@contextmanager
def _predictors(model: _Model, n_shards: int) -> Iterator[tuple[ActorPool, _ModelRef]]:
    """Start as many actors as shards and free CPUs or GPUs allow, which share the CPUs.

    Yields:
        The actors, and the reference to the model that each of their methods takes first.

    Raises:
        ResourceError: no machine has a GPU, which is asked for.
    """
    machines = free_nodes()
    gpus = int(choose_gpu(machines, Resources(use_gpu=model.use_gpu)))
    if gpus and not (capacity(nodes(), cpus=1, gpus=1) or may_grow()):
        raise ResourceError("no machine of the cluster has a GPU; leave --use-gpu out")
    n_actors = min(n_shards, capacity(machines, 1, gpus))
    if not n_actors:
        logger.info("all %s of the cluster are busy; waiting for one", "GPUs" if gpus else "CPUs")
        n_actors = 1
    threads = max_cpus_per_worker(machines, n_actors, gpus)
    device = _device_name(bool(gpus))
    model_ref: _ModelRef = (ray.put(model.artifact),)
    actor_class = ray.remote(
        num_cpus=threads,
        num_gpus=gpus,
        max_restarts=_RETRIES * n_shards,
        max_task_retries=_RETRIES,  # safe: a shard's file appears whole or not at all
        runtime_env={"env_vars": TRAINING_ENVIRONMENT},
    )(_PredictorActor)
    actors = [actor_class.remote(threads, device) for _ in range(n_actors)]
    try:
        # rows per second are counted from here
        ray.wait([actor.load.remote(model_ref) for actor in actors])
        yield ActorPool(actors), model_ref
    finally:
        for actor in actors:
            ray.kill(actor)


class _PredictorActor:
    """A `Predictor` in a process of its own, which loads it again after Ray restarts the process.

    The model is not an argument of the constructor, because Ray would print a warning at each
    start.

    Args:
        threads: CPU threads to compute with.
        device: where to compute.
    """

    def __init__(self, threads: int, device: DeviceName) -> None:
        torch.set_num_threads(threads)
        self._device = device
        self._predictor: Predictor | None = None

    def load(self, model_ref: _ModelRef) -> None:
        """Load the model, if it is not loaded yet."""
        self._loaded(model_ref)

    def call(self, model_ref: _ModelRef, name: str, *arguments: Any) -> Any:
        """Call this method of the predictor."""
        return getattr(self._loaded(model_ref), name)(*arguments)

    def _loaded(self, model_ref: _ModelRef) -> Predictor:
        if self._predictor is None:
            self._predictor = Predictor(ray.get(model_ref[0]), self._device)
        return self._predictor


def _unwrap_results(results: Iterator[Any], shards: Sequence[Shard], advice: str) -> Iterator[Any]:
    """The results for these shards, with errors raised as the actor raised them.

    Args:
        results: one for each shard, in order.
        shards: named in the message if an actor is lost again and again.
        advice: what the user can do then.

    Raises:
        LstmfcnError: an actor raised it.
        ResourceError: the actor of a shard was lost in all attempts.
    """
    for shard in shards:
        process = f"{shard.name}: after {_RETRIES} more attempts, the process that predicts it"
        with reporting_ray_errors(process, advice):
            result = next(results)
        yield result
