"""A cluster whose machines are lost, and jobs; the machines are real Ray nodes."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import ray.train
from prometheus_client.parser import text_string_to_metric_families

from lstmfcn.model.artifact import Artifact
from lstmfcn.training.checkpoints import find_newest
from lstmfcn.training.metrics_log import read_metrics
from tests.helpers.checkout import REPOSITORY
from tests.helpers.commands import run_job
from tests.helpers.heads import BIN, Head, free_ports
from tests.helpers.killing import epochs_in, train_workers, wait_until
from tests.helpers.no_cluster import no_cluster
from tests.helpers.problems import TINY, as_flags, waves, write

ROWS = 2400
PATIENCE_S = 240
ALONE = TINY.model_copy(update={"epochs": 8, "batch_size": 8})
ENDLESS = ALONE.model_copy(update={"epochs": 100_000})
TOGETHER = TINY.model_copy(update={"epochs": 10, "batch_size": 24})
"""Workers talk to each other in every step, so they have fewer of them."""


def flags(hyperparameters, data, output):
    given = {"cpus_per_worker": 1, "train": data, "output": output}
    return as_flags(hyperparameters.model_dump() | given)


def workers(most):
    return ["--num-workers", most, "--min-workers", "1", "--checkpoint-every-s", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("nodes") / "data", waves(ROWS), 2)


METRICS_PORT, *_ = free_ports(1)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    flags = ("--metrics-export-port", METRICS_PORT)
    often = {"RAY_metrics_report_interval_ms": "500"}
    head = Head(tmp_path_factory.mktemp("head"), flags, often)
    yield head
    head.stop()


def scraped():
    """The values of this package's metrics, by name and labels, as Prometheus reads them.

    Prometheus reads a page with all of them every few seconds. Before Ray 2.60 a value is on one
    page only, the next after it was reported.
    """
    prefix = "ray_lstmfcn_training_"
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=30) as page:
        families = text_string_to_metric_families(page.read().decode())
        return {
            (sample.name.removeprefix(prefix), sample.labels["run"], sample.labels.get("member")):
                sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith(prefix)
        }  # fmt: skip


def test_training_goes_on_where_one_machine_loses_its_power_and_another_its_raylet(
    tmp_path, data, head
):
    """The third has the head's address: the driver takes the head's raylet, as Ray does."""
    output = tmp_path / "run"
    with (
        head.joined("127.0.0.2") as second,
        head.joined() as third,
        head.driver("train", *flags(TOGETHER, data, output), *workers(3)) as process,
    ):
        (raylet,) = (pid for pid in third.processes() if name_of(pid) == "raylet")
        wait_until(lambda: epochs_in(output) >= 2, "epoch 2", PATIENCE_S)
        second.kill()
        wait_until(lambda: epochs_in(output) >= 5, "epoch 5", PATIENCE_S)
        os.kill(raylet, signal.SIGKILL)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, told
    assert told.count("lost a worker (its machine is gone); starting again ") == 2
    assert "Traceback" not in told
    history = read_metrics(output / "metrics.jsonl")
    assert [epoch["epoch"] for epoch in history] == list(range(1, TOGETHER.epochs + 1))
    assert {epoch["rows"] for epoch in history} == {ROWS}
    assert Artifact.load(output / "model").training["num_workers"] == 1


@pytest.mark.skipif(not hasattr(ray.train, "PreemptionError"), reason="from Ray 2.60 on")
def test_a_machine_that_is_taken_away_as_announced_leaves_a_checkpoint_before(tmp_path, data, head):
    output, checkpoints = tmp_path / "run", tmp_path / "run" / "checkpoints"
    given = flags(TOGETHER.model_copy(update={"epochs": 100_000}), data, output)
    counts = ("--num-workers", 2, "--min-workers", 1, "--checkpoint-every-s", 1000)
    with (
        head.joined("127.0.0.3") as second,
        head.driver("train", *given, *counts) as process,
    ):
        wait_until(lambda: epochs_in(output) >= 1, "an epoch", PATIENCE_S)
        assert find_newest(checkpoints) is None
        announce_the_end(head, "127.0.0.3", 20)
        wait_until(lambda: find_newest(checkpoints), "a checkpoint", PATIENCE_S)
        assert train_workers(str(second.folder))
        wait_until(
            lambda: not train_workers(str(second.folder)), "the end of its worker", PATIENCE_S
        )
        before = epochs_in(output)
        second.kill()
        wait_until(lambda: epochs_in(output) > before + 2, "the training to go on", PATIENCE_S)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, told
    assert told.count("a machine is taken away; continuing from the newest checkpoint") == 1
    assert "lost a worker" not in told
    history = read_metrics(output / "metrics.jsonl")
    assert [epoch["epoch"] for epoch in history] == list(range(1, len(history) + 1))
    assert {epoch["rows"] for epoch in history} == {ROWS}


def announce_the_end(head, ip, seconds):
    """What a cloud's autoscaler tells Ray of a machine that it will take away."""
    nodes = head.get("/api/v0/nodes")["data"]["result"]["result"]
    (node,) = (n["node_id"] for n in nodes if n["node_ip"] == ip and n["state"] == "ALIVE")
    told = {"reason": "DRAIN_NODE_REASON_PREEMPTION", "reason_message": "taken away"}
    given = {"address": head.address, "node_id": node, "deadline_remaining_seconds": seconds} | told
    subprocess.run([BIN / "ray", "drain-node", *as_flags(given)], env=head.environment, check=True)


