"""What a training or a sweep is asked for: data, model, hyperparameters, CPUs, GPUs and memory.

All that can be checked without Ray is checked here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.console import pluralize
from lstmfcn.data.listing import Data, to_arguments
from lstmfcn.data.reader import ShardedDataset, open_dataset
from lstmfcn.distributed.cluster import Node, autoscaler_can_reach, capacity, max_cpus_per_worker
from lstmfcn.distributed.own_ray import refuse_more_than_this_machine
from lstmfcn.errors import DataError, ModelError, ResourceError
from lstmfcn.hyperparameters import Hyperparameters, fine_tune_with
from lstmfcn.storage.files import local_path
from lstmfcn.training.run_directory import RunConfig, TrackerName, refuse_existing_run
from lstmfcn.tuning.search_space import SearchSpace
from lstmfcn.tuning.sweep import Objective, SweepConfig

_SHARE_OF_OBJECT_STORE = 0.5
"""Rows in memory lie in the object store of each machine, beside what is being read."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerResources:
    """What of the cluster a training takes; of an ensemble, each of its members.

    Attributes:
        min_workers: the fewest that training goes on with where others were lost.
    """

    num_workers: int
    min_workers: int
    cpus_per_worker: int
    use_gpu: bool

    @property
    def device(self) -> str:
        """Where PyTorch computes in each worker."""
        return "cuda" if self.use_gpu else "cpu"


def resolve_resources(machines: list[Node], wanted: Resources, members: int = 1) -> WorkerResources:
    """Settle what was left open.

    A worker takes a GPU where there are any, and by default all CPUs of a machine: on two, one
    worker of two threads trained 0.98 to 2.5 times as fast as two workers of one, and 1.3 to 1.6
    times as fast as one of one but for tiny nets on tiny sets (benchmarks/train.py, workers).
    Members of an ensemble share the CPUs out among them, as many as there are at a time.

    Raises:
        ResourceError: the cluster has not what is asked for.
    """
    use_gpu = any(node.gpus for node in machines) if wanted.use_gpu is None else wanted.use_gpu
    gpus, num_workers = int(use_gpu), wanted.num_workers
    if members > 1 and num_workers > 1:
        raise ResourceError(
            f"--num-workers {num_workers}: each of the {members} members is trained by one "
            "worker, several of them at a time; leave the flag out"
        )
    at_once = max(num_workers, min(members, capacity(machines, 1, gpus)))
    each = wanted.cpus_per_worker or max_cpus_per_worker(machines, at_once, gpus)
    fewest = num_workers if wanted.min_workers is None else wanted.min_workers
    if fewest > num_workers:
        raise ResourceError(f"--min-workers {fewest} is more than --num-workers {num_workers}")
    if capacity(machines, each, gpus) >= num_workers:
        return WorkerResources(num_workers, fewest, each, use_gpu)
    if not autoscaler_can_reach(each * num_workers, gpus * num_workers):
        raise ResourceError(_no_room_message(machines, num_workers, each, gpus))
    logger.info(
        "the machines that are up do not hold %s; asking for more", pluralize(num_workers, "worker")
    )
    return WorkerResources(num_workers, fewest, each, use_gpu)


def _no_room_message(machines: list[Node], num_workers: int, cpus: int, gpus: int) -> str:
    has = (f"{pluralize(node.cpus, 'CPU')} and {pluralize(node.gpus, 'GPU')}" for node in machines)
    each = f"{pluralize(cpus, 'CPU')}{' and a GPU' if gpus else ''}"
    return (
        f"{pluralize(num_workers, 'worker')} of {each} "
        f"{'does' if num_workers == 1 else 'do'} not fit the cluster's machines "
        f"({', '.join(has)}); lower --num-workers or --cpus-per-worker"
        + (", or add --no-use-gpu" if gpus else "")
    )


def members_at_once(machines: list[Node], allotment: WorkerResources, members: int) -> int:
    """How many members of an ensemble are trained at a time; 1 while the cluster has to grow."""
    room = capacity(machines, allotment.cpus_per_worker, int(allotment.use_gpu))
    return max(1, min(room, members))


def memory_bytes(machines: list[Node], wanted: Resources) -> int:
    """The most that all rows may take in memory: by default half of the least object store."""
    if wanted.memory_gb is not None:
        return int(wanted.memory_gb * 1e9)
    return int(_SHARE_OF_OBJECT_STORE * min(node.object_store_bytes for node in machines))


