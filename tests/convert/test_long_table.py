import pytest

from lstmfcn.errors import DataError
from tests.helpers.conversions import converted, lines_of

TABLE = """\
id,y,t,value
7,up,x_1,1.50
8,down,x_1,-2
7,up,x_10,3e-5
8,down,x_10,+4
7,up,x_2,.5
8,down,x_2,6
"""


def spaced(text):
    """The times 1, 10, 2 as 1, 3, 2, which are equally spaced."""
    return text.replace("x_10", "x_3")


def test_a_melted_table_becomes_series_in_order_of_time(tmp_path):
    assert lines_of(tmp_path, "a.csv", spaced(TABLE)) == [
        "y,x_1,x_2,x_3",
        "up,1.50,.5,3e-5",
        "down,-2,6,+4",
    ]


def test_channels_are_in_order_of_first_appearance(tmp_path):
    text = """case_id,dim_id,reading_id,value,Label
    0,acc,0,1,a
    0,acc,1,2,a
    0,gyr,0,3,a
    0,gyr,1,4,a
    """.replace(" ", "").strip()
    assert lines_of(tmp_path, "a.csv", text) == ["y,x1_1,x1_2,x2_1,x2_2", "a,1,2,3,4"]


@pytest.mark.parametrize(
    "times", [("2026-01-01", "2026-01-02"), ("0.1", "0.2"), ("12:00", "12:01"), ("t9", "t10")]
)
def test_times_may_be_dates_and_numbers(tmp_path, times):
    if ":" in times[0]:
        times = tuple(f"2026-01-01 {time}:00" for time in times)
    text = f"id,time,value,label\n1,{times[1]},2,a\n1,{times[0]},1,a\n"
    assert lines_of(tmp_path, "a.csv", text)[1:] == ["a,1,2"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_and_decimal_commas(tmp_path, separator):
    text = "id;time;value;label\n1;1;0,5;a\n1;2;-1,25;a\n".replace(";", separator)
    assert lines_of(tmp_path, "a.csv", text)[1:] == ["a,0.5,-1.25"]


def test_labels_may_be_left_out(tmp_path):
    rows = lines_of(tmp_path, "a.csv", spaced(TABLE), label="none")
    assert rows == ["x_1,x_2,x_3", "1.50,.5,3e-5", "-2,6,+4"]


def test_series_may_be_shorter_with_missing_mask(tmp_path):
    text = "id,time,value,label\n1,1,1,a\n1,2,NA,a\n1,3,3,a\n2,5,7,b\n2,6,8,b\n"
    assert lines_of(tmp_path, "a.csv", text, missing="mask")[1:] == ["a,1,,3", "b,7,8,"]


LONG = (
    "a long table has the columns id, time, value, label and optionally channel; lstmfcn train "
    "reads a table with one series per row directly"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y,x_1,x_2\na,1,2\n", f": found the columns y, x_1, x_2; {LONG}"),
        ("id,time,value\n1,1,1\n", f": found the columns id, time, value; {LONG}"),
        ("id,case_id,t,value,y\n", ": found the columns id, case_id, which could all be the id; "
         "rename all but the id"),
        ("id,id,t,value,y\n", ": found the columns id, id, which could all be the id; rename all "
         "but the id"),
        (TABLE, ", row 1: found times that do not increase in equal steps; resample the series, "
         "or number the values 1, 2, ... if the times do not matter"),
        (spaced(TABLE).replace("8,down,x_2,6\n", ""), ", row 2: found 2 values; the first series "
         "has 3; --missing mask fills shorter series with empty cells"),
        (spaced(TABLE) + "8,up,x_4,6\n", ", row 7, column y: found the class 'up', and 'down' in "
         "row 2 of the same series; write the same class in all rows of a series"),
        (spaced(TABLE).replace("3e-5", "1_0"), ", row 3: found '1_0'; values must be numbers; "
         "--missing mask turns gaps into empty cells"),
        (spaced(TABLE).replace("7,up,x_3", "7,up"), ", row 3: found 3 cells; the header has 4 "
         "columns: write one cell for each"),
        (TABLE.replace("8,down,x_2", ",down,x_2"), ", row 6, column id: found an empty cell; "
         "fill it or remove the row"),
        (TABLE.replace("x_2", "later"), ": found the times x_1, x_1, x_10, x_10, later, later; "
         "write numbers, dates such as 2026-01-31 13:00:00, or one word followed by numbers "
         "(t1, t2)"),
        (spaced(TABLE).replace("up", "NA"), ", row 1: found 'NA', which stands for a missing "
         "class; write the class or remove the row; --label none converts without "
         "labels"),
        ("id;t;value;y\n1;1;1,5;a\n1;2;1.5;a\n", ", row 2, column value: found '1.5' in a file "
         "with decimal commas; use one decimal mark in all numbers, and no thousands separators"),
        ("id,time,value,label\n", ": found no series; give a file that has some"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_converted_are_refused(tmp_path, text, message):
    with pytest.raises(DataError) as refusal:
        converted(tmp_path, "a.csv", text)
    assert str(refusal.value) == f"{tmp_path / 'a.csv'}{message}"
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    "text",
    [
        "id, time , value,label\n1,1,2,a\n1,2,3,a\n",
        "\n\nid,time,value,label\n1,1,2,a\n\n1,2,3,a\n",
        "id;time;value;label\n1;0,5;2;a\n1;1,5;3;a\n",
    ],
)
def test_blanks_around_names_lines_above_them_and_decimal_commas_of_times(tmp_path, text):
    assert lines_of(tmp_path, "a.csv", text) == ["y,x_1,x_2", "a,2,3"]


def test_a_class_is_one_however_it_is_written(tmp_path):
    text = "id,time,value,label\n1,1,2,1.0\n1,2,3,1\n"
    assert lines_of(tmp_path, "a.csv", text)[1:] == ["1,2,3"]
