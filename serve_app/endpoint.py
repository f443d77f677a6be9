"""The HTTP application: routes, limits of a request, and answers to requests that are refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lstmfcn.data.table import FloatArray
from lstmfcn.errors import DataError
from lstmfcn.inference.explanation import Explanation
from serve_app.access import make_middleware
from serve_app.batching import Compute
from serve_app.body_limits import Bodies
from serve_app.codecs import (
    TYPES,
    ContentType,
    decode,
    encode,
    is_slow_to_decode,
    max_request_bytes,
    request_type,
    response_type,
)
from serve_app.errors import RequestError
from serve_app.explanations import (
    HEADER,
    PARAMETER,
    refuse_too_many_rows,
    unpack,
    wants_explanations,
)
from serve_app.models import LoadedModel, Models
from serve_app.openapi import describe_api
from serve_app.web import page_routes


@dataclass(frozen=True)
class Limits:
    """How much a request may hold and how long it may take.

    Attributes:
        max_body_bytes: bytes per request; fewer if ``max_rows`` series of the model need fewer.
        request_timeout_s: seconds from the whole body to the answer.
        body_timeout_s: seconds in which a body must arrive; each MiB that arrives adds one more.
        max_bytes_in_flight: bytes of all bodies that are held at a time.
    """

    max_body_bytes: int = 64 << 20
    max_rows: int = 10_000
    request_timeout_s: float = 30.0
    body_timeout_s: float = 30.0
    max_bytes_in_flight: int = 128 << 20


class Metrics(Protocol):
    """Counts requests."""

    def answered(self, endpoint: str, version: str, rows: int, seconds: float) -> None:
        """Count a request that was answered so many seconds after its whole body had come."""

    def refused(self, endpoint: str, status: int) -> None:
        """Count a request that was refused, by its HTTP status."""


class Endpoint:
    """The endpoint as an ASGI application, in ``app``.

    Args:
        token: what clients must send; empty for no token.
        allow_hosts: host names that requests may name, beside localhost and IP addresses.
        allow_origins: origins of other web pages that may send requests.

    Attributes:
        in_this_process: the one that a replica serves, which Serve asks for its app.
    """

    in_this_process: ClassVar[Endpoint]

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        limits: Limits = Limits(),
        token: str = "",
        allow_hosts: Sequence[str] = (),
        allow_origins: Sequence[str] = (),
    ) -> None:
        self._models, self._metrics, self._limits = models, metrics, limits
        self._needs_token = bool(token)
        self._bodies = Bodies(limits.max_bytes_in_flight, limits.body_timeout_s)
        self._one_slow_body = asyncio.Semaphore(1)
        self._routes = [
            Route("/invocations", self._invoke, methods=["POST"]),
            Route("/ping", self._ping, methods=["GET"]),
            Route("/model", self._describe, methods=["GET"]),
            Route("/endpoints", self._list, methods=["GET"]),
            Route("/endpoints/{name}/invocations", self._invoke, methods=["POST"]),
            Route("/endpoints/{name}/model", self._describe, methods=["GET"]),
            Route("/openapi.json", self._openapi, methods=["GET"]),
        ]
        self.app = Starlette(
            routes=[*self._routes, *page_routes()],
            middleware=make_middleware(
                token,
                allow_hosts,
                allow_origins,
                lambda status: metrics.refused(self._first_name, status),
            ),
            exception_handlers=dict.fromkeys(
                (DataError, RequestError, ClientDisconnect, HTTPException, Exception), self._refuse
            ),
        )

    async def _refuse(self, request: Request, error: Exception) -> Response:
        """Answer a refused request, and count it."""
        if isinstance(error, DataError):
            refusal = RequestError.from_data_error(error)
        elif isinstance(error, RequestError):
            refusal = error
        elif isinstance(error, ClientDisconnect):
            refusal = RequestError(400, "the body ended early")
        elif isinstance(error, HTTPException) and error.status_code == 404:
            paths = ", ".join(route.path for route in self._routes)
            refusal = RequestError(404, f"found no {request.url.path}; use one of {paths}")
        elif isinstance(error, HTTPException):
            headers = dict(error.headers or {})
            fix = f"; send {headers['Allow']}" if "Allow" in headers else ""
            refusal = RequestError(error.status_code, f"found {request.method}{fix}", headers)
        else:
            refusal = RequestError(500, "found a bug in the endpoint; see the server's log")
        self._metrics.refused(self._name(request), refusal.status)
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    @property
    def _first_name(self) -> str:
        return next(iter(self._models.names), "")

    def _name(self, request: Request) -> str:
        """The model that a request names; the first model if it names none."""
        name: str | None = request.path_params.get("name")
        if name is None:
            return self._first_name
        return name if name in self._models.names else "unknown"

    async def _model(self, request: Request) -> LoadedModel:
        return await self._models.get(request.path_params.get("name") or self._name(request))

    async def _invoke(self, request: Request) -> Response:
        kind = request_type(request.headers.get("content-type"))
        explains = wants_explanations(
            request.query_params.getlist(PARAMETER), request.headers.get(HEADER)
        )
        answer_type = response_type(request.headers.get("accept"), kind.name, explains)
        model = await self._model(request)
        classifier = model.classifier
        body = await self._bodies.receive(request, self._max_body_bytes(model))
        started = time.perf_counter()
        is_slow = is_slow_to_decode(body, classifier.schema)
        if is_slow:  # shielded: if the client leaves, the thread still runs and holds the body
            x = await asyncio.shield(self._decode_in_thread(model, kind, body))
        else:
            self._bodies.release(body)
            x = self._decode(model, kind, body)
        del body
        probabilities, explanation = await self._predict(model, x, explains)
        result = (answer_type, classifier, probabilities, explanation)
        if is_slow or explains:
            answer = await asyncio.to_thread(encode, *result)
        else:
            answer = encode(*result)
        self._metrics.answered(model.name, model.version, len(x), time.perf_counter() - started)
        headers = {
            "content-type": answer_type,  # without a charset, which SageMaker's SDK cannot read
            "x-amzn-invoked-production-variant": model.name,
            "x-model-version": model.version,
        }
        return Response(answer, 200, headers)

    def _max_body_bytes(self, model: LoadedModel) -> int:
        needed = max_request_bytes(model.classifier.schema, self._limits.max_rows)
        return min(self._limits.max_body_bytes, needed)

    def _decode(self, model: LoadedModel, kind: ContentType, body: bytes) -> FloatArray:
        """Decode and check the series of a body, float32 (N, V)."""
        classifier = model.classifier
        return classifier.validate_input(
            decode(kind, body, classifier.schema, self._limits.max_rows)
        )

    async def _decode_in_thread(
        self, model: LoadedModel, kind: ContentType, body: bytes
    ) -> FloatArray:
        """Decode in another thread, one body at a time: each takes many times its own memory."""
        try:
            async with self._one_slow_body:
                return await asyncio.to_thread(self._decode, model, kind, body)
        finally:
            self._bodies.release(body)

    async def _predict(
        self, model: LoadedModel, x: FloatArray, explains: bool
    ) -> tuple[FloatArray, Explanation | None]:
        """Compute probabilities (N, L), and their explanation if the request asks for it."""
        explanation = None
        if explains:
            refuse_too_many_rows(model.classifier, len(x))
            explanation = unpack(await self._compute(model, x, model.explain))
            probabilities = model.classifier.probabilities(explanation.logits)
        else:
            probabilities = await self._compute(model, x)
        model.classifier.refuse_overflow(probabilities)
        return probabilities, explanation

    async def _compute(
        self, model: LoadedModel, x: FloatArray, compute: Compute | None = None
    ) -> FloatArray:
        """Wait for the model's batcher, up to the time limit."""
        try:
            async with asyncio.timeout(self._limits.request_timeout_s):
                return await model.batcher.predict(x, compute)
        except TimeoutError as error:
            raise RequestError(
                503, "the answer took too long; try again", {"Retry-After": "1"}
            ) from error

    async def _ping(self, request: Request) -> Response:  # noqa: ARG002
        return Response(status_code=200 if self._models.names else 503)

    async def _list(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"endpoints": self._models.names})

    async def _describe(self, request: Request) -> Response:
        model = await self._model(request)
        artifact = model.classifier.artifact
        return JSONResponse(
            {
                "name": model.name,
                "version": model.version,
                "schema": artifact.schema.model_dump(mode="json"),
                "scaler": artifact.scaler.model_dump(mode="json"),
                "hyperparameters": artifact.hyperparameters.to_flags(),
                "decision": artifact.decision.model_dump(mode="json"),
                "metrics": artifact.metrics,
                "content_types": TYPES,
                "max_rows": self._limits.max_rows,
                "max_body_bytes": self._max_body_bytes(model),
            }
        )

    async def _openapi(self, request: Request) -> Response:
        model = await self._model(request)
        return JSONResponse(describe_api(model.classifier, self._needs_token))
