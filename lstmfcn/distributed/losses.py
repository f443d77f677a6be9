"""Processes and machines that are lost: why, in a few words, and how often before it is enough."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from ray import exceptions

from lstmfcn.checkpoints import newest_position
from lstmfcn.errors import LstmfcnError, ResourceError

LOST = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
    exceptions.TaskUnschedulableError,
    exceptions.ActorUnschedulableError,
)
"""What Ray raises where a process or a machine ended that had something to do, or to give."""

MACHINE_GONE = "its machine is gone"
_REASONS = {
    "running low on memory": "Ray ended it, because its machine ran low on memory",
    "node has died": MACHINE_GONE,
    "startup timed out": "the cluster has no room for all of them",
    "health check hangs": "it does not answer",
    "": "its process was killed or crashed",
}
"""What to say, by a part of Ray's own long text; the first that fits."""

_FULL = {
    exceptions.OutOfDiskError: "the disk of Ray's temporary folder is full; make room there, or "
    "set RAY_TMPDIR to a folder with more",
    exceptions.ObjectStoreFullError: "Ray's object store is full; lower --memory-gb",
}

AGAIN = "run the command again; train and tune go on with --resume"

_LOSSES_WITHOUT_PROGRESS = 3

logger = logging.getLogger(__name__)


@contextmanager
def telling_losses(who: str = "a process of Ray", advice: str = AGAIN) -> Iterator[None]:
    """Inside this block what Ray raises is told in a line; bugs keep their traceback.

    Args:
        who: had something to do here.
        advice: what to do where it was lost.

    Raises:
        LstmfcnError: what another process raised.
        ResourceError: a process or a machine was lost, or something is full.
    """
    try:
        yield
    except exceptions.RayError as error:
        raise own_error(error) or _loss(error, who, advice) or error from None


def _loss(error: exceptions.RayError, who: str, advice: str) -> ResourceError | None:
    if isinstance(error, exceptions.RayActorError) and error.actor_init_failed:
        return None  # a bug
    for kind, text in _FULL.items():
        if isinstance(error, kind):
            return ResourceError(text)
    if isinstance(error, LOST):
        return ResourceError(f"{who} was lost ({reason_of_loss([str(error)])}); {advice}")
    return None


def own_error(error: BaseException) -> LstmfcnError | None:
    """The error of ours that another process raised, out of what Ray wrapped around it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, LstmfcnError):
            return cast(LstmfcnError, getattr(seen, "cause", seen))
        inner = list(getattr(seen, "worker_failures", {}).values())
        for failure in inner:
            if found := own_error(failure):
                return found
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def reason_of_loss(told: list[str]) -> str:
    """Why a process ended, by Ray's own long texts."""
    return next((why for sign, why in _REASONS.items() if any(sign in text for text in told)), "")


class Losses:
    """Counts losses at one and the same checkpoint.

    Args:
        checkpoints: of the training that goes on from them.
        once: who was lost, to tell of one loss: ``a worker was``.
        often: the same, to tell of several.
        tell: is told of each.
    """

    def __init__(
        self, checkpoints: Path, once: str, often: str, tell: Callable[[str], None] = logger.info
    ) -> None:
        self._checkpoints, self._once, self._often, self._tell = checkpoints, once, often, tell
        self._count, self._before = 0, newest_position(checkpoints, tell)

    def count(self, reason: str) -> None:
        """One more.

        Raises:
            ResourceError: it is the third without progress.
        """
        now = newest_position(self._checkpoints, self._tell)
        self._count = self._count + 1 if now == self._before else 1
        self._before = now
        if self._count == _LOSSES_WITHOUT_PROGRESS:
            raise ResourceError(
                f"{self._often} lost {self._count} times without progress, the last time because: "
                f"{reason}; if memory is short, lower --batch-size, --memory-gb or the net's "
                "sizes; go on with --resume"
            )
        self._tell(f"{self._once} lost ({reason}); starting again from {now}")
