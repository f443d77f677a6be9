"""Connect to Ray: the cluster that RAY_ADDRESS names, the one in use, or a local one of our own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import ray

from lstmfcn.errors import LstmfcnError, ResourceError

ENVIRONMENT = {
    # Ray Train looks after its workers once in this many seconds, and so notices their end
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # paths that users give are relative to where they stand
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # workers without a GPU keep their view of the devices (the default from a coming Ray on)
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

logger = logging.getLogger(__name__)


@contextmanager
def ray_runtime() -> Iterator[None]:
    """Use Ray inside this block; a Ray that was there before stays, one of our own is shut down.

    Raises:
        ResourceError: RAY_ADDRESS names a cluster that does not answer.
    """
    prepare_environment()
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    logger.info("connecting to Ray at %s", address) if address else logger.info("starting Ray")
    started = time.perf_counter()
    local = {} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**local, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ResourceError(f"RAY_ADDRESS={address}: no cluster answers ({reason})") from error
    cpus = int(cluster_resources().get("CPU", 0))
    logger.info("Ray is up: %d CPUs, %.1f s", cpus, time.perf_counter() - started)
    try:
        yield
    finally:
        ray.shutdown()


def prepare_environment() -> None:
    """Set what Ray reads from the environment; a value that is there already stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def cluster_resources() -> dict[str, float]:
    """CPUs, GPUs and the like of the whole cluster."""
    return cast(dict[str, float], ray.cluster_resources())


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
