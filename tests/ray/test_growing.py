"""A cluster that starts machines when they are needed, by Ray's own autoscaler."""

import subprocess
import sys

import pytest
import ray
import yaml

from lstmfcn.model.artifact import Artifact
from tests.helpers.checkout import REPOSITORY
from tests.helpers.heads import Head, free_ports
from tests.helpers.problems import TINY, as_flags, waves, write

HEAD = "ray.head.default"
GROWS = {
    "cluster_name": "growing",
    "provider": {"type": "fake_multinode"},  # its machines are further raylets on this one
    "head_node_type": HEAD,
    "max_workers": 1,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "available_node_types": {
        HEAD: {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 0},
        "large": {"resources": {"CPU": 4}, "node_config": {}, "min_workers": 0, "max_workers": 1},
    },
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    "cluster_synced_files": [],
    "rsync_exclude": [],
    "rsync_filter": [],
} | {
    f"{name}_commands": []
    for name in (
        "initialization",
        "setup",
        "head_setup",
        "worker_setup",
        "head_start_ray",
        "worker_start_ray",
    )
}


@pytest.fixture
def head(tmp_path):
    """What `ray up` starts: a head of one CPU with the autoscaler, and a name for its kind."""
    (port,) = free_ports(1)
    address = f"{ray.util.get_node_ip_address()}:{port}"
    config = tmp_path / "cluster.yaml"
    provider = GROWS["provider"] | {"gcs_address": address}
    config.write_text(yaml.safe_dump(GROWS | {"provider": provider}))
    environment = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_NODE_TYPE_NAME": HEAD,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "0",
    }
    head = Head(tmp_path, ("--port", port, "--autoscaling-config", config), environment)
    head.address = address
    yield head
    head.stop()


def test_a_training_waits_for_the_machine_that_its_workers_need(head, tmp_path):
    data = write(tmp_path / "data", waves(48), 1)
    given = {"train": data, "output": tmp_path / "run", "num_workers": 2, "cpus_per_worker": 2}
    flags = as_flags(TINY.model_dump() | given)
    done = subprocess.run(
        [sys.executable, REPOSITORY / "jobs" / "train.py", *flags],
        env=head.environment | {"RAY_ADDRESS": head.address},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "no room for 2 workers of 2 CPUs: the cluster's machines have 1 CPU and 0 GPUs; lower "
        "--num-workers or --cpus-per-worker; waiting for the cluster to start machines"
    ) in done.stderr
    assert Artifact.load(tmp_path / "run" / "model").training["num_workers"] == 2
