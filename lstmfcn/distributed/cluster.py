"""Connect to Ray: to the cluster of RAY_ADDRESS, or to one that this process starts.

Where one process is enough, Ray is not started: `this_process` stands in for the cluster.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path

import grpc
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmfcn.console import pluralize, print_status
from lstmfcn.distributed.capacity import alive_nodes, nodes
from lstmfcn.distributed.failures import reporting_ray_errors
from lstmfcn.distributed.own_ray import init_ray, own_ray
from lstmfcn.errors import OutputError, ResourceError
from lstmfcn.storage.files import make_folder, refusing_write_errors
from lstmfcn.storage.shadows import refuse_shadows

ENVIRONMENT = {
    # how often Ray Train checks its workers, and so how soon it notices that one has ended
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # paths of users are relative to their current folder
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # workers without a GPU keep their view of the devices (the default of a coming Ray)
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""What Ray reads from the environment of this process."""

TRAINING_ENVIRONMENT = {
    # glibc keeps freed memory for the next allocation. By default it gives large blocks back to the
    # system, which clears them before it hands them out again: the tensors of every step are such
    # blocks. This makes the paper's network train 1.1 to 1.2 times as fast; its peak grows by 3%.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_ARENA_MAX": "1",  # other arenas consist of 64 MB blocks, given back one by one
}
"""The environment of processes that compute on CPUs."""

_MALLOPT_PARAMETERS = {
    "MALLOC_MMAP_THRESHOLD_": -3,
    "MALLOC_TRIM_THRESHOLD_": -1,
    "MALLOC_ARENA_MAX": -8,
}
"""The parameters of mallopt(3) for `TRAINING_ENVIRONMENT`, from glibc's malloc.h."""

_SHOWS_TRAININGS = "RAY_TRAIN_ENABLE_STATE_TRACKING"
"""As `ray.train.constants` has it, whose import takes a second."""

