"""What a sweep costs beside what its trainings cost.

    python benchmarks/tune.py --data DATA [--only marginal ...]

DATA holds ``seed_sample`` (train.csv, valid.csv: the LSTM-FCN SageMaker algorithm's own example)
and ``ucr`` (NAME/TRAIN.tsv). A bare loop is the same model, precision and number of steps over
tensors in memory, inside a Ray task of one CPU. Everything is searched by ``jobs/tune.py``.
"""

from __future__ import annotations

import csv
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bare_loops import bare_loop_s
from commands import TINY_NET, Place, command, job, local_ray, run_parts

from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.metrics_file import read_metrics

PARTS = ("marginal", "published", "asha", "same_seed")

TURNS = 5


class Sweep(NamedTuple):
    """One run of jobs/tune.py, timed from outside."""

    total_s: float
    start_up_s: float
    rows: list[dict[str, str]]
    folder: Path

    @property
    def best(self) -> float:
        """The best objective of all trials."""
        return max(float(row["objective"]) for row in self.rows if row["objective"])

    @property
    def epochs(self) -> int:
        """Epochs of all trials together."""
        return sum(int(row["epochs"]) for row in self.rows)


def marginal(place: Place) -> None:
    """32 trials of the tiny net, 5 epochs, two at a time, against the sum of the bare loops.

    Half of the bare loops run before the sweep and half after it, several times over: what the
    machine does beside changes the time of a bare loop by a half from one minute to the next.
    """
    space = place.folder / "space.yaml"
    space.write_text("lr: {loguniform: [0.0001, 0.01]}\n")
    flags = ["--space", space, *TINY_NET.split(), "--batch-size", 64, "--epochs", 5]
    flags += ["--schedule", "constant", "--weight-decay", "0", "--label-smoothing", "0"]
    flags += ["--scheduler", "none", "--max-concurrent", 2]
    h = Hyperparameters(hidden_size=8, filters_1=4, filters_2=4, filters_3=4, kernel_size_1=3,
                        kernel_size_2=3, kernel_size_3=3, batch_size=64)  # fmt: skip
    took, allowed = [], []
    with local_ray():
        two = seed_sample_sweep(place, "two", "--num-samples", 2, *flags)
        for turn in range(TURNS):
            before_s = sum(_bare(h) for _ in range(16))
            many = seed_sample_sweep(place, f"many-{turn}", "--num-samples", 32, *flags)
            bare_s = before_s + sum(_bare(h) for _ in range(16))
            took.append(many.total_s)
            allowed.append(1.35 * bare_s / 2 + many.start_up_s)
            print(
                f"  32 trials: {many.total_s:.1f} s, of it start-up {many.start_up_s:.1f} s; bare "
                f"loops {bare_s:.1f} s; target 1.35 * {bare_s / 2:.1f} + {many.start_up_s:.1f} = "
                f"{allowed[-1]:.1f} s, ratio {took[-1] / allowed[-1]:.3f}",
                flush=True,
            )
        with ThreadPoolExecutor(2) as two_at_a_time:
            beside_s = sum(two_at_a_time.map(_bare, [h] * 32))
    print(
        f"  all {TURNS} of them: ratio {sum(took) / sum(allowed):.3f} (target 1)\n"
        f"  32 bare loops two at a time: {beside_s / 2:.1f} s\n"
        f"  marginal cost of a trial {(median(took) - two.total_s) / 30:.2f} s (target 0.5)"
    )


def _bare(h: Hyperparameters) -> float:
    return sum(bare_loop_s((700, 100, 3), h, 5, False, 1))


def published(place: Place) -> None:
    """The ranges of the SageMaker algorithm's own tuning example, seed 100: 4 and 40 trials."""
    with local_ray():
        for n_trials in (4, 40):
            done = seed_sample_sweep(
                place, f"{n_trials}", "--space", "published", "--seed", 100,
                "--num-samples", n_trials, "--scheduler", "none",
            )  # fmt: skip
            print(
                f"  {n_trials} trials: {done.total_s:.0f} s, best valid accuracy {done.best:.4f} "
                "(40 in under 600 s; a trial of the example took 230 s)",
                flush=True,
            )


def asha(place: Place) -> None:
    """ASHA against none: the best objective and the epochs it took, on SwedishLeaf.

    A fifth of its training rows validates; the test rows are not touched.
    """
    source, data = place.data / "ucr" / "SwedishLeaf" / "TRAIN.tsv", place.folder / "data"
    command("convert", "--input", source, "--output", data, "--shards", 5)
    space = place.folder / "space.yaml"
    space.write_text(
        "lr: {loguniform: [0.0001, 0.1]}\nhidden-size: {choice: [8, 64]}\n"
        "filters-1: {choice: [16, 32]}\nfilters-2: {choice: [16, 32]}\n"
        "filters-3: {choice: [16, 32]}\nbatch-size: {choice: [16, 64]}\n"
    )
    found = {}
    with local_ray():
        for scheduler in ("none", "asha"):
            found[scheduler] = done = sweep(
                place.folder / scheduler,
                "--train", data / "part-00[0-3].csv", "--validation", data / "part-004.csv",
                "--space", space, "--num-samples", 18, "--epochs", 27, "--scheduler", scheduler,
                "--searcher", "random",
            )  # fmt: skip
            print(
                f"  {scheduler}: best {done.best:.4f}, {done.epochs} epochs, {done.total_s:.0f} s",
                flush=True,
            )
    share = found["asha"].epochs / found["none"].epochs
    print(f"  epochs asha / none {share:.2f} (target 0.40)")


def same_seed(place: Place) -> None:
    """The same seed, one trial at a time: the same trials, and the same best."""
    with local_ray():
        tables = []
        for turn in range(2):
            done = seed_sample_sweep(
                place, f"{turn}", "--space", "published", "--num-samples", 6, "--seed", 1,
                "--max-concurrent", 1,
            )  # fmt: skip
            tables.append([{**row, "seconds": ""} for row in done.rows])
    print(
        f"  6 trials, twice: {'equal' if tables[0] == tables[1] else 'DIFFERENT'} in all but time"
    )


def seed_sample_sweep(place: Place, name: str, *flags: object) -> Sweep:
    """A sweep over the SageMaker algorithm's own example data."""
    data = place.data / "seed_sample"
    return sweep(place.folder / name, "--train", data / "train.csv", "--validation",
                 data / "valid.csv", *flags)  # fmt: skip


def sweep(folder: Path, *flags: object) -> Sweep:
    """Run jobs/tune.py to its end."""
    began = time.time()
    job("tune", "--output", folder, *flags)
    total_s = time.time() - began
    firsts = (read_metrics(path)[0] for path in folder.glob("trials/*/metrics.jsonl"))
    start_up_s = min(first["time"] - first["seconds"] for first in firsts) - began
    with (folder / "trials.csv").open(newline="") as file:
        return Sweep(total_s, start_up_s, list(csv.DictReader(file)), folder)


if __name__ == "__main__":
    run_parts(__doc__, globals(), PARTS)
