"""The Ray Serve application; ``serve run`` and ``serve deploy`` import `build`.

``user_config`` holds the models, so that new models replace the present ones in place::

    user_config: {models: {default: /models/second}}
"""

# without "from __future__ import annotations": Serve reads the class of `build`'s argument

import logging
from collections.abc import Mapping
from typing import Any

import ray
import torch
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from starlette.types import ASGIApp

import lstmfcn
from lstmfcn.distributed.cluster import TRAINING_ENVIRONMENT
from lstmfcn.hyperparameters import InferencePrecision
from lstmfcn.inference.device import choose_device
from serve_app.access import read_token
from serve_app.endpoint import Endpoint, Limits
from serve_app.metrics import RayMetrics
from serve_app.models import MAX_LOADED_MODELS, MAX_QUEUED_ROWS, Models
from serve_app.takeover import Takeover

DEPLOYMENT = "endpoint"

_ACTOR_OPTIONS = {"num_cpus": 1, "runtime_env": {"env_vars": TRAINING_ENVIRONMENT}}

logger = logging.getLogger(__name__)


class Arguments(BaseModel):
    """The settings of a replica, apart from its models, which are in ``user_config``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: InferencePrecision = "fp32"
    use_gpu: bool = Field(
        False, description="Compute on a GPU, of which num_gpus gives each replica a share."
    )
    threads: int = Field(1, ge=1, description="CPU threads per replica.")
    max_body_bytes: int = Field(Limits.max_body_bytes, ge=1)
    max_rows: int = Field(Limits.max_rows, ge=1, description="Rows per request.")
    max_queued_rows: int = Field(
        MAX_QUEUED_ROWS, ge=1, description="Rows that may wait in a replica."
    )
    most_loaded: int = Field(MAX_LOADED_MODELS, ge=1, description="Models in a replica's memory.")
    request_timeout_s: float = Field(Limits.request_timeout_s, gt=0)
    body_timeout_s: float = Field(Limits.body_timeout_s, gt=0)
    max_bytes_in_flight: int = Field(
        Limits.max_bytes_in_flight,
        ge=1,
        description="Bytes of all bodies that a replica holds at a time.",
    )
    allow_hosts: tuple[str, ...] = Field((), description="Host names that requests may name.")
    allow_origins: tuple[str, ...] = Field(
        (), description="Origins of other web pages that may send requests."
    )
    token_file: str | None = Field(None, description="Clients send its content as Bearer token.")


def _replica_app() -> ASGIApp:
    """The app of the endpoint in this process; Serve calls this after a replica's constructor."""
    return Endpoint.in_this_process.app


@serve.deployment(
    name=DEPLOYMENT,
    max_ongoing_requests=4096,  # the batcher counts rows; this only bounds open connections
    health_check_period_s=2,
    health_check_timeout_s=10,
    graceful_shutdown_wait_loop_s=0.5,
    graceful_shutdown_timeout_s=35,
    ray_actor_options=_ACTOR_OPTIONS,
)
@serve.ingress(_replica_app)
class EndpointReplica:
    """One process of the endpoint."""

    def __init__(self, arguments: Arguments) -> None:
        torch.set_num_threads(arguments.threads)
        if arguments.use_gpu:
            choose_device("cuda")  # refuses a replica that has none, before it takes a model
        self._metrics = RayMetrics()
        self._models = Models(
            arguments.precision,
            arguments.max_queued_rows,
            arguments.most_loaded,
            self._metrics.computed,
            "cuda" if arguments.use_gpu else "cpu",
        )
        self._takeover = Takeover(self._models)
        token = read_token(arguments.token_file) if arguments.token_file else ""
        limits = Limits(
            arguments.max_body_bytes,
            arguments.max_rows,
            arguments.request_timeout_s,
            arguments.body_timeout_s,
            arguments.max_bytes_in_flight,
        )
        Endpoint.in_this_process = Endpoint(
            self._models,
            self._metrics,
            limits,
            token,
            arguments.allow_hosts,
            arguments.allow_origins,
        )

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Serve the models of a ``user_config``; if one is refused, keep the earlier models.

        Raises:
            ModelError: a model is refused, and there are no earlier models.
        """
        await self._takeover.switch_to(config["models"])

    async def check_health(self) -> None:
        """Check this replica, as Serve does every 2 s, and record which models it serves.

        Raises:
            RuntimeError: another replica should replace this one.
        """
        self._metrics.holds(self._models.states())
        self._takeover.refuse_unhealthy()


def build(arguments: Arguments) -> serve.Application:
    """The application without models: ``user_config`` names them."""
    return EndpointReplica.bind(arguments)  # type: ignore[attr-defined]  # by the decorator


def application(
    arguments: Arguments,
    models: Mapping[str, str],
    num_replicas: int,
    generation: int = 0,
    num_gpus: float = 0,
) -> serve.Application:
    """The application with models and replicas.

    Args:
        arguments: the settings of each replica.
        models: the model directory of each name.
        num_replicas: the number of replicas.
        generation: a number that has changed makes the replicas read the models again.
        num_gpus: the share of a GPU that each replica has.
    """
    options = {
        "num_replicas": num_replicas,
        "ray_actor_options": _ACTOR_OPTIONS | {"num_gpus": num_gpus},
        "user_config": {"models": dict(models), "generation": generation},
    }
    version = f"{lstmfcn.__version__} {arguments.model_dump_json()}"  # of all generations
    application: serve.Application = name_version(EndpointReplica, options, version).bind(arguments)
    return application


def name_version(deployment: Any, options: dict[str, Any], version: str) -> Any:
    """A deployment whose replicas stay when it is deployed again in this version.

    Ray Serve has no public call for it; tests/serving/test_versions.py fails where a version of Ray
    needs the fallback.

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
