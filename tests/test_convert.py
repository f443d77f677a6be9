import pytest

from lstmfcn.convert.convert import convert
from lstmfcn.errors import DataError, OutputError

TS = """\
# The Toy set, # with comments
@problemName Toy
@timeStamps false
@missing false
@univariate true
@equalLength true
@classLabel true up down

@data
1.50,-2,3e-5:up
# a comment between
0.100,+7,1E+05 : down

  4,5,6:up
"""
NO_GAPS = "only series of numbers convert; --missing mask makes empty cells of gaps"
SHORTER = "--missing mask fills up with empty cells"


def converted(tmp_path, name, text, shards=1, missing="refuse"):
    """What the shards hold, by name."""
    source, output = tmp_path / name, tmp_path / "output"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    rows = convert(str(source), str(output), shards, missing)
    parts = {path.name: path.read_text(encoding="utf-8") for path in sorted(output.iterdir())}
    assert rows == sum(part.count("\n") - 1 for part in parts.values())
    return parts


def test_a_tsv_is_copied_digit_by_digit(tmp_path):
    text = "1\t0.10\t-2.50000000001234567\n-1\t3E+05\t.5\n\nzwölf, rund\t+1\t007\n"
    assert converted(tmp_path, "Toy_TRAIN.tsv", text) == {
        "part-000.csv": "y,x_1,x_2\n"
        "1,0.10,-2.50000000001234567\n"
        "-1,3E+05,.5\n"
        '"zwölf, rund",+1,007\n'
    }


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_ts_is_copied_without_header_and_comments(tmp_path, ending):
    assert converted(tmp_path, "Toy_TRAIN.ts", TS.replace("\n", ending)) == {
        "part-000.csv": "y,x_1,x_2,x_3\nup,1.50,-2,3e-5\ndown,0.100,+7,1E+05\nup,4,5,6\n"
    }


def test_the_word_data_may_be_written_in_capitals(tmp_path):
    assert converted(tmp_path, "a.ts", "@DATA\n1,2:a\n") == {"part-000.csv": "y,x_1,x_2\na,1,2\n"}


def test_several_dimensions_become_channels(tmp_path):
    text = "@dimensions 3\n@data\n1,2: 3,4:5.0,6:a\n7,8:9,10:11,12:b\n"
    assert converted(tmp_path, "a.ts", text) == {
        "part-000.csv": "y,x1_1,x1_2,x2_1,x2_2,x3_1,x3_2\na,1,2,3,4,5.0,6\nb,7,8,9,10,11,12\n"
    }


