import threading
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.data.batch_plan import batch_bounds, batch_size_for, bounds_after, refuse_small_batches
from lstmfcn.data.dataset import Dataset
from lstmfcn.data.scaler import Scaler
from lstmfcn.errors import HyperparameterError
from lstmfcn.training.batches import (
    EvaluationLoader,
    RowsTaken,
    WorkerContext,
    make_loader,
    to_tensor,
)
from tests.helpers.blocks import in_blocks


def numbered(n_rows):
    """Rows that tell their own index, in values and labels."""
    index = np.arange(n_rows)
    return Dataset(np.stack([index, -index], axis=1).astype(np.float32), index.astype(np.int64))


def epoch_of(n_rows, batch_size, seed=0, epoch=1, share=WorkerContext()):
    return list(make_loader(numbered(n_rows), batch_size, seed, share)(epoch))


def indices(batch):
    return batch.targets.tolist()


@st.composite
def sizes(draw):
    """Rows, batch size, workers."""
    world_size = draw(st.integers(1, 5))
    return draw(st.integers(1, 200)), draw(st.integers(2 * world_size, 64)), world_size


@given(sizes(), st.integers(0, 2**32 - 1), st.integers(1, 500))
@settings(max_examples=80)
def test_every_row_is_seen_once_an_epoch_over_all_workers(case, seed, epoch):
    n_rows, batch_size, world_size = case
    seen = []
    for rank in range(world_size):
        for batch in epoch_of(n_rows, batch_size, seed, epoch, WorkerContext(rank, world_size)):
            torch.testing.assert_close(batch.x[:, 0], batch.targets.float())
            seen += indices(batch)
    assert sorted(seen) == list(range(n_rows))


@given(sizes(), st.integers(0, 600))
@settings(max_examples=60)
def test_few_rows_are_gone_over_several_times_an_epoch(case, rows_per_epoch):
    n_rows, batch_size, world_size = case
    passes = max(1, -(-rows_per_epoch // n_rows))
    shares = [WorkerContext(rank, world_size) for rank in range(world_size)]
    workers = [
        list(make_loader(numbered(n_rows), batch_size, 3, share, rows_per_epoch)(1))
        for share in shares
    ]
    order = []
    for parts in zip(*workers, strict=True):
        batch = [0] * parts[0].n_rows_global
        for share, part in zip(shares, parts, strict=True):
            batch[share.rows] = indices(part)
        order += batch
    assert len(order) == n_rows * passes
    for start in range(0, len(order), n_rows):
        assert sorted(order[start : start + n_rows]) == list(range(n_rows))


@given(sizes())
@settings(max_examples=60)
def test_order_does_not_depend_on_workers(case):
    n_rows, batch_size, world_size = case
    order = [i for batch in epoch_of(n_rows, batch_size) for i in indices(batch)]
    parts = [
        epoch_of(n_rows, batch_size, share=WorkerContext(r, world_size)) for r in range(world_size)
    ]
    found = []
    for shares in zip(*parts, strict=True):
        joined = [None] * shares[0].n_rows_global
        assert sum(len(share.x) for share in shares) == len(joined)
        for rank, share in enumerate(shares):
            joined[rank::world_size] = indices(share)
        found += joined
    assert found == order


@given(sizes())
@settings(max_examples=80)
def test_no_worker_gets_fewer_than_two_rows_unless_there_are_fewer(case):
    n_rows, batch_size, world_size = case
    for rank in range(world_size):
        for batch in epoch_of(n_rows, batch_size, share=WorkerContext(rank, world_size)):
            assert len(batch.x) >= 2 or n_rows < 2 * world_size


@given(sizes())
@settings(max_examples=80)
def test_all_batches_are_full_but_the_last(case):
    n_rows, batch_size, world_size = case
    bounds = batch_bounds(n_rows, batch_size, world_size)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n_rows
    assert all(stop == start for (_, stop), (start, _) in pairwise(bounds))
    assert all(stop - start == batch_size for start, stop in bounds[:-1])
    assert bounds[-1][1] - bounds[-1][0] < batch_size + 2 * world_size


@pytest.mark.parametrize(
    ("n_rows", "expected"),
    [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (3, [3]), (1, [1]), (5, [5])],
)
def test_a_last_batch_of_one_row_joins_the_one_before(n_rows, expected):
    batches = epoch_of(n_rows, 4)
    assert [len(batch.x) for batch in batches] == expected
    assert [batch.n_rows_global for batch in batches] == expected


@pytest.mark.parametrize(
    ("n_rows", "expected"),
    [(2, 8), (30, 8), (511, 8), (512, 16), (1023, 16), (1024, 32), (4096, 128), (10**7, 128)],
)
def test_an_automatic_batch_grows_with_the_rows(n_rows, expected):
    assert batch_size_for("auto", n_rows) == expected
    assert batch_size_for(7, n_rows) == 7
    assert batch_size_for("auto", n_rows, 4) == expected
    assert batch_size_for("auto", n_rows, 100) == max(expected, 200)


def test_order_depends_on_seed_and_epoch_only():
    def order(**changes):
        return [i for batch in epoch_of(50, 8, **changes) for i in indices(batch)]

    torch.manual_seed(1)
    np.random.seed(1)
    first = order(seed=3, epoch=2)
    torch.manual_seed(2)
    np.random.seed(2)
    assert order(seed=3, epoch=2) == first
    assert len({tuple(o) for o in (first, order(seed=3, epoch=3), order(seed=4, epoch=2))}) == 3
    assert first != sorted(first)


def test_a_later_epoch_can_be_read_first():
    batches = make_loader(numbered(20), 4, 0)
    late = [indices(batch) for batch in batches(7)]
    early = [indices(batch) for batch in batches(1)]
    fresh = make_loader(numbered(20), 4, 0)
    assert [indices(batch) for batch in fresh(1)] == early
    assert [indices(batch) for batch in fresh(7)] == late


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (3, 2), (7, 4)])
def test_a_batch_without_two_rows_for_each_worker_is_refused(batch_size, world_size):
    with pytest.raises(HyperparameterError) as refusal:
        refuse_small_batches(batch_size, world_size)
    assert str(refusal.value) == (
        f"batch-size: found {batch_size}; it must be at least {2 * world_size}, "
        "two rows for each worker, because batch norm needs them"
    )


