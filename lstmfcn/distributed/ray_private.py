"""The two wishes for which Ray has no public call: each has a fallback, where Ray has changed.

tests/ray/test_ray_private.py fails where a version of Ray needs the fallback.
"""

from __future__ import annotations

import logging
from typing import Any

import ray

logger = logging.getLogger(__name__)


def find_autoscaler_limits() -> dict[str, float] | None:
    """What the machines that the cluster's autoscaler may start have together.

    Returns:
        The number of each resource; None where nothing is started automatically, or Ray does not
        tell.
    """
    try:
        state = ray._private.state.state  # noqa: SLF001, TID251
        limits: dict[str, float] | None = state.get_max_resources_from_cluster_config()
    except (AttributeError, ImportError):
        logger.warning(
            "Ray %s does not tell what its autoscaler may start: only machines that are up count",
            ray.__version__,
        )
        return None
    return limits


def name_version(deployment: Any, options: dict[str, Any], version: str) -> Any:
    """A deployment of Ray Serve whose replicas stay when it is deployed again in this version.

    Args:
        deployment: the decorated class.
        options: of the deployment.
        version: Serve starts new replicas where it differs from that of the running ones.

    Returns:
        The deployment with its options. Where Ray does not take a version, each deployment starts
        new replicas before it ends the old ones.
    """
    try:
        return deployment.options(**options, version=version, _internal=True)
    except (TypeError, ValueError):
        logger.warning(
            "Ray %s takes no version of a deployment: new models start new replicas",
            ray.__version__,
        )
        return deployment.options(**options)