_TIMEOUT_S = 5.0
_GET_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""The call with which each process of Ray begins (src/ray/protobuf/gcs_service.proto)."""
_TOKEN_ADVICE = (
    "put the cluster's token in ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH to its file"
)

logger = logging.getLogger(__name__)


def has_cluster() -> bool:
    """Whether this process is connected to Ray already, or RAY_ADDRESS names a cluster."""
    return ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def this_process() -> Iterator[bool]:
    """Compute in this process inside this block; Ray is not started.

    Yields:
        False: nothing stays after the block.
    """
    prepare_environment()
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # Linux has it, with glibc
        for name, value in TRAINING_ENVIRONMENT.items():
            mallopt(_MALLOPT_PARAMETERS[name], int(value))
    yield False


@contextmanager
def ray_runtime(meanwhile: str | None = None) -> Iterator[bool]:
    """Use Ray inside this block.

    A Ray that this process uses already stays as it is; one that is started here is shut down.

    Args:
        meanwhile: a module to import while Ray starts, which is mostly waiting.

    Yields:
        Whether Ray stays after the block, with all processes that still run in it.

    Raises:
        ResourceError: the cluster of RAY_ADDRESS does not answer or refuses the token, Ray does not
            start on this machine, or a process or machine of the cluster was lost.
        UserError: the current folder holds a file that workers would import instead of a package.
    """
    prepare_environment()
    address = os.environ.get("RAY_ADDRESS")
    if address and not ray.is_initialized():
        check_address(address)
    with _importing(meanwhile), reporting_ray_errors():
        if ray.is_initialized():
            yield True
            return
        refuse_shadows(Path.cwd())
        started = time.perf_counter()
        with ExitStack() as connection:
            with print_status(f"connecting to Ray at {address}" if address else "starting Ray"):
                connection.enter_context(_connected(address) if address else own_ray())
            cpus = sum(node.cpus for node in nodes())
            seconds = time.perf_counter() - started
            logger.info("Ray is up: %s, %.1f s", pluralize(cpus, "CPU"), seconds)
            yield False


def prepare_environment() -> None:
    """Set what Ray reads from the environment; variables that the user has set stay."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def _importing(module: str | None) -> Iterator[None]:
    """Import a module in a thread beside this block, and wait for it at the end.

    A process that ends during an import would report an error in it, or wait forever for the lock.
    """
    if module is None:
        yield
        return
    thread = threading.Thread(target=import_module, args=(module,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def _connected(address: str) -> Iterator[None]:
    try:
        if init_ray():  # its Train page shows the training
            os.environ.setdefault(_SHOWS_TRAININGS, "1")
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(address, str(error).splitlines()[0]) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Check within seconds that a cluster answers at this address and accepts the token.

    Raises:
        ResourceError: no cluster answers there, or it needs a token that Ray does not send.
    """
    if address.startswith("ray://"):
        raise ResourceError(
            f"RAY_ADDRESS={address}: Ray Client is not supported; use the cluster's own address, "
            "or run the command there with ray job submit"
        )
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return  # "auto" and "local", which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=_TIMEOUT_S).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or "timed out") from error
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        _ask_cluster(address)


def _ask_cluster(address: str) -> None:
    """Make Ray's first call by hand, because `ray.init` waits for minutes before it fails.

    An answer that this does not know is left to `ray.init`.

    Raises:
        ResourceError: no cluster answers there, or it refuses the token.
    """
    token = _find_token()
    sends_token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    if sends_token and not token:
        raise _token_error(address, f"no auth token found; {_TOKEN_ADVICE}")
    metadata = [("authorization", f"Bearer {token}")] if sends_token else []
    try:
        with grpc.insecure_channel(address) as channel:
            channel.unary_unary(_GET_CLUSTER_ID)(b"", timeout=_TIMEOUT_S, metadata=metadata)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise _token_error(address, _refusal_reason()) from error
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
            raise _no_cluster(address, "the port is not that of a Ray head node") from error


def _find_token() -> str:
    """The token that Ray sends, from the places that its documentation names; "" without one."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    with suppress(OSError, RuntimeError):
        path = Path(named) if named else Path.home() / ".ray" / "auth_token"
        return path.read_text(encoding="ascii").strip()
    return ""


def _no_cluster(address: str | None, reason: str) -> ResourceError:
    """The error for an address where no cluster answers."""
    return ResourceError(
        f"RAY_ADDRESS={address}: no Ray cluster answers ({reason}); correct RAY_ADDRESS or unset it"
    )


def _token_error(address: str, reason: str) -> ResourceError:
    return ResourceError(f"RAY_ADDRESS={address}: {reason}")


def _refusal_reason() -> str:
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return f"the cluster refused the auth token; {_TOKEN_ADVICE}"
    return (
        "the cluster needs its auth token, which Ray sends in token mode only; run "
        "export RAY_AUTH_MODE=token"
    )


@contextmanager
def silence_logger(name: str) -> Iterator[None]:
    """Silence the logger of this name inside this block.

    It is for loggers of Ray whose messages repeat ours, or are wrong here. A Ray that this package
    starts logs errors only; one that the user started may log more.
    """
    silenced = logging.getLogger(name)
    level = silenced.level
    silenced.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        silenced.setLevel(level)


def require_shared_storage(folder: Path) -> None:
    """Check that every machine of the cluster sees a folder to which all of them write.

    Args:
        folder: is made if it does not exist.

    Raises:
        OutputError: names the machines that do not see it.
    """
    if not ray.is_initialized():
        return
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in alive_nodes() if node["NodeID"] != here]
    if not others:
        return
    marker = folder / f".seen-by-all-{uuid.uuid4().hex[:8]}"
    try:
        with refusing_write_errors(folder):
            make_folder(folder)
            marker.touch()
        exists = ray.remote(num_cpus=0)(_exists)
        with reporting_ray_errors("a machine of the cluster"):
            tasks = [
                exists.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(marker)
                for node in others
            ]
            answers = ray.get(tasks)
    finally:
        marker.unlink(missing_ok=True)
    without = [
        node["NodeManagerAddress"] for node, sees in zip(others, answers, strict=True) if not sees
    ]
    if without:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
        raise OutputError(
            f"{folder}: does not exist on {', '.join(sorted(without))}; "
            "name an --output on storage that all machines of the cluster share"
        )


def _exists(path: Path) -> bool:
    return path.exists()
