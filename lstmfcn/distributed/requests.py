"""The way from the flags of a command to a run that may start, checked as far as Ray is not needed.

`TrainRequest` holds the flags, `TrainInputs` what they name after the headers were read and agree.
`CheckedSweep` adds what only a sweep needs. `Resources` are what the user asks for, and
`WorkerResources` what each worker gets once the machines of the cluster are known.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lstmfcn.console import pluralize
from lstmfcn.data.columns import Roles
from lstmfcn.data.listing import Data, to_arguments
from lstmfcn.data.reader import ShardedDataset, open_dataset
from lstmfcn.distributed.capacity import (
    Node,
    available_cpus,
    capacity,
    max_cpus_per_worker,
    may_grow,
)
from lstmfcn.distributed.cluster import has_cluster
from lstmfcn.errors import DataError, ModelError, OutputError, ResourceError
from lstmfcn.hyperparameters import Hyperparameters, fine_tune_with
from lstmfcn.storage.places import Place, checked_place, lies_in
from lstmfcn.training.run_directory import RunConfig, TrackerName, refuse_existing_run
from lstmfcn.tuning.search_space import SearchSpace
from lstmfcn.tuning.sweep import Objective, SweepConfig

if TYPE_CHECKING:
    from lstmfcn.model.artifact import Artifact

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dri", "/dev/dxg")
"""Device files of NVIDIA, AMD, Intel and WSL drivers; a Linux machine without any has no GPU."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainRequest:
    """What the user asks to train; the fields are those of `RunConfig`.

    Attributes:
        output: where the run writes, as the user names it.

    Raises:
        ModelError: the model's URI cannot be used.
    """

    train: Data | None
    validation: Data | None
    model: str | Path | None
    hyperparameters: Hyperparameters
    track: Sequence[TrackerName] | None = None
    output: Place = ""

    def __post_init__(self) -> None:
        if self.model:
            checked_place(self.model, ModelError)

    def new_run(self, folder: Path, resume: bool, overwrite: bool = False) -> RunConfig:
        """The configuration of a new run in this folder.

        Args:
            folder: where the run writes.
            resume: whether the user asked to resume; there was nothing to resume.
            overwrite: whether a run in the folder may be replaced.

        Raises:
            UserError: there is no training data, or the folder holds a run that may not
                be replaced.
        """
        if self.train is None:
            raise DataError("no training data", "name files or folders of training shards")
        if overwrite and resume:
            raise OutputError("overwrite and resume exclude each other; leave one of them out")
        if not overwrite:
            refuse_existing_run(folder)
        elif self.model and self.output and lies_in(self.model, self.output):
            raise OutputError(
                f"{folder}: holds the model to continue from, which would be lost; name another "
                "--output"
            )
        if resume:
            logger.info("%s: found nothing to resume; starting a new run", folder)
        return RunConfig(
            train=to_arguments(self.train),
            validation=to_arguments(self.validation) if self.validation else None,
            model=str(self.model) if self.model else None,
            hyperparameters=self.hyperparameters,
            track=tuple(self.track or ()),
        )

    def resumed_run(self, config: RunConfig) -> RunConfig:
        """The configuration of a run to resume, with the places of data and model named now.

        The run keeps its trackers, unless this request names others.
        """
        new_values: dict[str, object] = {
            "train": to_arguments(self.train) if self.train else None,
            "validation": to_arguments(self.validation) if self.validation else None,
            "model": str(self.model) if self.model else None,
            "track": None if self.track is None else tuple(self.track),
        }
        changes = {name: value for name, value in new_values.items() if value is not None}
        return config.model_copy(update=changes)


