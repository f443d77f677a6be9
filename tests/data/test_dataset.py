"""Rows in memory and in blocks: the same values, statistics and fingerprints."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.data.dataset import (
    BlockStatistics,
    Dataset,
    LoadedData,
    MemoryLimitError,
    RowBuffer,
    StatisticsSum,
    rows_of_block,
)
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import DataError
from tests.helpers.blocks import in_blocks

PIECES = st.lists(st.integers(0, 9), min_size=1, max_size=8)
NAMED = SeriesSchema.from_header(["y", "x_1", "x_2", "x_3"], "multiclass")


def make_values(n_rows, n_values=5):
    return np.arange(n_rows * n_values, dtype=np.float32).reshape(-1, n_values)


def pieces_of(sizes):
    """Draw pieces of rows of several sizes, and all rows together."""
    values = make_values(sum(sizes))
    return np.split(values, np.cumsum(sizes)[:-1]), values


@given(PIECES, st.integers(0, 80))
@settings(max_examples=80)
def test_rows_in_memory_come_back_as_they_were_added_or_are_refused(sizes, memory_rows):
    pieces, values = pieces_of(sizes)

    def collect():
        buffer = RowBuffer(5, memory_rows * 5 * 4)
        for piece in pieces:
            buffer.add(piece)
        return buffer.values()

    if len(values) > memory_rows:
        with pytest.raises(MemoryLimitError, match="the rows take more than the memory limit of"):
            collect()
    else:
        np.testing.assert_array_equal(collect(), values)


@given(st.integers(1, 60), st.integers(1, 70), st.data())
@settings(max_examples=100)
def test_slices_of_blocks_are_those_of_the_array(n_rows, block_rows, data):
    values = make_values(n_rows)
    found = in_blocks(values, block_rows)
    assert (len(found), found.shape) == (n_rows, values.shape)
    start = data.draw(st.integers(0, n_rows + 3))
    stop = data.draw(st.one_of(st.none(), st.integers(0, n_rows + 3)))
    part = found[start:stop]
    np.testing.assert_array_equal(part, values[start:stop])
    assert part.dtype == np.float32
    assert part.flags.writeable


@pytest.mark.parametrize("kind", ["global", "timestep", "series", "none"])
def test_scaled_rows_are_the_same_in_memory_and_in_blocks(kind):
    values = make_values(16)
    scaler = Scaler.fit(kind, values)
    scaled = Dataset(in_blocks(values, 7), np.arange(16)).scaled(scaler)
    np.testing.assert_array_equal(scaled.values[0:16], scaler.transform(values))
    in_memory = Dataset(values.copy(), np.arange(16)).scaled(scaler)
    np.testing.assert_array_equal(in_memory.values, scaler.transform(values))


def merged(values, labels, block_rows, schema=NAMED, with_moments=True):
    total = StatisticsSum()
    for start in range(0, len(values), block_rows):
        rows = slice(start, start + block_rows)
        total.add(BlockStatistics.of(values[rows], labels[rows], with_moments))
    return total.finish(schema, "data")


@given(st.integers(2, 60), st.integers(1, 70), st.integers(0, 99))
@settings(max_examples=60)
def test_statistics_of_blocks_are_those_of_all_rows(n_rows, block_rows, seed):
    random = np.random.default_rng(seed)
    values = random.standard_normal((n_rows, 3)).astype(np.float32)
    names = np.array(["10", "9", *random.choice(["9", "10", "b", "a"], n_rows - 2)])
    schema, labels, statistics = merged(values, names, block_rows)
    assert schema.classes == tuple(
        sorted(set(names.tolist()), key=lambda name: ("9", "10", "a", "b").index(name))
    )
    np.testing.assert_array_equal(labels, [schema.classes.index(name) for name in names])
    assert labels.dtype == np.int64
    for kind in ("global", "timestep"):
        found = Scaler.from_moments(kind, statistics.moments)
        np.testing.assert_allclose(found.mean, Scaler.fit(kind, values).mean, atol=1e-12)
        np.testing.assert_allclose(found.std, Scaler.fit(kind, values).std, rtol=1e-10)


def test_statistics_keep_encoded_labels_and_no_moments_that_nobody_needs():
    schema = NAMED.with_classes(["a", "b"])
    labels = np.array([0, 1, 1, 0])
    same, found, statistics = merged(make_values(4, 3), labels, 3, schema, with_moments=False)
    assert same is schema
    np.testing.assert_array_equal(found, labels)
    assert statistics.moments is None
    assert Scaler.from_moments("series", None) == Scaler(kind="series")
    with pytest.raises(ValueError, match="global scaling needs moments"):
        Scaler.from_moments("global", None)


def test_blocks_of_one_class_are_refused():
    with pytest.raises(DataError, match="data, column y: found only the class a"):
        merged(make_values(4, 3), np.array(["a"] * 4), 3)


@pytest.fixture
def loaded():
    """More than one block of rows: in memory, and in blocks."""
    block_rows = rows_of_block(3)
    values = make_values(block_rows + 100, 3)
    names = np.array(["a", "b"] * (len(values) // 2))
    schema, labels, statistics = merged(values, names, block_rows)
    whole = LoadedData(schema, Dataset(values, labels), 1)
    stored = in_blocks(values)
    assert stored.n_blocks == 2
    return whole, replace(whole, rows=Dataset(stored, labels), statistics=statistics)


def test_both_kinds_of_fingerprints_can_be_made_of_both(loaded):
    """A run that began in memory may be resumed where there is less of it, and the other way."""
    whole, blocks = loaded
    assert whole.fingerprint() == blocks.fingerprint(like=whole.fingerprint())
    assert blocks.fingerprint() == whole.fingerprint(like=blocks.fingerprint())
    content = whole.rows.values.tobytes() + whole.rows.labels.tobytes()
    assert whole.fingerprint() == hashlib.sha256(content).hexdigest()
    assert blocks.fingerprint().startswith("blocks:")


@pytest.mark.parametrize("change", ["value", "label"])
def test_a_fingerprint_tells_of_any_change(loaded, change):
    whole, blocks = loaded
    before = whole.fingerprint(), blocks.fingerprint()
    values, labels = whole.rows.values.copy(), whole.rows.labels.copy()
    if change == "value":
        values[-1, -1] += 1
    else:
        labels[0] = 1
    other = replace(whole, rows=Dataset(values, labels))
    assert other.fingerprint() != before[0]
    assert other.fingerprint(like=before[1]) != before[1]


def test_blocks_that_fit_are_joined(loaded):
    whole, blocks = loaded
    joined = blocks.in_memory()
    np.testing.assert_array_equal(joined.rows.values, whole.rows.values)
    assert joined.fingerprint() == whole.fingerprint()
    assert joined.fit_scaler("global") == whole.fit_scaler("global")
    assert blocks.n_bytes == whole.n_bytes == whole.rows.values.nbytes
