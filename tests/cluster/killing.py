"""Find the processes of a training, and end exactly those."""

import os
import signal
import time
from pathlib import Path

from lstmfcn.metrics_file import read_metrics


def wait_until(condition, what, timeout_s=90, every_s=0.02):
    """Wait for a condition and return what it gives."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(every_s)
    return found


def epochs_in(output):
    """Epochs that metrics.jsonl speaks of."""
    path = Path(output) / "metrics.jsonl"
    return len(read_metrics(path)) if path.exists() else 0


def train_workers(session="", name="ray::RayTrainWorker"):
    """Process ids of the Train workers, or others, of the Ray whose temporary folder is named."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
            log = str((process / "fd" / "1").readlink())
        except OSError:
            continue
        if command.startswith(name.encode()) and session in log:
            found.append(int(process.name))
    return found


def kill_train_worker(session="", name="ray::RayTrainWorker"):
    """SIGKILL one Train worker, or another process; returns its id."""
    (pid, *_) = wait_until(lambda: train_workers(session, name), "a training worker")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in train_workers(session, name), "the end of the worker")
    return pid