READ_TWICE = """
import sys
from dataclasses import replace
from itertools import chain

import numpy as np
import pandas as pd
import ray

from lstmfcn.data import dataset
from lstmfcn.data.reader import open_dataset
from lstmfcn.distributed.read import needs_blocks, read_blocks

dataset.BLOCK_BYTES = 1 << 17
ray.init(log_to_driver=False, logging_level="ERROR")
shards = open_dataset(sys.argv[1])
tables = [pd.read_csv(shard.path).filter(like="x_") for shard in shards.shards]
expected = np.concatenate([table.to_numpy(np.float32) for table in tables])
values = read_blocks(shards, with_moments=True).rows.values
refs = values.read._refs
places = ray.experimental.get_object_locations(refs).values()
large = [replace(shard, size=200 << 20) for shard in shards.shards]
print(len(set(chain.from_iterable(place["node_ids"] for place in places))))
print(needs_blocks([shards], 10**12), needs_blocks([shards._replace(shards=large)], 10**12))
sys.stdout.flush()
input()
print(np.array_equal(values[:], expected))
"""
"""Reads shards into blocks, waits for a line, and prints whether they are still those rows."""


def test_blocks_that_a_lost_machine_held_are_read_again(tmp_path, head):
    data = write(tmp_path / "data", waves(40_000), 4)
    with (
        head.joined() as third,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", READ_TWICE, data],
            cwd=REPOSITORY,
            env=head.environment | {"RAY_ADDRESS": head.address},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout.readline() == "2\n"  # machines
            assert process.stdout.readline() == "False True\n"  # large data come to blocks
            third.kill()
            told, _ = process.communicate("\n", timeout=PATIENCE_S)  # Ray tells of the machine too
            assert told.splitlines()[-1] == "True"
        finally:
            process.kill()


def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


def submitted(head, name, *arguments, environment=None):
    """`ray job submit` of a training, as a process that shows its log."""
    job = ["--working-dir", REPOSITORY, "--submission-id", name, "--", "python", "jobs/train.py"]
    return subprocess.Popen(
        [BIN / "ray", "job", "submit", "--address", head.dashboard, *job, *arguments],
        env=environment or head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_job_shows_its_log_as_it_trains_and_leaves_a_model(head, data, tmp_path):
    output = tmp_path / "whole"
    with submitted(head, "whole", *flags(ALONE, data, output)) as process:
        next(line for line in process.stdout if line.startswith("epoch: 1 train_loss: "))
        early = not (output / "model").exists()
        rest = process.stdout.read()
    assert process.returncode == 0, rest
    assert early
    assert len(read_metrics(output / "metrics.jsonl")) == ALONE.epochs
    assert Artifact.load(output / "model").training["train_rows"] == ROWS
    assert head.jobs().get_job_info("whole").driver_exit_code == 0
    runs = head.get("/api/train/v2/runs/v1")["train_runs"]
    assert [run["status"] for run in runs if run["name"] == "whole"] == ["FINISHED"]


def test_a_mistake_in_a_job_is_one_line_in_its_log(head, tmp_path):
    output = tmp_path / "run"
    with submitted(head, "mistake", *flags(ALONE, tmp_path / "nowhere", output)) as process:
        shown = process.stdout.read()
    assert process.returncode == 1
    assert "lstmfcn: " in shown
    log = head.jobs().get_job_logs("mistake").splitlines()
    assert log[-1].startswith(f"lstmfcn: {tmp_path}/nowhere: found ")
    assert sum("lstmfcn: " in line for line in log) == 1
    assert not any("Traceback" in line for line in log)
    assert head.jobs().get_job_info("mistake").driver_exit_code == 2
    assert not output.exists()


def test_without_the_token_no_job_is_taken(head, tmp_path, data):
    given = flags(ALONE, data, tmp_path / "run")
    with submitted(head, "stranger", *given, environment=head.without_token) as process:
        shown = process.stdout.read()
    assert process.returncode == 1
    assert "Authentication required" in shown
    assert "stranger" not in [job.submission_id for job in head.jobs().list_jobs()]


def read_numbers(run):
    """The metrics of a run, each as it is now; None until all of them are there."""
    names = ("running", "epoch", "train_loss", "rows_per_second", "checkpoint_time_seconds")
    values = scraped()
    found = {name: values.get((name, run, "0")) for name in names}
    return None if None in found.values() else found


def test_a_job_is_seen_in_the_metrics_and_goes_on_after_it_is_stopped(head, tmp_path, data):
    """Here without a cluster, to the same weights as if it had never been stopped."""
    output, start = tmp_path / "stopped", time.time()
    given = [*flags(ENDLESS, data, output), "--checkpoint-every-s", "0.5"]
    with submitted(head, "stopped", *given) as process:
        now = wait_until(lambda: read_numbers("stopped"), "metrics", PATIENCE_S, 2)
        wait_until(lambda: epochs_in(output) >= 2, "epoch 2", PATIENCE_S)
        head.jobs().stop_job("stopped")  # as `ray job stop` does
        process.communicate()
    assert now["running"] == 1
    assert now["epoch"] >= 1
    assert now["train_loss"] > 0
    assert now["rows_per_second"] > 1
    assert start < now["checkpoint_time_seconds"] < time.time()
    wait_until(lambda: not train_workers(str(head.folder)), "the end of the worker", PATIENCE_S)
    position = find_newest(output / "checkpoints").position
    log = head.jobs().get_job_logs("stopped").splitlines()
    told = [line for line in log if line.startswith("lstmfcn: ")]
    if told:  # else it took more than the 3 seconds that Ray grants, as on a busy machine
        (line,) = told
        assert line == log[-1]
        assert line.startswith(f"lstmfcn: stopped after {position}; resume with: ")
        assert line.endswith(" --resume")
    assert position.epoch >= 2

    longer = ALONE.model_copy(update={"epochs": position.epoch + 2})
    with no_cluster():
        resumed = run_job("train", *flags(longer, data, output), "--resume")
        whole = run_job("train", *flags(longer, data, tmp_path / "whole"))
    assert resumed.returncode == whole.returncode == 0, resumed.stderr
    assert f"resuming after {position} of {longer.epochs} epochs" in resumed.stderr
    history = read_metrics(output / "metrics.jsonl")
    assert [epoch["epoch"] for epoch in history] == list(range(1, longer.epochs + 1))
    expected = Artifact.load(tmp_path / "whole" / "model").weights
    found = Artifact.load(output / "model").weights
    assert all(tensor.equal(found[name]) for name, tensor in expected.items())
