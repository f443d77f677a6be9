"""Bring new models into a replica; refused ones are tried again, and those before them stay."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from lstmfcn.errors import ModelError
from serve_app.models import Models

logger = logging.getLogger("ray.serve")

_AGAIN_S = 10.0
_UNHEALTHY_AFTER_S = 120.0


class Takeover:
    """What a replica is asked to serve, and how far it is with that.

    A model's own fault would be met by a new replica as well, so that all would end up without a
    model: the replica goes on with the model before, and reads the directory again and again. What
    only this replica meets, such as memory that has run out, makes it unhealthy after a while;
    Serve then puts another in its place, which reads the models anew.

    Args:
        models: what answers.
        again_s: between two tries.
        unhealthy_after_s: of faults of this replica, from the first of them.
    """

    def __init__(
        self,
        models: Models,
        again_s: float = _AGAIN_S,
        unhealthy_after_s: float = _UNHEALTHY_AFTER_S,
    ) -> None:
        self._models, self._again_s = models, again_s
        self._unhealthy_after_s = unhealthy_after_s
        self._trying: asyncio.Task[None] | None = None
        self._failing_since: float | None = None
        self._failure = ""

    async def to(self, directories: Mapping[str, str]) -> None:
        """Serve these models, now or, where they are refused, as soon as they can be read.

        Raises:
            ModelError: they are refused, and there are none before them.
        """
        if self._trying is not None:
            self._trying.cancel()
            self._trying = None
        if await self._succeeds(directories):
            return
        logger.error("the models before stay; the new ones are tried every %g s", self._again_s)
        self._trying = asyncio.create_task(self._keep_trying(directories))

    def refuse_unhealthy(self) -> None:
        """Tell Serve where this replica, and not a model, is at fault.

        Raises:
            RuntimeError: it has been for a while.
        """
        if self._failing_since is None:
            return
        if time.monotonic() - self._failing_since > self._unhealthy_after_s:
            raise RuntimeError(f"this replica cannot load its models: {self._failure}")

    async def _keep_trying(self, directories: Mapping[str, str]) -> None:
        while True:
            await asyncio.sleep(self._again_s)
            if await self._succeeds(directories):
                logger.warning("the new models are served now")
                return

    async def _succeeds(self, directories: Mapping[str, str]) -> bool:
        try:
            await self._models.replace(directories)
        except ModelError:  # which the models have logged
            if not self._models.names:
                raise
            self._failing_since = None
            return False
        except (MemoryError, OSError) as error:
            if not self._models.names:
                raise
            if self._failing_since is None:
                logger.exception("the models could not be loaded")
                self._failing_since = time.monotonic()
            self._failure = repr(error)
            return False
        self._failing_since = None
        return True
