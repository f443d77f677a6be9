import asyncio
import json
import threading
from unittest.mock import AsyncMock, Mock

import numpy as np
import pytest
from starlette.testclient import TestClient

from lstmfcn.data.shards import find_shards
from lstmfcn.errors import DataError
from lstmfcn.inference.predict_shards import predict_shard
from lstmfcn.inference.predictor import Classifier
from serve_app.codecs import LONG_BODY
from serve_app.endpoint import Endpoint, Limits
from serve_app.models import Models
from tests.helpers.small_models import KINDS, N_TIMEPOINTS, tiny_calibrated

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}


def csv(rows):
    return "\n".join(",".join(map(str, row)) for row in rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("calibrated", [False, True])
def test_a_file_and_a_request_give_the_same_bytes(served, kind, calibrated, values, tmp_path):
    if calibrated:
        tiny_calibrated(kind).save(tmp_path / "model")
    client = served(kind, models={"default": tmp_path / "model"} if calibrated else None)
    classifier = Classifier.load(tmp_path / "model")
    header = ",".join(classifier.schema.value_columns)
    (tmp_path / "in.csv").write_text(f"{header}\n{csv(values)}\n")
    predict_shard(classifier, find_shards(str(tmp_path / "in.csv"))[0], tmp_path / "out.csv")
    for body in (csv(values), (tmp_path / "in.csv").read_text()):
        answer = client.post("/invocations", content=body, headers=CSV)
        assert answer.status_code == 200
        assert answer.content == (tmp_path / "out.csv").read_bytes()


def test_an_answer_names_its_model(served, values):
    client = served()
    answer = client.post("/invocations", json={"instances": values})
    version = client.get("/model").json()["version"]
    assert answer.headers["x-model-version"] == version
    assert answer.headers["x-amzn-invoked-production-variant"] == "default"
    assert client.metrics.answers == [("default", version, 7)]


def test_many_models_answer_by_name(served, saved, values):
    directories = {"first": saved("1", seed=1), "second": saved("2", seed=2)}
    client = served(models=directories)
    assert client.get("/endpoints").json() == {"endpoints": ["first", "second"]}
    answers = {
        name: client.post(f"/endpoints/{name}/invocations", json={"instances": values}).json()
        for name in directories
    }
    assert answers["first"] != answers["second"]
    assert client.post("/invocations", json={"instances": values}).json() == answers["first"]
    unknown = client.post("/endpoints/third/invocations", json={"instances": values})
    assert unknown.status_code == 404
    assert unknown.json() == {"message": "found no endpoint 'third'; use one of first, second"}
    assert client.metrics.refusals == [("unknown", 404)]


def test_the_model_is_described(served):
    found = served("names").get("/model").json()
    assert found["schema"]["classes"] == ["cat", "dog", "emu"]
    assert found["decision"] == {"temperature": 1.0, "thresholds": []}
    assert found["hyperparameters"]["filters-1"] == 4
    assert found["metrics"]["epoch"] == 2
    assert found["scaler"]["kind"] == "global"
    assert found["max_rows"] == 10_000


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        ("", JSON, 400, "found invalid JSON"),
        ('{"instances": [[1]]}', JSON, 400, "row 1: found a series of 1 value;"),
        ("1,2", CSV, 400, "row 1: found 2 cells"),
        ("1", {"Content-Type": "text/html"}, 415, "found 'text/html'; send Content-Type text/csv"),
        ("1", {**CSV, "Content-Encoding": "gzip"}, 415, "found Content-Encoding 'gzip'"),
        ("1", {**CSV, "Accept": "image/png"}, 406, "found Accept 'image/png'"),
        ("1," * 2000, CSV, 413, "found more than 1000 bytes; send fewer rows"),
        ("1\n" * 5, CSV, 413, "found 5 rows; send at most 4 per request"),
        (csv([[1.0] * 11 + [1e39]]), CSV, 400, "row 1, column x_11: found inf"),
        (csv([[1.0] * 12, [3e38] * 12]), CSV, 400, "row 2: found values too large to compute"),
    ],
)
def test_client_errors_have_a_message(served, body, headers, status, error):
    client = served(limits=Limits(max_body_bytes=1000, max_rows=4))
    answer = client.post("/invocations", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["message"].startswith(error)
    assert client.metrics.refusals == [("default", status)]


def test_an_error_has_its_row_and_column(served, values):
    values[4][3] = None
    answer = served().post("/invocations", json={"instances": values})
    assert answer.json()["row"] == 5
    assert answer.json()["column"] == "x_3"


def test_a_body_without_content_length_has_the_same_limit(served):
    def parts():
        for _ in range(1000):
            yield b"1," * 100

    client = served(limits=Limits(max_body_bytes=10_000))
    answer = client.post("/invocations", content=parts(), headers=CSV)
    assert answer.status_code == 413


def test_long_bodies_are_decoded_in_a_thread(served):
    rows = np.random.default_rng(0).standard_normal((3000, N_TIMEPOINTS)).round(8).tolist()
    client = served()
    answer = client.post("/invocations", content=csv(rows), headers=CSV)
    assert answer.status_code == 200
    assert answer.text.count("\n") == 3001


def test_a_token_is_needed_except_for_the_health_check(served, values):
    client = served(token="s3cret")
    body = {"instances": values}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
        answer = client.post("/invocations", json=body, headers=headers)
        assert answer.status_code == 401
        assert "Bearer" in answer.headers.get_list("WWW-Authenticate")
        assert "s3cret" not in answer.text
    right = {"Authorization": "Bearer s3cret"}
    assert client.post("/invocations", json=body, headers=right).status_code == 200
    assert client.post("/invocations", json=body, auth=("me", "s3cret")).status_code == 200
    assert client.post("/invocations", json=body, auth=("s3cret", "")).status_code == 401
    assert client.get("/model").status_code == 401
    assert client.get("/").status_code == 401
    assert client.get("/ping").status_code == 200


@pytest.mark.parametrize("path", ["/invocation", "/endpoints/default", "/v2/models"])
def test_an_unknown_path_gets_the_list_of_paths(served, path):
    answer = served().get(path)
    assert answer.status_code == 404
    assert "; use one of /invocations, /ping, /model, " in answer.json()["message"]


def test_another_method_gets_the_allowed_one(served):
    answer = served().get("/invocations")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json() == {"message": "found GET; send POST"}


def test_a_compressed_body_is_refused(served, values):
    for encoding, status in (("identity", 200), ("gzip", 415)):
        headers = CSV | {"Content-Encoding": encoding}
        answer = served().post("/invocations", content=csv(values), headers=headers)
        assert answer.status_code == status


def test_more_bytes_than_the_rows_need_are_refused(served):
    client = served(limits=Limits(max_rows=4))
    most = client.get("/model").json()["max_body_bytes"]
    assert most < 10_000
    answer = client.post("/invocations", content=b" " * (most + 1), headers=CSV)
    assert answer.status_code == 413
    assert answer.json()["message"].startswith(f"found more than {most} bytes; ")


def test_an_answer_that_takes_too_long_is_refused(served, values):
    client = served(limits=Limits(request_timeout_s=0))
    answer = client.post("/invocations", json={"instances": values})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"


def test_the_description_is_openapi(served):
    client = served()
    found = client.get("/openapi.json").json()
    assert found["openapi"].startswith("3.1")
    series = found["paths"]["/invocations"]["post"]["requestBody"]["content"]
    items = series["application/json"]["schema"]["properties"]["instances"]["items"]
    assert items["minItems"] == items["maxItems"] == N_TIMEPOINTS
    assert "openapi.json" in client.get("/docs").text
    assert json.loads(client.get("/openapi.json").text) == found


def answers_alike(client, series, same_series, cells):
    """Check that two forms of JSON and CSV of these cells get the same answer."""
    forms = (series, same_series)
    answers = [client.post("/invocations", json={"instances": form}) for form in forms]
    accept = {"Accept": JSON["Content-Type"]}
    answers.append(client.post("/invocations", content=csv(cells), headers=CSV | accept))
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return len({answer.content for answer in answers}) == 1


def test_a_model_of_several_channels_reads_every_form_alike(served, values):
    client = served(model={"n_channels": 3})
    nested = [[row[:4], row[4:8], row[8:]] for row in values]
    assert answers_alike(client, values, nested, values)
    described = client.get("/model").json()["schema"]
    assert described["n_channels"] == 3
    assert described["value_columns"][3:5] == ["x1_4", "x2_1"]


def test_an_error_in_a_channel_has_its_place(served, values):
    nested = [[row[:4], row[4:8], row[8:]] for row in values]
    nested[4][1][2] = None
    answer = served(model={"n_channels": 3}).post("/invocations", json={"instances": nested})
    assert answer.status_code == 400
    assert (answer.json()["row"], answer.json()["column"]) == (5, "x2_3")


def test_missing_values_can_be_null_or_empty_or_cut_off(served, values):
    client = served(model={"missing": "mask"})
    gaps = [[None if i in (2, 10, 11) else value for i, value in enumerate(row)] for row in values]
    short = [row[:10] for row in gaps]
    cells = [["" if value is None else value for value in row] for row in gaps]
    assert answers_alike(client, gaps, short, cells)
    for body in ([gaps[0], [None] * 12], [gaps[0], []], [gaps[0], [1.0] * 13]):
        answer = client.post("/invocations", json={"instances": body})
        assert (answer.status_code, answer.json()["row"]) == (400, 2)
    items = client.get("/openapi.json").json()["paths"]["/invocations"]["post"]["requestBody"]
    items = items["content"]["application/json"]["schema"]["properties"]["instances"]["items"]
    assert (items["minItems"], items["items"]["type"]) == (1, ["number", "null"])


def test_channels_can_end_early(served, values):
    client = served(model={"missing": "mask", "n_channels": 3})
    nested = [[row[:3], row[4:6], row[8:]] for row in values]
    flat = [[*row[:3], None, *row[4:6], None, None, *row[8:]] for row in values]
    answers = [client.post("/invocations", json={"instances": body}) for body in (nested, flat)]
    assert [answer.status_code for answer in answers] == [200] * 2
    assert answers[0].content == answers[1].content


def test_a_bug_is_answered_as_json(served, values, monkeypatch):
    client = served()
    monkeypatch.setattr(Classifier, "validate_input", lambda *_: {}["a bug"])
    with pytest.raises(KeyError):  # for the log
        client.post("/invocations", json={"instances": values})
    client = TestClient(client.app, client.base_url, raise_server_exceptions=False)
    answer = client.post("/invocations", json={"instances": values})
    assert answer.status_code == 500
    assert answer.json()["message"].startswith("found a bug in the endpoint; ")


def test_a_long_body_counts_as_held_until_it_is_decoded(saved, monkeypatch):
    directory, begun, go_on = saved("model"), threading.Event(), threading.Event()

    def slow(*_):
        begun.set()
        assert go_on.wait(20)
        raise DataError("nothing", "try again")

    async def leave():
        models = Models()
        await models.replace({"default": directory})
        endpoint = Endpoint(models, Mock())
        body = b"0," * (LONG_BODY // 2) + b"0"
        monkeypatch.setattr("serve_app.endpoint.decode", slow)
        scope = {
            "type": "http", "method": "POST", "path": "/invocations", "query_string": b"",
            "http_version": "1.1",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"text/csv")],
        }  # fmt: skip

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        answering = asyncio.create_task(endpoint.app(scope, receive, AsyncMock()))
        await asyncio.to_thread(begun.wait, 20)
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        held = endpoint._bodies.held
        go_on.set()
        async with asyncio.timeout(20):
            while endpoint._bodies.held:
                await asyncio.sleep(0.01)
        return held == len(body)

    assert asyncio.run(leave())
