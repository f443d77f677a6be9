"""Data larger than the object stores of two nodes: memory, speed, order, and how reading grows.

python -m benchmarks.scale.blocks [--gb 4] [--store-mb 500] [--network plain]

Two nodes of `ray.cluster_utils.Cluster` on this machine, each with a small object store. It prints
the peak memory of every kind of process, rows per second beside the bare loop, whether each row is
seen once an epoch, whether 3 and 7 shards and an interrupted run give the same weights, how long
1, 2 and 4 processes take to read, and how many bytes the output folder has ever held.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import ray
from ray.cluster_utils import Cluster

from benchmarks.common import (
    TINY_NET,
    Training,
    bare_loop_s,
    hyperparameters_of,
    main,
    plain_flags,
    print_ratio,
    print_table,
    train,
)
from benchmarks.processes import Peaks, peak_memory, print_peaks
from lstmfcn.data.dataset import BlockArray
from lstmfcn.data.reader import open_dataset
from lstmfcn.distributed.cluster import prepare_environment
from lstmfcn.distributed.read import read_blocks
from lstmfcn.model.artifact import Artifact
from lstmfcn.training.batches import StreamingLoader, WorkerContext
from lstmfcn.training.checkpoints import find_newest_position

N_TIMEPOINTS, N_CLASSES, N_CHUNKS = 100, 3, 42
BYTES_OF_A_ROW = 1935
"""CSV of 100 normally distributed values with 17 digits, and the labels."""

NETWORKS = {"tiny": f"{TINY_NET} --batch-size 1024", "plain": ""}
OPTIONS: dict[str, dict[str, Any]] = {
    "--gb": {"type": float, "default": 0.5, "help": "gigabytes of CSV"},
    "--store-mb": {"type": int, "default": 80, "help": "object store of each node"},
    "--network": {"choices": NETWORKS, "default": "tiny"},
}

OUTPUT = "files of an output folder"


def blocks(arguments: argparse.Namespace) -> None:
    """Train on rows that neither node can hold."""
    n_rows = int(arguments.gb * 1e9 / BYTES_OF_A_ROW)
    data, written = write_layouts(arguments.folder, n_rows, (3, 7))
    n_bytes = 4 * n_rows * N_TIMEPOINTS
    print(f"  {written / 1e9:.2f} GB of CSV, {n_rows} x {N_TIMEPOINTS}, {n_bytes / 1e6:.0f} MB of "
          f"values; two nodes with object stores of {arguments.store_mb} MB")  # fmt: skip
    flags = [*plain_flags(NETWORKS[arguments.network]), "--epochs", 2]
    note = partial(note_output, arguments.folder)
    with two_nodes(arguments.store_mb), peak_memory(note) as peaks:
        runs = train_all(arguments.folder, data, flags)
        with connected():
            rate = bare_rate([str(flag) for flag in flags])
            count_rows(data[7])
            time_reading(data[7])
    print_rates(runs, rate)
    print_peaks(peaks)
    held = peaks.get(OUTPUT, 0.0) * 1e6
    print_ratio("bytes of an output folder, at the most / bytes of the values", held / n_bytes)


def write_layouts(
    folder: Path, n_rows: int, shards: tuple[int, ...]
) -> tuple[dict[int, Path], int]:
    """The same rows, in the same order, in each number of shards; and the bytes of one layout."""
    layouts = {n: folder / f"data-{n}" for n in shards}
    for layout in layouts.values():
        layout.mkdir()
    header = [f"y_{i + 1}" for i in range(N_CLASSES)] + [f"x_{i + 1}" for i in range(N_TIMEPOINTS)]
    written = 0
    for chunk, rows in enumerate(np.array_split(np.arange(n_rows), N_CHUNKS)):
        random = np.random.default_rng(chunk)
        label = random.integers(0, N_CLASSES, len(rows))
        values = random.standard_normal((len(rows), N_TIMEPOINTS)) + 0.2 * label[:, None]
        columns = [*np.eye(N_CLASSES, dtype=np.int8)[label].T, *values.T]
        table = pa.table(dict(zip(header, columns, strict=True)))
        body = pa.BufferOutputStream()
        pa.csv.write_csv(table, body, pa.csv.WriteOptions(include_header=False))
        text = body.getvalue().to_pybytes()
        written += len(text)
        for n, layout in layouts.items():
            path = layout / f"part-{chunk * n // N_CHUNKS:03d}.csv"
            begins = not path.exists()
            with path.open("ab") as file:
                file.write((",".join(header) + "\n").encode() if begins else b"")
                file.write(text)
    return layouts, written


@contextmanager
def two_nodes(store_mb: int) -> Iterator[None]:
    """Two nodes of two CPUs each, that commands find by RAY_ADDRESS."""
    prepare_environment()
    node = {"num_cpus": 2, "object_store_memory": store_mb << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    del node["include_dashboard"]
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()


@contextmanager
def connected() -> Iterator[None]:
    """This process as a driver of the nodes."""
    ray.init(log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def train_all(folder: Path, data: dict[int, Path], flags: list[object]) -> dict[str, Training]:
    """Train on both layouts and with an interruption, and compare the weights."""
    two = ["--num-workers", 2, "--cpus-per-worker", 1, *flags]
    runs = {
        f"{n} shards, 2 workers": train("--train", data[n], "--output", folder / f"run-{n}", *two)
        for n in data
    }
    one = ["--cpus-per-worker", 1, *flags]
    runs["7 shards, 1 worker"] = train("--train", data[7], "--output", folder / "run-one", *one)
    for line in (line for _, line in runs["7 shards, 1 worker"].stages if "rows take" in line):
        print(f"  {line}")
    print(f"  same weights from 3 and from 7 shards: {same(folder / 'run-3', folder / 'run-7')}")
    interrupt(folder / "run-cut", data[3], two)
    train("--output", folder / "run-cut", "--resume", "--num-workers", 2, "--cpus-per-worker", 1)
    print(f"  same weights as a run that was killed and resumed: "
          f"{same(folder / 'run-3', folder / 'run-cut')}")  # fmt: skip
    return runs


def interrupt(output: Path, data: Path, flags: list[object]) -> None:
    """Train until there is a checkpoint in mid-epoch, and kill the command."""
    words = [sys.executable, "-m", "lstmfcn", "train", "--train", data, "--output", output]
    words += ["--checkpoint-every-s", 0, *flags]
    with subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not find_newest_position(output / "checkpoints").step:
            time.sleep(0.05)
        if process.poll() is not None:
            sys.exit("the training ended before it was killed")
        process.send_signal(signal.SIGKILL)
    print(f"  killed after {find_newest_position(output / 'checkpoints')}")


def same(one: Path, other: Path) -> bool:
    """Whether two runs have the same weights, bit for bit."""
    weights, others = (Artifact.load(run / "model").weights for run in (one, other))
    return all(bool((weights[name] == others[name]).all()) for name in others)


def bare_rate(flags: list[str]) -> float:
    """Rows/s of the bare loop over 4,096 rows in memory, with one thread."""
    hyperparameters = hyperparameters_of(flags)
    n_rows = 4096 if hyperparameters.batch_size == 128 else 1 << 16
    shape = (n_rows, N_TIMEPOINTS, N_CLASSES)
    return n_rows / median(bare_loop_s(shape, hyperparameters, 5, plain=False, threads=1)[1:])


def count_rows(data: Path) -> None:
    """Count how often an epoch of two workers has each row, and whether it is that row."""
    loaded = read_blocks(open_dataset(str(data)), with_moments=False)
    values = loaded.rows.values
    assert isinstance(values, BlockArray)
    seen, first_values = np.zeros(len(values), dtype=np.int64), np.empty(len(values), np.float32)
    for rank in range(2):
        numbers = np.arange(len(values))  # in place of labels
        for batch in StreamingLoader(values, numbers, 1024, 0, WorkerContext(rank, 2))(1):
            rows = batch.targets.numpy()
            np.add.at(seen, rows, 1)
            first_values[rows] = batch.x[:, 0].numpy()
    expected = np.concatenate([values[i : i + 10_000][:, 0] for i in range(0, len(values), 10_000)])
    print(f"  rows seen in an epoch: {seen.sum()} of {len(values)}, each {seen.min()} to "
          f"{seen.max()} times; all have their own values: "
          f"{(first_values == expected).all()}")  # fmt: skip


def time_reading(data: Path) -> None:
    """Seconds that 1, 2 and 4 processes take to read all shards into blocks."""
    shards, rows = open_dataset(str(data)), []
    n_bytes = sum(shard.size for shard in shards.shards)
    for processes in (1, 2, 4):
        started = time.perf_counter()
        read_blocks(shards, with_moments=True, processes=processes)
        seconds = time.perf_counter() - started
        rows.append({"processes": processes, "read s": seconds, "MB/s": n_bytes / 1e6 / seconds})
    print_table(rows)


def print_rates(runs: Mapping[str, Training], bare: float) -> None:
    """Rows/s of the last epoch of each training, and of the bare loop."""
    print_table([
        {"training": name, "first step s": run.start_up_s, "rows": run.epochs[-1]["rows"],
         "rows/s": run.epochs[-1]["rows_per_second"], "bare rows/s": bare}
        for name, run in runs.items()
    ])  # fmt: skip
    one = runs["7 shards, 1 worker"].epochs[-1]["rows_per_second"]
    print_ratio("streamed from blocks / bare, one worker of one thread", one / bare, least=0.85)


def note_output(folder: Path, peaks: Peaks) -> None:
    """Note the most bytes that the files of a run have ever taken."""
    for run in folder.glob("run-*"):
        files = [path for path in run.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files if path.exists()) / 1e6
        peaks[OUTPUT] = max(peaks.get(OUTPUT, 0.0), size)


if __name__ == "__main__":
    main(__doc__, (blocks,), OPTIONS, data=False)
