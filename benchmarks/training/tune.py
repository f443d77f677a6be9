"""What a sweep costs beside what its trainings cost.

    python -m benchmarks.training.tune --data DATA [--only marginal ...]

DATA holds ``seed_sample`` (train.csv, valid.csv: the LSTM-FCN SageMaker algorithm's own example)
and ``ucr`` (NAME/TRAIN.tsv). A bare loop is the same network, precision and number of steps over
tensors in memory, inside a Ray task of one CPU.
"""

from __future__ import annotations

import argparse
import csv
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.common import (
    TINY_NET,
    bare_loop_s,
    command,
    convert_archive_set,
    local_ray,
    main,
    print_ratio,
    print_table,
)
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.training.metrics_log import read_metrics

TURNS = 5


class Sweep(NamedTuple):
    """One run of ``lstmfcn tune``, timed from outside."""

    total_s: float
    start_up_s: float
    rows: list[dict[str, str]]

    @property
    def best(self) -> float:
        """The best objective of all trials."""
        return max(float(row["objective"]) for row in self.rows if row["objective"])

    @property
    def epochs(self) -> int:
        """Epochs of all trials together."""
        return sum(int(row["epochs"]) for row in self.rows)


def marginal(arguments: argparse.Namespace) -> None:
    """32 trials of the tiny network, 5 epochs, two at a time, against the sum of the bare loops.

    Half of the bare loops run before each sweep and half after it, because the time of a bare loop
    changes by a half from one minute to the next with what else the machine does.
    """
    space = arguments.folder / "space.yaml"
    space.write_text("lr: {loguniform: [0.0001, 0.01]}\n")
    flags = ["--space", space, *TINY_NET.split(), "--batch-size", 64, "--epochs", 5]
    flags += ["--schedule", "constant", "--weight-decay", "0", "--label-smoothing", "0"]
    flags += ["--scheduler", "none", "--max-concurrent", 2]
    h = Hyperparameters(hidden_size=8, filters_1=4, filters_2=4, filters_3=4, kernel_size_1=3,
                        kernel_size_2=3, kernel_size_3=3, batch_size=64)  # fmt: skip
    rows: list[dict[str, float]] = []
    with local_ray():
        two = seed_sample_sweep(arguments, "two", "--num-samples", 2, *flags)
        for turn in range(TURNS):
            before_s = sum(_bare(h) for _ in range(16))
            many = seed_sample_sweep(arguments, f"many-{turn}", "--num-samples", 32, *flags)
            bare_s = before_s + sum(_bare(h) for _ in range(16))
            row = {"32 trials, s": many.total_s, "of it start-up": many.start_up_s}
            row |= {"bare loops": bare_s, "allowed": 1.35 * bare_s / 2 + many.start_up_s}
            rows.append(row)
        with ThreadPoolExecutor(2) as two_at_a_time:
            beside_s = sum(two_at_a_time.map(_bare, [h] * 32))
    print_table(rows)
    took, allowed = (sum(row[name] for row in rows) for name in ("32 trials, s", "allowed"))
    print(f"  32 bare loops two at a time: {beside_s / 2:.1f} s")
    print_ratio("32 trials / (1.35 * half of the bare loops + start-up)", took / allowed, most=1)
    more_s = median(row["32 trials, s"] for row in rows) - two.total_s
    print_ratio("marginal seconds of a trial", more_s / 30, most=0.5)


def _bare(h: Hyperparameters) -> float:
    return sum(bare_loop_s((700, 100, 3), h, 5, False, 1))


def published(arguments: argparse.Namespace) -> None:
    """The ranges of the SageMaker algorithm's own tuning example, seed 100: 4 and 40 trials."""
    rows = []
    with local_ray():
        for n_trials in (4, 40):
            done = seed_sample_sweep(
                arguments, f"{n_trials}", "--space", "published", "--seed", 100,
                "--num-samples", n_trials, "--scheduler", "none",
            )  # fmt: skip
            rows.append({"trials": n_trials, "s": done.total_s, "best accuracy": done.best})
    print_table(rows)
    print("  a trial of the example took 230 s")
    print_ratio("40 trials / 600 s", rows[-1]["s"] / 600, most=1)


def asha(arguments: argparse.Namespace) -> None:
    """ASHA against no scheduler: the best objective and the epochs it took, on SwedishLeaf.

    A fifth of its training rows validates; the test rows are not touched.
    """
    source = arguments.data / "ucr" / "SwedishLeaf"
    data = convert_archive_set(source, arguments.folder / "data", shards=5) / "TRAIN"
    space = arguments.folder / "space.yaml"
    space.write_text(
        "lr: {loguniform: [0.0001, 0.1]}\nhidden-size: {choice: [8, 64]}\n"
        "filters-1: {choice: [16, 32]}\nfilters-2: {choice: [16, 32]}\n"
        "filters-3: {choice: [16, 32]}\nbatch-size: {choice: [16, 64]}\n"
    )
    rows = []
    with local_ray():
        for scheduler in ("none", "asha"):
            done = sweep(
                arguments.folder / scheduler,
                "--train", data / "part-00[0-3].csv", "--validation", data / "part-004.csv",
                "--space", space, "--num-samples", 18, "--epochs", 27, "--scheduler", scheduler,
                "--searcher", "random",
            )  # fmt: skip
            row: dict[str, Any] = {"scheduler": scheduler, "best accuracy": done.best}
            rows.append(row | {"epochs": done.epochs, "s": done.total_s})
    print_table(rows)
    print_ratio("epochs asha / none", rows[1]["epochs"] / rows[0]["epochs"], most=0.4)


def same_seed(arguments: argparse.Namespace) -> None:
    """The same seed twice, one trial at a time: the same trials, and the same best."""
    tables = []
    with local_ray():
        for turn in range(2):
            done = seed_sample_sweep(
                arguments, f"{turn}", "--space", "published", "--num-samples", 6, "--seed", 1,
                "--max-concurrent", 1,
            )  # fmt: skip
            tables.append([{**row, "seconds": ""} for row in done.rows])
    equal = sum(a == b for a, b in zip(*tables, strict=True))
    print_ratio("trials that are equal in all but time / all", equal / len(tables[0]), least=1)


def seed_sample_sweep(arguments: argparse.Namespace, name: str, *flags: object) -> Sweep:
    """A sweep over the SageMaker algorithm's own example data."""
    data = arguments.data / "seed_sample"
    return sweep(arguments.folder / name, "--train", data / "train.csv", "--validation",
                 data / "valid.csv", *flags)  # fmt: skip


def sweep(folder: Path, *flags: object) -> Sweep:
    """Run ``lstmfcn tune`` to its end."""
    began = time.time()
    command("tune", "--output", folder, *flags)
    total_s = time.time() - began
    firsts = (read_metrics(path)[0] for path in folder.glob("trials/*/metrics.jsonl"))
    start_up_s = min(first["time"] - first["seconds"] for first in firsts) - began
    with (folder / "trials.csv").open(newline="") as file:
        return Sweep(total_s, start_up_s, list(csv.DictReader(file)))


if __name__ == "__main__":
    main(__doc__, (marginal, published, asha, same_seed))
