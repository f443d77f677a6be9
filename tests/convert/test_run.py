import bz2
import gzip
import lzma
import os

import pytest

import lstmfcn.convert.run
from lstmfcn.convert.run import convert
from lstmfcn.data.csv_parser import BLOCK_BYTES
from lstmfcn.errors import DataError, OutputError
from tests.helpers.conversions import converted, lines_of

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
NO_GAPS = "values must be numbers; --missing mask turns gaps into empty cells"
SHORTER = "--missing mask fills shorter series with empty cells"


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
    parts = converted(tmp_path, "a.tsv", "".join(f"c\t{i}\n" for i in range(7)), shards=shards)
    assert list(parts) == [f"part-{i:03d}.csv" for i in range(shards)]
    assert [part.count("\n") - 1 for part in parts.values()] == rows
    body = [line for part in parts.values() for line in part.splitlines()[1:]]
    assert body == [f"c,{i}" for i in range(7)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "1\t1\t2\n2\t3\n", ", row 2: found 1 value; the first series has 2; "
         f"{SHORTER}"),
        ("a.tsv", "1\t1\t2\n\t3\t4\n", ", row 2: found no class; write the class of the series"),
        ("a.tsv", "1\t1\tNaN\n", f", row 1, column x_2: found 'NaN'; {NO_GAPS}"),
        ("a.tsv", "1\t1\t2\n2\t\t4\n", f", row 2, column x_1: found ''; {NO_GAPS}"),
        ("a.tsv", "1\t1\tinf\n", f", row 1, column x_2: found 'inf'; {NO_GAPS}"),
        ("a.tsv", "1\t1\n\n2\t?\n", f", row 3, column x_1: found '?'; {NO_GAPS}"),
        ("a.tsv", "", ": found an empty file; add rows to it or remove it"),
        ("a.tsv", "\n\n", ": found no series; give a file that has some"),
        ("a.ts", "@data\n1,2:a\n1,2,3:b\n", ", row 2: found 3 values; the first series has 2; "
         f"{SHORTER}"),
        ("a.ts", "@data\n1,2:3,4:a\n1,2:b\n", ", row 2: found 1 dimension; the first series has "
         "2; all series need the same number"),
        ("a.ts", "@data\n1,2:3,4,5:a\n", ", row 1: found 3 values in dimension 2; the first "
         f"series has 2; {SHORTER}"),
        ("a.ts", "@data\n1,2:3,4:a\n1,2:3,?:a\n", f", row 2, column x2_2: found '?'; {NO_GAPS}"),
        ("a.ts", "@data\n1,2:a\n1,?:a\n", f", row 2, column x_2: found '?'; {NO_GAPS}"),
        ("a.ts", "@data\nNaN,2:a\n", f", row 1, column x_1: found 'NaN'; {NO_GAPS}"),
        ("a.ts", "@data\n1,,3:a\n", f", row 1, column x_2: found ''; {NO_GAPS}"),
        ("a.ts", "@data\n1,2:\n", ", row 1: found no class; write the class of the series"),
        ("a.ts", "@data\n", ": found no series; give a file that has some"),
        ("a.ts", "1,2:a\n", ": found no line @data; give a file in sktime's .ts format"),
        ("a.ts", "\n", ": found no line @data; give a file in sktime's .ts format"),
        ("a.dat", "1\t2\n", ": found a file name without a known suffix; give a file that ends "
         "in .tsv, .txt, .ts, .arff, .csv, .npz, .npy"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_converted_are_refused_by_row(tmp_path, name, text, message):
    with pytest.raises(DataError) as refusal:
        converted(tmp_path, name, text)
    assert str(refusal.value) == f"{tmp_path / name}{message}"
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.tsv", "a\t1\tNaN\t3\nb\t4\t5\tnan\nc\t\t6\n", ["a,1,,3", "b,4,5,", "c,,6,"]),
        ("a.tsv", "a\t1\tNA\t3\nb\tnull\t5\t6\n", ["a,1,,3", "b,,5,6"]),
        ("a.ts", "@data\n1,2:a\n1,?,3:b\n", ["a,1,2,", "b,1,,3"]),
        ("a.ts", "@data\n1:2,3:a\n?,4:5:b\n", ["a,1,,2,3", "b,,4,5,"]),
    ],
)
def test_gaps_and_shorter_series_become_empty_cells_where_asked_for(tmp_path, name, text, rows):
    (part,) = converted(tmp_path, name, text, missing="mask").values()
    assert part.splitlines()[1:] == rows


def test_texts_that_are_not_gaps_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"row 2, column x_1: found 'x'"):
        converted(tmp_path, "a.tsv", "a\t1\tNaN\nb\tx\t2\n", missing="mask")


def test_more_shards_than_rows_are_refused(tmp_path):
    with pytest.raises(OutputError) as refusal:
        converted(tmp_path, "a.tsv", "1\t1\n2\t2\n", shards=3)
    assert str(refusal.value).endswith(": 3 shards for 2 rows; use fewer shards")


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a.tsv: found nothing; check the path"):
        convert(str(tmp_path / "a.tsv"), str(tmp_path / "output"))


