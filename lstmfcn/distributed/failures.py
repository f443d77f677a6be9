"""Turn Ray's errors into one-line errors, and limit how often lost workers are restarted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from ray import exceptions
from ray.util.metrics import Counter

from lstmfcn.errors import LstmfcnError, ResourceError
from lstmfcn.training.checkpoints import Position

_KEEPER_LOST = "the process that writes the output was lost"


class LostKeeperError(Exception):
    """A worker cannot write any more: the keeper was lost, or the training began again."""

    def __str__(self) -> str:
        return _KEEPER_LOST


LOST = (
    LostKeeperError,
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
    exceptions.TaskUnschedulableError,
    exceptions.ActorUnschedulableError,
)
"""What is raised when a process or a machine ended before it had done its work."""

MACHINE_GONE = "its machine is gone"
NO_ROOM = "the cluster has no room for all workers"
_REASONS = {
    "running low on memory": "Ray ended it, because its machine ran low on memory",
    "node has died": MACHINE_GONE,
    "startup timed out": NO_ROOM,
    "health check hangs": "it does not answer",
    _KEEPER_LOST: _KEEPER_LOST,
}
"""A short reason for each phrase in Ray's long messages; the first phrase found decides."""

_FULL = {
    exceptions.OutOfDiskError: "the disk with Ray's temporary folder is full; free some space, or "
    "set RAY_TMPDIR to a folder on a larger disk",
    exceptions.ObjectStoreFullError: "Ray's object store is full; lower --memory-gb",
}

_RUN_AGAIN = "run the command again; train and tune continue with --resume"

_MAX_LOSSES_WITHOUT_PROGRESS = 3

E = TypeVar("E", bound=BaseException)

logger = logging.getLogger(__name__)


@contextmanager
def reporting_ray_errors(
    process: str = "a Ray process", advice: str = _RUN_AGAIN
) -> Iterator[None]:
    """Raise the errors of Ray inside this block as one-line errors; bugs keep their traceback.

    Args:
        process: which process does the work of this block, for the message.
        advice: what the user can do if that process is lost.

    Raises:
        LstmfcnError: another process raised it.
        ResourceError: a process or a machine was lost, or a disk or the object store is full.
    """
    try:
        yield
    except (exceptions.RayError, LostKeeperError) as error:
        short = unwrap_ray_error(error) or _resource_error(error, process, advice)
        raise short or error from None


def _resource_error(error: Exception, process: str, advice: str) -> ResourceError | None:
    if isinstance(error, exceptions.RayActorError) and error.actor_init_failed:
        return None  # a bug
    for kind, text in _FULL.items():
        if isinstance(error, kind):
            return ResourceError(text)
    if isinstance(error, LOST):
        return ResourceError(f"{process} was lost ({failure_reason([str(error)])}); {advice}")
    return None


def unwrap_ray_error(error: BaseException, kind: type[E] = LstmfcnError) -> E | None:  # type: ignore[assignment]
    """Find the error of ours that another process raised, inside the errors that Ray adds.

    Args:
        error: what Ray raised.
        kind: the class of ours.

    Returns:
        The error of ours; None if there is none.
    """
    layer: BaseException | None = error
    while layer is not None:
        if isinstance(layer, kind):
            return cast(E, getattr(layer, "cause", layer))
        for failure in getattr(layer, "worker_failures", {}).values():
            if ours := unwrap_ray_error(failure, kind):
                return ours
        layer = getattr(layer, "cause", None) or layer.__cause__
    return None


def failure_reason(messages: list[str]) -> str:
    """Say in a few words why a process ended, from Ray's long messages about it."""
    for phrase, reason in _REASONS.items():
        if any(phrase in message for message in messages):
            return reason
    return "its process was killed or crashed"


class RestartBudget:
    """Allows a lost worker to be restarted, but not for ever at the same checkpoint.

    Args:
        run: the name of the training, for the metrics of the cluster.
        worker: who may be lost, for the messages: ``a worker`` or ``member 3``.
    """

    def __init__(self, run: str, worker: str) -> None:
        self._worker = worker
        self._losses, self._position = 0, Position()
        self._restarts = Counter("lstmfcn_training_restarts", "Workers lost.", ("run",))
        self._restarts.set_default_tags({"run": run})

    def spend(self, reason: str, position: Position) -> None:
        """Count one loss, and log the position from which the training starts again.

        Raises:
            ResourceError: this was the third loss without a new checkpoint between them.
        """
        self._losses = self._losses + 1 if position == self._position else 1
        self._position = position
        if self._losses == _MAX_LOSSES_WITHOUT_PROGRESS:
            raise ResourceError(
                f"lost {self._worker} {self._losses} times without progress; the last reason: "
                f"{reason}; if memory is short, lower --batch-size, --memory-gb or the sizes of "
                "the network; then resume with --resume"
            )
        where = "from the start" if position == Position() else f"after {position}"
        logger.info("lost %s (%s); starting again %s", self._worker, reason, where)
        self._restarts.inc()
