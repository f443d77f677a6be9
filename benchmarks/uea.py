"""Accuracy on series of several channels, sets of the UEA archive, beside the published figures.

    python benchmarks/uea.py --data DATA --name NAME [--seeds 5] [--sets ...] [-- flags of train]

DATA holds ``uea`` (NAME/TRAIN.tsv, NAME/TEST.tsv: the class, then channel after channel). Trains as
`ucr.py` does; rows of results are added to ``benchmarks/results/NAME.csv``, and at the end printed
beside what MLSTM-FCN is published to reach.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from archive_runs import RESULTS, Runs, hyperparameters_of, run_missing, split


class PublishedSet(NamedTuple):
    """A set of the archive.

    Attributes:
        accuracy: of MLSTM-FCN, by Zhang, Gao, Lin, Lu (2020), "TapNet: Multivariate Time Series
            Classification with Attentional Prototypical Network", AAAI, table 2.
    """

    n_channels: int
    accuracy: float


SETS = {"BasicMotions": PublishedSet(6, 0.950), "NATOPS": PublishedSet(24, 0.889)}


def main() -> None:
    """Run what is missing, then compare."""
    own, flags = split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--name", default="uea", help="of the results")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    arguments = parser.parse_args(own)
    path = RESULTS / f"{arguments.name}.csv"
    run_missing(
        Runs(
            arguments.data.absolute() / "uea",
            arguments.sets,
            range(arguments.seeds),
            hyperparameters_of(flags),
            path,
            {name: SETS[name].n_channels for name in SETS},
        )
    )
    found = pd.read_csv(path)
    found = found[found.set.isin(arguments.sets) & (found.seed < arguments.seeds)]
    for name, runs in found.groupby("set"):
        accuracies = runs.accuracy
        print(
            f"{name}: {accuracies.mean():.4f} over {len(runs)} seeds "
            f"({accuracies.min():.4f} to {accuracies.max():.4f}), "
            f"published MLSTM-FCN {SETS[str(name)].accuracy:.3f}, {runs.seconds.mean():.0f} s a run"
        )


if __name__ == "__main__":
    main()
