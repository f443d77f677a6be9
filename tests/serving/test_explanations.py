import asyncio
import json

import numpy as np
import pytest

import serve_app.explanations
from lstmfcn.inference.explanation import outputs_to_explain
from lstmfcn.inference.predictor import Classifier
from serve_app.explanations import HEADER, pack, unpack
from serve_app.models import Models
from tests.helpers.small_models import KINDS, N_TIMEPOINTS

ASKED = {"params": {"explain": "true"}}
LINES = {"Content-Type": "application/jsonlines"}
CSV = {"Content-Type": "text/csv"}
JSON_ACCEPTED = {"Accept": "application/json"}


def lines_of(values):
    return "\n".join(map(json.dumps, values))


def csv_of(values):
    return "\n".join(",".join(map(str, row)) for row in values)


def in_json(explanation, outputs):
    """Each row's explanation in the answer."""
    logits, bias, lstm, timepoints = explanation
    return [
        {
            "bias": dict(zip(outputs, bias, strict=True)),
            "lstm": dict(zip(outputs, lstm[row], strict=True)),
            "timepoints": dict(zip(outputs, timepoints[row].tolist(), strict=True)),
            "logits": dict(zip(outputs, logits[row], strict=True)),
        }
        for row in range(len(logits))
    ]


def as_float32(found):
    if isinstance(found, dict):
        return {name: as_float32(value) for name, value in found.items()}
    return np.array(found, dtype=np.float32).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_come_with_their_explanations(served, kind, values, tmp_path):
    client = served(kind)
    classifier = Classifier.load(tmp_path / "model")
    outputs = outputs_to_explain(classifier.schema)
    expected = [as_float32(row) for row in in_json(classifier.explain(values), outputs)]
    plain = client.post("/invocations", json={"instances": values}).json()
    answer = client.post("/invocations", json={"instances": values}, **ASKED)
    assert answer.status_code == 200
    found = answer.json()
    assert found["predictions"] == plain["predictions"]
    assert [as_float32(row) for row in found["explanations"]] == expected
    for row in found["explanations"]:
        for name in outputs:
            parts = row["bias"][name] + row["lstm"][name] + sum(row["timepoints"][name])
            assert parts == pytest.approx(row["logits"][name], abs=1e-5)
    lines = client.post("/invocations", content=lines_of(values), headers=LINES, **ASKED)
    rows = list(map(json.loads, lines.text.splitlines()))
    assert [row.pop("explanation") for row in rows] == found["explanations"]
    assert rows == plain["predictions"]


@pytest.mark.parametrize("path", ["/invocations", "/endpoints/default/invocations"])
@pytest.mark.parametrize(
    ("parameter", "header", "explained"),
    [
        ("", None, False),
        ("?explain=true", None, True),
        ("?explain=True", None, True),
        ("?explain=1", None, True),
        ("?explain=yes", None, True),
        ("?explain=False", None, False),
        ("?explain=false", None, False),
        ("", "true", True),
        ("", "`true`", True),
        ("", "`false`", False),
        ("?explain=true", "`false`", True),
        ("?explain=false", "false", False),
    ],
)
def test_explanations_are_requested_by_parameter_or_header(
    served, values, path, parameter, header, explained
):
    headers = {} if header is None else {HEADER: header}
    answer = served().post(path + parameter, json={"instances": values}, headers=headers)
    assert answer.status_code == 200
    assert ("explanations" in answer.json()) == explained


@pytest.mark.parametrize(
    ("parameter", "header", "message"),
    [
        ("?explain=perhaps", None, "found explain=perhaps; send true or false"),
        ("?explain=", None, "found explain=; send true or false"),
        ("?explain=true&explain=true", None, "found explain 2 times; send it once"),
        ("", "[0]>`0.8`", f"found {HEADER} '[0]>`0.8`'; send `true` or `false`"),
        ("?explain=true", "", f"found {HEADER} ''; send `true` or `false`"),
    ],
)
def test_only_true_and_false_are_accepted(served, values, parameter, header, message):
    headers = {} if header is None else {HEADER: header}
    path = "/invocations" + parameter
    answer = served().post(path, json={"instances": values}, headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"message": message})


def test_explanations_as_csv_are_refused(served, values):
    client, path = served(), "/invocations?explain=true"
    for content, headers in (
        (csv_of(values), CSV),
        (lines_of(values), LINES | {"Accept": "text/csv"}),
    ):
        answer = client.post(path, content=content, headers=headers)
        assert answer.status_code == 406
        message = "found a request for explanations in text/csv; send Accept: application/json"
        assert answer.json() == {"message": message}
    answer = client.post(path, content=csv_of(values), headers=CSV | JSON_ACCEPTED)
    assert len(answer.json()["explanations"]) == len(values)


@pytest.mark.parametrize(("numbers", "most"), [(5 * 36, 5), (5 * 36 - 1, 4), (35, 1)])
def test_explanations_have_a_limit_of_numbers(served, monkeypatch, values, numbers, most):
    """A row has 3 classes of 12 timepoints; one row is always explained."""
    monkeypatch.setattr(serve_app.explanations, "MAX_NUMBERS", numbers)
    client = served()
    answer = client.post("/invocations", json={"instances": values}, **ASKED)
    assert answer.status_code == 413
    message = f"found 7 rows; send at most {most} per request with explanations"
    assert answer.json()["message"].startswith(message)
    answer = client.post("/invocations", json={"instances": values[:most]}, **ASKED)
    assert len(answer.json()["explanations"]) == most
    assert client.post("/invocations", json={"instances": values}).status_code == 200


def test_rows_that_are_not_predicted_are_not_explained(served, values):
    values[4] = [3e38] * N_TIMEPOINTS
    answer = served().post("/invocations", json={"instances": values}, **ASKED)
    assert answer.status_code == 400
    assert answer.json()["row"] == 5


def test_missing_timepoints_have_no_term(served, values):
    client = served(model={"missing": "mask"})
    gaps = [[None if i in (2, 10, 11) else value for i, value in enumerate(row)] for row in values]
    found = client.post("/invocations", json={"instances": gaps}, **ASKED).json()
    for row in found["explanations"]:
        for terms in row["timepoints"].values():
            assert [terms[i] for i in (2, 10, 11)] == [0.0] * 3
            assert any(terms)


def test_packing_keeps_every_number(saved, values):
    explanation = Classifier.load(saved("model")).explain(values)
    for part, found in zip(explanation, unpack(pack(explanation)), strict=True):
        assert np.array_equal(found, part)


def test_explained_and_plain_requests_share_the_queue(saved, values):
    """All requests are answered, in the steps that plain requests would have."""
    directory, steps = saved("model"), []
    classifier = Classifier.load(directory)
    x = np.repeat(np.array(values, dtype=np.float32), 10, axis=0)

    async def ask():
        models = Models(observe=lambda _, rows: steps.append(rows))
        await models.replace({"default": directory})
        model = await models.get("default")
        kinds = [model.explain, None, model.explain, None]
        return await asyncio.gather(*(model.batcher.predict(x, kind) for kind in kinds))

    first, plain, second, again = asyncio.run(ask())
    expected = pack(classifier.explain(x))
    for found in (first, second):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    for found in (plain, again):
        np.testing.assert_allclose(found, classifier.predict_proba(x), atol=1e-6)
    assert steps == [64, 64, 64, 64, 12, 12]
