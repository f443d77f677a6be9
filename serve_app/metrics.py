"""Metrics for Prometheus, by way of Ray: requests, rows, latency, refusals, model versions."""

from __future__ import annotations

from collections.abc import Iterable

from ray.util.metrics import Counter, Gauge, Histogram

from serve_app.models import ModelState

_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
_ROWS = [1, 2, 4, 8, 16, 32, 64, 128]


class RayMetrics:
    """Counts in Ray's metrics; Prometheus sees their names with ``ray_`` in front."""

    def __init__(self) -> None:
        answered = ("endpoint", "version")
        self._requests = Counter("lstmfcn_requests", "Requests answered.", answered)
        self._rows = Counter("lstmfcn_rows", "Rows answered.", answered)
        self._seconds = Histogram(
            "lstmfcn_request_seconds", "From the whole body to the answer.", _SECONDS, answered
        )
        self._step_rows = Histogram(
            "lstmfcn_step_rows", "Rows computed at a time.", _ROWS, ("endpoint",)
        )
        self._refused = Counter(
            "lstmfcn_refused", "Requests refused, by status.", ("endpoint", "status")
        )
        self._info = Gauge(
            "lstmfcn_model_info",
            "1 for the version that a replica serves, and the one that its directory holds.",
            ("endpoint", "served", "wanted"),
        )
        self._split = Gauge(
            "lstmfcn_models_split", "Models of which a replica serves another version than wanted."
        )
        self._states: set[ModelState] = set()

    def answered(self, endpoint: str, version: str, rows: int, seconds: float) -> None:
        """Count a request that was answered."""
        tags = {"endpoint": endpoint, "version": version}
        self._requests.inc(1, tags)
        self._rows.inc(rows, tags)
        self._seconds.observe(seconds, tags)

    def refused(self, endpoint: str, status: int) -> None:
        """Count a request that was refused, by its HTTP status."""
        self._refused.inc(1, {"endpoint": endpoint, "status": str(status)})

    def computed(self, endpoint: str, rows: int) -> None:
        """Count the rows that a model has computed in one step."""
        self._step_rows.observe(rows, {"endpoint": endpoint})

    def holds(self, states: Iterable[ModelState]) -> None:
        """Record which versions of the models this replica serves, and which it should serve."""
        now = set(states)
        for state in self._states | now:
            tags = {"endpoint": state.name, "served": state.served, "wanted": state.wanted}
            self._info.set(int(state in now), tags)
        self._split.set(sum(state.served != state.wanted for state in now))
        self._states |= now
