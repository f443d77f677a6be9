"""What the benchmarks share: one main, tables and ratios, stored results, commands, data, loops.

Shapes: N rows, T timepoints, K classes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import ray
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmfcn.distributed.cluster import TRAINING_ENVIRONMENT, prepare_environment
from lstmfcn.hyperparameters import Hyperparameters, to_flag
from lstmfcn.model.network import LSTMFCN
from lstmfcn.training.loop import choose_precision
from lstmfcn.training.optim import EPSILON

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
CPUS = os.cpu_count() or 1
TINY_NET = (
    "--hidden-size 8 --filters-1 4 --filters-2 4 --filters-3 4 "
    "--kernel-size-1 3 --kernel-size-2 3 --kernel-size-3 3"
)
PLAIN = Hyperparameters(
    hidden_size=128,
    lr=1e-3,
    batch_size=128,
    rows_per_epoch=0,
    schedule="constant",
    weight_decay=0.0,
    label_smoothing=0.0,
)
"""The paper's network with plain Adam, as loops outside of lstmfcn usually train it."""

Part = Callable[[argparse.Namespace], None]


def main(
    doc: str | None,
    parts: Sequence[Part],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    data: bool = True,
    train_flags: bool = False,
) -> None:
    """Be a script: parse its flags, then run the parts that the user asks for.

    Each part gets the parsed flags, ``folder`` (temporary, its own), and ``flags``.

    Args:
        doc: the script's docstring; its first line is the help.
        parts: functions; their names are the choices of ``--only`` where there are several.
        options: further flags, each with the arguments of ``add_argument``.
        data: whether the script needs ``--data``.
        train_flags: whether flags of ``lstmfcn train`` may follow ``--``; they become ``flags``.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    by_name = {part.__name__: part for part in parts}
    if data:
        parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    if len(parts) > 1:
        parser.add_argument("--only", nargs="+", choices=by_name, default=list(by_name))
    for name, settings in (options or {}).items():
        parser.add_argument(name, **settings)
    words = sys.argv[1:]
    end = words.index("--") if train_flags and "--" in words else len(words)
    arguments = parser.parse_args(words[:end])
    arguments.flags = words[end + 1 :]
    if data:
        arguments.data = arguments.data.absolute()
    for name in getattr(arguments, "only", by_name):
        with tempfile.TemporaryDirectory() as folder:
            print(f"\n{name}: {(by_name[name].__doc__ or '').splitlines()[0]}", flush=True)
            arguments.folder = Path(folder)
            by_name[name](arguments)


def print_table(rows: Sequence[Mapping[str, object]] | pd.DataFrame) -> None:
    """Print rows as a table; their keys are the columns."""

    def number(value: float) -> str:
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"

    text = pd.DataFrame(rows).to_string(index=False, float_format=number, na_rep="")
    print(textwrap.indent(text, "  "), flush=True)


def print_ratio(
    name: str, ratio: float, least: float | None = None, most: float | None = None
) -> None:
    """Print the ratio that a benchmark exists for, and its target."""
    target = f" (target: at least {least:g})" if least is not None else ""
    target = f" (target: at most {most:g})" if most is not None else target
    print(f"  {name}: {ratio:.3f}{target}", flush=True)


def add_missing(
    name: str,
    columns: Sequence[str],
    task: Callable[..., dict[str, Any]],
    calls: Mapping[tuple[Any, ...], tuple[Any, ...]],
) -> pd.DataFrame:
    """Run what ``results/NAME.csv`` does not hold yet, one Ray task of one CPU for each row.

    Args:
        name: of the file. A row is written as soon as its task ends.
        columns: of the file.
        task: returns a row.
        calls: the task's arguments, by the first values of its row.

    Returns:
        All rows of the file.
    """
    path = RESULTS / f"{name}.csv"
    known: set[tuple[Any, ...]] = set()
    if path.exists():
        before = pd.read_csv(path, keep_default_na=False)
        known = set(before.iloc[:, : len(next(iter(calls)))].itertuples(index=False, name=None))
    missing = [arguments for key, arguments in calls.items() if key not in known]
    if missing:
        with local_ray(), path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns)
            if not known:
                writer.writeheader()
            environment = {"env_vars": TRAINING_ENVIRONMENT}
            remote = ray.remote(num_cpus=1, runtime_env=environment)(task)
            pending = [remote.remote(*arguments) for arguments in missing]
            for count in range(1, len(pending) + 1):
                (done,), pending = ray.wait(pending)
                writer.writerow(row := ray.get(done))
                file.flush()
                print(f"{count} of {len(missing)}: {row}", flush=True)
    return pd.read_csv(path)


@contextmanager
def local_ray(**options: Any) -> Iterator[None]:
    """A local Ray that the commands use through RAY_ADDRESS."""
    prepare_environment()
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    context = ray.init(address="local", **quiet, **options)
    os.environ["RAY_ADDRESS"] = context.address_info["gcs_address"]
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        ray.shutdown()


def command(name: str, *flags: object) -> subprocess.CompletedProcess[str]:
    """Run an lstmfcn command; gives what it printed. Exits where the command fails."""
    words = [sys.executable, "-m", "lstmfcn", name, *map(str, flags)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done


class Training(NamedTuple):
    """One run of ``lstmfcn train``, timed from outside.

    Attributes:
        start_up_s: from the start of the process to the first step.
        total_s: to the end of the process.
        epochs: the lines of metrics.jsonl.
        stages: what was printed on stderr, each line with its seconds since the start.
    """

    start_up_s: float
    total_s: float
    epochs: list[dict[str, Any]]
    stages: list[tuple[float, str]]

    @property
    def epochs_s(self) -> float:
        """Seconds of all epochs."""
        return float(sum(epoch["seconds"] for epoch in self.epochs))

    def stage_s(self, start: str) -> float:
        """Seconds until a line on stderr starts with this."""
        for seconds, line in self.stages:
            if line.startswith(start):
                return seconds
        sys.exit(f"no line on stderr starts with {start!r}")


def train(*flags: object) -> Training:
    """Run ``lstmfcn train`` to its end."""
    output = Path(str(flags[flags.index("--output") + 1]))
    words = [sys.executable, "-m", "lstmfcn", "train", *map(str, flags)]
    began = time.time()
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        stages = [(time.time() - began, line.rstrip()) for line in process.stderr]
    total_s = time.time() - began
    if process.returncode:
        sys.exit("\n".join([" ".join(words), *(line for _, line in stages)]))
    epochs = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    first_step = epochs[0]["time"] - epochs[0]["seconds"]
    return Training(first_step - began, total_s, epochs, stages)


def plain_flags(changes: str = "") -> list[str]:
    """Flags of `PLAIN`, with changes written as flags."""
    words = changes.split()
    plain = {f"--{to_flag(name)}": str(getattr(PLAIN, name)) for name in PLAIN.model_fields_set}
    flags = plain | dict(zip(words[::2], words[1::2], strict=True))
    return [word for name, value in sorted(flags.items()) for word in (name, value)]


def hyperparameters_of(flags: Sequence[str]) -> Hyperparameters:
    """The hyperparameters that `lstmfcn train` makes of these flags."""
    from lstmfcn.cli.main import app

    words = ["train", "--train", "data", "--output", "run", *flags]
    _, bound, _ = app.parse_args(words, exit_on_error=True, print_error=True)
    found = bound.arguments.get("hyperparameters", Hyperparameters())
    assert isinstance(found, Hyperparameters)
    return found


def read_archive_file(path: Path, n_channels: int = 1) -> tuple[Any, Any]:
    """Series, (N, T) or (N, channels, T), and class names of a file of the UCR or UEA archive.

    A row is its class and all values, those of several channels one channel after the other.
    """
    table = pd.read_csv(path, sep="\t", header=None, dtype={0: str})
    values, names = table.iloc[:, 1:].to_numpy(np.float32), table[0].to_numpy(str)
    return values if n_channels == 1 else values.reshape(len(values), n_channels, -1), names


def convert_archive_set(source: Path, folder: Path, shards: int = 3) -> Path:
    """A set of the UCR archive as CSV shards, in ``folder/TRAIN`` and ``folder/TEST``."""
    for split in ("TRAIN", "TEST"):
        flags = ("--output", folder / split, "--shards", shards)
        command("convert", "--input", source / f"{split}.tsv", *flags)
    return folder


def write_random_shards(
    folder: Path, n_rows: int, n_timepoints: int, n_shards: int, digits: int = 6
) -> int:
    """Write normally distributed series with random one-hot labels of 3 classes.

    Args:
        digits: significant digits of each value; 17 is what pandas writes of a float64.

    Returns:
        The bytes written.
    """
    folder.mkdir(parents=True)
    written = 0
    for shard, rows in enumerate(np.array_split(np.arange(n_rows), n_shards)):
        random = np.random.default_rng(shard)
        values = random.standard_normal((len(rows), n_timepoints))
        if digits < 17:
            values = values.round(digits - 1)
        labels = np.eye(3, dtype=np.int8)[random.integers(0, 3, len(rows))]
        columns = {f"y_{i + 1}": labels[:, i] for i in range(3)}
        columns |= {f"x_{i + 1}": values[:, i] for i in range(n_timepoints)}
        path = folder / f"part-{shard:03d}.csv"
        pa.csv.write_csv(pa.table(columns), path)
        written += path.stat().st_size
    return written


class PlainLSTMFCN(nn.Module):
    """The network as it is usually written: ``Conv1d``, channels first."""

    def __init__(self, h: Hyperparameters, n_timepoints: int, n_classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_timepoints, h.hidden_size, h.num_layers, batch_first=True)
        self.dropout = nn.Dropout(h.dropout)
        filters = (1, h.filters_1, h.filters_2, h.filters_3)
        kernels = (h.kernel_size_1, h.kernel_size_2, h.kernel_size_3)
        blocks = zip(pairwise(filters), kernels, strict=True)
        self.fcn = nn.Sequential(
            *(
                nn.Sequential(nn.Conv1d(a, b, k, padding="same"), nn.BatchNorm1d(b), nn.ReLU())
                for (a, b), k in blocks
            )
        )
        self.head = nn.Linear(h.hidden_size + h.filters_3, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of series (N, T)."""
        lstm = self.dropout(self.lstm(x.unsqueeze(1))[0].squeeze(1))
        return self.head(torch.cat([lstm, self.fcn(x.unsqueeze(1)).mean(dim=2)], dim=1))

    @torch.no_grad()
    def start_as(self, other: LSTMFCN) -> PlainLSTMFCN:
        """Take over the weights of the package's network."""
        self.lstm.load_state_dict(other.lstm.layers[0].state_dict())
        self.head.load_state_dict(other.head.state_dict())
        for mine, theirs in zip(self.fcn, other.fcn.blocks, strict=True):
            mine[0].weight.copy_(theirs.convolution.weight.squeeze(2))
            mine[0].bias.copy_(theirs.convolution.bias)
        return self


