"""Shards of every kind, read by this process and into blocks: the same rows, in order.

Training on blocks gives the same weights from any layout of shards, whole or interrupted.
"""

import gzip
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.data.reader import open_dataset
from lstmfcn.distributed import read as reading
from lstmfcn.distributed.load import LoadingBlocks, start_loading
from lstmfcn.distributed.read import (
    exceeds_memory,
    join_pieces,
    needs_blocks,
    read_blocks,
    read_rows,
)
from lstmfcn.distributed.requests import Resources, TrainRequest, read_inputs
from lstmfcn.distributed.train import train
from lstmfcn.errors import DataError, RunInterruptedError
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.checkpoints import find_newest_position
from lstmfcn.training.metrics_log import read_metrics
from lstmfcn.training.run_directory import RunConfig
from tests.helpers.commands import run_job
from tests.helpers.problems import TINY, as_flags, waves, write
from tests.helpers.runs import assert_same_weights


@pytest.fixture(params=["here", "into blocks"])
def load_all(request, cluster):  # noqa: ARG001 - the Ray that it finds
    """Read all, in each way."""

    def read(data, **options):
        shards = open_dataset(str(data), **options)
        if request.param == "into blocks":
            return read_blocks(shards, with_moments=True)
        return read_rows(shards, 10**9)

    return read


@pytest.mark.parametrize("n_shards", [1, 7])
def test_rows_come_whole_and_in_order_from_any_number_of_shards(load_all, tmp_path, n_shards):
    table = waves(50)
    data = load_all(write(tmp_path / "data", table, n_shards))

    assert data.n_shards == n_shards
    np.testing.assert_array_equal(data.rows.values[:], table.filter(like="x_").to_numpy(np.float32))
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


@pytest.mark.usefixtures("cluster")
def test_blocks_are_read_while_workers_hold_all_cpus(tmp_path):
    @ray.remote(num_cpus=4)
    class Workers:
        def ready(self):
            return True

    @ray.remote(num_cpus=0)
    def read(shards):
        return read_blocks(shards, False).fingerprint()

    shards = open_dataset(str(write(tmp_path / "data", waves(60), 3)))
    workers = Workers.remote()
    assert ray.get(workers.ready.remote())
    try:
        found = ray.get(read.remote(shards), timeout=60)
    finally:
        ray.kill(workers)
    assert found == read_blocks(shards, False).fingerprint()


@pytest.mark.usefixtures("cluster")
def test_large_rows_that_fit_into_the_memory_of_the_only_machine_need_no_blocks(tmp_path):
    shards = open_dataset(str(write(tmp_path / "data", waves(60), 3)))
    large = [replace(shard, size=1 << 30) for shard in shards.shards]
    assert not needs_blocks([shards._replace(shards=large)], 10**12)
    assert needs_blocks([shards], 60 * 12 * 4 - 1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 20))
