"""Check that two commits train, predict, evaluate and report the same, bit for bit.

    python -m benchmarks.same_results [BEFORE] [AFTER] [--data UCR_SET ...] [--only CASE ...]

Both commits are checked out into temporary git worktrees; the working tree is not touched. With
each of them the same commands run on the same small data sets, in processes that import that
commit only. Then every file is compared: weights, predictions and drawings byte for byte; JSON and
report.html without times, dates, versions and paths. The script exits with 1 if a file differs, or
a command fails. A CASE is univariate, ensemble, channels, multilabel, gaps or a UCR set. A UCR_SET
is a folder with TRAIN.tsv and TEST.tsv. All flags are such as both commits know.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.common import REPOSITORY, print_table

NET = "--hidden-size 4 --filters-1 8 --filters-2 8 --filters-3 8 --rows-per-epoch 0"
KINDS = {
    "data": "data/**/*.csv",
    "weights": "run/model/**/*.safetensors",
    "model.json": "run/model/**/*.json",
    "metrics": "run/**/metrics.jsonl",
    "predictions": "predicted/**/*.csv",
    "evaluation": "evaluation/*.json",
    "report": "report/*.html",
    "drawings": "report/*.png",
}
"""The files of a case that are compared, as globs below its folder."""

NOT_COMPARED = {
    "description_sha256", "rows_per_second", "seconds", "started", "time", "versions"
}  # fmt: skip
"""Keys of JSON objects whose values differ from run to run."""

_VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?)?( UTC|Z)?"  # dates
    r"|\b[\d,.]+ (s|ms|min|h|rows/s)\b|(rows per second|seconds)</th><td[^>]*>[\d.,]+"  # speed
    r"|\b[0-9a-f]{12,64}\b"  # hashes of files that hold times
)
_HEAD = """
import ray, sys
context = ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""
"""A process that keeps a local Ray until its stdin ends."""

MAX_STARTS = 5
"""Ray gives up after 30 s, which is too short on a busy machine."""

_STARTING = threading.Lock()
"""Two Rays that start at the same time slow each other down."""


class Case(NamedTuple):
    """One data set and how it is trained.

    Attributes:
        data: the commands that write ``data/train`` and ``data/test`` into the case's folder; none
            where they are there already.
        flags: of ``lstmfcn train``.
    """

    name: str
    data: Sequence[str]
    flags: str


