import bz2
import csv
import gzip
import io
import logging
import lzma
import os
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lstmfcn.check.findings import check
from lstmfcn.data import csv_parser, dialect, reader
from lstmfcn.data.dialect import ONE_MARK
from lstmfcn.data.reader import open_dataset, read_tables
from lstmfcn.errors import DataError

NAMED, ONE_HOT = "y,x_1,x_2\n", "y_1,y_2,x_1,x_2\n"
NUMBER = "write a number or remove the row"
GAP = f"{NUMBER}, or train with --missing mask"
CLASS = "write the row's class or remove the row"
BIT = "write 0 or 1"
SINGLE_1 = "put exactly one 1 in the row, or use --task multilabel"
NAN, INF, MINUS_INF = (
    f"{value}, which is not a finite 32-bit number" for value in ("nan", "inf", "-inf")
)
CELLS = "the header has 3 columns: write one cell for each"
FILL = "add rows or remove the file"
VALUES = "start the names of the value columns with x, and separate names by commas"
BOTH = "column y_1 to y_2"
RENAME = (
    "rename columns that are not values (names that start with x are values), or name all "
    "values x_1, x_2, ... or x1_1, x1_2, ... (channel, timepoint)"
)
quickly = settings(max_examples=60, database=None)


def write(folder, shards):
    for name, content in shards.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def parquet(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def read(data, task="multiclass", schema=None, labels=True):
    """Read a data argument: its schema, values and labels (encoded, or class names).

    One thread reads it, and three read short segments; both must find the same, or refuse it alike.
    """
    dataset = open_dataset(str(data), task, schema, labels)
    with pytest.MonkeyPatch.context() as short:
        short.setattr(csv_parser, "SEGMENT_BYTES", 16)
        found, refusal = outcome(dataset, labels, threads=3)
    expected, expected_refusal = outcome(dataset, labels, threads=1)
    assert str(refusal) == str(expected_refusal)
    if expected is None:
        raise expected_refusal
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    return dataset.schema, *expected


def outcome(dataset, labels, threads):
    """What is read, or the refusal."""
    try:
        return read_all(dataset, labels, threads), None
    except DataError as refusal:
        return None, refusal


def read_all(dataset, labels, threads):
    schema, values, answers = dataset.schema, [], []
    for shard, header in zip(dataset.shards, dataset.headers, strict=True):
        for table, source in read_tables(shard, schema, labels, header, threads=threads):
            values.append(schema.encode_values(table, source))
            if labels:
                encode = schema.label_names if schema.holds_names else schema.encode_labels
                answers += list(encode(table, source))
    return np.concatenate(values), answers


def catch_refusal(data, *args, **options):
    with pytest.raises(DataError) as refusal:
        read(data, *args, **options)
    return refusal.value


@pytest.mark.parametrize(
    ("task", "content", "place", "found", "fix"),
    [
        ("multiclass", NAMED + "a,1,2\nb,,2\n", ", row 2, column x_1", "an empty cell", GAP),
        ("multiclass", NAMED + 'a,1,""\n', ", row 1, column x_2", "an empty cell", GAP),
        ("multiclass", NAMED + ",1,2\n", ", row 1, column y", "an empty cell", CLASS),
        ("multiclass", NAMED + "a,nan,2\n", ", row 1, column x_1", NAN, GAP),
        ("multiclass", NAMED + "a,1,inf\n", ", row 1, column x_2", INF, NUMBER),
        ("multiclass", NAMED + "a,1,-INF\n", ", row 1, column x_2", MINUS_INF, NUMBER),
        ("multiclass", NAMED + "a,1,2\na,abc,2\n", ", row 2, column x_1", "'abc'", NUMBER),
        ("multiclass", NAMED + "a,1,NA\n", ", row 1, column x_2", "'NA'", GAP),
        ("multiclass", NAMED + 'a,1,"1,5"\n', ", row 1, column x_2", "'1,5'", ONE_MARK),
        ("multiclass", NAMED + "a,1,2\n\n\na,1,x\n", ", row 2, column x_2", "'x'", NUMBER),
        ("multiclass", NAMED + '"a\nb",1,2\na,1,x\n', ", row 2, column x_2", "'x'", NUMBER),
        ("multiclass", NAMED + "a,1,2\r\na,1,x\r\n", ", row 2, column x_2", "'x'", NUMBER),
        ("multiclass", NAMED + "a,1,2\na,1\n", ", row 2", "2 cells", CELLS),
        ("multiclass", NAMED + "a,1,2,3\n", ", row 1", "4 cells", CELLS),
        ("multiclass", NAMED, "", "a header but no rows", FILL),
        ("multiclass", "", "", "an empty file", "add rows to it or remove it"),
        ("multiclass", "y,z\na,1\n", "", "no value column in the header (y, z)",
         "start the names of the value columns with x, or add --value-columns NAMES"),
        ("multiclass", "\n\n", "", "no value column in the header (nothing)", VALUES),
        ("multiclass", ONE_HOT + "1,0,1,2\n0,0,1,2\n", f", row 2, {BOTH}", "no class", SINGLE_1),
        ("multiclass", ONE_HOT + "1,1,1,2\n", f", row 1, {BOTH}", "2 classes (y_1, y_2)", SINGLE_1),
        ("multiclass", ONE_HOT + "1,,1,2\n", ", row 1, column y_2", "an empty cell", BIT),
        ("multiclass", NAMED + "a,1,2\nNA,1,2\n", ", row 2, column y", "'NA', which stands for a "
         "missing label",
         f"{CLASS}, or use --missing-labels name if it is a class"),
        ("multiclass", NAMED + "a,1,?\n", ", row 1, column x_2", "'?'",
         f"{GAP} --missing-marker '?'"),
        ("multiclass", ONE_HOT + "1,NA,1,2\n", ", row 1, column y_2", "'NA'", BIT),
        ("multiclass", "y,xid,x_1\na,1,2\n", "", "the column xid beside x_1", RENAME),
        ("multiclass", ONE_HOT + "1,no,1,2\n", ", row 1, column y_2", "'no'", BIT),
        ("multiclass", ONE_HOT + "1,2,1,2\n", ", row 1, column y_2", "2", BIT),
        ("multilabel", ONE_HOT + "1,1,1,2\n1,0.5,1,2\n", ", row 2, column y_2", "0.5", BIT),
        ("binary", NAMED + "1,1,2\nyes,1,2\n", ", row 2, column y", "'yes'", BIT),
        ("binary", NAMED + "-1,1,2\n", ", row 1, column y", "-1", BIT),
        ("binary", ONE_HOT + "0,0,1,2\n", f", row 1, {BOTH}", "no class", SINGLE_1),
    ],
)  # fmt: skip
def test_a_csv_that_breaks_the_format_is_refused(tmp_path, task, content, place, found, fix):
    write(tmp_path, {"a.csv": content})
    error = catch_refusal(tmp_path, task)
    assert str(error) == f"{tmp_path / 'a.csv'}{place}: found {found}; {fix}"


@pytest.mark.parametrize("value", ["1e39", "-1e39", "1e400"])
def test_a_number_beyond_float32_is_refused(tmp_path, value):
    write(tmp_path, {"a.csv": f"{NAMED}a,1,2\na,1,{value}\n"})
    message = str(catch_refusal(tmp_path))
    assert message.startswith(f"{tmp_path / 'a.csv'}, row 2, column x_2: found ")
    assert message.endswith(f"; {NUMBER}")


@pytest.mark.parametrize(
    ("columns", "place", "found", "fix"),
    [
        ({"y": ["a", None], "x": [1, 2]}, ", row 2, column y", "an empty cell", CLASS),
        ({"y": ["a", "b"], "x": [1, None]}, ", row 2, column x", "an empty cell", GAP),
        ({"y": ["a"], "x": [float("nan")]}, ", row 1, column x", NAN, GAP),
        ({"y_1": [1, 1], "y_2": [0, 1], "x": [1, 2]}, f", row 2, {BOTH}",
         "2 classes (y_1, y_2)", SINGLE_1),
        ({"y": pa.array([], pa.string()), "x": pa.array([], pa.float32())}, "",
         "a header but no rows", FILL),
    ],
)  # fmt: skip
def test_a_parquet_that_breaks_the_format_is_refused(tmp_path, columns, place, found, fix):
    write(tmp_path, {"a.parquet": parquet(**columns)})
    error = catch_refusal(tmp_path)
    assert str(error) == f"{tmp_path / 'a.parquet'}{place}: found {found}; {fix}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress((NAMED + "a,1,2\n" * 999).encode(), mtime=0)[:-20]),
        ("a.csv.gz", b"\x1f\x8bno gzip at all"),
        ("a.csv.bz2", bz2.compress((NAMED + "a,1,2\n" * 999).encode())[:-20]),
        ("a.csv.xz", lzma.compress((NAMED + "a,1,2\n" * 9999).encode())[:-20]),
        ("a.csv.xz", b"\xfd7zXZ\x00no xz at all"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfdno zstd at all"),
        ("a.parquet", b"PAR1 no parquet at all"),
        ("a.parquet", parquet(y=["a"], x_1=[1.0])[:-20]),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    message = str(catch_refusal(tmp_path))
    assert message.startswith(f"{tmp_path / name}: found a file that cannot be read (")
    assert message.endswith("); check that it is complete and that you may read it")
    assert "\n" not in message


DISAGREEING = [
    ("y,x_1,x_2,x_4\na,1,2,4\n", "3 value columns (missing: x_3; unexpected: x_4)"),
    ("y,x_1,x_2\na,1,2\n", "2 value columns (missing: x_3)"),
    ("y,x_1,x_2,x_3,x_4\na,1,2,3,4\n", "4 value columns (unexpected: x_4)"),
]
THREE = "the file must have the 3 value columns x_1, x_2, x_3"


@pytest.mark.parametrize(("content", "found"), DISAGREEING)
def test_shards_that_disagree_are_refused_before_any_row_is_read(tmp_path, content, found):
    write(tmp_path, {"a.csv": "y,x_1,x_2,x_3\na,broken row\n", "b.csv": content})
    assert str(catch_refusal(tmp_path)) == f"{tmp_path / 'b.csv'}: found {found}; {THREE}"


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize(("content", "found"), DISAGREEING)
def test_data_of_other_length_or_columns_than_the_models_are_refused(
    tmp_path, content, found, labels
):
    schema = reader.SeriesSchema.from_header(["y", "x_1", "x_2", "x_3"], "multiclass")
    write(tmp_path, {"b.csv": content})
    error = catch_refusal(tmp_path, schema=schema, labels=labels)
    assert str(error) == f"{tmp_path / 'b.csv'}: found {found}; {THREE}"


def test_tables_of_a_shard_with_other_columns_are_refused(tmp_path):
    write(tmp_path, {"a.csv": NAMED + "a,1,2\n"})
    dataset = open_dataset(str(tmp_path))
    with pytest.raises(DataError, match="missing: x_2"):
        next(read_tables(dataset.shards[0], dataset.schema, True, ["y", "x_1"]))


def test_label_columns_must_agree_only_where_labels_are_read(tmp_path):
    schema = reader.SeriesSchema.from_header(["y_1", "y_2", "x_1", "x_2"], "multiclass")
    write(tmp_path, {"a.csv": "x_2,x_1,y_1,y_3,y_4\n2,1,no,,label\n"})
    assert str(catch_refusal(tmp_path, schema=schema)) == (
        f"{tmp_path / 'a.csv'}: found 3 label columns (missing: y_2; unexpected: y_3, y_4); "
        "the file must have the 2 label columns y_1, y_2"
    )
    assert read(tmp_path, schema=schema, labels=False)[1].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("task", "content", "labels"),
    [
        ("binary", NAMED + "0,1,2\n1.0,3,4\n", [0, 1]),
        ("binary", ONE_HOT + "1,0,1,2\n0,1,3,4\n", [0, 1]),
        ("multiclass", ONE_HOT + "0.0,1.0,1,2\n1.0,0.0,3,4\n", [1, 0]),
        ("multiclass", NAMED + "ä cat,1,2\nno,3,4\n", ["ä cat", "no"]),
        ("multiclass", NAMED + "1,1,2\n1.0,3,4\n", ["1", "1"]),
        ("multiclass", NAMED + "0e+00,1,2\n-0.0,3,4\n", ["0", "0"]),
        ("multiclass", ONE_HOT + "True,False,1,2\nFALSE,TRUE,3,4\n", [0, 1]),
        ("multilabel", ONE_HOT + "true,1.0,1,2\n0,false,3,4\n", [(1, 1), (0, 0)]),
        ("binary", NAMED + "True,1,2\nFalse,3,4\n", [1, 0]),
        ("multiclass", '"y","x_1","x_2"\n"a, b","1",2\r\n"say ""c""",3,"4"', ["a, b", 'say "c"']),
        ("multiclass", "\ufeff" + NAMED + "a,1,2\nb,3,4\n", ["a", "b"]),
        ("multiclass", "id,x_2,y,x_1\n,2,a,1\nz,4,b,3\n", ["a", "b"]),
    ],
)
def test_good_csv_is_read(tmp_path, task, content, labels):
    write(tmp_path, {"a.csv": content, "b.csv.gz": gzip.compress(content.encode())})
    schema, values, answers = read(tmp_path, task)
    assert [tuple(label) if np.ndim(label) else label for label in answers] == labels * 2
    expected = {"x_1": [1, 3, 1, 3], "x_2": [2, 4, 2, 4]}
    assert dict(zip(schema.value_columns, values.T.tolist(), strict=True)) == expected


def test_columns_are_matched_by_name_in_the_first_headers_order(tmp_path):
    write(
        tmp_path,
        {"a.csv": "x_2,x_10,y,x_1\n2,10,a,1\n", "b.csv": "y,note,x_1,x_2,x_10\nb,z,1,2,10\n"},
    )
    write(tmp_path, {"c.parquet": parquet(id=[7], x_10=[10.0], x_1=[1], x_2=[2], y=["c"])})
    schema, values, answers = read(tmp_path)
    assert schema.value_columns == ("x_2", "x_10", "x_1")
    assert values.tolist() == [[2, 10, 1]] * 3
    assert answers == ["a", "b", "c"]
    assert open_dataset(str(tmp_path)).ignored_columns() == ["id", "note"]


@pytest.mark.parametrize("labels", [["a", "b"], [1, 2], [1.0, 2.0]])
def test_parquet_may_hold_ints_and_doubles(tmp_path, labels):
    write(tmp_path, {"a.parquet": parquet(x_1=[0.5, 0.25], y=labels, x_2=[3, 2**24 + 1])})
    schema, values, answers = read(tmp_path)
    assert values.dtype == np.float32
    assert values.tolist() == [[0.5, 3], [0.25, 2**24]]
    assert schema.with_classes(answers).classes == tuple(str(name)[:1] for name in labels)


def test_rows_that_begin_as_integers_may_go_on_as_floats(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_parser, "SEGMENT_BYTES", 4096)
    write(tmp_path, {"a.csv": "y,x_1\n" + "a,1\n" * 3000 + "b.5,1E+05\n"})
    _, values, answers = read(tmp_path)
    assert values[:, 0].tolist() == [1.0] * 3000 + [100000.0]
    assert answers == ["a"] * 3000 + ["b.5"]
    dataset = open_dataset(str(tmp_path))
    tables = list(read_tables(dataset.shards[0], dataset.schema, True, dataset.headers[0]))
    assert len(tables) >= 3
    assert [source.rows_before for _, source in tables] == [
        sum(table.num_rows for table, _ in tables[:i]) for i in range(len(tables))
    ]


@pytest.mark.parametrize(
    ("line", "column"),
    [("a,1,x", "x_2"), ("a,,1", "x_1"), ("a,nan,1", "x_1"), (",1,2", "y"), ("a,1", None)],
)
def test_a_fault_in_a_later_block_is_reported_with_its_row(tmp_path, monkeypatch, line, column):
    monkeypatch.setattr(csv_parser, "SEGMENT_BYTES", 4096)
    write(tmp_path, {"a.csv": NAMED + "a,1,2\n" * 2500 + "\n\n" + line + "\n" + "a,1,2\n" * 9})
    error = catch_refusal(tmp_path)
    assert (error.row, error.column) == (2501, column)


def test_a_fault_in_a_later_batch_of_parquet_is_reported_with_its_row(tmp_path):
    values = [1.0] * 70_000 + [None]
    write(tmp_path, {"a.parquet": parquet(y=["a"] * 70_001, x=values)})
    assert catch_refusal(tmp_path).row == 70_001


MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 6)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def write_matrix(folder, matrix, data, corrupt=None):
    """Write rows as 1 to 4 CSV shards, each with another order of columns."""
    names = ["y", *(f"x_{i}" for i in range(matrix.shape[1]))]
    cells = [[str(k), *(str(value) for value in row)] for k, row in enumerate(matrix)]
    if corrupt:
        row, column, text = corrupt
        cells[row][column] = text
    parts = np.array_split(np.arange(len(cells)), data.draw(st.integers(1, min(4, len(cells)))))
    for i, rows in enumerate(parts):
        order = data.draw(st.permutations(range(len(names))))
        lines = [[names[j] for j in order], *([cells[k][j] for j in order] for k in rows)]
        write(folder, {f"{i}.csv": "\n".join(map(",".join, lines))})
    return names, parts


