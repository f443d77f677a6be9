"""What training costs, each figure as a ratio measured side by side in one run.

    python benchmarks/train.py --data DATA [--only throughput ...]

DATA holds ``ucr`` (NAME/TRAIN.tsv, NAME/TEST.tsv) and ``mitbih`` (train/, test/, and
train_balanced.csv.gz). A bare loop is the same model and precision over tensors in memory, inside a
Ray task with the same CPUs. Everything is trained by ``jobs/train.py``.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import mean, median

import torch
from bare_loops import accuracy_on, bare_loop_s
from commands import (
    PLAIN,
    TINY_NET,
    Place,
    Training,
    command,
    evaluated,
    local_ray,
    plain_flags,
    run_parts,
    train,
)
from csv_shards import write_random_shards
from peak_memory import peak_memory

ROUNDS = 3
CPUS = os.cpu_count() or 1
PARTS = (
    "throughput",
    "small",
    "start_up",
    "large",
    "growth",
    "workers",
    "precision",
    "heartbeats",
)


def throughput(place: Place) -> None:
    """Steady rows/s of the paper's net against the bare loop and the plain fp32 Conv1d loop."""
    with local_ray():
        for n_rows, n_timepoints in ((2048, 100), (512, 500)):
            data = place.folder / f"{n_rows}x{n_timepoints}"
            write_random_shards(data, n_rows, n_timepoints, n_shards=2)
            engine, bare, plain = [], [], []
            for turn in range(ROUNDS):
                run = place.folder / f"run-{n_timepoints}-{turn}"
                done = train("--train", data, "--output", run, "--epochs", 9, *plain_flags())
                engine += [epoch["seconds"] for epoch in done.epochs[1:]]
                shape = (n_rows, n_timepoints, 3)
                bare += bare_loop_s(shape, PLAIN, 9, plain=False, threads=CPUS)[1:]
                plain += bare_loop_s(shape, PLAIN, 5, plain=True, threads=CPUS)[1:]
            rates = [n_rows / median(seconds) for seconds in (engine, bare, plain)]
            print(
                f"  {n_rows} x {n_timepoints}: engine {rates[0]:.0f} rows/s, "
                f"bare {rates[1]:.0f}, plain fp32 Conv1d {rates[2]:.0f}; "
                f"engine / bare {rates[0] / rates[1]:.3f} (target 0.95), "
                f"engine / plain {rates[0] / rates[2]:.2f} (target 1.8)",
                flush=True,
            )


def small(place: Place) -> None:
    """2,000 epochs of a tiny set: all that is not start-up, against the bare loop."""
    epochs = 2000
    data = converted(place, "ItalyPowerDemand")
    with local_ray():
        engine, bare = [], []
        for turn in range(ROUNDS):
            run = place.folder / f"run-{turn}"
            done = train(
                "--train", data / "TRAIN", "--output", run, "--epochs", epochs, *plain_flags()
            )
            assert [epoch["epoch"] for epoch in done.epochs] == list(range(1, epochs + 1))
            engine.append(done.total_s - done.start_up_s)
            bare.append(sum(bare_loop_s((67, 24, 2), PLAIN, epochs, False, CPUS)))
        print(
            f"  ItalyPowerDemand, {epochs} epochs: engine without start-up {median(engine):.1f} s, "
            f"bare loop {median(bare):.1f} s; ratio {median(engine) / median(bare):.3f} "
            f"(target 1.15); {epochs} lines in metrics.jsonl",
            flush=True,
        )


def start_up(place: Place) -> None:
    """From the start of the process to the first step, by stage."""
    write_random_shards(place.folder / "data", 600, 128, n_shards=3)

    def runs(kind: str) -> list[Training]:
        flags = ("--train", place.folder / "data", "--epochs", 1, *plain_flags())
        return [train(*flags, "--output", place.folder / f"{kind}-{i}") for i in range(ROUNDS)]

    alone = runs("alone")
    with local_ray():
        running = runs("running")
    for name, done in (("with a local Ray of its own", alone), ("on a running Ray", running)):
        print(
            f"  {name}: first step after {median(d.start_up_s for d in done):.1f} s "
            f"({', '.join(f'{d.start_up_s:.1f}' for d in done)}; target 12)"
        )
        stages = {"Ray is up": "Ray up", "training: ": "data read, checked, scaled"}
        for sign, stage in stages.items():
            times = [next((t for t, line in d.stages if line.startswith(sign)), 0) for d in done]
            print(f"    {stage} after {median(times):.1f} s")


