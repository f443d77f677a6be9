"""What the endpoint costs, beside LitServe and the same application on bare uvicorn.

    python benchmarks/serve.py --litserve-python PATH [--only one_row ...]

PATH is the Python of an environment that has litserve and lstmfcn's core. Needs wrk. The model is
the paper's net with random weights, T = 100, 3 classes, a thread a process; the endpoint and
uvicorn with as many processes as CPUs, and with one. Servers take turns; each figure is the
median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from commands import PLAIN, REPOSITORY

from lstmfcn.artifact import Artifact
from lstmfcn.classifier import Classifier
from lstmfcn.model import LSTMFCN
from lstmfcn.scaling import Scaler
from lstmfcn.schema import SeriesSchema

N_TIMEPOINTS = 100
CPUS = os.cpu_count() or 1
PARTS = ("one_row", "many_rows")
PORT = 8130


class Load(NamedTuple):
    """What wrk saw."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    """Print one table a part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--litserve-python", required=True)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "model")
        for part in arguments.only:
            print(f"\n{part}, {arguments.precision}", flush=True)
            globals()[part](model, arguments)


def one_row(model: Path, arguments: argparse.Namespace) -> None:
    """Requests of one row, by wrk: 32 connections and 1."""
    servers: dict[str, list[Any]] = {}
    for count in (CPUS, 1):
        servers[f"endpoint, {count}"] = lstmfcn_command(model, arguments.precision, count)
        servers[f"uvicorn, {count}"] = [
            sys.executable, "uvicorn_server.py", model, PORT, arguments.precision, count,
        ]  # fmt: skip
    for workers, batch in ((CPUS, 1), (1, 32), (CPUS, 32)):
        servers[f"LitServe, {workers} workers, batch {batch}"] = [
            arguments.litserve_python, "litserve_server.py", model, PORT, arguments.precision,
            workers, batch,
        ]  # fmt: skip
    found: dict[str, dict[int, list[Load]]] = {name: {1: [], 32: []} for name in servers}
    body = {"instances": [series(1)[0].tolist()]}
    script = model.parent / "post.lua"
    script.write_text(
        f"wrk.method='POST'; wrk.body='{json.dumps(body)}'; "
        "wrk.headers['Content-Type']='application/json'\n"
    )
    for _ in range(arguments.rounds):
        for name, command in servers.items():
            with server(command):
                for connections in (1, 32):
                    found[name][connections].append(wrk(script, connections, arguments.seconds))
    rates = {name: median(x.requests_per_second for x in f[32]) for name, f in found.items()}
    delays = {name: median(x.p50_ms for x in f[1]) for name, f in found.items()}
    for name, by in found.items():
        tails = [median(load.p99_ms for load in by[n]) for n in (1, 32)]
        print(
            f"  {name}: 32 connections {rates[name]:.0f} requests/s (p99 {tails[1]:.0f} ms), "
            f"one connection p50 {delays[name]:.2f} ms (p99 {tails[0]:.1f} ms)"
        )
    peers = [name for name in found if name.startswith("LitServe")]
    best, quickest = max(rates[n] for n in peers), min(delays[n] for n in peers)
    ours = f"endpoint, {CPUS}"
    print(
        f"  endpoint / best LitServe {rates[ours] / best:.2f} (target 1.3); "
        f"latency / quickest LitServe {delays[ours] / quickest:.2f} (target 0.5)"
    )
    for count in (CPUS, 1):
        share = rates[f"endpoint, {count}"] / rates[f"uvicorn, {count}"]
        print(f"  endpoint / uvicorn, {count} processes each: {share:.2f} (target 0.7)")


def many_rows(model: Path, arguments: argparse.Namespace) -> None:
    """CSV requests of 100 and 1,000 rows, two clients for each CPU, against the bare Classifier.

    The Classifier runs alone in turn with the requests, while the endpoint is up and idle.
    """
    scripts = {rows: _csv_script(model.parent, rows) for rows in (100, 1000)}
    bare: list[float] = []
    rates: dict[int, list[float]] = {rows: [] for rows in scripts}
    with server(lstmfcn_command(model, arguments.precision)):
        for _ in range(arguments.rounds):
            bare.append(bare_rows_per_second(model, arguments.precision, arguments.seconds))
            for rows, script in scripts.items():
                load = wrk(script, CPUS * 2, arguments.seconds)
                rates[rows].append(rows * load.requests_per_second)
    for rows, found in rates.items():
        print(
            f"  {rows} rows a request: {median(found):.0f} rows/s, bare Classifier in {CPUS} "
            f"processes {median(bare):.0f}; ratio {median(found) / median(bare):.2f} (target 0.8)",
            flush=True,
        )


def _csv_script(folder: Path, rows: int) -> Path:
    script, body = folder / f"post-{rows}.lua", folder / f"{rows}.csv"
    body.write_text(csv_text(rows))
    script.write_text(
        f"local f = io.open('{body}'); wrk.body = f:read('*a'); f:close(); "
        "wrk.method='POST'; wrk.headers['Content-Type']='text/csv'\n"
    )
    return script


def bare_rows_per_second(model: Path, precision: str, seconds: float) -> float:
    """The Classifier alone, on as many processes of a thread as the endpoint has."""
    commands = [sys.executable, "-c", _BARE, str(model), precision, str(seconds)]
    processes = [subprocess.Popen(commands, stdout=subprocess.PIPE, text=True) for _ in range(CPUS)]
    return sum(float(process.communicate()[0]) for process in processes)


_BARE = """
import sys, time
import numpy as np, torch
from lstmfcn.classifier import Classifier
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
    """The paper's net with random weights."""
    torch.manual_seed(0)
    columns = ["y_1", "y_2", "y_3", *(f"x_{i}" for i in range(1, N_TIMEPOINTS + 1))]
    hyperparameters = PLAIN
    network = LSTMFCN(hyperparameters, N_TIMEPOINTS, 3)
    Artifact(
        hyperparameters,
        SeriesSchema.from_header(columns, "multiclass"),
        Scaler.fit("global", series(512)),
        network.state_dict(),
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
    """Run a server until it answers, and stop it after."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        ["env", "--default-signal=INT", "--", *map(str, command)],  # ignored behind a shell's &
        cwd=REPOSITORY / "benchmarks",
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
    """One run of wrk; refuses answers that are errors."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s",
               "-s", str(script), f"http://127.0.0.1:{PORT}/invocations"]  # fmt: skip
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(text)
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", text)[0])
    return Load(rate, _milliseconds(text, "50%"), _milliseconds(text, "99%"))


def _milliseconds(text: str, share: str) -> float:
    number, unit = re.findall(rf"{share}\s+([\d.]+)(us|ms|s)", text)[0]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


if __name__ == "__main__":
    main()
