"""Bring new models into a replica; while they are refused, retry them and keep the earlier ones."""

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

_RETRY_EVERY_S = 10.0
_UNHEALTHY_AFTER_S = 120.0

_LOAD = (
    "import sys; from lstmfcn.inference.predictor import Classifier; "
    "[Classifier.load(directory, device='cpu') for directory in sys.argv[1:]]"
)


def can_load_in_new_process(directories: Mapping[str, str]) -> bool:
    """Whether a new process can load the models, as a new replica would have to."""
    words = [sys.executable, "-c", _LOAD, *directories.values()]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


class Takeover:
    """Changes the models of a replica, and knows whether the replica is at fault if that fails.

    A replica that cannot load a model keeps serving the one before, and reads the directory again
    and again: usually a new replica would meet the same fault, and have no model at all. If a new
    process can load what this one cannot, this replica is at fault. It is then unhealthy, and Serve
    replaces it.

    Args:
        unhealthy_after_s: seconds of failed attempts before a new process tries to load the models,
            and between two such tries.
        can_load_elsewhere: whether a new process can load the models of these directories.
    """

    def __init__(
        self,
        models: Models,
        retry_every_s: float = _RETRY_EVERY_S,
        unhealthy_after_s: float = _UNHEALTHY_AFTER_S,
        can_load_elsewhere: Callable[[Mapping[str, str]], bool] = can_load_in_new_process,
    ) -> None:
        self._models, self._retry_every_s = models, retry_every_s
        self._unhealthy_after_s, self._can_load_elsewhere = unhealthy_after_s, can_load_elsewhere
        self._retrying: asyncio.Task[None] | None = None
        self._fault = ""

    async def switch_to(self, directories: Mapping[str, str]) -> None:
        """Serve these models now, or, if they are refused, as soon as they can be read.

        Raises:
            ModelError: they are refused, and the replica has no earlier models.
        """
        if self._retrying is not None:
            self._retrying.cancel()
            self._retrying = None
        self._fault = ""
        if await self._try_to_switch(directories) is None:
            return
        logger.error(
            "still serving the earlier models; trying the new ones again every %g s",
            self._retry_every_s,
        )
        self._retrying = asyncio.create_task(self._keep_trying(directories))

    def refuse_unhealthy(self) -> None:
        """Raise `RuntimeError`, for Serve, if another replica should replace this one."""
        if self._fault:
            raise RuntimeError(self._fault)

    async def _keep_trying(self, directories: Mapping[str, str]) -> None:
        next_check = time.monotonic() + self._unhealthy_after_s
        while True:
            await asyncio.sleep(self._retry_every_s)
            refusal = await self._try_to_switch(directories)
            if refusal is None:
                self._fault = ""
                logger.warning("now serving the new models")
                return
            # other columns: a new replica has no earlier model, and would accept them
            is_meant = isinstance(refusal, OtherColumnsError)
            if not is_meant and time.monotonic() > next_check:
                if await asyncio.to_thread(self._can_load_elsewhere, directories):
                    self._fault = "a new process can load the models that this replica cannot"
                next_check = time.monotonic() + self._unhealthy_after_s

    async def _try_to_switch(self, directories: Mapping[str, str]) -> ModelError | None:
        """Serve these models; returns why they are refused, if earlier ones are still served."""
        try:
            await self._models.replace(directories)
        except ModelError as error:  # the models have logged it
            if not self._models.names:
                raise
            return error
        return None
