"""MLflow: a run for a training, a child run for each trial of a sweep or member of an ensemble.

Where to is said by MLflow's own variables: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and others.
``mlflow.json`` keeps the runs' ids, so that a training that goes on does so in the same runs; what
they have already is asked of MLflow.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lstmfcn.errors import TrackingError
from lstmfcn.metrics_file import EpochMetrics
from lstmfcn.records import Record, TrackerName
from lstmfcn.run_folder import MLFLOW, MODEL
from lstmfcn.tracked import OutageError, State, Tracked, missing_points

_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""By default MLflow tries for minutes; what could not be sent is sent later."""

_AT_ONCE = 1000
"""The most metrics in a request (MLflow REST API, runs/log-batch)."""

_STATUS: dict[State, Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]] = {
    "running": "RUNNING",
    "done": "FINISHED",
    "stopped early": "FINISHED",
    "out of time": "KILLED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
_STANDING = "standing"
"""A tag that is set last: what stands there has been sent."""

_SECRETS = re.compile(r"(?<=://)[^/\s]*@|(?<=\?)[^\s'\"]+")
"""User and password, and the query, of a URI."""


class _Runs(Record):
    """The runs' ids by the trainings' names."""

    file_name = MLFLOW

    tracking_uri: str
    runs: dict[str, str] = Field(default_factory=dict)


class LostRunError(OutageError):
    """MLflow does not know the run, or the experiment."""


class MLflow:
    """The runs of a training.

    Args:
        folder: of the run.
        resumed: whether the training goes on: then it does so while MLflow does not answer.

    Raises:
        TrackingError: MLflow is not installed, cannot be reached, or is not where this training
            was tracked before.
    """

    name: TrackerName = "mlflow"

    def __init__(self, folder: Path, resumed: bool) -> None:
        if find_spec("mlflow") is None:
            raise TrackingError(
                "--track mlflow: MLflow is not installed; pip install mlflow, or leave it out"
            )
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # with its password
        for chatty in ("alembic", "mlflow", "urllib3"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
        from mlflow import get_tracking_uri

        self._folder, self.where = folder, without_secrets(get_tracking_uri())
        self._runs = _Runs.load(folder) or _Runs(tracking_uri=self.where)
        self._client: Any = None
        self._experiment_id = ""
        self._written: dict[str, set[tuple[str, int]]] = {}
        try:
            with _telling_outages(self.where):
                self._connect()
        except OutageError as error:
            if isinstance(error, LostRunError) and self._runs.runs:
                raise TrackingError(
                    f"--track mlflow: {error}; it was begun at {self._runs.tracking_uri}: "
                    "set MLFLOW_TRACKING_URI as it was"
                ) from None
            if not resumed:
                raise TrackingError(
                    f"--track mlflow: {error}; set MLFLOW_TRACKING_URI, or leave it out"
                ) from None

    def write(
        self, run: Tracked, history: Sequence[EpochMetrics], kept: EpochMetrics | None
    ) -> None:
        """Send what is missing; where the training has ended, also its model, and how it ended.

        Raises:
            OutageError: MLflow does not answer.
        """
        standing = run.state + (f", {len(history)} epochs" if history else "")
        try:
            with _telling_outages(self.where):
                self._connect()
                if run.name not in self._written and self._begin(run) == standing:
                    return
                self._send(run, history, kept)
                if run.state != "running":
                    self._end(run, kept, standing)
                    del self._written[run.name]
        except OutageError:
            self._written.pop(run.name, None)  # how much arrived is not known
            raise

    def _connect(self) -> None:
        if self._client is not None:
            return
        from mlflow import MlflowClient

        client = MlflowClient()
        self._experiment_id = _experiment(client)
        if known := self._runs.runs.get(""):
            client.get_run(known)
        self._client = client

    def _begin(self, run: Tracked) -> str | None:
        """Make a run where there is none, and learn what it has; returns how it was left."""
        client = self._client
        if run.name not in self._runs.runs:
            self._create(run.name)
        run_id = self._runs.runs[run.name]
        data = client.get_run(run_id).data
        self._written[run.name] = {
            (name, metric.step)
            for name in data.metrics
            for metric in client.get_metric_history(run_id, name)
        }
        self._send_parameters(run_id, run, data.params)
        if run.state == "running" and _STANDING in data.tags:
            client.update_run(run_id, status="RUNNING")
            client.delete_tag(run_id, _STANDING)
        standing: str | None = data.tags.get(_STANDING)
        return standing

    def _send_parameters(self, run_id: str, run: Tracked, known: dict[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        asked = {name: str(value) for name, value in run.hyperparameters.items()}
        new = [Param(name, value) for name, value in asked.items() if name not in known]
        # parameters cannot be changed, but there may be more epochs
        changed = [RunTag(name, asked[name]) for name in known & asked.keys()
                   if known[name] != asked[name]]  # fmt: skip
        if new or changed:
            self._client.log_batch(run_id, params=new, tags=changed)

    def _create(self, name: str) -> None:
        from mlflow.tracking.context.default_context import DefaultRunContext

        tags = DefaultRunContext().tags()
        if name:
            tags["mlflow.parentRunId"] = self._runs.runs[""]
        created = self._client.create_run(
            self._experiment_id, tags=tags, run_name=name or self._folder.name
        )
        runs = {**self._runs.runs, name: created.info.run_id}
        self._runs = self._runs.model_copy(update={"runs": runs})
        self._runs.save(self._folder)

    def _send(
        self, run: Tracked, history: Sequence[EpochMetrics], kept: EpochMetrics | None
    ) -> None:
        from mlflow.entities import Metric

        run_id, written = self._runs.runs[run.name], self._written[run.name]
        missing = missing_points(history, kept, written)
        for first in range(0, len(missing), _AT_ONCE):
            points = missing[first : first + _AT_ONCE]
            metrics = [Metric(p.tag, p.value, int(1000 * p.time), p.epoch) for p in points]
            self._client.log_batch(run_id, metrics=metrics)
            written |= {(point.tag, point.epoch) for point in points}

    def _end(self, run: Tracked, kept: EpochMetrics | None, standing: str) -> None:
        run_id = self._runs.runs[run.name]
        if kept and not run.name:
            self._client.log_artifacts(run_id, str(self._folder / MODEL), MODEL)
        if run.reason:
            self._client.set_tag(run_id, "reason", run.reason)
        self._client.set_terminated(run_id, _STATUS[run.state])
        self._client.set_tag(run_id, _STANDING, standing)


def without_secrets(text: str) -> str:
    """The text with passwords, tokens and queries of URIs hidden."""
    for variable in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        if secret := os.environ.get(variable):
            text = text.replace(secret, "***")
    return _SECRETS.sub(lambda found: "***@" if found[0].endswith("@") else "***", text)


@contextmanager
def _telling_outages(where: str) -> Iterator[None]:
    """Turn what MLflow and its stores raise into a line.

    Raises:
        OutageError: MLflow does not answer, or refuses.
        LostRunError: it does not know what was asked for.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError  # Optuna brings SQLAlchemy

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        lost = getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"
        raise (LostRunError if lost else OutageError)(f"{where}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """What the system said, under all that was wrapped around it; else the first line."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return str(inner.strerror)
        inner = inner.__cause__ or inner.__context__
    return without_secrets(str(error).strip().partition("\n")[0])[:300].rstrip(" .")


def _experiment(client: Any) -> str:
    """The id of the experiment that MLflow's variables name, made where there is none."""
    if number := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return str(client.get_experiment(number).experiment_id)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage != "active":
        raise OutageError(f"experiment {name} is deleted there")
    return str(found.experiment_id if found else client.create_experiment(name))
