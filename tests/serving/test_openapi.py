"""Requests made from openapi.json, valid and invalid, get the answers that it describes."""

import asyncio

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from serve_app.endpoint import Endpoint
from serve_app.models import Models
from tests.helpers.small_models import tiny_artifact

pytestmark = pytest.mark.slow

OPERATIONS = [
    ("/invocations", "post"),
    ("/endpoints/{name}/invocations", "post"),
    ("/endpoints/{name}/model", "get"),
    ("/endpoints", "get"),
    ("/model", "get"),
    ("/ping", "get"),
]


class Uncounted:
    def answered(self, *_): ...

    def refused(self, *_): ...


@pytest.fixture(scope="module", params=[("names", 1), ("multilabel", 1), ("multiclass", 3)])
def api(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    kind, n_channels = request.param
    tiny_artifact(kind, n_channels=n_channels).save(folder)
    models = Models()
    asyncio.run(models.replace({"default": str(folder)}))
    endpoint = Endpoint(models, Uncounted(), allow_hosts=["testserver"])  # as schemathesis asks
    return schemathesis.openapi.from_asgi("/openapi.json", endpoint.app)


def test_every_described_operation_is_tested(api):
    assert {(op.ok().path, op.ok().method) for op in api.get_all_operations()} == set(OPERATIONS)


def try_all(cases):
    @given(case=cases)
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    def ask(case):
        case.call_and_validate()

    ask()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_valid_requests_get_the_described_answers(api, path, method):
    cases = api[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE)
    try_all(cases.filter(lambda case: case.media_type != "text/csv"))  # which no schema describes


@pytest.mark.parametrize("path", [path for path, method in OPERATIONS if method == "post"])
def test_wrong_bodies_are_refused_as_described(api, path):
    cases = api[path]["post"].as_strategy(generation_mode=GenerationMode.NEGATIVE)
    try_all(cases.filter(lambda case: not holds_large_numbers(case.body)))


def holds_large_numbers(body):
    """Whether a body has numbers so large that the computation may overflow."""
    if isinstance(body, dict):
        body = list(body.values())
    if isinstance(body, list):
        return any(map(holds_large_numbers, body))
    return isinstance(body, int | float) and 1e30 < abs(body) < 1e39
