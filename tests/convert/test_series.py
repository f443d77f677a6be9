import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.convert.series import first_refused, split_cells
from lstmfcn.errors import DataError
from tests.helpers.conversions import converted


@given(
    cells=st.lists(st.sampled_from(["1", "-2.5", "", "abc", "inf", "1_0", "nan"]), max_size=9),
    missing=st.sampled_from(["refuse", "mask"]),
)
def test_the_first_cell_that_training_refuses_is_found(cells, missing):
    good = {"1", "-2.5"} | ({""} if missing == "mask" else set())
    texts = [
        i for i, cell in enumerate(cells) if cell in ("abc", "1_0") or (cell == "" not in good)
    ]
    others = [i for i, cell in enumerate(cells) if cell not in good]
    expected = texts or others  # cells that are not numbers are reported first
    assert first_refused(cells, missing) == (expected[0] if expected else None)


@pytest.mark.parametrize(
    ("line", "separator", "cells"),
    [
        ("a\t1\t", "\t", ["a", "1", ""]),
        ('"a,b", 1', ",", ["a,b", "1"]),
        ("a  1 2", None, ["a", "1", "2"]),
        ("\u3000", None, [""]),
    ],
)
def test_cells_of_a_line(line, separator, cells):
    assert split_cells(line, separator) == cells


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.tsv", '1\t"{}"\t2\n'), ("a.csv", 'id,time,value,"{}"\n1,1,2,a\n')],
)
def test_cells_that_are_too_long_for_csv_are_reported_in_one_line(tmp_path, name, text):
    with pytest.raises(DataError, match="field larger than field limit"):
        converted(tmp_path, name, text.format("1" * 200_000))


def test_compressed_files_that_are_not_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match="found a zip archive, compressed with gzip"):
        converted(tmp_path, "a.tsv.gz", gzip.compress(b"PK\x03\x04" + b"0" * 400))
