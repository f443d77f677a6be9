"""Bring new models into a replica; refused ones are tried again, and those before them stay."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from lstmfcn.errors import ModelError
from serve_app.models import Models

logger = logging.getLogger("ray.serve")

_AGAIN_S = 10.0


class Takeover:
    """What a replica is asked to serve, and how far it is with that.

    A new replica would meet the same fault, of the model or of the machine, and have no model: in
    the end nothing would answer. So a replica goes on with the model before, and reads the
    directory again and again.

    Args:
        models: what answers.
        again_s: between two tries.
    """

    def __init__(self, models: Models, again_s: float = _AGAIN_S) -> None:
        self._models, self._again_s = models, again_s
        self._trying: asyncio.Task[None] | None = None

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
            return False
        return True
