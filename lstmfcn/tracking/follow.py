"""Send the content of ``metrics.jsonl`` to TensorBoard or MLflow while a training runs.

A thread of the command polls the metrics files. The training does not depend on it: a tracker that
does not answer neither slows it down nor stops it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lstmfcn.errors import ModelError, RunInterruptedError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.tracking.base import State, TrackedRun, Tracker, TrackerUnavailableError
from lstmfcn.training.metrics_log import EpochMetrics, read_metrics
from lstmfcn.training.run_directory import METRICS, MODEL, TrackerName, list_member_folders

_POLL_INTERVAL_S = 1.0
_SECONDS_TO_STOP = 2.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 5.0, 60.0
"""Pause after an outage; each further outage doubles it."""
_WITH_MODEL = ("done", "stopped early", "out of time")

logger = logging.getLogger(__name__)

Runs = Callable[[], Iterable[TrackedRun]]
"""Returns all trainings so far; the parent run first."""

_Version = tuple[int, int, int]
"""A file's inode, size and time of the last change."""


@contextmanager
def tracking(
    names: Sequence[TrackerName], folder: Path, runs: Runs, *, resumed: bool
) -> Iterator[None]:
    """Track the trainings of a run during this block, and record how it ends.

    Args:
        names: names of the trackers; empty for no tracking.
        runs: returns its trainings with their current states.
        resumed: whether the run resumes; only a new run fails if a tracker does not answer.

    Raises:
        TrackingError: a tracker cannot be used.
    """
    if not names:
        yield
        return
    syncs = [_Sync(_make_tracker(name, folder, resumed)) for name in dict.fromkeys(names)]
    poller = _Poller(folder, syncs, runs)
    state: State = "failed"
    poller.start()
    try:
        yield
        state = "done"
    except (KeyboardInterrupt, SystemExit, RunInterruptedError):
        state = "stopped"
        raise
    finally:
        poller.end(state)


def tracked_members(hyperparameters: Hyperparameters) -> list[TrackedRun]:
    """List the runs of a training: itself, and the members of an ensemble."""
    parent = TrackedRun("", hyperparameters.to_flags())
    members = hyperparameters.split_into_members()
    if len(members) == 1:
        return [parent]
    folders = list_member_folders(Path(), len(members))
    return [parent] + [
        TrackedRun(str(folder), member.to_flags())
        for folder, member in zip(folders, members, strict=True)
    ]


def _make_tracker(name: TrackerName, folder: Path, resumed: bool) -> Tracker:
    if name == "tensorboard":
        from lstmfcn.tracking.tensorboard import TensorBoard

        return TensorBoard(folder)
    from lstmfcn.tracking.mlflow import MLflow

    return MLflow(folder, resumed)


class _Snapshot(NamedTuple):
    """Everything there is to write about a training."""

    run: TrackedRun
    history: list[EpochMetrics]
    best: EpochMetrics | None


class _Sync:
    """Sends changes to a tracker, and retries while it does not answer."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.finished: set[str] = set()
        self.is_unavailable = False
        self._written: dict[str, tuple[State, int]] = {}
        self._pause, self._next = _FIRST_PAUSE_S, 0.0

    def send(self, snapshots: list[_Snapshot], last: bool) -> None:
        """Send what has changed since the last call; the last call does not wait out a pause."""
        if time.monotonic() < self._next and not last:
            return
        try:
            for snapshot in snapshots:
                self._write(snapshot)
        except TrackerUnavailableError as error:
            if not self.is_unavailable:
                logger.warning("%s; training continues, and missing data is sent later", error)
            self.is_unavailable = True
            self._next = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _MAX_PAUSE_S)
        else:
            if self.is_unavailable:
                logger.info("%s answers again", self.tracker.where)
            self.is_unavailable, self._pause = False, _FIRST_PAUSE_S

    def _write(self, snapshot: _Snapshot) -> None:
        run, history, best = snapshot
        progress = run.state, len(history)
        if self._written.get(run.name) == progress:
            return
        self.tracker.write(run, history, best)
        self._written[run.name] = progress
        if run.state != "running":
            self.finished.add(run.name)


class _Poller:
    """Polls the metrics files in a thread, and sends their content to the trackers."""

    def __init__(self, folder: Path, syncs: list[_Sync], runs: Runs) -> None:
        self._folder, self._syncs, self._runs = folder, syncs, runs
        self._ended: State | None = None
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._histories: dict[str, tuple[_Version, list[EpochMetrics]]] = {}

    def start(self) -> None:
        for sync in self._syncs:
            logger.info("tracked by %s: %s", sync.tracker.name, sync.tracker.where)
        self._thread.start()

    def end(self, state: State) -> None:
        """Send the rest and stop; after an interruption, wait only briefly for the trackers."""
        self._ended = state
        self._finished.set()
        self._thread.join(_SECONDS_TO_STOP if state == "stopped" else None)
        for sync in self._syncs:
            if sync.is_unavailable or self._thread.is_alive():
                logger.warning(
                    "%s: tracking is incomplete; the same command with --resume sends the rest",
                    sync.tracker.name,
                )

    def _poll(self) -> None:
        last = False
        while not last:
            last = self._finished.wait(_POLL_INTERVAL_S)
            snapshots = self._take_snapshots()
            for sync in self._syncs:
                sync.send(snapshots, last)

    def _take_snapshots(self) -> list[_Snapshot]:
        """Snapshot the trainings to write; empty until one of them has something to write."""
        parent, *children = self._runs()
        finished = set.intersection(*(sync.finished for sync in self._syncs))
        for name in finished:
            self._histories.pop(name, None)
        snapshots = [
            snapshot
            for child in children
            if child.name not in finished
            and ((snapshot := self._take_snapshot(child)).history or child.state != "running")
        ]
        first = self._take_snapshot(parent)
        has_started = snapshots or finished or first.history or first.best
        return [first, *snapshots] if has_started else []

    def _take_snapshot(self, run: TrackedRun) -> _Snapshot:
        """Snapshot a training; if it still runs when tracking ends, it ends like the parent run."""
        if self._ended and run.state == "running":
            run = replace(run, state=self._ended)
        best = None
        model = self._folder / run.name / MODEL
        if run.state in _WITH_MODEL and model.exists():
            from lstmfcn.model.artifact import Artifact  # imports PyTorch

            with suppress(ModelError):  # reported where the model is used
                best = Artifact.load(model).metrics
        return _Snapshot(run, self._read_history(run.name), best)

    def _read_history(self, name: str) -> list[EpochMetrics]:
        path = self._folder / name / METRICS
        if not path.exists():
            return []
        status = path.stat()
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        cached = self._histories.get(name)
        if cached is None or cached[0] != version:
            cached = self._histories[name] = version, read_metrics(path)
        return cached[1]
