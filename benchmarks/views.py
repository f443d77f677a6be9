"""What each view of a series adds to an ensemble: accuracy on training rows that were held out.

    python benchmarks/views.py --data DATA

Four networks a set, 60 epochs each: two that see the series and differ by seed, one that sees its
differences, one that sees its means (``--view``). Members answer as an ensemble does, by the mean
of their logits. No row of a test file is read; some classes of large sets train with a few rows
each. Rows of results are added to ``benchmarks/results/views.csv``; sets that are there are not run
again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from archive_runs import RESULTS, add_missing
from held_out import HeldOut

from lstmfcn.hyperparameters import Hyperparameters

SETS: dict[str, float | int] = {
    "Adiac": 0.6,
    "MedicalImages": 0.5,
    "ECG200": 0.5,
    "SwedishLeaf": 10,
    "ElectricDevices": 20,
    "mitbih": 20,
    "SyntheticControl": 5,
    "PowerCons": 10,
}
"""The share of the training rows that trains, or the rows of each class that do."""

MEMBERS = {
    "series": Hyperparameters(epochs=60),
    "other": Hyperparameters(epochs=60, seed=1),
    "differences": Hyperparameters(epochs=60, view="differences"),
    "coarse": Hyperparameters(epochs=60, view="coarse"),
}
ENSEMBLES = {
    "series": ("series",),
    "differences": ("differences",),
    "coarse": ("coarse",),
    "two of series": ("series", "other"),
    "series, differences": ("series", "differences"),
    "series, coarse": ("series", "coarse"),
    "all three views": ("series", "differences", "coarse"),
}
COLUMNS = ("set", "trains", "held_out", *ENSEMBLES)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data.absolute()
    path = RESULTS / "views.csv"
    add_missing(path, COLUMNS, run, {(name,): (data, name) for name in SETS})
    found = pd.read_csv(path, index_col="set").drop(columns=["trains", "held_out"])
    found.loc["mean"] = found.mean()
    print(found.round(3).to_string())


def run(data: Path, name: str) -> dict[str, Any]:
    """All members on one set, on one thread; a row of the results."""
    import torch

    from lstmfcn.classifier import Classifier
    from lstmfcn.train_arrays import train_arrays

    torch.set_num_threads(1)
    held_out = HeldOut.of(data, name, SETS[name], seed=0)
    logits = {}
    for member, hyperparameters in MEMBERS.items():
        artifact = train_arrays(held_out.training, hyperparameters)
        classifier = Classifier(artifact)
        logits[member] = classifier.explain(held_out.values[held_out.judges]).logits
    right = held_out.right(classifier.schema)
    accuracies = {
        ensemble: round(float((mean_of(logits, members).argmax(axis=1) == right).mean()), 6)
        for ensemble, members in ENSEMBLES.items()
    }
    counts = {"trains": len(held_out.trains), "held_out": len(held_out.judges)}
    return {"set": name, **counts, **accuracies}


def mean_of(logits: dict[str, Any], members: tuple[str, ...]) -> Any:
    """The mean of some members' logits."""
    return np.mean([logits[member] for member in members], axis=0)


if __name__ == "__main__":
    main()
