"""The HTTP side: routes, limits, and what a client reads when something is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lstmfcn.cells import FloatArray
from lstmfcn.errors import DataError
from lstmfcn.explanation import Explanation
from serve_app.access import guards
from serve_app.batching import Compute
from serve_app.bodies import Bodies
from serve_app.content_types import TYPES, ContentType, answer_type_of, content_type_of
from serve_app.explaining import HEADER, PARAMETER, is_asked_for, refuse_many, unpacked
from serve_app.models import LoadedModel, Models
from serve_app.openapi import describe
from serve_app.page_routes import page_routes
from serve_app.protocols import decode, encode, is_long_to_read, most_bytes
from serve_app.request_errors import RequestError


@dataclass(frozen=True)
class Limits:
    """What one client may ask for.

    Attributes:
        max_body_bytes: of a request; less where ``max_rows`` series of a model need less.
        max_rows: of a request.
        request_timeout_s: from the whole body to the answer.
        body_timeout_s: in which a body must have come; each MiB of it earns another second.
        max_bytes_in_flight: of all bodies that are held at a time.
    """

    max_body_bytes: int = 64 << 20
    max_rows: int = 10_000
    request_timeout_s: float = 30.0
    body_timeout_s: float = 30.0
    max_bytes_in_flight: int = 128 << 20


class Metrics(Protocol):
    """Where the endpoint counts."""

    def answered(self, endpoint: str, version: str, rows: int, seconds: float) -> None:
        """A request was answered."""

    def refused(self, endpoint: str, status: int) -> None:
        """A request was not."""


class Endpoint:
    """The ASGI application.

    Args:
        models: what answers.
        metrics: where to count.
        limits: of each request.
        token: what clients must send; none where empty.
        allow_hosts: names by which it may be asked, beside localhost and literal addresses.
        allow_origins: of web pages elsewhere that may ask it.
    """

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
        self._reading = asyncio.Semaphore(1)
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
            middleware=guards(
                token,
                allow_hosts,
                allow_origins,
                lambda status: metrics.refused(self._first, status),
            ),
            exception_handlers={
                DataError: self._refuse,
                RequestError: self._refuse,
                ClientDisconnect: self._refuse,
                HTTPException: self._refuse,
                Exception: self._refuse,
            },
        )

    async def _refuse(self, request: Request, error: Exception) -> Response:
        """A refusal as an answer."""
        if isinstance(error, DataError):
            refusal = RequestError.of(error)
        elif isinstance(error, RequestError):
            refusal = error
        elif isinstance(error, ClientDisconnect):
            refusal = RequestError(400, "the body ended early")
        elif isinstance(error, HTTPException) and error.status_code == 404:
            known = ", ".join(route.path for route in self._routes)
            refusal = RequestError(404, f"found no {request.url.path}; there is {known}")
        elif isinstance(error, HTTPException):
            headers = dict(error.headers or {})
            fix = f"; send {headers['Allow']}" if "Allow" in headers else ""
            refusal = RequestError(error.status_code, f"found {request.method}{fix}", headers)
        else:
            refusal = RequestError(500, "found a bug of the endpoint; the server's log says more")
        self._metrics.refused(self._name(request), refusal.status)
        return JSONResponse(refusal.body, refusal.status, refusal.headers)

    @property
    def _first(self) -> str:
        return next(iter(self._models.names), "")

    def _name(self, request: Request) -> str:
        """The endpoint that a request names: the first, where it names none."""
        name: str | None = request.path_params.get("name")
        if name is None:
            return self._first
        return name if name in self._models.names else "unknown"

    async def _model(self, request: Request) -> LoadedModel:
        return await self._models.get(request.path_params.get("name") or self._name(request))

    async def _invoke(self, request: Request) -> Response:
        kind = content_type_of(request.headers.get("content-type"))
        explains = is_asked_for(
            request.query_params.getlist(PARAMETER), request.headers.get(HEADER)
        )
        answer_type = answer_type_of(request.headers.get("accept"), kind.name, explains)
        model = await self._model(request)
        classifier = model.classifier
        body = await self._bodies.receive(request, self._most_bytes(model))
        began = time.perf_counter()
        is_long = is_long_to_read(body, classifier.schema)
        if is_long:  # to its end, though its client leaves: the thread goes on and holds the body
            x = await asyncio.shield(self._read_beside(model, kind, body))
        else:
            self._bodies.let_go(body)
            x = self._read(model, kind, body)
        del body
        found = (answer_type, classifier, *await self._predicted(model, x, explains))
        apart = is_long or explains
        answer = await asyncio.to_thread(encode, *found) if apart else encode(*found)
        self._metrics.answered(model.name, model.version, len(x), time.perf_counter() - began)
        headers = {
            "content-type": answer_type,  # and no charset, which SageMaker's SDK does not read
            "x-amzn-invoked-production-variant": model.name,
            "x-model-version": model.version,
        }
        return Response(answer, 200, headers)

    def _most_bytes(self, model: LoadedModel) -> int:
        needed = most_bytes(model.classifier.schema, self._limits.max_rows)
        return min(self._limits.max_body_bytes, needed)

    def _read(self, model: LoadedModel, kind: ContentType, body: bytes) -> FloatArray:
        """The series of a body, float32 (N, V)."""
        classifier = model.classifier
        return classifier.checked(decode(kind, body, classifier.schema, self._limits.max_rows))

    async def _read_beside(self, model: LoadedModel, kind: ContentType, body: bytes) -> FloatArray:
        """The same in another thread, one body at a time: each takes many times its memory."""
        try:
            async with self._reading:
                return await asyncio.to_thread(self._read, model, kind, body)
        finally:
            self._bodies.let_go(body)

    async def _predicted(
        self, model: LoadedModel, x: FloatArray, explains: bool
    ) -> tuple[FloatArray, Explanation | None]:
        """Probabilities, and their explanation where it is asked for."""
        explanation = None
        if explains:
            refuse_many(model.classifier, len(x))
            explanation = unpacked(await self._computed(model, x, model.explain))
            probabilities = model.classifier.probabilities(explanation.logits)
        else:
            probabilities = await self._computed(model, x)
        model.classifier.refuse_overflow(probabilities)
        return probabilities, explanation

    async def _computed(
        self, model: LoadedModel, x: FloatArray, compute: Compute | None = None
    ) -> FloatArray:
        """What the model's batcher answers, in time."""
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
                "hyperparameters": artifact.hyperparameters.flags(),
                "decision": artifact.decision.model_dump(mode="json"),
                "metrics": artifact.metrics,
                "content_types": TYPES,
                "max_rows": self._limits.max_rows,
                "max_body_bytes": self._most_bytes(model),
            }
        )

    async def _openapi(self, request: Request) -> Response:
        model = await self._model(request)
        return JSONResponse(describe(model.classifier, self._needs_token))
