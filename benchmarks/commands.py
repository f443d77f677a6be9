"""Run the commands that users type, and time their stages; what the benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ray

from lstmfcn.distributed.runtime import prepare_environment
from lstmfcn.hyperparameters import Hyperparameters, flag

REPOSITORY = Path(__file__).parents[1]

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
"""The paper's net by plain Adam, as loops outside of lstmfcn run it."""


def plain_flags(changes: str = "") -> list[str]:
    """Flags of `PLAIN`, with changes written as flags."""
    words = changes.split()
    plain = {f"--{flag(name)}": str(getattr(PLAIN, name)) for name in PLAIN.model_fields_set}
    flags = plain | dict(zip(words[::2], words[1::2], strict=True))
    return [word for name, value in sorted(flags.items()) for word in (name, value)]


class Place(NamedTuple):
    """Where the data lies, and where to write."""

    data: Path
    folder: Path


def run_parts(purpose: str, functions: Mapping[str, Any], parts: Sequence[str]) -> None:
    """Be a benchmark's process: print one table a part, for those that the user asks for."""
    parser = argparse.ArgumentParser(description=purpose.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    arguments = parser.parse_args()
    for part in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            print(f"\n{part}", flush=True)
            functions[part](Place(arguments.data.absolute(), Path(folder)))


class Training(NamedTuple):
    """One run of jobs/train.py, timed from outside.

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


@contextmanager
def local_ray(**options: Any) -> Iterator[str]:
    """A local Ray that the commands use through RAY_ADDRESS."""
    prepare_environment()
    context = ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        **options,
    )
    os.environ["RAY_ADDRESS"] = context.address_info["gcs_address"]
    try:
        yield os.environ["RAY_ADDRESS"]
    finally:
        del os.environ["RAY_ADDRESS"]
        ray.shutdown()


def train(*flags: object) -> Training:
    """Run jobs/train.py to its end."""
    output = Path(str(flags[flags.index("--output") + 1]))
    command = [sys.executable, str(REPOSITORY / "jobs" / "train.py"), *map(str, flags)]
    began = time.time()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        stages = [(time.time() - began, line.rstrip()) for line in process.stderr]
    total_s = time.time() - began
    if process.returncode:
        sys.exit("\n".join([" ".join(command), *(line for _, line in stages)]))
    lines = (output / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    first_step = epochs[0]["time"] - epochs[0]["seconds"]
    return Training(first_step - began, total_s, epochs, stages)


def job(name: str, *flags: object) -> str:
    """Run a job; returns what it printed."""
    return _run([sys.executable, str(REPOSITORY / "jobs" / f"{name}.py"), *map(str, flags)])


def command(name: str, *flags: object) -> str:
    """Run an lstmfcn command; returns what it printed."""
    return _run([sys.executable, "-m", "lstmfcn", name, *map(str, flags)])


def evaluated(model: Path, data: Path) -> dict[str, Any]:
    """The metrics of a model on labelled shards."""
    found: dict[str, Any] = json.loads(
        job("evaluate", "--model", model, "--data", data).splitlines()[-1]
    )
    return found


def _run(arguments: list[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout
