"""What the endpoint costs, beside LitServe and the same application on bare uvicorn.

    python -m benchmarks.serving.endpoint --litserve-python PATH [--only one_row ...]

PATH is the Python of an environment that has litserve and lstmfcn's core. Needs wrk. The model is
the paper's network with random weights, T = 100, 3 classes, one thread per process. Servers take
turns; each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.common import CPUS, PLAIN, REPOSITORY, main, print_ratio, print_table
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.network import LSTMFCN

N_TIMEPOINTS = 100
PORT = 8130


class Load(NamedTuple):
    """What wrk measured."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float


def one_row(arguments: argparse.Namespace) -> None:
    """Requests of one row, by wrk: 32 connections and 1."""
    model, precision = random_model(arguments.folder / "model"), arguments.precision
    servers: dict[str, list[Any]] = {}
    for count in (CPUS, 1):
        servers[f"endpoint, {count}"] = lstmfcn_command(model, precision, count)
        servers[f"uvicorn, {count}"] = [
            sys.executable, "uvicorn_server.py", model, PORT, precision, count,
        ]  # fmt: skip
    for workers, batch in ((CPUS, 1), (1, 32), (CPUS, 32)):
        servers[f"LitServe, {workers} workers, batch {batch}"] = [
            arguments.litserve_python, "litserve_server.py", model, PORT, precision, workers, batch,
        ]  # fmt: skip
    loads: dict[str, dict[int, list[Load]]] = {name: {1: [], 32: []} for name in servers}
    body = json.dumps({"instances": [series(1)[0].tolist()]})
    script = arguments.folder / "post.lua"
    script.write_text(f"wrk.method='POST'; wrk.body='{body}'; "
                      "wrk.headers['Content-Type']='application/json'\n")  # fmt: skip
    for _ in range(arguments.rounds):
        for name, command in servers.items():
            with server(command):
                for connections in (1, 32):
                    loads[name][connections].append(wrk(script, connections, arguments.seconds))
    rates = {name: median(x.requests_per_second for x in each[32]) for name, each in loads.items()}
    delays = {name: median(x.p50_ms for x in each[1]) for name, each in loads.items()}
    print_table([
        {
            "server": name,
            "32 connections, requests/s": rates[name],
            "p99 ms": median(load.p99_ms for load in each[32]),
            "one connection, p50 ms": delays[name],
            "its p99 ms": median(load.p99_ms for load in each[1]),
        }
        for name, each in loads.items()
    ])  # fmt: skip
    peers = [name for name in loads if name.startswith("LitServe")]
    ours = f"endpoint, {CPUS}"
    rate = rates[ours] / max(rates[name] for name in peers)
    print_ratio("requests/s, endpoint / best LitServe", rate, least=1.3)
    delay = delays[ours] / min(delays[name] for name in peers)
    print_ratio("p50, endpoint / quickest LitServe", delay, most=0.5)
    for count in (CPUS, 1):
        rate = rates[f"endpoint, {count}"] / rates[f"uvicorn, {count}"]
        print_ratio(f"requests/s, endpoint / uvicorn, {count} processes each", rate, least=0.7)


def many_rows(arguments: argparse.Namespace) -> None:
    """CSV requests of 100 and 1,000 rows, two clients per CPU, against the bare Classifier.

    The Classifier runs in turn with the requests, while the endpoint is up and idle.
    """
    model, precision = random_model(arguments.folder / "model"), arguments.precision
    scripts = {rows: _csv_script(arguments.folder, rows) for rows in (100, 1000)}
    bare: list[float] = []
    rates: dict[int, list[float]] = {rows: [] for rows in scripts}
    with server(lstmfcn_command(model, precision)):
        for _ in range(arguments.rounds):
            bare.append(bare_rows_per_second(model, precision, arguments.seconds))
            for rows, script in scripts.items():
                load = wrk(script, CPUS * 2, arguments.seconds)
                rates[rows].append(rows * load.requests_per_second)
    print_table([{"rows a request": rows, "rows/s": median(each), "bare rows/s": median(bare)}
                 for rows, each in rates.items()])  # fmt: skip
    for rows, each in rates.items():
        print_ratio(f"{rows} rows, endpoint / bare", median(each) / median(bare), least=0.8)


