"""Cases of commands that train and predict, in the process of the command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from tests.cases.arrays import trained
from tests.cases.case import Case, refused, run
from tests.cases.inputs import NAMES, N

Act = Callable[[Path, Path], None]
TINY = (
    *("--hidden-size", "4", "--filters-1", "4", "--filters-2", "4", "--filters-3", "4"),
    *("--epochs", "1", "--rows-per-epoch", "0"),
)
TWO_WORKERS = ("--num-workers", "2", "--cpus-per-worker", "1")
"""For which a command starts a Ray."""
LONG_FOLDER = (
    "a_long_folder_of_a_job_on_a_cluster_0123456789/1355700/tmp.t0016/scratch/of/this/very/job"
)
MODULE = (sys.executable, "-m", "lstmfcn")


def cases() -> Iterator[Case]:
    """All cases of this module."""
    yield Case("predict", "--keep-columns of a timestamp", _keeps("when", "2026-01-01"))
    yield Case("predict", "--keep-columns of a date", _keeps("day", "2026-01-01"))
    yield Case("predict", "--keep-columns of text with a comma", _keeps("note", "a,b"))
    yield Case("predict", "--keep-columns y", _keeps_label)
    yield Case("predict", "--keep-columns of an unknown name", _unknown_column)
    yield Case("predict", "two files of one name in two folders", _mirrors)
    yield Case("predict", "the output within the input", _output_within)
    yield Case("predict", "the rate", _rate)
    yield Case("report", "1 shard", _one_shard)
    yield Case("data arguments", "train a.csv b.csv", _several("{0} {1}"))
    yield Case("data arguments", "train --train a.csv b.csv", _several("--train {0} {1}"))
    yield Case(
        "data arguments", "train --train a.csv --train b.csv", _several("--train {0} --train {1}")
    )
    yield Case("surroundings", "files ray.py and torch.py beside the data", _shadowed)
    yield Case("surroundings", "the first training of a machine", _first_training)
    yield Case("surroundings", "HOME that cannot be written, a long TMPDIR", _no_place_for_files)


def _model(folder: Path) -> Path:
    trained().artifact.save(folder / "model")
    return folder / "model"


def _predicted(folder: Path, data: object, *flags: str) -> Path:
    output = folder / "predicted"
    ended = run("predict", "--model", _model(folder), "--input", data, "--output", output, *flags)
    assert ended.code == 0, ended.stderr[-600:]
    return output


def _keeps(column: str, start: str) -> Act:
    def act(inputs: Path, folder: Path) -> None:
        data = inputs / "timestamps_beside.parquet"
        output = _predicted(folder, data, "--keep-columns", column)
        (file,) = output.glob("*.csv")
        kept = pd.read_csv(file, dtype=str)[column]
        assert len(kept) == N
        assert kept[0].startswith(start), kept[0]

    return act


def _keeps_label(inputs: Path, folder: Path) -> None:
    output = _predicted(folder, inputs / "base.csv", "--keep-columns", "y")
    table = pd.read_csv(output / "base.csv")
    assert table["y_true"].tolist() == NAMES.tolist(), table.columns


def _unknown_column(inputs: Path, folder: Path) -> None:
    words = ("--model", _model(folder), "--input", inputs / "base.csv", "--output", folder / "out")
    ended = run("predict", *words, "--keep-columns", "nope")
    refused(ended, "nope")
    assert "Ray" not in ended.stderr


def _mirrors(inputs: Path, folder: Path) -> None:
    output = _predicted(folder, str(inputs / "same_names" / "*" / "day1.csv"))
    found = sorted(str(path.relative_to(output)) for path in output.rglob("day1.csv"))
    assert found == ["site_a/day1.csv", "site_b/day1.csv"], found


def _output_within(inputs: Path, folder: Path) -> None:
    data = folder / "data"
    data.mkdir()
    (data / "base.csv").write_text((inputs / "base.csv").read_text())
    words = ("--model", _model(folder), "--input", data, "--output", data / "out")
    for _ in range(2):
        ended = run("predict", *words)
        if ended.code:
            refused(ended, "output|within|inside")
        else:
            assert sorted(path.name for path in (data / "out").glob("*.csv")) == ["base.csv"]


def _rate(inputs: Path, folder: Path) -> None:
    words = ("--model", _model(folder), "--input", inputs / "base.csv", "--output", folder / "out")
    ended = run("predict", *words)
    rates = re.findall(r"([\d,.]+) rows/s", ended.stdout + ended.stderr)
    assert all(float(rate.replace(",", "")) > 50 for rate in rates), rates


def _one_shard(inputs: Path, folder: Path) -> None:
    words = (
        "--model",
        _model(folder),
        "--data",
        inputs / "base.csv",
        "--output",
        folder / "report",
    )
    ended = run("report", *words)
    assert ended.code == 0, ended.stderr[-400:]
    page = (folder / "report" / "report.html").read_text()
    for text in (ended.stdout + ended.stderr, page):
        assert "1 shards" not in text


def _several(words: str) -> Act:
    def act(inputs: Path, folder: Path) -> None:
        files = (str(inputs / "base.csv"), str(inputs / "tab.csv"))
        ended = run("train", *words.format(*files).split(), "--output", folder / "run", *TINY)
        assert ended.code == 0, ended.stderr[-600:]
        assert f"{2 * N} rows" in ended.stderr + ended.stdout, ended.stderr

    return act


def trains(
    inputs: Path,
    folder: Path,
    *flags: str,
    program: tuple[object, ...] = MODULE,
    **surroundings: str,
) -> subprocess.CompletedProcess[str]:
    """Train on the base table in a process of its own, whose current folder is this one."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    output = folder / "run"
    return subprocess.run(
        [*program, "train", "--train", inputs / "base.csv", "--output", output, *TINY, *flags],
        cwd=folder,
        env=environment | surroundings,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def _shadowed(inputs: Path, folder: Path) -> None:
    for name in ("ray.py", "torch.py", "numpy.py", "lstmfcn.py"):
        (folder / name).write_text("raise SystemExit('a file of the user was imported')\n")
    program = (Path(sys.executable).with_name("lstmfcn"),)
    ended = trains(inputs, folder, *TWO_WORKERS, program=program)
    message = ended.stderr.splitlines()[-1]
    assert ended.returncode == 2, ended.stderr[-600:]  # before a Ray is started
    assert message.startswith("lstmfcn: "), message
    assert ".py" in message, message
    assert not (folder / "run").exists()
    alone = trains(inputs, folder, program=program)
    assert alone.returncode == 0, alone.stderr[-600:]  # Python looks in that folder for nothing


def _first_training(inputs: Path, folder: Path) -> None:
    ended = trains(inputs, folder, MPLCONFIGDIR=str(folder / "matplotlib"))
    assert ended.returncode == 0, ended.stderr[-600:]
    assert "fontManager" not in ended.stderr + ended.stdout


def _no_place_for_files(inputs: Path, folder: Path) -> None:
    """tests/ray/test_own_ray.py starts a Ray there."""
    temporary = folder / LONG_FOLDER
    temporary.mkdir(parents=True)
    ended = trains(inputs, folder, HOME="/proc", TMPDIR=str(temporary))
    assert "Traceback" not in ended.stderr, ended.stderr[-600:]
    assert ended.returncode == 0, ended.stderr[-600:]