if TYPE_CHECKING:
    from lstmfcn.model.artifact import Artifact


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked to train; the fields are those of `RunConfig`.

    Raises:
        ModelError: the model is a URI.
    """

    train: Data | None
    validation: Data | None
    model: str | None
    hyperparameters: Hyperparameters
    track: Sequence[TrackerName] | None = None

    def __post_init__(self) -> None:
        if self.model:
            local_path(self.model, ModelError)

    def begin(self, folder: Path, resume: bool) -> RunConfig:
        """The record of a run in a folder that holds none yet.

        Raises:
            UserError: there is no training data, or the folder holds a run.
        """
        if self.train is None:
            raise DataError("no training data", "name it with --train")
        refuse_existing_run(folder)
        if resume:
            logger.info("%s: nothing to resume there; starting anew", folder)
        return RunConfig(
            train=to_arguments(self.train),
            validation=to_arguments(self.validation) if self.validation else None,
            model=self.model,
            hyperparameters=self.hyperparameters,
            track=tuple(self.track or ()),
        )

    def found_at(self, record: RunConfig) -> RunConfig:
        """The record of a run to resume, with data and model where they lie now.

        It goes on to be tracked as before, unless trackers are named.
        """
        given: dict[str, object] = {
            "train": to_arguments(self.train) if self.train else None,
            "validation": to_arguments(self.validation) if self.validation else None,
            "model": self.model,
            "track": None if self.track is None else tuple(self.track),
        }
        changes = {name: value for name, value in given.items() if value is not None}
        return record.model_copy(update=changes)


@dataclass(frozen=True)
class TrainInputs:
    """Shards whose headers were read and agree.

    Attributes:
        record: what was asked for; its hyperparameters are those of the model to continue from,
            where there is one.
        training: training shards.
        validation: validation shards.
        start: the model to continue from.
    """

    record: RunConfig
    training: ShardedDataset
    validation: ShardedDataset | None
    start: Artifact | None


def read_inputs(record: RunConfig) -> TrainInputs:
    """Read the model to continue from, and the headers.

    Raises:
        UserError: they do not fit.
    """
    start = None
    if record.model:
        from lstmfcn.model.artifact import Artifact  # imports PyTorch

        start = Artifact.load(record.model)
        continued = fine_tune_with(start.hyperparameters, record.hyperparameters, logger.info)
        record = record.model_copy(update={"hyperparameters": continued})
    record.hyperparameters.validate_post_training(record.validation is not None)
    schema = start.schema if start else None
    wanted = record.hyperparameters
    training = open_dataset(
        record.train,
        wanted.task,
        schema,
        missing=wanted.missing,
        missing_marker=wanted.missing_marker,
        missing_labels=wanted.missing_labels,
    )
    validation = (
        open_dataset(record.validation, schema=training.schema) if record.validation else None
    )
    if ignored := training.ignored_columns():
        logger.info("columns not used: %s", ", ".join(ignored))
    for warning in training.schema.naming_warnings():
        logger.warning("%s: %s", training.data, warning)
    return TrainInputs(record, training, validation, start)


@dataclass(frozen=True)
class Resources:
    """What of the cluster a training may take; None leaves it to `resolve_resources`.

    Attributes:
        num_workers: workers that share every batch.
        min_workers: the fewest that training goes on with where machines are lost.
        cpus_per_worker: CPUs, and so threads, of each.
        use_gpu: whether each has a GPU.
        memory_gb: the most that all rows may take in memory.
    """

    num_workers: int = 1
    min_workers: int | None = None
    cpus_per_worker: int | None = None
    use_gpu: bool | None = None
    memory_gb: float | None = None

    def refuse_more_than_this_machine(self) -> None:
        """Refuse what cannot be had, where there is no cluster.

        Raises:
            ResourceError: names the flags.
        """
        refuse_more_than_this_machine(self.num_workers, self.cpus_per_worker, self.use_gpu)


@dataclass(frozen=True)
class CheckedTraining:
    """A training that may begin: its headers were read and agree, its output folder may be used."""

    inputs: TrainInputs
    folder: Path
    resources: Resources
    checkpoint_every_s: float
    began: float


@dataclass(frozen=True)
class Limits:
    """How much a sweep may take.

    Attributes:
        max_concurrent: trials at a time; None for as many as the cluster has room for.
        time_budget_s: seconds in which trials may run.
    """

    max_concurrent: int | None = None
    time_budget_s: float | None = None


@dataclass(frozen=True)
class CheckedSweep:
    """A sweep that may begin: headers were read and agree, its output folder may be used."""

    inputs: TrainInputs
    sweep: SweepConfig
    space: SearchSpace
    folder: Path
    resources: Resources
    limits: Limits

    @property
    def objective(self) -> Objective:
        """What trials are compared by."""
        return Objective(self.sweep.metric)
