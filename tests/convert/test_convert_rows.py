import pytest
from conversions import converted, lines_of

from lstmfcn.errors import DataError


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
def test_the_class_of_a_headerless_csv_stands_where_it_is_said(tmp_path, label, header, rows):
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


def test_channels_that_follow_each_other_are_told_apart(tmp_path):
    text = "a\t1\t2\t3\t4\t5\t6\n"
    assert lines_of(tmp_path, "a.tsv", text, n_channels=3) == [
        "y,x1_1,x1_2,x2_1,x2_2,x3_1,x3_2",
        "a,1,2,3,4,5,6",
    ]


def test_classes_are_named_as_training_names_them(tmp_path):
    text = "1.0000000e+00\t1\n1\t2\n007\t3\n0.5\t4\n"
    assert lines_of(tmp_path, "a.tsv", text)[1:] == ["1,1", "1,2", "007,3", "0.5,4"]


HEADER = " or a row without any number; lstmfcn train reads a table with a header as it is"


@pytest.mark.parametrize(
    ("name", "text", "flags", "message"),
    [
        ("a.csv", "y,x_1\na,1\n", {"header": False, "label": "first"},
         f", row 1: found a header (y, x_1){HEADER}"),
        ("a.tsv", "y\tx_1\tx_2\na\t1\t2\n", {}, f", row 1: found a header (y, x_1, x_2){HEADER}"),
        ("a.csv", "1,2,3\n", {}, ": found no header (1, 2, 3); add --no-header, and --label first, "
         "last or none: where the class of a row stands"),
        ("a.csv", "1.5,2,up\n", {}, ": found no header (1.5, 2, up); add --no-header, and --label "
         "first, last or none: where the class of a row stands"),
        ("a.tsv", "a\t1\t2\t3\n", {"n_channels": 2}, ", row 1: found 3 values; --channels 2 needs "
         "rows of as many values of each channel"),
        ("a.tsv", "a\t1,5\t2\na\t1.000,5\t2\n", {}, ", row 2: found '1.000,5' in a file with "
         "decimal commas; write all numbers with one decimal mark, and none between thousands"),
        ("a.tsv", "a\t1.5\t2\na\t1,5\t2\n", {}, ", row 2, column x_1: found '1,5'; only series of "
         "numbers convert; --missing mask makes empty cells of gaps"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused(tmp_path, name, text, flags, message):
    with pytest.raises(DataError) as refusal:
        converted(tmp_path, name, text, **flags)
    assert str(refusal.value) == f"{tmp_path / name}{message}"
    assert not (tmp_path / "output").exists()