@pytest.mark.parametrize("n_rows", [1, 3, 1023, 1024, 1025, 2500])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_evaluation_covers_every_row_once(n_rows, world_size):
    seen = []
    for rank in range(world_size):
        for batch in EvaluationLoader(numbered(n_rows), WorkerContext(rank, world_size)):
            assert 1 <= len(batch.x) <= 1024
            torch.testing.assert_close(batch.x[:, 0], batch.targets.float())
            seen += indices(batch)
    assert sorted(seen) == list(range(n_rows))


def test_evaluation_of_one_worker_keeps_the_order():
    batches = EvaluationLoader(numbered(2500))
    assert [i for batch in batches for i in indices(batch)] == list(range(2500))
    assert [batch.n_rows_global for batch in batches] == [1024, 1024, 452]


def test_a_tensor_over_a_read_only_array_warns_nothing_and_shares_memory():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    array.setflags(write=False)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tensor = to_tensor(array)
    finally:
        torch.set_warn_always(False)
    assert not caught
    assert tensor.data_ptr() == array.ctypes.data
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_batches_never_write_to_the_rows():
    rows = numbered(9)
    for array in (rows.values, rows.labels):
        array.setflags(write=False)
    for batch in make_loader(rows, 4, 0)(1):
        batch.x.zero_()
        batch.targets.zero_()
    np.testing.assert_array_equal(rows.values, numbered(9).values)
    np.testing.assert_array_equal(rows.labels, numbered(9).labels)


def stored(n_rows, block_rows=None, n_timepoints=2):
    """Rows that tell their own index, in blocks."""
    rows = numbered(n_rows)
    values = np.repeat(rows.values[:, :1], n_timepoints, axis=1)
    return Dataset(in_blocks(values, block_rows), rows.labels)


