"""Train sets of the UCR/UEA archive with several seeds and keep what each run came to."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import ray
from commands import local_ray

from lstmfcn.artifact import Artifact
from lstmfcn.cli import app
from lstmfcn.distributed.runtime import TRAINING_ENVIRONMENT
from lstmfcn.hyperparameters import Hyperparameters

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("set", "seed", "accuracy", "epochs", "seconds", "parameters")


def hyperparameters_of(flags: Sequence[str]) -> Hyperparameters:
    """What `lstmfcn train` would make of these flags."""
    command = ["train", "--train", "data", "--output", "run", *flags]
    _, bound, _ = app.parse_args(command, exit_on_error=True, print_error=True)
    found = bound.arguments.get("hyperparameters", Hyperparameters())
    assert isinstance(found, Hyperparameters)
    return found


class Runs(NamedTuple):
    """What is to be trained.

    Attributes:
        folder: has a folder for each set.
        path: of the results.
        channels: how many a set has; one where it is not named.
        models: where networks are kept; one that is there is not trained again.
    """

    folder: Path
    sets: Sequence[str]
    seeds: Sequence[int]
    hyperparameters: Hyperparameters
    path: Path
    channels: Mapping[str, int] = {}
    models: Path | None = None


def run_missing(runs: Runs) -> None:
    """Train what the results do not have yet, seed by seed; a row as each ends."""
    calls = {
        (name, seed): (
            runs.folder / name,
            runs.hyperparameters.model_copy(update={"seed": seed}),
            runs.channels.get(name, 1),
            runs.models and runs.models.absolute(),
        )
        for seed in runs.seeds
        for name in runs.sets
    }
    add_missing(runs.path, COLUMNS, run, calls)


def add_missing(
    path: Path,
    columns: Sequence[str],
    task: Callable[..., dict[str, Any] | list[dict[str, Any]]],
    calls: Mapping[tuple[Any, ...], tuple[Any, ...]],
) -> None:
    """Run what a file of results does not have yet, a CPU each; a row is added as each ends.

    Args:
        path: the file.
        columns: of its rows.
        task: gives a row, or several.
        calls: its arguments, by the row's first values.
    """
    known: set[tuple[Any, ...]] = set()
    if path.exists():
        before = pd.read_csv(path, keep_default_na=False)
        known = set(before.iloc[:, : len(next(iter(calls)))].itertuples(index=False, name=None))
    wanted = [arguments for key, arguments in calls.items() if key not in known]
    if not wanted:
        return
    path.parent.mkdir(exist_ok=True)
    with local_ray(), path.open("a", newline="") as file:
        writer = csv.writer(file)
        if not known:
            writer.writerow(columns)
        environment = {"env_vars": TRAINING_ENVIRONMENT}
        remote = ray.remote(num_cpus=1, runtime_env=environment)(task)
        pending = [remote.remote(*arguments) for arguments in wanted]
        for count in range(1, len(pending) + 1):
            (done,), pending = ray.wait(pending)
            found = ray.get(done)
            for row in found if isinstance(found, list) else [found]:
                writer.writerow(row[column] for column in columns)
                print(f"{count} of {len(wanted)}: {row}", flush=True)
            file.flush()


def run(
    folder: Path, hyperparameters: Hyperparameters, n_channels: int, models: Path | None
) -> dict[str, Any]:
    """One set with one seed, on one thread; the members of an ensemble one after the other."""
    import torch

    from lstmfcn.classifier import Classifier
    from lstmfcn.ensemble import ensemble_of

    torch.set_num_threads(1)
    each = hyperparameters.of_members()
    members = [network(folder, member, n_channels, models) for member in each]
    artifact = members[0] if len(members) == 1 else ensemble_of(members, hyperparameters, {})
    values, names = read(folder / "TEST.tsv", n_channels)
    predicted = Classifier(artifact).predict(values)
    return {
        "set": folder.name,
        "seed": hyperparameters.seed,
        "accuracy": round(float((np.array(predicted) == names).mean()), 6),
        "epochs": hyperparameters.epochs,
        "seconds": round(sum(member.training["seconds"] for member in members), 1),
        "parameters": sum(parameter.numel() for parameter in artifact.network().parameters()),
    }


def network(
    folder: Path, hyperparameters: Hyperparameters, n_channels: int, models: Path | None
) -> Artifact:
    """One network, trained now or before."""
    from lstmfcn.train_arrays import train_arrays

    asked = hyperparameters.model_dump_json(exclude={"recipe"}, exclude_defaults=True)
    digest = hashlib.sha256(f"{folder.name} {asked}".encode()).hexdigest()[:16]
    kept = models and models / f"{folder.name}-{digest}"
    if kept and kept.exists():
        return Artifact.load(kept)
    began = time.perf_counter()
    artifact = train_arrays(read(folder / "TRAIN.tsv", n_channels), hyperparameters)
    artifact = replace(artifact, training={"seconds": time.perf_counter() - began})
    if kept:
        artifact.save(kept)
    return artifact


def read(path: Path, n_channels: int = 1) -> tuple[Any, Any]:
    """Series, (N, T) or (N, channels, T), and class names of an archive file.

    A row is its class and all values, those of several channels one channel after the other.
    """
    table = pd.read_csv(path, sep="\t", header=None, dtype={0: str})
    values, names = table.iloc[:, 1:].to_numpy(np.float32), table[0].to_numpy(str)
    return values if n_channels == 1 else values.reshape(len(values), n_channels, -1), names


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags of the benchmark, and those of training after ``--``."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])
