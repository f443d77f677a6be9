"""Cases of commands that start Ray."""

from __future__ import annotations

import http.client
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pandas as pd

from tests.cases.arrays import trained
from tests.cases.case import Case, refused, run
from tests.cases.inputs import NAMES, N

Act = Callable[[Path, Path], None]
TINY = (
    *("--hidden-size", "4", "--filters-1", "4", "--filters-2", "4", "--filters-3", "4"),
    *("--epochs", "1", "--rows-per-epoch", "0"),
)


def cases() -> Iterator[Case]:
    """All cases; the first ones use one Ray that is already running."""
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


@contextmanager
def running() -> Iterator[None]:
    """Run Ray inside this block, for the commands of this process."""
    import ray

    from lstmfcn.distributed.cluster import prepare_environment

    prepare_environment()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        yield
    finally:
        ray.shutdown()


def alone() -> Iterator[Case]:
    """The cases that start Ray themselves, each in its own process."""
    long = (
        "a_long_folder_of_a_job_on_a_cluster_0123456789/1355700/tmp.t0016/scratch/of/this/very/job"
    )
    yield Case("surroundings", "TMPDIR of 100 characters", _trains(TMPDIR=long))
    yield Case("surroundings", "HOME that cannot be written", _trains(HOME="/proc"))
    yield Case("surroundings", "files ray.py and torch.py beside the data", _shadowed)
    yield Case("surroundings", "the first training of a machine", _first_training)
    yield Case("surroundings", "the token is its owner's alone", _token)
    yield Case("servers", "two of them, from start to end", _two_servers)


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


TWO_WORKERS = ("--num-workers", "2", "--cpus-per-worker", "1")
"""For which a command starts a Ray."""


def command(inputs: Path, folder: Path, **surroundings: str) -> subprocess.CompletedProcess[str]:
    """Train on the base table in a process that starts Ray itself."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [
            *(sys.executable, "-m", "lstmfcn", "train", "--train", inputs / "base.csv"),
            *("--output", folder / "run", *TINY, *TWO_WORKERS),
        ],
        cwd=folder,
        env=environment | surroundings,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def _trains(**surroundings: str) -> Act:
    def act(inputs: Path, folder: Path) -> None:
        given = dict(surroundings)
        if "TMPDIR" in given:
            given["TMPDIR"] = str(folder / given["TMPDIR"])
            Path(given["TMPDIR"]).mkdir(parents=True)
        ended = command(inputs, folder, **given)
        assert "Traceback" not in ended.stderr, ended.stderr[-600:]
        if ended.returncode:
            refused_line = ended.stderr.splitlines()[-1]
            assert ended.returncode == 2, ended.stderr[-600:]
            assert refused_line.startswith("lstmfcn: "), refused_line

    return act


def _shadowed(inputs: Path, folder: Path) -> None:
    for name in ("ray.py", "torch.py", "numpy.py", "lstmfcn.py"):
        (folder / name).write_text("raise SystemExit('a file of the user was imported')\n")
    program = Path(sys.executable).with_name("lstmfcn")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    alone, ended = (
        subprocess.run(
            [program, "train", inputs / "base.csv", "--output", folder / name, *TINY, *flags],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        for name, flags in (("alone", ()), ("run", TWO_WORKERS))
    )
    assert alone.returncode == 0, alone.stderr[-600:]  # Python looks in that folder for nothing
    message = ended.stderr.splitlines()[-1]
    assert ended.returncode == 2, ended.stderr[-600:]
    assert message.startswith("lstmfcn: "), message
    assert ".py" in message, message
    assert not (folder / "run").exists()


def _first_training(inputs: Path, folder: Path) -> None:
    ended = command(inputs, folder, MPLCONFIGDIR=str(folder / "matplotlib"))
    assert ended.returncode == 0, ended.stderr[-600:]
    assert "fontManager" not in ended.stderr + ended.stdout


def _token(inputs: Path, folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o755)
    ended = command(inputs, folder, HOME=str(home))
    assert ended.returncode == 0, ended.stderr[-600:]
    token = home / ".ray" / "auth_token"
    assert not token.exists() or stat.S_IMODE(token.stat().st_mode) == 0o600


def _two_servers(inputs: Path, folder: Path) -> None:  # noqa: ARG001 - the models are its own
    """Two endpoints never answer with each other's model, even when a replica dies."""
    ports = (_free_port(), _free_port())
    servers = []
    for port, name in zip(ports, ("first", "second"), strict=True):
        trained().artifact.save(folder / name)
        flags = ("--model", f"{name}={folder / name}", "--port", str(port), "--num-replicas", "1")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        servers.append(
            subprocess.Popen(
                [sys.executable, "-m", "lstmfcn", "serve", *flags],
                env=environment | {"RAY_AUTH_MODE": "token", "TMPDIR": mkdtemp()},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
        _wait_until(lambda port=port, name=name: name in _endpoints(port), 120)
    try:
        _kill_replicas(servers[1].pid)
        ended = time.monotonic() + 25
        while time.monotonic() < ended:
            assert "first" not in _endpoints(ports[1])
            assert "second" not in _endpoints(ports[0])
            time.sleep(0.05)
        _wait_until(lambda: "second" in _endpoints(ports[1]), 60)
    finally:
        for server in servers:
            server.send_signal(signal.SIGINT)
        for server in servers:
            server.wait(60)


def _endpoints(port: int) -> str:
    """The answer of GET /endpoints; empty if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/endpoints")
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _kill_replicas(session: int) -> None:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = os.getsid(int(process.name)) == session
            if ours and (process / "cmdline").read_bytes().startswith(b"ray::ServeReplica"):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue  # it ended


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until(holds: Callable[[], bool], seconds: float) -> None:
    ended = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ended, "it took too long"
        time.sleep(0.1)
