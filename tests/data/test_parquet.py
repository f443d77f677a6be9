import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.data.reader import open_dataset, read_header, read_header_for, read_tables
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import DataError

LISTS = [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.int64())]
quickly = settings(max_examples=30, database=None)


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def read(data, schema=None, labels=True, missing="refuse", task="multiclass"):
    """Read the schema, values, and class names or labels of all shards."""
    dataset = open_dataset(str(data), task, schema, labels, missing=missing)
    values, names = [], []
    for shard, header in zip(dataset.shards, dataset.headers, strict=True):
        for table, source in read_tables(shard, dataset.schema, labels, header):
            values.append(dataset.schema.encode_values(table, source))
            if labels:
                holds = dataset.schema.holds_names
                encode = dataset.schema.label_names if holds else dataset.schema.encode_labels
                names += list(encode(table, source))
    return dataset.schema, np.concatenate(values), names


def refusal_text(*arguments, **options):
    with pytest.raises(DataError) as refused:
        read(*arguments, **options)
    return str(refused.value)


@pytest.mark.parametrize("kind", [*LISTS, pa.list_(pa.float32(), 3)])
def test_a_list_is_a_series_and_makes_the_schema_of_a_column_a_timepoint(tmp_path, kind):
    series = [[1, 2, 3], [4, 5, 6]]
    listed = write(tmp_path / "a.parquet", id=[1, 2], x=pa.array(series, kind), y=["a", "b"])
    (tmp_path / "b.csv").write_text("x_1,x_2,x_3,y\n1,2,3,a\n4,5,6,b\n")
    assert read_header(open_dataset(str(listed)).shards[0]) == ["id", "x_1", "x_2", "x_3", "y"]
    schema, values, names = read(listed)
    other, written, _ = read(tmp_path / "b.csv")
    assert schema == other
    assert values.tolist() == written.tolist() == series
    assert names == ["a", "b"]
    assert read(tmp_path, schema)[1].tolist() == series * 2  # both, by one schema


def test_a_list_a_channel(tmp_path):
    path = write(tmp_path / "a.parquet", y=["a", "b"], x2=[[3, 4], [7, 8]], x1=[[1, 2], [5, 6]])
    schema, values, _ = read(path)
    assert (schema.n_channels, schema.value_columns) == (2, ("x2_1", "x2_2", "x1_1", "x1_2"))
    assert values.tolist() == [[3, 4, 1, 2], [7, 8, 5, 6]]
    in_order = SeriesSchema.from_header(["y", "x1_1", "x1_2", "x2_1", "x2_2"], "multiclass")
    assert read(path, in_order)[1].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    named = write(tmp_path / "b.parquet", y=["a"], x_acc=[[1, 2]], x_gyr=[[3, 4]])
    schema, _, _ = read(named)
    assert schema.value_columns == ("x_acc_1", "x_acc_2", "x_gyr_1", "x_gyr_2")
    assert schema.n_channels == 2


VALUES = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)
SERIES = st.lists(VALUES, max_size=5).filter(lambda one: any(value is not None for value in one))


