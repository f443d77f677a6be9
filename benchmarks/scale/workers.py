"""How training cost grows with workers: a small model, from figures measured here.

    python -m benchmarks.scale.workers

It predicts 1 to 1,000 workers, and checks 1, 2 and 4 against what they do here.
docs/explanation/scaling.md explains the model. A step of W workers takes the computation of B / W
rows and a ring all-reduce of the gradient; to the steps come agreements about checkpoints, the
checkpoints, and the report of each epoch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import ray
import torch
import torch.distributed

from benchmarks.common import (
    CPUS,
    PLAIN,
    bare_loop_s,
    local_ray,
    main,
    print_ratio,
    print_table,
    train,
    write_random_shards,
)
from lstmfcn.data.reader import open_dataset, read_tables
from lstmfcn.model.network import LSTMFCN
from lstmfcn.training.checkpoints import Position
from lstmfcn.training.keeper import Checkpoints, FolderKeeper
from lstmfcn.training.state import TrainState

N_TIMEPOINTS, N_CLASSES, BATCH = 100, 3, 128
STEPS_BETWEEN_LOOKS = 16
CHECKPOINT_EVERY_S, POLL_EVERY_S = 30.0, 0.2


@dataclass(frozen=True)
class Costs:
    """What was measured: seconds and bytes, of one CPU core where nothing else is said.

    Attributes:
        step_s: of a step, whatever its rows.
        row_s: of each row in a step.
        gradient_bytes: all-reduced in each step.
        message_s: of one small message between two workers on this machine.
        local_bytes_s: what two workers on this machine exchange in a second.
        parse_bytes_s: CSV read, checked and packed in a second.
        checkpoint_s: of writing one checkpoint.
        report_s: of an epoch's line in metrics.jsonl.
        poll_s: of asking one worker how it is, in Ray Train's controller.
    """

    step_s: float
    row_s: float
    gradient_bytes: int
    message_s: float
    local_bytes_s: float
    parse_bytes_s: float
    checkpoint_s: float
    report_s: float
    poll_s: float


@dataclass(frozen=True)
class Network:
    """Between the machines of the workers."""

    message_s: float
    bytes_s: float


def rows_per_second(
    costs: Costs, network: Network, num_workers: int, batch: int, cores: int | None = None
) -> float:
    """What W workers of one core each train in a second, of global batches of B rows.

    Args:
        cores: of the one machine that all workers share; None where each has a core of its own.
    """
    crowding = max(1.0, num_workers / cores) if cores else 1.0
    compute_s = (costs.step_s + costs.row_s * batch / num_workers) * crowding
    look_s = network.message_s * np.log2(max(num_workers, 1)) / STEPS_BETWEEN_LOOKS
    step_s = compute_s + all_reduce_s(costs, network, num_workers) + look_s
    pause = 1 + costs.checkpoint_s / CHECKPOINT_EVERY_S
    return batch / (step_s * pause)


def all_reduce_s(costs: Costs, network: Network, num_workers: int) -> float:
    """A ring: each worker sends 2 (W - 1) / W of the gradient, in 2 (W - 1) messages."""
    if num_workers == 1:
        return 0.0
    hops = 2 * (num_workers - 1)
    sent = costs.gradient_bytes * hops / num_workers
    return hops * network.message_s + sent / network.bytes_s


def growth(arguments: argparse.Namespace) -> None:
    """Measured constants, the check on this machine, and predictions of 1 to 1,000 workers."""
    with local_ray(num_cpus=max(4, CPUS)):
        costs = measure(arguments.folder)
        print_table([{"measured": name, "value": f"{x:.4g}"} for name, x in vars(costs).items()])
        check(costs, arguments.folder)
    predict(costs)


def predict(costs: Costs) -> None:
    """Rows/s of 1 to 1,000 workers, at a fixed global batch and at a fixed batch per worker."""
    network = Network(message_s=50e-6, bytes_s=1.25e9)
    print("  predicted, one core per worker, machines joined by 10 Gbit/s and 50 us a message:")
    alone = rows_per_second(costs, network, 1, BATCH)
    rows = []
    for num_workers in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000):
        row: dict[str, object] = {"workers": num_workers}
        if 2 * num_workers <= BATCH:
            fixed = rows_per_second(costs, network, num_workers, BATCH)
            row |= {f"batch {BATCH}": fixed, "efficiency": f"{fixed / alone / num_workers:.0%}"}
        grown = rows_per_second(costs, network, num_workers, BATCH * num_workers)
        row |= {
            f"{BATCH} per worker": grown,
            "its efficiency": f"{grown / alone / num_workers:.0%}",
        }
        row |= {"all-reduce ms": 1e3 * all_reduce_s(costs, network, num_workers)}
        rows.append(row | {"polls": f"{num_workers * costs.poll_s / POLL_EVERY_S:.0%}"})
    print_table(rows)


def check(costs: Costs, folder: Path) -> None:
    """Predicted against measured for 1, 2 and 4 workers of one CPU each on this machine."""
    network = Network(costs.message_s, costs.local_bytes_s)
    data = folder / "data"
    write_random_shards(data, 2048, N_TIMEPOINTS, n_shards=2)
    rows = []
    for num_workers in (1, 2, 4):
        run = folder / f"run-{num_workers}"
        done = train("--train", data, "--output", run, "--epochs", 6,
                     "--num-workers", num_workers, "--cpus-per-worker", 1)  # fmt: skip
        rate = 2048 / median(epoch["seconds"] for epoch in done.epochs[1:])
        predicted = rows_per_second(costs, network, num_workers, BATCH, CPUS)
        rows.append({"workers": num_workers, "measured rows/s": rate, "predicted": predicted})
    print(f"  check on this machine ({CPUS} cores), 2,048 x {N_TIMEPOINTS}, batch {BATCH}:")
    print_table(rows)
    for num_workers, rate, predicted in (row.values() for row in rows):
        print_ratio(f"{num_workers} workers, measured / predicted", rate / predicted)


def measure(folder: Path) -> Costs:
    """All constants, one after the other."""
    h = PLAIN
    network = LSTMFCN(h, N_TIMEPOINTS, N_CLASSES)
    gradient_bytes = sum(4 * parameter.numel() for parameter in network.parameters())
    step_s, row_s = _step_costs()
    message_s, local_bytes_s = _exchange_costs(gradient_bytes, folder)
    return Costs(
        step_s=step_s,
        row_s=row_s,
        gradient_bytes=gradient_bytes,
        message_s=message_s,
        local_bytes_s=local_bytes_s,
        parse_bytes_s=_parse_rate(folder),
        checkpoint_s=_checkpoint_s(network, folder),
        report_s=_report_s(folder),
        poll_s=_poll_s(),
    )


def _step_costs() -> tuple[float, float]:
    """Seconds of a step and of a row in it: a straight line through three batch sizes."""
    sizes, seconds = (32, 64, 128), []
    for size in sizes:
        h = PLAIN.model_copy(update={"batch_size": size})
        epochs = bare_loop_s((1024, N_TIMEPOINTS, N_CLASSES), h, 4, plain=False, threads=1)
        seconds.append(median(epochs[1:]) * size / 1024)
    row_s, step_s = np.polyfit(sizes, seconds, 1)
    return max(float(step_s), 0.0), float(row_s)


def _exchange_costs(gradient_bytes: int, folder: Path) -> tuple[float, float]:
    """Seconds of a message and bytes/s between two processes, by gloo as the workers use it."""
    task = ray.remote(num_cpus=1)(_exchange)
    times = ray.get([task.remote(rank, folder / "store", gradient_bytes) for rank in range(2)])
    small, large = (max(pair) for pair in zip(*times, strict=True))
    # two workers: 2 hops, and in them the gradient once
    return small / 2, gradient_bytes / max(large - small, 1e-9)


def _exchange(rank: int, store: Path, gradient_bytes: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    times = []
    for size in (1, gradient_bytes // 4):
        numbers = torch.zeros(size)
        rounds = []
        for _ in range(200):
            started = time.perf_counter()
            torch.distributed.all_reduce(numbers)
            rounds.append(time.perf_counter() - started)
        times.append(median(rounds))
    torch.distributed.destroy_process_group()
    return times[0], times[1]


def _parse_rate(folder: Path) -> float:
    """CSV bytes/s of one process, checked and packed."""
    data = folder / "parse"
    size = write_random_shards(data, 20_000, N_TIMEPOINTS, n_shards=1)
    found = open_dataset(str(data))

    def parse() -> None:
        for table, source in read_tables(found.shards[0], found.schema, True, found.headers[0]):
            found.schema.encode_values(table, source)
            found.schema.encode_labels(table, source)

    return size / _seconds(parse, 3)


def _checkpoint_s(network: LSTMFCN, folder: Path) -> float:
    training = TrainState(network, 1e-3)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    training.optimizer.step()
    training.finish_epoch({"epoch": 1, "train_loss": 1.0})
    keeper = FolderKeeper(folder)
    keeper.start(0)
    checkpoints = Checkpoints(keeper)

    def save() -> None:
        training.position = Position(training.position.epoch + 1)
        training.save(checkpoints)

    return _seconds(save, 10)


def _report_s(folder: Path) -> float:
    metrics = {"epoch": 1, "train_loss": 0.1, "train_accuracy": 0.9, "rows": 2048, "seconds": 0.5}
    keeper = FolderKeeper(folder)
    keeper.start(0)
    return _seconds(lambda: keeper.add_epochs(metrics), 500)


def _poll_s() -> float:
    """Of a call to an actor that answers at once; the controller polls all of them together."""
    n_actors = 4
    actors = [ray.remote(num_cpus=0)(_Idle).remote() for _ in range(n_actors)]
    ray.get([actor.poll.remote() for actor in actors])
    each = _seconds(lambda: ray.get([actor.poll.remote() for actor in actors]), 100) / n_actors
    for actor in actors:
        ray.kill(actor)
    return each


class _Idle:
    def poll(self) -> None:
        """Nothing to say."""


def _seconds(work: Callable[[], object], times: int) -> float:
    """The median of several runs."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


if __name__ == "__main__":
    main(__doc__, (growth,), data=False)
