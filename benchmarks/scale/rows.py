"""How reading and training cost grow with rows, and what data larger than memory costs.

python -m benchmarks.scale.rows [--only large ...]
"""

from __future__ import annotations

import argparse
from statistics import median

from benchmarks.common import (
    CPUS,
    PLAIN,
    TINY_NET,
    bare_loop_s,
    local_ray,
    main,
    plain_flags,
    print_ratio,
    print_table,
    train,
    write_random_shards,
)
from benchmarks.processes import peak_memory, print_peaks


def growth(arguments: argparse.Namespace) -> None:
    """Ten and a hundred times the rows: reading and training time per row."""
    rows = []
    with local_ray():
        for n_rows in (10_000, 100_000, 1_000_000):
            data, run = arguments.folder / f"data-{n_rows}", arguments.folder / f"run-{n_rows}"
            csv_bytes = write_random_shards(data, n_rows, 100, n_shards=10)
            done = train("--train", data, "--output", run, "--epochs", 1,
                         *plain_flags(f"{TINY_NET} --batch-size 1024"))  # fmt: skip
            read_s = done.stage_s("training: ") - done.stage_s("reading")
            row = {"rows": n_rows, "MB": csv_bytes / 1e6, "read s": read_s}
            row |= {"us a row": read_s / n_rows * 1e6, "epoch s": done.epochs_s}
            row |= {"us a row of an epoch": done.epochs_s / n_rows * 1e6, "whole s": done.total_s}
            rows.append(row)
    print_table(rows)
    costs = [row["us a row of an epoch"] for row in rows]
    print_ratio("cost of a row of the largest epoch / of the smallest", costs[-1] / costs[0])


def large(arguments: argparse.Namespace) -> None:
    """Rows that take more memory than is granted are streamed, near the speed of the bare loop."""
    n_rows, n_timepoints, granted_gb = 1_150_000, 100, 0.25
    data = arguments.folder / "data"
    csv_bytes = write_random_shards(data, n_rows, n_timepoints, n_shards=23, digits=17)
    with local_ray(object_store_memory=int(granted_gb * 1e9)), peak_memory() as peaks:
        bare = bare_loop_s((4096, n_timepoints, 3), PLAIN, 6, plain=False, threads=CPUS)[1:]
        done = train(
            "--train", data, "--output", arguments.folder / "run", "--epochs", 1,
            "--memory-gb", granted_gb, *plain_flags(),
        )  # fmt: skip
    print(f"  {csv_bytes / 1e9:.2f} GB of CSV, {n_rows} x {n_timepoints}; granted {granted_gb} GB "
          "to the object store and to the rows")  # fmt: skip
    print(*(f"  {line}\n" for _, line in done.stages if "rows take" in line), sep="", end="")
    rate, bare_rate = done.epochs[0]["rows_per_second"], 4096 / median(bare)
    print_table([{"read after s": done.stage_s("training: "), "epoch s": done.epochs_s,
                  "rows/s": rate, "bare rows/s": bare_rate}])  # fmt: skip
    print_peaks(peaks)
    print_ratio("streamed / bare", rate / bare_rate, least=0.85)


if __name__ == "__main__":
    main(__doc__, (growth, large), data=False)
