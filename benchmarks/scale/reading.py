"""How fast shards are read, checked and packed, beside bare parsers of the same file.

python -m benchmarks.scale.reading
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from benchmarks.common import CPUS, main, print_ratio, print_table, write_random_shards
from lstmfcn.data.dataset import RowBuffer
from lstmfcn.data.reader import open_dataset, read_pieces

N_ROWS, N_TIMEPOINTS = 100_000, 100
N_RUNS = 5


def one_file(arguments: argparse.Namespace) -> None:
    """One shard of 200 MB, by one thread and by all CPUs; and the same rows as Parquet."""
    folder = arguments.folder / "data"
    write_random_shards(folder, N_ROWS, N_TIMEPOINTS, n_shards=1, digits=17)
    (csv,) = folder.iterdir()
    table = pa.csv.read_csv(csv)
    parquet = arguments.folder / "part.parquet"
    pa.parquet.write_table(table, parquet)
    types = {name: pa.float32() for name in table.column_names if name.startswith("x")}
    megabytes = csv.stat().st_size / 1e6
    rows, rates = [], {}
    for threads in dict.fromkeys((1, CPUS)):
        readers: dict[str, Callable[[], object]] = {
            "lstmfcn": lambda: read(csv, threads),  # noqa: B023
            "pyarrow": lambda: read_by_pyarrow(csv, types, threads),  # noqa: B023
        }
        if threads == CPUS:  # Polars takes its threads when it is imported
            readers["polars"] = lambda: pl.read_csv(csv, schema_overrides=as_floats(types))
            readers["lstmfcn, Parquet"] = lambda: read(parquet, CPUS)
        seconds: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(N_RUNS):  # by turns: the speed of a machine changes
            for name, reader in readers.items():
                started = time.perf_counter()
                reader()
                seconds[name].append(time.perf_counter() - started)
        rates[threads] = {name: megabytes / median(times) for name, times in seconds.items()}
        rows += [
            {"threads": threads, "reader": name, "MB of CSV/s": rate}
            for name, rate in rates[threads].items()
        ]
    print_table(rows)
    for threads, rate in rates.items():
        bare = max(rate.get("polars", 0.0), rate["pyarrow"])
        name = f"read, checked and packed / the fastest bare parser, {threads} threads"
        print_ratio(name, rate["lstmfcn"] / bare, least=0.85)
    print_ratio("Parquet / CSV", rates[CPUS]["lstmfcn, Parquet"] / rates[CPUS]["lstmfcn"], least=5)


def read(path: Path, threads: int) -> None:
    """Read, check and pack as a training does."""
    dataset = open_dataset(os.fspath(path))
    buffer = RowBuffer(dataset.schema.n_values, 1 << 40)
    for values, _ in read_pieces(dataset.shards[0], dataset.headers[0], dataset.schema, threads):
        buffer.add(values)
    assert buffer.values().shape == (N_ROWS, N_TIMEPOINTS)


def read_by_pyarrow(path: Path, types: dict[str, pa.DataType], threads: int) -> None:
    """Only parse, in blocks of 1 MiB."""
    pa.set_cpu_count(threads)
    options = pa.csv.ReadOptions(block_size=1 << 20, use_threads=threads > 1)
    convert = pa.csv.ConvertOptions(column_types=types)
    assert pa.csv.read_csv(path, options, convert_options=convert).num_rows == N_ROWS


def as_floats(types: dict[str, pa.DataType]) -> dict[str, pl.DataType]:
    """The same columns as 32-bit numbers of Polars."""
    return dict.fromkeys(types, pl.Float32())


if __name__ == "__main__":
    main(__doc__, (one_file,), data=False)
