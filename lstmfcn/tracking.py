"""Tracking: what ``metrics.jsonl`` says goes on to TensorBoard or MLflow while a training runs.

A thread of the command looks at the metrics files; the training knows nothing of it, and is neither
slowed down nor ended by a tracker that does not answer.
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

from lstmfcn.errors import ModelError, StoppedError
from lstmfcn.hyperparameters import Hyperparameters, flag
from lstmfcn.metrics_file import EpochMetrics, read_metrics
from lstmfcn.records import TrackerName
from lstmfcn.run_folder import METRICS, MODEL, member_folders
from lstmfcn.sweep import Began, Trial, trial_folder
from lstmfcn.tracked import OutageError, State, Tracked, Tracker

_LOOK_EVERY_S = 1.0
_SECONDS_TO_STOP = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 60.0
"""After an outage; doubled by each that follows."""
_WITH_MODEL = ("done", "stopped early", "out of time")

logger = logging.getLogger(__name__)

Runs = Callable[[], Iterable[Tracked]]
"""All trainings so far, the whole first."""


@contextmanager
def tracking(
    names: Sequence[TrackerName], folder: Path, runs: Runs, *, resumed: bool
) -> Iterator[None]:
    """Track the trainings of a run inside this block, and how it ends.

    Args:
        names: of the trackers; none for no tracking.
        folder: of the run.
        runs: its trainings, as they stand.
        resumed: whether the run goes on; one that begins is refused where it cannot be tracked.

    Raises:
        TrackingError: a tracker cannot be used.
    """
    if not names:
        yield
        return
    feeds = [_Feed(_tracker(name, folder, resumed)) for name in dict.fromkeys(names)]
    follower = _Follower(folder, feeds, runs)
    state: State = "failed"
    follower.start()
    try:
        yield
        state = "done"
    except (KeyboardInterrupt, SystemExit, StoppedError):
        state = "stopped"
        raise
    finally:
        follower.end(state)


def members_tracked(hyperparameters: Hyperparameters) -> list[Tracked]:
    """A training, and the members of an ensemble."""
    whole = Tracked("", hyperparameters.flags())
    members = hyperparameters.of_members()
    if len(members) == 1:
        return [whole]
    folders = member_folders(Path(), len(members))
    return [whole] + [
        Tracked(str(folder), member.flags())
        for folder, member in zip(folders, members, strict=True)
    ]


def trials_tracked(fixed: Hyperparameters, events: Sequence[Began | Trial]) -> list[Tracked]:
    """A sweep, and its trials so far, of which some were asked for and some have ended."""
    flags = fixed.flags()
    runs = {"": Tracked("", flags)}
    for event in list(events):  # the sweep adds to them
        name = str(trial_folder(Path(), event.number))
        searched = {flag(field): value for field, value in event.hyperparameters.items()}
        runs[name] = Tracked(name, {**flags, **searched})
        if isinstance(event, Trial):
            runs[name] = replace(runs[name], state=event.status, reason=event.reason)
    return list(runs.values())


def _tracker(name: TrackerName, folder: Path, resumed: bool) -> Tracker:
    if name == "tensorboard":
        from lstmfcn.tensorboard_events import TensorBoard

        return TensorBoard(folder)
    from lstmfcn.mlflow_runs import MLflow

    return MLflow(folder, resumed)


_Version = tuple[int, int, int]
"""Of a file: its inode, its size, and when it was written."""


class _Page(NamedTuple):
    """All that there is to write of a training."""

    run: Tracked
    history: list[EpochMetrics]
    kept: EpochMetrics | None


class _Feed:
    """Passes on to a tracker what has changed, and bears with it while it does not answer."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.settled: set[str] = set()
        self.out = False
        self._written: dict[str, tuple[State, int]] = {}
        self._pause, self._next = _FIRST_PAUSE_S, 0.0

    def pass_on(self, pages: list[_Page], last: bool) -> None:
        """Write what has changed since the last look.

        Args:
            last: there will be no other look.
        """
        if time.monotonic() < self._next and not last:
            return
        try:
            for page in pages:
                self._write(page)
        except OutageError as error:
            if not self.out:
                logger.warning("%s; training goes on, and what is missing is sent later", error)
            self.out = True
            self._next = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
        else:
            if self.out:
                logger.info("%s answers again", self.tracker.where)
            self.out, self._pause = False, _FIRST_PAUSE_S

    def _write(self, page: _Page) -> None:
        run, history, kept = page
        standing = run.state, len(history)
        if self._written.get(run.name) == standing:
            return
        self.tracker.write(run, history, kept)
        self._written[run.name] = standing
        if run.state != "running":
            self.settled.add(run.name)


class _Follower:
    """Looks at the metrics files in a thread, and passes on what they say."""

    def __init__(self, folder: Path, feeds: list[_Feed], runs: Runs) -> None:
        self._folder, self._feeds, self._runs = folder, feeds, runs
        self._ended: State | None = None
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._histories: dict[str, tuple[_Version, list[EpochMetrics]]] = {}

    def start(self) -> None:
        for feed in self._feeds:
            logger.info("tracked by %s: %s", feed.tracker.name, feed.tracker.where)
        self._thread.start()

    def end(self, state: State) -> None:
        """Look once more; where the user waits for the end, not for long."""
        self._ended = state
        self._finished.set()
        self._thread.join(_SECONDS_TO_STOP if state == "stopped" else None)
        for feed in self._feeds:
            if feed.out or self._thread.is_alive():
                logger.warning(
                    "%s: not all is tracked; the same command with --resume sends the rest",
                    feed.tracker.name,
                )

    def _follow(self) -> None:
        last = False
        while not last:
            last = self._finished.wait(_LOOK_EVERY_S)
            pages = self._pages()
            for feed in self._feeds:
                feed.pass_on(pages, last)

    def _pages(self) -> list[_Page]:
        """What to write; of the whole, also as soon as there is something to write of a part."""
        whole, *parts = self._runs()
        settled = set.intersection(*(feed.settled for feed in self._feeds))
        for name in settled:
            self._histories.pop(name, None)
        pages = [
            page
            for part in parts
            if part.name not in settled
            and ((page := self._page(part)).history or part.state != "running")
        ]
        page = self._page(whole)
        begun = pages or settled or page.history or page.kept
        return [page, *pages] if begun else []

    def _page(self, run: Tracked) -> _Page:
        """A training that is neither done nor cut off by itself ends as the whole does."""
        if self._ended and run.state == "running":
            run = replace(run, state=self._ended)
        kept = None
        model = self._folder / run.name / MODEL
        if run.state in _WITH_MODEL and model.exists():
            from lstmfcn.artifact import Artifact  # imports PyTorch

            with suppress(ModelError):  # who needs the model tells what is wrong with it
                kept = Artifact.load(model).metrics
        return _Page(run, self._history(run.name), kept)

    def _history(self, name: str) -> list[EpochMetrics]:
        path = self._folder / name / METRICS
        if not path.exists():
            return []
        status = path.stat()
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._histories.get(name)
        if known is None or known[0] != version:
            known = self._histories[name] = version, read_metrics(path)
        return known[1]
