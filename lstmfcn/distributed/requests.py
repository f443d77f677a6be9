"""What a training or a sweep is asked for: data, model, hyperparameters, CPUs, GPUs and memory.

All that can be checked without Ray is checked here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.console import number
from lstmfcn.data.listing import Data, arguments_of
from lstmfcn.data.reader import ShardSet, survey
from lstmfcn.distributed.cluster import Node, may_grow_to, most_cpus_each, places
from lstmfcn.distributed.own_ray import refuse_more_than_this_machine
from lstmfcn.errors import DataError, ModelError, ResourceError
from lstmfcn.hyperparameters import Hyperparameters, resume_with
from lstmfcn.storage.files import local_path
from lstmfcn.training.run_directory import RunRecord, TrackerName, refuse_used
from lstmfcn.tuning.search_space import SearchSpace
from lstmfcn.tuning.sweep import Objective, SweepRecord

_SHARE_OF_OBJECT_STORE = 0.5
"""Rows in memory lie in the object store of each machine, beside what is being read."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Allotment:
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


def allot(there: list[Node], wanted: Resources, members: int = 1) -> Allotment:
    """Settle what was left open.

    A worker takes a GPU where there are any, and by default all CPUs of a machine: on two, one
    worker of two threads trained 0.98 to 2.5 times as fast as two workers of one, and 1.3 to 1.6
    times as fast as one of one but for tiny nets on tiny sets (benchmarks/train.py, workers).
    Members of an ensemble share the CPUs out among them, as many as there are at a time.

    Raises:
        ResourceError: the cluster has not what is asked for.
    """
    use_gpu = any(node.gpus for node in there) if wanted.use_gpu is None else wanted.use_gpu
    gpus, num_workers = int(use_gpu), wanted.num_workers
    if members > 1 and num_workers > 1:
        raise ResourceError(
            f"--num-workers {num_workers}: each of the {members} members is trained by one "
            "worker, several of them at a time; leave the flag out"
        )
    at_once = max(num_workers, min(members, places(there, 1, gpus)))
    each = wanted.cpus_per_worker or most_cpus_each(there, at_once, gpus)
    fewest = num_workers if wanted.min_workers is None else wanted.min_workers
    if fewest > num_workers:
        raise ResourceError(f"--min-workers {fewest} is more than --num-workers {num_workers}")
    if places(there, each, gpus) >= num_workers:
        return Allotment(num_workers, fewest, each, use_gpu)
    if not may_grow_to(each * num_workers, gpus * num_workers):
        raise ResourceError(_does_not_fit(there, num_workers, each, gpus))
    logger.info(
        "the machines that are up do not hold %s; asking for more", number(num_workers, "worker")
    )
    return Allotment(num_workers, fewest, each, use_gpu)


def _does_not_fit(there: list[Node], num_workers: int, cpus: int, gpus: int) -> str:
    has = (f"{number(node.cpus, 'CPU')} and {number(node.gpus, 'GPU')}" for node in there)
    return (
        f"{number(num_workers, 'worker')} of {number(cpus, 'CPU')}{' and a GPU' if gpus else ''} "
        f"{'does' if num_workers == 1 else 'do'} not fit the cluster's machines "
        f"({', '.join(has)}); lower --num-workers or --cpus-per-worker"
        + (", or add --no-use-gpu" if gpus else "")
    )


def members_at_once(there: list[Node], allotment: Allotment, members: int) -> int:
    """How many members of an ensemble are trained at a time; 1 while the cluster has to grow."""
    room = places(there, allotment.cpus_per_worker, int(allotment.use_gpu))
    return max(1, min(room, members))


def memory_bytes(there: list[Node], wanted: Resources) -> int:
    """The most that all rows may take in memory: by default half of the least object store."""
    if wanted.memory_gb is not None:
        return int(wanted.memory_gb * 1e9)
    return int(_SHARE_OF_OBJECT_STORE * min(node.object_store_bytes for node in there))


if TYPE_CHECKING:
    from lstmfcn.model.artifact import Artifact


@dataclass(frozen=True)
class Asked:
    """What the user asked to train; the fields are those of `RunRecord`.

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

    def begin(self, folder: Path, resume: bool) -> RunRecord:
        """The record of a run in a folder that holds none yet.

        Raises:
            UserError: there is no training data, or the folder holds a run.
        """
        if self.train is None:
            raise DataError("no training data", "name it with --train")
        refuse_used(folder)
        if resume:
            logger.info("%s: nothing to resume there; starting anew", folder)
        return RunRecord(
            train=arguments_of(self.train),
            validation=arguments_of(self.validation) if self.validation else None,
            model=self.model,
            hyperparameters=self.hyperparameters,
            track=tuple(self.track or ()),
        )

    def found_at(self, record: RunRecord) -> RunRecord:
        """The record of a run to resume, with data and model where they lie now.

        It goes on to be tracked as before, unless trackers are named.
        """
        given: dict[str, object] = {
            "train": arguments_of(self.train) if self.train else None,
            "validation": arguments_of(self.validation) if self.validation else None,
            "model": self.model,
            "track": None if self.track is None else tuple(self.track),
        }
        changes = {name: value for name, value in given.items() if value is not None}
        return record.model_copy(update=changes)


@dataclass(frozen=True)
class Inputs:
    """Shards whose headers were read and agree.

    Attributes:
        record: what was asked for; its hyperparameters are those of the model to continue from,
            where there is one.
        training: training shards.
        validation: validation shards.
        start: the model to continue from.
    """

    record: RunRecord
    training: ShardSet
    validation: ShardSet | None
    start: Artifact | None


def read_inputs(record: RunRecord) -> Inputs:
    """Read the model to continue from, and the headers.

    Raises:
        UserError: they do not fit.
    """
    start = None
    if record.model:
        from lstmfcn.model.artifact import Artifact  # imports PyTorch

        start = Artifact.load(record.model)
        continued = resume_with(start.hyperparameters, record.hyperparameters, logger.info)
        record = record.model_copy(update={"hyperparameters": continued})
    record.hyperparameters.refuse_fitting(record.validation is not None)
    schema = start.schema if start else None
    wanted = record.hyperparameters
    training = survey(
        record.train,
        wanted.task,
        schema,
        missing=wanted.missing,
        missing_marker=wanted.missing_marker,
        missing_labels=wanted.missing_labels,
    )
    validation = survey(record.validation, schema=training.schema) if record.validation else None
    if ignored := training.ignored_columns():
        logger.info("columns not used: %s", ", ".join(ignored))
    for warning in training.schema.naming_warnings():
        logger.warning("%s: %s", training.data, warning)
    return Inputs(record, training, validation, start)


@dataclass(frozen=True)
class Resources:
    """What of the cluster a training may take; None leaves it to `allot`.

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
class Request:
    """A training that may begin: its headers were read and agree, its output folder may be used."""

    inputs: Inputs
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
class SweepRequest:
    """A sweep that may begin: headers were read and agree, its output folder may be used."""

    inputs: Inputs
    sweep: SweepRecord
    space: SearchSpace
    folder: Path
    resources: Resources
    limits: Limits

    @property
    def objective(self) -> Objective:
        """What trials are compared by."""
        return Objective(self.sweep.metric)
