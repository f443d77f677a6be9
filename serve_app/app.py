"""The Serve application: `build` is what ``serve run`` and ``serve deploy`` import.

``user_config`` holds the models, so a new model takes over in place::

    user_config: {models: {default: /models/second}}
"""

# no "from __future__ import annotations": Serve reads from `build` what class its argument has

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from starlette.types import ASGIApp

import lstmfcn
from lstmfcn.distributed.runtime import TRAINING_ENVIRONMENT
from lstmfcn.hyperparameters import InferencePrecision
from serve_app.endpoint import Endpoint, Limits
from serve_app.metrics import RayMetrics
from serve_app.models import MAX_QUEUED_ROWS, MOST_LOADED, Models
from serve_app.takeover import Takeover
from serve_app.tokens import read_token

DEPLOYMENT = "endpoint"


class Arguments(BaseModel):
    """What a replica is made with; the models are not among it, but in ``user_config``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: InferencePrecision = "fp32"
    threads: int = Field(1, ge=1, description="CPU threads of a replica.")
    max_body_bytes: int = Field(Limits.max_body_bytes, ge=1)
    max_rows: int = Field(Limits.max_rows, ge=1, description="Rows of a request.")
    max_queued_rows: int = Field(MAX_QUEUED_ROWS, ge=1, description="Rows that wait in a replica.")
    most_loaded: int = Field(MOST_LOADED, ge=1, description="Models in a replica's memory.")
    request_timeout_s: float = Field(Limits.request_timeout_s, gt=0)
    body_timeout_s: float = Field(Limits.body_timeout_s, gt=0)
    max_bytes_in_flight: int = Field(
        Limits.max_bytes_in_flight, ge=1, description="Bodies in a replica's memory at a time."
    )
    allow_hosts: tuple[str, ...] = Field((), description="Names that clients may ask for.")
    allow_origins: tuple[str, ...] = Field((), description="Other pages that may ask.")
    token_file: str | None = Field(None, description="Clients send its content as Bearer token.")


@serve.deployment(
    name=DEPLOYMENT,
    max_ongoing_requests=4096,  # the batcher counts rows; this only bounds open connections
    health_check_period_s=2,
    health_check_timeout_s=10,
    graceful_shutdown_wait_loop_s=0.5,
    graceful_shutdown_timeout_s=35,
    ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": TRAINING_ENVIRONMENT}},
)
@serve.ingress()
class EndpointReplica:
    """One process of the endpoint."""

    def __init__(self, arguments: Arguments) -> None:
        torch.set_num_threads(arguments.threads)
        self._metrics = RayMetrics()
        self._models = Models(
            arguments.precision,
            arguments.max_queued_rows,
            arguments.most_loaded,
            self._metrics.computed,
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
        self._endpoint = Endpoint(
            self._models,
            self._metrics,
            limits,
            token,
            arguments.allow_hosts,
            arguments.allow_origins,
        )

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._endpoint.app

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Serve the models of a ``user_config``; where one is refused, those before stay.

        Raises:
            ModelError: one is refused, and there are none before.
        """
        await self._takeover.to(config["models"])

    async def check_health(self) -> None:
        """What Serve asks every 2 s; counts what this replica holds, too.

        Raises:
            RuntimeError: another replica should take this one's place.
        """
        self._metrics.holds(self._models.states())
        self._takeover.refuse_unhealthy()


def build(arguments: Arguments) -> serve.Application:
    """The application, without models: ``user_config`` brings them."""
    return EndpointReplica.bind(arguments)  # type: ignore[attr-defined]  # by the decorator


def application(
    arguments: Arguments, models: Mapping[str, str], num_replicas: int, generation: int = 0
) -> serve.Application:
    """The application with models, and as many replicas.

    Args:
        generation: another one than before makes the replicas read the models again.
    """
    options = {
        "num_replicas": num_replicas,
        "user_config": {"models": dict(models), "generation": generation},
        # the same for all generations, else Serve takes each for new code and starts new replicas
        "version": f"{lstmfcn.__version__} {arguments.model_dump_json()}",
    }
    deployment = EndpointReplica.options(**options, _internal=True)  # type: ignore[attr-defined]
    return deployment.bind(arguments)
