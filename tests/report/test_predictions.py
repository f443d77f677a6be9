import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.data.reader import open_dataset
from lstmfcn.inference.predictor import Classifier
from lstmfcn.report.predictions import (
    ALIKE,
    HARDEST,
    choose_hardest,
    collect_predictions,
    number_class_pairs,
    true_probabilities,
)
from tests.helpers.small_reports import (
    CASES,
    report_artifact,
    report_schema,
    report_shards,
    report_table,
)


def predictions(folder, schema, table, n_shards):
    data = report_shards(folder, table, n_shards)
    return collect_predictions(
        Classifier(report_artifact(schema)), open_dataset(data, schema=schema)
    )


@pytest.mark.parametrize("kind", CASES)
def test_what_is_kept_does_not_depend_on_the_shards(tmp_path, kind):
    schema = report_schema(kind)
    table = report_table(schema, 90)
    one = predictions(tmp_path / "one", schema, table, 1)
    five = predictions(tmp_path / "five", schema, table, 5)
    assert np.array_equal(one.labels, five.labels)
    assert np.allclose(one.probabilities, five.probabilities, atol=1e-6)
    for kept, same in ((one.sample, five.sample), (one.hardest, five.hardest)):
        assert np.array_equal(kept.numbers, same.numbers)
        assert np.array_equal(kept.values, same.values)
    shares, asked = true_probabilities(schema, one.columns)
    pairs = number_class_pairs(one.columns, asked, schema.task == "multilabel")
    assert set(one.hardest.numbers) == set(first_of_pairs(shares, pairs))


def first_of_pairs(shares, pairs):
    """The hardest rows, one by one: each unless there are two of its pair already."""
    found = []
    for row in np.argsort(shares, kind="stable"):
        if sum(pairs[other] == pairs[row] for other in found) < ALIKE and len(found) < HARDEST:
            found.append(row)
    return found


def test_rows_mistaken_alike_leave_room_for_others(tmp_path):
    schema = report_schema()
    table = report_table(schema, 30)
    same = pd.concat([table, *[table.iloc[[3]]] * 40])
    found = predictions(tmp_path / "data", schema, same, 3)
    _, asked = true_probabilities(schema, found.columns)
    pairs = number_class_pairs(found.columns, asked, multilabel=False)[found.hardest.numbers]
    assert np.unique(pairs, return_counts=True)[1].max() == ALIKE
    assert len(found.hardest.numbers) > 4


@given(
    rows=st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3]), st.integers(0, 8)), max_size=60),
    cut=st.integers(0, 60),
)
def test_the_hardest_are_the_same_however_rows_come(rows, cut):
    keys, pairs = np.array([k for k, _ in rows]), np.array([p for _, p in rows], dtype=np.int64)
    chosen = choose_hardest(keys, pairs)
    assert set(np.flatnonzero(chosen)) == set(first_of_pairs(keys, pairs))
    before = np.flatnonzero(choose_hardest(keys[:cut], pairs[:cut]))
    left = np.concatenate([before, np.arange(cut, len(rows))]).astype(int)
    assert left[choose_hardest(keys[left], pairs[left])].tolist() == np.flatnonzero(chosen).tolist()


def test_each_kept_row_is_found_where_its_place_says(tmp_path):
    schema = report_schema()
    found = predictions(tmp_path / "data", schema, report_table(schema, 47), 3)
    for number, values in zip(*found.hardest, strict=True):
        file, row = found.place(int(number))
        shard = pd.read_csv(tmp_path / "data" / file).filter(regex="^x")
        assert np.array_equal(shard.iloc[row - 1].to_numpy(np.float32), values)


def test_at_most_200_rows_of_a_class_are_sampled_and_all_of_a_small_one(tmp_path):
    schema = report_schema()
    table = report_table(schema, 750)
    table = pd.concat([table[table.y != "cat"], table[table.y == "cat"].head(5)])
    found = predictions(tmp_path / "data", schema, table, 2)
    classes = found.labels[found.sample.numbers]
    assert np.bincount(classes.astype(int)).tolist() == [200, 200, 5]
    firsts = found.sample.numbers[classes == 0]
    assert firsts.max() > 400  # not just those that came first


def test_the_true_share_of_labels_is_the_least_of_them():
    schema = report_schema("multilabel")
    columns = type("Columns", (), {})
    columns.true = np.array([[1, 0, 1]], dtype=np.int8)
    columns.probabilities = np.array([[0.9, 0.8, 0.7]], dtype=np.float32)
    shares, classes = true_probabilities(schema, columns)
    assert (shares.tolist(), classes.tolist()) == ([pytest.approx(0.2)], [1])


def test_lengths_end_at_the_last_value_and_gaps_are_what_is_missing_before(tmp_path):
    schema = report_schema(n_channels=2, missing="mask")
    table = report_table(schema, 2).astype(dict.fromkeys(schema.value_columns, object))
    series = np.ones((2, 2, schema.n_timepoints))
    series[0, :, 10:] = np.nan
    series[0, 0, 3:5] = np.nan  # a gap of two values
    series[1, 1, 12:] = np.nan  # missing while the other channel goes on
    table[list(schema.value_columns)] = series.reshape(2, -1)
    found = predictions(tmp_path / "data", schema, table, 1)
    assert found.lengths.tolist() == [10, schema.n_timepoints]
    assert found.missing == 2 + 4
