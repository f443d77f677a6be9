"""The models behind the endpoint: loaded when asked for, checked and warmed before they answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError

from lstmfcn.classifier import Classifier, chunk_rows
from lstmfcn.errors import DataError, ModelError
from lstmfcn.hyperparameters import InferencePrecision
from lstmfcn.schema import SeriesSchema
from serve_app.batching import Batcher, Compute
from serve_app.explaining import packed
from serve_app.request_errors import RequestError

logger = logging.getLogger("ray.serve")

MAX_QUEUED_ROWS, MOST_LOADED = 4096, 8
"""Rows that wait for a model, and models in memory, unless told otherwise."""

FAULTS_OF_A_MODEL = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    *(MemoryError, OSError, SafetensorError),
)
"""What loading a stranger's model directory may raise, where nobody thought of it."""

NO_VERSION = "none"
"""Stands for the version of what is not in memory, or cannot be read."""

_VERSION_DIGITS = 12
_AGAIN_S = 10.0
"""A model that was refused is not read again sooner, however many ask for it."""


class LoadedModel(NamedTuple):
    """A model that answers.

    Attributes:
        version: the beginning of its description's checksum; equal models have equal versions.
        explain: what requests for explanations ask the batcher for.
    """

    name: str
    directory: Path
    version: str
    classifier: Classifier
    batcher: Batcher
    explain: Compute

    @property
    def schema(self) -> SeriesSchema:
        """What it reads and answers."""
        return self.classifier.schema


class ModelState(NamedTuple):
    """Which version of a model answers, and which its directory held when it was last read."""

    name: str
    served: str
    wanted: str


class _Refusal(NamedTuple):
    told: str  # and not the error, whose traceback would keep the model in memory
    wanted: str
    at: float


