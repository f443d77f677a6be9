"""Bring new models into a replica; refused ones are tried again, and those before them stay."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from lstmfcn.errors import ModelError
from serve_app.models import Models, OtherColumnsError

logger = logging.getLogger("ray.serve")

_AGAIN_S = 10.0
_UNHEALTHY_AFTER_S = 120.0

_LOAD = "import sys; from lstmfcn.classifier import Classifier as C; [*map(C.load, sys.argv[1:])]"


def loads_in_a_new_process(directories: Mapping[str, str]) -> bool:
    """Whether a process that starts now can load models, as a new replica would have to."""
    words = [sys.executable, "-c", _LOAD, *directories.values()]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


class Takeover:
    """What a replica is asked to serve, and how far it is with that.

    A replica that cannot load a model goes on with the one before, and reads the directory again
    and again: mostly a new replica would meet the same fault, and have no model at all. Where a new
    process can load what this one cannot, this one is at fault. It then is unhealthy, and Serve
    puts another in its place.

    Args:
        models: what answers.
        again_s: between two tries.
        unhealthy_after_s: how long a replica tries before it asks whether a new process can load
            what it cannot; and between two such questions.
        loads_elsewhere: answers that.
    """

    def __init__(
        self,
        models: Models,
        again_s: float = _AGAIN_S,
        unhealthy_after_s: float = _UNHEALTHY_AFTER_S,
        loads_elsewhere: Callable[[Mapping[str, str]], bool] = loads_in_a_new_process,
    ) -> None:
        self._models, self._again_s = models, again_s
        self._unhealthy_after_s, self._loads_elsewhere = unhealthy_after_s, loads_elsewhere
        self._trying: asyncio.Task[None] | None = None
        self._fault = ""

    async def to(self, directories: Mapping[str, str]) -> None:
        """Serve these models, now or, where they are refused, as soon as they can be read.

        Raises:
            ModelError: they are refused, and there are none before them.
        """
        if self._trying is not None:
            self._trying.cancel()
            self._trying = None
        self._fault = ""
        if await self._try_to_serve(directories) is None:
            return
        logger.error("the models before stay; the new ones are tried every %g s", self._again_s)
        self._trying = asyncio.create_task(self._keep_trying(directories))

    def refuse_unhealthy(self) -> None:
        """Tell Serve where another replica should take this one's place.

        Raises:
            RuntimeError: a new process can load the models that this one cannot.
        """
        if self._fault:
            raise RuntimeError(self._fault)

    async def _keep_trying(self, directories: Mapping[str, str]) -> None:
        asks_at = time.monotonic() + self._unhealthy_after_s
        while True:
            await asyncio.sleep(self._again_s)
            refusal = await self._try_to_serve(directories)
            if refusal is None:
                self._fault = ""
                logger.warning("the new models are served now")
                return
            is_meant = isinstance(refusal, OtherColumnsError)  # a new replica would take it
            if not is_meant and time.monotonic() > asks_at:
                if await asyncio.to_thread(self._loads_elsewhere, directories):
                    self._fault = "a new process can load the models that this replica cannot"
                asks_at = time.monotonic() + self._unhealthy_after_s

    async def _try_to_serve(self, directories: Mapping[str, str]) -> ModelError | None:
        """Serve these models; returns why they are refused, where those before go on.

        Raises:
            ModelError: they are refused, and there are none before.
        """
        try:
            await self._models.replace(directories)
        except ModelError as error:  # which the models have logged
            if not self._models.names:
                raise
            return error
        return None
