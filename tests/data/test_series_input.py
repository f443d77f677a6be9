import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.data.series_input import order_columns, several_lengths, swapped_axes, to_array
from lstmfcn.errors import DataError

NAMES = ("x_1", "x_2", "x_3")
LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5)


@given(LENGTHS, st.integers(1, 3), st.sampled_from([list, tuple, "objects", "lists"]))
def test_series_of_several_lengths_are_filled_up_with_nan(lengths, n_channels, form):
    rows = [np.arange(n_channels * t, dtype=float).reshape(n_channels, t) for t in lengths]
    rows = [row[0] for row in rows] if n_channels == 1 else rows
    if form == "objects":
        values = np.empty(len(rows), dtype=object)
        values[:] = rows
    else:
        values = [row.tolist() for row in rows] if form == "lists" else form(rows)
    found = np.asarray(to_array(values, 4), dtype=float)
    assert found.shape == (len(rows), *rows[0].shape[:-1], max(4, *lengths))
    for filled, row in zip(found, rows, strict=True):
        np.testing.assert_array_equal(filled[..., : row.shape[-1]], row)
        assert np.isnan(filled[..., row.shape[-1] :]).all()
    if len(set(lengths)) > 1:
        assert several_lengths(values) == f"{min(lengths)} to {max(lengths)} timepoints"


def test_a_nested_frame_is_channels_by_timepoints():
    frame = pd.DataFrame(
        {"dim_0": [pd.Series([1.0, 2.0]), pd.Series([3.0])], "dim_1": [np.array([4.0])] * 2}
    )
    nan = np.nan
    np.testing.assert_array_equal(to_array(frame), [[[1, 2], [4, nan]], [[3, nan], [4, nan]]])
    assert several_lengths(frame) == "1 to 2 timepoints"
    even = frame.map(lambda _: pd.Series([1.0, 2.0, 3.0]))
    assert to_array(even).shape == (2, 2, 3)
    assert several_lengths(even) is None


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3, 4]], [], [[]], [1, 2], "text", None, 3.5, {"a": [1]}, [["a", 2], [3]],
        [[1, [2]], [3]], [[1], [[2], [3]]], np.ones((2, 3)), np.array(["a", "b"], dtype=object),
        pd.DataFrame({"x_1": [1, 2]}), pd.DataFrame({"x_1": ["text", "more"]}), pd.DataFrame(),
    ],
)  # fmt: skip
def test_all_else_stays_as_it_is(values):
    assert to_array(values) is values


TABLES = {
    "pandas": lambda columns: pd.DataFrame(columns),
    "polars": lambda columns: pl.DataFrame(columns),
    "pyarrow": lambda columns: pa.table(columns),
    "record batch": lambda columns: pa.RecordBatch.from_pydict(columns),
}


@pytest.mark.parametrize("library", TABLES)
def test_a_table_is_matched_by_name_and_other_columns_are_ignored(library):
    columns = {"id": ["u", "v"], "x_3": [3.0, 6.0], "x_1": [1, 4], "y": ["a", "b"], "x_2": [2, 5]}
    found = order_columns(TABLES[library](columns), [NAMES])
    np.testing.assert_array_equal(np.asarray(found, dtype=np.float32), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("library", TABLES)
@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        (["id", "x_1", "x_2"], "1 value column of the model, x_3"),
        (["a", "b", "c"], "3 value columns of the model, x_1, x_2, x_3"),
        (["X_1", "X_2", "X_3"], "3 value columns of the model, x_1, x_2, x_3"),
    ],
)
def test_a_table_without_the_models_columns_is_refused_by_name(library, columns, missing):
    table = TABLES[library]({name: [1.0, 2.0] for name in columns})
    with pytest.raises(DataError) as refusal:
        order_columns(table, [NAMES])
    assert str(refusal.value) == (
        f"found a table without {missing}; "
        "use the model's column names, or pass an array with the values in the model's order"
    )


def test_a_table_with_more_values_than_the_model_has_is_refused():
    table = pd.DataFrame(np.ones((2, 4)), columns=[*NAMES, "x_4"])
    with pytest.raises(DataError, match="1 value column that the model does not have, x_4; remo"):
        order_columns(table, [NAMES])


@pytest.mark.parametrize("first", [0, 1])
def test_a_table_with_numbered_columns_is_an_array(first):
    table = pd.DataFrame(np.ones((2, 3)), columns=range(first, first + 3))
    assert order_columns(table, [NAMES]) is table
    with pytest.raises(DataError, match="found a table without 3 value columns"):
        order_columns(table.iloc[:, ::-1], [NAMES])


def test_the_set_of_names_that_the_table_has_is_used():
    table = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["b", "a", "c"])
    names = [NAMES, ["a", "b", "c"]]
    assert np.asarray(order_columns(table, names)).tolist() == [[2.0, 1.0, 3.0]]
    with pytest.raises(DataError, match="without 1 value column of the model, c;"):
        order_columns(table[["a", "b"]], names)


def test_axes_are_swapped_where_channels_are_more_than_timepoints():
    assert swapped_axes(1, 60) is swapped_axes(3, 3) is swapped_axes(1, 1) is None
    assert swapped_axes(60, 1).startswith("60 channels of 1 timepoint: the axes must be (N,")
    assert swapped_axes(60, 3).endswith("pass X.transpose(0, 2, 1)")


def test_cells_without_series_and_values_of_one_element():
    assert several_lengths(pd.DataFrame({"d": [np.ones(3), np.nan]})) == "1 to 3 timepoints"
    assert several_lengths([["1", "2.5"], ["3", "4"]]) is None
    assert several_lengths([[np.array(1.0), np.array(2.0)]]) is None


def test_a_table_without_columns_is_an_array_without_values():
    empty = pd.DataFrame()
    assert order_columns(empty, [("x_1",)]) is empty
