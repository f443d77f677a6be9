"""After a loss: wait until Ray no longer counts on the machines that are gone."""

from __future__ import annotations

import socket
import time
from typing import Any

import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)

from lstmfcn.distributed.runtime import living_nodes

_CONNECT_TIMEOUT_S = 5.0
_NOTICE_TIMEOUT_S = 60.0
"""Ray takes 15 seconds to notice that a machine is gone, and longer where nothing comes back."""


def living_ids() -> set[str]:
    """The ids of the machines that Ray counts on."""
    return {node["NodeID"] for node in living_nodes()}


def await_lost_nodes(before: set[str]) -> bool:
    """Wait until Ray, too, knows of the machines that do not answer.

    It would else place workers there, and wait for them for a minute.

    Args:
        before: `living_ids` of a time when all was well.

    Returns:
        Whether any of those are gone.
    """
    silent = {node["NodeID"] for node in living_nodes() if not _answers(node)}
    deadline = time.monotonic() + _NOTICE_TIMEOUT_S
    while silent & living_ids() and time.monotonic() < deadline:
        time.sleep(0.2)
    # Ray Train asks this actor for room, which looks at the machines every 20 seconds only
    coordinator = get_or_create_autoscaling_coordinator()
    ray.get(coordinator.get_reserved_resources.remote("lstmfcn", recompute=True))
    return bool(before - living_ids() | silent)


def _answers(node: dict[str, Any]) -> bool:
    address = node["NodeManagerAddress"], node["NodeManagerPort"]
    try:
        socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
