import datetime as dt
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.errors import DataError
from lstmfcn.inference.predict_shards import (
    explain_shard,
    predict_shard,
    to_texts,
    validate_keep_columns,
)
from tests.helpers.small_shards import classifier_of, shard_of, values_of

NOON = dt.datetime(2024, 5, 6, 12, 0, 0, 500_000)
CELLS = {
    "text": (["a", 'b,"c"\nd'], ["a", 'b,"c"\nd']),
    "whole": ([1, -(2**62)], ["1", "-4611686018427387904"]),
    "float64": ([1.0, 1e-07], ["1.0", "1e-07"]),
    "float32": (pa.array([0.1, 5], pa.float32()), ["0.1", "5.0"]),
    "float16": (pa.array([np.float16(0.1), np.float16(2)], pa.float16()), ["0.1", "2.0"]),
    "nan": ([0.5, float("nan")], ["0.5", ""]),
    "bool": ([True, False], ["True", "False"]),
    "decimal": ([decimal.Decimal("1.50"), decimal.Decimal("-0.10")], ["1.50", "-0.10"]),
    "date": ([dt.date(2024, 5, 6), dt.date(1, 1, 1)], ["2024-05-06", "0001-01-01"]),
    "time": ([dt.time(1, 2), dt.time(1, 2, 3, 4)], ["01:02:00", "01:02:03.000004"]),
    "moment": (
        [NOON, dt.datetime(2024, 5, 6)],
        ["2024-05-06 12:00:00.500000", "2024-05-06 00:00:00"],
    ),
    "nanoseconds": (
        pa.array([1, 10**9], pa.timestamp("ns")),
        ["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:01"],
    ),
    "zone": (
        pa.array([0, 10**6], pa.timestamp("us", tz="Europe/Berlin")),
        ["1970-01-01 01:00:00+01:00", "1970-01-01 01:00:01+01:00"],
    ),
    "far": (
        pa.array([1 << 62, 0], pa.timestamp("ms")),
        ["<value out of range: 4611686018427387904>", "1970-01-01 00:00:00.000"],
    ),
    "duration": ([dt.timedelta(1), dt.timedelta(0, 1)], ["1 days 00:00:00", "0 days 00:00:01"]),
    "bytes": ([b"caf\xc3\xa9", b"\xff"], ["café", "b'\\xff'"]),
    "list": ([[1.5, 2.0], []], ["[1.5, 2.0]", "[]"]),
    "struct": ([{"a": 1}, {"a": None}], ["{'a': 1}", "{'a': None}"]),
    "category": (pa.array(["u", "v"]).dictionary_encode(), ["u", "v"]),
    "category of floats": (pa.array([1.0, 2.5]).dictionary_encode(), ["1.0", "2.5"]),
    "string_view": (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
    "null": ([None, None], ["", ""]),
}


@pytest.mark.parametrize("kind", CELLS)
def test_a_column_of_any_type_is_carried_over_as_text(tmp_path, kind):
    stored, texts = CELLS[kind]
    column = stored if isinstance(stored, pa.Array) else pa.array(stored)
    gaps = pa.concat_arrays([column, pa.nulls(1, column.type)])
    assert to_texts(pa.chunked_array([gaps[:1], gaps[1:]])) == [*texts, ""]
    table = pa.Table.from_pandas(values_of(3)).append_column("kept", pa.chunked_array([gaps]))
    pq.write_table(table, tmp_path / "a.parquet")
    shard = shard_of_file(tmp_path / "a.parquet")
    for write in (predict_shard, explain_shard):
        assert write(classifier_of("names"), shard, tmp_path / "p.csv", ["kept"]) == 3
        found = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False)
        assert found["kept"].tolist() == [*texts, ""]
    predict_shard(classifier_of("names"), shard, tmp_path / "plain.csv")
    plain = pd.read_csv(tmp_path / "plain.csv", dtype=str)
    predict_shard(classifier_of("names"), shard, tmp_path / "p.csv", ["kept"])
    kept = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False)
    assert kept.drop(columns="kept").equals(plain)


def shard_of_file(path):
    from lstmfcn.data.shards import find_shards

    (shard,) = find_shards(str(path))
    return shard


@settings(max_examples=50, database=None)
@given(st.lists(st.floats(width=32) | st.none()))
def test_floats_are_written_as_pandas_writes_them(values):
    column = pa.chunked_array([pa.array(values, pa.float32())])
    written = pd.DataFrame({"a": column.to_numpy()}).to_csv(index=False).splitlines()[1:]
    assert to_texts(column) == [cell.strip('"') for cell in written]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("kind", "labels", "kept"),
    [
        ("names", {"y": ["ant", "bee", "cat"]}, ["y"]),
        ("one-hot", {"y_1": [1, 0, 0], "y_2": [0.0, 1.0, 0.0], "y_3": [0, 0, 1]}, ["y_2", "y_1"]),
    ],
)
def test_a_true_label_stands_beside_the_predicted_one(tmp_path, kind, labels, kept, suffix):
    shard = shard_of(values_of(3).assign(**labels, id=["u", "v", "w"]), tmp_path / f"a.{suffix}")
    predict_shard(classifier_of(kind), shard, tmp_path / "p.csv", [*kept, "id"])
    found = pd.read_csv(tmp_path / "p.csv")
    assert list(found.columns[: len(kept) + 1]) == [*(f"{name}_true" for name in kept), "id"]
    for name in kept:
        assert found[f"{name}_true"].tolist() == labels[name]
    assert set(kept) < set(found.columns)


def test_a_true_label_is_written_as_the_class_is_named(tmp_path):
    shard = shard_of(values_of(2).assign(y=["1.0", "x"]), tmp_path / "a.csv")
    predict_shard(classifier_of("names", names=("1", "x")), shard, tmp_path / "p.csv", ["y"])
    assert pd.read_csv(tmp_path / "p.csv", dtype=str)["y_true"].tolist() == ["1", "x"]


@pytest.mark.parametrize(
    "keep", [["x_1"], ["id", "id"], ["p_ant"], ["y", "y_true"], ["y", "y"], ["y_true", "y"]]
)
def test_what_would_be_there_twice_is_refused(keep):
    schema = classifier_of("names").schema
    with pytest.raises(
        DataError, match=f"^found --keep-columns {keep[-1]}; name each column once, "
    ):
        validate_keep_columns(schema, keep)


def test_an_unknown_name_is_told_with_those_that_there_are(tmp_path):
    shard = shard_of(values_of(2).assign(y="ant", when=1), tmp_path / "a.csv")
    with pytest.raises(
        DataError, match=r"a.csv: found no column 'w'; besides its values, the file has"
    ):
        predict_shard(classifier_of("names"), shard, tmp_path / "p.csv", ["w"])
    assert not (tmp_path / "p.csv").exists()
