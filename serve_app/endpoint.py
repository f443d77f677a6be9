"""The HTTP side: routes, limits, tokens, and what a client reads when something is wrong."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from lstmfcn.cells import FloatArray
from lstmfcn.errors import DataError
from lstmfcn.explanation import Explanation
from serve_app.batching import Compute
from serve_app.explaining import HEADER, PARAMETER, is_asked_for, refuse_many, unpacked
from serve_app.models import LoadedModel, Models
from serve_app.openapi import DOCS_PAGE, describe
from serve_app.page_routes import page_routes
from serve_app.protocols import TYPES, answer_type_of, content_type_of, decode, encode
from serve_app.request_errors import RequestError

Handler = Callable[[Request], Awaitable[Response]]

_LONG_BODY = 1 << 18
"""Bytes from which on a body is read, and its answer written, beside the event loop."""


@dataclass(frozen=True)
class Limits:
    """What one client may ask for.

    Attributes:
        max_body_bytes: of a request.
        max_rows: of a request.
        request_timeout_s: from the whole body to the answer.
    """

    max_body_bytes: int = 64 << 20
    max_rows: int = 10_000
    request_timeout_s: float = 30.0


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
        token: what clients must send as ``Authorization: Bearer TOKEN``; none where empty.
    """

    def __init__(
        self, models: Models, metrics: Metrics, limits: Limits = Limits(), token: str = ""
    ) -> None:
        self._models, self._metrics, self._limits = models, metrics, limits
        self._token = token.encode()
        self.app = Starlette(
            routes=[
                Route("/invocations", self._guarded(self._invoke), methods=["POST"]),
                Route("/ping", self._ping, methods=["GET"]),
                Route("/model", self._guarded(self._describe), methods=["GET"]),
                Route("/endpoints", self._guarded(self._list), methods=["GET"]),
                Route(
                    "/endpoints/{name}/invocations",
                    self._guarded(self._invoke),
                    methods=["POST"],
                ),
                Route("/endpoints/{name}/model", self._guarded(self._describe), methods=["GET"]),
                Route("/openapi.json", self._guarded(self._openapi), methods=["GET"]),
                Route("/docs", self._docs, methods=["GET"]),
                *page_routes(),
            ]
        )

    def _guarded(self, handler: Handler) -> Handler:
        """The handler, with refusals as answers."""

        async def handle(request: Request) -> Response:
            try:
                self._authenticate(request)
                return await handler(request)
            except DataError as error:
                refusal = RequestError.of(error)
            except RequestError as error:
                refusal = error
            except ClientDisconnect:
                refusal = RequestError(400, "the body ended early")
            self._metrics.refused(self._name(request), refusal.status)
            return JSONResponse(refusal.body, refusal.status, refusal.headers)

        return handle

    def _authenticate(self, request: Request) -> None:
        if not self._token:
            return
        scheme, _, found = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(found.strip().encode(), self._token)
        if scheme.lower() != "bearer" or not right:
            raise RequestError(
                401, "send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )

    def _name(self, request: Request) -> str:
        """The endpoint that a request names: the first, where it names none."""
        name: str | None = request.path_params.get("name")
        known = self._models.names
        if name is None:
            return known[0] if known else ""
        return name if name in known else "unknown"

    async def _model(self, request: Request) -> LoadedModel:
        return await self._models.get(request.path_params.get("name") or self._name(request))

    async def _invoke(self, request: Request) -> Response:
        content_type = content_type_of(request.headers.get("content-type"))
        explains = is_asked_for(
            request.query_params.getlist(PARAMETER), request.headers.get(HEADER)
        )
        answer_type = answer_type_of(request.headers.get("accept"), content_type, explains)
        body = await self._body(request)
        began = time.perf_counter()
        model = await self._model(request)
        classifier, max_rows = model.classifier, self._limits.max_rows
        is_long = len(body) > _LONG_BODY
        decoded = (content_type, body, classifier.schema, max_rows)
        values = await asyncio.to_thread(decode, *decoded) if is_long else decode(*decoded)
        x = classifier.checked(values)
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

    async def _body(self, request: Request) -> bytes:
        most = self._limits.max_body_bytes
        refusal = RequestError(413, f"found more than {most} bytes; send fewer rows a request")
        if encoding := request.headers.get("content-encoding"):
            raise RequestError(415, f"found Content-Encoding {encoding!r}; send the body as it is")
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > most:
            raise refusal
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise refusal
        return bytes(body)

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
                "max_body_bytes": self._limits.max_body_bytes,
            }
        )

    async def _openapi(self, request: Request) -> Response:
        model = await self._model(request)
        return JSONResponse(describe(model.classifier, bool(self._token)))

    async def _docs(self, request: Request) -> Response:  # noqa: ARG002
        return HTMLResponse(DOCS_PAGE)
