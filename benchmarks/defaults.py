"""What each default of the training is worth: accuracy on training rows that were held out.

    python benchmarks/defaults.py --data DATA [--small] [--seeds 1]

Each change is one flag set against the default recipe. No row of a test file is read. Large sets
are cut to a few rows a class, as small sets are; of others a half or more trains. With --small, 13
sets of fewer than 100 training rows, a half of which trains. Rows of results are added to
``benchmarks/results/defaults.csv``, or ``defaults-small.csv``; those that are there are not run
again. At the end it prints accuracy and cross-entropy on the held-out rows, mean over sets, and
beside the default's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from archive_runs import RESULTS, add_missing, hyperparameters_of, read

from lstmfcn.hyperparameters import Hyperparameters

SETS: dict[str, float | int] = {
    "Adiac": 0.6,
    "MedicalImages": 0.5,
    "ElectricDevices": 20,
    "MelbournePedestrian": 20,
    "mitbih": 20,
}
"""The share of the training rows that trains, or the rows of each class that do."""

SMALL: dict[str, float | int] = dict.fromkeys(
    (
        "Beef", "BeetleFly", "CBF", "Coffee", "ECGFiveDays", "FaceFour", "GunPoint",
        "ItalyPowerDemand", "Lightning7", "MoteStrain", "OliveOil", "SonyAIBORobotSurface1",
        "TwoLeadECG",
    ),
    0.5,
)  # fmt: skip
"""Of the archive's sets with fewer than 100 training rows, those with published figures."""

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
    "--batch-size 32",
    "",
    "--batch-size 16",
    "--rows-per-epoch 100",
    "--lr 0.001",
    "--label-smoothing 0",
)
MOST_HELD_OUT = 1000
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

    from lstmfcn.classifier import Classifier
    from lstmfcn.train_arrays import train_arrays

    torch.set_num_threads(1)
    change, name, seed = key
    values, names = training_rows(data, name)
    trains, held_out = split(names, {**SETS, **SMALL}[name], seed)
    classifier = Classifier(train_arrays((values[trains], names[trains]), hyperparameters))
    probabilities = classifier.predict_proba(values[held_out])
    right = classifier.schema.encode_names(names[held_out].tolist())
    accuracy = float((probabilities.argmax(axis=1) == right).mean())
    likelihood = np.maximum(probabilities[np.arange(len(right)), right], 1e-12)
    cross_entropy = float(-np.log(likelihood).mean())
    row = (change, name, seed, round(accuracy, 6), round(cross_entropy, 6))
    return dict(zip(COLUMNS, row, strict=True))


def training_rows(data: Path, name: str) -> tuple[Any, Any]:
    """Series and class names of a set's training file."""
    if name != "mitbih":
        return read(data / "ucr" / name / "TRAIN.tsv")
    table = pd.read_csv(data / "mitbih" / "train_balanced.csv.gz")
    names = table.filter(regex="^y").to_numpy().argmax(axis=1).astype(str)
    return table.filter(regex="^x").to_numpy(np.float32), names


def split(names: Any, share: float, seed: int) -> tuple[Any, Any]:
    """Indices of the rows that train and of those that are held out, each class shared alike."""
    random = np.random.default_rng(seed)
    trains, others = [], []
    for name in np.unique(names):
        rows = random.permutation(np.flatnonzero(names == name))
        count = share if isinstance(share, int) else max(1, round(len(rows) * share))
        trains.append(rows[:count])
        others.append(rows[count:])
    return np.concatenate(trains), random.permutation(np.concatenate(others))[:MOST_HELD_OUT]


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
