"""Accuracy on sets of the UCR and UEA archives, beside the published figures.

    python -m benchmarks.accuracy.archive --data DATA --name NAME [--seeds 5] [--sets ...]
        [--models FOLDER] [-- flags of train]
    python -m benchmarks.accuracy.archive --data DATA --name NAME --archive uea [--seeds 5]

DATA holds ``ucr`` (NAME/TRAIN.tsv, NAME/TEST.tsv, INDEX.tsv with published accuracies) and ``uea``
(NAME/TRAIN.tsv, NAME/TEST.tsv: the class, then channel after channel). Each set is trained with
each seed by `lstmfcn.training.in_memory`, one run per CPU side by side on Ray, and the model is
compared with the test file, which decides nothing. Each run adds its row to
``benchmarks/results/NAME.csv``; runs that the file has are not run again. Networks are kept in
FOLDER, and one that is there is not trained again: the members of an ensemble are those that their
seeds train alone. Empty the folder where the code of training has changed. Of the UCR archive the
script also draws ``NAME-scatter.png`` and ``NAME-ranks.png``.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.accuracy.comparison import draw_ranks, draw_scatter, print_comparison
from benchmarks.common import (
    RESULTS,
    add_missing,
    hyperparameters_of,
    main,
    print_ratio,
    print_table,
    read_archive_file,
)
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact

COLUMNS = ("set", "seed", "accuracy", "epochs", "seconds", "parameters")
MAX_ROWS = 700
"""Training rows of the largest UCR set that is run unless it is named."""


class PublishedSet(NamedTuple):
    """A set of the UEA archive.

    Attributes:
        accuracy: of MLSTM-FCN, by Zhang, Gao, Lin, Lu (2020), "TapNet: Multivariate Time Series
            Classification with Attentional Prototypical Network", AAAI, table 2.
    """

    n_channels: int
    accuracy: float


UEA = {"BasicMotions": PublishedSet(6, 0.950), "NATOPS": PublishedSet(24, 0.889)}


def accuracy(arguments: argparse.Namespace) -> None:
    """Test accuracy by set, and against the published methods."""
    uea, folder = arguments.archive == "uea", arguments.data / arguments.archive
    if uea:
        all_sets = list(UEA)
    else:
        index = pd.read_csv(folder / "INDEX.tsv", sep="\t", index_col="name")
        small = index[index.published_lstm_fcn.notna() & (index.n_train <= MAX_ROWS)]
        all_sets = list(small.index)
    sets = arguments.sets or all_sets
    h, models = hyperparameters_of(arguments.flags), arguments.models
    calls = {
        (name, seed): (
            folder / name,
            h.model_copy(update={"seed": seed}),
            UEA[name].n_channels if uea else 1,
            models and models.absolute(),
        )
        for seed in range(arguments.seeds)
        for name in sets
    }
    runs = add_missing(arguments.name, COLUMNS, run, calls)
    runs = runs[runs.set.isin(sets) & (runs.seed < arguments.seeds)]
    if uea:
        compare_uea(runs)
        return
    print_comparison(runs, index)
    draw_scatter(runs, index, RESULTS / f"{arguments.name}-scatter.png")
    draw_ranks(runs, index, RESULTS / f"{arguments.name}-ranks.png")


def compare_uea(runs: pd.DataFrame) -> None:
    """Print accuracies beside those published of MLSTM-FCN."""
    table = runs.groupby("set").accuracy.agg(["mean", "min", "max", "count"])
    table["published"] = [UEA[str(name)].accuracy for name in table.index]
    table["seconds a run"] = runs.groupby("set").seconds.mean()
    print_table(table.reset_index())
    errors = (1 - table["mean"].mean()) / (1 - table["published"].mean())
    print_ratio("error rate / published, mean of the sets", errors)


def run(
    folder: Path, hyperparameters: Hyperparameters, n_channels: int, models: Path | None
) -> dict[str, Any]:
    """One set with one seed, on one thread; the members of an ensemble one after the other."""
    import torch

    from lstmfcn.inference.predictor import Classifier
    from lstmfcn.training.ensemble import combine_members

    torch.set_num_threads(1)
    each = hyperparameters.split_into_members()
    members = [network(folder, member, n_channels, models) for member in each]
    artifact = members[0] if len(members) == 1 else combine_members(members, hyperparameters, {})
    values, names = read_archive_file(folder / "TEST.tsv", n_channels)
    predicted = Classifier(artifact).predict(values)
    return {
        "set": folder.name,
        "seed": hyperparameters.seed,
        "accuracy": round(float((np.array(predicted) == names).mean()), 6),
        "epochs": hyperparameters.epochs,
        "seconds": round(sum(member.training["seconds"] for member in members), 1),
        "parameters": sum(parameter.numel() for parameter in artifact.build_network().parameters()),
    }


def network(
    folder: Path, hyperparameters: Hyperparameters, n_channels: int, models: Path | None
) -> Artifact:
    """One network, trained now or loaded from the folder of models."""
    from lstmfcn.training.in_memory import train_arrays

    asked = hyperparameters.model_dump_json(exclude={"recipe"}, exclude_defaults=True)
    digest = hashlib.sha256(f"{folder.name} {asked}".encode()).hexdigest()[:16]
    kept = models and models / f"{folder.name}-{digest}"
    if kept and kept.exists():
        return Artifact.load(kept)
    began = time.perf_counter()
    rows = read_archive_file(folder / "TRAIN.tsv", n_channels)
    artifact = train_arrays(rows, hyperparameters)
    artifact = replace(artifact, training={"seconds": time.perf_counter() - began})
    if kept:
        artifact.save(kept)
    return artifact


if __name__ == "__main__":
    options = {
        "--name": {"required": True, "help": "of the results"},
        "--archive": {"choices": ("ucr", "uea"), "default": "ucr"},
        "--seeds": {"type": int, "default": 5},
        "--sets": {"nargs": "*"},
        "--models": {"type": Path, "help": "folder of networks to keep"},
    }
    main(__doc__, (accuracy,), options, train_flags=True)
