"""Read, check and scale a data set, while the training workers start if it fits into memory.

Without Ray, a thread of this process does it. With Ray, a task on the driver's node does: it checks
every cell and packs the value columns into one array, so nothing after it sees a wide table. Rows
that take more memory than they may, or long to read, are read on all machines, into blocks that
stay in the object stores. The results belong to the driver: they stay when a task's process ends,
and Ray runs a task again if a node that held them is lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmfcn.data.batch_plan import batch_size_for, refuse_few_rows, refuse_small_batches
from lstmfcn.data.dataset import Dataset, LoadedData, MemoryLimitError
from lstmfcn.data.scaler import Scaler
from lstmfcn.distributed.failures import reporting_ray_errors
from lstmfcn.distributed.read import needs_blocks, read_blocks, read_rows
from lstmfcn.errors import ResourceError, RunInterruptedError
from lstmfcn.hyperparameters import ScalingName
from lstmfcn.signals import in_thread
from lstmfcn.training.dataset_info import DatasetInfo, SplitInfo

if TYPE_CHECKING:
    from lstmfcn.distributed.requests import TrainInputs

_LESS_MEMORY = "if memory is short, lower --memory-gb, and run the command again"

logger = logging.getLogger(__name__)


class DatasetRefs(NamedTuple):
    """References to a `DatasetInfo`, the scaled training rows, and the validation rows or None."""

    info: Any
    training: Any
    validation: Any

    def wait(self) -> DatasetInfo:
        """Wait until the data set has been read and checked.

        Raises:
            UserError: the training cannot use the data.
        """
        with reporting_ray_errors("the process that reads the data", _LESS_MEMORY):
            return cast(DatasetInfo, ray.get(self.info))

    def refs(self) -> DatasetRefs:
        """Return these references, which need not have been resolved."""
        return self

    def stop(self) -> None:
        """Do nothing: workers stop once they have the data."""

    def get(self) -> Prepared:
        """Wait for the data set and take it from the object store, without a copy."""
        return ray.get(self.info), ray.get(self.training), ray.get(self.validation)


class LoadingThread:
    """A data set that a thread of this process reads, checks and scales.

    Args:
        inputs: the shards, and the base model, whose scaler is used if there is one.
        memory_bytes: the most that all values may take in memory.
    """

    def __init__(self, inputs: TrainInputs, memory_bytes: int) -> None:
        task = _Preparation.of(inputs, 1, memory_bytes)
        self._loaded = in_thread(task.read)

    def wait(self) -> DatasetInfo:
        """Wait until the data set has been read and checked.

        Raises:
            MemoryLimitError: the values take more memory than they may.
            UserError: the training cannot use the data.
        """
        try:
            return self._loaded.result()[0]
        except MemoryError as error:
            raise ResourceError(f"out of memory while reading; {_LESS_MEMORY}") from error

    def stop(self) -> None:
        """Do nothing: the training stops once it has the data."""

    def get(self) -> Prepared:
        """Wait for the data set, and return it."""
        return self._loaded.result()


class LoadingBlocks:
    """A data set that all machines of the cluster read into blocks, for one scaling or several.

    What fits into memory after all is joined to one array, so that where rows lie depends on their
    number only.

    Args:
        inputs: the shards, and the base model, whose scaler is used if there is one.
        num_workers: workers that share every batch; too few rows for them are an error.
        memory_bytes: the most that all values may take in memory.
        scalings: how to scale the rows; by default as the hyperparameters say.
    """

    def __init__(
        self,
        inputs: TrainInputs,
        num_workers: int,
        memory_bytes: int,
        scalings: Sequence[ScalingName] = (),
    ) -> None:
        self._stopping = threading.Event()
        self._inputs = inputs
        self._scalings = scalings or [inputs.hyperparameters.scaling]
        self._preparation = _Preparation.of(inputs, num_workers, memory_bytes)
        self._started = in_thread(self._read)

    def stop(self) -> None:
        """Have the reading end soon, with a `RunInterruptedError`."""
        self._stopping.set()

    def wait(self) -> DatasetInfo:
        """Wait until the data set has been read and checked.

        Raises:
            UserError: the training cannot use the data.
        """
        return self.refs().wait()

    def refs(self) -> DatasetRefs:
        """Wait until all rows are in blocks; return references for the first scaling."""
        return next(iter(self.refs_by_scaling().values()))

    def refs_by_scaling(self) -> dict[ScalingName, DatasetRefs]:
        """Wait until all rows are in blocks; return references for each scaling."""
        return self._started.result()

    def _read(self) -> dict[ScalingName, DatasetRefs]:
        inputs, with_moments = self._inputs, any(map(Scaler.needs_moments, self._scalings))
        training = read_blocks(inputs.training, with_moments, self._raise_if_stopping)
        self._preparation.check(training)
        validation = None
        if inputs.validation:
            shards = inputs.validation._replace(schema=training.schema)
            validation = read_blocks(shards, False, self._raise_if_stopping)
        prepare = _task_here(_Preparation.take_blocks)
        return {
            scaling: DatasetRefs(
                *prepare.remote(replace(self._preparation, scaling=scaling), training, validation)
            )
            for scaling in self._scalings
        }

    def _raise_if_stopping(self) -> None:
        if self._stopping.is_set():
            raise RunInterruptedError("stopped while the rows were read")


Prepared: TypeAlias = tuple[DatasetInfo, Dataset, Dataset | None]
"""What is known of a data set, the scaled training rows, and the validation rows or None."""

TrainingData: TypeAlias = DatasetRefs | LoadingThread
"""A data set as those who train on it get it."""


Loading: TypeAlias = DatasetRefs | LoadingThread | LoadingBlocks
"""A data set as the driver has it."""


def start_loading(
    inputs: TrainInputs, num_workers: int, memory_bytes: int, in_blocks: bool = False
) -> Loading:
    """Start to read a data set, and return at once.

    Args:
        inputs: the shards, and the base model, whose scaler is used if there is one.
        num_workers: workers that share every batch; too few rows for them are an error.
        memory_bytes: the most that all values may take in memory.
        in_blocks: whether it is known that they take more.

    Returns:
        What waits for the rows, and raises `MemoryLimitError` if they turn out to take more memory.
    """
    if not ray.is_initialized():
        return LoadingThread(inputs, memory_bytes)
    if in_blocks or needs_blocks(inputs.datasets, memory_bytes):
        return LoadingBlocks(inputs, num_workers, memory_bytes)
    return _start_task(_Preparation.of(inputs, num_workers, memory_bytes))


def _start_task(preparation: _Preparation) -> DatasetRefs:
    return DatasetRefs(*_task_here(_Preparation.read).remote(preparation))


def _task_here(work: Callable[..., Any]) -> Any:
    """Make a task of the driver's node that returns the three parts of a `DatasetRefs`."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, num_returns=3, scheduling_strategy=here)(work)