@quickly
@given(series=st.lists(SERIES, min_size=1, max_size=8))
def test_lists_of_any_length_are_filled_up_with_missing_mask(series, tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "a.parquet"
    write(path, y=["a"] * len(series), x=pa.array(series, pa.list_(pa.float64())))
    expected = np.full((len(series), max(map(len, series))), np.nan, np.float32)
    for row, one in enumerate(series):
        expected[row, : len(one)] = [np.nan if value is None else value for value in one]
    np.testing.assert_array_equal(read(path, missing="mask")[1], expected)


def test_shards_of_shorter_lists_are_filled_up_to_the_longest_and_to_the_models(tmp_path):
    write(tmp_path / "a.parquet", y=["a"], x=[[1.0, 2.0]])
    write(tmp_path / "b.parquet", y=["b"], x=[[1.0, 2.0, 3.0]])
    schema, values, _ = read(tmp_path, missing="mask")
    np.testing.assert_array_equal(values, [[1, 2, np.nan], [1, 2, 3]])
    np.testing.assert_array_equal(read(tmp_path / "a.parquet", schema)[1], [[1, 2, np.nan]])
    (shard,) = open_dataset(str(tmp_path / "a.parquet"), schema=schema, labels=False).shards
    assert read_header_for(shard, schema) == ["y", "x_1", "x_2", "x_3"]
    write(tmp_path / "long.parquet", y=["b"], x=[[1.0, 2.0, 3.0, 4.0]])
    assert "found 4 value columns (unexpected: x_4)" in refusal_text(
        tmp_path / "long.parquet", schema
    )
    assert "b.parquet: found 3 value columns (unexpected: x_3)" in refusal_text(tmp_path)


def test_a_shorter_list_is_refused_by_its_row(tmp_path):
    path = write(tmp_path / "a.parquet", y=["a", "b"], x=[[1.0, 2.0], [3.0]])
    assert refusal_text(path) == (
        f"{path}, row 2, column x_2: found an empty cell; write a number or remove the row, or "
        "train with --missing mask"
    )


TEXTS = [
    pa.array(["a", "b", None]),
    pa.array(["a", "b", None], pa.large_string()),
    pa.array(["a", "b", None], pa.string_view()),
    pa.array([b"a", b"b", None], pa.binary()),
    pa.array([b"a", b"b", None], pa.large_binary()),
    pa.array([b"a", b"b", None], pa.binary(1)),
    pa.array(["a", "b", None]).dictionary_encode(),
]


@pytest.mark.parametrize("labels", TEXTS, ids=lambda labels: str(labels.type))
def test_text_of_any_type_is_class_names(tmp_path, labels):
    path = write(tmp_path / "a.parquet", y=labels[:2], x_1=[1.0, 2.0])
    assert read(path)[2] == ["a", "b"]
    path = write(tmp_path / "a.parquet", y=labels, x_1=[1.0, 2.0, 3.0])
    assert "row 3, column y: found an empty cell" in refusal_text(path)


def test_bytes_that_are_not_text_are_refused_with_their_row(tmp_path):
    path = write(tmp_path / "a.parquet", y=[b"a", b"\xff"], x_1=[1.0, 2.0])
    found = "found bytes that are not UTF-8; store text as UTF-8"
    assert refusal_text(path) == f"{path}, row 2, column y: {found}"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pa.array([True, False]), ["True", "False"]),
        (pa.array([1.0, 0.0]), ["1", "0"]),
        (pa.array([1e16, 1e-7]), ["10000000000000000", "0.0000001"]),
        (pa.array([0.1, 2], pa.float32()), ["0.1", "2"]),
        (pa.array([1.0, 2.0], pa.float16()), ["1", "2"]),
        (pa.array([2**60 + 1, -1]), [str(2**60 + 1), "-1"]),
        (pa.array([decimal.Decimal("1.00"), decimal.Decimal("-0.00")]), ["1", "0"]),
        (pa.array([decimal.Decimal("1" * 60), decimal.Decimal(2)], pa.decimal256(76, 0)),
         ["1" * 60, "2"]),
    ],
    ids=lambda labels: str(getattr(labels, "type", "")),
)  # fmt: skip
def test_numbers_and_bools_are_named_as_in_the_csv_that_pandas_writes(tmp_path, labels, names):
    path = write(tmp_path / "a.parquet", y=labels, x_1=[1.0, 2.0])
    assert read(path)[2] == names
    if not pa.types.is_decimal(labels.type):
        pq.read_table(path).to_pandas().to_csv(tmp_path / "b.csv", index=False)
        assert read(tmp_path / "b.csv")[2] == names


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16()], ids=str)
def test_a_label_of_nan_is_missing(tmp_path, kind):
    labels = pa.array(np.array([0, 1, np.nan]), kind, from_pandas=False)
    assert labels.null_count == 0
    path = write(tmp_path / "a.parquet", y=labels, x_1=[1.0, 2.0, 3.0])
    assert f"{path}, row 3, column y: found an empty cell; " in refusal_text(path)
    assert "row 3, column y: found an empty cell; write 0 or 1" in refusal_text(path, task="binary")
    path = write(tmp_path / "a.parquet", y_1=labels, y_2=[1.0, 0.0, 1.0], x_1=[1.0, 2.0, 3.0])
    assert "row 3, column y_1: found an empty cell; write 0 or 1" in refusal_text(path)


def test_bools_are_1_and_0_in_label_columns(tmp_path):
    path = write(tmp_path / "a.parquet", y_a=[True, False], y_b=[False, True], x_1=[1.0, 2.0])
    assert read(path)[2] == [0, 1]
    path = write(tmp_path / "a.parquet", y_a=["1", "0.0"], y_b=["False", "TRUE"], x_1=[1.0, 2.0])
    assert read(path)[2] == [0, 1]


@pytest.mark.parametrize(
    ("column", "kind", "fix"),
    [
        ([[[1.0]]], "list<element: list<element: double>>", "store one column for each "
         "timepoint, or one list column x of numbers"),
        ([["a"]], "list<element: string>", "store one column for each timepoint, or one list "
         "column x of numbers"),
        ([{"a": 1}], "struct<a: int64>", "store one column for each timepoint, or one list "
         "column x of numbers"),
        (["a"], "string", "store numbers"),
    ],
)  # fmt: skip
def test_other_types_of_values_are_refused_with_the_way_to_store_them(tmp_path, column, kind, fix):
    path = write(tmp_path / "a.parquet", y=["a"], x=column)
    assert refusal_text(path) == f"{path}, column x: found values of type {kind}; {fix}"
