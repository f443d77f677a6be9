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
import csv
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
from commands import local_ray
from ucr_comparison import draw_ranks, draw_scatter, print_comparison

from lstmfcn.artifact import Artifact
from lstmfcn.cli import app
from lstmfcn.distributed.runtime import TRAINING_ENVIRONMENT
from lstmfcn.hyperparameters import Hyperparameters

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("set", "seed", "accuracy", "epochs", "seconds", "parameters")
MOST_ROWS = 700
"""Training rows of the largest set that is run unless it is named."""


def main() -> None:
    """Run what is missing, then compare."""
    own, flags = _split(sys.argv[1:])
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
    models = arguments.models and arguments.models.absolute()
    run_missing(folder, sets, range(arguments.seeds), hyperparameters_of(flags), path, models)
    found = pd.read_csv(path)
    found = found[found.set.isin(sets) & (found.seed < arguments.seeds)]
    print_comparison(found, index)
    draw_scatter(found, index, path.with_name(f"{arguments.name}-scatter.png"))
    draw_ranks(found, index, path.with_name(f"{arguments.name}-ranks.png"))


def hyperparameters_of(flags: Sequence[str]) -> Hyperparameters:
    """What `lstmfcn train` would make of these flags."""
    command = ["train", "--train", "data", "--output", "run", *flags]
    _, bound, _ = app.parse_args(command, exit_on_error=True, print_error=True)
    found = bound.arguments.get("hyperparameters", Hyperparameters())
    assert isinstance(found, Hyperparameters)
    return found


def run_missing(
    folder: Path,
    sets: Sequence[str],
    seeds: Sequence[int],
    hyperparameters: Hyperparameters,
    path: Path,
    models: Path | None,
) -> None:
    """Train what the results do not have yet, seed by seed; a row as each ends."""
    known: set[tuple[str, int]] = set()
    if path.exists():
        before = pd.read_csv(path)
        known = set(zip(before.set, before.seed, strict=True))
    wanted = [(name, seed) for seed in seeds for name in sets if (name, seed) not in known]
    if not wanted:
        return
    path.parent.mkdir(exist_ok=True)
    with local_ray(), path.open("a", newline="") as file:
        writer = csv.writer(file)
        if not known:
            writer.writerow(COLUMNS)
        environment = {"env_vars": TRAINING_ENVIRONMENT}
        remote = ray.remote(num_cpus=1, runtime_env=environment)(run)
        pending = [
            remote.remote(folder / name, hyperparameters.model_copy(update={"seed": seed}), models)
            for name, seed in wanted
        ]
        for count in range(1, len(pending) + 1):
            (done,), pending = ray.wait(pending)
            row = ray.get(done)
            writer.writerow(row[column] for column in COLUMNS)
            file.flush()
            print(f"{count} of {len(wanted)}: {row}", flush=True)


def run(folder: Path, hyperparameters: Hyperparameters, models: Path | None) -> dict[str, Any]:
    """One set with one seed, on one thread; the members of an ensemble one after the other."""
    import torch

    from lstmfcn.classifier import Classifier
    from lstmfcn.ensemble import ensemble_of

    torch.set_num_threads(1)
    members = [network(folder, member, models) for member in hyperparameters.of_members()]
    artifact = members[0] if len(members) == 1 else ensemble_of(members, hyperparameters, {})
    values, names = read(folder / "TEST.tsv")
    predicted = Classifier(artifact).predict(values)
    return {
        "set": folder.name,
        "seed": hyperparameters.seed,
        "accuracy": round(float((np.array(predicted) == names).mean()), 6),
        "epochs": hyperparameters.epochs,
        "seconds": round(sum(member.training["seconds"] for member in members), 1),
        "parameters": sum(parameter.numel() for parameter in artifact.network().parameters()),
    }


def network(folder: Path, hyperparameters: Hyperparameters, models: Path | None) -> Artifact:
    """One network, trained now or before."""
    from lstmfcn.train_arrays import train_arrays

    asked = f"{folder.name} {hyperparameters.model_copy(update={'recipe': 'default'})!r}"
    kept = models and models / f"{folder.name}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
    if kept and kept.exists():
        return Artifact.load(kept)
    began = time.perf_counter()
    artifact = train_arrays(read(folder / "TRAIN.tsv"), hyperparameters)
    artifact = replace(artifact, training={"seconds": time.perf_counter() - began})
    if kept:
        artifact.save(kept)
    return artifact


def read(path: Path) -> tuple[Any, Any]:
    """Series and class names of an archive file."""
    table = pd.read_csv(path, sep="\t", header=None, dtype={0: str})
    return table.iloc[:, 1:].to_numpy(np.float32), table[0].to_numpy(str)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])


if __name__ == "__main__":
    main()
