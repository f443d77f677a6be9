"""Accuracy on public data through the commands that users type, beside the published figures.

    python benchmarks/accuracy.py --data DATA [--seeds 3]

DATA holds ``seed_sample`` (train.csv, valid.csv, test_data.csv, test_labels.csv of the LSTM-FCN
SageMaker algorithm's example) and ``ucr`` (NAME/TRAIN.tsv, NAME/TEST.tsv, INDEX.tsv with published
accuracies). Each row is trained by ``jobs/train.py`` and judged on test rows that training never
saw. All runs share one local Ray.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from commands import TINY_NET, job, local_ray, plain_flags, train

TINY = f"{TINY_NET} --dropout 0.8 --lr 0.001 --batch-size 64 --epochs 60"
PAPER = "--epochs 30"
SEED_SAMPLE_SEEDS = 5


def main() -> None:
    """Print one table a problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    data = arguments.data.absolute()
    with local_ray(), tempfile.TemporaryDirectory() as folder:
        seed_sample(data / "seed_sample", Path(folder))


def seed_sample(data: Path, folder: Path) -> None:
    """The reference's example files, unchanged: its tiny net and the paper's net."""
    truth = pd.read_csv(data / "test_labels.csv").to_numpy().argmax(axis=1)
    for name, flags, target in (("tiny", TINY, "mean 0.98"), ("paper", PAPER, "each 0.99")):
        print(f"seed_sample, {name} net: {flags}   (target {target})", flush=True)
        accuracies = []
        for seed in range(SEED_SAMPLE_SEEDS):
            run = folder / f"{name}-{seed}"
            files = ["--train", data / "train.csv", "--validation", data / "valid.csv"]
            done = train(*files, "--output", run, "--seed", seed, *plain_flags(flags))
            job("predict", "--model", run / "model", "--input", data / "test_data.csv",
                "--output", run / "predictions")  # fmt: skip
            predicted = pd.read_csv(run / "predictions" / "test_data.csv").filter(like="y_")
            accuracies.append(float((predicted.to_numpy().argmax(axis=1) == truth).mean()))
            show(f"  seed {seed}", accuracies[-1:], done.epochs_s, done.total_s)
        show("  all", accuracies)


def show(
    name: str,
    accuracies: Sequence[float],
    epochs_s: float | None = None,
    total_s: float | None = None,
) -> None:
    """One row: mean and spread of accuracy, seconds of the epochs and of the command."""
    mean, low, high = sum(accuracies) / len(accuracies), min(accuracies), max(accuracies)
    spread = f" ({low:.4f} to {high:.4f})" if len(accuracies) > 1 else ""
    times = f"  epochs {epochs_s:.1f} s, command {total_s:.1f} s" if epochs_s else ""
    print(f"{name}  accuracy {mean:.4f}{spread}{times}", flush=True)


if __name__ == "__main__":
    main()
