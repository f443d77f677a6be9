import pytest

from lstmfcn.errors import DataError
from tests.helpers.conversions import converted, lines_of

NO_GAPS = "values must be numbers; --missing mask turns gaps into empty cells"
NO_LABELS = "--label none converts them without labels, for lstmfcn predict"
CORRECT = "correct one of the two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@dimensions 2\n@classLabel false\n@data\n1,2:3,4\n",
         f": found @classLabel false: rows without classes; {NO_LABELS}"),
        ("@targetLabel true\n@data\n1,2:0.731\n",
         ": found @targetLabel true: numbers to predict (regression), no classes; lstmfcn only "
         "classifies; --label none drops the numbers"),
        ("@classLabel true a b\n@data\n1,2:a\n1,2:c\n",
         f", row 2: found the class 'c'; the header lists a, b; {CORRECT}"),
        ("@classLabel true a b\n@data\n1,2:?\n",
         ", row 1: found '?', which stands for a missing class; write the class or remove the "
         "row; --label none converts without labels"),
        ("@dimensions 2\n@data\n1,2:3,4:a\n1,2:a\n",
         f", row 2: found 1 dimension; the header says @dimensions 2; {CORRECT}"),
        ("@dimensions 2\n@data\n1,2:3,4\n",
         f", row 1: found 1 dimension; the header says @dimensions 2; {CORRECT}"),
        ("@univariate true\n@data\n1,2:3,4:a\n",
         f", row 1: found 2 dimensions; the header says @univariate true; {CORRECT}"),
        ("@equalLength true\n@seriesLength 3\n@data\n1,2:a\n",
         f", row 1: found 2 values; the header says @seriesLength 3; {CORRECT}"),
        ("@timeStamps true\n@data\n1,2:a\n",
         f", row 1: found values without times; the header says @timeStamps true; {CORRECT}"),
        ("1,2\n@data\n1,2:a\n",
         ": found '1,2' before the line @data; start comments with # and lines that describe "
         "the data with @"),
        ("@data\n@a,2:a\n", f", row 1, column x_1: found '@a'; {NO_GAPS}"),
        ("@data\n1,2:a\n1,1_000:a\n", f", row 2, column x_2: found '1_000'; {NO_GAPS}"),
        ("@data\n(0,1),(1,2),(3,4):a\n",
         ", row 1: found times that do not increase in equal steps; resample the series, or "
         "number the values 1, 2, ... if the times do not matter"),
        ("@data\n(1,1),(0,2):a\n", ", row 1: found times that do not increase in equal steps; "
         "resample the series, or number the values 1, 2, ... if the times do not matter"),
        ("@data\n(0,1),(1,2):a\n(0,1),(2,2):a\n",
         ", row 2: found times that are 2 apart; earlier times are 1 apart: resample to equal "
         "steps"),
        ("@data\n(0,1),(1,2):(1,1),(2,2):a\n",
         ", row 1: found channels that start at different times; keep only the times that all "
         "channels have"),
        ("@data\n(0,1),2:a\n",
         ", row 1: found '(0,1),2' among values with times; write each value as (time,value)"),
        ("@data\n(0):a\n",
         ", row 1: found '(0)' among values with times; write each value as (time,value)"),
        ("@data\n(noon,1),(night,2):a\n",
         ", row 1: found the times noon, night; write numbers, dates such as 2026-01-31 13:00:00, "
         "or one word followed by numbers (t1, t2)"),
    ],
)  # fmt: skip
def test_rows_that_contradict_the_header_are_refused(tmp_path, text, message):
    with pytest.raises(DataError) as refusal:
        converted(tmp_path, "a.ts", text)
    assert str(refusal.value) == f"{tmp_path / 'a.ts'}{message}"
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    "header",
    ["% a comment\n  # another\n@problemName a\n@classLabel true a b\n\n@DATA\n", "@data\n"],
)
def test_comments_are_not_rows(tmp_path, header):
    text = f"{header}% one\n1,2:a\n# two: 2, 3\n\n  % three\n3,4:b\n"
    assert lines_of(tmp_path, "a.ts", text) == ["y,x_1,x_2", "a,1,2", "b,3,4"]


@pytest.mark.parametrize(
    "times",
    [
        "(2007-01-01 00:00:00,1.50),(2007-01-01 00:01:00,-2),(2007-01-01 00:02:00,3e-5)",
        "(0,1.50),(1,-2),(2,3e-5)",
        "(0.1,1.50), (0.2,-2), (0.30000000000000004,3e-5)",
        "(t9,1.50),(t10,-2),(t11,3e-5)",
    ],
)
def test_values_with_equally_spaced_times_lose_the_times(tmp_path, times, caplog):
    caplog.set_level("INFO")
    text = f"@timeStamps true\n@univariate true\n@classLabel true a b\n@data\n{times}:a\n"
    assert lines_of(tmp_path, "a.ts", text) == ["y,x_1,x_2,x_3", "a,1.50,-2,3e-5"]
    assert "times are not copied" in caplog.text


def test_dimensions_with_times_become_channels(tmp_path):
    one, two = "2007-01-01 00:00", "2007-01-01 00:01"
    text = f"@data\n({one},1),({two},2):({one},3),({two},4):a\n"
    assert lines_of(tmp_path, "a.ts", text) == ["y,x1_1,x1_2,x2_1,x2_2", "a,1,2,3,4"]


@pytest.mark.parametrize(
    ("header", "row", "cells"),
    [
        ("@classLabel false\n", "1,2:3,4", "1,2,3,4"),
        ("@dimensions 2\n", "1,2:3,4", "1,2,3,4"),
        ("@classLabel true a\n", "1,2:3,4:a", "1,2,3,4"),
        ("@classLabel true a\n", "1,2:3,4:?", "1,2,3,4"),
        ("@targetLabel true\n", "1,2:3,4:0.731", "1,2,3,4"),
    ],
)
def test_without_labels_all_dimensions_are_values(tmp_path, header, row, cells):
    text = f"{header}@data\n{row}\n"
    assert lines_of(tmp_path, "a.ts", text, label="none") == ["x1_1,x1_2,x2_1,x2_2", cells]


def test_numbers_are_one_class_however_header_and_rows_write_them(tmp_path):
    text = "@classLabel true 1.0 2\n@data\n5:1\n6:2.0\n"
    assert lines_of(tmp_path, "a.ts", text) == ["y,x_1", "1,5", "2,6"]


def test_series_may_be_shorter_than_the_header_says_with_missing_mask(tmp_path):
    text = "@seriesLength 3\n@data\n1,2,3:a\n4,5:b\n"
    assert lines_of(tmp_path, "a.ts", text, missing="mask")[1:] == ["a,1,2,3", "b,4,5,"]
