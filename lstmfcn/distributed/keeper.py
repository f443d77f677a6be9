"""Keep what trainings leave in one process on the driver's machine, which workers reach from all.

Only that process writes to the folders of runs, so no machine needs to see them but the driver's.
It fences the workers: once a training begins again, what those of an earlier attempt still send is
refused. If the process is lost, Ray starts another one, and trainings begin again from the newest
checkpoint as they do when a worker is lost.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmfcn.distributed.failures import LostKeeperError, unwrap_ray_error
from lstmfcn.training.checkpoints import Position, SavedCheckpoint, find_newest, read_checkpoints
from lstmfcn.training.keeper import FolderKeeper
from lstmfcn.training.metrics_log import EpochMetrics, read_metrics
from lstmfcn.training.run_directory import CHECKPOINTS, METRICS, STOP

_OPEN_ATTEMPTS = 3
_THREADS = 32
"""Runs whose writes it handles at a time; a disk takes some milliseconds for each."""

_SEND_EVERY_S = 0.5
_ASK_EVERY_S = 0.5
"""A call takes a millisecond or two, which not every epoch and every step should cost."""

logger = logging.getLogger(__name__)


@contextmanager
def keeper_process() -> Iterator[Any]:
    """Run a `KeeperActor` on this machine inside this block, and give its handle."""
    keeper = ray.remote(
        num_cpus=0,
        max_restarts=-1,  # trainings and trials limit how often they start again
        max_concurrency=_THREADS,
        scheduling_strategy=NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        ),
    )(KeeperActor).remote()
    try:
        yield keeper
    finally:
        ray.kill(keeper)


class KeeperActor:
    """Keeps what the trainings of a command leave, each in its folder.

    A training opens its folder at each attempt, and all that it writes names the attempt.
    """

    def __init__(self) -> None:
        self._attempts: dict[tuple[Path, str], str] = {}
        self._locks: dict[tuple[Path, str], threading.Lock] = {}

    @ray.method(num_returns=2, max_task_retries=_OPEN_ATTEMPTS)
    def open(
        self, folder: Path, writer: str, attempt: str
    ) -> tuple[tuple[Position, list[str]], list[SavedCheckpoint]]:
        """Begin an attempt of this name, and refuse from now on what earlier ones write.

        Returns:
            Where it starts, and a line for each damaged checkpoint; and the intact checkpoints,
            newest first.
        """
        with self._lock(folder, writer):
            self._attempts[folder, writer] = attempt
            faults: list[str] = []
            saved = list(read_checkpoints(folder / CHECKPOINTS, faults.append))
        return (saved[0].position if saved else Position(), faults), saved

    def write(self, folder: Path, writer: str, attempt: str, method: str, *arguments: Any) -> None:
        """Call a method of `FolderKeeper`.

        Raises:
            OutputError: the folder cannot be written to.
            LostKeeperError: this process does not know the attempt, or knows a later one.
        """
        with self._lock(folder, writer):
            if self._attempts.get((folder, writer)) != attempt:
                raise LostKeeperError
            getattr(FolderKeeper(folder), method)(*arguments)

    def stop_requested(self, folder: Path) -> bool:
        """Whether the user asked this training to stop."""
        return FolderKeeper(folder).stop_requested()

    def request_stop(self, folder: Path, wish: bool) -> None:
        """Ask this training to stop, or to go on."""
        if wish:
            (folder / STOP).touch()
        else:
            (folder / STOP).unlink(missing_ok=True)

    def progress(
        self, folder: Path, after: int
    ) -> tuple[SavedCheckpoint, list[EpochMetrics]] | None:
        """Return the newest checkpoint and the metrics so far, if it is of a later epoch."""
        saved = find_newest(folder / CHECKPOINTS)
        if saved is None or saved.position.epoch <= after:
            return None
        return saved, read_metrics(folder / METRICS)[: saved.position.epoch]

    def _lock(self, folder: Path, writer: str) -> threading.Lock:
        return self._locks.setdefault((folder, writer), threading.Lock())


class RemoteKeeper:
    """Keeps what one attempt of a training leaves, by calls to a `KeeperActor`.

    Whoever starts the workers makes it and gives each of them a copy.

    Args:
        actor: the handle of the `KeeperActor`.
        folder: of the run, on the driver's machine.
        writer: who writes; of a folder's writers each has attempts of its own.
    """

    def __init__(self, actor: Any, folder: Path, writer: str = "workers") -> None:
        self._actor, self.folder, self._writer = actor, folder, writer
        self._unsent: list[EpochMetrics] = []
        self._sent_at = self._asked_at = 0.0
        self._stopping = False
        self._begin()

    def renew(self) -> Position:
        """Begin the next attempt, and return where it starts; copies made before are refused."""
        self._begin()
        position, faults = _get(self._opened)
        for fault in faults:
            logger.info(fault)
        return cast(Position, position)

    def _begin(self) -> None:
        """Begin an attempt, without waiting for the keeper, whose process perhaps still starts."""
        self._attempt = uuid.uuid4().hex
        self._opened, self._saved = self._actor.open.remote(
            self.folder, self._writer, self._attempt
        )

    def saved_checkpoints(self) -> list[SavedCheckpoint]:
        """Take the checkpoints that this attempt started with; the same in all copies."""
        saved: list[SavedCheckpoint] = _get(self._saved)
        return saved

    def start(self, epochs_done: int) -> None:
        """Forget the metrics of later epochs."""
        self._write("start", epochs_done)

    def add_epochs(self, *epochs: EpochMetrics) -> None:
        """Send these epochs, or keep them until half a second has passed since the last ones."""
        self._unsent += epochs
        if time.monotonic() - self._sent_at >= _SEND_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Send all epochs that were added."""
        if self._unsent:
            self._write("add_epochs", *self._unsent)
            self._unsent, self._sent_at = [], time.monotonic()

    def save_checkpoint(self, position: Position, content: bytes) -> None:
        """Send a checkpoint, after the epochs before it."""
        self.flush()
        self._write("save_checkpoint", position, content)

    def save_model(self, files: Mapping[str, bytes]) -> None:
        """Send a model directory, after the epochs before it."""
        self.flush()
        self._write("save_model", files)

    def stop_requested(self) -> bool:
        """Whether the user asked the training to stop, as it was half a second ago or later."""
        if not self._stopping and time.monotonic() - self._asked_at >= _ASK_EVERY_S:
            self._stopping = _get(self._actor.stop_requested.remote(self.folder))
            self._asked_at = time.monotonic()
        return self._stopping

    def request_stop(self, wish: bool) -> None:
        """Ask the training to stop, or to go on."""
        _get(self._actor.request_stop.remote(self.folder, wish))

    def progress(self, after: int) -> tuple[SavedCheckpoint, list[EpochMetrics]] | None:
        """Return the newest checkpoint and the metrics so far, if it is of a later epoch."""
        found: tuple[SavedCheckpoint, list[EpochMetrics]] | None = _get(
            self._actor.progress.remote(self.folder, after)
        )
        return found

    def _write(self, method: str, *arguments: Any) -> None:
        _get(self._opened)  # calls from several processes come in any order
        _get(self._actor.write.remote(self.folder, self._writer, self._attempt, method, *arguments))


def _get(answer: Any) -> Any:
    """Wait for an answer of the keeper, and raise its errors as they were there.

    Raises:
        LostKeeperError: the process of the keeper was lost.
    """
    try:
        return ray.get(answer)
    except exceptions.RayTaskError as error:
        raise unwrap_ray_error(error) or error from None
    except exceptions.RayActorError as error:
        raise LostKeeperError from error