def load_for_scalings(
    inputs: TrainInputs, memory_bytes: int, scalings: Sequence[ScalingName]
) -> dict[ScalingName, DatasetRefs]:
    """Read a data set for trials of one worker that scale it in several ways.

    Args:
        inputs: the shards.
        memory_bytes: the most that all values may take in memory, for all scalings together.
        scalings: how to scale the rows.

    Raises:
        UserError: the sweep cannot use the data.
    """
    limit = memory_bytes // len(scalings)
    if not needs_blocks(inputs.datasets, limit):
        preparation, data = _Preparation.of(inputs, 1, limit), {}
        try:
            for scaling in scalings:
                data[scaling] = _start_task(replace(preparation, scaling=scaling))
                data[scaling].wait()
        except MemoryLimitError as error:
            logger.info("%s: reading them again, into blocks", error)
        else:
            return data
    data = LoadingBlocks(inputs, 1, limit, scalings).refs_by_scaling()
    for refs in data.values():
        refs.wait()
    return data


@dataclass(frozen=True)
class _Preparation:
    """How a data set becomes what workers train on.

    Attributes:
        inputs: the shards, without the base model, whose weights would import PyTorch.
        scaling: how to scale the rows.
        scaler: that of the base model, if there is one.
        num_workers: workers that share every batch.
        memory_bytes: the most that all values may take in memory.
    """

    inputs: TrainInputs
    scaling: ScalingName
    scaler: Scaler | None
    num_workers: int
    memory_bytes: int

    @classmethod
    def of(cls, inputs: TrainInputs, num_workers: int, memory_bytes: int) -> _Preparation:
        """Prepare the rows as the hyperparameters say."""
        scaler = inputs.base_model.scaler if inputs.base_model else None
        scaling = inputs.hyperparameters.scaling
        return cls(replace(inputs, base_model=None), scaling, scaler, num_workers, memory_bytes)

    def read(self) -> Prepared:
        """Read training and validation rows into memory, and check and scale them."""
        training = read_rows(self.inputs.training, self.memory_bytes)
        self.check(training)
        validation = None
        if self.inputs.validation:
            shards = self.inputs.validation._replace(schema=training.schema)
            validation = read_rows(shards, self.memory_bytes - training.n_bytes)
        return self._finish(training, validation)

    def take_blocks(self, training: LoadedData, validation: LoadedData | None) -> Prepared:
        """Scale rows in blocks; those that fit into memory are joined to one array."""
        memory_left = self.memory_bytes
        if training.n_bytes <= memory_left:
            training = training.in_memory()
            memory_left -= training.n_bytes
        if validation and validation.n_bytes <= memory_left:
            validation = validation.in_memory()
        return self._finish(training, validation)

    def check(self, training: LoadedData) -> None:
        """Refuse training rows that these workers cannot learn from."""
        data, n_rows = self.inputs.training.data, len(training.rows)
        training.schema.refuse_absent_classes(training.rows.labels, data)
        refuse_few_rows(n_rows, self.num_workers, data)
        setting = self.inputs.hyperparameters.batch_size
        refuse_small_batches(batch_size_for(setting, n_rows, self.num_workers), self.num_workers)

    def _finish(self, training: LoadedData, validation: LoadedData | None) -> Prepared:
        """Scale the rows, and record the training rows' fingerprint in run.json."""
        config = self.inputs.config
        fingerprint = training.fingerprint(like=config.train_sha256)  # scaling is done in place
        config.refuse_other_rows(fingerprint, self.inputs.training.data)
        scaler = self.scaler or training.fit_scaler(self.scaling)
        config.model_copy(update={"train_sha256": fingerprint}).save(self.inputs.folder)
        info = DatasetInfo(
            training.schema,
            scaler,
            fingerprint,
            SplitInfo.of(training),
            SplitInfo.of(validation) if validation else None,
        )
        scaled = validation.rows.scaled(scaler) if validation else None
        return info, training.rows.scaled(scaler), scaled
