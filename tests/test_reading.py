import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lstmfcn import reading
from lstmfcn.errors import DataError
from lstmfcn.reading import read_tables, survey

NAMED, ONE_HOT = "y,x_1,x_2\n", "y_1,y_2,x_1,x_2\n"
NUMBER = "write a number there or leave the row out"
GAP = f"{NUMBER}, or train with --missing mask"
CLASS = "write the row's class there or leave the row out"
BIT = "write 0 or 1 there"
SINGLE_1 = "put a single 1 in the row, or use --task multilabel"
NAN, INF, MINUS_INF = (
    f"{value}, which is no finite 32-bit number" for value in ("nan", "inf", "-inf")
)
CELLS = "the header has 3 columns: give the row as many"
FILL = "fill the file or remove it"
VALUES = "give the values columns whose names start with x, separated by commas"
BOTH = "column y_1 to y_2"
RENAME = (
    "rename what is no value, for names that start with x are values; name all values x_1, x_2, "
    "..., or x1_1, x1_2, ... (channel, timepoint)"
)
quickly = settings(deadline=None, max_examples=60, database=None)


def write(folder, shards):
    for name, content in shards.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def parquet(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def read(data, task="multiclass", schema=None, labels=True):
    """Everything a data argument holds: its schema, values and (encoded or named) labels."""
    found = survey(str(data), task, schema, labels)
    schema, values, answers = found.schema, [], []
    for shard, header in zip(found.shards, found.headers, strict=True):
        for table, source in read_tables(shard, schema, labels, header):
            values.append(schema.encode_values(table, source))
            if labels:
                encode = schema.label_names if schema.holds_names else schema.encode_labels
                answers += list(encode(table, source))
    return schema, np.concatenate(values), answers


def refusal_of(data, *args, **options):
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
        ("multiclass", NAMED + 'a,1,"1,5"\n', ", row 1, column x_2", "'1,5'", NUMBER),
        ("multiclass", NAMED + "a,1,2\n\n\na,1,x\n", ", row 2, column x_2", "'x'", NUMBER),
        ("multiclass", NAMED + '"a\nb",1,2\na,1,x\n', ", row 2, column x_2", "'x'", NUMBER),
        ("multiclass", NAMED + "a,1,2\r\na,1,x\r\n", ", row 2, column x_2", "'x'", NUMBER),
        ("multiclass", NAMED + "a,1,2\na,1\n", ", row 2", "2 cells", CELLS),
        ("multiclass", NAMED + "a,1,2,3\n", ", row 1", "4 cells", CELLS),
        ("multiclass", NAMED, "", "a header but no rows", FILL),
        ("multiclass", "", "", "an empty file", "fill it or remove it"),
        ("multiclass", "y,z\na,1\n", "", "no value column in the header (y, z)", VALUES),
        ("multiclass", "\n\n", "", "no value column in the header (nothing)", VALUES),
        ("multiclass", ONE_HOT + "1,0,1,2\n0,0,1,2\n", f", row 2, {BOTH}", "no class", SINGLE_1),
        ("multiclass", ONE_HOT + "1,1,1,2\n", f", row 1, {BOTH}", "2 classes (y_1, y_2)", SINGLE_1),
        ("multiclass", ONE_HOT + "1,,1,2\n", ", row 1, column y_2", "an empty cell", BIT),
        ("multiclass", NAMED + "a,1,2\nNA,1,2\n", ", row 2, column y", "'NA', a missing label",
         f"{CLASS}, or keep such names as classes with --missing-labels name"),
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
def test_a_csv_against_the_contract_is_refused(tmp_path, task, content, place, found, fix):
    write(tmp_path, {"a.csv": content})
    error = refusal_of(tmp_path, task)
    assert str(error) == f"{tmp_path / 'a.csv'}{place}: found {found}; {fix}"


@pytest.mark.parametrize("value", ["1e39", "-1e39", "1e400"])
def test_a_number_beyond_float32_is_refused(tmp_path, value):
    write(tmp_path, {"a.csv": f"{NAMED}a,1,2\na,1,{value}\n"})
    message = str(refusal_of(tmp_path))
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
def test_a_parquet_against_the_contract_is_refused(tmp_path, columns, place, found, fix):
    write(tmp_path, {"a.parquet": parquet(**columns)})
    error = refusal_of(tmp_path)
    assert str(error) == f"{tmp_path / 'a.parquet'}{place}: found {found}; {fix}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress((NAMED + "a,1,2\n" * 999).encode())[:-20]),
        ("a.csv.gz", b"no gzip at all"),
        ("a.csv", NAMED.encode() + b"\xe9,1,2\n"),
        ("a.csv", b"y,x_\xe9\na,1\n"),
        ("a.csv", NAMED.encode() + b"a,1,2\n" * 9999 + b"\xe9,1,2\n"),
        ("a.parquet", b"PAR1 no parquet at all"),
        ("a.parquet", parquet(y=["a"], x_1=[1.0])[:-20]),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    message = str(refusal_of(tmp_path))
    assert message.startswith(f"{tmp_path / name}: found a file that cannot be read (")
    assert message.endswith("); check that it is whole and readable")
    assert "\n" not in message


DISAGREEING = [
    ("y,x_1,x_2,x_4\na,1,2,4\n", "3 value columns, without x_3, with x_4 beside them"),
    ("y,x_1,x_2\na,1,2\n", "2 value columns, without x_3"),
    ("y,x_1,x_2,x_3,x_4\na,1,2,3,4\n", "4 value columns, with x_4 beside them"),
]
THREE = "give it the 3 value columns x_1, x_2, x_3"


@pytest.mark.parametrize(("content", "found"), DISAGREEING)
def test_shards_that_disagree_are_refused_before_any_row_is_read(tmp_path, content, found):
    write(tmp_path, {"a.csv": "y,x_1,x_2,x_3\na,broken row\n", "b.csv": content})
    assert str(refusal_of(tmp_path)) == f"{tmp_path / 'b.csv'}: found {found}; {THREE}"


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize(("content", "found"), DISAGREEING)
def test_data_of_other_length_or_columns_than_the_models_are_refused(
    tmp_path, content, found, labels
):
    schema = reading.SeriesSchema.from_header(["y", "x_1", "x_2", "x_3"], "multiclass")
    write(tmp_path, {"b.csv": content})
    error = refusal_of(tmp_path, schema=schema, labels=labels)
    assert str(error) == f"{tmp_path / 'b.csv'}: found {found}; {THREE}"


def test_tables_of_a_shard_with_other_columns_are_refused(tmp_path):
    write(tmp_path, {"a.csv": NAMED + "a,1,2\n"})
    found = survey(str(tmp_path))
    with pytest.raises(DataError, match="without x_2"):
        next(read_tables(found.shards[0], found.schema, True, ["y", "x_1"]))


def test_label_columns_must_agree_only_where_labels_are_read(tmp_path):
    schema = reading.SeriesSchema.from_header(["y_1", "y_2", "x_1", "x_2"], "multiclass")
    write(tmp_path, {"a.csv": "x_2,x_1,y_1,y_3,y_4\n2,1,no,,label\n"})
    assert str(refusal_of(tmp_path, schema=schema)) == (
        f"{tmp_path / 'a.csv'}: found 3 label columns, without y_2, with y_3, y_4 beside them; "
        "give it the 2 label columns y_1, y_2"
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
    assert survey(str(tmp_path)).ignored_columns() == ["id", "note"]


@pytest.mark.parametrize("labels", [["a", "b"], [1, 2], [1.0, 2.0]])
def test_parquet_may_hold_ints_and_doubles(tmp_path, labels):
    write(tmp_path, {"a.parquet": parquet(x_1=[0.5, 0.25], y=labels, x_2=[3, 2**24 + 1])})
    schema, values, answers = read(tmp_path)
    assert values.dtype == np.float32
    assert values.tolist() == [[0.5, 3], [0.25, 2**24]]
    assert schema.with_classes(answers).classes == tuple(str(name)[:1] for name in labels)


def test_rows_that_begin_as_integers_may_go_on_as_floats(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 4096)
    write(tmp_path, {"a.csv": "y,x_1\n" + "a,1\n" * 3000 + "b.5,1E+05\n"})
    _, values, answers = read(tmp_path)
    assert values[:, 0].tolist() == [1.0] * 3000 + [100000.0]
    assert answers == ["a"] * 3000 + ["b.5"]
    found = survey(str(tmp_path))
    tables = list(read_tables(found.shards[0], found.schema, True, found.headers[0]))
    assert len(tables) >= 3
    assert [source.rows_before for _, source in tables] == [
        sum(table.num_rows for table, _ in tables[:i]) for i in range(len(tables))
    ]


@pytest.mark.parametrize(
    ("line", "column"),
    [("a,1,x", "x_2"), ("a,,1", "x_1"), ("a,nan,1", "x_1"), (",1,2", "y"), ("a,1", None)],
)
def test_a_fault_in_a_later_block_is_told_with_its_row(tmp_path, monkeypatch, line, column):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 4096)
    write(tmp_path, {"a.csv": NAMED + "a,1,2\n" * 2500 + "\n\n" + line + "\n" + "a,1,2\n" * 9})
    error = refusal_of(tmp_path)
    assert (error.row, error.column) == (2501, column)


def test_a_fault_in_a_later_batch_of_a_parquet_is_told_with_its_row(tmp_path):
    values = [1.0] * 70_000 + [None]
    write(tmp_path, {"a.parquet": parquet(y=["a"] * 70_001, x=values)})
    assert refusal_of(tmp_path).row == 70_001


MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 6)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def write_matrix(folder, matrix, data, corrupt=None):
    """Write rows as 1 to 4 CSV shards, each with its columns in an order of its own."""
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
        patch.setattr(reading, "BLOCK_BYTES", block_bytes)
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
def test_a_corrupted_cell_is_told_at_exactly_its_place(matrix, data, text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    row = data.draw(st.integers(0, matrix.shape[0] - 1))
    column = data.draw(st.integers(1, matrix.shape[1]))
    names, parts = write_matrix(folder, matrix, data, (row, column, text))
    part = next(i for i, rows in enumerate(parts) if row in rows)
    error = refusal_of(folder)
    assert error.file == str(folder / f"{part}.csv")
    assert (error.row, error.column) == (row - parts[part][0] + 1, names[column])


def test_blanks_around_a_number_are_no_fault(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("y,x_1,x_2\na, 1,2\na,1,bad\n")
    shards = survey(str(path))
    with pytest.raises(DataError, match="row 2, column x_2: found 'bad'"):
        list(read_tables(shards.shards[0], shards.schema, True, shards.headers[0]))


@pytest.mark.parametrize(
    ("column", "kind", "fix"),
    [
        (
            [[[1.0]]],
            "list<element: list<element: double>>",
            "store a column a timepoint, or one list column x of numbers",
        ),
        (["q"], "string", "store numbers there"),
    ],
)
def test_a_parquet_column_that_holds_no_numbers_is_refused_by_name(tmp_path, column, kind, fix):
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"y": ["a"], "x_1": column}), path)
    shards = survey(str(path))
    with pytest.raises(DataError) as refused:
        list(read_tables(shards.shards[0], shards.schema, True, shards.headers[0]))
    assert str(refused.value) == f"{path}, column x_1: found values of type {kind}; {fix}"


