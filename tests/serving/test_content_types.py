import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.codecs import CSV, JSON, JSON_LINES, TYPES, request_type, response_type
from serve_app.errors import RequestError


@pytest.mark.parametrize(
    ("accept", "content_type", "expected"),
    [
        (None, CSV, CSV),
        ("*/*", JSON, JSON),
        ("application/json", CSV, JSON),
        ("text/html, text/csv;q=0.9", JSON, CSV),
        ("text/*", JSON, CSV),
        ("application/*", JSON_LINES, JSON_LINES),
        ("", JSON, JSON),
        ("application/json;q=0, text/csv", JSON, CSV),
        ("text/csv;q=0.5, application/json", CSV, JSON),
        ("text/csv;q=0, */*", CSV, JSON),
        ("*/*;q=0.1, text/csv", JSON, CSV),
        ("application/*;q=0.2, application/jsonlines;q=0.9, text/*;q=0.3", JSON, JSON_LINES),
        ("*/*, application/json;q=0", JSON, CSV),
        ("TEXT/CSV; Q=1.0", JSON, CSV),
        ("application/json;q=nonsense", CSV, JSON),
    ],
)
def test_the_answer_has_the_type_that_the_client_accepts(accept, content_type, expected):
    assert response_type(accept, content_type) == expected


def test_other_types_are_refused():
    with pytest.raises(RequestError) as refused:
        response_type("image/png", CSV)
    assert refused.value.status == 406
    for header in (None, "", "application/x-npy"):
        with pytest.raises(RequestError) as refused:
            request_type(header)
        assert refused.value.status == 415
    assert request_type("Text/CSV; charset=utf-8") == (CSV, None)


@pytest.mark.parametrize("accept", ["text/csv;q=0", "*/*;q=0", "application/*;q=0.0, text/*;q=0"])
def test_clients_that_accept_no_type_are_refused(accept):
    with pytest.raises(RequestError) as refused:
        response_type(accept, CSV)
    assert refused.value.status == 406


@given(st.text(max_size=60), st.sampled_from(TYPES))
def test_any_accept_header_gets_a_type_or_a_refusal(accept, own):
    try:
        found = response_type(accept, own)
    except RequestError:
        return
    assert found in TYPES


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("text/csv; header=present", True),
        ('text/csv;charset=utf-8;HEADER="Absent"', False),
        ("text/csv; charset=utf-8", None),
        ("application/json; header=present", None),
    ],
)
def test_the_csv_header_parameter_is_read(header, expected):
    assert request_type(header).has_header is expected


def test_another_csv_header_parameter_is_refused():
    with pytest.raises(RequestError, match="found header=maybe; send header=present or absent"):
        request_type("text/csv; header=maybe")
