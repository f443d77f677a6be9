"""All of the package on a GPU, checked and measured in one run of at most 8 minutes.

    python -m benchmarks.gpu.all [--only training ...]
    python -m benchmarks.gpu.all --device cpu --rows 300

Each part prints a table and its ratio to a bare loop, or to the CPUs, on the same card. With
``--device cpu`` and few rows the same code runs without a GPU, to see that it runs; its figures
say nothing then. The bare loops are 40 lines of PyTorch with a CUDA graph of their own.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import (
    CPUS,
    PLAIN,
    PlainLSTMFCN,
    command,
    main,
    print_ratio,
    print_table,
    train,
    write_random_shards,
)
from lstmfcn.data.columns import value_names
from lstmfcn.data.dataset import Dataset
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.inference.fused_network import FusedEnsemble
from lstmfcn.inference.predictor import Classifier
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.replay import Pool, capture
from lstmfcn.training import loop
from lstmfcn.training.batches import EvaluationLoader, WorkerContext
from lstmfcn.training.loop import fit
from lstmfcn.training.state import set_up

N_CLASSES = 5
PORT = 8140
NETS = {
    "lstm-fcn": {},
    "several layers": {"num_layers": 2},
    "malstm-fcn, 3 channels, masked": {"network": "malstm-fcn", "missing": "mask", "channels": 3},
    "differences, masked": {"view": "differences", "missing": "mask"},
    "coarse": {"view": "coarse"},
    "balanced, smoothed": {"class_weight": "balanced", "label_smoothing": 0.1},
}
"""What the networks that are checked have besides small sizes."""


def exact(arguments: argparse.Namespace) -> None:
    """Graphs train as single kernels do, bit for bit, and a GPU predicts as the CPU does."""
    rows = []
    for name, changes in NETS.items():
        values: dict[str, Any] = {"dropout": 0.5, "epochs": 2, "batch_size": 32, **changes}
        channels = values.pop("channels", 1)
        h = Hyperparameters(rows_per_epoch=0, hidden_size=8, filters_1=16, filters_2=16,
                            filters_3=16, **values)  # fmt: skip
        schema = schema_of(60, channels, h.missing)
        data = random_rows(200, schema)
        for precision in ("fp32", "bf16"):
            h = h.model_copy(update={"precision": precision})
            graphs = fitted(h, schema, data, arguments.device)
            with without_graphs():
                kernels = fitted(h, schema, data, arguments.device)
            artifact = Artifact(h, schema, Scaler.fit("none", data.values, 1), graphs, {}, {})
            here = Classifier(artifact, device="cpu").predict_validated(data.values)
            there = Classifier(artifact, device=arguments.device).predict_validated(data.values)
            rows.append({
                "network": name,
                "precision": precision,
                "weights that differ": sum(not torch.equal(graphs[n], kernels[n]) for n in graphs),
                "largest difference": max(float((graphs[n] - kernels[n]).abs().max())
                                          for n in graphs),
                "GPU's probabilities from the CPU's": float(np.abs(here - there).max()),
            })  # fmt: skip
    print_table(rows)
    worst = max(float(row["GPU's probabilities from the CPU's"]) for row in rows)
    print_ratio("largest difference of a probability, fp32", worst, most=1e-5)


def training(arguments: argparse.Namespace) -> None:
    """The paper's network, rows/s, beside the same network in a bare loop with a CUDA graph."""
    rows = []
    for n_timepoints in (100, 187):
        for batch_size in (64, 128, 1024):
            h = PLAIN.model_copy(update={"batch_size": batch_size})
            n_rows = min(32_768, arguments.rows)
            ours = fit_rows_per_second(h, n_timepoints, n_rows, arguments.device)
            bare = bare_rows_per_second(h, n_timepoints, n_rows, arguments.device, graph=True)
            eager = bare_rows_per_second(h, n_timepoints, n_rows, arguments.device, graph=False)
            rows.append({"T": n_timepoints, "batch": batch_size, "lstmfcn": ours,
                         "bf16 graph": bare, "Conv1d fp32 eager": eager, "/ graph": ours / bare,
                         "/ eager": ours / eager})  # fmt: skip
    print_table(rows)
    for row in rows[:3]:
        print_ratio(f"batch {row['batch']} / best bare graph", float(row["/ graph"]), least=0.9)
    print_ratio("batch 128 / eager fp32 Conv1d", float(rows[1]["/ eager"]), least=6)
    print_ratio("rows/s at batch 1,024 / 700,000", float(rows[2]["lstmfcn"]) / 7e5, least=1)