@quickly
@given(matrix=MATRICES, data=st.data(), block_bytes=st.sampled_from([256, 16 << 20]))
def test_float32_values_are_read_bit_by_bit_in_any_columns_order_and_any_shards(
    matrix, data, block_bytes, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("data")
    names, _ = write_matrix(folder, matrix, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_parser, "BLOCK_BYTES", block_bytes)
        patch.setattr(csv_parser, "SEGMENT_BYTES", block_bytes)
        schema, values, answers = read(folder)
    expected = matrix[:, [names.index(name) - 1 for name in schema.value_columns]]
    assert values.dtype == np.float32
    assert values.tobytes() == np.ascontiguousarray(expected).tobytes()
    assert answers == [str(k) for k in range(len(matrix))]


@quickly
@given(
    matrix=MATRICES,
    data=st.data(),
    text=st.sampled_from(["", "nan", "inf", "1e39", "one", "1;2", '"1,2"', "0x1"]),
)
def test_a_corrupted_cell_is_reported_with_its_row_and_column(matrix, data, text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    row = data.draw(st.integers(0, matrix.shape[0] - 1))
    column = data.draw(st.integers(1, matrix.shape[1]))
    names, parts = write_matrix(folder, matrix, data, (row, column, text))
    part = next(i for i, rows in enumerate(parts) if row in rows)
    error = catch_refusal(folder)
    assert error.file == str(folder / f"{part}.csv")
    assert (error.row, error.column) == (row - parts[part][0] + 1, names[column])


def test_spaces_around_a_number_are_allowed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("y,x_1,x_2\na, 1,2\na,1,bad\n")
    dataset = open_dataset(str(path))
    with pytest.raises(DataError, match="row 2, column x_2: found 'bad'"):
        list(read_tables(dataset.shards[0], dataset.schema, True, dataset.headers[0]))


@pytest.mark.parametrize(
    ("column", "kind", "fix"),
    [
        (
            [[[1.0]]],
            "list<element: list<element: double>>",
            "store one column for each timepoint, or one list column x of numbers",
        ),
        (["q"], "string", "store numbers"),
    ],
)
def test_a_parquet_column_without_numbers_is_refused_by_name(tmp_path, column, kind, fix):
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"y": ["a"], "x_1": column}), path)
    dataset = open_dataset(str(path))
    with pytest.raises(DataError) as refused:
        list(read_tables(dataset.shards[0], dataset.schema, True, dataset.headers[0]))
    assert str(refused.value) == f"{path}, column x_1: found values of type {kind}; {fix}"