class Models:
    """Names, and the model directory of each.

    Args:
        precision: to compute in.
        max_queued_rows: rows that may wait for each model.
        most_loaded: models in memory at a time; the one not used for longest makes room.
        observe: told the name of a model and the rows of each of its steps.
    """

    def __init__(
        self,
        precision: InferencePrecision = "fp32",
        max_queued_rows: int = MAX_QUEUED_ROWS,
        most_loaded: int = MOST_LOADED,
        observe: Callable[[str, int], None] = lambda _name, _rows: None,
    ) -> None:
        self._precision, self._max_queued_rows = precision, max_queued_rows
        self._most_loaded, self._observe = most_loaded, observe
        self._directories: dict[str, Path] = {}
        self._loaded: dict[str, LoadedModel] = {}  # the last was used last
        self._schemas: dict[str, SeriesSchema] = {}  # of those that left memory, too
        self._refusals: dict[str, _Refusal] = {}
        self._loading: dict[str, asyncio.Task[LoadedModel]] = {}

    @property
    def names(self) -> list[str]:
        """Models that can be asked for."""
        return list(self._directories)

    def states(self) -> list[ModelState]:
        """Of all models that are in memory or were refused."""
        found = []
        for name in dict.fromkeys([*self._directories, *self._refusals]):
            served = self._loaded[name].version if name in self._loaded else NO_VERSION
            refusal = self._refusals.get(name)
            if refusal or served != NO_VERSION:
                found.append(ModelState(name, served, refusal.wanted if refusal else served))
        return found

    async def get(self, name: str) -> LoadedModel:
        """The model of that name, loaded.

        Raises:
            RequestError: 404, there is none; 503, its directory cannot be read, or holds a model
                with other columns than the one that answered before it left memory.
        """
        model = self._loaded.get(name)
        if model is not None:
            if len(self._loaded) > 1:
                self._loaded[name] = self._loaded.pop(name)
            return model
        if name not in self._directories:
            raise RequestError(404, f"found no endpoint {name!r}; there is {', '.join(self.names)}")
        refusal = self._refusals.get(name)
        if refusal is None or time.monotonic() - refusal.at > _AGAIN_S:
            with suppress(ModelError):  # it is in the log
                return await asyncio.shield(self._load_once(name))
        raise RequestError(
            503,
            f"the model of {name!r} cannot be served now; the server's log says why",
            {"Retry-After": str(round(_AGAIN_S))},
        )

    async def replace(self, directories: Mapping[str, str]) -> None:
        """Serve these models, and no others.

        Each is read, checked and warmed before it takes the place of another; requests that have
        begun are answered by the model that they began with.

        Raises:
            ModelError: one cannot be read, or answers other columns than the model in its place;
                nothing has changed.
        """
        wanted = {name: Path(directory) for name, directory in directories.items()}
        first = next(iter(wanted), None)
        kept = [name for name in self._loaded if name in wanted]
        news = {}
        for name in dict.fromkeys([first, *kept] if first else kept):
            news[name] = await self._checked(name, wanted[name])
        self._directories, self._loading = wanted, {}
        for name, model in news.items():
            former = self._loaded.get(name)
            if former is None or former.version != model.version:
                logger.info("%s: serving %s, version %s", name, model.directory, model.version)
        self._loaded = news
        self._schemas = {name: schema for name, schema in self._schemas.items() if name in wanted}
        self._refusals = {}
        self._schemas |= {name: model.schema for name, model in news.items()}

    def _load_once(self, name: str) -> asyncio.Task[LoadedModel]:
        if name not in self._loading:
            self._loading[name] = asyncio.create_task(self._load_and_keep(name))
        return self._loading[name]

    async def _load_and_keep(self, name: str) -> LoadedModel:
        try:
            model = await self._checked(name, self._directories[name])
        finally:
            is_wanted = self._loading.get(name) is asyncio.current_task()  # not replaced meanwhile
            if is_wanted:
                del self._loading[name]
        if is_wanted:
            self._schemas[name] = model.schema
            self._loaded[name] = model
            while len(self._loaded) > self._most_loaded:
                evicted = self._loaded.pop(next(iter(self._loaded)))
                logger.info("%s: left memory", evicted.name)
        return model

    async def _checked(self, name: str, directory: Path) -> LoadedModel:
        """The model of a directory, which may take the place of the one of that name.

        Raises:
            ModelError: it cannot be read, or answers other columns; told in the log once.
        """
        version = NO_VERSION
        try:
            model = await asyncio.to_thread(self._load, name, directory)
            version = model.version
            if name in self._schemas:
                refuse_other_columns(name, self._schemas[name], model.schema)
        except ModelError as error:
            before = self._refusals.get(name)
            if before is None or before.told != str(error):
                logger.error("%s", error)
            self._refusals[name] = _Refusal(str(error), version, time.monotonic())
            raise
        self._refusals.pop(name, None)
        return model

    def _load(self, name: str, directory: Path) -> LoadedModel:
        """Read, check and warm a model.

        Raises:
            ModelError: it cannot be read, or computes nothing.
        """
        try:
            classifier = Classifier.load(directory, self._precision)
            n_values = classifier.schema.n_values
            most_rows = chunk_rows(n_values)
            warm = [
                classifier.compute(np.zeros((n_rows, n_values), dtype=np.float32))
                for n_rows in (1, most_rows)
            ]
            if not all(np.isfinite(found).all() for found in warm):
                raise ArithmeticError("it answers what is no number")
        except (*FAULTS_OF_A_MODEL, DataError) as error:
            raise ModelError(
                f"{directory}: found a model that cannot predict ({error!r:.200}); copy the model "
                "directory again or train anew"
            ) from error
        return LoadedModel(
            name,
            directory,
            classifier.artifact.sha256[:_VERSION_DIGITS],
            classifier,
            Batcher(
                classifier.compute,
                most_rows,
                self._max_queued_rows,
                lambda rows: self._observe(name, rows),
            ),
            lambda x: packed(classifier.compute_explanation(x)),
        )


class OtherColumnsError(ModelError):
    """A model reads or answers other columns than the one whose place it would take."""


def refuse_other_columns(name: str, before: SeriesSchema, after: SeriesSchema) -> None:
    """Refuse a model that would break the clients of the one whose place it takes.

    Raises:
        OtherColumnsError: it reads or answers other columns.
    """
    for kind, old, new in (
        ("value columns", before.value_columns, after.value_columns),
        ("missing values", before.missing, after.missing),
        ("labels", before.probability_columns, after.probability_columns),
    ):
        if old != new:
            raise OtherColumnsError(
                f"{name}: found a model with other {kind} than the one that serves; serve it under "
                "another name"
            )
