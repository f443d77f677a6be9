"""Accuracy on sets of the UCR archive, beside the published figures.

    python benchmarks/ucr.py --data DATA --name NAME [--seeds 5] [--sets ...] [--models FOLDER]
        [-- flags of train]

DATA holds ``ucr`` (NAME/TRAIN.tsv, NAME/TEST.tsv, INDEX.tsv with published accuracies). Trains each
set with each seed through `lstmfcn.train_arrays`, a run a CPU side by side on Ray, and judges the
kept model on the test file, which decides nothing. Rows of results are added to
``benchmarks/results/NAME.csv`` as they come; those that are there are not run again. Networks are
kept in FOLDER, and one that is there is not trained again: the members of an ensemble are those
that their seeds train alone. Empty the folder where the code of training has changed. At the end it
prints the table and draws ``NAME-scatter.png`` and ``NAME-ranks.png`` beside it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from archive_runs import RESULTS, Runs, hyperparameters_of, run_missing, split
from ucr_comparison import draw_ranks, draw_scatter, print_comparison

MOST_ROWS = 700
"""Training rows of the largest set that is run unless it is named."""


def main() -> None:
    """Run what is missing, then compare."""
    own, flags = split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--name", required=True, help="of the results")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--models", type=Path, help="folder of networks to keep")
    arguments = parser.parse_args(own)
    folder = arguments.data.absolute() / "ucr"
    index = pd.read_csv(folder / "INDEX.tsv", sep="\t", index_col="name")
    small = index[index.published_lstm_fcn.notna() & (index.n_train <= MOST_ROWS)]
    sets = arguments.sets or small.index.tolist()
    path = RESULTS / f"{arguments.name}.csv"
    seeds, hyperparameters = range(arguments.seeds), hyperparameters_of(flags)
    run_missing(Runs(folder, sets, seeds, hyperparameters, path, models=arguments.models))
    found = pd.read_csv(path)
    found = found[found.set.isin(sets) & (found.seed < arguments.seeds)]
    print_comparison(found, index)
    draw_scatter(found, index, path.with_name(f"{arguments.name}-scatter.png"))
    draw_ranks(found, index, path.with_name(f"{arguments.name}-ranks.png"))


if __name__ == "__main__":
    main()