def test_a_header_alone_is_refused_with_and_without_a_newline(tmp_path):
    for text in ("y,x_1", "y,x_1\n"):
        path = tmp_path / "a.csv"
        path.write_text(text)
        dataset = open_dataset(str(path))
        with pytest.raises(DataError, match=r"a.csv: found a header but no rows; add rows or"):
            list(read_tables(dataset.shards[0], dataset.schema, True, dataset.headers[0]))


def test_categories_in_parquet_are_class_names(tmp_path):
    path = tmp_path / "a.parquet"
    names = pa.array(["b", "a", "b"]).dictionary_encode()
    pa.parquet.write_table(pa.table({"y": names, "x_1": [1, 2, 3]}), path)
    dataset = open_dataset(str(path))
    (table, source), *_ = read_tables(dataset.shards[0], dataset.schema, True, dataset.headers[0])
    assert dataset.schema.label_names(table, source) == ["b", "a", "b"]


MARKERS = ["", "NA", "N/A", "#N/A", "NULL", "null", "None", "<NA>", "nan", "NaN", " NA", '"n/a"']


@pytest.mark.parametrize("marker", [*MARKERS, "?"])
@pytest.mark.parametrize("label", ["a", "0"])
def test_gaps_may_be_marked_by_the_texts_of_pandas(tmp_path, marker, label):
    path = tmp_path / "a.csv"
    path.write_text(f"{NAMED}{label},1,{marker}\n{label},{marker},2\n")
    dataset = open_dataset(str(path), missing="mask", missing_marker="?" if marker == "?" else "")
    ((table, source),) = read_tables(dataset.shards[0], dataset.schema, True, dataset.headers[0])
    np.testing.assert_array_equal(
        dataset.schema.encode_values(table, source), [[1, np.nan], [np.nan, 2]]
    )
    assert dataset.schema.label_names(table, source) == [label, label]