def bare_loop_s(
    shape: tuple[int, int, int], h: Hyperparameters, epochs: int, plain: bool, threads: int
) -> list[float]:
    """Seconds of each epoch over random rows in memory, in a Ray task of so many CPUs.

    Args:
        shape: N, T, K.
        plain: the network and loop as usually written, in fp32; else the package's network,
            precision, memory layout and fused optimiser.
    """
    task = ray.remote(num_cpus=threads)(_loop)
    seconds: list[float] = ray.get(task.remote(shape, h, epochs, plain, threads))
    return seconds


def _loop(
    shape: tuple[int, int, int], h: Hyperparameters, epochs: int, plain: bool, threads: int
) -> list[float]:
    torch.set_num_threads(threads)
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.standard_normal(shape[:2]).astype(np.float32))
    y = torch.from_numpy(random.integers(0, shape[2], shape[0]))
    cpu = torch.device("cpu")
    if plain:
        model: nn.Module = PlainLSTMFCN(h, shape[1], shape[2])
        optimizer = torch.optim.Adam(model.parameters(), lr=h.lr)
    else:
        model = LSTMFCN(h, shape[1], shape[2])
        optimizer = torch.optim.Adam(model.parameters(), lr=h.lr, eps=EPSILON, fused=True)
    precision = "fp32" if plain else choose_precision(h.precision, cpu)
    model.train()
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        for rows in torch.randperm(len(x)).split(h.batch_size):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = model(x[rows])
            loss = F.cross_entropy(logits.float(), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - started)
    return seconds