def small(arguments: argparse.Namespace) -> None:
    """The default network on small sets: milliseconds a step."""
    rows = []
    for n_rows, n_timepoints, batch_size, target in ((67, 24, 8, 0.35), (500, 150, 16, 0.45)):
        h = Hyperparameters(batch_size=batch_size)
        steps = -(-max(n_rows, h.rows_per_epoch) // batch_size)
        seconds = median(epoch_seconds(h, n_timepoints, n_rows, arguments.device, epochs=12)[2:])
        rows.append({"rows": n_rows, "T": n_timepoints, "batch": batch_size,
                     "ms a step": 1e3 * seconds / steps, "target": target})  # fmt: skip
    print_table(rows)


def command_to_model(arguments: argparse.Namespace) -> None:
    """`lstmfcn train` on the size of MIT-BIH, 20 epochs, from the command to the model."""
    n_rows = min(87_554, arguments.rows)
    write_random_shards(arguments.folder / "data", n_rows, 187, 4)
    flags = [arguments.folder / "data", "--output", arguments.folder / "run", "--epochs", 20]
    found = train(*flags, *gpu_flag(arguments))
    print_table([{"rows": n_rows, "total s": found.total_s, "start s": found.start_up_s,
                  "epochs s": found.epochs_s}])  # fmt: skip
    print_ratio("seconds / 15", found.total_s / 15, most=1)


def sweep(arguments: argparse.Namespace) -> None:
    """A sweep of 32 trials of 5 epochs on 700 x 100 rows, on the GPU and on the CPUs."""
    write_random_shards(arguments.folder / "data", 700, 100, 1)
    n_trials = 32 if arguments.rows > 1000 else 2
    seconds = {}
    for where, flag in (("GPU", gpu_flag(arguments)), ("CPUs", ["--no-use-gpu"])):
        began = time.perf_counter()
        command(
            "tune", arguments.folder / "data", "--validation", arguments.folder / "data",
            "--output", arguments.folder / where, "--num-samples", n_trials, "--epochs", 5, *flag,
        )  # fmt: skip
        seconds[where] = time.perf_counter() - began
    print_table([{"trials": n_trials, "CPUs": CPUS, **seconds}])
    print_ratio("GPU / CPUs", seconds["GPU"] / seconds["CPUs"], most=0.5)


def ensemble(arguments: argparse.Namespace) -> None:
    """`--recipe best`, 6 members, beside one member."""
    write_random_shards(arguments.folder / "data", min(2000, arguments.rows), 100, 1)
    seconds = {}
    for members in (6, 1):
        output = arguments.folder / f"run-{members}"
        flags = [arguments.folder / "data", "--output", output, "--epochs", 20]
        best = ["--recipe", "best", "--members", members]
        best += ["--view", "series"] if members == 1 else []  # all views need several members
        found = train(*flags, *best, *gpu_flag(arguments))
        seconds[members] = found.total_s
    print_table([{f"{members} members s": each for members, each in seconds.items()}])
    print_ratio("6 members / 1", seconds[6] / seconds[1], most=2)


def prediction(arguments: argparse.Namespace) -> None:
    """`Classifier` on rows in memory, beside a bare graph, and the CPU."""
    artifact = random_artifact(100)
    n_rows = min(1 << 17, arguments.rows)
    values = np.random.default_rng(0).standard_normal((n_rows, 100)).astype(np.float32)
    rows = []
    for precision in ("fp32", "bf16"):
        there = Classifier(artifact, precision, arguments.device)
        here = Classifier(artifact, precision, "cpu")
        few = values[:4096]
        ours, cpu = speed(there.predict_validated, values), speed(here.predict_validated, few)
        bare = bare_prediction(artifact, precision, few, arguments.device)
        far = np.abs(there.predict_validated(few) - here.predict_validated(few)).max()
        rows.append({"precision": precision, "Classifier": ours, "bare graph": bare,
                     "CPU": cpu, "/ graph": ours / bare, "from the CPU's": far})  # fmt: skip
    print_table(rows)
    for row in rows:
        print_ratio(f"{row['precision']} / bare graph", float(row["/ graph"]), least=0.85)


def predict(arguments: argparse.Namespace) -> None:
    """`lstmfcn predict` of 1,000,000 rows from CSV, beside reading them alone."""
    n_rows = min(1_000_000, arguments.rows)
    random_artifact(100).save(arguments.folder / "model")
    write_random_shards(arguments.folder / "data", n_rows, 100, 8)
    began = time.perf_counter()
    command("check", arguments.folder / "data")
    read_s = time.perf_counter() - began
    began = time.perf_counter()
    flags = ["--model", arguments.folder / "model", "--output", arguments.folder / "out"]
    command("predict", arguments.folder / "data", *flags)
    seconds = time.perf_counter() - began
    shutil.rmtree(arguments.folder / "data")
    print_table([{"rows": n_rows, "check s": read_s, "predict s": seconds}])
    print_ratio("reading and checking / predict", read_s / seconds, least=0.8)


def endpoint(arguments: argparse.Namespace) -> None:
    """The endpoint: rows/s of 100-row requests from 8 clients, on the GPU and on 2 CPU replicas."""
    random_artifact(100).save(arguments.folder / "model")
    body = arguments.folder / "body.csv"
    values = np.random.default_rng(0).standard_normal((100, 100)).round(4)
    body.write_text("\n".join(",".join(map(str, row)) for row in values) + "\n")
    gpu = ["--use-gpu"] if arguments.device == "cuda" else []
    rates = {}
    for where, flags in (("GPU", gpu), ("2 CPU replicas", ["--num-replicas", "2"])):
        rates[where] = endpoint_rows_per_second(arguments.folder / "model", flags, body)
    print_table([rates])
    print_ratio("GPU / 2 CPU replicas", rates["GPU"] / rates["2 CPU replicas"], least=10)


def gpu_flag(arguments: argparse.Namespace) -> list[str]:
    """The flag of `train` and `tune` that chooses the device."""
    return ["--use-gpu"] if arguments.device == "cuda" else ["--no-use-gpu"]


@contextmanager
def without_graphs() -> Any:
    """Train and predict kernel by kernel."""
    before = loop.graphed
    loop.graphed = lambda function, *_, **__: function  # type: ignore[assignment]
    try:
        yield
    finally:
        loop.graphed = before


def schema_of(n_timepoints: int, n_channels: int = 1, missing: str = "refuse") -> SeriesSchema:
    """A schema of random series."""
    columns = value_names(n_channels, n_timepoints)
    labels = [f"y_{k + 1}" for k in range(N_CLASSES)]
    return SeriesSchema(task="multiclass", value_columns=columns, label_columns=labels,
                        classes=labels, n_channels=n_channels, missing=missing)  # fmt: skip


def random_rows(n_rows: int, schema: SeriesSchema) -> Dataset:
    """Normally distributed series with random classes; with gaps where they are masked."""
    random = np.random.default_rng(0)
    values = random.standard_normal((n_rows, schema.n_values)).astype(np.float32)
    if schema.missing == "mask":
        values[::3, -5:] = np.nan
    return Dataset(values, random.integers(0, N_CLASSES, n_rows))


def fitted(h: Hyperparameters, schema: SeriesSchema, rows: Dataset, device: str) -> dict[str, Any]:
    """The weights of the best epoch."""
    share = WorkerContext(device=torch.device(device))
    state, task, batches = set_up(rows, schema, h, share=share)
    fit(state, task, batches, EvaluationLoader(rows, share), h, lambda _: None)
    return state.best_weights


def epoch_seconds(
    h: Hyperparameters, n_timepoints: int, n_rows: int, device: str, epochs: int
) -> list[float]:
    """Seconds of each epoch of the package's own loop."""
    h = h.model_copy(update={"epochs": epochs})
    schema, seconds = schema_of(n_timepoints), list[float]()
    share = WorkerContext(device=torch.device(device))
    state, task, batches = set_up(random_rows(n_rows, schema), schema, h, share=share)
    fit(state, task, batches, None, h, lambda metrics: seconds.append(float(metrics["seconds"])))
    return seconds


def fit_rows_per_second(h: Hyperparameters, n_timepoints: int, n_rows: int, device: str) -> float:
    """Median speed of the epochs after the first, which captures the graphs."""
    return n_rows / median(epoch_seconds(h, n_timepoints, n_rows, device, epochs=5)[1:])


def bare_rows_per_second(
    h: Hyperparameters, n_timepoints: int, n_rows: int, device: str, graph: bool
) -> float:
    """The same network and optimiser in a bare loop over full batches.

    Args:
        graph: the package's network, channels-last, in bf16, as a CUDA graph; else the network as
            it is usually written, kernel by kernel.
    """
    rows = random_rows(n_rows, schema_of(n_timepoints))
    x, y = torch.from_numpy(rows.values).to(device), torch.from_numpy(rows.labels).to(device)
    net: nn.Module = (BareNet if graph else PlainLSTMFCN)(h, n_timepoints, N_CLASSES).to(device)
    if graph:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    on_gpu = device == "cuda"
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True, capturable=on_gpu and graph)
    batch = min(h.batch_size, n_rows)
    mine = torch.zeros(batch, dtype=torch.int64, device=device)

    def step() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=graph):
            logits = net(x[mine])
        loss = F.cross_entropy(logits.float(), y[mine])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    run = capture(step, Pool()) if graph and on_gpu else step
    seconds = []
    for _ in range(4):
        order = torch.randperm(n_rows, device=device)
        synchronize(device)
        began = time.perf_counter()
        for start in range(0, n_rows - batch + 1, batch):
            mine.copy_(order[start : start + batch])
            run()
        synchronize(device)
        seconds.append((time.perf_counter() - began) / (n_rows // batch * batch))
    return 1 / median(seconds[1:])


class BareNet(nn.Module):
    """The paper's network over images of height 1, with PyTorch's own layers."""

    def __init__(self, h: Hyperparameters, n_timepoints: int, n_classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_timepoints, h.hidden_size, batch_first=True)
        self.dropout, blocks = nn.Dropout(h.dropout), []
        sizes = (1, h.filters_1, h.filters_2, h.filters_3)
        kernels = (h.kernel_size_1, h.kernel_size_2, h.kernel_size_3)
        for i, k in enumerate(kernels):
            convolution = nn.Conv2d(sizes[i], sizes[i + 1], (1, k), padding="same")
            blocks += [convolution, nn.BatchNorm2d(sizes[i + 1]), nn.ReLU()]
        self.fcn = nn.Sequential(*blocks)
        self.head = nn.Linear(h.hidden_size + h.filters_3, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of series (N, T)."""
        lstm = self.dropout(self.lstm(x.unsqueeze(1))[0].squeeze(1))
        image = x[:, None, None].to(memory_format=torch.channels_last)
        return self.head(torch.cat([lstm, self.fcn(image).mean(dim=(2, 3))], dim=1))


def random_artifact(n_timepoints: int) -> Artifact:
    """The paper's network with random weights, as a model."""
    schema = schema_of(n_timepoints)
    rows = random_rows(256, schema)
    state, *_ = set_up(rows, schema, PLAIN)
    scaler = Scaler.fit("global", rows.values, 1)
    return Artifact(PLAIN, schema, scaler, dict(state.model.state_dict()), {}, {})


def speed(compute: Callable[[Any], Any], values: Any) -> float:
    """Rows per second: the best of three calls, after one."""
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        compute(values)
        seconds.append(time.perf_counter() - began)
    return len(values) / min(seconds[1:])


def bare_prediction(artifact: Artifact, precision: str, values: Any, device: str) -> float:
    """The fused network alone as a graph, with copies to and from pinned memory."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    network = FusedEnsemble.fuse(artifact.build_network().eval(), dtype, device)
    x = torch.from_numpy(values)
    own = x.to(device)
    with torch.inference_mode():

        def run() -> Tensor:
            return network.compute_logits(own)

        graph = capture(run, Pool()) if device == "cuda" else run
        pinned = x.pin_memory() if device == "cuda" else x

        def compute(_: Any) -> None:
            for _ in range(8):
                own.copy_(pinned, non_blocking=True)
                graph().cpu()

        return 8 * speed(compute, values)


def synchronize(device: str) -> None:
    """Wait for what the device was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def endpoint_rows_per_second(model: Path, flags: list[str], body: Path, seconds: int = 10) -> float:
    """Rows per second of 8 clients, each a process that sends one request after the other."""
    words = [sys.executable, "-m", "lstmfcn", "serve", str(model), "--port", str(PORT), *flags]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_ping()
        client = [sys.executable, "-c", CLIENT, str(PORT), str(body), str(seconds)]
        clients = [subprocess.Popen(client, stdout=subprocess.PIPE, text=True) for _ in range(8)]
        return sum(float(each.communicate()[0]) for each in clients)
    finally:
        server.terminate()
        server.wait(60)


def wait_for_ping() -> None:
    """Wait until the server answers."""
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/ping", timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    sys.exit("the server did not start within two minutes")


CLIENT = """
import http.client, sys, time
port, body, seconds = sys.argv[1:]
data, rows = open(body, "rb").read(), 0
connection = http.client.HTTPConnection("127.0.0.1", int(port))
began = time.perf_counter()
while time.perf_counter() - began < float(seconds):
    connection.request("POST", "/invocations", data, {"Content-Type": "text/csv"})
    answer = connection.getresponse()
    answer.read()
    rows += 100 * (answer.status == 200)
print(rows / (time.perf_counter() - began))
"""
"""A client, which prints its rows per second."""


if __name__ == "__main__":
    main(
        __doc__,
        [exact, training, small, prediction, command_to_model, ensemble, sweep, predict, endpoint],
        {
            "--device": {"choices": ["cuda", "cpu"], "default": "cuda"},
            "--rows": {"type": int, "default": 1_000_000, "help": "the most rows of a set"},
        },
        data=False,
    )
