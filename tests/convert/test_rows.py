import pytest

from lstmfcn.errors import DataError
from tests.helpers.conversions import converted, lines_of


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Toy_TRAIN", "1.0000000e+00,0.5,-2\n-1,3E+05,.5\n"),
        ("Toy_TRAIN.txt", "  1.0000000e+00  0.5  -2\n -1   3E+05 .5  \n"),
        ("a.TXT", "1\t0.5\t-2\r\n-1\t3E+05\t.5\r\n"),
        ("a.tsv", "1;0.5;-2\n-1;3E+05;.5\n"),
    ],
)
def test_separators_are_found(tmp_path, name, text):
    assert lines_of(tmp_path, name, text) == ["y,x_1,x_2", "1,0.5,-2", "-1,3E+05,.5"]


@pytest.mark.parametrize(
    ("label", "header", "rows"),
    [
        ("first", "y,x_1,x_2", ["1,2,3", "4,5,6"]),
        ("last", "y,x_1,x_2", ["3,1,2", "6,4,5"]),
        ("none", "x_1,x_2,x_3", ["1,2,3", "4,5,6"]),
    ],
)
def test_label_says_where_the_class_of_a_headerless_csv_is(tmp_path, label, header, rows):
    text = "1,2,3\n4,5,6\n"
    assert lines_of(tmp_path, "a.csv", text, header=False, label=label) == [header, *rows]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_found_where_no_comma_separates(tmp_path, separator, caplog):
    caplog.set_level("INFO")
    text = "0,5;1,25;-2\n1,0;3;4,0e1\nab;1;2\n".replace(";", separator)
    rows = lines_of(tmp_path, "a.csv", text, header=False, label="first")
    assert rows == ["y,x_1,x_2", "0.5,1.25,-2", "1,3,4.0e1", "ab,1,2"]
    assert "and decimal commas" in caplog.text


def test_quoted_class_names_may_hold_the_separator(tmp_path):
    text = '1,"a,b"\n2,"say ""c"""\n'
    rows = lines_of(tmp_path, "a.csv", text, header=False, label="last")
    assert rows == ["y,x_1", '"a,b",1', '"say ""c""",2']


def test_channels_in_one_row_are_split(tmp_path):
    text = "a\t1\t2\t3\t4\t5\t6\n"
    assert lines_of(tmp_path, "a.tsv", text, n_channels=3) == [
        "y,x1_1,x1_2,x2_1,x2_2,x3_1,x3_2",
        "a,1,2,3,4,5,6",
    ]


def test_classes_are_named_as_training_names_them(tmp_path):
    text = "1.0000000e+00\t1\n1\t2\n007\t3\n0.5\t4\n"
    assert lines_of(tmp_path, "a.tsv", text)[1:] == ["1,1", "1,2", "007,3", "0.5,4"]


HEADER = " or a row without any number; lstmfcn train reads a table with a header directly"


@pytest.mark.parametrize(
    ("name", "text", "flags", "message"),
    [
        ("a.csv", "y,x_1\na,1\n", {"header": False, "label": "first"},
         f", row 1: found a header (y, x_1){HEADER}"),
        ("a.tsv", "y\tx_1\tx_2\na\t1\t2\n", {}, f", row 1: found a header (y, x_1, x_2){HEADER}"),
        ("a.csv", "1,2,3\n", {}, ": found no header (1, 2, 3); add --no-header, and --label "
         "first, last or none: where the class is in a row"),
        ("a.csv", "1.5,2,up\n", {}, ": found no header (1.5, 2, up); add --no-header, and "
         "--label first, last or none: where the class is in a row"),
        ("a.tsv", "a\t1\t2\t3\n", {"n_channels": 2}, ", row 1: found 3 values; --channels 2 "
         "needs the same number of values for each channel"),
        ("a.tsv", "a\t1,5\t2\na\t1.000,5\t2\n", {}, ", row 2: found '1.000,5' in a file with "
         "decimal commas; use one decimal mark in all numbers, and no thousands separators"),
        ("a.tsv", "a\t1.5\t2\na\t1,5\t2\n", {}, ", row 2, column x_1: found '1,5'; values must "
         "be numbers; --missing mask turns gaps into empty cells"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_converted_are_refused(tmp_path, name, text, flags, message):
    with pytest.raises(DataError) as refusal:
        converted(tmp_path, name, text, **flags)
    assert str(refusal.value) == f"{tmp_path / name}{message}"
    assert not (tmp_path / "output").exists()
