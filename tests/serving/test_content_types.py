import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.content_types import CSV, JSON, JSON_LINES, TYPES, answer_type_of, content_type_of
from serve_app.request_errors import RequestError


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
    assert answer_type_of(accept, content_type) == expected


def test_other_types_are_refused():
    with pytest.raises(RequestError) as refused:
        answer_type_of("image/png", CSV)
    assert refused.value.status == 406
    for header in (None, "", "application/x-npy"):
        with pytest.raises(RequestError) as refused:
            content_type_of(header)
        assert refused.value.status == 415
    assert content_type_of("Text/CSV; charset=utf-8") == (CSV, None)


@pytest.mark.parametrize("accept", ["text/csv;q=0", "*/*;q=0", "application/*;q=0.0, text/*;q=0"])
def test_nothing_is_answered_to_who_accepts_nothing(accept):
    with pytest.raises(RequestError) as refused:
        answer_type_of(accept, CSV)
    assert refused.value.status == 406


@given(st.text(max_size=60), st.sampled_from(TYPES))
def test_no_accept_surprises(accept, own):
    try:
        found = answer_type_of(accept, own)
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
def test_csv_says_whether_it_has_a_header(header, expected):
    assert content_type_of(header).has_header is expected


def test_another_word_for_it_is_refused():
    with pytest.raises(RequestError, match="found header=maybe; send header=present or absent"):
        content_type_of("text/csv; header=maybe")
