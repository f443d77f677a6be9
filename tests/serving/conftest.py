import asyncio

import numpy as np
import pytest
from starlette.testclient import TestClient

from serve_app.endpoint import Endpoint, Limits
from serve_app.models import Models
from tests.helpers.small_models import tiny_artifact, tiny_rows


class Counted:
    """Metrics that a test can read."""

    def __init__(self):
        self.answers, self.refusals = [], []

    def answered(self, endpoint, version, rows, seconds):
        assert seconds > 0
        self.answers.append((endpoint, version, rows))

    def refused(self, endpoint, status):
        self.refusals.append((endpoint, status))


@pytest.fixture
def saved(tmp_path):
    """Save a tiny model in a folder of that name."""

    def save(name, kind="multiclass", **changes):
        tiny_artifact(kind, **changes).save(tmp_path / name)
        return str(tmp_path / name)

    return save


@pytest.fixture
def served(saved):
    """A client of an endpoint in this process, and its metrics."""

    def serve(
        kind="multiclass",
        limits=Limits(),
        token="",
        models=None,
        model=None,
        access=None,
        **options,
    ):
        directories = models or {"default": saved("model", kind, **(model or {}))}
        behind, metrics = Models(**options), Counted()
        asyncio.run(behind.replace(directories))
        endpoint = Endpoint(behind, metrics, limits, token, **(access or {}))
        client = TestClient(endpoint.app, base_url="http://127.0.0.1:8000")
        client.metrics, client.models = metrics, behind
        return client

    return serve


@pytest.fixture
def values():
    """A few series, with few digits, as users send them."""
    return np.round(tiny_rows(n_rows=7, seed=4).values.astype(np.float64), 4).tolist()
