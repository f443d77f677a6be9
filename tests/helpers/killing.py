"""Find the processes of a training, and end exactly those."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import ray

from lstmfcn.training.metrics_log import read_metrics


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


def session():
    """The folder of the Ray that this process is connected to, which is in its processes' logs."""
    return ray._private.worker._global_node.get_session_dir_path()


def train_workers(session_folder=None, name="ray::RayTrainWorker"):
    """Process ids of the Train workers, or others, of one Ray: the one in use, or another's."""
    folder = session() if session_folder is None else session_folder
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
            log = str((process / "fd" / "1").readlink())
        except OSError:
            continue
        if command.startswith(name.encode()) and folder in log:
            found.append(int(process.name))
    return found


def kill_train_worker(name="ray::RayTrainWorker"):
    """SIGKILL one Train worker, or another process; returns its id."""
    (pid, *_) = wait_until(lambda: train_workers(name=name), "a training worker")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in train_workers(name=name), "the end of the worker")
    return pid


@contextmanager
def interrupted_at(path, lines, free_cpus=None):
    """Ctrl-C once a file has so many lines; afterwards the CPUs, or so many, are free again."""

    def interrupt():
        try:
            wait_until(lambda: path.exists() and path.read_text().count("\n") >= lines, "a line")
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    ready = free_cpus or ray.cluster_resources()["CPU"]
    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background run ignores it
    try:
        thread.start()
        yield
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    wait_until(lambda: ray.available_resources().get("CPU") == ready, "free CPUs", 60)