def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\xff\t1\n")
    with pytest.raises(DataError) as refusal:
        convert(str(path), str(tmp_path / "output"))
    assert str(refusal.value) == (
        f"{path}: found bytes that are not UTF-8, probably CP1252, in which a cell reads '\xff'; "
        f"convert it: iconv -f CP1252 -t UTF-8 {path} > new.tsv"
    )
    assert not (tmp_path / "output").exists()


def test_an_output_folder_that_is_not_empty_is_refused_and_not_changed(tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    with pytest.raises(OutputError) as refusal:
        converted(tmp_path, "a.tsv", "1\t1\n")
    assert str(refusal.value) == (
        f"{output}: is not empty; add --overwrite, or choose another --output"
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


def test_a_byte_order_mark_is_not_part_of_the_first_class(tmp_path):
    (tmp_path / "a.tsv").write_bytes("1\t2\n".encode("utf-8-sig"))
    convert(str(tmp_path / "a.tsv"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "part-000.csv").read_text() == "y,x_1\n1,2\n"


@pytest.mark.parametrize("ending", [".TSV", ".Tsv.gz", ".tsv.GZ"])
def test_the_end_of_a_name_may_have_capitals(tmp_path, ending):
    text = b"a\t1\nb\t2\n"
    content = gzip.compress(text) if ending.lower().endswith("gz") else text
    assert lines_of(tmp_path, f"a{ending}", content) == ["y,x_1", "a,1", "b,2"]


@pytest.mark.parametrize(("ending", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress)])
@pytest.mark.parametrize("name", ["a.tsv", "a"])
def test_packed_files_are_unpacked(tmp_path, ending, pack, name):
    content = pack(b"a\t1\nb\t2\n")
    assert lines_of(tmp_path, f"{name}.{ending}", content) == ["y,x_1", "a,1", "b,2"]


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.ts", ""),
        ("a.ts", "@data\n1,2:a\n"),
        ("a.tsv", "a\t1\t2\n"),
        ("a.txt", ""),
        ("a.arff", "@attribute a real\n@attribute b real\n@data\n1,2\n"),
        ("a.csv", ""),
        ("a.csv", "id,time,value,label\n1,1,1,a\n"),
    ],
)
def test_an_endless_line_is_refused_in_one_line(tmp_path, name, start):
    path = tmp_path / f"{name}.gz"
    with gzip.open(path, "wb") as file:
        file.write(start.encode())
        for _ in range(BLOCK_BYTES >> 19):
            file.write(b"1,1;1\t1" * (1 << 17))
    label = "first" if name == "a.arff" else None
    with pytest.raises(DataError, match=r"more than 16 MiB|[0-9,]{9} cells") as refusal:
        convert(str(path), str(tmp_path / "output"), label=label)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("change", ["a\t1\t2\n", "a\t3\n", ""])
def test_a_file_that_changes_between_its_two_readings_is_refused(tmp_path, monkeypatch, change):
    path = tmp_path / "a.tsv"
    path.write_text("a\t1\nb\t2\n")

    def check_and_change(*arguments):
        shape = look(*arguments)
        path.write_text(change + "b\t2\n")
        return shape

    look = lstmfcn.convert.run.validate_series
    monkeypatch.setattr(lstmfcn.convert.run, "validate_series", check_and_change)
    with pytest.raises(DataError) as refusal:
        convert(str(path), str(tmp_path / "output"))
    assert str(refusal.value) == (
        f"{path}: found a file that changed while it was being read; run the command again when "
        "the file is complete"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tsv"]


def test_a_folder_and_several_files_are_refused(tmp_path):
    for name in ("a.tsv", "b.tsv"):
        (tmp_path / name).write_text("a\t1\n")
    for data, found in ((tmp_path, "a folder"), (tmp_path / "*.tsv", "2 files")):
        with pytest.raises(DataError) as refusal:
            convert(str(data), str(tmp_path / "output"))
        assert str(refusal.value) == (
            f"{data}: found {found}; convert one file at a time, each into its own folder"
        )


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.tsv")
    with pytest.raises(DataError):
        convert(str(tmp_path / "a.tsv"), str(tmp_path / "output"))


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("a.ts", {"label": "last"}, "found --label last; a .ts file states its classes itself: "
         "use --label none or remove the flag"),
        ("a.npz", {"label": "first"}, "found --label first; a .npz file states its classes "
         "itself: use --label none or remove the flag"),
        ("a.csv", {"label": "first"}, "found --label first; a .csv file states its classes "
         "itself: use --label none or remove the flag"),
        ("a.arff", {"n_channels": 2}, "found --channels; a .arff file states its channels "
         "itself: remove the flag"),
        ("a.csv", {"header": False}, "found --no-header without --label; add --label first, last "
         "or none: where the class is in a row"),
    ],
)  # fmt: skip
def test_flags_for_what_the_file_states_are_refused(tmp_path, name, flags, message):
    with pytest.raises(DataError) as refusal:
        converted(tmp_path, name, "1", **flags)
    assert str(refusal.value) == f"{tmp_path / name}: {message}"


@pytest.mark.parametrize("label", ["a\x1bb", "a\x00b", "a\u2028b"])
def test_class_names_with_control_characters_are_refused(tmp_path, label):
    with pytest.raises(DataError, match="write it on one line, without control characters"):
        converted(tmp_path, "a.tsv", f"{label}\t1\n")
