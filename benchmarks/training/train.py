"""What training costs, each figure as a ratio measured side by side in one run.

    python -m benchmarks.training.train --data DATA [--only throughput ...]

DATA holds ``ucr`` (NAME/TRAIN.tsv, NAME/TEST.tsv). A bare loop is the same network and precision
over tensors in memory, inside a Ray task with the same CPUs.
"""

from __future__ import annotations

import argparse
from statistics import median

from benchmarks.common import (
    CPUS,
    PLAIN,
    TINY_NET,
    bare_loop_s,
    convert_archive_set,
    local_ray,
    main,
    plain_flags,
    print_ratio,
    print_table,
    train,
    write_random_shards,
)

ROUNDS = 3


def throughput(arguments: argparse.Namespace) -> None:
    """Steady rows/s of the paper's network against the bare loop and the plain fp32 Conv1d loop."""
    rows = []
    with local_ray():
        for n_rows, n_timepoints in ((2048, 100), (512, 500)):
            data = arguments.folder / f"{n_rows}x{n_timepoints}"
            write_random_shards(data, n_rows, n_timepoints, n_shards=2)
            engine, bare, plain = [], [], []
            shape = (n_rows, n_timepoints, 3)
            for turn in range(ROUNDS):
                run = arguments.folder / f"run-{n_timepoints}-{turn}"
                done = train("--train", data, "--output", run, "--epochs", 9, *plain_flags())
                engine += [epoch["seconds"] for epoch in done.epochs[1:]]
                bare += bare_loop_s(shape, PLAIN, 9, plain=False, threads=CPUS)[1:]
                plain += bare_loop_s(shape, PLAIN, 5, plain=True, threads=CPUS)[1:]
            rates = [n_rows / median(seconds) for seconds in (engine, bare, plain)]
            names = ("engine rows/s", "bare", "plain fp32 Conv1d")
            rows.append({"data": data.name, **dict(zip(names, rates, strict=True))})
    print_table(rows)
    for row in rows:
        data, engine_rate, bare_rate, plain_rate = row.values()
        print_ratio(f"{data}: engine / bare", engine_rate / bare_rate, least=0.95)
        print_ratio(f"{data}: engine / plain", engine_rate / plain_rate, least=1.8)


def small(arguments: argparse.Namespace) -> None:
    """2,000 epochs of a tiny set: all but start-up, against the bare loop."""
    epochs, name = 2000, "ItalyPowerDemand"
    data = convert_archive_set(arguments.data / "ucr" / name, arguments.folder / name)
    engine, bare = [], []
    with local_ray():
        for turn in range(ROUNDS):
            flags = ("--output", arguments.folder / f"run-{turn}", "--epochs", epochs)
            done = train("--train", data / "TRAIN", *flags, *plain_flags())
            assert [epoch["epoch"] for epoch in done.epochs] == list(range(1, epochs + 1))
            engine.append(done.total_s - done.start_up_s)
            bare.append(sum(bare_loop_s((67, 24, 2), PLAIN, epochs, False, CPUS)))
    print_table([{"engine without start-up, s": median(engine), "bare, s": median(bare)}])
    print_ratio("engine / bare", median(engine) / median(bare), most=1.15)


def workers(arguments: argparse.Namespace) -> None:
    """Workers and threads: which division of the CPUs trains fastest, in rows/s."""
    rows = []
    with local_ray():
        for net, net_flags in (("paper", ""), ("tiny", TINY_NET)):
            for n_rows, n_timepoints, epochs in ((2048, 100, 6), (67, 24, 100)):
                data = arguments.folder / f"{n_rows}x{n_timepoints}"
                if not data.exists():
                    write_random_shards(data, n_rows, n_timepoints, n_shards=2)
                rates = {}
                for count, threads in ((1, CPUS), (1, 1), (CPUS, 1)):
                    run = arguments.folder / f"{net}-{n_rows}-{count}-{threads}"
                    done = train("--train", data, "--output", run, "--epochs", epochs,
                                 "--num-workers", count, "--cpus-per-worker", threads,
                                 *plain_flags(net_flags))  # fmt: skip
                    seconds = median(epoch["seconds"] for epoch in done.epochs[1:])
                    rates[f"{count} x {threads} threads"] = n_rows / seconds
                rows.append({"network": net, "data": data.name, **rates})
    print_table(rows)
    for row in rows:
        net, data_name, one, *others = row.values()
        print_ratio(
            f"{net}, {data_name}: one worker with all CPUs / the best", one / max(one, *others)
        )


if __name__ == "__main__":
    main(__doc__, (throughput, small, workers))
