"""What machines have, what is free, and whether the cluster may start more of them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import ray

_DATA_SHARE_OF_MEMORY = 0.3
"""What Ray, too, sets aside for data on each machine."""

_OBJECT_STORE_SHARE = 0.5
"""The data set lies in the object store of each machine, beside what is being read."""

_NODE_GROUP, _FIXED_GROUP = "ray.io/node-group", "local.cluster.node"
"""Ray's label of a machine that ``ray up`` or KubeRay started, which names its kind; and the kind
of machines that ``ray up`` is given as a list of addresses."""

_CGROUP = Path("/sys/fs/cgroup")
"""The limits of a container, as its processes see them (cgroup v2)."""

_MAX_WAIT_FOR_FREE_CPUS_S = 3.0
"""Within this time Ray notices that a process has ended and its CPUs are free."""


class Node(NamedTuple):
    """What one machine of the cluster has."""

    cpus: int
    gpus: int
    object_store_bytes: int = 0


def nodes(leaving: Set[str] = frozenset()) -> list[Node]:
    """The machines of the cluster, with all that they have; without Ray, this machine.

    Args:
        leaving: ids of machines that will be taken away, and do not count.
    """
    if not ray.is_initialized():
        return [_this_machine()]
    there = (node for node in alive_nodes() if node["NodeID"] not in leaving)
    return [_make_node(node["Resources"]) for node in there]


def _this_machine() -> Node:
    import torch  # takes a second or two

    return Node(available_cpus(), torch.cuda.device_count(), _data_bytes_of_this_machine())


def _data_bytes_of_this_machine() -> int:
    """The part of this machine's memory that is for data."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(_DATA_SHARE_OF_MEMORY * min([memory, *_cgroup_numbers("memory.max")]))


def available_cpus() -> int:
    """How many CPUs this process may use: those of the machine, or of its container."""
    allowed = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        allowed.append(len(os.sched_getaffinity(0)))
    if len(quota := _cgroup_numbers("cpu.max")) == 2:  # microseconds of CPU in each period
        allowed.append(max(1, quota[0] // quota[1]))
    return min(allowed)


def _cgroup_numbers(name: str) -> list[int]:
    """The numbers in a file of this container's limits; no numbers if there is no limit."""
    try:
        return [int(word) for word in (_CGROUP / name).read_text().split() if word.isdigit()]
    except OSError:
        return []


def free_nodes() -> list[Node]:
    """The machines of the cluster, with what is free.

    Processes that have just ended free their CPUs within a moment, for which this waits. Ray tells
    how many CPUs are free, but not on which machines: each of them counts as a machine of its own
    if some are in use.
    """
    started = time.monotonic()
    while True:
        free, machines = int(ray.available_resources().get("CPU", 0)), nodes()
        if free == sum(node.cpus for node in machines):
            return machines
        if time.monotonic() - started > _MAX_WAIT_FOR_FREE_CPUS_S:
            return [Node(cpus=1, gpus=0)] * free
        time.sleep(0.1)


def _make_node(resources: Mapping[str, float]) -> Node:
    return Node(
        int(resources.get("CPU", 0)),
        int(resources.get("GPU", 0)),
        int(resources.get("object_store_memory", 0)),
    )


def alive_nodes() -> list[dict[str, Any]]:
    """The machines that Ray believes to be alive, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def capacity(machines: list[Node], cpus: int, gpus: int = 0) -> int:
    """How many workers with this many CPUs and GPUs the machines hold at once."""
    return sum(
        min(node.cpus // cpus, node.gpus // gpus if gpus else node.cpus) for node in machines
    )


def max_cpus_per_worker(machines: list[Node], num_workers: int, gpus: int = 0) -> int:
    """The most CPUs that each worker can have, if this many are to fit; at least 1."""
    most = max((node.cpus for node in machines), default=1)
    fitting = (cpus for cpus in range(most, 1, -1) if capacity(machines, cpus, gpus) >= num_workers)
    return next(fitting, 1)


def may_grow() -> bool:
    """Whether ``ray up`` or KubeRay looks after this cluster, and so may start more machines.

    Ray does not tell which machines these are, nor how many.
    """
    if not ray.is_initialized():
        return False
    groups = {node["Labels"].get(_NODE_GROUP) for node in alive_nodes()}
    return bool(groups - {None, "", _FIXED_GROUP})


def memory_bytes(memory_gb: float | None, machines: Sequence[Node] = ()) -> int:
    """How many bytes of rows are kept whole in memory; more are kept in blocks.

    Args:
        memory_gb: what the user allows; None for half of the smallest object store.
        machines: of the cluster; without them this machine counts.
    """
    if memory_gb is not None:
        return int(memory_gb * 1e9)
    stores = [node.object_store_bytes for node in machines] or [_data_bytes_of_this_machine()]
    return int(_OBJECT_STORE_SHARE * min(stores))
