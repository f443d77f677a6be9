"""Connect to Ray: the cluster of RAY_ADDRESS or a local one; and what its machines have."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmfcn.console import pluralize, print_status
from lstmfcn.distributed.losses import reporting_losses
from lstmfcn.distributed.own_ray import init_ray, own_ray
from lstmfcn.errors import OutputError, ResourceError
from lstmfcn.storage.shadows import refuse_shadows

_TIMEOUT_S = 5.0
_OWN = "write its own to ~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH"


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


def check_address(address: str) -> None:
    """Ask the cluster at this address who it is.

    Raises:
        ResourceError: no cluster answers there, or it wants a token that Ray does not show.
    """
    if address.startswith("ray://"):
        raise ResourceError(
            f"RAY_ADDRESS={address}: Ray Client is not supported; give the cluster's own address, "
            "or run there with ray job submit"
        )
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return  # "auto" and "local", which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=_TIMEOUT_S).close()
    except OSError as error:
        raise no_cluster(address, error.strerror or "timed out") from error
    try:
        with init_grpc_channel(address) as channel:
            NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=_TIMEOUT_S)
    except ray.exceptions.AuthenticationError as error:
        raise _no_entry(address, f"no token was found to show to the cluster; {_OWN}") from error
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise _no_entry(address, _refusal_reason()) from error
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
            raise no_cluster(address, "what listens there is not the head of one") from error


def no_cluster(address: str | None, reason: str) -> ResourceError:
    """That nothing is there, and why."""
    return ResourceError(
        f"RAY_ADDRESS={address}: no cluster answers ({reason}); correct it or unset it"
    )


def _no_entry(address: str, reason: str) -> ResourceError:
    return ResourceError(f"RAY_ADDRESS={address}: {reason}")


def _refusal_reason() -> str:
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return f"the cluster's token is another than the one found; {_OWN}"
    return (
        "the cluster wants its token, which Ray shows to an address only if told to; "
        "export RAY_AUTH_MODE=token"
    )


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
        check_address(address)
    with _importing(meanwhile), reporting_losses():
        if ray.is_initialized():
            yield True
            return
        refuse_shadows(Path.cwd())
        started = time.perf_counter()
        with ExitStack() as connected:
            with print_status(f"connecting to Ray at {address}" if address else "starting Ray"):
                connected.enter_context(_connected(address) if address else own_ray())
            cpus = sum(node.cpus for node in nodes())
            seconds = time.perf_counter() - started
            logger.info("Ray is up: %s, %.1f s", pluralize(cpus, "CPU"), seconds)
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
def silence_logger(name: str) -> Iterator[None]:
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
    return [_node(node["Resources"]) for node in alive_nodes()]


def free_nodes() -> list[Node]:
    """What is free of the machines of the cluster.

    What has just ended frees its CPUs within a moment, which is waited for.
    """
    started = time.monotonic()
    while True:
        whole = {node["NodeID"]: _node(node["Resources"]) for node in alive_nodes()}
        free = ray._private.state.available_resources_per_node()
        machines = [_node(has) for node_id, has in free.items() if node_id in whole]
        all_free = sum(n.cpus for n in machines) == sum(n.cpus for n in whole.values())
        if all_free or time.monotonic() - started > _MOMENT_S:
            return machines
        time.sleep(0.1)


def _node(has: Mapping[str, float]) -> Node:
    return Node(
        int(has.get("CPU", 0)), int(has.get("GPU", 0)), int(has.get("object_store_memory", 0))
    )


def alive_nodes() -> list[dict[str, Any]]:
    """The machines that Ray counts on, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def capacity(machines: list[Node], cpus: int, gpus: int = 0) -> int:
    """How many workers of so many CPUs and GPUs the machines hold at once."""
    return sum(
        min(node.cpus // cpus, node.gpus // gpus if gpus else node.cpus) for node in machines
    )


def max_cpus_per_worker(machines: list[Node], num_workers: int, gpus: int = 0) -> int:
    """The most CPUs that each of so many workers can have; at least 1."""
    most = max((node.cpus for node in machines), default=1)
    fitting = (cpus for cpus in range(most, 1, -1) if capacity(machines, cpus, gpus) >= num_workers)
    return next(fitting, 1)


def autoscaler_can_reach(cpus: int, gpus: int) -> bool:
    """Whether the cluster's autoscaler may start machines up to so many CPUs and GPUs in all."""
    most = ray._private.state.state.get_max_resources_from_cluster_config()
    return most is not None and most.get("CPU", 0) >= cpus and most.get("GPU", 0) >= gpus


def require_shared_storage(folder: Path) -> None:
    """Refuse a folder that not every machine of the cluster sees.

    Args:
        folder: exists on this machine.

    Raises:
        OutputError: names the machines that do not see it.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in alive_nodes() if node["NodeID"] != here]
    if not others:
        return
    marker = folder / f".seen-by-all-{uuid.uuid4().hex[:8]}"
    try:
        marker.touch()
        sees = ray.remote(num_cpus=0)(_can_see)
        with reporting_losses("a machine of the cluster"):
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


def _can_see(marker: Path) -> bool:
    return marker.exists()
