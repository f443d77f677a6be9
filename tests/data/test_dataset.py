import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.data.dataset import Dataset, FileBackedArray, SpillingBuffer
from lstmfcn.data.scaler import Scaler
from lstmfcn.errors import OutputError

BLOCKS = st.lists(st.integers(0, 9), min_size=1, max_size=8)


def blocks_of(sizes, n_timepoints=5):
    """Draw blocks of rows of several sizes, and all rows together."""
    values = np.arange(sum(sizes) * n_timepoints, dtype=np.float32).reshape(-1, n_timepoints)
    return np.split(values, np.cumsum(sizes)[:-1]), values


def collected(sizes, memory_rows, path):
    blocks, values = blocks_of(sizes)
    with SpillingBuffer(5, memory_rows * 5 * 4, path) as collector:
        for block in blocks:
            collector.add(block)
        return collector.values(), values


@given(BLOCKS, st.integers(0, 80))
@settings(max_examples=80)
def test_values_are_the_same_in_memory_and_on_disk(tmp_path_factory, sizes, memory_rows):
    path = tmp_path_factory.mktemp("rows") / "folder" / "values.f32"
    found, values = collected(sizes, memory_rows, path)
    assert isinstance(found, FileBackedArray) == (len(values) > memory_rows) == path.exists()
    assert found.shape == values.shape
    assert len(found) == len(values)
    for rows in (slice(0, 3), slice(2, None), slice(None), slice(len(values), None)):
        np.testing.assert_array_equal(found[rows], values[rows])
        assert found[rows].dtype == np.float32


@pytest.mark.parametrize("memory_rows", [0, 100])
@pytest.mark.parametrize("kind", ["global", "timestep", "series", "none"])
def test_scaled_rows_are_the_same_in_memory_and_on_disk(tmp_path, memory_rows, kind):
    found, values = collected([7, 9], memory_rows, tmp_path / "values.f32")
    scaler = Scaler.fit(kind, values)
    rows = Dataset(found, np.arange(16)).scaled(scaler)
    np.testing.assert_array_equal(rows.values[0:16], scaler.transform(values))
    assert Scaler.fit(kind, collected([16], 0, tmp_path / "again")[0]) == scaler


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    with SpillingBuffer(5, 0, tmp_path / "values.f32") as collector:
        collector.add(np.ones((1, 5), dtype=np.float32))
        collector._file.close()
        full = open("/dev/full", "wb", buffering=0)  # noqa: PTH123, SIM115 - as a full disk
        collector._file = full
        with pytest.raises(OutputError) as refusal:
            collector.add(np.ones((1, 5), dtype=np.float32))
    assert full.closed
    assert str(refusal.value) == (
        f"{tmp_path}/values.f32: rows cannot be stored (No space left on device); "
        "free space there, or allow more memory with --memory-gb"
    )
    assert refusal.value.__cause__.errno == errno.ENOSPC
    collector._file.close()
