"""What each default of the training is worth: accuracy on training rows that were held out.

    python benchmarks/defaults.py --data DATA [--small] [--seeds 1]

Each change is one flag set against the default recipe. No row of a test file is read. With --small,
on 13 sets of fewer than 100 training rows, a half of which trains. Rows of results are added to
``benchmarks/results/defaults.csv``, or ``defaults-small.csv``; those that are there are not run
again. At the end it prints accuracy and cross-entropy on the held-out rows, mean over sets, and
beside the default's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from archive_runs import RESULTS, add_missing, hyperparameters_of
from held_out import SETS, SMALL, HeldOut

from lstmfcn.hyperparameters import Hyperparameters

SLOW_STATISTICS = "--batch-norm-momentum 0.01"
"""What the default was when the others were compared; the changes below add to it."""

CHANGES = (
    "",
    SLOW_STATISTICS,
    *(
        f"{SLOW_STATISTICS} {change}"
        for change in (
            "--lr 0.001",
            "--lr 0.01",
            "--schedule constant",
            "--label-smoothing 0",
            "--weight-decay 0",
            "--batch-size 64",
            "--batch-size 16 --rows-per-epoch 100",
            "--hidden-size 128",
        )
    ),
    "--epochs 10",
    f"--epochs 10 {SLOW_STATISTICS}",
    "--epochs 30",
    f"--epochs 30 {SLOW_STATISTICS}",
)
SMALL_CHANGES = (
    "",
    "--batch-size 32",
    "--batch-size 16",
    "--rows-per-epoch 100",
    "--lr 0.001",
    "--label-smoothing 0",
)
COLUMNS = ("change", "set", "seed", "accuracy", "cross_entropy")


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    changes, sets = (SMALL_CHANGES, SMALL) if arguments.small else (CHANGES, SETS)
    path = RESULTS / ("defaults-small.csv" if arguments.small else "defaults.csv")
    data = arguments.data.absolute()
    keys = [(c, s, seed) for seed in range(arguments.seeds) for c in changes for s in sets]
    calls = {
        key: (data, key, hyperparameters_of([*key[0].split(), "--seed", str(key[2])]))
        for key in keys
    }
    add_missing(path, COLUMNS, run, calls)
    show(pd.read_csv(path, keep_default_na=False), changes)


def run(data: Path, key: tuple[str, str, int], hyperparameters: Hyperparameters) -> dict[str, Any]:
    """One change on one set, on one thread; a row of the results."""
    import torch

    from lstmfcn.train_arrays import train_arrays

    torch.set_num_threads(1)
    change, name, seed = key
    held_out = HeldOut.of(data, name, {**SETS, **SMALL}[name], seed)
    accuracy, cross_entropy = held_out.judge(train_arrays(held_out.training, hyperparameters))
    return dict(zip(COLUMNS, (change, name, seed, accuracy, cross_entropy), strict=True))


def show(found: pd.DataFrame, changes: Sequence[str]) -> None:
    """Means over sets of each change, and how they differ from the default's."""
    table = found.pivot_table(index="change", columns="set", values="accuracy")
    mean = found.groupby("change")[["accuracy", "cross_entropy"]].mean()
    table = table.join(mean.rename(columns={"accuracy": "mean"}))
    table["difference"] = table["mean"] - table.loc["", "mean"]
    order = [change for change in changes if change in table.index]
    print(table.loc[order].rename(index={"": "default"}).round(4).to_string())


if __name__ == "__main__":
    main()