@st.composite
def streamed_sizes(draw):
    """Rows, batch size, workers, rows of a block, bytes of a window."""
    world_size = draw(st.integers(1, 3))
    n_rows = draw(st.integers(200 * world_size, 3000))
    batch_size = draw(st.integers(4 * world_size, 200))
    return n_rows, batch_size, world_size, draw(st.integers(1, 4000)), draw(st.integers(8, 9000))


@pytest.mark.slow
@given(streamed_sizes(), st.integers(0, 2**32 - 1), st.integers(1, 50))
@settings(max_examples=60)
def test_streamed_rows_are_seen_once_an_epoch_over_all_workers(case, seed, epoch):
    n_rows, batch_size, world_size, block_rows, window_bytes = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmfcn.training.batches._WINDOW_BYTES", window_bytes)
        rows = stored(n_rows, block_rows)
        shares = [WorkerContext(rank, world_size) for rank in range(world_size)]
        workers = [list(make_loader(rows, batch_size, seed, s)(epoch)) for s in shares]
    bounds = batch_bounds(n_rows, batch_size, world_size)
    seen = []
    for parts in zip(*workers, strict=True):
        for part in parts:
            torch.testing.assert_close(part.x[:, 0], part.targets.float())
            assert part.n_rows_global == sum(len(other.x) for other in parts)
            assert len(part.x) >= 2
            seen += indices(part)
    assert sorted(seen) == list(range(n_rows))
    assert {len(batches) for batches in workers} == {len(bounds)}
    for parts, (start, stop) in zip(zip(*workers, strict=True), bounds, strict=True):
        assert abs(parts[0].n_rows_global - (stop - start)) <= world_size


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", [0, 1, 7, 30, 33, 34])
def test_batches_from_one_on_are_those_of_the_whole_epoch(monkeypatch, stream, first):
    monkeypatch.setattr("lstmfcn.training.batches._WINDOW_BYTES", 2000)
    rows = stored(1000, 33) if stream else numbered(1000)
    batches = make_loader(rows, 30, 5)
    whole = list(batches(3))
    rest = list(batches(3, whole[first - 1].taken if first else RowsTaken()))
    assert [indices(batch) for batch in rest] == [indices(batch) for batch in whole[first:]]


@st.composite
def interrupted(draw):
    """Rows, and each attempt at an epoch: workers, batch size, batches until it is cut off."""
    n_rows = draw(st.integers(2, 400))
    attempts = []
    for _ in range(draw(st.integers(1, 4))):
        world_size = draw(st.integers(1, 6))
        attempts.append(
            (world_size, draw(st.integers(2 * world_size, 40)), draw(st.integers(0, 12)))
        )
    return n_rows, attempts


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
@given(interrupted(), st.integers(1, 500), st.integers(8, 3000), st.integers(0, 99))
@settings(max_examples=150)
def test_an_epoch_that_goes_on_with_other_workers_sees_each_row_once(
    stream, case, block_rows, window_bytes, seed
):
    """The rows of each attempt until it is cut off, and of the last one all that are left."""
    n_rows, attempts = case
    rows = stored(n_rows, block_rows) if stream else numbered(n_rows)
    seen, taken = [], RowsTaken()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmfcn.training.batches._WINDOW_BYTES", window_bytes)
        for number, (world_size, batch_size, n_steps) in enumerate(attempts, 1):
            shares = [WorkerContext(rank, world_size) for rank in range(world_size)]
            workers = [make_loader(rows, batch_size, seed, s)(3, taken) for s in shares]
            steps = list(zip(*workers, strict=True))
            for parts in steps if number == len(attempts) else steps[:n_steps]:
                assert {part.n_rows_global for part in parts} == {sum(len(p.x) for p in parts)}
                assert len({part.taken for part in parts}) == 1
                assert {part.x.shape[1] for part in parts} == {2}
                assert {part.targets.dtype for part in parts} == {torch.int64}
                seen += [i for part in parts for i in indices(part)]
                taken = parts[0].taken
    assert sorted(seen) == list(range(n_rows))
    assert taken.rows == n_rows