def _csv_script(folder: Path, rows: int) -> Path:
    script, body = folder / f"post-{rows}.lua", folder / f"{rows}.csv"
    body.write_text(csv_text(rows))
    script.write_text(
        f"local f = io.open('{body}'); wrk.body = f:read('*a'); f:close(); "
        "wrk.method='POST'; wrk.headers['Content-Type']='text/csv'\n"
    )
    return script


def bare_rows_per_second(model: Path, precision: str, seconds: float) -> float:
    """The Classifier alone, in as many processes of one thread as there are CPUs."""
    words = [sys.executable, "-c", _BARE, str(model), precision, str(seconds)]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(CPUS)]
    return sum(float(process.communicate()[0]) for process in processes)


_BARE = """
import sys, time
import numpy as np, torch
from lstmfcn.inference.predictor import Classifier
torch.set_num_threads(1)
classifier = Classifier.load(sys.argv[1], sys.argv[2])
x = np.random.default_rng(0).standard_normal((1000, 100)).astype(np.float32)
classifier.predict_proba(x)
rows, began = 0, time.perf_counter()
while time.perf_counter() - began < float(sys.argv[3]):
    rows += len(classifier.predict_proba(x))
print(rows / (time.perf_counter() - began))
"""


def random_model(folder: Path) -> Path:
    """The paper's network with random weights."""
    torch.manual_seed(0)
    columns = ["y_1", "y_2", "y_3", *(f"x_{i}" for i in range(1, N_TIMEPOINTS + 1))]
    Artifact(
        PLAIN,
        SeriesSchema.from_header(columns, "multiclass"),
        Scaler.fit("global", series(512)),
        LSTMFCN(PLAIN, N_TIMEPOINTS, 3).state_dict(),
    ).save(folder)
    Classifier.load(folder)
    return folder


def series(n_rows: int) -> Any:
    """Random values."""
    random = np.random.default_rng(0)
    return random.standard_normal((n_rows, N_TIMEPOINTS)).astype(np.float32).round(6)


def csv_text(n_rows: int) -> str:
    """Random values, as users send them."""
    return "".join(",".join(f"{v:.6f}" for v in row) + "\n" for row in series(n_rows).tolist())


def lstmfcn_command(model: Path, precision: str, num_replicas: int = CPUS) -> list[Any]:
    """The endpoint as users start it."""
    return [sys.executable, "-m", "lstmfcn", "serve", "--model", model, "--port", PORT,
            "--precision", precision, "--num-replicas", num_replicas]  # fmt: skip


@contextmanager
def server(command: list[Any]) -> Iterator[None]:
    """Run a server from before its first answer to the end of this block."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        ["env", "--default-signal=INT", "--", *map(str, command)],  # ignored behind a shell's &
        cwd=Path(__file__).parent,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait_until_it_answers(process)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _wait_until_it_answers(process: subprocess.Popen[bytes]) -> None:
    body = json.dumps({"instances": series(1).tolist()}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/invocations", body, {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the server ended with {process.returncode}: {process.args!r}")
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            time.sleep(1)  # the other processes too
            return
    sys.exit(f"the server did not answer: {process.args!r}")


def wrk(script: Path, connections: int, seconds: int) -> Load:
    """One run of wrk; exits where answers are errors."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s",
             "-s", str(script), f"http://127.0.0.1:{PORT}/invocations"]  # fmt: skip
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(text)
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", text)[0])
    return Load(rate, _milliseconds(text, "50%"), _milliseconds(text, "99%"))


def _milliseconds(text: str, share: str) -> float:
    number, unit = re.findall(rf"{share}\s+([\d.]+)(us|ms|s)", text)[0]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


if __name__ == "__main__":
    options = {
        "--litserve-python": {"required": True},
        "--precision": {"choices": ("fp32", "bf16"), "default": "fp32"},
        "--rounds": {"type": int, "default": 3},
        "--seconds": {"type": int, "default": 6},
    }
    main(__doc__, (one_row, many_rows), options, data=False)
