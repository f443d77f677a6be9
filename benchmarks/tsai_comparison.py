"""Training time beside tsai's LSTM_FCN: the same net, epochs, batch size and threads.

    python3.11 -m venv TSAI && TSAI/bin/pip install torch==2.13.0 tsai==1.0.1
    python benchmarks/tsai_comparison.py --data DATA --tsai-python TSAI/bin/python [-- FLAGS]

DATA holds ``ucr`` (NAME/TRAIN.tsv, NAME/TEST.tsv). Both train without Ray, in turn, each time in a
process of its own, and both with a one-cycle learning rate up to the same ``--lr``. Seconds go from
arrays in memory to the end of the last epoch, without imports and without the judging on the test
file. The rest is each one's own: here FLAGS of train and their defaults, and the environment of
a training worker; at tsai fp32, its Adam and its weight decay (tsai_training.py says how it is
called).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, median

import pandas as pd
from archive_runs import hyperparameters_of, split
from commands import REPOSITORY

from lstmfcn.distributed.runtime import TRAINING_ENVIRONMENT
from lstmfcn.hyperparameters import Hyperparameters

SETS = ("SwedishLeaf", "MedicalImages", "SyntheticControl")
THREADS = os.cpu_count() or 1


def main() -> None:
    """Train in turn, and print a line a set."""
    own, flags = split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tsai-python", required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args(own)
    both = ["--epochs", arguments.epochs, "--batch-size", arguments.batch_size]
    hyperparameters = hyperparameters_of([*map(str, both), "--schedule", "one-cycle", *flags])
    pythons = {"lstmfcn": sys.executable, "tsai": arguments.tsai_python}
    print(f"{hyperparameters.epochs} epochs, batch {hyperparameters.batch_size}, "
          f"{THREADS} threads, median of {arguments.rounds}", flush=True)  # fmt: skip
    ratios = [
        compare(
            arguments.data.absolute() / "ucr" / name, hyperparameters, pythons, arguments.rounds
        )
        for name in arguments.sets
    ]
    print(f"lstmfcn / tsai, mean of {len(ratios)} sets: {mean(ratios):.2f}")


def compare(
    folder: Path, hyperparameters: Hyperparameters, pythons: dict[str, str], rounds: int
) -> float:
    """Train on one set, seed by seed; returns the ratio of the seconds, ours over tsai's."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
    for seed in range(rounds):
        seeded = hyperparameters.model_copy(update={"seed": seed})
        for name, python in pythons.items():
            found[name].append(train(name, python, folder, seeded))
    n_rows = len(pd.read_csv(folder / "TRAIN.tsv", sep="\t", header=None))
    seconds = {name: median(run["seconds"] for run in runs) for name, runs in found.items()}
    for name, runs in found.items():
        each = ", ".join(f"{run['seconds']:.1f}" for run in runs)
        rate = n_rows * hyperparameters.epochs / seconds[name]
        accuracy = mean(run["accuracy"] for run in runs)
        print(f"  {folder.name}, {name}: {seconds[name]:.1f} s ({each}), {rate:.0f} rows/s, "
              f"test accuracy {accuracy:.4f}")  # fmt: skip
    ratio = seconds["lstmfcn"] / seconds["tsai"]
    print(f"  {folder.name}: lstmfcn / tsai {ratio:.2f}", flush=True)
    return ratio


def train(
    name: str, python: str, folder: Path, hyperparameters: Hyperparameters
) -> dict[str, float]:
    """One training in a process of its own; its seconds and its accuracy."""
    script, environment = {
        "lstmfcn": ("array_training.py", {"PYTHONPATH": str(REPOSITORY), **TRAINING_ENVIRONMENT}),
        "tsai": ("tsai_training.py", {}),
    }[name]
    given = hyperparameters.model_dump_json(exclude={"recipe"})
    command = [python, REPOSITORY / "benchmarks" / script, folder, given, THREADS]
    done = subprocess.run(
        [str(part) for part in command],
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{script}:\n{done.stdout}{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
