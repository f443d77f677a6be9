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


def train_workers(session=""):
    """Process ids of the Train workers of the Ray whose temporary folder is named."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            name = (process / "cmdline").read_bytes()
            log = str((process / "fd" / "1").readlink())
        except OSError:
            continue
        if name.startswith(b"ray::RayTrainWorker") and session in log:
            found.append(int(process.name))
    return found


def kill_train_worker(session=""):
    """SIGKILL one Train worker; returns its process id."""
    (pid, *_) = wait_until(lambda: train_workers(session), "a training worker")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in train_workers(session), "the end of the worker")
    return pid