def test_an_unknown_marker_is_refused_even_with_missing_mask(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(NAMED + "a,1,NA\na,-,2\n")
    dataset = open_dataset(str(path), missing="mask")
    with pytest.raises(DataError) as refused:
        list(read_tables(dataset.shards[0], dataset.schema, True, dataset.headers[0]))
    assert str(refused.value) == (f"{path}, row 2, column x_1: found '-'; {GAP} --missing-marker -")


def test_a_label_is_never_a_gap(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(NAMED + "a,1,2\nNA,1,NA\n")
    dataset = open_dataset(str(path), missing="mask")
    ((table, source),) = read_tables(dataset.shards[0], dataset.schema, True, dataset.headers[0])
    with pytest.raises(
        DataError, match="row 2, column y: found 'NA', which stands for a missing label"
    ):
        dataset.schema.label_names(table, source)


TABLE = [["y", "x_1", "x_2", "note"], ["a", "0.25", "1", "p,q"], ["b", "-1.5e3", "2", 'r;s"t']]


def packed(content, packing):
    if packing == "zstd":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()
    how = {"": bytes, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    return how[packing](content)


def text_of(rows, separator, decimal=".", end="\n"):
    text = io.StringIO()
    for row in rows:
        cells = [re.sub(r"^(-?\d+)\.(\d)", rf"\1{decimal}\2", cell) for cell in row]
        csv.writer(text, delimiter=separator, lineterminator=end).writerow(cells)
    return text.getvalue()


@pytest.mark.parametrize("packing", ["", "gzip", "bz2", "xz", "zstd"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.CSV.XZ", "data"])
@pytest.mark.parametrize(
    ("separator", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", ".")]
)
def test_the_format_of_a_shard_is_found_from_its_bytes(tmp_path, packing, name, separator, decimal):
    write(tmp_path, {name: packed(text_of(TABLE, separator, decimal).encode(), packing)})
    schema, values, answers = read(tmp_path / name)
    assert schema.value_columns == ("x_1", "x_2")
    assert values.tolist() == [[0.25, 1], [-1500, 2]]
    assert answers == ["a", "b"]
    (shard,) = open_dataset(str(tmp_path / name)).shards
    ((table, _),) = read_tables(shard, schema, True, shard.layout.header, ["note"])
    assert table["note"].to_pylist() == ["p,q", 'r;s"t']


@quickly
@given(
    matrix=MATRICES,
    dialect=st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", ".")]),
    packing=st.sampled_from(["", "gzip", "bz2", "xz", "zstd"]),
    end=st.sampled_from(["\n", "\r\n"]),
    quoted=st.booleans(),
    mark=st.booleans(),
)
def test_any_dialect_and_packing_gives_the_same_bits(
    matrix, dialect, packing, end, quoted, mark, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("data")
    names = ["y", *(f"x_{i}" for i in range(matrix.shape[1]))]
    quotes = [f'"{name}"' for name in names] if quoted else names
    rows = [["label, a", *map(str, row)] for row in matrix]
    text = end.join([dialect[0].join(quotes), text_of(rows, *dialect, end)])
    write(folder, {"a.csv": packed(("\ufeff" * mark + text).encode(), packing)})
    _, values, _ = read(folder)
    assert values.tobytes() == matrix.tobytes()


def test_shards_of_one_data_set_may_have_several_dialects_which_are_logged(tmp_path, caplog):
    kinds = {"a": (",", "."), "b": (";", ","), "c": ("\t", "."), "d": (";", ",")}
    for name, kind in kinds.items():
        write(tmp_path, {f"{name}.csv": text_of(TABLE, *kind)})
    with caplog.at_level(logging.INFO):
        _, values, _ = read(tmp_path)
    assert values.tolist() == [[0.25, 1], [-1500, 2]] * 4
    assert caplog.messages == [
        f"{tmp_path}: cells separated by ',' in 1 shard",
        f"{tmp_path}: cells separated by ';' with decimal commas in 2 shards",
        f"{tmp_path}: cells separated by tabs in 1 shard",
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        open_dataset(str(tmp_path / "a.csv"))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("written", "name"),
    [("0,0", "0"), ("1,00", "1"), ("2,5", "2.5"), ("a,b", "a,b"), ("1,2,3", "1,2,3")],
)
def test_class_names_with_decimal_commas_are_those_with_points(tmp_path, written, name):
    write(tmp_path, {"a.csv": f"y;x;z\n{written};0,5;{written}\n"})
    assert read(tmp_path)[2] == [name]
    assert check(str(tmp_path)).training.class_counts() == {name: 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["y;x_1;x_2", "a;0,5;1,5", "b;0,5;1.5"], "row 2, column x_2: found '1.5'"),
        (["y;x_1;x_2", "a;0.5;1.5", "b;0,5;1.5"], "row 2, column x_1: found '0,5'"),
        (["y\tx_1\tx_2", "a\t0.5\t1.5", "b\t0,5\t1.5"], "row 2, column x_1: found '0,5'"),
        (["y;x_1", "a;0,5", "b;0,5;7"], "row 2: found 3 cells; the header has 2 columns"),
        (["y,x_1;x_2", "a,1;2"], ": found names separated by both ',' and ';' in the header"),
        (["y,x_1,x_2", "a,1,2", "y,x_1,x_2", "b,1,2"], "row 2: found a second header; remove"),
        (["y,x_1", "a,1", "y,x_1", "b,1"], "row 2: found a second header; remove the row"),
        (["y,n,x_1", "a,1,1", "y,m,x_1", "b,1,2"], "row 2: found a second header; remove the"),
        (["y,x_1,x_2", "a,1,2", "y,x_2,x_1", "b,1,2"], "row 2: found a second header, with other"),
        (
            ["y,n,x_1", "a,1,1", "n,y,x_1", "1,b,2"],
            "row 2: found a second header, with other columns",
        ),
        (["y,x_1", "a,1", "y,n,x_1", "b,1,2"], "row 2: found a second header, with other columns"),
        (["y,x_1,x_2", "label,mV,mV", "a,1,2"], "row 1: found text instead of all values (mV,"),
        (["y_1,y_2,x_1,x_2", "-,-,s,s", "0,1,1,2"], "row 1: found text instead of all values"),
        (["y,x_1,x_2", "a,1,2", ",,", ",,"], "row 2: found an empty row; remove the row ("),
        (["y,x_1,x_2", "a,1,2", " , , "], "row 2: found an empty row; remove the row ("),
        (["y,x_1,x_2", "a,,2", ",,"], "row 1, column x_1: found an empty cell"),
        (["y_1,y_2,x_1", "0,1,5", ",,"], "row 2: found an empty row"),
        (["y,x_1,x_2", "a,1,2", "# end"], "row 2: found a comment among the rows; remove the"),
    ],
)
def test_a_line_that_is_not_a_row_is_reported_once(tmp_path, lines, message):
    write(tmp_path, {"a.csv": "\n".join(lines)})
    found = str(catch_refusal(tmp_path))
    place = "" if message.startswith(":") else ", "
    assert found.startswith(f"{tmp_path}/a.csv{place}{message}")
    assert len([fault for fault in check(str(tmp_path)).faults if str(fault) == found]) == 1


def test_empty_rows_are_reported_with_their_row_in_any_block(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_parser, "SEGMENT_BYTES", 4096)
    write(tmp_path, {"a.csv": NAMED + "a,1,2\n" * 2500 + ",,\n" + "a,1,2\n" * 9})
    assert str(catch_refusal(tmp_path)).startswith(
        f"{tmp_path}/a.csv, row 2501: found an empty row"
    )


LONG = 5000


@pytest.mark.parametrize("packing", ["", "gzip", "bz2", "xz", "zstd"])
@pytest.mark.parametrize(
    "content",
    [
        b"\0" * LONG,
        b"x" * LONG,
        b'"' + b"x\n" * LONG,
        b"y,x_1\n" + b"a,1\n" * 100 + b"1" * LONG + b"\n",
        b"y,x_1\n" + b"a,1\n" * 100 + b"\n" * 3 + b"," * LONG,
        b"y,x_1\n" + b"a,1\n" * 100 + b'"\n",' * LONG + b"\n",
        b"sep=,\n" + b"y" * LONG,
    ],
)
def test_a_line_without_end_is_refused_without_being_held(tmp_path, monkeypatch, packing, content):
    monkeypatch.setattr(dialect, "MAX_LINE_CHARACTERS", 4000)
    write(tmp_path, {"a.csv": packed(content, packing)})
    message = f"{tmp_path}/a.csv: found a line of more than 16 MiB; check that the file is CSV and"
    assert str(catch_refusal(tmp_path)).startswith(message)
    (fault,) = [fault for fault in check(str(tmp_path)).faults if fault.row is None]
    assert str(fault).startswith(message)


@quickly
@given(st.lists(st.text('a," \n'), min_size=1, max_size=12))
def test_quotes_and_line_breaks_in_other_columns_do_not_matter(tmp_path_factory, notes):
    folder = tmp_path_factory.mktemp("notes")
    with (folder / "a.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["note", "y", "x_1"])
        rows.writerows([note, "b", i] for i, note in enumerate(notes))
    _, values, answers = read(folder)
    assert values.ravel().tolist() == list(range(len(notes)))
    assert answers == ["b"] * len(notes)


def test_a_cell_of_two_lines_may_lie_where_two_blocks_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_parser, "BLOCK_BYTES", 1 << 12)
    rows = 3 * csv_parser.BLOCK_BYTES // 20
    write(tmp_path, {"a.csv": "y,x_1,note\n" + 'b,1.5,"two\nlines"\n' * rows})
    assert len(read(tmp_path)[1]) == rows


@pytest.mark.parametrize("block_bytes", [4096, csv_parser.BLOCK_BYTES])
def test_a_lone_quote_is_a_character_and_takes_no_time(tmp_path, monkeypatch, block_bytes):
    """No line behind it ends outside of quotes, if they are counted."""
    monkeypatch.setattr(csv_parser, "BLOCK_BYTES", block_bytes)
    rows = 200_000
    write(tmp_path, {"a.csv": 'y,x_1,note\nb,1.5,5" pipe\n' + "b,1.5,k\n" * rows})
    dataset = open_dataset(str(tmp_path))
    started = time.process_time()
    values, answers = read_all(dataset, True, threads=2)
    assert time.process_time() - started < 10  # 0.2; 80 if each line's quotes were counted
    assert len(values) == len(answers) == rows + 1


def test_of_two_faults_the_first_row_is_told_though_the_second_is_a_line_without_end(tmp_path):
    write(tmp_path, {"a.csv": b"y,x_1\n" + b"a,1\n" * 100 + b"\n," * 3 + b"," * LONG})
    assert catch_refusal(tmp_path).row == 101


@pytest.mark.slow
def test_a_bomb_takes_little_memory(tmp_path):
    with gzip.open(tmp_path / "a.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"y,x_1\na,1\n")
        for _ in range(32):
            file.write(b"0" * (8 << 20))
    probe = (
        "import resource, sys; from lstmfcn.check.findings import check\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "(fault,) = check(sys.argv[1]).faults\n"
        "print(fault, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, str(tmp_path)], capture_output=True, text=True, check=True
    )
    told, _, kilobytes = done.stdout.rpartition(" ")
    assert "found a line of more than 16 MiB" in told
    assert int(kilobytes) < 128_000  # half of the length of the line


def append_row(path):
    with path.open("a") as file:
        file.write("a,1,2\n")


def cut(path):
    os.truncate(path, path.stat().st_size - 6)


def cut_in_a_number(path):
    os.truncate(path, path.stat().st_size - 2)


def rewrite(path):
    path.write_text(path.read_text().replace("2", "3"))
    os.utime(path, ns=(1, 1))


def replaced(path):
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(5, 5))
    other.replace(path)


@pytest.mark.parametrize("change", [append_row, cut, cut_in_a_number, rewrite, replaced])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_shard_that_changes_between_survey_and_reading_is_refused(tmp_path, change, name):
    path = tmp_path / name
    write(tmp_path, {"a.csv": NAMED + "a,1,2\nb,1,2.345\n"})
    if name == "a.parquet":
        if change is rewrite:
            return
        pq.write_table(pa.table({"y": ["a", "b"], "x_1": [1, 2], "x_2": [3, 4]}), path)
    dataset = open_dataset(str(path))
    (shard,) = dataset.shards
    change(path)
    with pytest.raises(DataError) as refused:
        list(read_tables(shard, dataset.schema, True, dataset.headers[0]))
    if name == "a.csv":
        assert str(refused.value) == (
            f"{path}: found a file that changed while it was being read; run the command again "
            "when the file is complete"
        )


def test_a_file_system_that_knows_no_times_refuses_by_size_alone(tmp_path):
    write(tmp_path, {"a.csv": NAMED + "a,1,2\n"})
    dataset = open_dataset(str(tmp_path))
    shard = replace(dataset.shards[0], modified_ns=0)
    os.utime(tmp_path / "a.csv", ns=(1, 1))
    assert list(read_tables(shard, dataset.schema, True, dataset.headers[0]))
    append_row(tmp_path / "a.csv")
    with pytest.raises(DataError, match="changed while it was being read"):
        list(read_tables(shard, dataset.schema, True, dataset.headers[0]))


def test_times_of_other_file_systems_are_compared_by_the_second(tmp_path):
    write(tmp_path, {"a.csv": NAMED + "a,1,2\n"})
    dataset = open_dataset(str(tmp_path))
    local = dataset.shards[0]
    other = pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem())
    second = local.modified_ns // 10**9 * 10**9
    shard = replace(local, path="a.csv", filesystem=other, modified_ns=second)
    assert list(read_tables(shard, dataset.schema, True, dataset.headers[0]))
    shard = replace(shard, modified_ns=second - 10**9)
    with pytest.raises(DataError, match="changed while it was being read"):
        list(read_tables(shard, dataset.schema, True, dataset.headers[0]))
