"""What a small job costs before and beside its work: Ray's start, imports, and the command itself.

    python -m benchmarks.training.start_up [--only first_step few_rows help_page]

Each command is run beside a script that does the same by hand, and beside itself on a Ray that it
starts (``RAY_ADDRESS=local``), in turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.common import (
    main,
    plain_flags,
    print_ratio,
    print_table,
    train,
    write_random_shards,
)
from benchmarks.serving.endpoint import N_TIMEPOINTS, random_model

ROUNDS = 3

FIRST_STEP = """
import sys, time
import pandas as pd
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, n_timepoints, n_classes):
        super().__init__()
        self.lstm = nn.LSTM(n_timepoints, 128, batch_first=True)
        blocks = []
        for before, after, kernel in ((1, 128, 8), (128, 256, 5), (256, 128, 3)):
            blocks += [nn.Conv1d(before, after, kernel, padding="same"), nn.BatchNorm1d(after)]
            blocks.append(nn.ReLU())
        self.convolutions = nn.Sequential(*blocks)
        self.head = nn.Linear(128 + 128, n_classes)

    def forward(self, x):
        last = self.lstm(x.unsqueeze(1))[0][:, -1]
        return self.head(torch.cat([last, self.convolutions(x.unsqueeze(1)).mean(2)], 1))

table = pd.concat([pd.read_csv(path) for path in sys.argv[1:]])
x = torch.tensor(table.filter(regex="^x").to_numpy("float32"))
y = torch.tensor(table.filter(regex="^y").to_numpy("int64").argmax(1))
x = (x - x.mean()) / x.std()
net = Net(x.shape[1], int(y.max()) + 1)
optimiser = torch.optim.Adam(net.parameters(), fused=True)
print(time.time(), flush=True)
for rows in torch.randperm(len(x)).split(128):
    optimiser.zero_grad()
    nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
    optimiser.step()
"""

FEW_ROWS = """
import sys
import pandas as pd
from lstmfcn import Classifier

model, output, *paths = sys.argv[1:]
classifier = Classifier.load(model)
table = pd.concat([pd.read_csv(path) for path in paths])
probabilities = classifier.predict_proba(table.filter(regex="^x"))
pd.DataFrame(probabilities).to_csv(output)
print((probabilities.argmax(1) == table.filter(regex="^y").to_numpy().argmax(1)).mean())
"""


def first_step(arguments: argparse.Namespace) -> None:
    """Seconds from the start of the process to the first training step, 600 rows in 3 shards."""
    data = arguments.folder / "data"
    write_random_shards(data, 600, 128, n_shards=3)
    seconds: dict[str, list[float]] = {"script": [], "this process": [], "a Ray of its own": []}
    for i in range(ROUNDS):
        began = time.time()
        printed = _run_script(FIRST_STEP, *sorted(data.iterdir()))
        seconds["script"].append(float(printed) - began)
        for name, address in (("this process", None), ("a Ray of its own", "local")):
            run = arguments.folder / f"{name}-{i}".replace(" ", "-")
            with _ray_address(address):
                done = train("--train", data, "--epochs", 1, *plain_flags(), "--output", run)
            seconds[name].append(done.start_up_s)
    _print_seconds(seconds)
    _print_ratio(seconds, "this process", "a Ray of its own", 0.6)
    _print_ratio(seconds, "this process", "script", 2.4)


def few_rows(arguments: argparse.Namespace) -> None:
    """Seconds of ``evaluate`` and ``predict`` of 900 rows, from start to end."""
    model, data = random_model(arguments.folder / "model"), arguments.folder / "rows"
    write_random_shards(data, 900, N_TIMEPOINTS, n_shards=2)
    names = ("script", "evaluate", "predict", "evaluate, Ray", "predict, Ray")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(ROUNDS):
        written = arguments.folder / "by-hand.csv"
        began = time.time()
        _run_script(FEW_ROWS, model, written, *sorted(data.iterdir()))
        seconds["script"].append(time.time() - began)
        for name in names[1:]:
            verb, _, with_ray = name.partition(", ")
            words = [sys.executable, "-m", "lstmfcn", verb, data, "--model", model]
            if verb == "predict":
                words += ["--output", arguments.folder / f"{name}-{i}".replace(", ", "-")]
            with _ray_address("local" if with_ray else None):
                began = time.time()
                subprocess.run([str(word) for word in words], check=True, capture_output=True)
                seconds[name].append(time.time() - began)
    _print_seconds(seconds)
    _print_ratio(seconds, "evaluate", "script", 1.5)
    _print_ratio(seconds, "predict", "script", 1.5)


def help_page(_: argparse.Namespace) -> None:
    """Seconds of ``lstmfcn --help``."""
    seconds: dict[str, list[float]] = {"help": []}
    for _i in range(2 * ROUNDS):
        began = time.time()
        words = [Path(sys.executable).with_name("lstmfcn"), "--help"]
        subprocess.run(words, check=True, capture_output=True)
        seconds["help"].append(time.time() - began)
    _print_seconds(seconds)
    print_ratio("lstmfcn --help / 0.5 s", median(seconds["help"]) / 0.5, most=1)


@contextmanager
def _ray_address(address: str | None) -> Iterator[None]:
    """Set RAY_ADDRESS inside this block, or unset it."""
    before = os.environ.pop("RAY_ADDRESS", None)
    if address is not None:
        os.environ["RAY_ADDRESS"] = address
    try:
        yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        if before is not None:
            os.environ["RAY_ADDRESS"] = before


def _run_script(code: str, *arguments: object) -> str:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _print_seconds(seconds: dict[str, list[float]]) -> None:
    print_table(
        [
            {"": name, "seconds": median(each), "all": ", ".join(f"{s:.2f}" for s in each)}
            for name, each in seconds.items()
        ]
    )


def _print_ratio(seconds: dict[str, list[float]], one: str, other: str, most: float) -> None:
    print_ratio(f"{one} / {other}", median(seconds[one]) / median(seconds[other]), most=most)


if __name__ == "__main__":
    main(__doc__, (first_step, few_rows, help_page), data=False)