def test_pieces_are_joined_to_full_blocks(sizes, block_rows):
    """Whatever the sizes of the pieces, rows stay in order and only the last block is short."""
    pieces = [reading._Piece(number, size) for number, size in enumerate(sizes)]
    rows = [[(number, row) for row in range(size)] for number, size in enumerate(sizes)]
    blocks = [
        [row for ref, bounds in parts for row in rows[ref][slice(*bounds)]]
        for parts in join_pieces(pieces, block_rows)
    ]
    assert [row for block in blocks for row in block] == [row for piece in rows for row in piece]
    assert {len(block) for block in blocks[:-1]} <= {block_rows}
    assert len(blocks[-1]) <= block_rows


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 10 rows of 12 values."""
    monkeypatch.setattr("lstmfcn.data.dataset.BLOCK_BYTES", 10 * 12 * 4)


@pytest.mark.usefixtures("cluster", "small_blocks")
def test_blocks_are_the_same_from_any_shards(tmp_path):
    """One row is a shard of its own; all statistics agree too."""
    table = waves(203)
    whole = read_blocks(open_dataset(str(write(tmp_path / "1", table))), True)
    uneven = tmp_path / "uneven"
    uneven.mkdir()
    for start, stop in [(0, 1), (1, 99), (99, 203)]:
        table[start:stop].to_csv(uneven / f"part-{start:03d}.csv", index=False)
    for folder in (uneven, write(tmp_path / "7", table, 7)):
        found = read_blocks(open_dataset(str(folder)), True)
        numbers = range(21)
        for one, other in zip(
            *(data.rows.values.read(numbers) for data in (whole, found)), strict=True
        ):
            assert one.tobytes() == other.tobytes()
        assert found.rows.values.n_blocks == 21
        assert found.fingerprint() == whole.fingerprint()
        assert found.fit_scaler("timestep") == whole.fit_scaler("timestep")
        np.testing.assert_array_equal(found.rows.labels, whole.rows.labels)


@pytest.mark.usefixtures("cluster")
def test_settings_of_ray_data_are_left_as_they_were(tmp_path):
    context = ray.data.DataContext.get_current()
    before = repr(context)
    read_blocks(open_dataset(str(write(tmp_path / "data", waves(30), 3))), False)
    assert repr(context) == before


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("n_rows", [50, 5000])
def test_the_size_of_all_values_is_estimated_from_some_of_the_rows(tmp_path, suffix, n_rows):
    """With room for doubt: compressed, random digits take more than usual ones."""
    table = waves(n_rows)
    for i in range(3):
        path = tmp_path / f"part-{i}{suffix}"
        if suffix == ".parquet":
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False)
    shards = open_dataset(str(tmp_path))
    n_bytes = 3 * n_rows * 12 * 4
    doubt = 4 if suffix == ".csv.gz" else 1.1
    assert exceeds_memory([shards], int(n_bytes / doubt))
    assert not exceeds_memory([shards], int(n_bytes * doubt))
    assert exceeds_memory([shards, shards], int(1.9 * n_bytes / doubt))


BLOCKS = TINY.model_copy(update={"batch_size": 20, "epochs": 2})


def train_on_blocks(data, output, n_workers, hyperparameters=BLOCKS, **options):
    limits = Resources(n_workers, cpus_per_worker=1, memory_gb=1e-5)
    train(data, output, hyperparameters=hyperparameters, resources=limits, **options)
    return [m["rows"] for m in read_metrics(output / "metrics.jsonl")]


@pytest.mark.usefixtures("cluster", "small_blocks")
def test_training_on_blocks_does_not_depend_on_shards_or_on_an_interruption(tmp_path, caplog):
    """Two workers; every row counts in each epoch, and no byte of the rows is in the output."""
    few, many = (write(tmp_path / f"data{n}", waves(603), n) for n in (3, 7))
    whole, output = tmp_path / "whole", tmp_path / "interrupted"
    with caplog.at_level("INFO"):
        assert train_on_blocks(many, whole, 2, validation=many) == [603, 603]
    assert (
        "training rows take 28.9 kB, more than the limit of 10 kB: in blocks in Ray's object "
        "stores, shuffled in windows"
    ) in caplog.text
    content = {path.name for path in whole.iterdir()}
    assert content == {"checkpoints", "learning_curve.png", "metrics.jsonl", "model", "run.json"}

    first = BLOCKS.model_copy(update={"epochs": 1})
    train_on_blocks(few, output, 2, first, validation=few, checkpoint_every_s=0)
    shutil.rmtree(max((output / "checkpoints").iterdir()))
    assert find_newest_position(output / "checkpoints").step
    again = {"validation": None, "resume": True}
    assert train_on_blocks(None, output, 2, BLOCKS, **again) == [603, 603]
    assert_same_weights(output, whole)


def inputs_of(data, folder, earlier=None):
    """What a training of a folder reads, or one that resumes what another folder began."""
    folder.mkdir()
    config = TrainRequest(data, data, None, BLOCKS, None).new_run(folder, False, False)
    if earlier:
        config = config.model_copy(update={"train_sha256": RunConfig.load(earlier).train_sha256})
    return read_inputs(config, folder)


@pytest.mark.usefixtures("cluster")
def test_rows_that_turn_out_to_fit_are_those_of_a_training_that_knew_it(tmp_path):
    data = str(write(tmp_path / "data", waves(90), 3))
    plain = start_loading(inputs_of(data, tmp_path / "plain"), 1, 10**6)
    feared = start_loading(inputs_of(data, tmp_path / "feared"), 1, 10**6, in_blocks=True)
    assert isinstance(feared, LoadingBlocks)
    assert feared.wait() == plain.wait()
    for found, expected in zip(feared.refs().get()[1:], plain.get()[1:], strict=True):
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.usefixtures("cluster")
def test_a_run_goes_on_where_there_is_less_memory_or_more_but_not_with_other_rows(tmp_path):
    data = str(write(tmp_path / "data", waves(90), 3))
    other = str(write(tmp_path / "other", waves(90, seed=1), 3))
    small, large = 10, 10**6
    for first, then in [(large, small), (small, large)]:
        began = tmp_path / f"began-{first}"
        start_loading(inputs_of(data, began), 1, first).wait()
        goes_on = inputs_of(data, tmp_path / f"then-{then}", began)
        info = start_loading(goes_on, 1, then).wait()
        assert info.training.in_blocks == (then == small)
        assert info.train_sha256 == RunConfig.load(began).train_sha256
        changed = inputs_of(other, tmp_path / f"other-{then}", began)
        with pytest.raises(DataError, match="training rows that differ from those of the run"):
            start_loading(changed, 1, then).wait()


@pytest.mark.usefixtures("cluster")
def test_validation_rows_are_in_memory_if_they_fit_beside_the_training_rows(tmp_path):
    data = str(write(tmp_path / "data", waves(90), 3))
    inputs = inputs_of(data, tmp_path / "run")
    found = [
        (info.training.in_blocks, info.validation.in_blocks)
        for limit in (90 * 12 * 4 * 2, 90 * 12 * 4, 90 * 12 * 4 - 1)
        for info in [start_loading(inputs, 1, limit).wait()]
    ]
    assert found == [(False, False), (False, True), (True, True)]


@pytest.mark.usefixtures("cluster")
def test_reading_into_blocks_ends_when_the_user_stops_it(tmp_path):
    data = str(write(tmp_path / "data", waves(90), 3))
    loading = start_loading(inputs_of(data, tmp_path / "run"), 1, 10)
    loading.stop()
    with pytest.raises(RunInterruptedError, match="stopped while the rows were read"):
        loading.wait()


@pytest.mark.usefixtures("cluster")
def test_rows_that_do_not_fit_against_the_estimate_are_read_again_into_blocks(
    tmp_path, monkeypatch, caplog
):
    data = write(tmp_path / "data", waves(603), 3)
    monkeypatch.setattr("lstmfcn.distributed.load.needs_blocks", lambda *_: False)
    with caplog.at_level("INFO"):
        assert train_on_blocks(data, tmp_path / "run", 1) == [603, 603]
    again = "the rows take more than the memory limit of 10 kB: reading them again, into blocks"
    assert again in caplog.messages
    assert Artifact.load(tmp_path / "run" / "model").training["train_rows"] == 603


@pytest.mark.usefixtures("cluster")
def test_a_fault_in_the_last_shard_ends_a_training_on_blocks_and_leaves_nothing(tmp_path):
    data = write(tmp_path / "data", waves(300), 3)
    shard = data / "part-002.csv"
    shard.write_text(shard.read_text().rstrip() + "x\n")
    with pytest.raises(DataError, match=r"part-002.csv, row 100, column x_12: found '.*x';"):
        train_on_blocks(data, tmp_path / "run", 1)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("cluster")
def test_an_ensemble_and_a_sweep_train_on_blocks(tmp_path):
    """A sweep reads the rows once for all scalings."""
    data = write(tmp_path / "data", waves(300), 3)
    members = BLOCKS.model_copy(update={"members": 2, "calibrate": True, "epochs": 1})
    train_on_blocks(data, tmp_path / "ensemble", 1, members, validation=data)
    ensemble = Artifact.load(tmp_path / "ensemble" / "model")
    assert ensemble.hyperparameters.members == 2
    assert ensemble.training["train_sha256"].startswith("blocks:")

    space = tmp_path / "space.yaml"
    space.write_text("scaling: {choice: [timestep, series]}")
    flags = {"num_samples": 3, "max_concurrent": 1, "scheduler": "none", "memory_gb": 1e-5}
    given = {"train": data, "validation": data, "output": tmp_path / "sweep", "space": space}
    fixed = BLOCKS.model_dump(exclude={"scaling"}) | {"calibrate": True}
    done = run_job("tune", *as_flags(given | fixed | flags))
    assert done.returncode == 0, done.stderr
    assert "validation rows take 14.4 kB, more than the limit of 10 kB: in blocks" in done.stderr
    rows = pd.read_csv(tmp_path / "sweep" / "trials.csv")
    assert rows.status.tolist() == ["done"] * 3
    assert set(rows.scaling) == {"global", "timestep", "series"}  # the defaults come first
    alone = tmp_path / "alone"
    best = Artifact.load(tmp_path / "sweep" / "model")
    train_on_blocks(data, alone, 1, best.hyperparameters, validation=data)
    weights = Artifact.load(alone / "model").weights
    assert all(bool((best.weights[name] == weights[name]).all()) for name in weights)