@dataclass(frozen=True)
class TrainInputs:
    """A run whose shards' headers were read and agree, and whose folder may be used.

    Attributes:
        config: what was asked for. With a base model, its hyperparameters are those of that model
            and what the user changed.
        folder: where the run writes.
        training: the training shards.
        validation: the validation shards.
        base_model: the model that training continues from.
    """

    config: RunConfig
    folder: Path
    training: ShardedDataset
    validation: ShardedDataset | None
    base_model: Artifact | None

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The hyperparameters of the run."""
        return self.config.hyperparameters

    @property
    def datasets(self) -> list[ShardedDataset]:
        """The training shards, and the validation shards if there are any."""
        return [self.training, self.validation] if self.validation else [self.training]


def read_inputs(config: RunConfig, folder: Path) -> TrainInputs:
    """Read the base model and the headers of all shards, and check that they fit together.

    Raises:
        UserError: they do not fit, or cannot be read.
    """
    base_model = None
    if config.model:
        from lstmfcn.model.artifact import Artifact  # imports PyTorch

        base_model = Artifact.load(config.model)
        merged = fine_tune_with(base_model.hyperparameters, config.hyperparameters, logger.info)
        config = config.model_copy(update={"hyperparameters": merged})
    hyperparameters = config.hyperparameters
    hyperparameters.validate_post_training(config.validation is not None)
    training = open_dataset(
        config.train,
        hyperparameters.task,
        base_model.schema if base_model else None,
        missing=hyperparameters.missing,
        missing_marker=hyperparameters.missing_marker,
        missing_labels=hyperparameters.missing_labels,
        roles=Roles(hyperparameters.label_column, hyperparameters.value_columns),
    )
    validation = (
        open_dataset(config.validation, schema=training.schema) if config.validation else None
    )
    if ignored := training.ignored_columns():
        logger.info("columns not used: %s", ", ".join(ignored))
    for warning in training.schema.naming_warnings():
        logger.warning("%s: found %s", training.data, warning)
    return TrainInputs(config, folder, training, validation, base_model)


@dataclass(frozen=True)
class SweepLimits:
    """How much a sweep may use.

    Attributes:
        max_concurrent: the most trials at a time; None for as many as the cluster has room for.
        time_budget_s: seconds after which running trials end and no other begins.
    """

    max_concurrent: int | None = None
    time_budget_s: float | None = None


@dataclass(frozen=True)
class CheckedSweep:
    """A sweep that may start: its inputs are checked, its space and its metric exist."""

    inputs: TrainInputs
    sweep: SweepConfig
    space: SearchSpace
    resources: Resources
    limits: SweepLimits

    @property
    def folder(self) -> Path:
        """Where the sweep writes."""
        return self.inputs.folder

    @property
    def objective(self) -> Objective:
        """The metric that trials are compared by."""
        return Objective(self.sweep.metric)


@dataclass(frozen=True)
class Resources:
    """What the user asks of the cluster; None leaves the choice to `resolve_resources`.

    Attributes:
        num_workers: workers that share every batch.
        min_workers: the fewest workers to continue with after machines were lost.
        cpus_per_worker: CPUs, and so threads, of each worker.
        use_gpu: whether each worker has a GPU.
        memory_gb: the limit below which the rows are kept whole in memory; more are kept in blocks
            in the object stores of the cluster.
    """

    num_workers: int = 1
    min_workers: int | None = None
    cpus_per_worker: int | None = None
    use_gpu: bool | None = None
    memory_gb: float | None = None

    def refuse_more_than_this_machine(self) -> None:
        """Refuse, before Ray is started, what a single machine does not have.

        Nothing is refused if there is a cluster.

        Raises:
            ResourceError: the machine has too few CPUs, or no GPU.
        """
        if has_cluster():
            return
        cpus_each = self.cpus_per_worker or 1
        n_cpus = available_cpus()
        if self.num_workers * cpus_each > n_cpus:
            raise ResourceError(
                f"no room for {_describe_workers(self.num_workers, cpus_each)}: this machine has "
                f"{pluralize(n_cpus, 'CPU')}; lower --num-workers or --cpus-per-worker, or name a "
                "cluster in RAY_ADDRESS"
            )
        if self.use_gpu and sys.platform == "linux" and not any(map(os.path.exists, _GPU_DEVICES)):
            raise ResourceError(
                "this machine has no GPU; leave --use-gpu out, or name a cluster in RAY_ADDRESS"
            )


@dataclass(frozen=True)
class WorkerResources:
    """The workers of a run, and what each gets; for an ensemble, what each member gets.

    Attributes:
        min_workers: the fewest workers to continue with after some were lost.
    """

    num_workers: int
    min_workers: int
    cpus_per_worker: int
    use_gpu: bool

    @property
    def device(self) -> str:
        """The PyTorch device of each worker."""
        return "cuda" if self.use_gpu else "cpu"


def resolve_resources(
    machines: list[Node], requested: Resources, members: int = 1
) -> WorkerResources:
    """Choose what the user left open, to fit the machines of the cluster.

    A worker takes a GPU if a machine that is up has one. By default it takes
    all CPUs of a machine: on two CPUs, one worker of two threads trained 0.98 to 2.5 times as fast
    as two workers of one thread, and 1.3 to 1.6 times as fast as one of one, except for tiny
    networks on tiny sets (benchmarks/train.py, workers). The members of an ensemble that train at a
    time share the CPUs.

    Raises:
        ResourceError: the cluster does not have what was asked for.
    """
    use_gpu = choose_gpu(machines, requested)
    gpus, num_workers = int(use_gpu), requested.num_workers
    if members > 1 and num_workers > 1:
        raise ResourceError(
            f"--num-workers {num_workers}: each of the {members} members is trained by one "
            "worker, several of them at a time; leave the flag out"
        )
    n_parallel = max(num_workers, min(members, capacity(machines, 1, gpus)))
    cpus = requested.cpus_per_worker or max_cpus_per_worker(machines, n_parallel, gpus)
    min_workers = num_workers if requested.min_workers is None else requested.min_workers
    if min_workers > num_workers:
        raise ResourceError(f"--min-workers {min_workers} is more than --num-workers {num_workers}")
    if capacity(machines, cpus, gpus) < num_workers:
        no_room = _no_room_message(machines, num_workers, cpus, gpus)
        if not may_grow():
            raise ResourceError(no_room)
        logger.info("%s; waiting for the cluster to start machines", no_room)
    return WorkerResources(num_workers, min_workers, cpus, use_gpu)


def choose_gpu(machines: list[Node], requested: Resources) -> bool:
    """Whether a worker has a GPU: as the user says, or else if a machine that is up has one."""
    if requested.use_gpu is not None:
        return requested.use_gpu
    has_gpu = capacity(machines, cpus=1, gpus=1) > 0
    if not has_gpu and may_grow():
        logger.info("no machine that is up has a GPU; add --use-gpu to wait for one")
    return has_gpu


def _no_room_message(machines: list[Node], num_workers: int, cpus: int, gpus: int) -> str:
    sizes = [
        f"{pluralize(node.cpus, 'CPU')} and {pluralize(node.gpus, 'GPU')}" for node in machines
    ]
    return (
        f"no room for {_describe_workers(num_workers, cpus, gpus)}: the cluster's machines have "
        f"{', '.join(sizes)}; lower --num-workers or --cpus-per-worker"
        + (", or add --no-use-gpu" if gpus else "")
    )


def _describe_workers(num_workers: int, cpus: int, gpus: int = 0) -> str:
    size = f"{pluralize(cpus, 'CPU')}{' and a GPU' if gpus else ''}"
    return f"{pluralize(num_workers, 'worker')} of {size}"


def members_at_once(machines: list[Node], resources: WorkerResources, members: int) -> int:
    """How many members of an ensemble train at a time; 1 while the cluster has to grow."""
    room = capacity(machines, resources.cpus_per_worker, int(resources.use_gpu))
    return max(1, min(room, members))
