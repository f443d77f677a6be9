"""The models of the endpoint, by name: loaded on demand, and checked before they answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from safetensors import SafetensorError

from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import DataError, ModelError
from lstmfcn.hyperparameters import DeviceName, InferencePrecision
from lstmfcn.inference.predictor import Classifier
from lstmfcn.storage.places import Place, checked_place, shown_place
from serve_app.batching import Batcher, Compute
from serve_app.errors import RequestError
from serve_app.explanations import pack

logger = logging.getLogger("ray.serve")

MAX_QUEUED_ROWS, MAX_LOADED_MODELS = 4096, 8
"""Defaults: rows that wait for a model, and models in memory."""

LOADING_ERRORS = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    *(MemoryError, OSError, SafetensorError),
)
"""What loading a model directory of unknown origin may raise."""

NO_VERSION = "none"
"""Stands for the version of a model that is not in memory, or cannot be read."""

_VERSION_DIGITS = 12
_RETRY_AFTER_S = 10.0
"""A model that was refused is read again after this time, no matter how many requests name it."""


class LoadedModel(NamedTuple):
    """A model that is ready to answer.

    Attributes:
        version: the first digits of the checksum of model.json; equal models have equal versions.
        explain: the function that the batcher computes for explanations.
    """

    name: str
    directory: Place
    version: str
    classifier: Classifier
    batcher: Batcher
    explain: Compute

    @property
    def schema(self) -> SeriesSchema:
        """The columns that the model reads and predicts."""
        return self.classifier.schema


class ModelState(NamedTuple):
    """The version of a model that answers, and the one in its directory when it was last read."""

    name: str
    served: str
    wanted: str


class _Refusal(NamedTuple):
    message: str  # not the error, whose traceback would keep the model in memory
    version: str
    at: float


class Models:
    """Loads and keeps the models that have a name.

    Args:
        max_queued_rows: rows that may wait for each model.
        max_loaded: models in memory at a time; the one that was not used for longest is unloaded.
        observe: called with the name of a model and the number of rows of each of its steps.
        device: where the models compute.
    """

    def __init__(
        self,
        precision: InferencePrecision = "fp32",
        max_queued_rows: int = MAX_QUEUED_ROWS,
        max_loaded: int = MAX_LOADED_MODELS,
        observe: Callable[[str, int], None] = lambda _name, _rows: None,
        device: DeviceName = "cpu",
    ) -> None:
        self._precision, self._device = precision, device
        self._max_queued_rows = max_queued_rows
        self._max_loaded, self._observe = max_loaded, observe
        self._directories: dict[str, Place] = {}
        self._loaded: dict[str, LoadedModel] = {}  # the last was used last
        self._schemas: dict[str, SeriesSchema] = {}  # also of models that were unloaded
        self._refusals: dict[str, _Refusal] = {}
        self._loading: dict[str, asyncio.Task[LoadedModel]] = {}

    @property
    def names(self) -> list[str]:
        """The names of all models."""
        return list(self._directories)

    def states(self) -> list[ModelState]:
        """The state of each model that is in memory or was refused."""
        states = []
        for name in dict.fromkeys([*self._directories, *self._refusals]):
            served = self._loaded[name].version if name in self._loaded else NO_VERSION
            refusal = self._refusals.get(name)
            if refusal or served != NO_VERSION:
                states.append(ModelState(name, served, refusal.version if refusal else served))
        return states

    async def get(self, name: str) -> LoadedModel:
        """The model of this name, loaded if it is not in memory.

        Raises:
            RequestError: 404, no model has that name; 503, its directory cannot be read, or holds a
                model with other columns than the one that was served before.
        """
        model = self._loaded.get(name)
        if model is not None:
            if len(self._loaded) > 1:
                self._loaded[name] = self._loaded.pop(name)
            return model
        if name not in self._directories:
            raise RequestError(
                404, f"found no endpoint {name!r}; use one of {', '.join(self.names)}"
            )
        refusal = self._refusals.get(name)
        if refusal is None or time.monotonic() - refusal.at > _RETRY_AFTER_S:
            with suppress(ModelError):  # it is in the log
                return await asyncio.shield(self._load_once(name))
        raise RequestError(
            503,
            f"the model of {name!r} cannot be served now; see the server's log",
            {"Retry-After": str(round(_RETRY_AFTER_S))},
        )

    async def replace(self, directories: Mapping[str, str]) -> None:
        """Serve these models instead of the present ones.

        Each is read, checked and warmed up before it replaces another. Requests that have begun are
        answered by the model that they began with.

        Raises:
            ModelError: a model cannot be read, or has other columns than the one that it would
                replace; the present models stay.
        """
        new_directories = {
            name: checked_place(directory, ModelError) for name, directory in directories.items()
        }
        first = next(iter(new_directories), None)
        kept = [name for name in self._loaded if name in new_directories]
        new_models = {}
        for name in dict.fromkeys([first, *kept] if first else kept):
            new_models[name] = await self._load_checked(name, new_directories[name])
        self._directories, self._loading = new_directories, {}
        for name, model in new_models.items():
            former = self._loaded.get(name)
            if former is None or former.version != model.version:
                logger.info(
                    "%s: serving %s, version %s", name, shown_place(model.directory), model.version
                )
        self._loaded = new_models
        self._schemas = {k: schema for k, schema in self._schemas.items() if k in new_directories}
        self._refusals = {}
        self._schemas |= {name: model.schema for name, model in new_models.items()}

    def _load_once(self, name: str) -> asyncio.Task[LoadedModel]:
        if name not in self._loading:
            self._loading[name] = asyncio.create_task(self._load_and_keep(name))
        return self._loading[name]

    async def _load_and_keep(self, name: str) -> LoadedModel:
        try:
            model = await self._load_checked(name, self._directories[name])
        finally:
            # another task loads the model if `replace` came meanwhile
            is_current = self._loading.get(name) is asyncio.current_task()
            if is_current:
                del self._loading[name]
        if is_current:
            self._schemas[name] = model.schema
            self._loaded[name] = model
            while len(self._loaded) > self._max_loaded:
                unloaded = self._loaded.pop(next(iter(self._loaded)))
                logger.info("%s: unloaded, to make room for another model", unloaded.name)
        return model

    async def _load_checked(self, name: str, directory: Place) -> LoadedModel:
        """Load a model that may replace the one of that name; a refusal is logged once."""
        version = NO_VERSION
        try:
            model = await asyncio.to_thread(self._load, name, directory)
            version = model.version
            if name in self._schemas:
                refuse_other_columns(name, self._schemas[name], model.schema)
        except ModelError as error:
            before = self._refusals.get(name)
            if before is None or before.message != str(error):
                logger.error("%s", error)
            self._refusals[name] = _Refusal(str(error), version, time.monotonic())
            raise
        self._refusals.pop(name, None)
        return model

    def _load(self, name: str, directory: Place) -> LoadedModel:
        """Read, check and warm up a model."""
        try:
            classifier = Classifier.load(directory, self._precision, self._device)
            if not classifier.warm_up():
                raise ArithmeticError("its predictions are not finite numbers")
        except (*LOADING_ERRORS, DataError) as error:
            raise ModelError(
                f"{shown_place(directory)}: found a model that cannot predict ({error!r:.200}); "
                "copy the model directory again or train it again"
            ) from error
        return LoadedModel(
            name,
            directory,
            classifier.artifact.sha256[:_VERSION_DIGITS],
            classifier,
            Batcher(
                classifier.predict_validated,
                classifier.chunk_rows,
                self._max_queued_rows,
                lambda rows: self._observe(name, rows),
            ),
            lambda x: pack(classifier.explain_validated(x)),
        )


class OtherColumnsError(ModelError):
    """A model reads or predicts other columns than the one that it would replace."""


def refuse_other_columns(name: str, before: SeriesSchema, after: SeriesSchema) -> None:
    """Refuse (`OtherColumnsError`) a model that would break the clients of the one before it."""
    for kind, old, new in (
        ("value columns", before.value_columns, after.value_columns),
        ("missing values", before.missing, after.missing),
        ("labels", before.probability_columns, after.probability_columns),
    ):
        if old != new:
            raise OtherColumnsError(
                f"{name}: found a model with other {kind} than the one that is served; serve it "
                "under another name"
            )
