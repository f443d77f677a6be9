"""Shards of every kind, read by this process and by Ray Data: the same rows, in order."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray

from lstmfcn.data.reader import open_dataset
from lstmfcn.distributed import load as reading
from lstmfcn.distributed.load import load
from lstmfcn.errors import DataError
from tests.helpers.problems import waves, write


@pytest.fixture(params=[False, True], ids=["here", "with Ray Data"])
def load_all(request, monkeypatch, cluster):  # noqa: ARG001 - the Ray that it finds
    """Read all, in both ways; the second for small data too, wherever there are several shards."""
    if request.param:
        monkeypatch.setattr(reading, "_BYTES_WORTH_RAY_DATA", 1)
        monkeypatch.setattr(reading, "_BYTES_WORTH_A_PROCESS", 1)

    def read(data, memory_bytes=10**9, store=Path("unused"), **options):
        return load(open_dataset(str(data), **options), memory_bytes, store)

    return read


@pytest.mark.parametrize("n_shards", [1, 7])
def test_rows_come_whole_and_in_order_from_any_number_of_shards(load_all, tmp_path, n_shards):
    table = waves(50)
    data = load_all(write(tmp_path / "data", table, n_shards))

    assert data.n_shards == n_shards
    np.testing.assert_array_equal(data.rows.values, table.filter(like="x_").to_numpy(np.float32))
    expected = table.filter(like="y_").to_numpy().argmax(axis=1)
    np.testing.assert_array_equal(data.rows.labels, expected)


def test_formats_and_column_orders_mix_and_the_fingerprint_stays(load_all, tmp_path):
    table = waves(30)
    plain = load_all(write(tmp_path / "plain", table))
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    table[:10].to_csv(mixed / "a.csv", index=False)
    text = table[10:20][table.columns[::-1]].assign(id="ignored").to_csv(index=False)
    (mixed / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    table[20:].astype("float64").to_parquet(mixed / "c.parquet")
    data = load_all(mixed)

    assert data.fingerprint() == plain.fingerprint()
    changed = table.copy()
    changed.iloc[29, 5] += 1
    assert load_all(write(tmp_path / "changed", changed)).fingerprint() != plain.fingerprint()


def test_class_names_are_found_across_shards(load_all, tmp_path):
    table = waves(30).filter(like="x_")
    table.insert(0, "y", ["10"] * 10 + ["9"] * 10 + ["2.0"] * 10)
    data = load_all(write(tmp_path / "data", table, 3))

    assert data.schema.classes == ("2", "9", "10")
    assert data.rows.labels.tolist() == [2] * 10 + [1] * 10 + [0] * 10
    known = load_all(tmp_path / "data", schema=data.schema)
    assert known.rows.labels.tolist() == data.rows.labels.tolist()


def test_a_fault_in_any_shard_comes_out_of_ray_as_one_plain_error(load_all, tmp_path):
    folder = write(tmp_path / "data", waves(30), 3)
    shard = folder / "part-001.csv"
    table = pd.read_csv(shard).astype(object)
    table.loc[4, "x_3"] = "broken"
    table.to_csv(shard, index=False)

    with pytest.raises(DataError) as refused:
        load_all(folder)
    assert str(refused.value) == (
        f"{shard}, row 5, column x_3: found 'broken'; write a number or remove the row"
    )


def test_an_unknown_class_of_a_validation_shard_is_named_with_its_row(load_all, tmp_path):
    table = waves(12).filter(like="x_")
    table.insert(0, "y", ["a", "b"] * 6)
    schema = load_all(write(tmp_path / "train", table)).schema
    table.loc[7, "y"] = "c"
    folder = write(tmp_path / "validation", table)

    with pytest.raises(DataError, match=r"row 8, column y: found the class 'c'; .* a, b"):
        load_all(folder, schema=schema)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize(("csv_mb", "n_shards", "processes"), [
    (0.001, 3, 1), (300, 3, 1), (500, 1, 1), (500, 3, 3), (500, 300, 4), (5000, 2, 2),
])  # fmt: skip
@pytest.mark.usefixtures("cluster")
def test_only_what_takes_longer_to_read_than_ray_data_to_start_is_read_with_it(
    tmp_path, suffix, csv_mb, n_shards, processes
):
    waves(3).to_csv(tmp_path / f"part{suffix}", index=False)
    known = open_dataset(str(tmp_path))
    size = int(csv_mb * 2**20 / n_shards / (4 if suffix == ".csv.gz" else 1))
    shard = replace(known.shards[0], size=size)
    assert reading._processes_worth(known._replace(shards=[shard] * n_shards)) == processes


@pytest.mark.usefixtures("cluster")
def test_ray_data_reads_in_a_task_while_workers_hold_all_cpus(tmp_path):
    @ray.remote(num_cpus=4)
    class Workers:
        def ready(self):
            return True

    @ray.remote(num_cpus=0, max_calls=1)  # its process, thus changed, is not used again
    def read(shards):
        reading._BYTES_WORTH_RAY_DATA = reading._BYTES_WORTH_A_PROCESS = 1
        return load(shards, 10**9, Path("unused")).fingerprint()

    folder = write(tmp_path / "data", waves(60), 3)
    workers = Workers.remote()
    assert ray.get(workers.ready.remote())
    try:
        found = ray.get(read.remote(open_dataset(str(folder))), timeout=60)
    finally:
        ray.kill(workers)
    assert found == load(open_dataset(str(folder)), 10**9, Path("unused")).fingerprint()


def test_rows_that_do_not_fit_are_packed_in_a_file_and_are_the_same(load_all, tmp_path):
    table = waves(50)
    kept = load_all(write(tmp_path / "one", table))
    folder = write(tmp_path / "data", table, 3)
    packed = load_all(folder, memory_bytes=40 * 12 * 4, store=tmp_path / "rows" / "values.f32")

    assert not kept.streamed
    assert packed.streamed
    np.testing.assert_array_equal(packed.rows.values[0:50], kept.rows.values)
    np.testing.assert_array_equal(packed.rows.labels, kept.rows.labels)
    assert packed.fingerprint() == kept.fingerprint()
    assert (tmp_path / "rows" / "values.f32").stat().st_size == 50 * 12 * 4