@pytest.mark.parametrize(
    ("shards", "rows"), [(1, [7]), (2, [4, 3]), (3, [3, 2, 2]), (7, [1, 1, 1, 1, 1, 1, 1])]
)
def test_rows_are_spread_in_order_over_the_shards(tmp_path, shards, rows):
    parts = converted(tmp_path, "a.tsv", "".join(f"c\t{i}\n" for i in range(7)), shards)
    assert list(parts) == [f"part-{i:03d}.csv" for i in range(shards)]
    assert [part.count("\n") - 1 for part in parts.values()] == rows
    body = [line for part in parts.values() for line in part.splitlines()[1:]]
    assert body == [f"c,{i}" for i in range(7)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "1\t1\t2\n2\t3\n", ", row 2: found 1 values; the first series has 2; "
         f"{SHORTER}"),
        ("a.tsv", "1\t1\t2\n\t3\t4\n", ", row 2: found no class; name the series' class"),
        ("a.tsv", "1\t1\tNaN\n", f", row 1, column x_2: found 'NaN'; {NO_GAPS}"),
        ("a.tsv", "1\t1\t2\n2\t\t4\n", f", row 2, column x_1: found ''; {NO_GAPS}"),
        ("a.tsv", "1\t1\tinf\n", f", row 1, column x_2: found 'inf'; {NO_GAPS}"),
        ("a.tsv", "1\t1\n\n2\t?\n", f", row 3, column x_1: found '?'; {NO_GAPS}"),
        ("a.tsv", "", ": found no series; name a file that holds some"),
        ("a.tsv", "\n\n", ": found no series; name a file that holds some"),
        ("a.ts", "@data\n1,2:a\n1,2,3:b\n", ", row 2: found 3 values; the first series has 2; "
         f"{SHORTER}"),
        ("a.ts", "@data\n1,2:3,4:a\n1,2:b\n", ", row 2: found 1 dimensions; the first series has "
         "2, and only equal numbers convert"),
        ("a.ts", "@data\n1,2:3,4,5:a\n", ", row 1: found 3 values in dimension 2; the first "
         f"series has 2; {SHORTER}"),
        ("a.ts", "@data\n1,2:3,4:a\n1,2:3,?:a\n", f", row 2, column x2_2: found '?'; {NO_GAPS}"),
        ("a.ts", "@data\n1,2:a\n1,?:a\n", f", row 2, column x_2: found '?'; {NO_GAPS}"),
        ("a.ts", "@data\nNaN,2:a\n", f", row 1, column x_1: found 'NaN'; {NO_GAPS}"),
        ("a.ts", "@data\n1,,3:a\n", f", row 1, column x_2: found ''; {NO_GAPS}"),
        ("a.ts", "@data\n(0,1),(1,2):a\n", f", row 1, column x_1: found '(0'; {NO_GAPS}"),
        ("a.ts", "@data\n1,2:\n", ", row 1: found no class; name the series' class"),
        ("a.ts", "@data\n", ": found no series; name a file that holds some"),
        ("a.ts", "1,2:a\n", ": found no line @data; name a file in sktime's .ts format"),
        ("a.ts", "", ": found no line @data; name a file in sktime's .ts format"),
        ("a.csv", "y,x\n1,2\n", ": found no archive file by its name; name one ending in .tsv or "
         ".ts"),
        ("tsv", "1\t2\n", ": found no archive file by its name; name one ending in .tsv or .ts"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused_by_row(tmp_path, name, text, message):
    with pytest.raises(DataError) as refusal:
        converted(tmp_path, name, text)
    assert str(refusal.value) == f"{tmp_path / name}{message}"
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.tsv", "a\t1\tNaN\t3\nb\t4\t5\tnan\nc\t\t6\n", ["a,1,,3", "b,4,5,", "c,,6,"]),
        ("a.ts", "@data\n1,2:a\n1,?,3:b\n", ["a,1,2,", "b,1,,3"]),
        ("a.ts", "@data\n1:2,3:a\n?,4:5:b\n", ["a,1,,2,3", "b,,4,5,"]),
    ],
)
def test_gaps_and_shorter_series_become_empty_cells_where_asked_for(tmp_path, name, text, rows):
    (part,) = converted(tmp_path, name, text, missing="mask").values()
    assert part.splitlines()[1:] == rows


def test_what_is_no_gap_is_refused_all_the_same(tmp_path):
    with pytest.raises(DataError, match=r"row 2, column x_1: found 'x'"):
        converted(tmp_path, "a.tsv", "a\t1\tNaN\nb\tx\t2\n", missing="mask")


def test_more_shards_than_rows_are_refused(tmp_path):
    with pytest.raises(OutputError) as refusal:
        converted(tmp_path, "a.tsv", "1\t1\n2\t2\n", shards=3)
    assert str(refusal.value).endswith(": 3 shards for 2 rows; use fewer shards")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a.tsv: found nothing; check the path"):
        convert(str(tmp_path / "a.tsv"), str(tmp_path / "output"))


def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\xff\t1\n")
    with pytest.raises(DataError) as refusal:
        convert(str(path), str(tmp_path / "output"))
    assert str(refusal.value).startswith(f"{path}: found a file that cannot be read (")
    assert str(refusal.value).endswith("); check it")
    assert not (tmp_path / "output").exists()


def test_an_output_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    with pytest.raises(OutputError) as refusal:
        converted(tmp_path, "a.tsv", "1\t1\n")
    assert str(refusal.value) == (
        f"{output}: holds something already; name a new --output or remove it"
    )
    assert [path.name for path in output.iterdir()] == ["mine.txt"]


def test_an_empty_output_folder_is_filled(tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "a.tsv").write_text("1\t1\n2\t2\n")
    assert convert(str(tmp_path / "a.tsv"), str(tmp_path / "output")) == 2
    assert (tmp_path / "output" / "part-000.csv").read_text() == "y,x_1\n1,1\n2,2\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "1\t2\n2\n", "row 2: found 0 values; the first series has 1"),
        ("a.tsv", "1\n", "row 1: found 0 values"),
        ("a.ts", "@data\n1,2,3\n", "row 1: found no class; end the row with : and its class"),
    ],
)
def test_a_row_without_values_or_class_is_refused_and_not_dropped(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        convert(str(tmp_path / name), str(tmp_path / "out"))


def test_a_byte_order_mark_is_no_part_of_the_first_class(tmp_path):
    (tmp_path / "a.tsv").write_bytes("1\t2\n".encode("utf-8-sig"))
    convert(str(tmp_path / "a.tsv"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "part-000.csv").read_text() == "y,x_1\n1,2\n"