@given(interrupted(), st.integers(0, 99))
@settings(max_examples=60)
def test_the_order_of_rows_in_memory_outlives_a_change_of_workers(case, seed):
    n_rows, attempts = case
    rows, found, taken = numbered(n_rows), [], RowsTaken()
    for number, (world_size, batch_size, n_steps) in enumerate(attempts, 1):
        shares = [WorkerContext(rank, world_size) for rank in range(world_size)]
        workers = [make_loader(rows, batch_size, seed, s)(3, taken) for s in shares]
        steps = list(zip(*workers, strict=True))
        for parts in steps if number == len(attempts) else steps[:n_steps]:
            batch = [0] * parts[0].n_rows_global
            for share, part in zip(shares, parts, strict=True):
                batch[share.rows] = indices(part)
            found, taken = found + batch, parts[0].taken
    assert found == [i for batch in make_loader(rows, 7, seed)(3) for i in indices(batch)]


@given(sizes(), st.integers(0, 30))
def test_bounds_after_some_batches_are_those_of_all_rows(case, first):
    n_rows, batch_size, world_size = case
    bounds = batch_bounds(n_rows, batch_size, world_size)
    taken = bounds[: first + 1][-1][1]
    assert bounds_after(taken, n_rows, batch_size, world_size) == bounds[first + 1 :]


@pytest.mark.parametrize("block_rows", [50, 1000, 9000])
def test_streamed_rows_are_shuffled_anew_in_each_epoch(block_rows):
    rows = stored(5000, block_rows)
    epochs = {}
    for seed, epoch in [(0, 1), (0, 2), (1, 1)]:
        batches = make_loader(rows, 100, seed)(epoch)
        epochs[seed, epoch] = [i for batch in batches for i in indices(batch)]
    first = np.array(epochs[0, 1])
    assert len({tuple(order) for order in epochs.values()}) == 3
    assert np.mean(np.abs(np.diff(first)) == 1) < 0.01
    assert abs(np.corrcoef(first, np.arange(5000))[0, 1]) < 0.05
    again = make_loader(rows, 100, 0)(1)
    assert [i for batch in again for i in indices(batch)] == epochs[0, 1]


def test_rows_of_several_blocks_are_mixed_and_each_block_is_read_once_an_epoch(monkeypatch):
    """A window of eight blocks: a batch has rows of most of them."""
    monkeypatch.setattr("lstmfcn.training.batches._WINDOW_BYTES", 8 * 100 * 2 * 4)
    rows = stored(100 * 200, 100)
    batches = list(make_loader(rows, 50, 1)(1))
    assert sorted(rows.values.read.reads) == list(range(200))
    mixed = [len({i // 100 for i in indices(batch)}) for batch in batches]
    assert np.mean(mixed) > 7


def test_values_are_scaled_as_blocks_are_read():
    rows = stored(300, 70)
    scaler = Scaler.fit("global", rows.values[:])
    scaled = rows.scaled(scaler)
    for batch in [*make_loader(scaled, 40, 0)(1), *EvaluationLoader(scaled)]:
        expected = scaler.transform(np.repeat(batch.targets.numpy()[:, None], 2, axis=1))
        np.testing.assert_array_equal(batch.x.numpy(), expected.astype(np.float32))


def test_a_stream_that_is_left_early_leaves_no_thread():
    threads = set(threading.enumerate())
    batches = make_loader(stored(5000, 100), 10, 0)(1)
    next(batches)
    batches.close()
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("world_size", [1, 2])
def test_rows_in_blocks_are_evaluated_as_those_in_memory(world_size):
    for rank in range(world_size):
        share = WorkerContext(rank, world_size)
        in_memory = EvaluationLoader(numbered(2500), share)
        streamed = EvaluationLoader(stored(2500, 300), share)
        for one, other in zip(in_memory, streamed, strict=True):
            assert indices(one) == indices(other)
            torch.testing.assert_close(one.x[:, 0], other.x[:, 0])
        assert len(list(streamed)) == len(list(streamed))


def test_what_reading_a_block_raises_comes_out_of_the_batches():
    class LostError(Exception):
        pass

    def read(numbers):
        raise LostError(numbers)
        yield

    rows = stored(500, 100)
    lost = Dataset(replace(rows.values, read=read), rows.labels)
    with pytest.raises(LostError):
        list(make_loader(lost, 20, 0)(1))
    with pytest.raises(LostError):
        list(EvaluationLoader(lost))
