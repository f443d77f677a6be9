"""Track runs in MLflow: one run per training, child runs for trials and ensemble members.

MLflow's own variables say where: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and others.
``mlflow.json`` holds the runs' ids, so that a resumed training continues the same runs; MLflow is
asked which data they already have.
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
from lstmfcn.tracking.base import State, TrackedRun, TrackerUnavailableError, find_missing_points
from lstmfcn.training.metrics_log import EpochMetrics
from lstmfcn.training.run_directory import MLFLOW, MODEL, JsonRecord, TrackerName

_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""By default MLflow retries for minutes; here, unsent data is sent later anyway."""

_MAX_METRICS_PER_REQUEST = 1000
"""MLflow's limit (REST API, runs/log-batch)."""

_STATUS: dict[State, Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]] = {
    "running": "RUNNING",
    "done": "FINISHED",
    "stopped early": "FINISHED",
    "out of time": "KILLED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
_PROGRESS_TAG = "standing"
"""A tag that is set last: the state and the epochs that have been sent."""

_SECRETS = re.compile(r"(?<=://)[^/\s]*@|(?<=\?)[^\s'\"]+")
"""User, password and query of a URI."""


class _Runs(JsonRecord):
    """The ids of the MLflow runs, by the names of the trainings."""

    file_name = MLFLOW

    tracking_uri: str
    runs: dict[str, str] = Field(default_factory=dict)


class RunNotFoundError(TrackerUnavailableError):
    """MLflow has no such run or experiment."""


class MLflow:
    """Writes a training and its child runs to MLflow.

    Args:
        resumed: whether the training resumes; it then starts even if MLflow does not answer.

    Raises:
        TrackingError: MLflow is not installed, cannot be reached, or is not the server on which
            this training was tracked before.
    """

    name: TrackerName = "mlflow"

    def __init__(self, folder: Path, resumed: bool) -> None:
        if find_spec("mlflow") is None:
            raise TrackingError(
                "--track mlflow: MLflow is not installed; pip install mlflow, or omit this option"
            )
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it would show the password
        for chatty in ("alembic", "mlflow", "urllib3"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
        from mlflow import get_tracking_uri

        self._folder, self.where = folder, hide_secrets(get_tracking_uri())
        self._runs = _Runs.load(folder) or _Runs(tracking_uri=self.where)
        self._client: Any = None
        self._experiment_id = ""
        self._written: dict[str, set[tuple[str, int]]] = {}
        try:
            with _converted_errors(self.where):
                self._connect()
        except TrackerUnavailableError as error:
            if isinstance(error, RunNotFoundError) and self._runs.runs:
                raise TrackingError(
                    f"--track mlflow: {error}; this run was tracked at {self._runs.tracking_uri}; "
                    "set MLFLOW_TRACKING_URI to that"
                ) from None
            if not resumed:
                raise TrackingError(
                    f"--track mlflow: {error}; set MLFLOW_TRACKING_URI, or omit this option"
                ) from None

    def write(
        self, run: TrackedRun, history: Sequence[EpochMetrics], best: EpochMetrics | None
    ) -> None:
        """Send what is missing, at the end model and status too; or `TrackerUnavailableError`."""
        progress = run.state + (f", {len(history)} epochs" if history else "")
        try:
            with _converted_errors(self.where):
                self._connect()
                if run.name not in self._written and self._open(run) == progress:
                    return
                self._send(run, history, best)
                if run.state != "running":
                    self._end(run, best, progress)
                    del self._written[run.name]
        except TrackerUnavailableError:
            self._written.pop(run.name, None)  # unknown how much has arrived
            raise

    def _connect(self) -> None:
        if self._client is not None:
            return
        from mlflow import MlflowClient

        client = MlflowClient()
        self._experiment_id = _find_experiment(client)
        if parent_id := self._runs.runs.get(""):
            client.get_run(parent_id)
        self._client = client

    def _open(self, run: TrackedRun) -> str | None:
        """Create the run, or read which data it has; returns the progress that it recorded last."""
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
        if run.state == "running" and _PROGRESS_TAG in data.tags:
            client.update_run(run_id, status="RUNNING")
            client.delete_tag(run_id, _PROGRESS_TAG)
        progress: str | None = data.tags.get(_PROGRESS_TAG)
        return progress

    def _send_parameters(self, run_id: str, run: TrackedRun, sent: dict[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        parameters = {name: str(value) for name, value in run.hyperparameters.items()}
        new = [Param(name, value) for name, value in parameters.items() if name not in sent]
        # MLflow cannot change parameters; a resumed run may have more epochs, so use a tag
        changed = [RunTag(name, parameters[name]) for name in sent & parameters.keys()
                   if sent[name] != parameters[name]]  # fmt: skip
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
        self, run: TrackedRun, history: Sequence[EpochMetrics], best: EpochMetrics | None
    ) -> None:
        from mlflow.entities import Metric

        run_id, written = self._runs.runs[run.name], self._written[run.name]
        missing = find_missing_points(history, best, written)
        for first in range(0, len(missing), _MAX_METRICS_PER_REQUEST):
            points = missing[first : first + _MAX_METRICS_PER_REQUEST]
            metrics = [Metric(p.tag, p.value, int(1000 * p.time), p.epoch) for p in points]
            self._client.log_batch(run_id, metrics=metrics)
            written |= {(point.tag, point.epoch) for point in points}

    def _end(self, run: TrackedRun, best: EpochMetrics | None, progress: str) -> None:
        run_id = self._runs.runs[run.name]
        if best and not run.name:
            self._client.log_artifacts(run_id, str(self._folder / MODEL), MODEL)
        if run.reason:
            self._client.set_tag(run_id, "reason", run.reason)
        self._client.set_terminated(run_id, _STATUS[run.state])
        self._client.set_tag(run_id, _PROGRESS_TAG, progress)


def hide_secrets(text: str) -> str:
    """Replace passwords, tokens and queries of URIs by ``***``."""
    for variable in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        if secret := os.environ.get(variable):
            text = text.replace(secret, "***")
    return _SECRETS.sub(lambda match: "***@" if match[0].endswith("@") else "***", text)


@contextmanager
def _converted_errors(where: str) -> Iterator[None]:
    """Convert the errors of MLflow and its stores to one-line errors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError  # Optuna brings SQLAlchemy

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        lost = getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"
        raise (RunNotFoundError if lost else TrackerUnavailableError)(
            f"{where}: {_reason(error)}"
        ) from None


def _reason(error: BaseException) -> str:
    """Return the innermost message of the operating system, else the first line of the error."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return str(inner.strerror)
        inner = inner.__cause__ or inner.__context__
    return hide_secrets(str(error).strip().partition("\n")[0])[:300].rstrip(" .")


def _find_experiment(client: Any) -> str:
    """Return the id of the experiment that MLflow's variables name; create it if necessary."""
    if number := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return str(client.get_experiment(number).experiment_id)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
    experiment = client.get_experiment_by_name(name)
    if experiment and experiment.lifecycle_stage != "active":
        raise TrackerUnavailableError(f"experiment {name} has been deleted")
    return str(experiment.experiment_id if experiment else client.create_experiment(name))
