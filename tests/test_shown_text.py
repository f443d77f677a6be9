import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.errors import DataError, ModelError, one_line, printable, shown


@given(st.text())
def test_no_text_controls_a_terminal(text):
    message = printable(text)
    assert {unicodedata.category(c) for c in message if c not in "\n\t"}.isdisjoint(
        {"Cc", "Zl", "Zp"}
    )
    assert {unicodedata.bidirectional(c) for c in message}.isdisjoint(
        {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    )
    assert "\n" not in one_line(text)
    assert printable(message) == message


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Zl", "Zp"])))
def test_printable_text_is_not_changed(text):
    assert printable(text) == text
    assert one_line(text[:2000]) == text[:2000]


@pytest.mark.slow
@given(st.text(min_size=2001))
def test_a_line_has_an_end(text):
    assert len(one_line(text)) < 2100 * 10


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


@given(VALUES)
def test_any_value_is_shown_in_limited_length(value):
    assert len(shown(value)) < 100_000


@given(st.integers(-(10**50), 10**50) | st.text(max_size=150) | st.booleans() | st.none())
def test_a_small_value_is_shown_as_python_writes_it(value):
    assert shown(value) == repr(value)


def test_large_and_deep_values_are_shortened():
    deep = []
    for _ in range(200):
        deep = [deep, deep]  # 2 ** 200 brackets
    for value in (deep, "x" * 10**6, [10**6 * "y"] * 100, {k: [k] * 9 for k in range(10**5)}):
        assert len(shown(value)) < 2500
    assert shown(16**50_000) == "an integer of 200001 bits"


def test_errors_are_always_one_line():
    error = DataError("a\x1b[2Jb\nc", "mend\u202eit", file="f\x07.csv", row=1, column="x\r")
    assert str(error) == r"f\x07.csv, row 1, column x\r: found a\x1b[2Jb\nc; mend\u202eit"
    assert len(str(ModelError("x" * 10**6))) < 2100