def test_a_header_alone_is_refused_with_and_without_a_newline(tmp_path):
    for text in ("y,x_1", "y,x_1\n"):
        path = tmp_path / "a.csv"
        path.write_text(text)
        shards = survey(str(path))
        with pytest.raises(DataError, match=r"a.csv: found a header but no rows; fill the file"):
            list(read_tables(shards.shards[0], shards.schema, True, shards.headers[0]))


def test_categories_in_parquet_are_class_names(tmp_path):
    path = tmp_path / "a.parquet"
    names = pa.array(["b", "a", "b"]).dictionary_encode()
    pa.parquet.write_table(pa.table({"y": names, "x_1": [1, 2, 3]}), path)
    shards = survey(str(path))
    (table, source), *_ = read_tables(shards.shards[0], shards.schema, True, shards.headers[0])
    assert shards.schema.label_names(table, source) == ["b", "a", "b"]


MARKERS = ["", "NA", "N/A", "#N/A", "NULL", "null", "None", "<NA>", "nan", "NaN", " NA", '"n/a"']


@pytest.mark.parametrize("marker", [*MARKERS, "?"])
@pytest.mark.parametrize("label", ["a", "0"])
def test_gaps_may_be_marked_as_tables_mark_them(tmp_path, marker, label):
    path = tmp_path / "a.csv"
    path.write_text(f"{NAMED}{label},1,{marker}\n{label},{marker},2\n")
    found = survey(str(path), missing="mask", missing_marker="?" if marker == "?" else "")
    ((table, source),) = read_tables(found.shards[0], found.schema, True, found.headers[0])
    np.testing.assert_array_equal(
        found.schema.encode_values(table, source), [[1, np.nan], [np.nan, 2]]
    )
    assert found.schema.label_names(table, source) == [label, label]


def test_a_marker_that_was_not_named_is_refused_though_values_may_be_missing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(NAMED + "a,1,NA\na,-,2\n")
    found = survey(str(path), missing="mask")
    with pytest.raises(DataError) as refused:
        list(read_tables(found.shards[0], found.schema, True, found.headers[0]))
    assert str(refused.value) == (f"{path}, row 2, column x_1: found '-'; {GAP} --missing-marker -")


def test_a_label_is_never_a_gap(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(NAMED + "a,1,2\nNA,1,NA\n")
    found = survey(str(path), missing="mask")
    ((table, source),) = read_tables(found.shards[0], found.schema, True, found.headers[0])
    with pytest.raises(DataError, match="row 2, column y: found 'NA', a missing label"):
        found.schema.label_names(table, source)
