"""Connect to Ray: the cluster that RAY_ADDRESS names, the one in use, or a local one of our own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import ray

from lstmfcn.counts import number
from lstmfcn.distributed.address import no_cluster, refuse_dead
from lstmfcn.distributed.losses import telling_losses
from lstmfcn.distributed.own_ray import init_ray, own_ray
from lstmfcn.shadows import refuse_shadows
from lstmfcn.terminal import stage

ENVIRONMENT = {
    # Ray Train looks after its workers once in this many seconds, and so notices their end
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # what it watches for, machines about to be taken away, ends as any lost machine does
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # its controller, in our process, would set up what Python logs there anew
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    # paths that users give are relative to where they stand
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # workers without a GPU keep their view of the devices (the default from a coming Ray on)
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

TRAINING_ENVIRONMENT = {
    # glibc keeps what is freed for what is allocated next. By default it gives large pieces back to
    # the system, which clears them when it hands them out again: the tensors of every step are such
    # pieces. The paper's net trains 1.1 to 1.2 times as fast so; its peak grows by 3%.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_ARENA_MAX": "1",  # the others consist of pieces of 64 MB, given back one by one
}
"""Of processes that train on CPUs."""

_MOMENT_S = 3.0
"""In which Ray hears that a process has ended and its CPUs are free."""

logger = logging.getLogger(__name__)


@contextmanager
def ray_runtime(meanwhile: str | None = None) -> Iterator[bool]:
    """Use Ray inside this block; a Ray that was there before stays, one of our own is shut down.

    Args:
        meanwhile: a module to import while Ray starts, which for the most part is waiting.

    Yields:
        Whether Ray stays, with all that still runs in it.

    Raises:
        ResourceError: RAY_ADDRESS names a cluster that does not answer, or does not let us in; a
            Ray of our own does not start; a process or a machine of the cluster was lost.
        UserError: the current folder holds a file that workers would import for a package.
    """
    prepare_environment()
    address = os.environ.get("RAY_ADDRESS")
    if address and not ray.is_initialized():
        refuse_dead(address)
    with _importing(meanwhile), telling_losses():
        if ray.is_initialized():
            yield True
            return
        refuse_shadows(Path.cwd())
        started = time.perf_counter()
        with ExitStack() as connected:
            with stage(f"connecting to Ray at {address}" if address else "starting Ray"):
                connected.enter_context(_connected(address) if address else own_ray())
            cpus = sum(node.cpus for node in nodes())
            seconds = time.perf_counter() - started
            logger.info("Ray is up: %s, %.1f s", number(cpus, "CPU"), seconds)
            yield False


@contextmanager
def _importing(module: str | None) -> Iterator[None]:
    """Import a module beside this block.

    A process that ended amid an import would tell of an error in it, or wait forever for the lock.
    """
    if module is None:
        yield
        return
    importing = threading.Thread(target=import_module, args=(module,), daemon=True)
    importing.start()
    try:
        yield
    finally:
        importing.join()


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Inside this block the logger of that name is silent.

    For Ray's loggers, where what they tell is told by us, or is not so. Ray of our own starting
    logs nothing below errors; one that the user started may.
    """
    console = logging.getLogger(name)
    level = console.level
    console.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        console.setLevel(level)


@contextmanager
def _connected(address: str) -> Iterator[None]:
    try:
        init_ray()
    except (ConnectionError, ValueError) as error:
        raise no_cluster(address, str(error).splitlines()[0]) from error
    try:
        yield
    finally:
        ray.shutdown()


def prepare_environment() -> None:
    """Set what Ray reads from the environment; a value that is there already stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


class Node(NamedTuple):
    """What one machine of the cluster has."""

    cpus: int
    gpus: int
    object_store_bytes: int = 0


def nodes() -> list[Node]:
    """The machines of the cluster."""
    return [_node(node["Resources"]) for node in living_nodes()]


def free_nodes() -> list[Node]:
    """What is free of the machines of the cluster.

    What has just ended frees its CPUs within a moment, which is waited for.
    """
    started = time.monotonic()
    while True:
        whole = {node["NodeID"]: _node(node["Resources"]) for node in living_nodes()}
        free = ray._private.state.available_resources_per_node()
        there = [_node(has) for node_id, has in free.items() if node_id in whole]
        all_free = sum(n.cpus for n in there) == sum(n.cpus for n in whole.values())
        if all_free or time.monotonic() - started > _MOMENT_S:
            return there
        time.sleep(0.1)


def _node(has: Mapping[str, float]) -> Node:
    return Node(
        int(has.get("CPU", 0)), int(has.get("GPU", 0)), int(has.get("object_store_memory", 0))
    )


def living_nodes() -> list[dict[str, Any]]:
    """The machines that Ray counts on, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def places(there: list[Node], cpus: int, gpus: int = 0) -> int:
    """How many workers of so many CPUs and GPUs the machines hold at once."""
    return sum(min(node.cpus // cpus, node.gpus // gpus if gpus else node.cpus) for node in there)


def most_cpus_each(there: list[Node], num_workers: int, gpus: int = 0) -> int:
    """The most CPUs that each of so many workers can have; at least 1."""
    most = max((node.cpus for node in there), default=1)
    fitting = (cpus for cpus in range(most, 1, -1) if places(there, cpus, gpus) >= num_workers)
    return next(fitting, 1)


def may_grow_to(cpus: int, gpus: int) -> bool:
    """Whether the cluster's autoscaler may start machines up to so many CPUs and GPUs in all."""
    most = ray._private.state.state.get_max_resources_from_cluster_config()
    return most is not None and most.get("CPU", 0) >= cpus and most.get("GPU", 0) >= gpus
