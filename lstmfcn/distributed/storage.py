"""Whether all machines of the cluster see the same files."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmfcn.distributed.losses import telling_losses
from lstmfcn.distributed.runtime import living_nodes
from lstmfcn.errors import OutputError


def refuse_unshared(folder: Path) -> None:
    """Refuse a folder that not every machine of the cluster sees.

    Args:
        folder: exists on this machine.

    Raises:
        OutputError: names the machines that do not see it.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in living_nodes() if node["NodeID"] != here]
    if not others:
        return
    marker = folder / f".seen-by-all-{uuid.uuid4().hex[:8]}"
    try:
        marker.touch()
        sees = ray.remote(num_cpus=0)(_sees)
        with telling_losses("a machine of the cluster"):
            asked = [sees.options(scheduling_strategy=_on(node)).remote(marker) for node in others]
            seen = ray.get(asked)
    finally:
        marker.unlink(missing_ok=True)
    blind = [node["NodeManagerAddress"] for node, yes in zip(others, seen, strict=True) if not yes]
    if blind:
        raise OutputError(
            f"{folder}: is not there on {', '.join(sorted(blind))}; "
            "name an --output on storage that all machines of the cluster share"
        )


def _on(node: dict[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _sees(marker: Path) -> bool:
    return marker.exists()
