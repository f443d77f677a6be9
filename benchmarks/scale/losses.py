"""Predictions and sweeps that lose processes and a machine, against the same without a loss.

    python -m benchmarks.scale.losses

``predictions``: 400 shards while a predictor is killed every 5 seconds. ``sweep``: 20 trials on two
nodes, five of whose processes are killed, and one node with all that runs on it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ray.cluster_utils import Cluster

from benchmarks.common import (
    TINY_NET,
    command,
    local_ray,
    main,
    print_ratio,
    print_table,
    write_random_shards,
)
from benchmarks.processes import kill_oldest, repeating
from lstmfcn.distributed.cluster import prepare_environment
from lstmfcn.tuning.sweep import EVENTS, SweepLog

N_SHARDS, ROWS_PER_SHARD, N_TIMEPOINTS = 400, 250, 100
KILL_EVERY_S = 5.0
N_TRIALS, N_KILLED_TRIALS = 20, 5
PREDICTOR, TRIAL = "ray::_PredictorActor", "ray::ImplicitFunc.train"


def predictions(arguments: argparse.Namespace) -> None:
    """400 shards, with a predictor killed every 5 seconds: the same files, exit code 0."""
    folder = arguments.folder
    data, model = folder / "data", folder / "run"
    write_random_shards(data, N_SHARDS * ROWS_PER_SHARD, N_TIMEPOINTS, N_SHARDS)
    few = folder / "few"
    write_random_shards(few, 60, N_TIMEPOINTS, 1)
    command("train", few, "--output", model, "--epochs", 1)
    rows = []
    with local_ray(num_cpus=2):
        for name, every_s in (("no loss", None), ("killed", KILL_EVERY_S)):
            output = folder / name
            started = time.perf_counter()
            with killing(PREDICTOR, every_s) as killed:
                command("predict", data, "--model", model, "--output", output)
            seconds = time.perf_counter() - started
            files = {path.name: path.read_bytes() for path in output.glob("part-*.csv")}
            rows.append((name, seconds, killed.total(), files))
    print_table(
        [
            {"run": name, "seconds": seconds, "predictors killed": n_killed, "files": len(files)}
            for name, seconds, n_killed, files in rows
        ]
    )
    (*_, expected), (_, _, n_killed, found) = rows
    if not n_killed or len(found) != N_SHARDS:
        sys.exit(f"{n_killed} predictors were killed, {len(found)} of {N_SHARDS} files written")
    same = sum(found[name] == content for name, content in expected.items())
    print_ratio("files with the same bytes", same / N_SHARDS, least=1)


def sweep(arguments: argparse.Namespace) -> None:
    """20 trials on two nodes; five processes and one node are killed: the same trials and best."""
    folder = arguments.folder
    write_random_shards(folder / "train", 300, N_TIMEPOINTS, 2)
    write_random_shards(folder / "valid", 100, N_TIMEPOINTS, 1)
    found = {}
    for name, loses in (("no loss", False), ("killed", True)):
        output = folder / name
        with two_nodes() as lose_node, losing(output, lose_node if loses else None) as killed:
            flags = ("--num-samples", N_TRIALS, "--scheduler", "none", "--max-concurrent", 2)
            net = ("--seed", 1, "--epochs", 30, *TINY_NET.split())
            shards = (folder / "train", "--validation", folder / "valid")
            command("tune", *shards, "--output", output, *flags, *net)
        trials = SweepLog(output).trials
        best = max(trials, key=lambda trial: (trial.objective or 0.0, -trial.number))
        print_table([{"run": name, "trials": len(trials), "best": best.number} | killed])
        found[name] = [
            (t.number, t.hyperparameters, t.status, t.objective, t.epochs) for t in trials
        ]
    same = sum(a == b for a, b in zip(*found.values(), strict=True))
    print_ratio("trials with the same result", same / N_TRIALS, least=1)


@contextmanager
def two_nodes() -> Iterator[Callable[[], None]]:
    """A head that runs nothing and two machines of two CPUs; yields what ends the second one."""
    prepare_environment()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=2)
    lost = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield lambda: cluster.remove_node(lost, allow_graceful=False)
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()


@contextmanager
def losing(output: Path, lose_node: Callable[[], None] | None) -> Iterator[dict[str, int]]:
    """Kill trials one by one as the sweep goes on, and then a node, while this block runs."""
    killed = {"trials killed": 0, "nodes killed": 0}
    if lose_node is None:
        yield killed
        return

    def lose() -> None:
        ended = len(SweepLog(output).trials) if (output / EVENTS).exists() else 0
        if killed["trials killed"] == N_KILLED_TRIALS and not killed["nodes killed"]:
            lose_node()
            killed["nodes killed"] = 1
        elif killed["trials killed"] < N_KILLED_TRIALS and ended > 2 * killed["trials killed"]:
            killed["trials killed"] += kill_oldest(TRIAL)

    with repeating(lose, 0.05):
        yield killed


@contextmanager
def killing(name: str, every_s: float | None) -> Iterator[Counter[str]]:
    """SIGKILL the oldest process of this name every so many seconds; counts how many."""
    killed = Counter[str]()
    if every_s is None:
        yield killed
        return
    with repeating(lambda: killed.update({name: kill_oldest(name)}), every_s):
        yield killed


if __name__ == "__main__":
    main(__doc__, [predictions, sweep], data=False)
