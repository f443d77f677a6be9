import io
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.data.table import MISSING_TEXTS, class_name, class_order, is_missing, match_class


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (["0", "0.0", "-0", "+0", "0e+00", "0.000000000000000000e+00", ".0", "0.", "0E5"], "0"),
        (["1", "1.0", "1.", "+1", "1e0", "1E+00", "10e-1", "0.1e1", " 1 ", "1.0000000e+00"], "1"),
        (["-2", "-2.0", "-2e0", "-0.2E1"], "-2"),
        (["0.5", ".5", "5e-1", "0.50"], "0.5"),
        (["1e3", "1000", "1000.0"], "1000"),
        (["12345678901234567890123", "12345678901234567890123.0"], "12345678901234567890123"),
        (["1e50", "10e49", "1" + "0" * 50], "1e+50"),
        (["1.5e-9", "0.0000000015"], "1.5e-09"),
        (["007"], "007"),
        (["1_000"], "1_000"),
        (["1,0"], "1,0"),
        (["0x1"], "0x1"),
        (["1e"], "1e"),
        ([".", "-", "+"], None),
        (["\u0661"], "\u0661"),
        (["inf"], "inf"),
        (["gro\u0308\u00dfe", "gr\u00f6\u00dfe"], "gr\u00f6\u00dfe"),
        (["a.0"], "a.0"),
    ],
)
def test_numbers_are_one_class_however_they_are_written(texts, name):
    for text in texts:
        assert class_name(text) == (text if name is None else name)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None), st.sampled_from("fEeg"))
def test_equal_numbers_have_equal_names_and_others_have_not(number, form):
    assert class_name(format(number, form)) == class_name(str(number)) or form in "g"
    assert Decimal(class_name(str(number))) == number
    assert class_name(class_name(str(number))) == class_name(str(number))


@given(st.integers())
def test_integers_and_their_names_are_as_they_were(number):
    name = class_name(number)
    assert Decimal(name) == number
    if abs(number) < 10**39:
        assert name == str(number)


@given(st.text())
def test_a_name_names_itself(text):
    assert class_name(class_name(text)) == class_name(text)


@given(st.lists(st.text(max_size=5), min_size=1, unique=True))
def test_a_class_is_found_by_its_own_name(classes):
    classes = [name.strip() for name in classes]
    match = match_class(classes)
    assert [match(name) for name in classes] == classes


@pytest.mark.parametrize("text", sorted(MISSING_TEXTS))
def test_the_texts_of_missing_cells_are_missing_to_pandas(text):
    assert pd.read_csv(io.StringIO(f"a,b\n{text},1\n")).a.isna().all()


@pytest.mark.parametrize("value", [None, float("nan"), "", " ", "nan", "NA", "None", "<NA>"])
def test_texts_of_missing_cells_are_recognised(value):
    assert is_missing(value)
    is_name = isinstance(value, str) and bool(value.strip())
    assert is_missing(value, texts=False) != is_name


@pytest.mark.parametrize("value", ["none", "null_class", 0, False, "0", "N", "no"])
def test_other_texts_are_not_missing_cells(value):
    assert not is_missing(value)


def test_numbers_come_before_text_in_their_order():
    names = ["b", "10", "9", "-1", "nan", "1e+50"]
    assert sorted(names, key=class_order) == ["-1", "9", "10", "1e+50", "b", "nan"]
