"""Keep what a training leaves: its metrics, its checkpoints and its model.

Workers know no paths. They give all that is to be kept to a `Keeper`, and ask it where to start and
whether to stop. In the process of the command it writes to the run's folder by itself; on Ray,
calls to the driver's machine do (`lstmfcn.distributed.keeper`).
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from lstmfcn.storage.files import refusing_write_errors, sync, write_directory
from lstmfcn.training.checkpoints import (
    Position,
    SavedCheckpoint,
    State,
    read_checkpoints,
    write_checkpoint,
)
from lstmfcn.training.metrics_log import EpochMetrics, add_epochs, keep_epochs
from lstmfcn.training.run_directory import CHECKPOINTS, METRICS, MODEL, STOP

logger = logging.getLogger(__name__)


class Keeper(Protocol):
    """Keeps what a training leaves. Of several workers only the first one writes.

    What cannot be written raises `OutputError`.
    """

    def saved_checkpoints(self) -> Iterable[SavedCheckpoint]:
        """Return the intact checkpoints to start from, newest first; the same for all workers."""

    def start(self, epochs_done: int) -> None:
        """Start after these epochs: forget the metrics of later ones, which come again."""

    def add_epochs(self, *epochs: EpochMetrics) -> None:
        """Keep the metrics of these epochs; perhaps not at once."""

    def flush(self) -> None:
        """Write all metrics that were added."""

    def save_checkpoint(self, position: Position, content: bytes) -> None:
        """Keep a checkpoint, and all metrics that were added before it."""

    def save_model(self, files: Mapping[str, bytes]) -> None:
        """Keep a model directory of these files in place of an earlier one."""

    def stop_requested(self) -> bool:
        """Whether the user asked the training to stop."""


class FolderKeeper:
    """Keeps it in the folder of the run, by plain calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def saved_checkpoints(self) -> Iterable[SavedCheckpoint]:
        """Read the intact checkpoints, newest first."""
        return read_checkpoints(self._folder / CHECKPOINTS, logger.warning)

    def start(self, epochs_done: int) -> None:
        """Remove the lines of later epochs, or make the file."""
        keep_epochs(self._folder / METRICS, epochs_done)

    def add_epochs(self, *epochs: EpochMetrics) -> None:
        """Write a line per epoch at once."""
        add_epochs(self._folder / METRICS, epochs)

    def flush(self) -> None:
        """Do nothing: all is written at once."""

    def save_checkpoint(self, position: Position, content: bytes) -> None:
        """Write a checkpoint, once the metrics before it are durable."""
        metrics = self._folder / METRICS
        with refusing_write_errors(metrics):
            sync(metrics)
        write_checkpoint(self._folder / CHECKPOINTS, position, content)

    def save_model(self, files: Mapping[str, bytes]) -> None:
        """Write the model directory."""
        write_directory(self._folder / MODEL, files)

    def stop_requested(self) -> bool:
        """Whether the file that asks to stop is there."""
        return (self._folder / STOP).exists()


class Checkpoints:
    """The checkpoints of one run, and when the next one is due.

    Args:
        keeper: keeps their bytes.
    """

    def __init__(
        self,
        keeper: Keeper,
        every_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper, self._every_s = keeper, every_s
        self._clock, self._last = clock, clock()

    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint, or to stop."""
        return self._clock() - self._last >= self._every_s or self.stop_requested()

    def stop_requested(self) -> bool:
        """Whether the user asked the training to stop."""
        return self._keeper.stop_requested()

    def save(self, position: Position, state: State) -> None:
        """Save a checkpoint, or raise `OutputError`."""
        import torch

        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._keeper.save_checkpoint(position, buffer.getvalue())
        self._last = self._clock()

    def load_all(self) -> Iterator[tuple[Position, State]]:
        """Load the valid checkpoints, the newest first; log a line for each invalid one."""
        for saved in self._keeper.saved_checkpoints():
            state = saved.unpack(logger.warning)
            if state is not None:
                yield saved.position, state