def large(place: Place) -> None:
    """CSV of four times the memory granted: streamed, in bounded memory, near the bare loop."""
    n_rows, n_timepoints, granted_gb = 1_150_000, 100, 0.25
    data = place.folder / "data"
    csv_bytes = write_random_shards(data, n_rows, n_timepoints, n_shards=23, digits=17)
    store = int(granted_gb * 1e9)
    with local_ray(object_store_memory=store), peak_memory() as peaks:
        bare = bare_loop_s((4096, n_timepoints, 3), PLAIN, 6, plain=False, threads=CPUS)[1:]
        done = train(
            "--train", data, "--output", place.folder / "run", "--epochs", 1,
            "--memory-gb", granted_gb, *plain_flags(),
        )  # fmt: skip
    told = next(line for _, line in done.stages if "rows take" in line)
    read_s = next(t for t, line in done.stages if line.startswith("training: "))
    rate, bare_rate = done.epochs[0]["rows_per_second"], 4096 / median(bare)
    print(f"  {csv_bytes / 1e9:.2f} GB of CSV, {n_rows} x {n_timepoints}; granted: object store "
          f"{granted_gb} GB, rows {granted_gb} GB")  # fmt: skip
    print(f"  {told}")
    print(f"  read, checked and packed after {read_s:.0f} s; epoch {done.epochs[0]['seconds']:.0f} "
          f"s: {rate:.0f} rows/s, bare {bare_rate:.0f}; ratio {rate / bare_rate:.3f} "
          f"(target 0.85)")  # fmt: skip
    for process, megabytes in sorted(peaks.items(), key=lambda item: -item[1])[:8]:
        print(f"    peak of {process}: {megabytes:.0f} MB")


def growth(place: Place) -> None:
    """Ten and a hundred times the rows: reading and training time per row."""
    with local_ray():
        for n_rows in (10_000, 100_000, 1_000_000):
            data, run = place.folder / f"data-{n_rows}", place.folder / f"run-{n_rows}"
            csv_bytes = write_random_shards(data, n_rows, 100, n_shards=10)
            done = train("--train", data, "--output", run, "--epochs", 1,
                         *plain_flags(f"{TINY_NET} --batch-size 1024"))  # fmt: skip
            start = next(t for t, line in done.stages if line.startswith("reading"))
            read = next(t for t, line in done.stages if line.startswith("training: ")) - start
            print(
                f"  {n_rows} rows ({csv_bytes / 1e6:.0f} MB): read in {read:.1f} s "
                f"({read / n_rows * 1e6:.1f} us a row), epoch {done.epochs_s:.2f} s "
                f"({done.epochs_s / n_rows * 1e6:.1f} us a row), whole {done.total_s:.1f} s",
                flush=True,
            )


def workers(place: Place) -> None:
    """Workers and threads: which division of the CPUs trains fastest."""
    with local_ray():
        for net, flags in (("paper", ""), ("tiny", TINY_NET)):
            for n_rows, n_timepoints in ((2048, 100), (67, 24)):
                data = place.folder / f"{n_rows}x{n_timepoints}"
                if not data.exists():
                    write_random_shards(data, n_rows, n_timepoints, n_shards=2)
                epochs = 6 if n_rows > 1000 else 100
                print(f"  {net} net, {n_rows} x {n_timepoints}:", end="")
                for num_workers, threads in ((1, CPUS), (1, 1), (CPUS, 1)):
                    run = place.folder / f"{net}-{n_rows}-{num_workers}-{threads}"
                    done = train("--train", data, "--output", run, "--epochs", epochs,
                                 "--num-workers", num_workers, "--cpus-per-worker", threads,
                                 *plain_flags(flags))  # fmt: skip
                    rate = n_rows / median(epoch["seconds"] for epoch in done.epochs[1:])
                    print(f"  {num_workers} x {threads} threads {rate:.0f} rows/s", end="")
                print(flush=True)


def precision(place: Place) -> None:
    """Test accuracy of the engine's loop in bf16 and in fp32, and of the plain fp32 Conv1d loop."""
    torch.set_num_threads(CPUS)
    for name in ("ItalyPowerDemand", "GunPoint", "Coffee", "TwoLeadECG", "ECG200"):
        found: dict[str, list[float]] = {"plain": [], "fp32": [], "bf16": []}
        for kind, accuracies in found.items():
            for seed in range(ROUNDS):
                accuracies.append(accuracy_on(place.data / "ucr" / name, kind, seed, epochs=300))
        shown = "  ".join(
            f"{kind} {mean(a):.4f} ({min(a):.4f} to {max(a):.4f})" for kind, a in found.items()
        )
        print(f"  {name:17} {shown}", flush=True)


def heartbeats(place: Place) -> None:
    """MIT-BIH heartbeats: the reference's balanced cut, and the full set with class weights."""
    data = place.data / "mitbih"
    print("  reference: 536 s, accuracy 0.928, macro F1 0.742")
    for name, train_data, flags in (
        ("balanced cut", data / "train_balanced.csv.gz", "--epochs 60 --batch-size 32"),
        ("full set", data / "train", "--epochs 4 --class-weight sqrt"),
    ):
        run = place.folder / name.replace(" ", "-")
        done = train(
            "--train",
            train_data,
            "--output",
            run,
            *plain_flags(f"{flags} --schedule cosine"),
        )
        began = time.perf_counter()
        found = evaluated(run / "model", data / "test")
        print(
            f"  {name}, {flags}: {done.total_s:.0f} s (first step after {done.start_up_s:.0f} s), "
            f"accuracy {found['accuracy']:.4f}, macro F1 {found['macro_f1']:.4f} on "
            f"{found['rows']} rows (evaluated in {time.perf_counter() - began:.0f} s)",
            flush=True,
        )


def converted(place: Place, name: str) -> Path:
    """A set of the UCR archive as CSV shards."""
    folder = place.folder / name
    for split in ("TRAIN", "TEST"):
        source = place.data / "ucr" / name / f"{split}.tsv"
        command("convert", "--input", source, "--output", folder / split, "--shards", 3)
    return folder


if __name__ == "__main__":
    run_parts(__doc__, globals(), PARTS)