class Side(NamedTuple):
    """One of the two commits: the folder of its files, and its environment variables."""

    folder: Path
    environment: dict[str, str]

    def run(self, case: str, command: str) -> str | None:
        """Run an ``lstmfcn`` command in the case's folder.

        Returns:
            Why it failed, or None.
        """
        done = subprocess.run(
            [sys.executable, "-m", "lstmfcn", *command.split()],
            cwd=self.folder / case,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode:
            return None
        last = done.stderr.strip().splitlines()[-1:]
        return f"{case}: lstmfcn {command}\n    exit code {done.returncode}: {''.join(last)}"


def main() -> None:
    """Run both commits and print one row per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", nargs="?", default="8b70937")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of UCR sets")
    parser.add_argument("--only", nargs="+", help="names of the cases to run")
    parser.add_argument("--keep", type=Path, help="new folder for all files, to look at afterwards")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep.absolute() if arguments.keep else Path(name)
        commits = {"before": arguments.before, "after": arguments.after}
        for side, commit in commits.items():
            print(f"{side}: {git('log', '-1', '--format=%h %s', commit)}", flush=True)
        sets = [path.absolute() for path in arguments.data]
        with ThreadPoolExecutor() as both:  # at the same time, each in processes of its own
            running = [
                both.submit(run_commit, commit, folder / side, sets, arguments.only)
                for side, commit in commits.items()
            ]
        failed = [line for each in running for line in each.result()]
        rows, differences = compare(folder / "before", folder / "after")
    print_table(rows)
    for line in [*failed, *differences]:
        print(line)
    verdicts = [value for row in rows for value in row.values() if value in ("equal", "DIFFERENT")]
    equal = verdicts.count("equal")
    print(f"equal / compared: {equal} / {len(verdicts)}; commands that failed: {len(failed)}")
    if failed or equal < len(verdicts) or not verdicts:
        sys.exit(1)


def git(*words: str) -> str:
    """What a git command prints."""
    command = ["git", "-C", str(REPOSITORY), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def run_commit(
    commit: str, folder: Path, sets: Sequence[Path], only: Sequence[str] | None
) -> list[str]:
    """Run all cases, or only those, with one commit; returns the commands that failed."""
    folder.mkdir(parents=True)
    failures = []
    with checked_out(commit) as checkout, local_ray(checkout, folder) as environment:
        side = Side(folder, environment)
        for case in [*make_cases(folder), *(convert_case(path) for path in sets)]:
            if only and case.name not in only:
                continue
            (folder / case.name).mkdir(exist_ok=True)
            for command in (
                *case.data,
                f"train --train data/train --output run {case.flags}",
                "predict --model run/model --input data/test --output predicted --explain",
                "evaluate --model run/model --data data/test --output evaluation",
                "report --model run/model --data data/test --output report",
            ):
                failure = side.run(case.name, command)
                name = f"{folder.name}, {case.name}: {command.split()[0]}"
                print(f"  {name}{' FAILED' * bool(failure)}", flush=True)
                if failure:
                    failures.append(f"{folder.name}, {failure}")
                    break
    return failures


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A temporary git worktree of a commit."""
    with tempfile.TemporaryDirectory() as name:
        checkout = Path(name) / "checkout"
        git("worktree", "add", "--detach", str(checkout), commit)
        try:
            yield checkout
        finally:
            git("worktree", "remove", "--force", str(checkout))


@contextmanager
def local_ray(checkout: Path, folder: Path) -> Iterator[dict[str, str]]:
    """A local Ray that imports the checkout; gives the environment for commands that use it."""
    token = checkout.parent / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "PYTHONPATH": str(checkout),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }
    which = [sys.executable, "-c", "import lstmfcn; print(lstmfcn.__file__)"]
    done = subprocess.run(
        which, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    if not Path(done.stdout.strip()).is_relative_to(checkout):
        sys.exit(f"{done.stdout.strip()} was imported instead of the package in {checkout}")
    heads: list[subprocess.Popen[str]] = []
    try:
        with _STARTING:
            address = ""
            while not address and len(heads) < MAX_STARTS:
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                words = [sys.executable, "-c", _HEAD]
                heads.append(
                    subprocess.Popen(words, cwd=folder, env=environment, text=True, **pipes)
                )
                address = heads[-1].stdout.readline().strip()
        if not address:
            sys.exit("Ray did not start; its messages are above")
        yield {**environment, "RAY_ADDRESS": address}
    finally:
        for head in heads:
            head.communicate()  # closes its stdin, and so ends it


def make_cases(folder: Path) -> list[Case]:
    """Write the synthetic data sets; the random numbers depend on nothing but fixed seeds."""
    random = np.random.default_rng(1)
    up = random.integers(0, 2, 120)
    values = random.normal(size=(120, 24)) + np.linspace(-1, 1, 24) * (2 * up - 1)[:, None]
    binary = pd.DataFrame(values, columns=[f"x_{i}" for i in range(1, 25)])
    gaps = binary.mask(random.random(binary.shape) < 0.1)
    gaps.insert(0, "y", up)
    write(folder / "gaps" / "data", gaps)

    values = random.normal(size=(120, 3, 20))
    classes = random.integers(0, 3, 120)
    values[np.arange(120), classes] += np.sin(np.arange(20))
    names = [f"x{channel}_{i}" for channel in (1, 2, 3) for i in range(1, 21)]
    channels = pd.DataFrame(values.reshape(120, -1), columns=names)
    channels.insert(0, "y", np.array(["one", "two", "three"])[classes])
    write(folder / "channels" / "data", channels)

    labels: npt.NDArray[np.int64] = random.integers(0, 2, (120, 3))
    values = random.normal(size=(120, 30)) + labels @ random.normal(size=(3, 30))
    multilabel = pd.DataFrame(values, columns=[f"x_{i}" for i in range(1, 31)])
    for i in range(3):
        multilabel.insert(i, f"y_{i + 1}", labels[:, i])
    write(folder / "multilabel" / "data", multilabel)

    sample = [
        f"sample --output data/{split} --rows 90 --seed {seed} --shards 2"
        for split, seed in (("train", 1), ("test", 2))
    ]
    return [
        Case("univariate", sample, f"{NET} --validation data/test --epochs 4 --calibrate"),
        Case("ensemble", sample, f"{NET} --recipe best --members 3 --epochs 2 --seed 5"),
        Case("channels", (), f"{NET} --validation data/test --epochs 3"),
        Case("multilabel", (), f"{NET} --task multilabel --validation data/test --epochs 3 "
             "--fit-thresholds"),
        Case("gaps", (), f"{NET} --task binary --missing mask --network alstm-fcn --epochs 3"),
    ]  # fmt: skip


def convert_case(path: Path) -> Case:
    """A set of the UCR archive."""
    data = [
        f"convert --input {path / name} --output data/{split} --shards 2"
        for name, split in (("TRAIN.tsv", "train"), ("TEST.tsv", "test"))
    ]
    return Case(path.name, data, f"{NET} --epochs 3")


def write(folder: Path, table: pd.DataFrame) -> None:
    """Two training shards, and one to test with."""
    for name, rows in {
        "train/part-000": table[:40],
        "train/part-001": table[40:80],
        "test/part-000": table[80:],
    }.items():
        path = folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(path, index=False)


def compare(before: Path, after: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """One row per case, one column per kind of file; what differs, as lines."""
    rows, lines = [], []
    for case in sorted(path.parent.name for path in before.glob("*/run")):
        row = {"case": case}
        for kind, glob in KINDS.items():
            names = sorted(
                {
                    str(path.relative_to(side))
                    for side in (before, after)
                    for path in (side / case).glob(glob)
                }
            )
            found = [difference(before, after, name) for name in names]
            row[kind] = "DIFFERENT" if any(found) else "equal" if names else "none"
            lines += [line for line in found if line]
        rows.append(row)
    return rows, lines


def difference(before: Path, after: Path, name: str) -> str | None:
    """How a file differs, or None."""
    if missing := [side.name for side in (before, after) if not (side / name).exists()]:
        return f"{name}: not written {' and '.join(missing)}"
    old, new = (comparable(side / name, side) for side in (before, after))
    if old == new:
        return None
    if isinstance(old, bytes) or isinstance(new, bytes):
        return f"{name}: bytes differ"
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "before", "after", n=0)
    return "\n    ".join([f"{name}:", *(line[:160] for line in list(lines)[:12])])


def comparable(path: Path, side: Path) -> str | bytes:
    """What of a file must be equal."""
    if path.suffix == ".html":
        return _VOLATILE.sub("-", path.read_text().replace(str(side), ""))
    if path.suffix == ".json":
        return json.dumps(without_times(json.loads(path.read_text())), indent=1)
    if path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        return "\n".join(json.dumps(without_times(json.loads(line))) for line in lines)
    return path.read_bytes()


def without_times(value: Any) -> Any:
    """A JSON value without the keys that are not compared."""
    if isinstance(value, dict):
        return {key: without_times(v) for key, v in value.items() if key not in NOT_COMPARED}
    return [without_times(v) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
